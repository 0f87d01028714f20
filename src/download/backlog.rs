//! The samples whose videos are still to come: those of the state file, a page at a time, and those that
//! failed for a reason that may pass.

use std::collections::VecDeque;
use std::time::Duration;

use super::sample::Round;
use crate::job::{SampleId, Stamp};
use crate::store::{Files, StoreError, ToSave};

/// Samples read from the state file at once.
const PAGE: usize = 64;

/// How long what failed rests while others are made.
const REST: Duration = Duration::from_mins(10);

/// How long it rests each time when nothing else is left to wait for.
const RESTS_AT_END: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(30), Duration::from_secs(90)];

/// How many may rest: what fails beyond that is for the next process.
const RESTING_AT_MOST: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    page: VecDeque<ToSave>,
    /// Whether the state file had none when it was asked last.
    pub(super) dry: bool,
    /// Samples under way, saved or given up.
    pub(super) handed_out: u64,
    resting: VecDeque<Resting>,
}

/// A sample that failed, in the order in which they did.
#[derive(Debug)]
struct Resting {
    sample: SampleId,
    since: Stamp,
    /// Rests so far at the end.
    at_end: usize,
}

/// A sample whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) to_save: ToSave,
    pub(super) round: Round,
    at_end: usize,
}

impl Turn {
    /// What it takes to have another.
    pub(super) fn again(&self) -> Again {
        Again { sample: self.to_save.sample, at_end: self.at_end }
    }
}

/// A sample that may have another turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    sample: SampleId,
    at_end: usize,
}

impl Backlog {
    /// The next sample, if it is somebody's turn. No more samples are made if `over`.
    pub(super) fn next(
        &mut self,
        files: &mut Files,
        now: Stamp,
        over: bool,
    ) -> Result<Option<Turn>, StoreError> {
        while let Some((sample, at_end)) = self.rested(now, over) {
            if let Some(to_save) = files.again(sample)? {
                self.handed_out += 1;
                let last = at_end == RESTS_AT_END.len();
                let round = if last { Round::Last } else { Round::Another };
                return Ok(Some(Turn { to_save, round, at_end }));
            }
        }
        self.look(files)?;
        let Some(to_save) = self.page.pop_front() else { return Ok(None) };
        self.handed_out += 1;
        let round = if self.resting.len() < RESTING_AT_MOST { Round::First } else { Round::Last };
        Ok(Some(Turn { to_save, round, at_end: 0 }))
    }

    fn look(&mut self, files: &mut Files) -> Result<(), StoreError> {
        if self.page.is_empty() && !self.dry {
            self.page = files.next(PAGE)?.into();
            self.dry = self.page.is_empty();
        }
        Ok(())
    }

    /// Who has rested long enough: not so long when nothing else is left to do.
    fn rested(&mut self, now: Stamp, over: bool) -> Option<(SampleId, usize)> {
        let first = self.resting.front()?;
        let at_end = over && self.page.is_empty() && self.dry;
        let rest = if at_end { *RESTS_AT_END.get(first.at_end)? } else { REST };
        if now.since(first.since) < rest {
            return None;
        }
        let rested = self.resting.pop_front()?;
        Some((rested.sample, rested.at_end + usize::from(at_end)))
    }

    /// Puts a sample back that failed.
    pub(super) fn rest(&mut self, again: Again, now: Stamp) {
        let Again { sample, at_end } = again;
        self.handed_out = self.handed_out.saturating_sub(1);
        self.resting.push_back(Resting { sample, since: now, at_end });
    }

    /// Whether nothing is left but what may yet be made.
    pub(super) fn is_empty(&self) -> bool {
        self.page.is_empty() && self.dry && self.resting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Stamp {
        Stamp::BIRTH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_failed_rests_long_while_others_are_made_and_a_few_times_at_the_end() {
        let mut backlog = Backlog { dry: true, handed_out: 2, ..Backlog::default() };
        let again = |sample, at_end| Again { sample: SampleId(sample), at_end };
        backlog.rest(again(1, 0), seconds(0));
        backlog.rest(again(2, 0), seconds(5));
        assert_eq!((backlog.handed_out, backlog.is_empty()), (0, false));
        assert_eq!(backlog.rested(seconds(599), false), None);
        assert_eq!(backlog.rested(seconds(600), false), Some((SampleId(1), 0)));
        assert_eq!(backlog.rested(seconds(600), false), None);
        // From now on nothing else is left.
        assert_eq!(backlog.rested(seconds(14), true), None);
        assert_eq!(backlog.rested(seconds(15), true), Some((SampleId(2), 1)));
        for (at_end, rest) in [(1, 30), (2, 90)] {
            backlog.rest(again(2, at_end), seconds(1_000));
            assert_eq!(backlog.rested(seconds(1_000 + rest - 1), true), None);
            assert_eq!(backlog.rested(seconds(1_000 + rest), true), Some((SampleId(2), at_end + 1)));
        }
        assert!(backlog.is_empty());
    }
}
