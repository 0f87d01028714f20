//! Every decision of a run, and nothing else: the pure core.
//!
//! Owns the state machine of each sample in flight, the slots, the gate, the retries and the
//! deadlines. Knows no socket, file, clock or random source: time comes in as an argument, and
//! what is to be done goes out as a value. [`Schedule::handle`] changes state and says what must
//! be durable; [`Schedule::poll`] answers what to do next or when to ask again. So the same code
//! runs in production, in virtual time, and in property tests that crash it at every step.
//!
//! ```text
//! Ready ─Intended▶ Submitting ─Accepted▶ Running ─Ended▶ (leaves)
//!   ▲                  │ └─Ended(rejected)▶ (leaves)
//!   │                  ├─Retracted▶ Ready      └─Deferred▶ BackingOff ─▶ Ready
//!   │                  └─Ended(unknown)▶ InDoubt ─▶ (leaves when its task cannot be alive)
//! ```

mod allowance;
pub mod cadence;
mod callbacks;
mod config;
mod doubts;
pub mod gate;
mod invariants;
mod last_minute;
mod lately;
mod lifetimes;
mod links;
mod protocol;
pub mod retry;
mod sample_map;
pub mod share;
mod slots;
mod timers;
mod transitions;
mod trouble;

use std::collections::{BTreeSet, VecDeque};
use std::vec::Drain;

pub use callbacks::Heard;
pub use config::*;
pub use doubts::Awaited;
pub use last_minute::LastMinute;
pub use protocol::{Action, Change, Entry, Event, Halt, Restored, Step, Stored, Transition};

use crate::generation::Kind;
use crate::job::{Attempt, Failure, SampleId, Stamp, TaskId, Usd};
use allowance::Allowance;
use cadence::{Learned, Lookout, Sight};
use callbacks::Early;
use gate::{Admission, Gate};
use lately::Lately;
use lifetimes::Lifetimes;
use links::Links;
use retry::FullJitter;
use sample_map::{SampleMap, SampleSet};
use timers::{Timers, Token};
use trouble::{Holding, Outage, Trial};

/// An event that cannot happen to a sample as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sample {sample} cannot take `{event}` while it is {state}: this is a defect of batchveo")]
pub struct IllegalEvent {
    /// Which sample.
    pub sample: SampleId,
    /// What was to happen.
    pub event: &'static str,
    /// How it stands.
    pub state: &'static str,
}

/// A sample in flight.
#[derive(Debug)]
struct Sample {
    kind: Kind,
    attempts: u32,
    paid_retries: u32,
    price: Usd,
    /// Whether it counts against the account's concurrent tasks.
    holds_slot: bool,
    phase: Phase,
    /// The deadline that counts; others of this sample in the heap have gone stale.
    timer: Token,
}

#[derive(Debug)]
enum Phase {
    Ready,
    Submitting { attempt: Attempt, permit: Stamp },
    Running(Watch),
    BackingOff,
    InDoubt { since: Stamp },
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Submitting { .. } => "submitting",
            Self::Running(_) => "running",
            Self::BackingOff => "backing off",
            Self::InDoubt { .. } => "in doubt",
        }
    }
}

/// A task being watched.
#[derive(Debug)]
struct Watch {
    task: TaskId,
    /// What is known of it.
    sight: Sight,
    /// The next look; others of this task have gone stale.
    look: Token,
    /// What the task time-out counts from: a task that comes back from the state file has all of it
    /// before it, since the time since its acceptance may be a clock's mistake.
    watched_since: Stamp,
    /// A look is under way.
    asked: bool,
    /// The API has denied knowing it since then.
    unknown_since: Option<Stamp>,
    unclear_looks: u32,
    /// Given up on by an earlier run: one look, and nothing changes unless it has ended.
    last_chance: bool,
}

/// What earlier processes did, as far as it counts in this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Before {
    /// Samples that ended other than well.
    pub failures: u64,
    /// What was accepted or is in doubt, at list price. Intents without an answer are not in it.
    pub spent: Usd,
}

