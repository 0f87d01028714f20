//! The same in virtual time: the real engine and state file against the simulator in memory, whose
//! callbacks go through the real inbox.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Write as _;
use std::time::Duration;

use batchveo::batch::{Batch, Run};
use batchveo::callback::{Addresses, Inbox, Refusals, Signer};
use batchveo::clock::{Clock, Moment};
use batchveo::engine::Callbacks;
use batchveo::event::{self, Progress, RunEvent};
use batchveo::generation::{Mode, PriceList};
use batchveo::job::{Limits, Stamp};
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::Config;
use batchveo::schedule::gate::Gate;
use batchveo::simulator::{Ledger, Scenario, Settings, Simulator, Verdict};
use batchveo::store::{Durability, ImportOptions, Owner, Selection};
use futures::StreamExt;

use super::support::Folder;
use super::{all_succeeded, is_of, sheet};

const ROWS: u64 = 1_649;

/// Slots of the rehearsals: so few that 1,649 rows go through each of them many times.
const SLOTS: u32 = 100;

struct Rehearsed {
    folder: Folder,
    prompts: HashMap<String, String>,
    took: Duration,
    verdict: Verdict,
    callbacks: event::Callbacks,
}

impl Rehearsed {
    /// How many samples succeeded. All are of their prompts, and bought once.
    fn succeeded(&self) -> u64 {
        let results = self.folder.results("p.results.csv");
        let succeeded = results.iter().filter(|row| row["status"] == "succeeded");
        let right =
            succeeded.map(|row| assert!(is_of(&row["task_id"], &self.prompts[&row["videoid"]]), "{row:?}"));
        let succeeded = right.count() as u64;
        let Verdict { held, accepted, .. } = self.verdict;
        assert!(held && accepted == succeeded, "{}", self.verdict);
        succeeded
    }

    /// Efficiency against [`ideal`], and looks per task, told past the harness. Every sample is right and
    /// bought once.
    #[expect(clippy::explicit_write, reason = "the harness captures what the macro prints")]
    fn figures(&self, which: &str) -> (f64, f64) {
        let Self { folder, took, verdict, .. } = self;
        assert_eq!(self.succeeded(), ROWS);
        let results = all_succeeded(folder, 1_649);
        let count = |count: u64| f64::from(u32::try_from(count).unwrap());
        let looks = count(verdict.counts.polls) / count(verdict.accepted);
        let efficiency = ideal(&results).as_secs_f64() / took.as_secs_f64();
        writeln!(
            std::io::stderr(),
            "{which}: efficiency {:.2} %, {looks:.1} looks a task",
            efficiency * 100.0
        )
        .unwrap();
        (efficiency, looks)
    }
}

/// A run of the real prompts that is called back.
async fn rehearse(scenario: Scenario) -> Rehearsed {
    rehearse_rows(scenario, ROWS).await
}

/// The same with the first `rows` of them.
async fn rehearse_rows(scenario: Scenario, rows: u64) -> Rehearsed {
    let folder = Folder::new();
    let prompts = sheet(&folder);
    rehearse_sheet(folder, prompts, scenario, rows).await
}

/// The same with the first `rows` of the sheet in `folder`.
async fn rehearse_sheet(
    folder: Folder,
    prompts: HashMap<String, String>,
    scenario: Scenario,
    rows: u64,
) -> Rehearsed {
    let state = folder.path("p.db");
    let owner = Owner::Simulator { seed: 3 };
    let birth = Moment::from(batchveo::job::UnixMillis(1_704_067_200_000));
    let mut batch = Batch::open(&state, "a test", &owner, Durability::Rehearsal, birth.clone()).unwrap();
    let mut options = Options::default();
    options.map.extend(["prompt=name", "id=videoid"].map(|map| map.parse().unwrap()));
    options.defaults.mode = Some(Mode::Fast);
    let import =
        batch.import(Reader::open(&folder.path("p.csv"), &options).unwrap(), ImportOptions::default());
    assert!(import.unwrap().applied);
    let clock = Clock::virtual_from(batch.stamp_at(birth).unwrap());
    let limits = Limits { concurrent_tasks: SLOTS.try_into().unwrap(), ..Limits::DOCUMENTED };
    let settings = Settings { seed: 3, limits, scenario, ..Settings::default() };
    let ledger = Ledger::temporary().unwrap();
    let api = Simulator::new(settings, ledger, clock.clone(), batch.store().birth()).unwrap();
    let (signer, refusals) = (Signer::new(&[3; 32], 0), Refusals::default());
    let callbacks = Callbacks {
        addresses: Addresses::signed("https://hooks.example/veo".parse().unwrap(), signer.clone()),
        arrivals: Some(api.arrivals(Inbox::new(signer), refusals.clone()).boxed()),
        refusals,
    };
    let config = Config { limits, called_back: true, ..Config::default() };
    let run = Run {
        gate: Gate::new(limits.requests_per_minute, clock.now()),
        clock: clock.clone(),
        config,
        selection: Selection { limit: Some(rows), ..Selection::default() },
        prices: PriceList::VENDOR,
        results: folder.path("p.results.csv"),
        grace: Duration::from_secs(20),
        downloads: None,
        callbacks: Some(callbacks),
    };
    let mut last = Stamp::BIRTH;
    let mut callbacks = event::Callbacks::default();
    let mut sink = |event: &RunEvent<'_>, progress: &Progress| {
        if matches!(event, RunEvent::Changed(_)) {
            last = progress.now;
        }
        callbacks = progress.callbacks.unwrap_or_default();
    };
    batch.run(&api, run, &mut sink, std::future::pending()).await.unwrap();
    Rehearsed { folder, prompts, took: last.since(Stamp::BIRTH), verdict: api.verdict().unwrap(), callbacks }
}

