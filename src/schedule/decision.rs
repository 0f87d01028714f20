//! What is to be done next, or when to ask again.
//!
//! Slots first, which cost no request. Then what passes the gate, by what it is worth: the balance in an
//! outage, a submission into a free slot, a look, a link.

use super::gate::Admission;
use super::timers::Token;
use super::trouble::Trial;
use super::{Action, Halt, Phase, Sample, Schedule, Step, Transition};
use crate::job::{Attempt, Stamp, Usd};

impl Schedule {
    /// What to do at `now`. Ask again after each [`Step::Act`]; after anything else, when its
    /// stamp has come or an event has been handled.
    pub fn poll(&mut self, now: Stamp) -> Step {
        if self.next_deadline <= now {
            self.expire(now);
            self.next_deadline = self.first_deadline();
        }
        let step = self.next_step(now);
        self.check_invariants();
        step
    }

    fn next_step(&mut self, now: Stamp) -> Step {
        if let Some(action) = self.next_slot_action() {
            return Step::Act(action);
        }
        // After those that waited for a slot are ready again.
        self.stop_at_the_cap();
        if self.is_finished() {
            return Step::Finished;
        }
        let mut wake = self.next_deadline;
        if let Some(probe_at) = self.next_probe() {
            if probe_at > now {
                wake = wake.min(probe_at);
            } else {
                match self.gate.admit(now) {
                    Admission::Granted => {
                        self.probing = true;
                        self.lookout.other_request();
                        return Step::Act(Action::AskBalance);
                    }
                    Admission::NotBefore(at) => wake = wake.min(at),
                }
            }
        }
        // A submission into a free slot uses it for certain; a look only perhaps frees one.
        let may_submit = self.may_submit(now);
        if may_submit && now < self.hold.until() {
            wake = wake.min(self.hold.until());
        } else if may_submit {
            match self.gate.admit(now) {
                Admission::Granted => {
                    if let Some(submit) = self.submit_next(now) {
                        return Step::Act(submit);
                    }
                }
                Admission::NotBefore(at) => return wait_until(wake.min(at)),
            }
        }
        match self.next_look(now) {
            Some(Ok(look)) => return Step::Act(look),
            Some(Err(at)) => wake = wake.min(at),
            None => {}
        }
        match self.next_link_action(now) {
            Some(Ok(action)) => return Step::Act(action),
            Some(Err(at)) => wake = wake.min(at),
            None => {}
        }
        wait_until(wake)
    }

    /// When the first deadline comes, of those that have not taken effect.
    pub(super) fn first_deadline(&self) -> Stamp {
        let of_samples = self.timers.next();
        let of_doubts = self.doubts.first().map(|(since, _)| *since + self.doubts_last());
        let of_run = self.ends_at().filter(|_| self.may_run_out_of_time());
        let first = [of_samples, of_doubts, of_run].into_iter().flatten().min();
        first.unwrap_or(Stamp::NEVER).min(self.gives_up_at())
    }

    /// Lets deadlines that have come take effect.
    fn expire(&mut self, now: Stamp) {
        while let Some((id, token)) = self.timers.pop_due(now) {
            let Some(sample) = self.samples.get_mut(&id).filter(|sample| sample.timer == token) else {
                continue;
            };
            match &sample.phase {
                Phase::BackingOff => {
                    sample.phase = Phase::Ready;
                    self.backing_off -= 1;
                    if sample.holds_slot { &mut self.ready } else { &mut self.slotless }.push_back(id);
                }
                Phase::Ready | Phase::Submitting { .. } | Phase::Running(_) | Phase::InDoubt { .. } => {}
            }
        }
        while let Some((since, id)) = self.doubts.first().copied()
            && since + self.doubts_last() <= now
        {
            self.leave(id);
        }
        if self.may_run_out_of_time() && self.ends_at().is_some_and(|end| end <= now) {
            self.stop_buying(Halt::TimeUp);
        }
        self.give_up_on_an_outage(now);
    }

    fn may_submit(&mut self, now: Stamp) -> bool {
        let Some(next) = self.ready.front() else { return false };
        let trusted = match &self.outage {
            None => self.submitting < self.window,
            Some(outage) => outage.trial == Trial::Allowed,
        };
        if !trusted || self.halt.is_some() {
            return false;
        }
        self.slots_allowed.climb(now);
        if self.alive() >= self.slots_allowed.allowed() {
            self.slots_allowed.want_more();
            return false;
        }
        let price = |id| self.samples.get(id).map_or(Usd::ZERO, |sample: &Sample| sample.price);
        self.config.max_cost.is_none_or(|most| self.spent + self.reserved + price(next) <= most)
    }

