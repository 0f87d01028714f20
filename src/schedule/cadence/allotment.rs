//! The part of what the gate has left that looks may use (`--poll-share`).

use std::time::Duration;

use crate::job::Stamp;
use crate::schedule::share::Share;

/// Requests that may be saved up.
const SAVED: f64 = 50.0;

/// How many looks may be made now, where they may not use all that is left. With the whole share
/// there is nothing to count: the gate does.
#[derive(Debug, Clone)]
pub(super) struct Allotment {
    share: f64,
    left: f64,
    at: Stamp,
}

impl Allotment {
    pub(super) fn new(share: Share, now: Stamp) -> Option<Self> {
        (share != Share::WHOLE).then(|| Self {
            share: f64::from(share.hundredths()) / 1e4,
            left: 0.0,
            at: now,
        })
    }

    /// A request went out that was no look: it is not among those that are left.
    pub(super) fn others(&mut self) {
        self.left = (self.left - self.share).max(-SAVED);
    }

    /// From when on a look may be made, with the gate letting a request through each `spacing`.
    pub(super) fn ready_at(&mut self, spacing: Duration, now: Stamp) -> Stamp {
        let spacing = spacing.as_secs_f64();
        let passed = now.since(self.at).as_secs_f64() / spacing;
        self.left = (self.left + passed * self.share).min(SAVED * self.share.max(1.0 / SAVED));
        self.at = now;
        if self.left >= 1.0 {
            return now;
        }
        // A nanosecond more, so that it is there then whatever was rounded.
        now + Duration::from_secs_f64((1.0 - self.left) / self.share * spacing) + Duration::from_nanos(1)
    }

    /// A look is made.
    pub(super) fn take(&mut self) {
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_use_their_part_of_what_is_left() {
        let spacing = Duration::from_millis(10);
        for (hundredths, others, wanted) in
            [(5_000, 0, 5_000), (5_000, 4_000, 3_000), (100, 0, 100), (9_900, 9_000, 990)]
        {
            let mut allotment =
                Allotment::new(Share::from_hundredths(hundredths).unwrap(), Stamp::BIRTH).unwrap();
            let (mut now, mut looks, mut sent) = (Stamp::BIRTH, 0, 0);
            // A hundred seconds hold ten thousand requests, of which so many are for others.
            while now < Stamp::from_millis(100_000) {
                now = now + spacing;
                sent += others;
                while sent >= 10_000 {
                    sent -= 10_000;
                    allotment.others();
                }
                if allotment.ready_at(spacing, now) <= now {
                    allotment.take();
                    looks += 1;
                }
            }
            assert!((wanted - 60..=wanted + 60).contains(&looks), "{looks} of {wanted}");
        }
        assert!(Allotment::new(Share::WHOLE, Stamp::BIRTH).is_none());
    }

    #[test]
    fn the_moment_it_names_is_one() {
        let mut allotment = Allotment::new(Share::from_hundredths(123).unwrap(), Stamp::BIRTH).unwrap();
        for _ in 0..100 {
            let at = allotment.ready_at(Duration::from_micros(6_331), allotment.at);
            assert_eq!(allotment.ready_at(Duration::from_micros(6_331), at), at);
            allotment.take();
        }
    }
}
