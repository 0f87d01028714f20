//! Wall clocks that jump between two processes.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::clock::{Boot, Moment};

const DAY: i64 = 24 * 60 * 60 * 1_000;

/// So many milliseconds after birth, by both clocks.
fn moment(wall: i64, id: &str, up: u64) -> Moment {
    Moment { wall: UnixMillis(NOW.0 + wall), boot: Some(Boot { id: id.to_owned(), up }) }
}

fn open(folder: &Path, now: Moment) -> Store {
    let owner = Owner::Simulator { seed: 1 };
    Store::open(&folder.join("a.db"), &owner, Durability::Rehearsal, now).unwrap()
}

/// A process that begins at `now` and whose last commit comes `lasts` milliseconds later; when it
/// begins, in milliseconds since birth.
fn process(folder: &Path, now: &Moment, lasts: u64) -> u64 {
    let mut store = open(folder, now.clone());
    let begins = store.stamp_at(now).unwrap();
    if store.columns().unwrap().is_empty() {
        import(&mut store, &[("x", "a", 1)], STRICT);
    }
    let at = begins + Duration::from_millis(lasts);
    let turn = |transition| Change { sample: SampleId(1), at, transition };
    store.commit(&[turn(intended(1)), turn(Transition::Retracted)]).unwrap();
    begins.as_millis()
}

#[test]
fn a_wall_clock_that_jumps_neither_ages_nor_rejuvenates() {
    for jump in [DAY, -DAY, 0] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(process(folder.path(), &moment(0, "a", 100_000), 5_000), 0);
        // Killed at once; ten seconds later it begins anew.
        assert_eq!(process(folder.path(), &moment(jump + 10_000, "a", 110_000), 1_000), 10_000);
        // And once more, when somebody has set the clock right.
        assert_eq!(process(folder.path(), &moment(60_000, "a", 160_000), 0), 60_000);
    }
}

#[test]
fn a_process_that_starts_while_stamps_are_ahead_goes_on_from_them() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), &moment(0, "a", 0), 500_000);
    assert_eq!(process(folder.path(), &moment(1_000, "a", 1_000), 0), 500_000);
    assert_eq!(process(folder.path(), &moment(3_000, "a", 3_000), 0), 502_000);
}

#[test]
fn across_a_start_of_the_machine_the_wall_clock_is_believed_but_never_backwards() {
    for (wall, begins) in [(3_600_000, 3_600_000), (-DAY, 5_000)] {
        let folder = tempfile::tempdir().unwrap();
        process(folder.path(), &moment(0, "a", 100_000), 5_000);
        assert_eq!(process(folder.path(), &moment(wall, "b", 7_000), 0), begins);
    }
}

#[test]
fn a_machine_that_does_not_know_the_date_when_it_starts_ages_nothing_later() {
    let folder = tempfile::tempdir().unwrap();
    process(folder.path(), &moment(0, "a", 100_000), 5_000);
    // Its date is that of the epoch until the network tells it.
    assert_eq!(process(folder.path(), &moment(-NOW.0, "b", 9_000), 1_000), 5_000);
    assert_eq!(process(folder.path(), &moment(60_000, "c", 9_000), 0), 60_000);
}

#[test]
fn where_only_the_wall_clock_is_known_stamps_count_from_birth() {
    let folder = tempfile::tempdir().unwrap();
    let wall = |millis| Moment::from(UnixMillis(NOW.0 + millis));
    process(folder.path(), &wall(0), 5_000);
    assert_eq!(process(folder.path(), &wall(-DAY), 0), 5_000);
    assert_eq!(process(folder.path(), &wall(60_000), 0), 60_000);
}
