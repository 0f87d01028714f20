//! How likely tasks of each age are to end, learned from tasks as they are looked at.
//!
//! Ends per second of life, cell by cell: a task that was alive at two looks has lived through the
//! cells between them, and one that has ended did so in the cell of its own lifetime, exact even
//! when it was seen late. So a task tells something long before it ends, and one that never ends
//! tells that too.
//!
//! Few ends say little, so an estimate leans on a broader one where it knows nothing: a kind of video
//! and a stage (`pending`, `processing`) on the kind, the kind on all, and all on a prior guess.

use super::ages;

/// Ends that the broader estimate is worth, in each cell.
const LEANING: f64 = 0.3;
/// Cells to either side whose ends count for a cell too, with falling weight.
const BLUR: usize = 2;
/// The guess before anything is known: most of the vendor's "about 2 minutes", widely spread, and
/// at every age a small chance, without which what ends early or late would never be found out.
const PRIOR_MEAN: f64 = 120.0;
const PRIOR_SIGMA: f64 = 0.5;
const PRIOR_LEAST: f64 = 1.0 / 600.0;

/// Ends per second of life, for each cell.
pub(super) type Hazard = Vec<f64>;

/// What tasks of one sort have done: ends in each cell of ages, and seconds lived in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    ends: Vec<f64>,
    lived: Vec<f64>,
}

/// What is kept of a cell in which something happened: which, ends, seconds lived.
pub(super) type Kept = (usize, f64, f64);

impl Default for Record {
    fn default() -> Self {
        Self { ends: vec![0.0; ages::count()], lived: vec![0.0; ages::count()] }
    }
}

impl Record {
    /// A task that counts `weight` was alive from age `from`, which is in `cell`, to age `to`, in
    /// seconds. Answers the cell of `to`.
    pub(super) fn lived(&mut self, cell: usize, from: f64, to: f64, weight: f64) -> usize {
        let bounds = ages::bounds();
        let (mut cell, mut from) = (cell, from);
        while to >= bounds[cell + 1] && cell + 1 < self.lived.len() {
            self.lived[cell] += (bounds[cell + 1] - from).max(0.0) * weight;
            cell += 1;
            from = bounds[cell];
        }
        self.lived[cell] += (to - from).max(0.0) * weight;
        cell
    }

    /// A task that counts `weight` ended in this cell.
    pub(super) fn ended(&mut self, cell: usize, weight: f64) {
        self.ends[cell] += weight;
    }

    /// Adds what `other` has, each counting `part`.
    pub(super) fn add(&mut self, other: &Self, part: f64) {
        let sum = |mine: &mut [f64], others: &[f64]| {
            mine.iter_mut().zip(others).for_each(|(mine, other)| *mine += other * part);
        };
        sum(&mut self.ends, &other.ends);
        sum(&mut self.lived, &other.lived);
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.ends.iter_mut().chain(&mut self.lived).for_each(|value| *value *= factor);
    }

    /// All ends.
    pub(super) fn total(&self) -> f64 {
        self.ends.iter().sum()
    }

    /// The hazard, leaning on `broader` where little is known.
    pub(super) fn hazard(&self, broader: &[f64]) -> Hazard {
        let cells = broader.iter().enumerate();
        cells
            .map(|(cell, broader)| {
                let near = cell.saturating_sub(BLUR)..(cell + BLUR + 1).min(self.ends.len());
                let (mut ends, mut lived, mut weights) = (0.0, 0.0, 0.0);
                for other in near {
                    let weight = small(BLUR + 1 - other.abs_diff(cell));
                    ends += weight * self.ends[other];
                    lived += weight * self.lived[other];
                    weights += weight;
                }
                (ends / weights + LEANING) / (lived / weights + LEANING / broader)
            })
            .collect()
    }

