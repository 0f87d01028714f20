//! How likely tasks of each age are to end, learned from tasks as they are looked at.
//!
//! Ends per second of life, cell by cell: a task that was alive at two looks has lived through the
//! cells between them, and one that has ended did so in the cell of its own lifetime, exact even
//! when it was seen late. So a task tells something long before it ends, and one that never ends
//! tells that too. Recent tasks weigh more: each end makes everything before it count a little less.
//!
//! Few ends say little, so an estimate leans on a broader one where it knows nothing: a kind of video
//! and a stage (`pending`, `processing`) on the kind, the kind on all, and all on a prior guess.

use super::ages;

/// After so many more ends, what was learned counts `1/e` of what it did. A thousand slots turn over
/// in less, and a thousand ends give every cell within a tenth of its value.
const MEMORY: f64 = 1_500.0;
/// Ends that the broader estimate is worth, in each cell.
const LEANING: f64 = 0.3;
/// Cells to either side whose ends count for a cell too, with falling weight.
const BLUR: usize = 2;
/// Weights never grow beyond this; then all are divided by it.
const RENORM: f64 = 1e9;

/// The guess before anything is known: most of the vendor's "about 2 minutes", widely spread, and
/// at every age a small chance, without which what ends early or late would never be found out.
const PRIOR_MEAN: f64 = 120.0;
const PRIOR_SIGMA: f64 = 0.5;
const PRIOR_LEAST: f64 = 1.0 / 600.0;

/// Ends per second of life, for each cell.
pub(super) type Hazard = Vec<f64>;

/// What tasks of one sort have done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Ends in each cell, and seconds lived in it, both times `weight` at the time.
    ends: Vec<f64>,
    lived: Vec<f64>,
    /// What an end counts now.
    weight: f64,
}

impl Default for Record {
    fn default() -> Self {
        Self { ends: vec![0.0; ages::count()], lived: vec![0.0; ages::count()], weight: 1.0 }
    }
}

impl Record {
    /// A task was alive from age `from` to age `to`, in seconds.
    pub(super) fn lived(&mut self, from: f64, to: f64) {
        let bounds = ages::bounds();
        let mut cell = ages::cell(from);
        let mut from = from.max(0.0);
        while from < to && cell < self.lived.len() {
            let until = bounds[cell + 1].min(to);
            self.lived[cell] += (until - from).max(0.0) * self.weight;
            from = until;
            cell += 1;
        }
    }

    /// A task ended at this age.
    pub(super) fn ended(&mut self, age: f64) {
        self.weight *= 1.0 + 1.0 / MEMORY;
        self.ends[ages::cell(age)] += self.weight;
        if self.weight > RENORM {
            self.scale(1.0 / self.weight);
            self.weight = 1.0;
        }
    }

    fn scale(&mut self, factor: f64) {
        self.ends.iter_mut().chain(&mut self.lived).for_each(|value| *value *= factor);
    }

    /// The hazard, leaning on `broader` where little is known.
    pub(super) fn hazard(&self, broader: &[f64]) -> Hazard {
        let blurred = |values: &[f64], cell: usize| {
            let near = cell.saturating_sub(BLUR)..(cell + BLUR + 1).min(values.len());
            let weighed = near.map(|other| {
                let weight = small(BLUR + 1 - other.abs_diff(cell));
                (weight * values[other], weight)
            });
            let (sum, weights) =
                weighed.fold((0.0, 0.0), |(sum, weights), (value, weight)| (sum + value, weights + weight));
            sum / weights / self.weight
        };
        broader
            .iter()
            .enumerate()
            .map(|(cell, broader)| {
                (blurred(&self.ends, cell) + LEANING) / (blurred(&self.lived, cell) + LEANING / broader)
            })
            .collect()
    }

    /// As it is to be kept: what each end is worth now taken out, and hundredths beyond that.
    pub(super) fn kept(&self) -> Vec<(usize, f64, f64)> {
        let round = |value: f64| (value / self.weight * 1e2).round() / 1e2;
        let cells = self.ends.iter().zip(&self.lived).enumerate();
        let cells = cells.map(|(cell, (ends, lived))| (cell, round(*ends), round(*lived)));
        cells.filter(|(_, ends, lived)| *ends > 0.0 || *lived > 0.0).collect()
    }

    /// What was kept, as if of no more than `most` ends: a new process does not know how old it is.
    pub(super) fn revived(kept: &[(usize, f64, f64)], most: f64) -> Self {
        let mut record = Self::default();
        let is_sound = |value: f64| value.is_finite() && value >= 0.0;
        for (cell, ends, lived) in kept.iter().copied() {
            if cell < record.ends.len() && is_sound(ends) && is_sound(lived) {
                (record.ends[cell], record.lived[cell]) = (ends, lived);
            }
        }
        let ends: f64 = record.ends.iter().sum();
        if ends > most {
            record.scale(most / ends);
        }
        record
    }
}

/// The hazard before anything is known.
pub(super) fn prior() -> Hazard {
    let location = PRIOR_MEAN.ln() - PRIOR_SIGMA * PRIOR_SIGMA / 2.0;
    let survival = |age: f64| 1.0 - normal_cdf((age.max(1e-9).ln() - location) / PRIOR_SIGMA);
    let cell = |pair: &[f64]| {
        let (before, after) = (survival(pair[0]), survival(pair[1]));
        let hazard = if after > 1e-6 { (before / after).ln() / (pair[1] - pair[0]) } else { 0.0 };
        hazard.max(PRIOR_LEAST)
    };
    ages::bounds().windows(2).map(cell).collect()
}

/// The normal distribution function, to about seven digits (Abramowitz and Stegun 26.2.17).
fn normal_cdf(x: f64) -> f64 {
    const TERMS: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let series = TERMS.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let tail = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * series;
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[expect(clippy::cast_precision_loss, reason = "a small whole number")]
const fn small(number: usize) -> f64 {
    number as f64
}
