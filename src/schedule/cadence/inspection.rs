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

/// Intervals of fewer cells than this are not worth searching for.
const DENSE: f64 = 2.0;

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
        let survives: Vec<f64> = hazard
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
            // Where several looks fall into one or two cells, the hazard is the same between them.
            let (hazard, width) = (hazard[from], bounds[from + 1] - bounds[from]);
            let dense = (2.0 * price / (missed * hazard)).sqrt().max(1.0);
            if dense < DENSE * width {
                let survives = survives[from];
                let idle = price / dense + missed * hazard * dense / 2.0;
                cost_from[from] = idle * (1.0 - survives) / hazard + survives * cost_from[from + 1];
                next[from] = bounds[from] + dense;
                continue;
            }
            let (mut alive, mut idle) = (1.0, 0.0);
            let mut best =
                Best { at: cells, cost: f64::INFINITY, before: f64::INFINITY, after: f64::INFINITY };
            let mut previous = f64::INFINITY;
            for to in from + 1..=cells {
                let then = alive * survives[to - 1];
                idle += (bounds[to] - bounds[to - 1]) * (1.0 - f64::midpoint(alive, then));
                alive = then;
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

    /// At which age to look next at a task that was alive at `age`, which is in `cell`, in seconds.
    pub(super) fn next_age(&self, cell: usize, age: f64) -> f64 {
        let bounds = ages::bounds();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cadence::hazard::prior;

    /// The ages of all looks at a task that lives on, up to `until`.
    fn looks(plan: &Plan, until: f64) -> Vec<f64> {
        let next = |age: &f64| Some(plan.next_age(ages::cell(*age), *age)).filter(|age| *age < until);
        std::iter::successors(next(&0.0), next).collect()
    }

    #[test]
    fn an_even_hazard_is_looked_at_evenly() {
        // Of the best intervals Δ, e^(hΔ) − 1 − hΔ = h · price, which is near √(2 · price / h).
        for (hazard, price) in [(0.01, 0.08), (0.05, 0.4), (0.002, 0.1)] {
            let plan = Plan::new(&vec![hazard; ages::count()], price, 1.0);
            let looks = looks(&plan, 900.0);
            for pair in looks.windows(2) {
                let interval = pair[1] - pair[0];
                let x = hazard * interval;
                let worth = (x.exp() - 1.0 - x) / hazard;
                assert!(
                    (0.7..1.4).contains(&(worth / price)),
                    "{interval} at {} for {hazard}, {price}",
                    pair[0]
                );
            }
        }
    }

    #[test]
    fn looks_gather_where_tasks_end() {
        // Nothing ends before 100 s, all by 140 s or so, few later.
        let bounds = ages::bounds();
        let hazard: Vec<f64> = bounds[..ages::count()]
            .iter()
            .map(|age| if (100.0..140.0).contains(age) { 0.1 } else { 0.000_1 })
            .collect();
        let looks = looks(&Plan::new(&hazard, 0.08, 1.0), 400.0);
        let within = |from: f64, to: f64| looks.iter().filter(|age| (from..to).contains(*age)).count();
        assert!(within(0.0, 99.0) <= 3, "{looks:?}");
        assert!(within(100.0, 142.0) >= 20, "{looks:?}");
        assert!(within(150.0, 400.0) <= 8, "{looks:?}");
        assert!(looks.windows(2).all(|pair| pair[1] - pair[0] >= 0.99), "{looks:?}");
    }

    #[test]
    fn looks_are_fewer_when_dear_and_where_callbacks_tell() {
        let hazard = prior();
        let count = |price, missed| looks(&Plan::new(&hazard, price, missed), 300.0).len();
        assert!(count(0.02, 1.0) > count(0.08, 1.0) && count(0.08, 1.0) > 2 * count(0.8, 1.0));
        assert!(count(0.1, 0.2) * 3 < count(0.1, 1.0) * 2);
        assert!(count(0.1, 0.001) * 6 < count(0.1, 1.0));
    }

    #[test]
    fn what_never_ends_is_looked_at_now_and_then() {
        let plan = Plan::new(&vec![1e-9; ages::count()], 600.0, 1.0);
        for age in [0.0, 5_000.0, 20_000.0] {
            let next = plan.next_age(ages::cell(age), age) - age;
            assert!((1.0..=1.5 * LONGEST).contains(&next), "{next} at {age}");
        }
    }

    #[test]
    fn no_plan_costs_less() {
        // Each look of a plan in the prior's hazard, moved by a second either way, costs more or the same.
        let (hazard, price) = (prior(), 0.08);
        let plan = looks(&Plan::new(&hazard, price, 1.0), 2_000.0);
        let survival = |age: f64| {
            let cells = ages::bounds().windows(2).zip(&hazard);
            (-cells.map(|(cell, hazard)| hazard * (age.min(cell[1]) - cell[0]).max(0.0)).sum::<f64>()).exp()
        };
        // Expected idle time and looks; S is integrated a quarter of a second at a time.
        let cost = |looks: &[f64]| {
            let mut last = 0.0;
            let of_look = |look: &f64| {
                let steps = ((look - last) * 4.0).ceil();
                let (from, step) = (last, (look - last) / steps);
                last = *look;
                let mut alive = 0.0;
                let mut at = from + step / 2.0;
                while at < *look {
                    alive += survival(at) * step;
                    at += step;
                }
                price * survival(from) + survival(from) * (look - from) - alive
            };
            looks.iter().map(of_look).sum::<f64>()
        };
        let best = cost(&plan[..40]);
        for place in [0, 3, 8, 15, 25] {
            for moved in [-1.0, 1.0] {
                let mut other = plan[..40].to_vec();
                other[place] += moved;
                assert!(cost(&other) > best - 0.002, "look {place} moved by {moved}");
            }
        }
    }
}
