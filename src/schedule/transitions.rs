//! What each event does to the core: the transition table of a sample's life.
//!
//! Events of an earlier process come in as [`Event::Restored`] and pass the same table as live
//! ones. An event that cannot happen to a sample as it stands is an error, never ignored.

use std::time::Duration;

use super::cadence::{Sight, Told};
use super::{
    ACCEPTED_WITHIN, Entry, Event, Halt, IllegalEvent, KEEP_SLOT_FOR, KEY_REFUSALS, NOTHING_ACCEPTED, Phase,
    Restored, Sample, Schedule, Stored, Transition, UNCLEAR_LOOKS, Watch,
};
use crate::api::{Polled, RefusalCause, Submitted};
use crate::job::{Attempt, Failure, FailureKind, Outcome, SampleId, Stamp, TaskId};

impl Schedule {
    /// Takes note of `event`.
    ///
    /// # Errors
    ///
    /// When the event cannot happen to its sample as it stands. The core is unchanged; going on
    /// could lose or repeat a purchase.
    pub fn handle(&mut self, event: Event, now: Stamp) -> Result<(), IllegalEvent> {
        self.next_deadline = Stamp::BIRTH;
        match event {
            Event::Admitted(entry) => self.admitted(entry, now)?,
            Event::Restored(restored) => self.restored(restored, now)?,
            Event::QueueEnded => self.queue_ended = true,
            Event::Submitted { sample, attempt, answer } => self.submitted(sample, attempt, answer, now)?,
            Event::NotSent { sample, attempt } => {
                let permit = self.end_submission(sample, attempt, "not sent")?;
                self.trial_may_go_again(permit);
                match self.early.remove(&sample) {
                    // What went to its address before was answered with a refusal, and accepted.
                    Some(early) => {
                        self.accepted(sample, attempt, early.task.clone(), false, now);
                        self.hear_kept(sample, early, now);
                    }
                    None => self.retract(sample, now),
                }
            }
            Event::Polled { sample, answer } => self.polled(sample, answer, now)?,
            Event::TaskFound { entry, task, put_back } => self.task_found(entry, task, put_back, now)?,
            Event::Balance(balance) => self.probed(balance, now),
            Event::LinkWanted { sample, task } => self.link_wanted(sample, task)?,
            Event::LinkSeen { sample, answer } => self.link_seen(sample, &answer, now)?,
            Event::SlotsReclaimed(slots) => {
                self.lent -= slots.min(self.lent);
                // None left to take: the queue is about to use them, so wait until it has.
                self.reclaiming = slots == 0;
            }
            Event::StopBuying(halt) => self.stop_buying(halt),
            Event::Leave => self.leaving = true,
        }
        self.check_invariants();
        Ok(())
    }

    /// Buys nothing more. The first reason stays, except that it was only not to buy, or that the new
    /// one leaves the tasks.
    pub(super) fn stop_buying(&mut self, halt: Halt) {
        if self.halt.as_ref().is_none_or(|halt| *halt == Halt::CollectOnly) || halt.leaves_tasks() {
            self.halt = Some(halt);
        }
        self.outage = None;
        self.throttled = None;
    }

    /// Watches nothing more either, for a reason that is then the one that counts.
    pub(super) fn stop_watching(&mut self, halt: Halt) {
        self.stop_buying(halt.clone());
        self.watching = false;
        if !self.halt.as_ref().is_some_and(Halt::leaves_tasks) {
            self.halt = Some(halt);
        }
    }

    /// A look was answered that the key is not good. Once may be a hiccup, and looks go on.
    pub(super) fn look_refused_the_key(&mut self, failure: Failure) {
        self.key_refusals += 1;
        if self.key_refusals >= KEY_REFUSALS {
            self.stop_watching(Halt::KeyRefused(failure));
        } else {
            self.stop_buying(Halt::KeyRefused(failure));
        }
    }

