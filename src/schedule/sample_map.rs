//! Maps by sample, which every step of the core goes through.
//!
//! The usual hasher withstands keys that somebody chose to collide. Samples are numbered by our own
//! state file, one after the other, so that a multiplication spreads them and costs a tenth of it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::job::SampleId;

/// Something for each of some samples.
pub(super) type SampleMap<T> = HashMap<SampleId, T, BuildHasherDefault<NumberHasher>>;

/// Some samples.
pub(super) type SampleSet = HashSet<SampleId, BuildHasherDefault<NumberHasher>>;

/// Hashes one number.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl NumberHasher {
    const fn mix(&mut self, number: u64) {
        // 2^64 by the golden ratio. The map takes its place from the low bits and its tag from the
        // high ones, so that both must differ where the number does.
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_i64(&mut self, number: i64) {
        self.mix(number.cast_unsigned());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    /// Of 4,096 numbers thrown at random into as many places, some 2,590 places hold one and none
    /// more than about ten.
    #[test]
    fn numbers_in_any_step_are_spread_over_places_and_tags() {
        let hasher = BuildHasherDefault::<NumberHasher>::default();
        for step in [1, 2, 3, 64, 1_000, 4_096, 65_536, 1 << 32] {
            let spread = (0..4_096).map(|n| hasher.hash_one(SampleId(n * step)));
            let mut places = vec![0; 4_096];
            let mut marks = vec![0; 128];
            for hash in spread {
                places[usize::try_from(hash % 4_096).unwrap()] += 1;
                marks[usize::try_from(hash >> 57).unwrap()] += 1;
            }
            let most = (places.into_iter().max().unwrap(), marks.into_iter().max().unwrap());
            assert!(most.0 <= 12 && most.1 <= 64, "{most:?} in steps of {step}");
        }
    }
}