    /// As it is to be kept, to hundredths.
    pub(super) fn kept(&self) -> Vec<Kept> {
        let round = |value: f64| (value * 1e2).round() / 1e2;
        let cells = self.ends.iter().zip(&self.lived).enumerate();
        let cells = cells.map(|(cell, (ends, lived))| (cell, round(*ends), round(*lived)));
        cells.filter(|(_, ends, lived)| *ends > 0.0 || *lived > 0.0).collect()
    }

    /// From what was kept. What cannot have been kept is left out.
    pub(super) fn revived(kept: &[Kept]) -> Self {
        let mut record = Self::default();
        let is_sound = |value: f64| value.is_finite() && value >= 0.0;
        for (cell, ends, lived) in kept.iter().copied() {
            if cell < record.ends.len() && is_sound(ends) && is_sound(lived) {
                (record.ends[cell], record.lived[cell]) = (ends, lived);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guess_is_the_vendors_two_minutes() {
        let hazard = prior();
        let bounds = ages::bounds();
        let mut alive = 1.0;
        let mut mean = 0.0;
        for (cell, hazard) in bounds.windows(2).zip(&hazard) {
            let then = alive * (-hazard * (cell[1] - cell[0])).exp();
            mean += f64::midpoint(alive, then) * (cell[1] - cell[0]);
            alive = then;
        }
        assert!((100.0..125.0).contains(&mean), "{mean}");
        assert!(hazard.iter().all(|hazard| *hazard >= PRIOR_LEAST));
    }

    #[test]
    fn the_normal_law() {
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (3.0, 0.998_650_1)] {
            assert!((normal_cdf(x) - expected).abs() < 1e-6, "{x}");
        }
    }

    #[test]
    fn life_is_counted_in_the_cells_it_was_lived_in() {
        let mut record = Record::default();
        let cell = record.lived(0, 0.0, 2.5, 1.0);
        assert_eq!((cell, &record.lived[..4]), (2, &[1.0, 1.0, 0.5, 0.0][..]));
        let cell = record.lived(cell, 2.5, 3.0, 2.0);
        assert_eq!((cell, &record.lived[..4]), (3, &[1.0, 1.0, 1.5, 0.0][..]));
        // Nothing is lived backwards, and the last cell holds whatever is older.
        assert_eq!(record.lived(3, 3.0, 2.0, 1.0), 3);
        assert_eq!(record.lived(3, 3.0, 1e9, 1.0), ages::count() - 1);
        let total: f64 = record.lived.iter().sum();
        assert!((total - (1e9 + 0.5)).abs() < 1.0, "{total}");
    }

    #[test]
    fn the_hazard_is_that_of_the_tasks_and_leans_where_there_are_none() {
        let mut record = Record::default();
        for task in 0..2_000 {
            // Even over 60 to 80 s: of those alive at age a, 1 / (80 − a) a second end.
            let ends = 60.0 + f64::from(task % 200) / 10.0;
            let cell = record.lived(0, 0.0, ends, 1.0);
            record.ended(cell, 1.0);
        }
        let guess = prior();
        let hazard = record.hazard(&guess);
        for age in [64.0, 68.0, 72.0] {
            let ratio = hazard[ages::cell(age)] * (80.0 - age);
            assert!((0.85..1.2).contains(&ratio), "{ratio} at {age}");
        }
        assert!(hazard[ages::cell(30.0)] < 1.0 / 4_000.0);
        let old = ages::cell(500.0);
        assert!((hazard[old] / guess[old] - 1.0).abs() < 1e-9, "nothing is known of such an age");
    }

    #[test]
    fn what_is_kept_comes_back_and_nonsense_does_not() {
        let mut record = Record::default();
        let cell = record.lived(0, 0.0, 75.0, 1.0);
        record.ended(cell, 1.0);
        let kept = record.kept();
        assert_eq!(Record::revived(&kept).kept(), kept);
        let nonsense = [(usize::MAX, 1.0, 1.0), (3, f64::NAN, 1.0), (4, 1.0, f64::INFINITY), (5, -1.0, 2.0)];
        assert_eq!(Record::revived(&nonsense), Record::default());
    }
}