/// The pure core. See the module.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub struct Schedule {
    config: Config,
    gate: Gate,
    began: Stamp,
    samples: SampleMap<Sample>,
    /// Samples whose tasks came back from the state file. Should one become ready again, the queue
    /// may bring it a second time.
    came_back: SampleSet,
    /// Ready samples that hold a slot, next first.
    ready: VecDeque<SampleId>,
    /// Ready samples that gave their slot up and wait for another.
    slotless: VecDeque<SampleId>,
    /// When tasks are to be looked at.
    lookout: Lookout,
    /// Samples with a look under way at a task that a callback has ended, and when it was made.
    abandoned: SampleMap<Stamp>,
    /// Callbacks that came before the answers to their submissions.
    early: SampleMap<Early>,
    /// Links to videos made before, that are to be asked for again.
    links: Links,
    timers: Timers,
    /// Submissions in doubt whose task could be alive, by when they were sent.
    doubts: BTreeSet<(Stamp, SampleId)>,
    lifetimes: Lifetimes,
    changes: Vec<Change>,
    /// Slots held by samples here.
    held: u32,
    /// Slots the semaphore has to give.
    lent: u32,
    reclaiming: bool,
    submitting: u32,
    running: u32,
    /// Those of them that hold no slot.
    running_without_slot: u32,
    backing_off: u32,
    /// Submissions that may be unanswered at once.
    window: u32,
    /// Tasks that may be alive at once, as refusals have taught.
    slots_allowed: Allowance,
    queue_ended: bool,
    /// Whether tasks are still looked at.
    watching: bool,
    /// The grace of an interruption is over: not even answers are waited for.
    leaving: bool,
    halt: Option<Halt>,
    /// Samples that ended other than well.
    failures: u64,
    /// What was accepted or is in doubt, and what submissions without an answer may cost.
    spent: Usd,
    reserved: Usd,
    /// Part of what was spent: what had counted as refused.
    unforeseen: Usd,
    accepted_any: bool,
    /// Submissions refused for what they ask, while none was accepted.
    rejected_first: u32,
    /// Everyone waits.
    pause: Holding,
    /// Submissions wait, looks do not.
    hold: Holding,
    /// Refusals of submissions for too many of something, in a row.
    refusals: u32,
    /// Looks answered since a submission was refused for "too many requests", and when that was.
    suspicion: Option<(Stamp, u32)>,
    /// Since when every submission was refused because there were too many of something.
    throttled: Option<(Stamp, Failure)>,
    trouble: u32,
    /// Since when answers to submissions speak of trouble, and looks tell nothing.
    troubled_since: Option<Stamp>,
    silent: Option<(Stamp, Failure)>,
    outage: Option<Outage>,
    /// Looks in a row that were refused because there were too many requests.
    refused_looks: u32,
    /// Looks in a row that told nothing.
    unclear_looks: u32,
    /// Tasks that the API knew when they were looked at last, and that have ended.
    known: Lately,
    probing: bool,
    key_refusals: u32,
}

