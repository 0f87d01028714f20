//! The grid of ages over which is learned and planned.
//!
//! Cells of a second, and from about a minute on of a sixty-fourth of their age, up to three hours:
//! finer than any spread that was seen, and few enough to plan over in a blink.

use std::sync::LazyLock;

/// The width of the first cells, in seconds: the least time between two looks.
const FINEST: f64 = 1.0;
/// A cell is no wider than this part of its age.
const RATIO: f64 = 1.0 / 64.0;
/// Where the grid ends, in seconds. Older tasks are treated as the last cell.
const END: f64 = 3.0 * 3_600.0;

/// Where each cell begins, in seconds, and where the last one ends.
static BOUNDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let next = |start: &f64| (*start < END).then(|| start + FINEST.max(start * RATIO));
    std::iter::successors(Some(0.0), next).collect()
});

/// How many cells there are.
pub(super) fn count() -> usize {
    BOUNDS.len() - 1
}

/// Where each cell begins, and where the last one ends; one more than there are cells.
pub(super) fn bounds() -> &'static [f64] {
    &BOUNDS
}

/// The cell that holds `age`, in seconds; the last one for any that is higher.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small age in seconds")]
pub(super) fn cell(age: f64) -> usize {
    let last = count() - 1;
    let bounds = bounds();
    let age = age.max(0.0);
    // Cells of a second are found by division, the others by halving.
    let linear = (FINEST / RATIO) as usize;
    if age < FINEST / RATIO {
        return ((age / FINEST) as usize).min(last);
    }
    (linear + bounds[linear..].partition_point(|bound| *bound <= age)).saturating_sub(1).min(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_is_in_its_cell() {
        assert!((300..500).contains(&count()), "{}", count());
        for (index, pair) in bounds().windows(2).enumerate() {
            assert!(pair[1] - pair[0] >= FINEST);
            for age in [pair[0], f64::midpoint(pair[0], pair[1]), pair[1] - 1e-9] {
                assert_eq!(cell(age), index, "{age}");
            }
        }
        assert_eq!((cell(-3.0), cell(f64::NAN), cell(1e9)), (0, 0, count() - 1));
    }
}
