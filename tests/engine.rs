//! The engine in virtual time: the real loop, state file and results, minutes in milliseconds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::future::{Future, pending, ready};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use batchveo::api::{Balance, CallbackUrl, Polled, Submitted, VideoApi};
use batchveo::batch::{Batch, BatchError, Finished, Run};
use batchveo::clock::Clock;
use batchveo::engine::{FromDownloads, MESSAGES_WAITING};
use batchveo::event::{DownloadEvent, Downloads};
use batchveo::event::{EventSink, Progress, RunEvent};
use batchveo::generation::{Generation, PriceList};
use batchveo::job::SampleId;
use batchveo::job::{Failure, FailureKind, Limits, Status, TaskId, UnixMillis, Usd};
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::gate::{Gate, STALE_PERMIT};
use batchveo::schedule::{Config, Halt, Transition};
use batchveo::simulator::{Ledger, Settings, Simulator, request_hash};
use batchveo::store::{Durability, ImportOptions, Owner, Selection};
use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

const BIRTH: UnixMillis = UnixMillis(1_800_000_000_000);

/// A batch of `rows` fast rows in `folder`, new or as an earlier run left it.
fn batch(folder: &Path, rows: usize) -> Batch {
    let owner = Owner::Simulator { seed: 1 };
    let state = folder.join("state.db");
    let fresh = !state.exists();
    let mut batch = Batch::open(&state, "test", &owner, Durability::Rehearsal, BIRTH).unwrap();
    if fresh {
        let mut sheet = String::from("prompt,mode\n");
        for row in 0..rows {
            writeln!(sheet, "\"A harbour, take {row}\",fast").unwrap();
        }
        let path = folder.join("sheet.csv");
        std::fs::write(&path, sheet).unwrap();
        let reader = Reader::open(&path, &Options::default()).unwrap();
        assert!(batch.import(reader, ImportOptions::default()).unwrap().applied);
    }
    batch
}

fn simulator(batch: &Batch, clock: &Clock, settings: Settings) -> Simulator {
    let simulator = Simulator::new(settings, Ledger::temporary().unwrap(), clock.clone(), BIRTH).unwrap();
    simulator
        .expect(|asked| {
            batch.store().requests(|generation| asked.add(request_hash(generation)).unwrap()).unwrap();
            Ok::<_, batchveo::simulator::LedgerError>(())
        })
        .unwrap();
    simulator
}

fn clock(batch: &Batch) -> Clock {
    Clock::virtual_from(batch.stamp_at(BIRTH).unwrap())
}

async fn run<A: VideoApi>(
    folder: &Path,
    batch: Batch,
    api: &A,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) -> Result<Finished, BatchError> {
    run_telling(folder, batch, api, clock, shutdown, &mut |_: &RunEvent<'_>, _: &Progress| {}).await
}

async fn run_telling<A: VideoApi, S: EventSink>(
    folder: &Path,
    batch: Batch,
    api: &A,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
    sink: &mut S,
) -> Result<Finished, BatchError> {
    run_as(folder, batch, api, clock, Config::default(), shutdown, sink, None).await
}

#[expect(clippy::too_many_arguments, reason = "the world of a run, in one place for all tests")]
async fn run_as<A: VideoApi, S: EventSink>(
    folder: &Path,
    batch: Batch,
    api: &A,
    clock: Clock,
    config: Config,
    shutdown: impl Future<Output = ()>,
    sink: &mut S,
    downloads: Option<mpsc::Receiver<FromDownloads>>,
) -> Result<Finished, BatchError> {
    let run = Run {
        gate: Gate::new(config.limits.requests_per_minute, clock.now()),
        clock,
        config,
        selection: Selection::default(),
        prices: PriceList::VENDOR,
        results: folder.join("results.csv"),
        grace: Duration::from_secs(20),
        downloads,
        callbacks: None,
    };
    batch.run(api, run, sink, shutdown).await
}

fn count(finished: &Finished, status: Status) -> u64 {
    finished.batch.store().tally(&Selection::default()).unwrap().count(status)
}

#[tokio::test]
async fn every_slot_is_used_and_no_limit_passed() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 2_500);
    let clock = clock(&batch);
    let api = simulator(&batch, &clock, Settings::default());
    let finished = run(folder.path(), batch, &api, clock, pending()).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 2_500));
    let verdict = api.verdict().unwrap();
    assert!(verdict.held, "{verdict}");
    assert_eq!((verdict.most_alive, verdict.accepted, verdict.bought_twice), (1_000, 2_500, 0));
    // The last third waits for slots; nobody waits longer than two rounds of tasks and their looks.
    assert!(finished.progress.now.as_millis() < 15 * 60 * 1_000, "{:?}", finished.progress.now);
}

