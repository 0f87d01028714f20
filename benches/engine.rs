//! What a row costs from the state file to its result, and a request: the engine in virtual time.
//!
//! `cargo bench --bench engine`. Rows are run with few looks at each task, and requests counted with as
//! many as the account allows, some twenty for each row. The real loop, queue, state file and results,
//! against the simulator in memory through the real wire code. Virtual time waits for nothing, so this
//! is CPU and file work alone; the state file does not sync here, so this is not the pace of its
//! commits.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use batchveo::batch::{Batch, Run};
use batchveo::clock::Clock;
use batchveo::event::{Progress, RunEvent};
use batchveo::generation::PriceList;
use batchveo::job::UnixMillis;
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::Config;
use batchveo::schedule::gate::Gate;
use batchveo::simulator::{Ledger, Settings, Simulator};
use batchveo::store::{Durability, ImportOptions, Owner, Selection};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: u64 = 5_000;
const BIRTH: UnixMillis = UnixMillis(1_800_000_000_000);

/// A state file with the sheet in it.
fn imported(folder: &Path, sheet: &Path) -> Batch {
    let owner = Owner::Simulator { seed: 1 };
    let mut batch = Batch::open(&folder.join("state.db"), "bench", &owner, Durability::Rehearsal, BIRTH)
        .expect("a state file");
    let reader = Reader::open(sheet, &Options::default()).expect("a sheet");
    assert!(batch.import(reader, ImportOptions::default()).expect("imports").applied);
    batch
}

/// Runs it to its end with looks by this schedule; gives the requests it took.
fn run(batch: Batch, folder: &Path, poll: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let clock = Clock::virtual_from(batch.stamp_at(BIRTH).expect("a stamp"));
    let settings = Settings { seed: 1, ..Settings::default() };
    let ledger = Ledger::temporary().expect("a ledger");
    let api = Simulator::new(settings, ledger, clock.clone(), BIRTH).expect("a simulator");
    let config = Config { cadence: poll.parse().expect("a schedule"), ..Config::default() };
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
    let mut nobody = |_: &RunEvent<'_>, _: &Progress| {};
    let finished = runtime.block_on(batch.run(&api, run, &mut nobody, std::future::pending())).expect("runs");
    assert_eq!(finished.progress.ended, ROWS);
    finished.progress.requests
}

fn engine(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let sheet = folder.path().join("sheet.csv");
    let mut text = String::from("id,prompt,mode\n");
    for row in 0..ROWS {
        let _ = writeln!(
            text,
            "row-{row},\"A quiet harbour at dawn, variant {row}, gulls over wet cobbles\",fast"
        );
    }
    fs::write(&sheet, text).expect("a sheet");
    let fresh = || {
        let folder = tempfile::tempdir().expect("a folder");
        let batch = imported(folder.path(), &sheet);
        (folder, batch)
    };
    let mut group = criterion.benchmark_group("engine");
    group.sample_size(10);
    for (name, poll) in [("rows", "fixed:90s,5s"), ("requests", "fixed:5s,5s")] {
        let (folder, batch) = fresh();
        let requests = run(batch, folder.path(), poll);
        group.throughput(Throughput::Elements(if name == "rows" { ROWS } else { requests }));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                fresh,
                |(folder, batch)| (run(batch, folder.path(), poll), folder),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