impl Schedule {
    /// A core with nothing in flight, in a process that begins at `now`.
    #[must_use]
    pub fn new(config: Config, gate: Gate, before: Before, now: Stamp) -> Self {
        let seed = config.retry.seed;
        Self {
            config,
            gate,
            began: now,
            samples: SampleMap::default(),
            came_back: SampleSet::default(),
            ready: VecDeque::new(),
            slotless: VecDeque::new(),
            lookout: Lookout::new(&config, now),
            abandoned: SampleMap::default(),
            early: SampleMap::default(),
            links: Links::default(),
            timers: Timers::default(),
            doubts: BTreeSet::new(),
            lifetimes: Lifetimes::default(),
            changes: Vec::new(),
            held: 0,
            lent: 0,
            reclaiming: false,
            submitting: 0,
            running: 0,
            running_without_slot: 0,
            backing_off: 0,
            window: SLOW_START,
            slots_allowed: Allowance::new(config.limits.concurrent_tasks.get(), slots::MANNER),
            queue_ended: false,
            watching: true,
            leaving: false,
            halt: config.collect_only.then_some(Halt::CollectOnly),
            failures: before.failures,
            spent: before.spent,
            reserved: Usd::ZERO,
            unforeseen: Usd::ZERO,
            accepted_any: false,
            rejected_first: 0,
            pause: Holding::new(FullJitter::for_everyone(seed)),
            // Other draws than for everyone.
            hold: Holding::new(FullJitter::for_everyone(!seed)),
            refusals: 0,
            suspicion: None,
            throttled: None,
            trouble: 0,
            troubled_since: None,
            silent: None,
            outage: None,
            refused_looks: 0,
            unclear_looks: 0,
            known: Lately::default(),
            probing: false,
            key_refusals: 0,
        }
    }

