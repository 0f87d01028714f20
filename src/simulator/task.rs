//! A task id that carries everything its answers depend on.
//!
//! Asking for a task's state then needs no memory: a million tasks cost nothing, a poll touches no
//! disk, and a killed rehearsal goes on with the ids it had written down. A checksum keyed by the
//! seed tells an altered or a foreign id from one that was given out.

use super::fate::{FailCode, Fate, mix};
use super::request::RequestHash;
use crate::job::UnixMillis;

/// How every simulated task id begins; 74 lower-case hexadecimal digits follow.
const PREFIX: &str = "sim-";
/// Stands for "does not fail" where the place of a fail code is.
const NO_FAILURE: u8 = u8::MAX;
const PAYLOAD: usize = 29;
const LENGTH: usize = PAYLOAD + 8;

/// An accepted submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) created: UnixMillis,
    pub(super) fate: Fate,
    pub(super) request: RequestHash,
    pub(super) nth: u32,
}

impl Task {
    /// When it ends, if it does.
    pub(super) fn ends(&self) -> Option<UnixMillis> {
        let Fate { duration_ms, .. } = self.fate;
        let ends = UnixMillis(self.created.0.saturating_add(i64::from(duration_ms)));
        (duration_ms != Fate::NEVER).then_some(ends)
    }

    /// Whether it has ended well by `now`.
    pub(super) fn has_made(&self, now: UnixMillis) -> bool {
        self.fate.failure.is_none() && self.ends().is_some_and(|ends| now >= ends)
    }

    pub(super) fn encode(&self, seed: u64) -> String {
        let failure = self.fate.failure.map_or(NO_FAILURE, FailCode::place);
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(self.created.0.to_be_bytes());
        bytes.extend(self.fate.duration_ms.to_be_bytes());
        bytes.extend(self.fate.waiting_ms.to_be_bytes());
        bytes.push(failure);
        bytes.extend(self.request.0.to_be_bytes());
        bytes.extend(self.nth.to_be_bytes());
        bytes.extend(checksum(&bytes, seed).to_be_bytes());
        let mut id = String::with_capacity(PREFIX.len() + 2 * LENGTH);
        id.push_str(PREFIX);
        for byte in bytes {
            id.extend(
                [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])),
            );
        }
        id
    }

    /// `None` for any text that [`Task::encode`] has not written with this seed.
    pub(super) fn decode(seed: u64, id: &str) -> Option<Self> {
        let digits = id.strip_prefix(PREFIX)?.as_bytes();
        if digits.len() != 2 * LENGTH {
            return None;
        }
        let mut bytes = [0; LENGTH];
        let mut all = 0;
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
            all |= high | low;
            *byte = high << 4 | low & 15;
        }
        if all >= NO_DIGIT {
            return None;
        }
        let (payload, sum) = bytes.split_first_chunk::<PAYLOAD>()?;
        if sum != checksum(payload, seed).to_be_bytes() {
            return None;
        }
        let (created, rest) = payload.split_first_chunk()?;
        let (duration, rest) = rest.split_first_chunk()?;
        let (waiting, rest) = rest.split_first_chunk()?;
        let ([failure], rest) = rest.split_first_chunk()?;
        let (request, rest) = rest.split_first_chunk()?;
        let (nth, _) = rest.split_first_chunk()?;
        let failure = if *failure == NO_FAILURE { None } else { Some(FailCode::at(*failure)?) };
        Some(Self {
            created: UnixMillis(i64::from_be_bytes(*created)),
            fate: Fate {
                duration_ms: u32::from_be_bytes(*duration),
                waiting_ms: u32::from_be_bytes(*waiting),
                failure,
            },
            request: RequestHash(u64::from_be_bytes(*request)),
            nth: u32::from_be_bytes(*nth),
        })
    }
}

/// What no digit stands for: more than fits into four bits.
const NO_DIGIT: u8 = 16;

/// The values of lower-case hexadecimal digits, by character. Every look at a task reads 74 of them.
static DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

fn checksum(payload: &[u8], seed: u64) -> u64 {
    payload.chunks(8).fold(mix(&[seed]), |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(&[sum, u64::from_be_bytes(word)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::TaskId;
    use proptest::prelude::*;

    fn task() -> impl Strategy<Value = Task> {
        let failure = proptest::option::of(
            (0..FailCode::ALL.len()).prop_map(|place| FailCode::at(u8::try_from(place).unwrap()).unwrap()),
        );
        (any::<i64>(), any::<u32>(), any::<u32>(), failure, any::<u64>(), any::<u32>()).prop_map(
            |(created, duration_ms, waiting_ms, failure, request, nth)| Task {
                created: UnixMillis(created),
                fate: Fate { duration_ms, waiting_ms, failure },
                request: RequestHash(request),
                nth,
            },
        )
    }

    proptest! {
        #[test]
        fn an_id_says_what_was_put_in(task in task(), seed: u64) {
            let id = task.encode(seed);
            prop_assert!(id.len() <= 80);
            prop_assert_eq!(TaskId::new(&id).map(|id| id.to_string()), Some(id.clone()));
            prop_assert_eq!(Task::decode(seed, &id), Some(task));
        }

        #[test]
        fn an_altered_or_foreign_id_is_unknown(
            task in task(), seed: u64, other: u64, place in 0..78usize, byte in 0x20u8..0x7f,
        ) {
            let id = task.encode(seed);
            let mut altered = id.clone().into_bytes();
            altered[place] = byte;
            let altered = String::from_utf8(altered).unwrap();
            prop_assert_eq!(Task::decode(seed, &altered).is_some(), altered == id);
            prop_assert_eq!(Task::decode(other, &id).is_some(), other == seed);
        }

        #[test]
        fn no_text_makes_decoding_panic(text in ".{0,100}", hex in "sim-[0-9a-f]{70,78}") {
            prop_assert_eq!(Task::decode(0, &text), None);
            prop_assert_eq!(Task::decode(0, &hex), None);
        }
    }
}
