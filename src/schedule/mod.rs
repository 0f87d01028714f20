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

pub mod cadence;
pub mod gate;
mod invariants;
mod protocol;
pub mod retry;
mod timers;
mod transitions;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

pub use protocol::{Action, Change, Entry, Event, Halt, Restored, Step, Stored, Transition};

use crate::job::{Attempt, Failure, Limits, SampleId, Stamp, TaskId, Usd};
use cadence::Cadence;
use gate::{Admission, Gate};
use retry::{FullJitter, RetryPolicy};
use timers::{Timers, Token};

/// Unanswered submissions allowed before the first acceptance: enough to be quick, few enough
/// that a broken account, price or network is found out for a few cents.
pub const SLOW_START: u32 = 4;

/// Answers in a row that speak of a service in trouble before it counts as an outage.
pub const OUTAGE_STREAK: u32 = 10;

/// A sample that waits longer than this gives its slot to another.
pub const KEEP_SLOT_FOR: Duration = Duration::from_secs(5);

/// How long the API may deny knowing a task it accepted before the task counts as lost; it may
/// take a moment until a new task can be asked about everywhere.
pub const LOST_AFTER: Duration = Duration::from_mins(10);

/// Age below which a task the API does not know is simply new.
pub const NEW_TASK: Duration = Duration::from_secs(30);

/// Fewer unknown tasks than this never stop a run: one task can be lost, many at once cannot.
pub const FEWEST_VANISHED: usize = 5;

/// Looks refused for the key, in a row, after which watching stops.
pub const KEY_REFUSALS: u32 = 3;

/// Unclear looks in a row after which an overdue task is given up on all the same.
pub const UNCLEAR_LOOKS: u32 = 5;

/// What governs a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// What the account allows.
    pub limits: Limits,
    /// When to look at tasks.
    pub cadence: Cadence,
    /// When to pay again.
    pub retry: RetryPolicy,
    /// Age at which a live task is given up on.
    pub task_timeout: Duration,
    /// How long the service may be away before the run stops.
    pub outage_timeout: Duration,
    /// Samples that may end other than well before buying stops; `None` for any number.
    pub max_failures: Option<u64>,
}

impl Default for Config {
    /// The documented limits and the vendor's advice.
    fn default() -> Self {
        Self {
            limits: Limits::DOCUMENTED,
            cadence: Cadence::VENDOR,
            retry: RetryPolicy { paid_retries: 1, seed: 0 },
            task_timeout: Duration::from_mins(30),
            outage_timeout: Duration::from_hours(1),
            max_failures: None,
        }
    }
}

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
    InDoubt,
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Submitting { .. } => "submitting",
            Self::Running(_) => "running",
            Self::BackingOff => "backing off",
            Self::InDoubt => "in doubt",
        }
    }
}

/// A task being watched.
#[derive(Debug)]
struct Watch {
    task: TaskId,
    accepted: Stamp,
    last_look: Option<Stamp>,
    /// A look is due or under way.
    looking: bool,
    /// The API has denied knowing it since then.
    unknown_since: Option<Stamp>,
    unclear_looks: u32,
    /// Given up on by an earlier run: one look, and nothing changes unless it has ended.
    last_chance: bool,
}

/// A service that is away, until a submission is answered well: a balance that answers says only
/// that the service can be reached.
#[derive(Debug, Clone)]
struct Outage {
    since: Stamp,
    next_probe: Stamp,
    /// From a trial that ends in doubt to the next probe; each such trial may cost a video.
    wait: Duration,
    trial: Trial,
    failure: Failure,
}

/// The one submission that may find out whether an outage is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// Not before the balance endpoint answers.
    Barred,
    /// The next submission is it.
    Allowed,
    /// It is under way.
    Sent,
}

