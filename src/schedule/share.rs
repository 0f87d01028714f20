//! A part of an account's limits: several runs divide one account (`--share`).
//!
//! The parts of all runs must fit into the whole, which is seen to where they are handed out; here
//! is what a part comes to, and why the windows of 60 seconds hold while parts come and go.
//!
//! # Why a part is a little less than its share
//!
//! A gate of `n` requests a minute has a burst `b(n)` and then one request each `63 s / (n − b(n) +
//! 1)`, see [`super::gate`]. Bursts do not divide evenly: two gates of 5,000 together are faster than
//! one of 10,000, by one request in 63 s. So a part is the fastest gate whose steady pace is no more
//! than its share of the whole's. Then in any 63 s, however often the account changes hands, what is
//! spread out is at most what the whole gate spreads out; and a gate is born empty, so that only
//! bursts saved up before the 63 s come on top. Those of a set of runs that hold the account
//! together may be more than the whole's. Therefore those who come after parts that have ended let
//! the account be quiet for as many requests as their bursts were ([`quiet`]): a third of a second
//! after two halves of the documented limits.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::gate::{burst, spacing};
use crate::job::Limits;

/// A part of an account, in hundredths of a percent: above zero, at most the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(NonZeroU32);

/// A share leaves nothing of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{share} of {limit} {of} is less than one: take a larger --share")]
pub struct NothingLeft {
    share: Share,
    limit: NonZeroU32,
    of: &'static str,
}

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(NonZeroU32::new(10_000).expect("not zero"));

    /// This many hundredths of a percent; `None` for zero and for more than the whole.
    #[must_use]
    pub fn from_hundredths(hundredths: u32) -> Option<Self> {
        NonZeroU32::new(hundredths).map(Self).filter(|share| *share <= Self::WHOLE)
    }

    /// In hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u32 {
        self.0.get()
    }

    /// This part of `limits`.
    ///
    /// # Errors
    ///
    /// It leaves no request or no task.
    pub fn of(self, limits: Limits) -> Result<Limits, NothingLeft> {
        if self == Self::WHOLE {
            return Ok(limits);
        }
        let left = |limit: NonZeroU32, count: u32, of| {
            NonZeroU32::new(count).ok_or(NothingLeft { share: self, limit, of })
        };
        let (rate, tasks) = (limits.requests_per_minute, limits.concurrent_tasks);
        let mut part = self.floor(rate);
        while NonZeroU32::new(part).is_some_and(|part| steady(part) * 10_000 > self.steady_of(rate)) {
            part -= 1;
        }
        Ok(Limits {
            requests_per_minute: left(rate, part, "requests a minute")?,
            concurrent_tasks: left(tasks, self.floor(tasks), "concurrent tasks")?,
        })
    }

    fn floor(self, limit: NonZeroU32) -> u32 {
        let floor = u64::from(limit.get()) * u64::from(self.hundredths()) / 10_000;
        u32::try_from(floor).unwrap_or(u32::MAX)
    }

    /// This share of the steady requests of the whole, times 10,000.
    fn steady_of(self, whole: NonZeroU32) -> u64 {
        steady(whole) * u64::from(self.hundredths())
    }
}

/// Requests that a gate of this pace spreads out over 63 s, beside its burst.
fn steady(per_minute: NonZeroU32) -> u64 {
    u64::from(per_minute.get() - burst(per_minute).get() + 1)
}

/// How long nothing is to be sent at first, nor saved up by a gate, on an account that allows `per_minute` requests, after
/// parts whose bursts were `owed` requests together.
#[must_use]
pub fn quiet(owed: u32, per_minute: NonZeroU32) -> Duration {
    spacing(per_minute) * owed
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, hundredths) = (self.hundredths() / 100, self.hundredths() % 100);
        match hundredths {
            0 => write!(f, "{percent}%"),
            tenths if tenths % 10 == 0 => write!(f, "{percent}.{}%", tenths / 10),
            _ => write!(f, "{percent}.{hundredths:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(rate: u32, tasks: u32) -> Limits {
        let positive = |n| NonZeroU32::new(n).unwrap();
        Limits { requests_per_minute: positive(rate), concurrent_tasks: positive(tasks) }
    }

    fn share(hundredths: u32) -> Share {
        Share::from_hundredths(hundredths).unwrap()
    }

    #[test]
    fn parts_of_the_documented_limits() {
        let whole = Limits::DOCUMENTED;
        for (hundredths, rate, tasks, shown) in [
            (10_000, 10_000, 1_000, "100%"),
            (5_000, 4_998, 500, "50%"),
            (3_333, 3_331, 333, "33.33%"),
            (3_000, 2_998, 300, "30%"),
            (250, 248, 25, "2.5%"),
            (10, 9, 1, "0.1%"),
        ] {
            let part = share(hundredths).of(whole).unwrap();
            assert_eq!(part, limits(rate, tasks), "{hundredths}");
            assert_eq!(share(hundredths).to_string(), shown);
        }
        assert_eq!((Share::from_hundredths(0), Share::from_hundredths(10_001)), (None, None));
    }

    #[test]
    fn a_share_of_which_nothing_is_left_is_an_error() {
        let told = |hundredths, limits| share(hundredths).of(limits).unwrap_err().to_string();
        assert!(told(100, limits(50, 1_000)).starts_with("1% of 50 requests a minute"));
        assert!(told(1, Limits::DOCUMENTED).contains("less than one"));
        assert!(told(5_000, limits(10_000, 1)).starts_with("50% of 1 concurrent tasks"));
    }

    proptest! {
        #[test]
        fn parts_that_fit_into_the_whole_are_no_faster_than_it(
            rate in 1_u32..=20_000,
            cuts in proptest::collection::vec(1_u32..10_000, 0..6),
        ) {
            let mut cuts = cuts;
            cuts.extend([0, 10_000]);
            cuts.sort_unstable();
            cuts.dedup();
            let whole = limits(rate, 1_000);
            let parts = cuts.windows(2).map(|cut| share(cut[1] - cut[0]));
            let parts: Vec<_> = parts.filter_map(|part| part.of(whole).ok()).collect();
            let steady_parts: u64 = parts.iter().map(|part| steady(part.requests_per_minute)).sum();
            prop_assert!(steady_parts <= steady(whole.requests_per_minute));
            prop_assert!(parts.iter().map(|part| part.concurrent_tasks.get()).sum::<u32>() <= 1_000);
        }
    }
}