#[tokio::test]
async fn what_fails_through_no_fault_of_its_own_is_bought_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 400);
    let clock = clock(&batch);
    let api = simulator(&batch, &clock, Settings { fail_rate: 0.2, ..Settings::default() });
    let finished = run(folder.path(), batch, &api, clock, pending()).await.unwrap();
    let verdict = api.verdict().unwrap();
    assert!(verdict.held && verdict.accepted > 400 && verdict.accepted <= 800, "{verdict}");
    assert_eq!(count(&finished, Status::Succeeded) + count(&finished, Status::Failed), 400);
    assert_eq!(count(&finished, Status::Succeeded), verdict.delivered);
    assert_eq!(finished.progress.spent, PriceList::VENDOR.fast.times(verdict.accepted));
}

#[tokio::test]
async fn no_money_finishes_what_is_paid_for_and_resumes_when_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let first = batch(folder.path(), 50);
    let time = clock(&first);
    let poor = simulator(&first, &time, Settings { balance: Usd::from_cents(600), ..Settings::default() });
    let finished = run(folder.path(), first, &poor, time, pending()).await.unwrap();
    assert!(matches!(finished.halt, Some(Halt::NoMoney(_))), "{:?}", finished.halt);
    assert_eq!((count(&finished, Status::Succeeded), count(&finished, Status::Pending)), (30, 20));
    drop(finished);
    let second = batch(folder.path(), 50);
    let time = clock(&second);
    let rich = simulator(&second, &time, Settings::default());
    let finished = run(folder.path(), second, &rich, time, pending()).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 50));
    assert_eq!(rich.verdict().unwrap().accepted, 20);
}

#[tokio::test]
async fn an_interruption_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let first = batch(folder.path(), 50);
    let time = clock(&first);
    let api = simulator(&first, &time, Settings::default());
    let stop = time.sleep_until(time.now() + Duration::from_secs(1));
    let finished = run(folder.path(), first, &api, time, stop).await.unwrap();
    assert_eq!(finished.halt, Some(Halt::Interrupted));
    assert_eq!(count(&finished, Status::Unknown), 0, "submissions in flight are waited for");
    drop(finished);
    let second = batch(folder.path(), 50);
    // The same service, some time later, by its own task ids.
    let time = clock(&second);
    let later = simulator(&second, &time, Settings::default());
    let finished = run(folder.path(), second, &later, time, pending()).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 50));
    assert_eq!(api.verdict().unwrap().accepted + later.verdict().unwrap().accepted, 50);

    let folder = tempfile::tempdir().unwrap();
    let untouched = batch(folder.path(), 5);
    let time = clock(&untouched);
    let api = simulator(&untouched, &time, Settings::default());
    let finished = run(folder.path(), untouched, &api, time, ready(())).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Pending)), (Some(&Halt::Interrupted), 5));
    assert_eq!((finished.progress.requests, finished.progress.spent), (0, Usd::ZERO));
    drop(finished);
    let again = batch(folder.path(), 5);
    let time = clock(&again);
    let api = simulator(&again, &time, Settings::default());
    let finished = run(folder.path(), again, &api, time, pending()).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 5));
}

/// A service that answers every submission with silence.
struct Silent {
    clock: Clock,
}

impl VideoApi for Silent {
    async fn submit(&self, _: Generation, _: Option<CallbackUrl>) -> Submitted {
        self.clock.sleep(Duration::from_secs(60)).await;
        Submitted::InDoubt(Failure::new(FailureKind::Doubt, None, "no answer within 60 s"))
    }

    async fn status(&self, task: TaskId) -> Polled {
        unreachable!("nothing was accepted: {task}")
    }

    async fn balance(&self) -> Balance {
        self.clock.sleep(Duration::from_secs(10)).await;
        Balance::Unclear(Failure::new(FailureKind::Transient, None, "no answer within 10 s"))
    }
}

