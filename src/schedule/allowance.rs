//! What a limit really is, learned from refusals.
//!
//! The documented limit is where it begins. A refusal says that what was in use then is all there
//! is, so the allowance falls just below that; after a while without one it climbs back, in steps
//! that double while they are borne. A climb that is refused makes the next wait twice as long, so
//! that an account whose limit is lower for good is asked about it ever more rarely, and one that
//! shares its limit for an hour has it back minutes later.

use std::time::Duration;

use crate::job::Stamp;

/// How fast an allowance falls and climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// Left free of what was in use at a refusal, in thousandths.
    pub(super) margin: u32,
    /// What is kept at a refusal below what an earlier one had left, in thousandths: the limit has
    /// fallen, and what was in use says little about how far.
    pub(super) again: u32,
    /// The least that is always allowed, in thousandths of the documented limit.
    pub(super) floor: u32,
    /// From a refusal, or a climb that was borne, to the next climb.
    pub(super) patience: Duration,
}

/// Longest wait between two climbs: an hour sees four refusals at most.
const LONGEST_PATIENCE: Duration = Duration::from_mins(16);

/// The first step of a climb, in thousandths of the documented limit.
const FIRST_STEP: u32 = 20;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    manner: Manner,
    documented: u32,
    allowed: u32,
    /// The next step up.
    step: u32,
    patience: Duration,
    climb_at: Stamp,
    /// From where it climbed, if the last change was a climb and has not been borne yet.
    climbed_from: Option<u32>,
    /// Whether somebody wanted more than was allowed since the last change.
    wanted: bool,
}

impl Allowance {
    pub(super) fn new(documented: u32, manner: Manner) -> Self {
        Self {
            manner,
            documented,
            allowed: documented,
            step: thousandths(documented, FIRST_STEP).max(1),
            patience: manner.patience,
            climb_at: Stamp::BIRTH,
            climbed_from: None,
            wanted: false,
        }
    }

    /// How much may be in use.
    pub(super) const fn allowed(&self) -> u32 {
        self.allowed
    }

    /// Whether it is less than documented.
    pub(super) const fn is_lowered(&self) -> bool {
        self.allowed < self.documented
    }

    /// Somebody would have used more.
    pub(super) const fn want_more(&mut self) {
        self.wanted = true;
    }

    /// A request was refused when `in_use` was in use.
    pub(super) fn refused(&mut self, in_use: u32, now: Stamp) {
        let most = match self.climbed_from {
            Some(before) => before,
            None if self.is_lowered() => thousandths(self.allowed, self.manner.again),
            None => self.allowed,
        };
        let left_free = thousandths(in_use, self.manner.margin);
        let least = thousandths(self.documented, self.manner.floor).max(1);
        self.allowed = in_use.saturating_sub(left_free).min(most).max(least).min(self.documented);
        let climbed = self.climbed_from.take().is_some();
        self.patience =
            if climbed { (self.patience * 2).min(LONGEST_PATIENCE) } else { self.manner.patience };
        self.step = thousandths(self.documented, FIRST_STEP).max(1);
        self.climb_at = now + self.patience;
        self.wanted = false;
    }

    /// Climbs if it is time; answers whether it did. A climb that nobody would use waits.
    pub(super) fn climb(&mut self, now: Stamp) -> bool {
        if !self.is_lowered() || !self.wanted || now < self.climb_at {
            return false;
        }
        if self.climbed_from.is_some() {
            // The climb before was used in full and borne.
            self.step = self.step.saturating_mul(2);
            self.patience = self.manner.patience;
        }
        self.climbed_from = Some(self.allowed);
        self.allowed = self.allowed.saturating_add(self.step).min(self.documented);
        self.climb_at = now + self.manner.patience;
        self.wanted = false;
        true
    }
}

fn thousandths(of: u32, share: u32) -> u32 {
    u32::try_from(u64::from(of) * u64::from(share) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANNER: Manner = Manner { margin: 20, again: 800, floor: 100, patience: Duration::from_secs(60) };

    /// Refusals and mean allowance over an hour in which `truth` is really allowed at each second and
    /// everything allowed is used.
    fn hour(truth: impl Fn(u64) -> u32) -> (u32, u64) {
        let mut allowance = Allowance::new(1_000, MANNER);
        let (mut refusals, mut sum) = (0, 0);
        for second in 0..3_600 {
            let now = Stamp::from_millis(second * 1_000);
            allowance.want_more();
            allowance.climb(now);
            if allowance.allowed() > truth(second) {
                refusals += 1;
                allowance.refused(truth(second), now);
            }
            sum += u64::from(allowance.allowed());
        }
        (refusals, sum / 3_600)
    }

    #[test]
    fn half_of_it_is_found_at_once_and_asked_about_rarely() {
        let (refusals, mean) = hour(|_| 500);
        assert!(refusals <= 9, "{refusals}");
        assert!((485..=500).contains(&mean), "{mean}");
    }

    #[test]
    fn what_was_shared_for_ten_minutes_is_whole_again_soon() {
        let (refusals, mean) = hour(|second| if (600..1_200).contains(&second) { 300 } else { 1_000 });
        assert!(refusals <= 6, "{refusals}");
        // All but the ten minutes themselves and some that it takes to climb.
        assert!(mean >= 750, "{mean}");
    }

    #[test]
    fn there_is_a_floor_and_the_documented_limit_is_the_ceiling() {
        let mut allowance = Allowance::new(1_000, MANNER);
        for second in 0..50 {
            allowance.refused(0, Stamp::from_millis(second * 1_000));
        }
        assert_eq!(allowance.allowed(), 100);
        for minute in 2..60 {
            allowance.want_more();
            allowance.climb(Stamp::from_millis(minute * 60_000));
        }
        assert_eq!(allowance.allowed(), 1_000);
        assert!(!allowance.is_lowered());
    }

    #[test]
    fn a_limit_that_falls_while_all_of_it_is_used_is_found_in_a_few_steps() {
        let mut allowance = Allowance::new(1_000, MANNER);
        let truth = 300;
        let mut refusals = 0;
        while allowance.allowed() > truth {
            refusals += 1;
            // What went out in the last minute tells of the old limit.
            allowance.refused(allowance.allowed(), Stamp::BIRTH);
        }
        assert!((4..=7).contains(&refusals), "{refusals}");
    }

    #[test]
    fn nobody_climbs_for_nothing() {
        let mut allowance = Allowance::new(1_000, MANNER);
        allowance.refused(500, Stamp::BIRTH);
        assert!(!allowance.climb(Stamp::from_millis(600_000)));
        allowance.want_more();
        assert!(!allowance.climb(Stamp::from_millis(59_999)));
        assert!(allowance.climb(Stamp::from_millis(60_000)));
        assert_eq!(allowance.allowed(), 510);
    }
}
