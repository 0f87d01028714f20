//! The books of a run: what has been sent, bought and ended, as its readers are told.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{Downloads, Progress};
use crate::job::{SampleId, Stamp, Status, Tally, Usd};
use crate::schedule::{Change, LastMinute, Restored, Schedule, Stored, Transition};

/// Real time between two heartbeats at least: how often a person wants to see a number move.
const HEARTBEATS_PER_SECOND: u32 = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Books {
    counts: Progress,
    sent: LastMinute,
    heartbeat_every: Duration,
    next_heartbeat: Stamp,
    /// Tasks alive, oldest first: for the time the first videos may be expected.
    alive: BTreeSet<(Stamp, SampleId)>,
    accepted_at: HashMap<SampleId, Stamp>,
    /// Samples that were given up on and may end otherwise: that are looked at once more, or called back.
    given_up: HashMap<SampleId, Status>,
}

impl Books {
    /// The books of a process that begins at `now`.
    pub(super) fn open(now: Stamp, tally: Tally, spent: Usd, clock: &Clock) -> Self {
        let factor = clock.factor().map_or(1, std::num::NonZeroU32::get);
        let heartbeat_every = Duration::from_secs(u64::from((factor / HEARTBEATS_PER_SECOND).max(1)));
        Self {
            counts: Progress { started: now, tally, spent, ..Progress::default() },
            sent: LastMinute::default(),
            heartbeat_every,
            next_heartbeat: now + heartbeat_every,
            alive: BTreeSet::new(),
            accepted_at: HashMap::new(),
            given_up: HashMap::new(),
        }
    }

    /// A sample of an earlier process comes back.
    pub(super) fn restored(&mut self, restored: &Restored) {
        let sample = restored.entry.sample;
        match &restored.stored {
            Stored::Running { accepted, .. } => self.alive(sample, *accepted),
            Stored::TimedOut { .. } => self.gave_up(sample, Status::TimedOut),
            Stored::Submitting { .. } | Stored::InDoubt { .. } => {}
        }
    }

    /// A sample that ended like this may end otherwise.
    pub(super) fn gave_up(&mut self, sample: SampleId, status: Status) {
        self.given_up.insert(sample, status);
    }

    fn alive(&mut self, sample: SampleId, accepted: Stamp) {
        self.alive.insert((accepted, sample));
        self.accepted_at.insert(sample, accepted);
    }

    /// A request goes out.
    pub(super) fn request(&mut self, now: Stamp) {
        self.counts.requests += 1;
        self.sent.count(now);
    }

    /// A change is durable.
    pub(super) fn changed(&mut self, change: &Change) {
        match &change.transition {
            Transition::Accepted { cost, .. } => {
                self.counts.accepted += 1;
                self.counts.bought_now = self.counts.bought_now + *cost;
                self.spend(*cost);
                self.alive(change.sample, change.at);
            }
            Transition::Ended { outcome, cost, .. } => {
                self.counts.ended += 1;
                self.spend(*cost);
                let before = self.given_up.remove(&change.sample).unwrap_or(Status::Pending);
                self.counts.tally.shift(before, outcome.status());
                self.gone(change.sample);
            }
            Transition::Found { put_back, .. } => {
                if !put_back {
                    self.counts.tally.shift(Status::Unknown, Status::Pending);
                }
                self.alive(change.sample, change.at);
            }
            Transition::Deferred { .. } => self.gone(change.sample),
            Transition::Intended(_) | Transition::Retracted => {}
        }
    }

    /// Downloads stand so.
    pub(super) const fn downloads(&mut self, standing: Downloads) {
        self.counts.downloads = Some(standing);
    }

    fn gone(&mut self, sample: SampleId) {
        if let Some(accepted) = self.accepted_at.remove(&sample) {
            self.alive.remove(&(accepted, sample));
        }
    }

    fn spend(&mut self, cost: Usd) {
        self.counts.spent = self.counts.spent + cost;
        self.counts.spent_now = self.counts.spent_now + cost;
    }

    /// When the next heartbeat is due.
    pub(super) const fn next_heartbeat(&self) -> Stamp {
        self.next_heartbeat
    }

    /// Whether a heartbeat is due; the next one then is later.
    pub(super) fn heartbeat_due(&mut self, now: Stamp) -> bool {
        let due = now >= self.next_heartbeat;
        if due {
            self.next_heartbeat = now + self.heartbeat_every;
        }
        due
    }

    /// How the run stands.
    pub(super) fn progress(&mut self, schedule: &Schedule, now: Stamp) -> Progress {
        Progress {
            now,
            submitting: schedule.submitting(),
            running: schedule.running(),
            slots_held: schedule.slots_held(),
            requests_last_minute: self.sent.total(now),
            oldest_task: self.alive.first().map(|(accepted, _)| *accepted),
            buying: schedule.halt().is_none(),
            awaited: schedule.awaited_doubts(),
            ..self.counts
        }
    }
}
