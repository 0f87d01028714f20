//! Every fault the simulator knows, one run of a sheet each, in virtual time: was anything bought twice?
//!
//! `cargo run --release --example faults -- prompts.csv [--map FIELD=COLUMN]… [SCENARIO]…` runs the
//! sheet in fast mode once under each named scenario, or under those named, and prints a table in
//! Markdown. It ends with 1 if anything was bought twice or a limit was broken. Each line names the
//! command that does the same with the program and keeps its files.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use batchveo::batch::{Batch, Run};
use batchveo::clock::{Clock, wall_time};
use batchveo::engine::first_balance;
use batchveo::event::{Progress, RunEvent};
use batchveo::generation::{Mode, PriceList};
use batchveo::job::{Stamp, Status, Usd};
use batchveo::manifest::{Defaults, Options, Reader};
use batchveo::report::wording::halt_word;
use batchveo::schedule::Config;
use batchveo::schedule::gate::Gate;
use batchveo::simulator::{Expectations, Ledger, Scenario, Settings, Simulator, request_hash};
use batchveo::store::{Durability, ImportOptions, Owner, Selection};

/// What the command line asks for.
struct Asked {
    sheet: PathBuf,
    options: Options,
    /// The mappings as typed, for the commands that are printed.
    words: String,
    scenarios: Vec<String>,
}

impl Asked {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let sheet = arguments
            .next()
            .ok_or("say which sheet: faults prompts.csv [--map FIELD=COLUMN]… [SCENARIO]…")?;
        let defaults = Defaults { mode: Some(Mode::Fast), ..Defaults::default() };
        let mut options = Options { defaults, ..Options::default() };
        let (mut words, mut scenarios) = (String::new(), Vec::new());
        while let Some(word) = arguments.next() {
            if word == "--map" {
                let mapping = arguments.next().ok_or("--map needs FIELD=COLUMN")?;
                words.extend([" --map ", &mapping]);
                options.map.push(mapping.parse()?);
            } else {
                scenarios.push(word);
            }
        }
        if scenarios.is_empty() {
            // In memory there are no videos that anything could happen to.
            let names = Scenario::NAMED.iter().map(|named| named.name);
            scenarios = names.filter(|name| !name.starts_with("videos-")).map(str::to_owned).collect();
        }
        Ok(Self { sheet: sheet.into(), options, words, scenarios })
    }

    fn command(&self, scenario: &str) -> String {
        let Self { sheet, words, .. } = self;
        let sheet = sheet.display();
        format!("batchveo run {sheet}{words} --mode fast --simulate --scenario {scenario} --time-scale max")
    }
}

/// A run under a scenario, and what the judge says of it.
struct Story {
    statuses: String,
    accepted: u64,
    bought_twice: u64,
    held: bool,
    throttled: u64,
    injected_429: u64,
    per_task: f64,
    took: Duration,
    halt: &'static str,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let asked = Asked::parse(std::env::args().skip(1))?;
    println!(
        "| scenario | samples by status | accepted | bought twice | limits held | 429 genuine / injected | requests a task | simulated time | stopped by | command |"
    );
    println!("|---|---|--:|--:|---|--:|--:|--:|---|---|");
    let mut all_well = true;
    for name in &asked.scenarios {
        let folder = tempfile::tempdir()?;
        let story = tell(&asked, Scenario::load(name)?, folder.path()).await?;
        all_well &= story.bought_twice == 0 && story.held;
        let Story { statuses, accepted, bought_twice, throttled, injected_429, per_task, halt, .. } = &story;
        let (held, took) = (if story.held { "yes" } else { "NO" }, minutes(story.took));
        let command = asked.command(name);
        println!(
            "| {name} | {statuses} | {accepted} | {bought_twice} | {held} | {throttled} / {injected_429} | {per_task:.1} | {took} | {halt} | `{command}` |"
        );
    }
    if !all_well {
        eprintln!("Something was bought twice, or a documented limit was broken.");
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the sheet under `scenario`, as `batchveo run --simulate` does, with its files in `folder`.
async fn tell(asked: &Asked, scenario: Scenario, folder: &Path) -> Result<Story, Box<dyn Error>> {
    let seed = 0;
    let owner = Owner::Simulator { seed };
    let state = folder.join("state.db");
    let mut batch = Batch::open(&state, "the faults", &owner, Durability::Rehearsal, wall_time())?;
    let import = batch.import(Reader::open(&asked.sheet, &asked.options)?, ImportOptions::default())?;
    if !import.applied {
        return Err(format!("the sheet cannot be run: {:?}", import.problems.first()).into());
    }
    // Every story begins with the simulation, however long the sheet took to read.
    let clock = Clock::virtual_from(Stamp::BIRTH);
    let selection = Selection::default();
    let lines = batch.store().plan(&selection, PriceList::VENDOR)?;
    let enough = lines.iter().fold(Usd::from_cents(1_000_000), |sum, line| sum + line.cost.times(2));
    let balance = scenario.balance().unwrap_or(enough);
    let settings = Settings { seed, scenario, balance, ..Settings::default() };
    let api = Simulator::new(settings, Ledger::temporary()?, clock.clone(), batch.store().birth())?;
    api.expect(|asked: &mut Expectations<'_>| {
        let mut told = Ok(());
        batch.store().requests(|generation| {
            if told.is_ok() {
                told = asked.add(request_hash(generation));
            }
        })?;
        told.map_err(Box::<dyn Error>::from)
    })?;

    let config = Config::default();
    let mut gate = Gate::new(config.limits.requests_per_minute, clock.now());
    let _ = first_balance(&api, &mut gate, &clock, seed).await;
    let run = Run {
        clock,
        gate,
        config,
        selection: selection.clone(),
        prices: PriceList::VENDOR,
        results: folder.join("results.csv"),
        grace: Duration::from_secs(20),
        downloads: None,
        callbacks: None,
    };
    let mut nobody = |_: &RunEvent<'_>, _: &Progress| {};
    let finished = batch.run(&api, run, &mut nobody, std::future::pending()).await?;
    let tally = finished.batch.store().tally(&selection)?;
    let counts = Status::ALL.map(|status| (status, tally.count(status)));
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let verdict = api.verdict()?;
    Ok(Story {
        statuses: counts.map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", "),
        accepted: verdict.accepted,
        bought_twice: verdict.bought_twice,
        held: verdict.held,
        throttled: verdict.counts.throttled_429,
        injected_429: verdict.counts.injected.throttled_429,
        per_task: verdict.requests_per_task.unwrap_or(0.0),
        took: finished.progress.now.since(Stamp::BIRTH),
        halt: finished.halt.as_ref().map_or("-", halt_word),
    })
}

fn minutes(span: Duration) -> String {
    format!("{}:{:02}", span.as_secs() / 60, span.as_secs() % 60)
}
