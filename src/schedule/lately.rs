//! How often something happened lately: in the last ten to twenty minutes.

use crate::job::Stamp;

use super::LOST_AFTER;

/// Two counts that take turns, each for as long as a task may be unknown before it is lost.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately {
    before: usize,
    since: usize,
    began: Stamp,
}

impl Lately {
    /// It happened once more.
    pub(super) fn count(&mut self, now: Stamp) {
        self.move_to(now);
        self.since += 1;
    }

    /// How often it happened.
    pub(super) fn total(&mut self, now: Stamp) -> usize {
        self.move_to(now);
        self.before + self.since
    }

    fn move_to(&mut self, now: Stamp) {
        let passed = now.since(self.began);
        if passed >= LOST_AFTER {
            let both_passed = passed >= LOST_AFTER * 2;
            self.before = if both_passed { 0 } else { self.since };
            self.since = 0;
            self.began = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_for_ten_minutes_and_forgets_after_twenty() {
        let minute = |minutes: u64| Stamp::from_millis(minutes * 60_000);
        let mut lately = Lately::default();
        lately.count(minute(1));
        lately.count(minute(9));
        assert_eq!(lately.total(minute(19)), 2);
        lately.count(minute(20));
        assert_eq!(lately.total(minute(29)), 1);
        assert_eq!(lately.total(minute(60)), 0);
    }
}
