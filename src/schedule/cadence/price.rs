//! What a look is worth: the price at which looks are wanted as fast as requests are there for them.
//!
//! In seconds of one idle slot. A price too low has more looks due than the gate lets through, and
//! they are late; a price too high has requests left over. So the price follows how late looks
//! are, slowly enough for plans made at the old price to run out.

use std::time::Duration;

use crate::job::Stamp;

/// No look is made for less: with requests to spare a task is then looked at every two seconds or so
/// when it is about to end, which no one would notice were it more.
const LEAST: f64 = 0.02;
/// Any end is worth a request before that.
const MOST: f64 = 600.0;
/// Where it begins: near where a full account with two-minute tasks settles.
const FIRST: f64 = 0.08;
/// Where callbacks tell of most ends.
const WITH_CALLBACKS: f64 = 0.1;
/// Time between two changes.
const TICK: Duration = Duration::from_secs(2);
/// Looks may be made so long before they are due, when nothing else asks for the request and they
/// cost what they do at first; longer when they are dear, since the time between looks grows with the
/// square root of the price.
const EARLY: Duration = Duration::from_secs(4);

/// The price of a look. See the module.
#[derive(Debug, Clone)]
pub(super) struct Price {
    now: f64,
    fixed: bool,
    changed: Stamp,
    /// Of the looks since then: how many, and by how much they were late, early ones negative.
    looks: f64,
    late: f64,
    /// Whether a request was to be had since then and nothing to look at.
    idle: bool,
}

impl Price {
    pub(super) fn new(called_back: bool, now: Stamp) -> Self {
        let price = if called_back { WITH_CALLBACKS } else { FIRST };
        Self { now: price, fixed: called_back, changed: now, looks: 0.0, late: 0.0, idle: false }
    }

    pub(super) const fn get(&self) -> f64 {
        self.now
    }

    /// How long before it is due a look may be made.
    pub(super) fn early(&self) -> Duration {
        if self.fixed || self.now <= LEAST {
            Duration::ZERO
        } else {
            EARLY.mul_f64((self.now / FIRST).sqrt())
        }
    }

    /// Nothing was worth looking at, early or not.
    pub(super) const fn idle(&mut self) {
        self.idle = true;
    }

    /// A look that was due at `due` is made.
    pub(super) fn looked(&mut self, due: Stamp, now: Stamp) {
        self.looks += 1.0;
        self.late += now.since(due).as_secs_f64() - due.since(now).as_secs_f64();
    }

    /// Adapts, when it is time to.
    pub(super) fn tick(&mut self, now: Stamp) {
        if self.fixed || now.since(self.changed) < TICK {
            return;
        }
        let late = if self.looks > 0.0 { self.late / self.looks } else { 0.0 };
        let factor = if self.idle || late < -0.2 {
            0.9
        } else if late > 0.05 {
            1.05
        } else {
            0.98
        };
        self.now = (self.now * factor).clamp(LEAST, MOST);
        (self.changed, self.looks, self.late, self.idle) = (now, 0.0, 0.0, false);
    }
}
