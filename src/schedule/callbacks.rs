//! What the API tells unasked: that a task has ended.
//!
//! The shell has made sure that it comes from an address which only this attempt has given away. So it
//! is as good as the answer to a look, if it names the attempt's own task and its end. Anything else
//! about it is odd and leads to a look at most: no task ends on the word of an odd callback.
//! A callback may come before the answer to its submission, twice, late, or never.

use super::cadence::Told;
use super::{Entry, Phase, Sample, Schedule, Transition};
use crate::api::Polled;
use crate::job::{Attempt, SampleId, Stamp, TaskId};

/// What came of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heard {
    /// The task has ended.
    Ended,
    /// A submission in doubt is none any more, or one that counted as refused was accepted.
    Settled,
    /// Its submission is not answered yet: it waits for that.
    Kept,
    /// It does not fit what is known, and the task is looked at.
    Odd,
    /// There is nothing left that it could change.
    Nothing,
    /// The core does not know the sample, or that it was in doubt before it was put back: what the
    /// state file says of it decides, see [`super::Event::TaskFound`] and [`Schedule::hear_refused`].
    Elsewhere,
}

impl Heard {
    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Settled => "settled",
            Self::Kept => "early",
            Self::Odd => "odd",
            Self::Nothing | Self::Elsewhere => "nothing",
        }
    }
}

/// A callback that came before the answer to its submission.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) task: TaskId,
    answer: Polled,
}

impl Schedule {
    /// Takes note of a callback, at an address that only this attempt has given away, and says what came
    /// of it: nothing that a callback says is impossible, so that this is no [`super::Event`].
    pub fn hear(
        &mut self,
        id: SampleId,
        attempt: Attempt,
        task: Option<TaskId>,
        answer: Polled,
        now: Stamp,
    ) -> Heard {
        self.next_deadline = Stamp::BIRTH;
        let Some(sample) = self.samples.get(&id) else { return Heard::Elsewhere };
        let current = sample.attempts == attempt.0;
        let heard = match (&sample.phase, task) {
            (Phase::Submitting { attempt: ours, .. }, Some(task)) if *ours == attempt => {
                self.keep(id, task, answer)
            }
            (Phase::Running(_), task) if current => self.running_called(id, task.as_ref(), answer, now),
            (Phase::InDoubt { .. }, Some(task)) if current => {
                self.settle_doubt(id, attempt, &task, now);
                self.running_called(id, Some(&task), answer, now);
                Heard::Settled
            }
            (Phase::Ready, _) if current => Heard::Elsewhere,
            // Its only way to this address was a submission: who refused it was not who accepts.
            (Phase::Ready, Some(task)) if sample.attempts + 1 == attempt.0 => {
                self.accepted_after_all(id, attempt, task.clone(), now);
                self.running_called(id, Some(&task), answer, now);
                Heard::Settled
            }
            (
                Phase::Ready
                | Phase::Submitting { .. }
                | Phase::Running(_)
                | Phase::BackingOff
                | Phase::InDoubt { .. },
                _,
            ) => Heard::Nothing,
        };
        self.check_invariants();
        heard
    }

    /// The same, of a submission that the state file takes for refused. The queue need not have brought its
    /// sample: `entry` is as the state file has it, and its attempts do not count the submission.
    pub fn hear_refused(&mut self, entry: Entry, task: TaskId, answer: Polled, now: Stamp) -> Heard {
        let (id, attempt) = (entry.sample, Attempt(entry.attempts).next());
        if !self.knows(id) {
            if self.came_back.contains(&id) {
                // Another callback of the same was heard meanwhile, and it has ended.
                return Heard::Nothing;
            }
            self.place(entry, Phase::Ready, false);
        }
        self.hear(id, attempt, Some(task), answer, now)
    }

    /// Keeps what came before the answer to its submission. Of several, the first that tells an end
    /// counts.
    fn keep(&mut self, id: SampleId, task: TaskId, answer: Polled) -> Heard {
        let told = self.early.get(&id).is_some_and(|early| is_end(&early.answer));
        if !told {
            self.early.insert(id, Early { task, answer });
        }
        Heard::Kept
    }

    /// The submission of this sample was answered, and it is being watched: what was kept counts now.
    pub(super) fn hear_kept(&mut self, id: SampleId, early: Early, now: Stamp) {
        self.running_called(id, Some(&early.task), early.answer, now);
    }

    /// The submission of this sample, which is ready again, was accepted although it was answered with a
    /// refusal. Nobody could know, so that this alone may spend more than is to be spent.
    fn accepted_after_all(&mut self, id: SampleId, attempt: Attempt, task: TaskId, now: Stamp) {
        let Some(sample) = self.samples.get(&id) else { return };
        let (holds_slot, cost) = (sample.holds_slot, sample.price);
        if holds_slot { &mut self.ready } else { &mut self.slotless }.retain(|ready| *ready != id);
        self.running_without_slot += u32::from(!holds_slot);
        self.came_back.insert(id);
        self.unforeseen = self.unforeseen + cost;
        self.change(id, now, Transition::Intended(attempt));
        self.accepted(id, attempt, task, false, now);
    }

    /// Whether a submission that [`Schedule::poll`] asked for may still be sent: not once nothing more is
    /// bought, nor where its address has called, because the same attempt was sent before.
    #[must_use]
    pub fn may_send(&self, id: SampleId) -> bool {
        self.halt.is_none() && !self.early.contains_key(&id)
    }

    /// The task that this sample's submission was answered with or that calls back for it, if it is known.
    #[must_use]
    pub fn task_of(&self, id: SampleId) -> Option<&TaskId> {
        self.watched_task(id).ok().or_else(|| self.early.get(&id).map(|early| &early.task))
    }

    fn running_called(&mut self, id: SampleId, task: Option<&TaskId>, answer: Polled, now: Stamp) -> Heard {
        let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get_mut(&id) else {
            return Heard::Nothing;
        };
        if task != Some(&watch.task) || !is_end(&answer) {
            self.look_soon(id, now);
            return Heard::Odd;
        }
        if std::mem::take(&mut watch.asked) {
            self.abandoned.insert(id, watch.sight.last_look.unwrap_or(now));
        }
        self.task_over(id, answer, Told::Callback(now), now);
        Heard::Ended
    }

    /// Whether a callback is to tell the end of this sample's task, and a look at it is under way.
    #[must_use]
    pub fn awaits_callback(&self, id: SampleId) -> bool {
        let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get(&id) else { return false };
        watch.asked && watch.sight.called_back
    }

    /// Looks at a running task now, or a little later if it has just been looked at.
    fn look_soon(&mut self, id: SampleId, now: Stamp) {
        if let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get_mut(&id)
            && !watch.asked
        {
            watch.look = self.lookout.look_now(id, &watch.sight, now);
        }
    }

    /// A look was answered. When it was made, if it was at a task that a callback has ended meanwhile: then
    /// the answer says nothing of the sample, which may be looked at again.
    pub(super) fn abandoned_look(&mut self, id: SampleId) -> Option<Stamp> {
        if self.abandoned.is_empty() {
            return None;
        }
        let looked = self.abandoned.remove(&id)?;
        self.schedule_look(id);
        Some(looked)
    }
}

/// Whether it tells how a task has ended.
const fn is_end(answer: &Polled) -> bool {
    match answer {
        Polled::Succeeded(_) | Polled::Failed(_) => true,
        Polled::Alive(_)
        | Polled::SucceededWithoutUrl
        | Polled::NotFound(_)
        | Polled::NotAnswered(_)
        | Polled::KeyRefused(_)
        | Polled::Unclear(_) => false,
    }
}