    /// What must be durable since the last call, in order. Submissions that [`Schedule::poll`]
    /// asked for meanwhile may be sent once this is.
    pub fn take_changes(&mut self) -> Drain<'_, Change> {
        self.changes.drain(..)
    }

    /// Why nothing more is bought, if so.
    #[must_use]
    pub const fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// Until when everyone waits, or submissions alone do, and why.
    #[must_use]
    pub fn pause(&self) -> Option<(Stamp, &Failure)> {
        self.pause.told().or_else(|| self.hold.told())
    }

    /// Requests a minute and tasks at once that are taken to be allowed now: as documented, or less
    /// where refusals have taught so.
    #[must_use]
    pub fn allowed(&self) -> (u32, u32) {
        (self.gate.pace().get(), self.slots_allowed.allowed())
    }

    /// A permit for a request that is none of the core's own.
    pub fn admit(&mut self, now: Stamp) -> Admission {
        self.gate.admit(now)
    }

    /// Goes on from what an earlier process has learned of how long tasks take.
    pub fn recall(&mut self, learned: &Learned) {
        self.lookout.recall(learned);
    }

    /// What has been learned of how long tasks take; nothing under a fixed schedule.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        self.lookout.learned()
    }

    /// The same, when it is time to keep it for the case that this process dies.
    pub fn learned_to_keep(&mut self, now: Stamp) -> Option<Learned> {
        self.lookout.learned_to_keep(now)
    }

    /// Submissions sent and not answered.
    #[must_use]
    pub const fn submitting(&self) -> u32 {
        self.submitting
    }

    /// Whether this sample is in flight, in doubt included.
    #[must_use]
    pub fn knows(&self, sample: SampleId) -> bool {
        self.samples.contains_key(&sample)
    }

    /// The name of the task of this sample, which is looked at.
    ///
    /// # Errors
    ///
    /// No task of it is watched, so that nobody can have been told to look.
    pub fn task(&self, sample: SampleId) -> Result<&TaskId, IllegalEvent> {
        let illegal = |state| IllegalEvent { sample, event: "look", state };
        match self.samples.get(&sample).map(|sample| &sample.phase) {
            Some(Phase::Running(watch)) => Ok(&watch.task),
            Some(phase) => Err(illegal(phase.name())),
            None => Err(illegal("gone")),
        }
    }

    /// Samples in flight, in doubt included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.samples.len()
    }

    /// Tasks being watched.
    #[must_use]
    pub const fn running(&self) -> u32 {
        self.running
    }

    /// Slots in use: submitting, running, ready, backing off briefly, in doubt.
    #[must_use]
    pub const fn slots_held(&self) -> u32 {
        self.held
    }

    /// What to do at `now`. Ask again after each [`Step::Act`]; after anything else, when its
    /// stamp has come or an event has been handled.
    pub fn poll(&mut self, now: Stamp) -> Step {
        self.expire(now);
        let step = self.next_step(now);
        self.check_invariants();
        step
    }

    fn next_step(&mut self, now: Stamp) -> Step {
        if let Some(action) = self.next_slot_action() {
            return Step::Act(action);
        }
        if self.is_finished() {
            return Step::Finished;
        }
        let mut wake: Option<Stamp> = None;
        let mut not_before = |at: Stamp| wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
        if let Some(probe_at) = self.next_probe() {
            if probe_at > now {
                not_before(probe_at);
            } else {
                match self.gate.admit(now) {
                    Admission::Granted => {
                        self.probing = true;
                        self.lookout.other_request();
                        return Step::Act(Action::AskBalance);
                    }
                    Admission::NotBefore(at) => not_before(at),
                }
            }
        }
        // A submission into a free slot uses it for certain; a look only perhaps frees one.
        let may_submit = self.may_submit();
        if may_submit && now < self.hold.until() {
            not_before(self.hold.until());
        } else if may_submit {
            match self.gate.admit(now) {
                Admission::Granted => {
                    if let Some(submit) = self.submit_next(now) {
                        return Step::Act(submit);
                    }
                }
                Admission::NotBefore(at) => {
                    not_before(at);
                    return self.wait_until(wake, now);
                }
            }
        }
        match self.next_look(now) {
            Some(Ok(look)) => return Step::Act(look),
            Some(Err(at)) => not_before(at),
            None => {}
        }
        match self.next_link_action(now) {
            Some(Ok(action)) => return Step::Act(action),
            Some(Err(at)) => not_before(at),
            None => {}
        }
        self.wait_until(wake, now)
    }

    /// Nothing is to be done before `wake`, nor before the first of the deadlines that come by
    /// themselves.
    fn wait_until(&self, wake: Option<Stamp>, now: Stamp) -> Step {
        let mut wake = wake;
        let mut not_before = |at: Stamp| wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
        if let Some(at) = self.timers.next() {
            not_before(at);
        }
        if let Some((since, _)) = self.doubts.first() {
            not_before(*since + self.doubts_last());
        }
        if let Some(outage) = self.outage.as_ref() {
            not_before(outage.since + self.config.outage_timeout);
        }
        if let Some((since, _)) = self.silent.as_ref().filter(|_| self.watching) {
            not_before(*since + self.config.outage_timeout);
        }
        if let Some(end) = self.ends_at().filter(|end| *end > now) {
            not_before(end);
        }
        wake.map_or(Step::Wait, Step::WakeAt)
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
        if self.ends_at().is_some_and(|end| end <= now) && !self.halt.as_ref().is_some_and(Halt::leaves_tasks)
        {
            self.stop_buying(Halt::TimeUp);
        }
        self.stop_at_the_cap();
        self.pause.expire(now);
        self.hold.expire(now);
        self.slots_allowed.climb(now);
        self.give_up_on_an_outage(now);
    }

    fn may_submit(&mut self) -> bool {
        let Some(next) = self.ready.front() else { return false };
        let trusted = match &self.outage {
            None => self.submitting < self.window,
            Some(outage) => outage.trial == Trial::Allowed,
        };
        if !trusted || self.halt.is_some() {
            return false;
        }
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
        self.has_only_doubts() && !self.awaits_doubts()
    }

    /// Whether nothing will ever be left to do unless doubts are settled.
    fn has_only_doubts(&self) -> bool {
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

    /// Doubts are held and not waited for, unless a callback may settle them: then for as long as their
    /// tasks could be alive.
    fn awaits_doubts(&self) -> bool {
        let leaves = self.leaving || self.halt.as_ref().is_some_and(Halt::leaves_tasks);
        self.config.called_back && !self.doubts.is_empty() && !leaves
    }

    fn change(&mut self, sample: SampleId, at: Stamp, transition: Transition) {
        self.changes.push(Change { sample, at, transition });
    }
}

#[cfg(test)]
mod tests;