#[tokio::test]
async fn a_silent_service_costs_a_few_doubts_and_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 100);
    let clock = clock(&batch);
    let api = Silent { clock: clock.clone() };
    let finished = run(folder.path(), batch, &api, clock, pending()).await.unwrap();
    assert!(matches!(finished.halt, Some(Halt::Outage(_))), "{:?}", finished.halt);
    let doubts = count(&finished, Status::Unknown);
    assert!((10..14).contains(&doubts), "{doubts}");
    assert_eq!(count(&finished, Status::Pending), 100 - doubts);
    assert_eq!(finished.progress.spent, PriceList::VENDOR.fast.times(doubts));
}

/// A service whose balance is well and whose submissions all break off half way.
#[derive(Default)]
struct BreaksOff {
    prompts: Mutex<Vec<Generation>>,
}

impl VideoApi for BreaksOff {
    async fn submit(&self, generation: Generation, _: Option<CallbackUrl>) -> Submitted {
        self.prompts.lock().unwrap().push(generation);
        Submitted::InDoubt(Failure::new(FailureKind::Doubt, None, "the connection broke"))
    }

    async fn status(&self, task: TaskId) -> Polled {
        unreachable!("nothing was accepted: {task}")
    }

    async fn balance(&self) -> Balance {
        Balance::Left(Some(Usd::from_cents(100_000)))
    }
}

#[tokio::test]
async fn submissions_that_break_off_are_never_repeated_and_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 300);
    let clock = clock(&batch);
    let api = BreaksOff::default();
    let finished = run(folder.path(), batch, &api, clock, pending()).await.unwrap();
    let sent: Vec<_> = api.prompts.into_inner().unwrap().iter().map(request_hash).collect();
    let distinct: std::collections::HashSet<_> = sent.iter().collect();
    assert_eq!(distinct.len(), sent.len(), "one submission a sample");
    assert_eq!(count(&finished, Status::Unknown), sent.len() as u64);
    assert_eq!(finished.progress.spent, PriceList::VENDOR.fast.times(sent.len() as u64));
    assert!(matches!(finished.halt, Some(Halt::Outage(_))), "{:?} after {}", finished.halt, sent.len());
    assert_eq!(count(&finished, Status::Pending), 300 - sent.len() as u64);
    // Those of the slow start, and the trials of an hour.
    assert!(sent.len() < 30, "{} doubts", sent.len());
}

/// The first commit of intents takes `stall`: time passes after it is durable and before it is sent.
async fn retracted_after_a_stall_of(stall: Duration) -> (usize, u64) {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 20);
    let time = clock(&batch);
    let api = simulator(&batch, &time, Settings::default());
    let (mut stalled, mut retracted) = (false, 0);
    let mut slow_disk = |event: &RunEvent<'_>, _: &Progress| {
        let RunEvent::Changed(change) = event else { return };
        if matches!(change.transition, Transition::Intended(_)) && !std::mem::replace(&mut stalled, true) {
            let until = time.now() + stall;
            while time.now() < until {
                time.advance(Some(until)).now_or_never().unwrap();
            }
        }
        retracted += usize::from(matches!(change.transition, Transition::Retracted));
    };
    let finished =
        run_telling(folder.path(), batch, &api, time.clone(), pending(), &mut slow_disk).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 20));
    let verdict = api.verdict().unwrap();
    assert!(verdict.held, "{verdict}");
    (retracted, verdict.counts.submissions)
}

#[tokio::test]
async fn a_permit_that_went_stale_at_the_disk_is_not_used() {
    assert_eq!(retracted_after_a_stall_of(STALE_PERMIT).await, (0, 20));
    let (retracted, submissions) = retracted_after_a_stall_of(STALE_PERMIT + Duration::from_millis(1)).await;
    assert!(retracted > 0);
    assert_eq!(submissions, 20, "what was taken back had not been sent");
}

/// What an account that allows half of what is documented answers to a run that takes the limits to
/// be `limits` and looks at tasks by `cadence`: how many 429s, and after how many seconds it is over.
async fn at_half_the_limits(limits: Limits, cadence: &str) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 2_000);
    let time = clock(&batch);
    let api = simulator(&batch, &time, Settings { limits: HALF, ..Settings::default() });
    let config = Config { limits, cadence: cadence.parse().unwrap(), ..Config::default() };
    let mut nobody = |_: &RunEvent<'_>, _: &Progress| {};
    let finished =
        run_as(folder.path(), batch, &api, time.clone(), config, pending(), &mut nobody, None).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 2_000));
    let verdict = api.verdict().unwrap();
    assert_eq!((verdict.accepted, verdict.bought_twice), (2_000, 0));
    (verdict.counts.throttled_429, time.now().as_millis() / 1_000)
}

