//! One run of the whole program in virtual time.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use batchveo::batch::{Batch, Run};
use batchveo::callback::{Address, Addresses, Inbox, Refusals};
use batchveo::clock::Clock;
use batchveo::engine::Callbacks;
use batchveo::event::{Progress, RunEvent};
use batchveo::generation::PriceList;
use batchveo::job::Stamp;
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::cadence::Cadence;
use batchveo::schedule::gate::Gate;
use batchveo::schedule::{Change, Config, Transition};
use batchveo::store::{Durability, ImportOptions, Owner, Selection};

use super::service::{BIRTH, Service, Tells};

/// How a run learns that a task has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Watching {
    /// It is told at once, over the network: the reference.
    Told,
    /// The same without the network's delay.
    Foretold,
    /// By looks.
    Looked(Cadence),
    /// By callbacks.
    CalledBack,
}

/// What a run came to. Times are in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) makespan: f64,
    /// Against the reference, and against the one without a network; nothing until those are known.
    pub(super) efficiency: f64,
    pub(super) strictly: f64,
    pub(super) requests_per_task: f64,
    pub(super) requests_per_minute: f64,
    /// From the end of a task until the program knows.
    pub(super) delay: f64,
    pub(super) delay_p99: f64,
    pub(super) fullest_window: usize,
    /// Requests answered 429.
    pub(super) refused: u64,
}

/// Runs tasks that take this long, a row each.
pub(super) fn run(durations: &[f64], watching: Watching) -> Figures {
    let folder = tempfile::tempdir().expect("a folder");
    let batch = imported(folder.path(), durations.len());
    let clock = Clock::virtual_from(batch.stamp_at(BIRTH).expect("a stamp"));
    let began = clock.now();
    let tells = match watching {
        Watching::Told => Tells::OverTheNetwork,
        Watching::Foretold => Tells::AtOnce,
        Watching::Looked(_) | Watching::CalledBack => Tells::WhenAsked,
    };
    let service = Service::new(clock.clone(), durations, tells);
    let cadence = match watching {
        // The one look at each task is answered when it has ended.
        Watching::Told | Watching::Foretold => {
            Cadence::Fixed { first: Duration::from_secs(1), every: Duration::from_secs(1) }
        }
        Watching::Looked(cadence) => cadence,
        Watching::CalledBack => Cadence::Learned,
    };
    let callbacks = matches!(watching, Watching::CalledBack).then(|| {
        let signer = batch.store().callback_signer().expect("a secret");
        let address: Address = "https://hooks.example/veo".parse().expect("an address");
        Callbacks {
            addresses: Addresses::signed(address, signer.clone()),
            arrivals: Some(service.arrivals(Inbox::new(signer))),
            refusals: Refusals::default(),
        }
    });
    let config = Config { cadence, called_back: callbacks.is_some(), ..Config::default() };
    let run = Run {
        gate: Gate::new(config.limits.requests_per_minute, clock.now()),
        clock,
        config,
        selection: Selection::default(),
        prices: PriceList::VENDOR,
        results: folder.path().join("results.csv"),
        grace: Duration::ZERO,
        downloads: None,
        callbacks,
    };
    let mut delays = Vec::with_capacity(durations.len());
    let mut last = began;
    let mut note = |event: &RunEvent<'_>, _: &Progress| {
        if let RunEvent::Changed(Change { sample, at, transition: Transition::Ended { .. } }) = event {
            last = last.max(*at);
            let row = usize::try_from(sample.0).expect("positive") - 1;
            delays.extend(service.ends(row).map(|ended| at.since(ended).as_secs_f64()));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let finished =
        runtime.block_on(batch.run(&service, run, &mut note, std::future::pending())).expect("runs");
    assert_eq!(finished.progress.ended, durations.len() as u64, "every row ends");
    figures(&service, delays, last, began)
}

fn figures(service: &Service, mut delays: Vec<f64>, last: Stamp, began: Stamp) -> Figures {
    let (requests, refused, fullest_window) = service.counts();
    let makespan = last.since(began).as_secs_f64();
    delays.sort_by(f64::total_cmp);
    let tasks = delays.len() as f64;
    Figures {
        makespan,
        efficiency: 0.0,
        strictly: 0.0,
        requests_per_task: requests as f64 / tasks,
        requests_per_minute: requests as f64 / makespan * 60.0,
        delay: delays.iter().sum::<f64>() / tasks,
        delay_p99: delays[delays.len() * 99 / 100],
        fullest_window,
        refused,
    }
}

/// A state file with so many rows in it.
fn imported(folder: &Path, rows: usize) -> Batch {
    let sheet = folder.join("sheet.csv");
    let mut text = String::from("prompt,mode\n");
    for row in 0..rows {
        let _ = writeln!(text, "row {row},fast");
    }
    fs::write(&sheet, text).expect("a sheet");
    let owner = Owner::Simulator { seed: 1 };
    let mut batch = Batch::open(&folder.join("state.db"), "bench", &owner, Durability::Rehearsal, BIRTH)
        .expect("a state file");
    let reader = Reader::open(&sheet, &Options::default()).expect("a sheet");
    assert!(batch.import(reader, ImportOptions::default()).expect("imports").applied);
    batch
}
