//! The looks that are to come, and what each that was made has told.

use std::time::Duration;

use super::allotment::Allotment;
use super::learning::{Learned, Learning};
use super::price::Price;
use super::{Cadence, FLOOR, ages, next_fixed};
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
    /// When it was last known to be alive, and the cell of its age then.
    alive: Stamp,
    pub(super) cell: usize,
    /// Whether a callback is to tell its end. Of a task that came back from the state file it may have
    /// come while nobody listened.
    pub(in crate::schedule) called_back: bool,
    /// Whether it has been watched from its acceptance on. Of one that came back from the state file, or
    /// was found after a doubt, nothing is learned: its age is a guess, or an earlier process has counted
    /// its life.
    watched: bool,
    /// When it was last asked about, whether or not that told anything.
    pub(in crate::schedule) last_look: Option<Stamp>,
}

impl Sight {
    /// A task that is accepted now.
    pub(in crate::schedule) const fn accepted(kind: Kind, now: Stamp, called_back: bool) -> Self {
        Self {
            kind,
            stage: Stage::Unnamed,
            accepted: now,
            alive: now,
            cell: 0,
            called_back,
            watched: true,
            last_look: None,
        }
    }

    /// A task that was accepted at about this time and has not been watched since.
    pub(in crate::schedule) const fn unwatched(kind: Kind, accepted: Stamp, called_back: bool) -> Self {
        Self { watched: false, ..Self::accepted(kind, accepted, called_back) }
    }

    /// How old it was when it was last known to be alive.
    pub(in crate::schedule) const fn lived(&self) -> Duration {
        self.alive.since(self.accepted)
    }

    fn age(&self, at: Stamp) -> f64 {
        at.since(self.accepted).as_secs_f64()
    }

    /// Its age when it was last known to be alive, in seconds.
    pub(super) fn age_alive(&self) -> f64 {
        self.age(self.alive)
    }
}

/// When each task that is watched is to be looked at next.
#[derive(Debug)]
pub(in crate::schedule) struct Lookout {
    looks: Timers,
    manner: Manner,
    /// Where looks may not use all that is left.
    allotment: Option<Allotment>,
    /// When what was learned was kept last.
    kept: Stamp,
}

/// By what looks are planned.
#[derive(Debug)]
enum Manner {
    Fixed { first: Duration, every: Duration },
    Learned { learning: Box<Learning>, price: Price },
}

impl Lookout {
    pub(in crate::schedule) fn new(config: &Config, now: Stamp) -> Self {
        let Config { cadence, called_back, poll_share, .. } = *config;
        let manner = match cadence {
            Cadence::Fixed { first, every } => Manner::Fixed { first, every },
            Cadence::Learned => Manner::Learned {
                learning: Box::new(Learning::new(called_back)),
                price: Price::new(called_back, now),
            },
        };
        Self { looks: Timers::default(), manner, allotment: Allotment::new(poll_share, now), kept: now }
    }

    /// Goes on from what an earlier process has learned.
    pub(in crate::schedule) fn recall(&mut self, learned: &Learned) {
        if let Manner::Learned { learning, .. } = &mut self.manner {
            learning.recall(learned);
        }
    }

    /// What the next process is to know; nothing, where nothing is learned.
    pub(in crate::schedule) fn learned(&self) -> Option<Learned> {
        match &self.manner {
            Manner::Learned { learning, .. } => Some(learning.learned()),
            Manner::Fixed { .. } => None,
        }
    }

    /// The same, when it was kept long enough ago.
    pub(in crate::schedule) fn learned_to_keep(&mut self, now: Stamp) -> Option<Learned> {
        if now.since(self.kept) < KEEP_EVERY {
            return None;
        }
        self.kept = now;
        self.learned()
    }

    /// A request goes out that is no look.
    pub(in crate::schedule) fn other_request(&mut self) {
        if let Some(allotment) = &mut self.allotment {
            allotment.others();
        }
    }