const HALF: Limits = Limits {
    requests_per_minute: NonZeroU32::new(5_000).expect("not zero"),
    concurrent_tasks: NonZeroU32::new(500).expect("not zero"),
};

#[tokio::test]
async fn at_half_the_documented_limits_a_run_loses_little_to_finding_out() {
    // The second cadence asks for more requests than the account allows, so that the pace falls too.
    for (cadence, most_429) in [("fixed:90s,5s", 70), ("fixed:5s,1s", 140)] {
        let (none, told) = at_half_the_limits(HALF, cadence).await;
        let (throttled, found_out) = at_half_the_limits(Limits::DOCUMENTED, cadence).await;
        assert_eq!(none, 0);
        assert!((1..=most_429).contains(&throttled), "{cadence}: {throttled} answered 429");
        assert!(found_out * 100 <= told * 108, "{cadence}: {found_out} s, and {told} s if it is told");
    }
}

#[tokio::test]
async fn the_cap_is_for_all_runs_together_and_met_to_the_cent() {
    let folder = tempfile::tempdir().unwrap();
    let mut sold = 0;
    for (cap, bought, all_done) in [(Some(510), 25, false), (Some(599), 4, false), (None, 11, true)] {
        let batch = batch(folder.path(), 40);
        let time = clock(&batch);
        let api = simulator(&batch, &time, Settings::default());
        let max_cost = cap.map(Usd::from_cents);
        let config = Config { max_cost, ..Config::default() };
        let mut nobody = |_: &RunEvent<'_>, _: &Progress| {};
        let finished =
            run_as(folder.path(), batch, &api, time, config, pending(), &mut nobody, None).await.unwrap();
        sold += bought;
        assert_eq!(api.verdict().unwrap().accepted, bought, "{cap:?}");
        assert_eq!(count(&finished, Status::Succeeded), sold, "what is paid for is watched to its end");
        assert_eq!(finished.progress.spent, PriceList::VENDOR.fast.times(sold));
        assert_eq!(finished.halt, max_cost.map(Halt::CostCap));
        assert_eq!(count(&finished, Status::Pending) == 0, all_done);
    }
}

#[tokio::test]
async fn time_that_is_up_leaves_tasks_to_a_run_that_only_collects() {
    let folder = tempfile::tempdir().unwrap();
    let first = batch(folder.path(), 1_500);
    let time = clock(&first);
    // One service for all three, as its books and its clock go on.
    let api = simulator(&first, &time, Settings::default());
    let mut nobody = |_: &RunEvent<'_>, _: &Progress| {};
    let config = Config { max_duration: Some(Duration::from_secs(60)), ..Config::default() };
    let finished =
        run_as(folder.path(), first, &api, time.clone(), config, pending(), &mut nobody, None).await.unwrap();
    assert_eq!(finished.halt, Some(Halt::TimeUp));
    let (bought, running) = (finished.progress.accepted, finished.progress.running);
    assert!(bought >= 1_000 && running > 900, "{bought} bought, {running} being made");
    assert!(time.now().as_millis() < 81_000, "no longer than its time and its grace");
    drop(finished);

    let second = batch(folder.path(), 1_500);
    let config = Config { collect_only: true, ..Config::default() };
    let finished = run_as(folder.path(), second, &api, time.clone(), config, pending(), &mut nobody, None)
        .await
        .unwrap();
    assert_eq!(finished.halt, Some(Halt::CollectOnly));
    assert_eq!((finished.progress.accepted, finished.progress.running), (0, 0));
    assert_eq!(count(&finished, Status::Succeeded), bought);
    drop(finished);

    let third = batch(folder.path(), 1_500);
    let finished = run(folder.path(), third, &api, time, pending()).await.unwrap();
    assert_eq!((finished.halt.as_ref(), count(&finished, Status::Succeeded)), (None, 1_500));
    let verdict = api.verdict().unwrap();
    assert!(verdict.held && verdict.accepted == 1_500, "{verdict}");
}

