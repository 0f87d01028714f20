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
/// Where callbacks are expected, it falls no lower than this: looks are for those that get lost.
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
    /// How long before it is due a look may be made.
    early: Duration,
    /// It falls no lower.
    least: f64,
    changed: Stamp,
    /// Of the looks since then: how many, and by how much they were late, early ones negative.
    looks: f64,
    late: f64,
    /// Whether a request was to be had since then and nothing to look at.
    idle: bool,
}

impl Price {
    pub(super) fn new(called_back: bool, now: Stamp) -> Self {
        let (price, least) = if called_back { (WITH_CALLBACKS, WITH_CALLBACKS) } else { (FIRST, LEAST) };
        let mut new = Self {
            now: price,
            early: Duration::ZERO,
            least,
            changed: now,
            looks: 0.0,
            late: 0.0,
            idle: false,
        };
        new.set(price);
        new
    }

    fn set(&mut self, price: f64) {
        self.now = price.clamp(self.least, MOST);
        let spare = self.now > self.least;
        self.early = if spare { EARLY.mul_f64((self.now / FIRST).sqrt()) } else { Duration::ZERO };
    }

    pub(super) const fn get(&self) -> f64 {
        self.now
    }

    /// How long before it is due a look may be made.
    pub(super) const fn early(&self) -> Duration {
        self.early
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
        if now.since(self.changed) < TICK {
            return;
        }
        // Nothing went out: a pause says nothing about what looks are worth.
        if self.looks == 0.0 && !self.idle {
            self.changed = now;
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
        self.set(self.now * factor);
        (self.changed, self.looks, self.late, self.idle) = (now, 0.0, 0.0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The price after looks that were each so many seconds late, or early.
    fn after(price: &mut Price, ticks: u64, late: f64) -> f64 {
        for _ in 0..ticks {
            let now = price.changed + TICK;
            let shift = Duration::from_secs_f64(late.abs());
            let due = if late < 0.0 { now + shift } else { now.before(shift) };
            price.looked(due, now);
            price.tick(now);
        }
        price.get()
    }

    #[test]
    fn it_follows_how_late_looks_are() {
        let mut price = Price::new(false, Stamp::BIRTH);
        let start = price.get();
        let risen = after(&mut price, 20, 2.0);
        assert!(risen > 2.0 * start, "{risen}");
        assert!(after(&mut price, 20, -2.0) < risen / 4.0);
        for late in [1e6, -1e6] {
            let bound = after(&mut price, 5_000, late);
            assert!((LEAST..=MOST).contains(&bound), "{bound}");
        }
        assert_eq!(price.early(), Duration::ZERO, "nothing is bought below the least price");
        // Nothing moves it between two ticks.
        let before = price.get();
        price.idle();
        price.tick(price.changed + TICK / 2);
        assert!((price.get() - before).abs() < 1e-12);
    }

    #[test]
    fn requests_to_spare_make_it_fall_and_a_pause_leaves_it() {
        let mut price = Price::new(false, Stamp::BIRTH);
        for tick in 1..30 {
            price.idle();
            price.tick(Stamp::BIRTH + TICK * tick);
        }
        assert!(price.get() <= LEAST);
        // Where callbacks are expected it begins at its least, and rises where looks are late all the same.
        let mut with_callbacks = Price::new(true, Stamp::BIRTH);
        assert!((after(&mut with_callbacks, 50, -3.0) - WITH_CALLBACKS).abs() < 1e-12);
        let risen = after(&mut with_callbacks, 50, 3.0);
        assert!(risen > 2.0 * WITH_CALLBACKS);
        with_callbacks.tick(with_callbacks.changed + TICK * 100);
        assert!((with_callbacks.get() - risen).abs() < 1e-12);
    }
}
