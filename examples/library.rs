//! A program of its own around the library: three prompts, rehearsed in virtual time.
//!
//! `cargo run --example library`. Put [`batchveo::veo::Client`] where the simulator is, and
//! `Clock::real` where virtual time is, and it buys.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::fs;
use std::time::Duration;

use batchveo::batch::{Batch, Run};
use batchveo::clock::{Clock, Moment};
use batchveo::engine::first_balance;
use batchveo::event::{Progress, RunEvent};
use batchveo::generation::PriceList;
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::Config;
use batchveo::schedule::gate::Gate;
use batchveo::simulator::{Ledger, Settings, Simulator};
use batchveo::store::{Durability, ImportOptions, Owner, Selection};

const SHEET: &str = "\
prompt,mode
A heron lands on a mooring post,fast
The tide comes in over a causeway,fast
Lamps go on along the quay one by one,quality
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let sheet = folder.path().join("prompts.csv");
    fs::write(&sheet, SHEET)?;

    // The state file remembers everything: open it again and the run goes on.
    let state = folder.path().join("prompts.db");
    let owner = Owner::Simulator { seed: 7 };
    let mut batch = Batch::open(&state, "the example", &owner, Durability::Rehearsal, Moment::now())?;
    let import = batch.import(Reader::open(&sheet, &Options::default())?, ImportOptions::default())?;
    assert!(import.applied, "{:?}", import.problems);

    let clock = Clock::virtual_from(batch.stamp_at(Moment::now())?);
    let birth = batch.store().birth();
    let api = Simulator::new(
        Settings { seed: 7, ..Settings::default() },
        Ledger::temporary()?,
        clock.clone(),
        birth,
    )?;

    // The first request of a run is the balance: a wrong key buys nothing.
    let config = Config::default();
    let mut gate = Gate::new(config.limits.requests_per_minute, clock.now());
    println!("{:?}", first_balance(&api, &mut gate, &clock, 7).await);

    let results = folder.path().join("results.csv");
    let run = Run {
        clock,
        gate,
        config,
        selection: Selection::default(),
        prices: PriceList::VENDOR,
        results: results.clone(),
        grace: Duration::from_secs(20),
        downloads: None,
        callbacks: None,
    };
    let mut told = |event: &RunEvent<'_>, progress: &Progress| {
        if let RunEvent::Changed(change) = event {
            println!("{:>6} ms  sample {}: {:?}", progress.now.as_millis(), change.sample, change.transition);
        }
    };
    let finished = batch.run(&api, run, &mut told, std::future::pending()).await?;
    println!("{} requests, ${} at list price", finished.progress.requests, finished.progress.spent);
    println!("{}", api.verdict()?);
    println!("{}", fs::read_to_string(results)?);
    Ok(())
}
