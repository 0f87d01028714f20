//! What a decision costs: events and rows per second through the pure core, beside a task per row.
//!
//! `cargo bench --bench schedule`. A thousand tasks are in flight, each takes about two minutes and
//! is looked at by the vendor's schedule, within 10,000 requests a minute; time is an argument or
//! paused, so nothing is waited for. The last line is the ratio of both sides, which take turns.
//!
//! *Compared*: the same rows, the same answers after the same latency, the same limits, and the same
//! changes handed over to be written down. An event is a submission or a look answered. *Not compared*,
//! since the task per row has none of it: slow start, submissions before looks, pauses and outages,
//! time-outs, retries, caps, and doubts, all of which the core watches for at each step.
//!
//! Each side waits for answers in the cheapest way it has: one loop in a queue, since they come in
//! order, and a task by sleeping. Those sleeps are a third of what the tasks cost.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures real time and prints it"
)]

mod core;
mod service;
mod task_per_row;

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use batchveo::job::Stamp;
use batchveo::schedule::cadence::Cadence;
use batchveo::schedule::{Change, Config};
use criterion::{Criterion, Throughput, criterion_group};

const ROWS: i64 = 20_000;

/// So many changes are written at once, or some more.
const BATCH: usize = 100;

/// Turns of each side for the ratio.
const TURNS: usize = 40;

/// What became of a run of either side.
#[derive(Debug, Clone, Copy, Default)]
struct Story {
    /// Requests answered.
    answers: u64,
    /// Changes handed over to be written down.
    changes: usize,
    /// When the last row had ended.
    lasted: Stamp,
}

impl Story {
    /// Takes changes as a writer would.
    fn write(&mut self, batch: &mut Vec<Change>) {
        self.changes += batch.len();
        batch.drain(..).for_each(|change| drop(black_box(change)));
    }
}

/// The documented limits, the vendor's schedule.
fn config() -> Config {
    Config { cadence: Cadence::VENDOR, ..Config::default() }
}

/// What a run of either side answers, which is found to be the same.
fn same_work() -> u64 {
    let (core, tasks) = (core::run(ROWS), task_per_row::run(ROWS));
    assert_eq!(core.answers, tasks.answers, "requests");
    assert_eq!(core.changes, tasks.changes, "changes");
    let (shorter, longer) = (core.lasted.min(tasks.lasted), core.lasted.max(tasks.lasted));
    assert!(
        longer.since(shorter) < shorter.since(Stamp::BIRTH) / 50,
        "{shorter:?} and {longer:?}: one of them does not keep the limits"
    );
    core.answers
}

fn schedule(criterion: &mut Criterion) {
    let events = same_work();
    let mut group = criterion.benchmark_group("schedule");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Elements(events));
    group.bench_function("core/events", |bencher| bencher.iter(|| core::run(ROWS)));
    group.bench_function("task per row/events", |bencher| bencher.iter(|| task_per_row::run(ROWS)));
    group.throughput(Throughput::Elements(ROWS.unsigned_abs()));
    group.bench_function("core/rows", |bencher| bencher.iter(|| core::run(ROWS)));
    group.finish();
}

/// Processor time of this thread where the system tells it, else time: a busy machine stretches the
/// one and not the other.
fn clock() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| BEGAN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// What a run costs. So many at once that they take a quarter of a second: the clock of the processor
/// may tick only each few milliseconds.
fn time(run: fn(i64) -> Story, runs: u32) -> Duration {
    let began = clock();
    for _ in 0..runs {
        black_box(run(black_box(ROWS)));
    }
    clock().saturating_sub(began) / runs
}

/// What an event costs on either side, and the ratio. The fastest turn of each counts: whatever else runs
/// on the machine only ever makes one slower.
#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn print_ratio(events: u64) {
    let turns: Vec<_> = (0..TURNS).map(|_| (time(core::run, 10), time(task_per_row::run, 1))).collect();
    let core = turns.iter().map(|turn| turn.0).min().expect("turns").as_secs_f64();
    let tasks = turns.iter().map(|turn| turn.1).min().expect("turns").as_secs_f64();
    let per_event = |side: f64| side * 1e9 / events as f64;
    println!(
        "an event costs {:.0} ns in the core, {:.0} ns with a task per row",
        per_event(core),
        per_event(tasks)
    );
    println!("core: {:.1}× the events per second of a task per row", tasks / core);
}

criterion_group!(benches, schedule);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` only tries whether benches run.
    if std::env::args().any(|argument| argument == "--bench") {
        print_ratio(same_work());
    }
}