    fn admitted(&mut self, entry: Entry, now: Stamp) -> Result<(), IllegalEvent> {
        self.lent = self.lent.saturating_sub(1);
        self.reclaiming = false;
        if self.came_back.contains(&entry.sample) {
            return Ok(());
        }
        let waits = entry.not_before > now;
        let phase = if waits { Phase::BackingOff } else { Phase::Ready };
        self.enter(entry, phase, true, "admitted")?;
        if waits {
            self.back_off_until(entry.sample, entry.not_before, now);
        } else {
            self.ready.push_back(entry.sample);
        }
        Ok(())
    }

    fn restored(&mut self, restored: Restored, now: Stamp) -> Result<(), IllegalEvent> {
        let Restored { entry, stored } = restored;
        let sample = entry.sample;
        match stored {
            Stored::Running { task, accepted } => {
                let watch = Watch {
                    watched_since: now,
                    ..Watch::new(task, Sight::unwatched(entry.kind, accepted, false))
                };
                self.enter(entry, Phase::Running(watch), true, "restored")?;
                self.came_back.insert(sample);
                self.running += 1;
                self.schedule_look(sample);
            }
            Stored::TimedOut { task, accepted } => {
                let watch = Watch {
                    last_chance: true,
                    ..Watch::new(task, Sight::unwatched(entry.kind, accepted, false))
                };
                self.enter(entry, Phase::Running(watch), false, "restored")?;
                self.running += 1;
                self.running_without_slot += 1;
                self.schedule_look(sample);
            }
            Stored::Submitting { since } => {
                self.enter(entry, Phase::InDoubt { since }, true, "restored")?;
                let failure = Failure::new(
                    FailureKind::Doubt,
                    None,
                    "the program ended between sending this and reading the answer; it may have been accepted",
                );
                self.doubt(sample, since, failure, now);
            }
            Stored::InDoubt { since } => {
                if since + ACCEPTED_WITHIN + self.config.task_timeout > now {
                    self.enter(entry, Phase::InDoubt { since }, true, "restored")?;
                    self.doubts.insert((since, sample));
                }
            }
        }
        Ok(())
    }

    fn submitted(
        &mut self,
        id: SampleId,
        attempt: Attempt,
        answer: Submitted,
        now: Stamp,
    ) -> Result<(), IllegalEvent> {
        let permit = self.end_submission(id, attempt, "submission answered")?;
        let early = self.early.remove(&id);
        // Whatever the answer says: what calls back has been bought.
        let answer = match (answer, &early) {
            (Submitted::Accepted(task), _) => Submitted::Accepted(task),
            (_, Some(early)) => Submitted::Accepted(early.task.clone()),
            (answer, None) => answer,
        };
        match answer {
            Submitted::Accepted(task) => {
                self.all_is_well();
                self.window = self.window.saturating_add(1);
                // One that has called back already was accepted at some time since it was sent.
                self.accepted(id, attempt, task, early.is_none(), now);
            }
            Submitted::NotAccepted(refusal) => {
                self.retract(id, now);
                match refusal.cause {
                    RefusalCause::Rate | RefusalCause::Concurrency => {
                        self.trial_may_go_again(permit);
                        let says_tasks = refusal.cause == RefusalCause::Concurrency;
                        self.submission_throttled(&refusal, permit, now, says_tasks);
                    }
                    RefusalCause::Unavailable | RefusalCause::Connect => {
                        self.everyone_waits(&refusal, permit, now);
                        self.in_trouble(&refusal.failure, refusal.retry_after, permit, now);
                    }
                }
            }
            Submitted::Rejected(failure) => {
                self.all_is_well();
                if !self.accepted_any {
                    self.rejected_first += 1;
                    if self.rejected_first >= NOTHING_ACCEPTED {
                        self.stop_buying(Halt::NothingAccepted(failure.clone()));
                    }
                }
                self.end(id, Outcome::Rejected(failure), now);
            }
            Submitted::NoMoney(failure) => {
                self.retract(id, now);
                self.stop_buying(Halt::NoMoney(failure));
            }
            Submitted::KeyRefused(failure) => {
                self.retract(id, now);
                self.stop_buying(Halt::KeyRefused(failure));
            }
            Submitted::InDoubt(failure) => {
                self.in_trouble(&failure, None, permit, now);
                self.doubt(id, permit, failure, now);
            }
        }
        if let Some(early) = early {
            self.hear_kept(id, early, now);
        }
        Ok(())
    }

