//! What a failure leads to: wait, pay again, or end.
//!
//! The only file that names backoff. Its policies read the clock and a global random source, so
//! only its trait is used: [`FullJitter`] draws from a seed, and the same run waits the same.

use std::time::Duration;

use backoff::backoff::Backoff;

use crate::api::Verdict;

/// First ceiling of a wait for everyone.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Last ceiling of a wait for everyone.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Ceiling of the wait before the first paid retry of a sample; a busy model needs time.
const FIRST_PAID_WAIT: Duration = Duration::from_secs(20);

/// Exponential backoff with full jitter: the n-th wait is drawn evenly between zero and the n-th
/// ceiling, which doubles up to a last one. Full jitter spreads those who wait best.
#[derive(Debug, Clone)]
pub struct FullJitter {
    seed: u64,
    first: Duration,
    last: Duration,
    drawn: u32,
}

impl FullJitter {
    /// Waits for everyone: up to 1 s, 2 s, 4 s … 60 s.
    #[must_use]
    pub const fn for_everyone(seed: u64) -> Self {
        Self { seed, first: FIRST_WAIT, last: LONGEST_WAIT, drawn: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.next_backoff().unwrap_or(self.last)
    }

    /// Starts over with the shortest wait, and other draws than before.
    pub fn recover(&mut self) {
        if self.drawn > 0 {
            self.seed = mix(self.seed);
            self.reset();
        }
    }
}

impl Backoff for FullJitter {
    fn reset(&mut self) {
        self.drawn = 0;
    }

    /// Always a wait: this policy never gives up.
    fn next_backoff(&mut self) -> Option<Duration> {
        let ceiling =
            self.first.saturating_mul(1_u32.checked_shl(self.drawn).unwrap_or(u32::MAX)).min(self.last);
        self.drawn = self.drawn.saturating_add(1);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let draw = mix(self.seed ^ u64::from(self.drawn));
        Some(Duration::from_nanos(draw % nanos.saturating_add(1)))
    }
}

/// The finaliser of the `SplitMix64` generator: every bit of the seed reaches every bit of the draw.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What becomes of a sample whose task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// It ends.
    End,
    /// A new, paid attempt after this wait.
    PayAgainAfter(Duration),
    /// It goes back unsubmitted: the account has no money.
    AwaitMoney,
}

/// How often the same sample may be paid for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// New attempts after transient task failures, per sample (`--paid-retries`).
    pub paid_retries: u32,
    /// Makes the waits of one run differ from another's.
    pub seed: u64,
}

impl RetryPolicy {
    /// What a failed task leads to, for a sample that was paid for again `paid_retries` times so far.
    #[must_use]
    pub fn after_task_failure(&self, verdict: Verdict, paid_retries: u32, sample: u64) -> AfterFailure {
        match verdict {
            Verdict::NoMoney => AfterFailure::AwaitMoney,
            Verdict::MayRetry if paid_retries < self.paid_retries => {
                let seed = mix(self.seed ^ mix(sample)) ^ u64::from(paid_retries);
                let mut waits =
                    FullJitter { seed, first: FIRST_PAID_WAIT, last: LONGEST_WAIT, drawn: paid_retries };
                AfterFailure::PayAgainAfter(waits.next_wait())
            }
            Verdict::MayRetry | Verdict::Final => AfterFailure::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last_and_are_repeatable() {
        let mut waits = FullJitter::for_everyone(7);
        let drawn: Vec<_> = (0..40).map(|_| waits.next_wait()).collect();
        for (n, wait) in drawn.iter().enumerate() {
            let ceiling = Duration::from_secs(1 << n.min(6)).min(LONGEST_WAIT);
            assert!(*wait <= ceiling, "{n}: {wait:?}");
        }
        assert!(drawn.iter().any(|wait| *wait > Duration::from_secs(30)));
        let distinct: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(distinct.len(), drawn.len(), "no wait repeats, however many there are");
        let mut again = FullJitter::for_everyone(7);
        assert_eq!(drawn, (0..40).map(|_| again.next_wait()).collect::<Vec<_>>());
        again.recover();
        assert!(again.next_wait() <= FIRST_WAIT);
    }

    #[test]
    fn a_sample_is_paid_for_again_only_as_often_as_allowed() {
        let policy = RetryPolicy { paid_retries: 1, seed: 0 };
        assert!(matches!(policy.after_task_failure(Verdict::MayRetry, 0, 1), AfterFailure::PayAgainAfter(_)));
        assert_eq!(policy.after_task_failure(Verdict::MayRetry, 1, 1), AfterFailure::End);
        assert_eq!(policy.after_task_failure(Verdict::Final, 0, 1), AfterFailure::End);
        assert_eq!(policy.after_task_failure(Verdict::NoMoney, 9, 1), AfterFailure::AwaitMoney);
        let never = RetryPolicy { paid_retries: 0, seed: 0 };
        assert_eq!(never.after_task_failure(Verdict::MayRetry, 0, 1), AfterFailure::End);
    }
}