/// The pure core. See the module.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub struct Schedule {
    config: Config,
    gate: Gate,
    samples: HashMap<SampleId, Sample>,
    /// Samples whose tasks came back from the state file. Should one become ready again, the queue
    /// may bring it a second time.
    came_back: HashSet<SampleId>,
    /// Ready samples that hold a slot, next first.
    ready: VecDeque<SampleId>,
    /// Ready samples that gave their slot up and wait for another.
    slotless: VecDeque<SampleId>,
    /// Tasks whose next look is due, longest due first.
    looks: VecDeque<SampleId>,
    timers: Timers,
    changes: Vec<Change>,
    /// Slots held by samples here.
    held: u32,
    /// Slots the semaphore has to give.
    lent: u32,
    reclaiming: bool,
    submitting: u32,
    running: u32,
    backing_off: u32,
    /// Submissions that may be unanswered at once.
    window: u32,
    queue_ended: bool,
    /// Whether tasks are still looked at.
    watching: bool,
    /// The grace of an interruption is over: not even answers are waited for.
    leaving: bool,
    halt: Option<Halt>,
    /// Samples that ended other than well.
    failures: u64,
    waits: FullJitter,
    /// Why everyone waits, for whom it may concern.
    paused_for: Option<Failure>,
    /// When the present pause began: refusals of requests sent before are old news.
    paused_at: Stamp,
    trouble: u32,
    outage: Option<Outage>,
    probing: bool,
    key_refusals: u32,
}

impl Schedule {
    /// A core with nothing in flight. `failures` counts the samples that an earlier process saw
    /// end other than well.
    #[must_use]
    pub fn new(config: Config, gate: Gate, failures: u64) -> Self {
        Self {
            config,
            gate,
            samples: HashMap::new(),
            came_back: HashSet::new(),
            ready: VecDeque::new(),
            slotless: VecDeque::new(),
            looks: VecDeque::new(),
            timers: Timers::default(),
            changes: Vec::new(),
            held: 0,
            lent: 0,
            reclaiming: false,
            submitting: 0,
            running: 0,
            backing_off: 0,
            window: SLOW_START,
            queue_ended: false,
            watching: true,
            leaving: false,
            halt: None,
            failures,
            waits: FullJitter::for_everyone(config.retry.seed),
            paused_for: None,
            paused_at: Stamp::BIRTH,
            trouble: 0,
            outage: None,
            probing: false,
            key_refusals: 0,
        }
    }

    /// What must be durable since the last call, in order. Submissions that [`Schedule::poll`]
    /// asked for meanwhile may be sent once this is.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Why nothing more is bought, if so.
    #[must_use]
    pub const fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// Until when everyone waits, and why.
    #[must_use]
    pub fn pause(&self) -> Option<(Stamp, &Failure)> {
        self.paused_for.as_ref().map(|failure| (self.gate.paused_until(), failure))
    }

    /// Submissions sent and not answered.
    #[must_use]
    pub const fn submitting(&self) -> u32 {
        self.submitting
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
        let mut wake = self.timers.next();
        let mut not_before = |at: Stamp| wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
        if let Some(outage) = self.outage.as_ref() {
            not_before(outage.since + self.config.outage_timeout);
        }
        if let Some(probe_at) = self.next_probe() {
            if probe_at > now {
                not_before(probe_at);
            } else {
                match self.gate.admit(now) {
                    Admission::Granted => {
                        self.probing = true;
                        return Step::Act(Action::AskBalance);
                    }
                    Admission::NotBefore(at) => not_before(at),
                }
            }
        }
        // A submission into a free slot uses it for certain; a look only perhaps frees one.
        if self.may_submit() {
            match self.gate.admit(now) {
                Admission::Granted => {
                    if let Some(submit) = self.submit_next(now) {
                        return Step::Act(submit);
                    }
                }
                Admission::NotBefore(at) => not_before(at),
            }
        } else if self.watching && !self.looks.is_empty() {
            match self.gate.admit(now) {
                Admission::Granted => {
                    if let Some(look) = self.look_next(now) {
                        return Step::Act(look);
                    }
                }
                Admission::NotBefore(at) => not_before(at),
            }
        }
        wake.map_or(Step::Wait, Step::WakeAt)
    }