    /// Sets the next look at a task; the token names it, and an earlier one of the task goes stale. At
    /// `overdue` it is given up on, so that a look is worth making then whatever was learned.
    pub(in crate::schedule) fn schedule(&mut self, sample: SampleId, sight: &Sight, overdue: Stamp) -> Token {
        let due = match &mut self.manner {
            Manner::Fixed { first, every } => next_fixed(*first, *every, sight.accepted, sight.last_look),
            Manner::Learned { learning, price } => {
                // A look that told nothing counts as one that found it alive: the next is no sooner.
                let from = sight.last_look.map_or(sight.alive, |last| last.max(sight.alive));
                let age = sight.age(from);
                let cell = if from == sight.alive { sight.cell } else { ages::cell(age) };
                let next = learning.next_age(sight, cell, age, price.get());
                let due = sight.accepted + Duration::try_from_secs_f64(next).unwrap_or(FLOOR);
                if from < overdue { due.min(overdue) } else { due }
            }
        };
        self.looks.set(sample, due)
    }

    /// Sets the next look at a task to now, or when the floor allows it, whatever was planned.
    pub(in crate::schedule) fn look_now(&mut self, sample: SampleId, sight: &Sight, now: Stamp) -> Token {
        self.looks.set(sample, sight.last_look.map_or(now, |last| now.max(last + FLOOR)))
    }

    /// The look that is worth most, and from when on it is worth a request. Its token may have gone stale.
    pub(in crate::schedule) fn next(&mut self, now: Stamp) -> Option<(Stamp, SampleId, Token)> {
        let (due, sample, token) = self.looks.first()?;
        let Manner::Learned { price, .. } = &mut self.manner else { return Some((due, sample, token)) };
        price.tick(now);
        let at = due.before(price.early());
        if at > now {
            price.idle();
        }
        Some((at, sample, token))
    }

    /// The look that [`Lookout::next`] gave is wanted no longer.
    pub(in crate::schedule) fn forget(&mut self) {
        self.looks.pop();
    }

    /// Until when a look at this task waits, however much it is worth: for the floor, and for the part of
    /// requests that looks may use. `spacing` is the time between two that the gate lets through.
    pub(in crate::schedule) fn not_before(&mut self, sight: &Sight, spacing: Duration, now: Stamp) -> Stamp {
        let floor = sight.last_look.map_or(Stamp::BIRTH, |last| last + FLOOR);
        floor.max(self.allotment.as_mut().map_or(now, |allotment| allotment.ready_at(spacing, now)))
    }

    /// The look that [`Lookout::next`] gave is made.
    pub(in crate::schedule) fn made(&mut self, now: Stamp) {
        if let (Manner::Learned { price, .. }, Some((due, ..))) = (&mut self.manner, self.looks.first()) {
            price.looked(due, now);
        }
        self.looks.pop();
        if let Some(allotment) = &mut self.allotment {
            allotment.take();
        }
    }

    /// A task was alive when it was looked at, and in this stage.
    pub(in crate::schedule) fn alive(&mut self, sight: &mut Sight, stage: Stage, looked: Stamp) {
        if looked > sight.alive {
            if let Manner::Learned { learning, .. } = &mut self.manner {
                let age = sight.age(looked);
                sight.cell = if sight.watched { learning.lived(sight, age) } else { ages::cell(age) };
            }
            sight.alive = looked;
        }
        sight.stage = stage;
    }

    /// A task was told to have ended, after a life of `lifetime` if the API says so.
    pub(in crate::schedule) fn ended(&mut self, sight: &Sight, lifetime: Option<Duration>, told: Told) {
        let Manner::Learned { learning, .. } = &mut self.manner else { return };
        if !sight.watched {
            return;
        }
        let (Told::Look(at) | Told::Callback(at)) = told;
        let (alive, found) = (sight.age_alive(), sight.age(at));
        let age = match (lifetime, told) {
            // Neither before it was seen alive nor after it was told to have ended, whatever clocks say.
            (Some(life), _) => life.as_secs_f64().clamp(alive, found.max(alive)),
            (None, Told::Look(_)) => f64::midpoint(alive, found),
            // It comes at the end.
            (None, Told::Callback(_)) => found.max(alive),
        };
        learning.ended(sight, age);
        let in_time = found - age <= CALLBACK_ON_ITS_WAY.as_secs_f64();
        match told {
            Told::Callback(_) => learning.called_back(true),
            Told::Look(_) if sight.called_back && !in_time => learning.called_back(false),
            Told::Look(_) => {}
        }
    }
}