    /// Stops buying when the next sample costs more than is left of what may be spent. While
    /// something is unanswered it may yet be refused, and cost nothing.
    fn stop_at_the_cap(&mut self) {
        let Some(most) = self.config.max_cost.filter(|_| self.submitting == 0 && self.halt.is_none()) else {
            return;
        };
        let next = self.ready.front().and_then(|id| self.samples.get(id));
        if next.is_some_and(|sample| self.spent + sample.price > most) {
            self.stop_buying(Halt::CostCap(most));
        }
    }

    /// When the run has lasted as long as it may.
    fn ends_at(&self) -> Option<Stamp> {
        self.config.max_duration.map(|lasts| self.began + lasts)
    }

    /// Whether the end of its time would still change the run.
    fn may_run_out_of_time(&self) -> bool {
        !self.halt.as_ref().is_some_and(Halt::leaves_tasks)
    }

    fn submit_next(&mut self, now: Stamp) -> Option<Action> {
        let id = self.ready.pop_front()?;
        let sample = self.samples.get_mut(&id)?;
        let attempt = Attempt(sample.attempts).next();
        sample.phase = Phase::Submitting { attempt, permit: now };
        self.reserved = self.reserved + sample.price;
        if let Some(outage) = &mut self.outage {
            outage.trial = Trial::Sent(now);
        }
        self.submitting += 1;
        self.lookout.other_request();
        self.change(id, now, Transition::Intended(attempt));
        Some(Action::Submit { sample: id, attempt, permit: now })
    }

    /// The look that is worth most, if one is to be made now, or when.
    fn next_look(&mut self, now: Stamp) -> Option<Result<Action, Stamp>> {
        if !self.watching || self.running == 0 {
            return None;
        }
        let Self { samples, lookout, abandoned, gate, .. } = self;
        loop {
            let (due, id, token) = lookout.next(now)?;
            // Whether it is still wanted can be found out then.
            let at = due.max(gate.shut_until());
            if at > now {
                return Some(Err(at));
            }
            let watch = match samples.get_mut(&id).map(|sample| &mut sample.phase) {
                // One look at a time for each sample, so that an answer is never taken for another's.
                Some(Phase::Running(watch)) if watch.look == token && !abandoned.contains_key(&id) => watch,
                None
                | Some(
                    Phase::Running(_)
                    | Phase::Ready
                    | Phase::Submitting { .. }
                    | Phase::BackingOff
                    | Phase::InDoubt { .. },
                ) => {
                    lookout.forget();
                    continue;
                }
            };
            let at = lookout.not_before(&watch.sight, gate.spacing(), now);
            if at > now {
                return Some(Err(at));
            }
            if let Admission::NotBefore(at) = gate.admit(now) {
                return Some(Err(at));
            }
            lookout.made(now);
            watch.look = Token::default();
            watch.asked = true;
            watch.sight.last_look = Some(now);
            return Some(Ok(Action::Poll { sample: id }));
        }
    }

    /// Whether nothing will ever be left to do.
    fn is_finished(&self) -> bool {
        self.is_done_but_for_doubts() && !self.awaits_doubts()
    }

    /// Whether nothing will ever be left to do unless doubts are settled.
    pub(super) fn is_done_but_for_doubts(&self) -> bool {
        if self.leaving {
            return true;
        }
        if self.submitting > 0 {
            return false;
        }
        match &self.halt {
            Some(halt) if halt.leaves_tasks() => true,
            Some(_) => (self.running == 0 || !self.watching) && self.links.is_empty(),
            None => {
                self.running == 0
                    && self.queue_ended
                    && self.ready.is_empty()
                    && self.slotless.is_empty()
                    && self.backing_off == 0
                    && self.links.is_empty()
            }
        }
    }

    /// Whether doubts are waited for, as long as their tasks could be alive: only where a callback may settle
    /// them, and not once tasks are left to the next run.
    pub(super) fn awaits_doubts(&self) -> bool {
        let leaves = self.leaving || self.halt.as_ref().is_some_and(Halt::leaves_tasks);
        self.config.called_back && !self.doubts.is_empty() && !leaves
    }
}

/// Nothing is to be done before `wake`, unless something happens.
fn wait_until(wake: Stamp) -> Step {
    if wake == Stamp::NEVER { Step::Wait } else { Step::WakeAt(wake) }
}
