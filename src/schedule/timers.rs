//! Deadlines of samples, soonest first.
//!
//! A sample has at most one deadline. Setting a new one gives a new token, and whoever pops a
//! deadline compares its token with the one the sample holds; that is cheaper than finding the old
//! deadline in the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::job::{SampleId, Stamp};

/// Names one setting of a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Token(u64);

/// A min-heap of deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Stamp, Token, SampleId)>>,
    last: Token,
}

impl Timers {
    /// Sets the deadline of `sample`; the earlier one, if any, goes by its token.
    pub(super) fn set(&mut self, sample: SampleId, at: Stamp) -> Token {
        self.last = Token(self.last.0 + 1);
        self.heap.push(Reverse((at, self.last, sample)));
        self.last
    }

    /// The first deadline; of those at one time, the one that was set first.
    pub(super) fn first(&self) -> Option<(Stamp, SampleId, Token)> {
        self.heap.peek().map(|Reverse((at, token, sample))| (*at, *sample, *token))
    }

    /// Takes the first deadline away.
    pub(super) fn pop(&mut self) {
        self.heap.pop();
    }

    /// The first deadline, if it has come; it is gone then.
    pub(super) fn pop_due(&mut self, now: Stamp) -> Option<(SampleId, Token)> {
        let (_, sample, token) = self.first().filter(|(at, ..)| *at <= now)?;
        self.pop();
        Some((sample, token))
    }

    /// When the next deadline comes, abandoned ones included.
    pub(super) fn next(&self) -> Option<Stamp> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
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
}
