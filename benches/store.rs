//! What the state file costs: import, commits by batch size, resuming.
//!
//! Files are made in `TMPDIR` with full durability, so the figures are those of its disk.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use batchveo::generation::{AspectRatio, Draft, GenerationType, Mode, PriceList};
use batchveo::job::{Attempt, Outcome, SampleId, Stamp, TaskId, UnixMillis, Usd, Video};
use batchveo::manifest::{Adjusted, Entry, Record};
use batchveo::schedule::{Change, Transition};
use batchveo::store::{Durability, ImportOptions, Owner, Sheet, Store};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const IMPORTED: u64 = 100_000;
const RESTORED_FROM: u64 = 1_000_000;
const IN_FLIGHT: u64 = 1_000;

/// A made-up sheet of so many rows.
struct Rows(std::ops::RangeInclusive<u64>);

impl Iterator for Rows {
    type Item = Result<Record, Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.0.next()?;
        let draft = Draft {
            prompt: format!("{line}: a red fox trots through fresh snow at dawn, close-up, soft light"),
            generation_type: GenerationType::Text,
            mode: Mode::Fast,
            aspect_ratio: AspectRatio::Landscape,
            image_urls: Vec::new(),
            seed: None,
            watermark: None,
            provider: None,
        };
        let fields = vec![draft.prompt.clone()];
        let generation = draft.check().ok()?;
        let entry = Ok(Entry { id: None, samples: NonZeroU32::MIN, generation });
        Some(Ok(Record { line, fields, entry, adjusted: Adjusted::default() }))
    }
}

impl Sheet for Rows {
    type Error = Infallible;

    fn columns(&self) -> Vec<String> {
        vec!["prompt".to_owned()]
    }

    fn bound_columns(&self) -> Vec<usize> {
        Vec::new()
    }
    fn id_column(&self) -> Option<String> {
        None
    }

    fn fingerprint(&self) -> [u8; 32] {
        [0; 32]
    }

    fn blank_rows(&self) -> u64 {
        0
    }
}

fn store(folder: &Path, rows: u64) -> Store {
    let path = folder.join("bench.db");
    let owner = Owner::Simulator { seed: 0 };
    let mut store = Store::open(&path, &owner, Durability::Full, UnixMillis(0)).expect("a new state file");
    store.import(Rows(1..=rows), &ImportOptions::default()).expect("a sound sheet");
    store
}

/// The lives of samples, with as many under way as fit in flight: an endless story in small steps.
struct Story {
    next: i64,
    running: VecDeque<(i64, u8)>,
    at: u64,
}

impl Story {
    fn new() -> Self {
        Self { next: 1, running: VecDeque::new(), at: 0 }
    }

    fn step(&mut self) -> Change {
        self.at += 1;
        let at = Stamp::from_millis(self.at);
        if self.running.len() < usize::try_from(IN_FLIGHT).expect("small") {
            let id = self.next;
            self.next += 1;
            self.running.push_back((id, 1));
            return Change { sample: SampleId(id), at, transition: Transition::Intended(Attempt(1)) };
        }
        let (id, stage) = self.running.pop_front().expect("full");
        let transition = if stage == 1 {
            self.running.push_back((id, 2));
            let task = TaskId::new(&format!("{id:032x}")).expect("not blank");
            Transition::Accepted { task, attempt: Attempt(1), cost: Usd::from_cents(20) }
        } else {
            let urls = vec![format!("https://cdn.example/videos/{id:032x}/1.mp4")];
            let video = Video { urls, created: Some(UnixMillis(0)), completed: Some(UnixMillis(1)) };
            Transition::Ended { outcome: Outcome::Succeeded(video), attempts: 1, cost: Usd::ZERO }
        };
        Change { sample: SampleId(id), at, transition }
    }
}

fn import(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.sample_size(10).throughput(Throughput::Elements(IMPORTED));
    group.bench_function("import", |bencher| {
        let folder = || tempfile::tempdir().expect("a temporary folder");
        bencher.iter_batched(
            folder,
            |folder| {
                drop(store(folder.path(), IMPORTED));
                folder
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/transitions");
    // Short enough that no disk gets to the end of the sheet, three steps a row.
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let folder = tempfile::tempdir().expect("a temporary folder");
    for batch in [1_u64, 20, 100, 1_000] {
        let folder = folder.path().join(batch.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        let mut store = store(&folder, RESTORED_FROM);
        let mut lives = Story::new();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter_batched(
                || (0..batch).map(|_| lives.step()).collect::<Vec<_>>(),
                |changes| store.commit(&changes).expect("a legal batch"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn restore(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.sample_size(10);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut store = store(folder.path(), RESTORED_FROM);
    let mut lives = Story::new();
    let changes: Vec<_> = (0..IN_FLIGHT * 2).map(|_| lives.step()).collect();
    store.commit(&changes).expect("a legal batch");
    drop(store);
    group.throughput(Throughput::Elements(IN_FLIGHT));
    group.bench_function("restore 1,000 of 1,000,000", |bencher| {
        bencher.iter(|| {
            let owner = Owner::Simulator { seed: 0 };
            let path = folder.path().join("bench.db");
            let store = Store::open(&path, &owner, Durability::Full, UnixMillis(0)).expect("our own file");
            black_box(store.restore(PriceList::VENDOR).expect("a sound state").len())
        });
    });
    group.finish();
}

criterion_group!(benches, import, commit, restore);
criterion_main!(benches);
