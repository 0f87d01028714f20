//! How long tasks live, as far as a doubt needs to know.
//!
//! A submission in doubt holds a slot for as long as its task could be alive. That is twice the age
//! that all but one in a thousand tasks do not reach, once a thousand have ended, and before that
//! the task time-out.

use std::time::Duration;

/// Buckets a doubling, as bits: neighbouring bounds differ by an eighth at most, or by a millisecond, which
/// is all the precision that a bound with a factor of two on it needs.
const STEP_BITS: u32 = 3;
/// From a millisecond to more than a year.
const BUCKETS: usize = 34 << STEP_BITS;
/// Fewer ended tasks say nothing about one in a thousand.
const ENOUGH: u64 = 1_000;
/// Endings between two looks at the whole histogram.
const LOOK_EVERY: u64 = 100;
/// One in so many tasks lives longer than the age that is asked for.
const ONE_IN: u64 = 1_000;

/// A histogram of the ages at which tasks ended, in buckets of about equal ratio.
#[derive(Debug, Clone)]
pub(super) struct Lifetimes {
    counts: Box<[u64]>,
    total: u64,
    /// The last answer, good for some more endings.
    known: Option<Duration>,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), total: 0, known: None }
    }
}

impl Lifetimes {
    /// A task ended at this age.
    pub(super) fn record(&mut self, age: Duration) {
        self.counts[bucket(age)] += 1;
        self.total += 1;
        // An age that is more than half of what is known is news that cannot wait.
        self.known = self.known.map(|known| known.max(age.saturating_mul(2)));
        if self.total >= ENOUGH && self.total.is_multiple_of(LOOK_EVERY) {
            let mut beyond = 0;
            let age = (0..BUCKETS).rev().find(|bucket| {
                beyond += self.counts[*bucket];
                beyond * ONE_IN > self.total
            });
            self.known = age.map(|bucket| upper_bound(bucket).saturating_mul(2));
        }
    }

    /// How long a task of unknown fate could live, at most `longest`.
    pub(super) fn could_last(&self, longest: Duration) -> Duration {
        self.known.map_or(longest, |known| known.min(longest))
    }
}

/// The highest bit of an age in milliseconds, and the three bits after it, name its bucket.
fn bucket(age: Duration) -> usize {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let doublings = (millis >> STEP_BITS).checked_ilog2().map_or(0, |bits| bits + 1);
    let steps = millis >> doublings.saturating_sub(1);
    let bucket = (u64::from(doublings) << STEP_BITS) + (steps & ((1 << STEP_BITS) - 1));
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The least age beyond the bucket.
const fn upper_bound(bucket: usize) -> Duration {
    let next = bucket as u64 + 1;
    let (doublings, step) = (next >> STEP_BITS, next & ((1 << STEP_BITS) - 1));
    let millis = if doublings == 0 { step } else { ((1 << STEP_BITS) + step) << (doublings - 1) };
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_mins(30);

    fn lifetimes(ages: impl Iterator<Item = u64>) -> Lifetimes {
        let mut lifetimes = Lifetimes::default();
        ages.for_each(|seconds| lifetimes.record(Duration::from_secs(seconds)));
        lifetimes
    }

    #[test]
    fn a_bucket_holds_the_ages_below_its_bound() {
        assert_eq!(bucket(Duration::ZERO), 0);
        for millis in (1..20_000).chain([1 << 20, 86_400_000, 31_536_000_000]) {
            let bucket = bucket(Duration::from_millis(millis));
            let bounds = upper_bound(bucket - 1)..upper_bound(bucket);
            assert!(bounds.contains(&Duration::from_millis(millis)), "{millis} ms in {bounds:?}");
            assert!(
                bounds.end.saturating_sub(bounds.start) <= (bounds.start / 8).max(Duration::from_millis(1))
            );
        }
    }

    #[test]
    fn little_knowledge_is_none() {
        assert_eq!(lifetimes(std::iter::repeat_n(120, 999)).could_last(LONGEST), LONGEST);
    }

    #[test]
    fn twice_the_age_that_one_in_a_thousand_passes() {
        let learned = lifetimes((0..10_000).map(|n| if n % 1_000 == 0 { 900 } else { 120 + n % 60 }));
        let lasts = learned.could_last(LONGEST).as_secs();
        assert!((2 * 179..2 * 179 * 12 / 11).contains(&lasts), "{lasts}");
    }

    #[test]
    fn no_longer_than_the_time_out() {
        assert_eq!(lifetimes(std::iter::repeat_n(1_500, 2_000)).could_last(LONGEST), LONGEST);
        assert_eq!(lifetimes(std::iter::repeat_n(u64::MAX / 1_000_000, 2_000)).could_last(LONGEST), LONGEST);
        assert!(lifetimes(std::iter::repeat_n(0, 2_000)).could_last(LONGEST) < Duration::from_millis(5));
    }
}