/// What a run would take that notices each end at once and answers each request in no time: the same
/// tasks in the same order, each in the first slot that is free.
fn ideal(results: &[HashMap<String, String>]) -> Duration {
    let mut free = BinaryHeap::from(vec![Reverse(Duration::ZERO); SLOTS as usize]);
    let ends = results.iter().map(|row| {
        let Reverse(begins) = free.pop().unwrap();
        let ends = begins + Duration::from_secs_f64(row["generation_seconds"].parse().unwrap());
        free.push(Reverse(ends));
        ends
    });
    ends.max().unwrap()
}

#[tokio::test]
async fn a_run_that_is_called_back_hardly_waits_and_hardly_looks() {
    let rehearsed = rehearse(Scenario::default()).await;
    let (efficiency, looks) = rehearsed.figures("every end called back");
    // What is missing is the answers' and the callbacks' time on their way, and the slow start.
    assert!(efficiency > 0.997, "{efficiency}");
    // Only tasks that take much longer than most are looked at.
    assert!(looks < 1.0, "{looks} looks a task");
    let heard = rehearsed.callbacks;
    assert!(heard.uncalled < 10 && heard.ended + heard.uncalled == ROWS, "{heard:?}");
}

#[tokio::test]
async fn what_a_fifth_lost_and_a_fifth_twice_cost_is_time_and_looks_alone() {
    let rehearsed = rehearse(Scenario::load("callbacks-lossy").unwrap()).await;
    let (efficiency, looks) = rehearsed.figures("a fifth lost, a fifth twice");
    assert!(efficiency > 0.97, "{efficiency}");
    // The vendor's advice without callbacks takes more than eight.
    assert!(looks < 7.0, "{looks} looks a task");
    let (heard, sent) = (rehearsed.callbacks, rehearsed.verdict.callbacks);
    assert_eq!(heard.ended + heard.uncalled, ROWS);
    // A look may come between an end and its callback, which then has nothing more to say.
    let overtaken = heard.uncalled - sent.lost;
    assert!(overtaken < 10 && heard.nothing <= sent.repeated + overtaken, "{heard:?} {sent:?}");
    assert_eq!((sent.refused, heard.refused), (0, 0));
}

/// Drops the answers to so many submissions that were accepted.
fn unanswered(share: f64) -> Scenario {
    let text = format!("[[fault]]\nwhat='drop'\nwhere='submit'\nwhen='after'\nshare={share}\n");
    Scenario::parse("unanswered", &text).unwrap()
}

#[tokio::test]
async fn doubts_are_settled_by_callbacks_and_waited_for() {
    let rehearsed = rehearse(unanswered(0.1)).await;
    assert_eq!(rehearsed.succeeded(), ROWS);
    let dropped = rehearsed.verdict.counts.injected.dropped;
    assert!(dropped > 100 && rehearsed.callbacks.settled == dropped, "{:?}", rehearsed.callbacks);
    // Where nothing is answered, nothing but callbacks can tell.
    let rehearsed = rehearse_rows(unanswered(1.0), 3).await;
    assert_eq!(rehearsed.succeeded(), 3);
    assert_eq!((rehearsed.callbacks.settled, rehearsed.verdict.counts.polls), (3, 0));
}

#[tokio::test]
async fn a_doubt_whose_task_failed_is_bought_again() {
    let folder = Folder::new();
    folder.write("p.csv", "videoid,name\n0,[[fail-once:GENERATION_FAILED]] a harbour\n");
    let rehearsed = rehearse_sheet(folder, HashMap::new(), unanswered(1.0), 1).await;
    let results = rehearsed.folder.results("p.results.csv");
    assert_eq!((&*results[0]["status"], &*results[0]["attempts"]), ("succeeded", "2"), "{results:?}");
    assert_eq!((rehearsed.verdict.accepted, rehearsed.callbacks.settled), (2, 2), "{}", rehearsed.verdict);
}

#[test]
fn a_rehearsal_is_called_back_in_memory_where_nothing_listens() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 60);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = nobody.local_addr().unwrap();
    let line = "run p.csv --simulate --time-scale max --scenario callbacks-lossy --mode fast";
    let url = "--callback-url https://hooks.example/veo";
    let run = folder.run(&format!("{line} {url} --callback-listen {taken}"), &[]);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("callbacks: 60 due"), "{}", run.stderr());
    // Where somebody else is said to listen, nobody is called, and tasks are polled.
    let fresh = Folder::new();
    fresh.write_sheet("p.csv", 60);
    let run = fresh.run(&format!("{line} {url}"), &[]);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert!(!run.stderr().contains("callbacks:"), "{}", run.stderr());
}
