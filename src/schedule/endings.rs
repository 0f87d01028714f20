//! How tasks end, and what becomes of their samples: off the books, or bought again.

use std::time::Duration;

use super::cadence::Told;
use super::retry::AfterFailure;
use super::{FEWEST_VANISHED, Halt, LOST_AFTER, NEW_TASK, Phase, Sample, Schedule, Transition};
use crate::api::{Polled, TaskFailure};
use crate::job::{Failure, Outcome, SampleId, Stamp, UnixMillis, Usd, Video};

impl Schedule {
    /// A running task has ended, as a look or a callback tells.
    pub(super) fn task_over(&mut self, id: SampleId, answer: Polled, told: Told, now: Stamp) {
        let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get(&id) else { return };
        let age = now.since(watch.sight.accepted);
        if let Polled::Succeeded(Video { created, completed, .. })
        | Polled::Failed(TaskFailure { created, completed, .. }) = &answer
        {
            let lifetime = lifetime(*created, *completed);
            // Not less than what was seen of it, whatever clocks say: slots in doubt hang on it.
            self.lifetimes.record(lifetime.map_or(age, |life| life.max(watch.sight.lived())));
            self.lookout.ended(&watch.sight, lifetime, told);
        }
        match answer {
            Polled::Succeeded(video) => {
                self.known.count(now);
                self.end(id, Outcome::Succeeded(video), now);
            }
            Polled::Failed(failed) => {
                self.known.count(now);
                self.task_failed(id, failed, now);
            }
            Polled::Alive(_)
            | Polled::SucceededWithoutUrl
            | Polled::NotFound(_)
            | Polled::NotAnswered(_)
            | Polled::KeyRefused(_)
            | Polled::Unclear(_) => {}
        }
    }

    fn task_failed(&mut self, id: SampleId, failed: TaskFailure, now: Stamp) {
        let Some(sample) = self.samples.get(&id) else { return };
        let number = u64::try_from(id.0).unwrap_or_default();
        let last_chance = matches!(&sample.phase, Phase::Running(watch) if watch.last_chance);
        let next = self.config.retry.after_task_failure(failed.verdict, sample.paid_retries, number);
        let failure = failed.failure;
        match next {
            AfterFailure::PayAgainAfter(wait) if !last_chance => self.defer(id, now + wait, 1, failure, now),
            AfterFailure::AwaitMoney if !last_chance => {
                self.stop_buying(Halt::NoMoney(failure.clone()));
                self.defer(id, now, 0, failure, now);
            }
            AfterFailure::End | AfterFailure::PayAgainAfter(_) | AfterFailure::AwaitMoney => {
                self.end(id, Outcome::Failed(failure), now);
            }
        }
    }

    /// The API denies knowing the task. A new task may take a moment to be known; many unknown
    /// tasks at once say something about the API or the key, not about the tasks.
    pub(super) fn not_found(&mut self, id: SampleId, failure: Failure, age: Duration, now: Stamp) {
        let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get_mut(&id) else { return };
        let since = if age < NEW_TASK { None } else { Some(*watch.unknown_since.get_or_insert(now)) };
        if since.is_none_or(|since| now.since(since) < LOST_AFTER) {
            self.schedule_look(id);
            return;
        }
        let watches = self.samples.values().filter_map(|sample| match &sample.phase {
            Phase::Running(watch) => Some(watch),
            Phase::Ready | Phase::Submitting { .. } | Phase::BackingOff | Phase::InDoubt { .. } => None,
        });
        let (looked_at, unknown) = watches
            .filter(|watch| watch.sight.last_look.is_some())
            .fold((self.known.total(now), 0), |(all, gone), watch| {
                (all + 1, gone + usize::from(watch.unknown_since.is_some()))
            });
        if unknown >= FEWEST_VANISHED && unknown * 5 > looked_at {
            self.stop_watching(Halt::TasksVanish(failure));
            self.schedule_look(id);
        } else {
            self.end(id, Outcome::Lost(failure), now);
        }
    }

    pub(super) fn end(&mut self, id: SampleId, outcome: Outcome, now: Stamp) {
        let Some(sample) = self.samples.get(&id) else { return };
        let attempts = sample.attempts;
        // One that an earlier run gave up on is counted already.
        let counted = matches!(&sample.phase, Phase::Running(watch) if watch.last_chance);
        match (&outcome, counted) {
            (Outcome::Succeeded(_), true) => self.failures = self.failures.saturating_sub(1),
            (Outcome::Succeeded(_), false) | (_, true) => {}
            (_, false) => self.count_failure(),
        }
        if matches!(outcome, Outcome::TimedOut(_)) {
            self.lifetimes.record(self.config.task_timeout);
        }
        self.change(id, now, Transition::Ended { outcome, attempts, cost: Usd::ZERO });
        self.leave(id);
    }

    pub(super) fn count_failure(&mut self) {
        self.failures += 1;
        if self.config.max_failures.is_some_and(|most| self.failures > most) {
            self.stop_buying(Halt::TooManyFailures(self.failures));
        }
    }

    pub(super) fn leave(&mut self, id: SampleId) {
        if let Some(sample) = self.samples.remove(&id) {
            self.held -= u32::from(sample.holds_slot);
            match sample.phase {
                Phase::Running(_) => {
                    self.running -= 1;
                    self.running_without_slot -= u32::from(!sample.holds_slot);
                }
                Phase::InDoubt { since } => {
                    self.doubts.remove(&(since, id));
                }
                Phase::Ready | Phase::Submitting { .. } | Phase::BackingOff => {}
            }
        }
    }
}

/// How long a task lived by the API's clock, if it says so.
fn lifetime(created: Option<UnixMillis>, completed: Option<UnixMillis>) -> Option<Duration> {
    let millis = completed.zip(created).and_then(|(completed, created)| completed.0.checked_sub(created.0));
    millis.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis)
}