    /// A submission has become a task, which is watched from now on.
    pub(super) fn accepted(
        &mut self,
        id: SampleId,
        attempt: Attempt,
        task: TaskId,
        just_now: bool,
        now: Stamp,
    ) {
        let Some(sample) = self.samples.get_mut(&id) else { return };
        sample.attempts = attempt.0;
        let sight = if just_now { Sight::accepted } else { Sight::unwatched };
        let sight = sight(sample.kind, now, self.config.called_back);
        sample.phase = Phase::Running(Watch::new(task.clone(), sight));
        let cost = sample.price;
        self.accepted_any = true;
        self.spent = self.spent + cost;
        self.running += 1;
        self.change(id, now, Transition::Accepted { task, attempt, cost });
        self.schedule_look(id);
    }

    fn polled(&mut self, id: SampleId, answer: Polled, now: Stamp) -> Result<(), IllegalEvent> {
        if let Some(looked) = self.abandoned_look(id) {
            // What it says of the task is old.
            self.service_seen(&answer, looked, now);
            return Ok(());
        }
        let illegal = |state| IllegalEvent { sample: id, event: "task looked at", state };
        let Some(sample) = self.samples.get_mut(&id) else { return Err(illegal("gone")) };
        let Phase::Running(watch) = &mut sample.phase else { return Err(illegal(sample.phase.name())) };
        if !watch.asked {
            return Err(illegal("running, with no look under way"));
        }
        watch.asked = false;
        let accepted = watch.sight.accepted;
        let age = || now.since(accepted);
        let overdue = watch.watched_since + self.config.task_timeout <= now;
        let last_chance = watch.last_chance;
        let looked = watch.sight.last_look.unwrap_or(now);
        let tells = match &answer {
            Polled::Alive(_)
            | Polled::Succeeded(_)
            | Polled::SucceededWithoutUrl
            | Polled::Failed(_)
            | Polled::NotFound(_) => true,
            Polled::NotAnswered(_) | Polled::KeyRefused(_) | Polled::Unclear(_) => false,
        };
        if tells {
            watch.unclear_looks = 0;
            if !matches!(answer, Polled::NotFound(_)) {
                watch.unknown_since = None;
            }
            if let Polled::Alive(stage) = &answer {
                self.lookout.alive(&mut watch.sight, *stage, looked);
                // What most looks come to, and so decided while the sample is at hand.
                if !overdue && !last_chance {
                    let overdue = watch.watched_since + self.config.task_timeout;
                    watch.look = self.lookout.schedule(id, &watch.sight, overdue);
                    self.look_tells(looked, now);
                    return Ok(());
                }
            }
            self.look_tells(looked, now);
        }
        match answer {
            Polled::Succeeded(_) | Polled::Failed(_) => self.task_over(id, answer, Told::Look(looked), now),
            // Nothing new about a task that an earlier run gave up on: it stays as it was.
            _ if last_chance => self.leave(id),
            Polled::Alive(_) => self.end(id, Outcome::TimedOut(overdue_failure(age())), now),
            Polled::SucceededWithoutUrl if overdue => {
                let text = "the API calls the task a success and names no video";
                self.end(id, Outcome::Lost(Failure::new(FailureKind::Timeout, None, text)), now);
            }
            Polled::SucceededWithoutUrl => self.schedule_look(id),
            Polled::NotFound(failure) => self.not_found(id, failure, age(), now),
            Polled::NotAnswered(refusal) => {
                self.look_refused(&refusal, looked, now);
                self.schedule_look(id);
            }
            Polled::KeyRefused(failure) => {
                self.look_refused_the_key(failure);
                self.schedule_look(id);
            }
            Polled::Unclear(failure) => {
                self.look_unclear(&failure, looked, now);
                let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get_mut(&id) else {
                    return Ok(());
                };
                watch.unclear_looks += 1;
                if overdue && watch.unclear_looks >= UNCLEAR_LOOKS {
                    self.end(id, Outcome::TimedOut(overdue_failure(age())), now);
                } else {
                    self.schedule_look(id);
                }
            }
        }
        Ok(())
    }