#[tokio::test]
async fn the_balance_is_asked_at_both_ends_and_explains_what_was_bought() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 30);
    let time = clock(&batch);
    let api = simulator(&batch, &time, Settings::default());
    let mut balances = Vec::new();
    let mut sink = |event: &RunEvent<'_>, _: &Progress| {
        if let RunEvent::Balance(left) = event {
            balances.push(*left);
        }
    };
    let finished = run_telling(folder.path(), batch, &api, time, pending(), &mut sink).await.unwrap();
    let had = Settings::default().balance;
    assert_eq!(balances, [had.minus(PriceList::VENDOR.fast.times(30))]);
    assert_eq!(finished.progress.bought_now, had.minus(balances[0]));
}

/// What a download does, without one: it asks for a link while the run goes on, saves when generation is
/// over, and is then told to stop or ends by itself.
#[tokio::test]
async fn downloads_are_served_to_the_last_and_the_run_ends_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 3);
    let clock = clock(&batch);
    let api = simulator(&batch, &clock, Settings::default());
    let (sender, inbox) = mpsc::channel(MESSAGES_WAITING);
    let mut sender = Some(sender);
    let mut answers = Vec::new();
    let mut told = Vec::new();
    let mut sink = |event: &RunEvent<'_>, progress: &Progress| match event {
        RunEvent::Changed(change) => {
            if let (Transition::Accepted { task, .. }, Some(sender)) = (&change.transition, &sender) {
                // Twice, as two videos of one task would: the API is asked once.
                for _ in 0..2 {
                    let (answer, answered) = oneshot::channel();
                    answers.push(answered);
                    let wanted =
                        FromDownloads::LinkWanted { sample: change.sample, task: task.clone(), answer };
                    sender.try_send(wanted).unwrap();
                }
            }
        }
        RunEvent::GenerationOver => {
            assert_eq!(progress.tally.count(Status::Succeeded), 3, "too early");
            let path = "a.mp4".to_owned();
            let saved =
                DownloadEvent::Saved { sample: SampleId(1), part: 1, bytes: 7, path, sha256: [0; 32] };
            let standing = Downloads { saved: 1, bytes: 7, ..Downloads::default() };
            sender.take().unwrap().try_send(FromDownloads::Told(saved, standing)).unwrap();
        }
        RunEvent::Download(event) => told.push((*event).clone()),
        RunEvent::Started { .. }
        | RunEvent::Paused { .. }
        | RunEvent::Allowed { .. }
        | RunEvent::CalledBack { .. }
        | RunEvent::Uncalled { .. }
        | RunEvent::DoubtsAwaited(_)
        | RunEvent::PollFailed { .. }
        | RunEvent::Balance(_)
        | RunEvent::BuyingStopped(_)
        | RunEvent::Heartbeat
        | RunEvent::Finished => {}
    };
    let config = Config::default();
    let finished =
        run_as(folder.path(), batch, &api, clock, config, pending(), &mut sink, Some(inbox)).await.unwrap();
    assert!(matches!(told[..], [DownloadEvent::Saved { .. }]), "{told:?}");
    assert_eq!(finished.progress.downloads.map(|downloads| downloads.saved), Some(1));
    let looks: Vec<_> = answers.into_iter().map(|answer| answer.now_or_never().unwrap().unwrap()).collect();
    assert_eq!(looks.len(), 6);
    // Asked as soon as it was accepted, a task may be at its first stage.
    assert!(looks.iter().all(|look| matches!(look, Polled::Alive(_))), "{looks:?}");
    assert!(api.verdict().unwrap().held);
}

#[tokio::test]
async fn downloads_that_do_not_end_are_left_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(folder.path(), 1);
    let clock = Clock::real(batch.stamp_at(BIRTH).unwrap(), NonZeroU32::new(1_000).unwrap());
    let api = simulator(&batch, &clock, Settings::default());
    let (sender, inbox) = mpsc::channel(MESSAGES_WAITING);
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    let mut sink = |event: &RunEvent<'_>, _: &Progress| {
        if matches!(event, RunEvent::GenerationOver) {
            stop.take().unwrap().send(()).unwrap();
        }
    };
    let config = Config::default();
    let shutdown = stopped.map(|_| ());
    let finished =
        run_as(folder.path(), batch, &api, clock, config, shutdown, &mut sink, Some(inbox)).await.unwrap();
    assert_eq!(finished.halt, Some(Halt::Interrupted));
    assert!(sender.is_closed());
}
