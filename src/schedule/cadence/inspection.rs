//! When to look at a task next, for what a look costs and how tasks end.
//!
//! The inspection problem of reliability theory (Barlow, Hunter and Proschan, 1963): a slot is idle
//! from the end of its task until the look that finds it, and a look costs so many seconds of an idle
//! slot. The least total over the whole life of a task follows backwards from the greatest age:
//! from age `a`, alive, the best next look is the one that costs least in idle time until then, in the
//! look itself, and in what is left to do if the task is alive. Where the hazard hardly changes
//! between two looks, that is to look when `h·Δ²/2` reaches the price; where it does change, as
//! before the first look, it is better.
//!
//! With callbacks only an end whose callback gets lost leaves a slot idle, and a task that was called
//! back for needs no look.

use super::ages;

/// The longest time between two looks, in seconds: what never seems to end is not forgotten.
const LONGEST: f64 = 120.0;
/// The same where a callback is expected.
const LONGEST_WITH_CALLBACKS: f64 = 600.0;

/// For each age, the age at which to look next.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    next: Vec<f64>,
}

/// The best choice so far, with the costs of the choices to either side of it.
struct Best {
    at: usize,
    cost: f64,
    before: f64,
    after: f64,
}

impl Plan {
    /// The best plan for this hazard (ends per second, by cell) and this price of a look, in seconds
    /// of one idle slot. `missed` is the share of ends that only a look tells of: 1 without callbacks.
    pub(super) fn new(hazard: &[f64], price: f64, missed: f64) -> Self {
        let bounds = ages::bounds();
        let cells = hazard.len();
        let longest = if missed < 1.0 { LONGEST_WITH_CALLBACKS } else { LONGEST };
        // The chance to live through each cell.
        let lives: Vec<f64> = hazard
            .iter()
            .zip(bounds.windows(2))
            .map(|(hazard, cell)| (-hazard * (cell[1] - cell[0])).exp())
            .collect();
        let mut next = vec![0.0; cells + 1];
        let mut cost_from = vec![0.0; cells + 1];
        // Beyond the grid the hazard stays as it is in the last cell.
        let last = hazard.last().copied().unwrap_or(1.0).max(1e-9);
        let interval = (2.0 * price / (missed * last)).sqrt().clamp(1.0, longest);
        next[cells] = bounds[cells] + interval;
        cost_from[cells] = (price / interval + missed * last * interval / 2.0) / last;
        for from in (0..cells).rev() {
            let (mut alive, mut idle) = (1.0, 0.0);
            let mut best =
                Best { at: cells, cost: f64::INFINITY, before: f64::INFINITY, after: f64::INFINITY };
            let mut previous = f64::INFINITY;
            for to in from + 1..=cells {
                let lived = alive * lives[to - 1];
                idle += (bounds[to] - bounds[to - 1]) * (1.0 - (alive + lived) / 2.0);
                alive = lived;
                let looks = alive + missed * (1.0 - alive);
                let cost = missed * idle + price * looks + alive * cost_from[to];
                if cost < best.cost {
                    best = Best { at: to, cost, before: previous, after: f64::INFINITY };
                } else if to == best.at + 1 {
                    best.after = cost;
                }
                previous = cost;
                if missed * idle > best.cost || bounds[to] - bounds[from] >= longest {
                    break;
                }
            }
            cost_from[from] = best.cost;
            next[from] = best.between_bounds(bounds).max(bounds[from] + bounds[1]);
        }
        Self { next }
    }

    /// At which age to look next at a task that was alive at `age`, both in seconds.
    pub(super) fn next_age(&self, age: f64) -> f64 {
        let bounds = ages::bounds();
        let cell = ages::cell(age);
        let (start, end) = (bounds[cell], bounds[cell + 1]);
        let part = ((age - start) / (end - start)).clamp(0.0, 1.0);
        let next = self.next[cell] * (1.0 - part) + self.next[cell + 1] * part;
        // Beyond the grid the last interval goes on.
        next + (age - end).max(0.0)
    }
}

impl Best {
    /// The least cost lies near the best bound: at the vertex of the parabola through it and its
    /// neighbours.
    fn between_bounds(&self, bounds: &[f64]) -> f64 {
        let middle = bounds[self.at];
        let Some(right) =
            bounds.get(self.at + 1).filter(|_| self.before.is_finite() && self.after.is_finite())
        else {
            return middle;
        };
        let left = bounds[self.at - 1];
        let rise_left = (self.cost - self.before) / (middle - left);
        let rise_right = (self.after - self.cost) / (right - middle);
        let bend = rise_right - rise_left;
        if bend <= 1e-12 {
            return middle;
        }
        // Where the slope, which is each rise in the middle of its side, is nothing.
        let from = f64::midpoint(left, middle);
        let vertex = from - rise_left * (f64::midpoint(middle, *right) - from) / bend;
        vertex.clamp(left, *right)
    }
}