    /// Lets deadlines that have come take effect.
    fn expire(&mut self, now: Stamp) {
        while let Some((id, token)) = self.timers.pop_due(now) {
            let Some(sample) = self.samples.get_mut(&id).filter(|sample| sample.timer == token) else {
                continue;
            };
            match &mut sample.phase {
                Phase::Running(watch) => {
                    watch.looking = true;
                    self.looks.push_back(id);
                }
                Phase::BackingOff => {
                    sample.phase = Phase::Ready;
                    self.backing_off -= 1;
                    if sample.holds_slot { &mut self.ready } else { &mut self.slotless }.push_back(id);
                }
                Phase::InDoubt => self.leave(id),
                Phase::Ready | Phase::Submitting { .. } => {}
            }
        }
        if now >= self.gate.paused_until() {
            self.paused_for = None;
        }
        if let Some(outage) = &self.outage
            && now.since(outage.since) >= self.config.outage_timeout
        {
            let halt = Halt::Outage(outage.failure.clone());
            self.stop_buying(halt);
        }
    }

    /// Slots to give to the semaphore, or to take back from it for samples that gave theirs up.
    fn next_slot_action(&mut self) -> Option<Action> {
        if self.halt.is_some() {
            return None;
        }
        let capacity = self.config.limits.concurrent_tasks.get();
        let mut spare = capacity.saturating_sub(self.held + self.lent);
        while spare > 0
            && let Some(id) = self.slotless.pop_front()
        {
            if let Some(sample) = self.samples.get_mut(&id) {
                sample.holds_slot = true;
                self.held += 1;
                spare -= 1;
                self.ready.push_back(id);
            }
        }
        if !self.slotless.is_empty() {
            if self.lent > 0 && !self.reclaiming {
                self.reclaiming = true;
                let wanted = u32::try_from(self.slotless.len()).unwrap_or(u32::MAX);
                return Some(Action::ReclaimSlots(wanted.min(self.lent)));
            }
            return None;
        }
        if spare > 0 && !self.queue_ended {
            self.lent += spare;
            return Some(Action::FreeSlots(spare));
        }
        None
    }

    /// When the balance endpoint is to be asked whether the service is back.
    fn next_probe(&self) -> Option<Stamp> {
        let barred = |outage: &&Outage| outage.trial == Trial::Barred && self.halt.is_none() && !self.probing;
        self.outage.as_ref().filter(barred).map(|outage| outage.next_probe)
    }

    fn may_submit(&self) -> bool {
        let trusted = match &self.outage {
            None => self.submitting < self.window,
            Some(outage) => outage.trial == Trial::Allowed,
        };
        trusted && !self.ready.is_empty() && self.halt.is_none()
    }

    fn submit_next(&mut self, now: Stamp) -> Option<Action> {
        let id = self.ready.pop_front()?;
        let sample = self.samples.get_mut(&id)?;
        let attempt = Attempt(sample.attempts).next();
        sample.phase = Phase::Submitting { attempt, permit: now };
        if let Some(outage) = &mut self.outage {
            outage.trial = Trial::Sent;
        }
        self.submitting += 1;
        self.change(id, now, Transition::Intended(attempt));
        Some(Action::Submit { sample: id, attempt, permit: now })
    }

    fn look_next(&mut self, now: Stamp) -> Option<Action> {
        while let Some(id) = self.looks.pop_front() {
            if let Some(Sample { phase: Phase::Running(watch), .. }) = self.samples.get_mut(&id) {
                watch.last_look = Some(now);
                return Some(Action::Poll { sample: id, task: watch.task.clone() });
            }
        }
        None
    }

    /// Whether nothing will ever be left to do. Doubts are held, not waited for.
    fn is_finished(&self) -> bool {
        if self.leaving {
            return true;
        }
        let nothing_sent = self.submitting == 0;
        match self.halt {
            Some(Halt::Interrupted) => nothing_sent,
            Some(_) => nothing_sent && (self.running == 0 || !self.watching),
            None => {
                let nothing_ready =
                    self.ready.is_empty() && self.slotless.is_empty() && self.backing_off == 0;
                self.queue_ended && nothing_sent && nothing_ready && self.running == 0
            }
        }
    }

    fn change(&mut self, sample: SampleId, at: Stamp, transition: Transition) {
        self.changes.push(Change { sample, at, transition });
    }
}

#[cfg(test)]
mod tests;