    pub(super) fn enter(
        &mut self,
        entry: Entry,
        phase: Phase,
        holds_slot: bool,
        event: &'static str,
    ) -> Result<(), IllegalEvent> {
        let sample = entry.sample;
        if let Some(there) = self.samples.get(&sample) {
            return Err(IllegalEvent { sample, event, state: there.phase.name() });
        }
        self.place(entry, phase, holds_slot);
        Ok(())
    }

    /// Takes in a sample that is not here.
    pub(super) fn place(&mut self, entry: Entry, phase: Phase, holds_slot: bool) {
        let Entry { sample, kind, attempts, paid_retries, price, .. } = entry;
        self.held += u32::from(holds_slot);
        let timer = super::Token::default();
        self.samples.insert(sample, Sample { kind, attempts, paid_retries, price, holds_slot, phase, timer });
    }

    /// Takes the answer to a submission off the books; gives its permit's stamp.
    fn end_submission(
        &mut self,
        id: SampleId,
        answered: Attempt,
        event: &'static str,
    ) -> Result<Stamp, IllegalEvent> {
        let illegal = |state| IllegalEvent { sample: id, event, state };
        let Some(sample) = self.samples.get(&id) else { return Err(illegal("gone")) };
        match sample.phase {
            Phase::Submitting { attempt, permit } if attempt == answered => {
                self.submitting -= 1;
                self.reserved = self.reserved.minus(sample.price);
                Ok(permit)
            }
            Phase::Submitting { .. } => Err(illegal("submitting another attempt")),
            Phase::Ready | Phase::Running(_) | Phase::BackingOff | Phase::InDoubt { .. } => {
                Err(illegal(sample.phase.name()))
            }
        }
    }

    /// Back to the head of the queue: surely not accepted.
    fn retract(&mut self, id: SampleId, now: Stamp) {
        if let Some(sample) = self.samples.get_mut(&id) {
            sample.phase = Phase::Ready;
            self.ready.push_front(id);
            self.change(id, now, Transition::Retracted);
        }
    }

    /// Back to waiting for a new attempt, because the task failed.
    pub(super) fn defer(
        &mut self,
        id: SampleId,
        not_before: Stamp,
        more_retries: u32,
        failure: Failure,
        now: Stamp,
    ) {
        let Some(sample) = self.samples.get_mut(&id) else { return };
        sample.paid_retries += more_retries;
        sample.phase = Phase::BackingOff;
        let paid_retries = sample.paid_retries;
        self.running -= 1;
        self.running_without_slot -= u32::from(!sample.holds_slot);
        self.change(id, now, Transition::Deferred { not_before, paid_retries, failure });
        self.back_off_until(id, not_before, now);
    }

    /// A sample that has just begun to back off waits until `not_before`.
    fn back_off_until(&mut self, id: SampleId, not_before: Stamp, now: Stamp) {
        self.backing_off += 1;
        if not_before.since(now) > KEEP_SLOT_FOR
            && let Some(sample) = self.samples.get_mut(&id)
        {
            self.held -= u32::from(std::mem::take(&mut sample.holds_slot));
        }
        self.set_timer(id, not_before);
    }

    pub(super) fn schedule_look(&mut self, id: SampleId) {
        if let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get_mut(&id) {
            let overdue = watch.watched_since + self.config.task_timeout;
            watch.look = self.lookout.schedule(id, &watch.sight, overdue);
        }
    }

    pub(super) fn set_timer(&mut self, id: SampleId, at: Stamp) {
        let timer = self.timers.set(id, at);
        if let Some(sample) = self.samples.get_mut(&id) {
            sample.timer = timer;
        }
    }
}

impl Watch {
    pub(super) fn new(task: TaskId, sight: Sight) -> Self {
        Self {
            task,
            sight,
            look: super::Token::default(),
            watched_since: sight.accepted,
            asked: false,
            unknown_since: None,
            unclear_looks: 0,
            last_chance: false,
        }
    }
}

fn overdue_failure(age: Duration) -> Failure {
    let minutes = age.as_secs() / 60;
    Failure::new(
        FailureKind::Timeout,
        None,
        &format!("still being made after {minutes} minutes; the next run asks again"),
    )
}
