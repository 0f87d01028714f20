//! Windows of 60 seconds while an account changes hands: whole, in parts, whole again.
//!
//! What counts is permits in any 63 s: a window of 60 s, and the 3 s for which requests may be held
//! up on their way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::num::NonZeroU32;
use std::time::Duration;

use batchveo::job::{Limits, Stamp};
use batchveo::schedule::gate::{Admission, Gate, LONGEST_STALL, WINDOW, burst};
use batchveo::schedule::share::{Share, quiet};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// A while in which the same runs hold the account.
#[derive(Debug, Clone)]
struct Spell {
    /// Where the whole is cut, in hundredths of a percent.
    cuts: Vec<u32>,
    /// For how long each of them sends nothing at first, and then all it may, in milliseconds.
    idle: u64,
    greedy: u64,
}

impl Spell {
    fn new(cuts: &[u32], idle: u64, greedy: u64) -> Self {
        Self { cuts: cuts.to_vec(), idle, greedy }
    }

    fn shares(&self) -> Vec<Share> {
        let mut cuts = self.cuts.clone();
        cuts.extend([0, 10_000]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).filter_map(|cut| Share::from_hundredths(cut[1] - cut[0])).collect()
    }
}

fn spell() -> impl Strategy<Value = Spell> {
    let cuts = proptest::collection::vec(1_u32..10_000, 0..6);
    let idle = prop_oneof![Just(0), 0..70_000_u64];
    (cuts, idle, 1..70_000_u64).prop_map(|(cuts, idle, greedy)| Spell { cuts, idle, greedy })
}

/// When permits were given, in order.
fn permits(limit: u32, spells: &[Spell]) -> Vec<Stamp> {
    let whole = Limits {
        requests_per_minute: NonZeroU32::new(limit).unwrap(),
        concurrent_tasks: NonZeroU32::new(10_000).unwrap(),
    };
    let mut start = Stamp::BIRTH;
    let mut given = Vec::new();
    let mut owed = 0;
    for spell in spells {
        let from = start + Duration::from_millis(spell.idle);
        let until = from + Duration::from_millis(spell.greedy);
        let mut bursts = 0;
        for share in spell.shares() {
            let Ok(part) = share.of(whole) else { continue };
            let pace = part.requests_per_minute;
            let mut gate = Gate::new(pace, start + quiet(owed, whole.requests_per_minute));
            if share != Share::WHOLE {
                bursts += burst(pace).get();
            }
            let mut now = from;
            while now < until {
                match gate.admit(now) {
                    Admission::Granted => given.push(now),
                    Admission::NotBefore(at) => now = at,
                }
            }
        }
        owed = bursts;
        start = until;
    }
    given.sort_unstable();
    given
}

fn fullest(given: &[Stamp]) -> usize {
    let mut first = 0;
    let most = given.iter().enumerate().map(|(last, at)| {
        while at.since(given[first]) > WINDOW + LONGEST_STALL {
            first += 1;
        }
        last - first + 1
    });
    most.max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/seeds/share.txt"))),
        ..ProptestConfig::default()
    })]
    #[test]
    fn no_window_holds_more_than_the_limit_while_parts_come_and_go(
        limit in prop_oneof![1_u32..=300, 1_u32..=10_000, 10_000_u32..=20_000],
        spells in proptest::collection::vec(spell(), 1..7),
    ) {
        let fullest = fullest(&permits(limit, &spells));
        prop_assert!(fullest <= limit as usize, "{fullest} of {limit}");
    }
}

#[test]
fn a_whole_that_is_followed_by_two_halves_and_they_by_a_whole() {
    for limit in (2..400).chain((400..=10_000).step_by(397)).chain([10_000, 20_000]) {
        for (late, early) in [(61_000, 3_000), (3_000, 61_000), (31_500, 31_500)] {
            let halves = Spell::new(&[5_000], 0, early);
            for spells in [
                vec![Spell::new(&[], 70_000, late), halves.clone()],
                vec![Spell::new(&[5_000], 70_000, late), Spell::new(&[], 0, early)],
                vec![Spell::new(&[2_500, 5_000, 7_500], 70_000, late), halves],
            ] {
                let fullest = fullest(&permits(limit, &spells));
                assert!(fullest <= limit as usize, "{fullest} of {limit}: {spells:?}");
            }
        }
    }
}
