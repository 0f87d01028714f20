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
mod decision;
mod doubts;
mod endings;
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
use trouble::{Holding, Outage};

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
    /// The deadline that counts; others of this sample have gone stale.
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
    /// Samples whose tasks came back from the state file, or were named by a callback. The queue may bring
    /// one all the same, or a second time should it become ready again.
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
    /// No deadline comes before then. [`Stamp::BIRTH`] after each event: any may have changed one.
    next_deadline: Stamp,
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
            next_deadline: Stamp::BIRTH,
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

    /// Adds to `batch` what must be durable since the last call, in order. Submissions that
    /// [`Schedule::poll`] asked for meanwhile may be sent once this is.
    pub fn take_changes(&mut self, batch: &mut Vec<Change>) {
        batch.append(&mut self.changes);
    }

    /// Why nothing more is bought, if so.
    #[must_use]
    pub const fn halt(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// Until when everyone waits at `now`, or submissions alone do, and why.
    #[must_use]
    pub fn pause(&self, now: Stamp) -> Option<(Stamp, &Failure)> {
        self.pause.told(now).or_else(|| self.hold.told(now))
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

    /// The task of this sample that is watched, to be looked at.
    ///
    /// # Errors
    ///
    /// No task of it is watched, so that nobody can have been told to look.
    pub fn watched_task(&self, sample: SampleId) -> Result<&TaskId, IllegalEvent> {
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

    fn change(&mut self, sample: SampleId, at: Stamp, transition: Transition) {
        self.changes.push(Change { sample, at, transition });
    }
}

#[cfg(test)]
mod tests;
