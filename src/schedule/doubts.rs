//! Submissions in doubt: nobody knows whether they were accepted.
//!
//! A doubt ends its sample, which is not bought again unasked, and holds its slot for as long as its
//! task could be alive. Only a callback can say what became of it.

use super::cadence::Sight;
use super::{Entry, IllegalEvent, Phase, Schedule, Transition, Watch};
use crate::job::{Attempt, Failure, Outcome, SampleId, Stamp, TaskId};

/// Doubts that are all that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// How many.
    pub doubts: u32,
    /// When the last of their tasks cannot be alive any more.
    pub until: Stamp,
}

impl Schedule {
    /// The doubts that a callback may settle, where nothing else is left to do.
    #[must_use]
    pub fn awaited_doubts(&self) -> Option<Awaited> {
        let (since, _) = self.doubts.last()?;
        let doubts = u32::try_from(self.doubts.len()).unwrap_or(u32::MAX);
        let awaited = self.is_done_but_for_doubts() && self.awaits_doubts();
        awaited.then(|| Awaited { doubts, until: *since + self.doubts_last() })
    }

    /// The submission made at `since` may or may not have been accepted: the sample ends, and its
    /// slot counts until a task of that age could not be alive.
    pub(super) fn doubt(&mut self, id: SampleId, since: Stamp, failure: Failure, now: Stamp) {
        let Some(sample) = self.samples.get_mut(&id) else { return };
        sample.attempts += 1;
        sample.phase = Phase::InDoubt { since };
        let (attempts, cost) = (sample.attempts, sample.price);
        self.spent = self.spent + cost;
        self.doubts.insert((since, id));
        self.change(id, now, Transition::Ended { outcome: Outcome::Unknown(failure), attempts, cost });
        self.count_failure();
    }

    /// The task of a submission in doubt is known after all: it is watched like any other. It was
    /// counted and charged when it became a doubt. One whose slot was given up already holds none; a
    /// sample that is to be bought again is not, and one that has been is left to its second task.
    pub(super) fn task_found(
        &mut self,
        entry: Entry,
        task: TaskId,
        put_back: bool,
        now: Stamp,
    ) -> Result<(), IllegalEvent> {
        let (id, attempt) = (entry.sample, Attempt(entry.attempts));
        let watch = Phase::Running(Watch::new(
            task.clone(),
            Sight::unwatched(entry.kind, now, self.config.called_back),
        ));
        match self.samples.get_mut(&id) {
            None => {
                self.enter(entry, watch, false, "task found")?;
                self.running_without_slot += 1;
            }
            // Bought again since: the callback is of an earlier submission.
            Some(sample) if sample.attempts != attempt.0 => return Ok(()),
            Some(sample) => match sample.phase {
                Phase::InDoubt { .. } => {
                    self.settle_doubt(id, attempt, &task, now);
                    return Ok(());
                }
                Phase::Ready if sample.holds_slot => {
                    sample.phase = watch;
                    self.ready.retain(|ready| *ready != id);
                }
                Phase::Ready | Phase::Submitting { .. } | Phase::Running(_) | Phase::BackingOff => {
                    return Ok(());
                }
            },
        }
        self.found(id, attempt, task, put_back, now);
        Ok(())
    }

    /// The task of a submission in doubt that is still here is known after all.
    pub(super) fn settle_doubt(&mut self, id: SampleId, attempt: Attempt, task: &TaskId, now: Stamp) {
        if let Some(sample) = self.samples.get_mut(&id)
            && let Phase::InDoubt { since } = sample.phase
        {
            sample.phase = Phase::Running(Watch::new(
                task.clone(),
                Sight::unwatched(sample.kind, now, self.config.called_back),
            ));
            self.doubts.remove(&(since, id));
            self.found(id, attempt, task.clone(), false, now);
        }
    }

    fn found(&mut self, id: SampleId, attempt: Attempt, task: TaskId, put_back: bool, now: Stamp) {
        self.came_back.insert(id);
        self.running += 1;
        self.failures = self.failures.saturating_sub(u64::from(!put_back));
        self.change(id, now, Transition::Found { task, attempt, put_back });
        self.schedule_look(id);
    }
}
