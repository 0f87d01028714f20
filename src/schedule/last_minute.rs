//! How many requests went out in the last 60 seconds.
//!
//! Counted to the second, so that a minute costs sixty numbers whatever the pace. A request counts
//! from the second it went out in until that second is wholly more than a minute old: a window as
//! the server sees it never holds more than is counted here.

use crate::job::Stamp;

use super::gate::WINDOW;

/// One bucket a second, and one more for the second that is partly in the window.
#[expect(clippy::cast_possible_truncation, reason = "a minute")]
const BUCKETS: usize = WINDOW.as_secs() as usize + 1;

/// A count of requests that forgets.
#[derive(Debug, Clone)]
pub struct LastMinute {
    buckets: [u32; BUCKETS],
    total: u32,
    /// The second of the newest bucket.
    second: u64,
}

impl Default for LastMinute {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], total: 0, second: 0 }
    }
}

impl LastMinute {
    fn move_to(&mut self, now: Stamp) {
        let second = second_of(now);
        if second <= self.second {
            return;
        }
        for passed in (self.second + 1..=second).rev().take(BUCKETS) {
            self.total -= std::mem::take(&mut self.buckets[bucket(passed)]);
        }
        self.second = second;
    }

    /// A request goes out at `now`, which is never before an earlier one.
    pub fn count(&mut self, now: Stamp) {
        self.move_to(now);
        self.buckets[bucket(self.second)] += 1;
        self.total += 1;
    }

    /// Requests in the 60 seconds before `now`, and in the rest of the second that began them.
    pub fn total(&mut self, now: Stamp) -> u32 {
        self.move_to(now);
        self.total
    }

    /// The requests of [`LastMinute::total`] that had gone out by the end of the second of `at`, which
    /// is not after `now`.
    pub(super) fn total_until(&mut self, at: Stamp, now: Stamp) -> u32 {
        self.move_to(now);
        let later = (second_of(at) + 1..=self.second).rev().take(BUCKETS);
        self.total - later.map(|second| self.buckets[bucket(second)]).sum::<u32>()
    }

    /// When fewer than `most` requests are counted: `now`, if that is so already.
    pub(super) fn below(&mut self, most: u32, now: Stamp) -> Stamp {
        self.move_to(now);
        let mut left = self.total;
        let oldest = self.second.saturating_sub(BUCKETS as u64 - 1);
        for second in oldest..=self.second {
            if left < most {
                return if second == oldest { now } else { begin_of(second + BUCKETS as u64 - 1) };
            }
            left -= self.buckets[bucket(second)];
        }
        begin_of(self.second + BUCKETS as u64)
    }
}

const fn second_of(stamp: Stamp) -> u64 {
    stamp.as_millis() / 1000
}

const fn begin_of(second: u64) -> Stamp {
    Stamp::from_millis(second.saturating_mul(1000))
}

#[expect(clippy::cast_possible_truncation, reason = "below BUCKETS")]
const fn bucket(second: u64) -> usize {
    (second % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(second: u64) -> Stamp {
        Stamp::from_millis(second * 1000)
    }

    fn sent(seconds: &[u64]) -> LastMinute {
        let mut sent = LastMinute::default();
        for at in seconds {
            sent.count(second(*at));
        }
        sent
    }

    #[test]
    fn the_last_minute_forgets() {
        let mut sent = sent(&[5, 5, 30, 64]);
        assert_eq!(sent.total(Stamp::from_millis(65_999)), 4);
        assert_eq!(sent.total(second(66)), 2);
        assert_eq!(sent.total(second(400)), 0);
    }

    #[test]
    fn what_went_out_later_can_be_left_out() {
        let mut sent = sent(&[5, 5, 30, 50, 50]);
        assert_eq!(sent.total_until(second(30), second(51)), 3);
        assert_eq!(sent.total_until(second(51), second(51)), 5);
        assert_eq!(sent.total_until(second(4), second(51)), 0);
    }

    #[test]
    fn there_is_room_when_enough_is_forgotten() {
        let mut sent = sent(&[5, 5, 30, 50]);
        let now = second(51);
        assert_eq!(sent.below(5, now), now);
        for (most, at) in [(4, 66), (3, 66), (2, 91), (1, 111)] {
            let below = sent.below(most, now);
            assert_eq!(below, second(at), "{most}");
            let mut later = sent.clone();
            assert!(later.total(below) < most);
            let mut just_before = sent.clone();
            assert!(just_before.total(Stamp::from_millis(below.as_millis() - 1)) >= most);
        }
    }
}
