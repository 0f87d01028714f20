//! Deadlines of samples, soonest first.
//!
//! A sample has at most one deadline. Setting a new one gives a new token, and whoever pops a
//! deadline compares its token with the one the sample holds; that is cheaper than finding the old
//! deadline among all others.
//!
//! Only what is near is kept in order. A full account has a thousand deadlines, and a heap of so many
//! is ten steps deep; those of a few hundredths of a second are a handful, which are sorted at once.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::job::{SampleId, Stamp};

/// Deadlines within so many nanoseconds, a power of two, share a bucket: 67 ms.
const BUCKET_BITS: u32 = 26;

/// Buckets that have their place in a row, for some four minutes. Few deadlines are later.
const ROW: usize = 4096;

/// Names one setting of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Token(u64);

/// One setting of a deadline. The sooner is the greater, since a heap gives the greatest first.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Stamp,
    token: Token,
    sample: SampleId,
}

impl Deadline {
    /// What deadlines are ordered by, as one number: field by field takes a jump for each, which no
    /// processor foresees.
    fn rank(&self) -> u128 {
        (u128::from(self.at.as_nanos()) << 64) | u128::from(self.token.0)
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Deadline {}

/// Deadlines, of which the first is always known.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The bucket that was opened last, in order: the soonest is at its end.
    near: Vec<Deadline>,
    /// What was set since for a bucket that had been opened. Both are empty only where there are no other
    /// deadlines.
    soon: BinaryHeap<Deadline>,
    /// The first bucket that is not opened.
    opened: u64,
    /// Buckets from there on, in no order within.
    row: VecDeque<Vec<Deadline>>,
    /// What lay beyond the row when it was set, by bucket.
    beyond: BTreeMap<u64, Vec<Deadline>>,
    /// Buckets that are used up, to be filled again.
    spare: Vec<Vec<Deadline>>,
    last: Token,
}

impl Timers {
    /// Sets the deadline of `sample`; the earlier one, if any, goes by its token.
    pub(super) fn set(&mut self, sample: SampleId, at: Stamp) -> Token {
        self.last = Token(self.last.0 + 1);
        let deadline = Deadline { at, token: self.last, sample };
        let bucket = at.as_nanos() >> BUCKET_BITS;
        if bucket < self.opened {
            self.soon.push(deadline);
            return self.last;
        }
        match usize::try_from(bucket - self.opened) {
            Ok(place) if place < ROW => {
                while place >= self.row.len() {
                    self.row.push_back(self.spare.pop().unwrap_or_default());
                }
                self.row[place].push(deadline);
            }
            Ok(_) | Err(_) => self.beyond.entry(bucket).or_default().push(deadline),
        }
        self.keep_open();
        self.last
    }

    /// Opens the next bucket that holds something, once nothing is nearer.
    fn keep_open(&mut self) {
        if self.near.is_empty() && self.soon.is_empty() {
            self.open();
        }
    }

    /// Puts the next bucket that holds something in order.
    fn open(&mut self) {
        while self.near.is_empty() {
            if let Some(bucket) = self.row.pop_front() {
                self.spare.push(std::mem::replace(&mut self.near, bucket));
                if !self.beyond.is_empty() {
                    self.near.extend(self.beyond.remove(&self.opened).into_iter().flatten());
                }
                self.opened += 1;
            } else if let Some((bucket, deadlines)) = self.beyond.pop_first() {
                self.near = deadlines;
                self.opened = bucket + 1;
            } else {
                return;
            }
            // Set in about this order, and to be taken from the other end.
            self.near.reverse();
            self.near.sort_unstable();
        }
    }

    /// The first deadline; of those at one time, the one that was set first.
    pub(super) fn first(&self) -> Option<(Stamp, SampleId, Token)> {
        let first =
            if self.soon.is_empty() { self.near.last() } else { self.near.last().max(self.soon.peek()) };
        first.map(|first| (first.at, first.sample, first.token))
    }

    /// Takes the first deadline away.
    pub(super) fn pop(&mut self) {
        if self.soon.is_empty() || self.near.last() > self.soon.peek() {
            self.near.pop();
        } else {
            self.soon.pop();
        }
        self.keep_open();
    }

    /// The first deadline, if it has come; it is gone then.
    pub(super) fn pop_due(&mut self, now: Stamp) -> Option<(SampleId, Token)> {
        let (_, sample, token) = self.first().filter(|(at, ..)| *at <= now)?;
        self.pop();
        Some((sample, token))
    }

    /// When the next deadline comes, abandoned ones included.
    pub(super) fn next(&self) -> Option<Stamp> {
        self.first().map(|(at, ..)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soonest_first_then_first_set() {
        let mut timers = Timers::default();
        let tokens: Vec<_> = [(1, 30), (2, 10), (3, 10)]
            .map(|(sample, millis)| timers.set(SampleId(sample), Stamp::from_millis(millis)))
            .into();
        assert_eq!(timers.next(), Some(Stamp::from_millis(10)));
        assert_eq!(timers.pop_due(Stamp::from_millis(9)), None);
        assert_eq!(timers.pop_due(Stamp::from_millis(10)), Some((SampleId(2), tokens[1])));
        assert_eq!(timers.pop_due(Stamp::from_millis(40)), Some((SampleId(3), tokens[2])));
        assert_eq!(timers.pop_due(Stamp::from_millis(40)), Some((SampleId(1), tokens[0])));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn near_and_far_come_in_one_order() {
        let mut timers = Timers::default();
        let mut expected = std::collections::BTreeSet::new();
        let (mut draw, mut now, mut popped) = (1_u64, 0, 0);
        for number in 0..20_000 {
            draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ number;
            // Milliseconds to hours ahead.
            let at = now + draw % [3, 500, 90_000, 7_200_000][usize::try_from(draw >> 62).unwrap()];
            let sample = SampleId(number.cast_signed());
            let token = timers.set(sample, Stamp::from_millis(at));
            expected.insert((Stamp::from_millis(at), token, sample));
            // Grows at first, and is used up from time to time.
            while number > 500 && expected.len() > usize::try_from(number % 4_000).unwrap() {
                let (at, token, sample) = expected.pop_first().unwrap();
                assert_eq!(timers.next(), Some(at));
                assert_eq!(timers.pop_due(at), Some((sample, token)));
                (now, popped) = (at.as_millis(), popped + 1);
            }
        }
        assert!(popped > 10_000, "{popped}");
    }
}
