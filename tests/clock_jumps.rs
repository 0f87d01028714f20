//! What a doubt and a task are worth when the wall clock jumped between two processes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::future::pending;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use batchveo::batch::{Batch, Run};
use batchveo::clock::{Boot, Clock, Moment};
use batchveo::event::{Progress, RunEvent};
use batchveo::generation::PriceList;
use batchveo::job::{Attempt, SampleId, Stamp, Status, UnixMillis};
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::gate::Gate;
use batchveo::schedule::{Change, Config, Transition};
use batchveo::simulator::{Ledger, Settings, Simulator};
use batchveo::store::{Durability, ImportOptions, Owner, Selection, Store};

const BIRTH: UnixMillis = UnixMillis(1_800_000_000_000);
const DAY: i64 = 24 * 60 * 60 * 1_000;
const OWNER: Owner<'_> = Owner::Simulator { seed: 1 };

/// This many milliseconds after the start of the machine, with the wall clock off by `jump`.
fn moment(up: u32, jump: i64) -> Moment {
    let wall = UnixMillis(BIRTH.0 + i64::from(up) + jump);
    Moment { wall, boot: Some(Boot { id: "a boot".to_owned(), up: up.into() }) }
}

/// A state file of two rows whose process died while the first was being submitted.
fn died_in_doubt(folder: &Path) {
    let sheet = folder.join("sheet.csv");
    fs::write(&sheet, "prompt,mode\na cat,fast\na dog,fast\n").unwrap();
    let state = folder.join("state.db");
    let mut batch = Batch::open(&state, "test", &OWNER, Durability::Rehearsal, moment(0, 0)).unwrap();
    let reader = Reader::open(&sheet, &Options::default()).unwrap();
    assert!(batch.import(reader, ImportOptions::default()).unwrap().applied);
    drop(batch);
    let mut store = Store::open(&state, &OWNER, Durability::Rehearsal, moment(1_000, 0)).unwrap();
    let at = Stamp::from_millis(1_000);
    store
        .commit(&[Change { sample: SampleId(1), at, transition: Transition::Intended(Attempt(1)) }])
        .unwrap();
}

/// Runs it again on an account of one task; when the second row was accepted, after the doubt
/// began.
async fn bought_after(folder: &Path, now: Moment) -> Duration {
    let state = folder.join("state.db");
    let batch = Batch::open(&state, "test", &OWNER, Durability::Rehearsal, now.clone()).unwrap();
    let clock = Clock::virtual_from(batch.stamp_at(now).unwrap());
    let ledger = Ledger::temporary().unwrap();
    let api = Simulator::new(Settings::default(), ledger, clock.clone(), BIRTH).unwrap();
    let mut config = Config::default();
    config.limits.concurrent_tasks = NonZeroU32::MIN;
    let run = Run {
        gate: Gate::new(config.limits.requests_per_minute, clock.now()),
        clock,
        config,
        selection: Selection::default(),
        prices: PriceList::VENDOR,
        results: folder.join("results.csv"),
        grace: Duration::ZERO,
        downloads: None,
        callbacks: None,
    };
    let mut accepted = None;
    let mut note = |event: &RunEvent<'_>, _: &Progress| {
        if let RunEvent::Changed(Change { at, transition: Transition::Accepted { .. }, .. }) = event {
            accepted = Some(*at);
        }
    };
    let finished = batch.run(&api, run, &mut note, pending()).await.unwrap();
    let tally = finished.batch.store().tally(&Selection::default()).unwrap();
    assert_eq!((tally.count(Status::Unknown), tally.count(Status::Succeeded)), (1, 1));
    accepted.unwrap().since(Stamp::from_millis(1_000))
}

#[tokio::test]
async fn a_doubt_holds_its_slot_however_the_wall_clock_jumps() {
    let mut waited = Vec::new();
    for jump in [0, DAY, -DAY] {
        let folder = tempfile::tempdir().unwrap();
        died_in_doubt(folder.path());
        waited.push(bought_after(folder.path(), moment(11_000, jump)).await);
    }
    assert!(waited[0] >= Duration::from_mins(5), "{waited:?}");
    assert_eq!(waited, [waited[0]; 3]);
    // Without a clock that counts from the machine's start the jump is taken for time.
    let folder = tempfile::tempdir().unwrap();
    died_in_doubt(folder.path());
    let wall = Moment { boot: None, ..moment(11_000, DAY) };
    assert!(bought_after(folder.path(), wall).await > Duration::from_hours(23));
}
