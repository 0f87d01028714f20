//! The looks that are to come, and what each that was made has told.

use std::time::Duration;

use super::allotment::Allotment;
use super::learning::{Learned, Learning};
use super::price::Price;
use super::{Cadence, FLOOR, next_fixed};
use crate::api::Stage;
use crate::generation::Kind;
use crate::job::{SampleId, Stamp};
use crate::schedule::Config;
use crate::schedule::timers::{Timers, Token};

/// A callback may be on its way for so long after its task has ended; an end that a look finds later
/// than that has none.
const CALLBACK_ON_ITS_WAY: Duration = Duration::from_secs(5);

/// What was learned is kept so often: what a crash forgets is learned again in as long.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// What told the end of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schedule) enum Told {
    /// A look made then.
    Look(Stamp),
    /// A callback that came then.
    Callback(Stamp),
}

/// What is known of a task that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schedule) struct Sight {
    /// What is being made.
    pub(in crate::schedule) kind: Kind,
    /// How far it was when it was last seen.
    pub(in crate::schedule) stage: Stage,
    /// When it was accepted.
    pub(in crate::schedule) accepted: Stamp,
    /// When it was last known to be alive.
    pub(in crate::schedule) alive: Stamp,
    /// Whether a callback is to tell its end. Of a task that came back from the state file it may have
    /// come while nobody listened.
    pub(in crate::schedule) called_back: bool,
    /// When it was last asked about, whether or not that told anything.
    pub(in crate::schedule) last_look: Option<Stamp>,
}

impl Sight {
    pub(in crate::schedule) const fn new(kind: Kind, accepted: Stamp, called_back: bool) -> Self {
        Self { kind, stage: Stage::Unnamed, accepted, alive: accepted, called_back, last_look: None }
    }

    fn age(&self, at: Stamp) -> f64 {
        at.since(self.accepted).as_secs_f64()
    }
}

/// When each task that is watched is to be looked at next.
#[derive(Debug)]
pub(in crate::schedule) struct Lookout {
    cadence: Cadence,
    called_back: bool,
    looks: Timers,
    learning: Learning,
    price: Price,
    /// Where looks may not use all that is left.
    allotment: Option<Allotment>,
    /// When what was learned was kept last.
    kept: Stamp,
}

impl Lookout {
    pub(in crate::schedule) fn new(config: &Config, now: Stamp) -> Self {
        let Config { cadence, called_back, poll_share, .. } = *config;
        Self {
            cadence,
            called_back,
            looks: Timers::default(),
            learning: Learning::new(called_back, None),
            price: Price::new(called_back, now),
            allotment: Allotment::new(poll_share, now),
            kept: now,
        }
    }

    /// Goes on from what an earlier process has learned.
    pub(in crate::schedule) fn recall(&mut self, learned: &Learned) {
        self.learning = Learning::new(self.called_back, Some(learned));
    }

    /// What the next process is to know.
    pub(in crate::schedule) fn learned(&self) -> Learned {
        self.learning.learned()
    }

    /// The same, when it was kept long enough ago.
    pub(in crate::schedule) fn learned_to_keep(&mut self, now: Stamp) -> Option<Learned> {
        if now.since(self.kept) < KEEP_EVERY {
            return None;
        }
        self.kept = now;
        Some(self.learned())
    }

    /// A request goes out that is no look.
    pub(in crate::schedule) fn other_request(&mut self) {
        if let Some(allotment) = &mut self.allotment {
            allotment.others();
        }
    }

    /// Sets the next look at a task; the token names it, and an earlier one of the task goes stale.
    pub(in crate::schedule) fn schedule(&mut self, sample: SampleId, sight: &Sight) -> Token {
        let due = match self.cadence {
            Cadence::Fixed { first, every } => next_fixed(first, every, sight.accepted, sight.last_look),
            Cadence::Learned => {
                // A look that told nothing counts as one that found it alive: the next is no sooner.
                let from = sight.last_look.map_or(sight.alive, |last| last.max(sight.alive));
                let next = self.learning.next_age(sight, sight.age(from), self.price.get());
                sight.accepted + Duration::try_from_secs_f64(next).unwrap_or(FLOOR)
            }
        };
        self.looks.set(sample, due)
    }

    /// Sets the next look at a task to `at`, or when the floor allows it, whatever was planned.
    pub(in crate::schedule) fn look_at(&mut self, sample: SampleId, at: Stamp) -> Token {
        self.looks.set(sample, at)
    }

    /// The look that is worth most now, if any is, or when one may be. `is_current` tells whether a
    /// token is its sample's newest, and when that was looked at last; `spacing` is the time between two
    /// requests that the gate lets through.
    pub(in crate::schedule) fn next(
        &mut self,
        spacing: Duration,
        now: Stamp,
        is_current: impl Fn(SampleId, Token) -> Option<Option<Stamp>>,
    ) -> Option<(Stamp, SampleId)> {
        self.price.tick(now);
        while let Some((due, sample, token)) = self.looks.first() {
            let Some(last_look) = is_current(sample, token) else {
                self.looks.pop();
                continue;
            };
            let floor = last_look.map_or(Stamp::BIRTH, |last| last + FLOOR);
            let early = Stamp::BIRTH + due.since(Stamp::BIRTH).saturating_sub(self.early());
            let at = early.max(floor);
            if at > now {
                self.price.idle();
                return Some((at, sample));
            }
            let ready = self.allotment.as_mut().map_or(now, |allotment| allotment.ready_at(spacing, now));
            return Some((ready, sample));
        }
        None
    }

    fn early(&self) -> Duration {
        match self.cadence {
            Cadence::Learned => self.price.early(),
            Cadence::Fixed { .. } => Duration::ZERO,
        }
    }

    /// The look that [`Lookout::next`] gave is made.
    pub(in crate::schedule) fn made(&mut self, now: Stamp) {
        if let Some((due, ..)) = self.looks.first() {
            self.price.looked(due, now);
        }
        self.looks.pop();
        if let Some(allotment) = &mut self.allotment {
            allotment.take();
        }
    }

    /// A task was alive when it was looked at, and in this stage.
    pub(in crate::schedule) fn alive(&mut self, sight: &mut Sight, stage: Stage, looked: Stamp) {
        if looked > sight.alive {
            self.learning.lived(sight, sight.age(sight.alive), sight.age(looked));
            sight.alive = looked;
        }
        sight.stage = stage;
    }

    /// A task was told to have ended, after a life of `lifetime` if the API says so.
    pub(in crate::schedule) fn ended(&mut self, sight: &Sight, lifetime: Option<Duration>, told: Told) {
        let (Told::Look(at) | Told::Callback(at)) = told;
        let (alive, found) = (sight.age(sight.alive), sight.age(at));
        // Neither before it was seen alive nor after it was told to have ended, whatever clocks say.
        let age = lifetime
            .map_or(f64::midpoint(alive, found), |life| life.as_secs_f64().clamp(alive, found.max(alive)));
        self.learning.lived(sight, alive, age);
        self.learning.ended(sight, age);
        let in_time = found - age <= CALLBACK_ON_ITS_WAY.as_secs_f64();
        match told {
            Told::Callback(_) => self.learning.called_back(true),
            Told::Look(_) if sight.called_back && !in_time => self.learning.called_back(false),
            Told::Look(_) => {}
        }
    }
}
