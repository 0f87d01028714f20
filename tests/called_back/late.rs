//! Callbacks of samples that no run has in flight any more: what the state file says of them decides.

use std::future::pending;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use batchveo::api::{Balance, CallbackUrl, Polled, Stage, Submitted, VideoApi};
use batchveo::batch::{Batch, Finished, Run};
use batchveo::callback::{Addresses, Arrival, Receipt, Refusals, Signer};
use batchveo::clock::Clock;
use batchveo::engine::Callbacks;
use batchveo::event::{Progress, RunEvent};
use batchveo::generation::{Generation, PriceList};
use batchveo::job::{
    Attempt, Failure, FailureKind, Limits, SampleId, Status, TaskId, UnixMillis, Usd, Video,
};
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::Config;
use batchveo::schedule::gate::Gate;
use batchveo::store::{Durability, ImportOptions, Owner, Selection};
use futures::StreamExt as _;

use super::support::Folder;

/// A service that accepts a prompt of `lost` and denies it later, never makes one of `slow`, answers
/// one of `doubt` with nothing that can be read, and one of `refused` that there is no money; neither must
/// be asked for twice.
#[derive(Default)]
struct Forgetful {
    asked: AtomicBool,
}

impl VideoApi for Forgetful {
    async fn submit(&self, generation: Generation, _: Option<CallbackUrl>) -> Submitted {
        match generation.draft().prompt.as_str() {
            "doubt" | "refused" if self.asked.swap(true, Ordering::Relaxed) => panic!("bought again"),
            "doubt" => Submitted::InDoubt(Failure::new(FailureKind::Doubt, None, "the connection broke")),
            "refused" => Submitted::NoMoney(Failure::new(FailureKind::Money, None, "none left")),
            prompt => Submitted::Accepted(TaskId::new(prompt).unwrap()),
        }
    }

    async fn status(&self, task: TaskId) -> Polled {
        match task.as_str() {
            "lost" => Polled::NotFound(Failure::new(FailureKind::Transient, None, "no such task")),
            _ => Polled::Alive(Stage::Processing),
        }
    }

    async fn balance(&self) -> Balance {
        Balance::Left(Some(Usd::from_cents(100_000)))
    }
}

fn open(state: &Path, sheet: &Path, birth: UnixMillis) -> Batch {
    let owner = Owner::Simulator { seed: 1 };
    let mut batch = Batch::open(state, "a test", &owner, Durability::Rehearsal, birth).unwrap();
    let reader = Reader::open(sheet, &Options::default()).unwrap();
    assert!(batch.import(reader, ImportOptions::default()).unwrap().applied);
    batch
}

async fn run(
    api: &Forgetful,
    folder: &Folder,
    birth: UnixMillis,
    config: Config,
    arrivals: Vec<Arrival>,
) -> Finished {
    let batch = open(&folder.path("p.db"), &folder.path("p.csv"), birth);
    let clock = Clock::virtual_from(batch.stamp_at(birth).unwrap());
    let callbacks = Callbacks {
        addresses: Addresses::signed("https://hooks.example/".parse().unwrap(), Signer::new(&[3; 32], 0)),
        arrivals: Some(futures::stream::iter(arrivals).boxed()),
        refusals: Refusals::default(),
    };
    let run = Run {
        gate: Gate::new(Limits::DOCUMENTED.requests_per_minute, clock.now()),
        clock,
        config: Config { called_back: true, ..config },
        selection: Selection::default(),
        prices: PriceList::VENDOR,
        results: folder.path("p.results.csv"),
        grace: Duration::from_secs(20),
        downloads: None,
        callbacks: Some(callbacks),
    };
    let mut sink = |_: &RunEvent<'_>, _: &Progress| {};
    batch.run(api, run, &mut sink, pending()).await.unwrap()
}

fn call(sample: i64, task: &str, answer: Polled) -> Arrival {
    let task = TaskId::new(task);
    Arrival { sample: SampleId(sample), attempt: Attempt(1), task, answer, receipt: Receipt::unwanted() }
}

fn made(name: &str) -> Polled {
    let urls = vec![format!("https://cdn.example/{name}.mp4")];
    Polled::Succeeded(Video { urls, created: None, completed: None })
}

#[tokio::test]
async fn what_was_given_up_on_is_made_after_all_and_a_second_callback_is_heard_at_once() {
    let (api, folder) = (Forgetful::default(), Folder::new());
    folder.write("p.csv", "prompt,mode\nlost,fast\nslow,fast\ndoubt,fast\n");
    let birth = 1_800_000_000_000;
    let finished = run(&api, &folder, UnixMillis(birth), Config::default(), Vec::new()).await;
    let count = |finished: &Finished, status| finished.progress.tally.count(status);
    let stand = [Status::Lost, Status::TimedOut, Status::Unknown].map(|status| count(&finished, status));
    assert_eq!(stand, [1, 1, 1], "{finished:?}");
    drop(finished);

    let failure = || Failure::new(FailureKind::Transient, None, "no such task");
    let arrivals = vec![
        // Another task, and no end.
        call(1, "other", made("other")),
        call(1, "lost", Polled::NotFound(failure())),
        // It names the task, without its end; the next has it.
        call(3, "found", Polled::SucceededWithoutUrl),
        call(3, "found", made("found")),
    ];
    let finished = run(&api, &folder, UnixMillis(birth + 86_400_000), Config::default(), arrivals).await;
    assert_eq!((count(&finished, Status::Lost), count(&finished, Status::Succeeded)), (1, 1), "{finished:?}");
    drop(finished);

    let arrivals = vec![call(1, "lost", made("lost")), call(2, "slow", made("slow"))];
    let finished = run(&api, &folder, UnixMillis(birth + 2 * 86_400_000), Config::default(), arrivals).await;
    assert_eq!(count(&finished, Status::Succeeded), 3, "{finished:?}");
    assert_eq!(finished.progress.spent, PriceList::VENDOR.fast.times(3), "each bought once");
    let rows = folder.results("p.results.csv");
    let seen: Vec<_> = rows.iter().map(|row| (row["status"].as_str(), row["task_id"].as_str())).collect();
    assert_eq!(seen, [("succeeded", "lost"), ("succeeded", "slow"), ("succeeded", "found")]);
    assert!(rows.iter().all(|row| row["error_code"].is_empty() && !row["video_url"].is_empty()), "{rows:?}");
}

/// What an earlier run could not know it had bought is called back in the next, whether or not the queue has
/// brought the row by then.
#[tokio::test]
async fn what_was_refused_or_put_back_and_calls_back_in_the_next_run_is_not_bought_again() {
    for (prompt, slots) in [("refused", 1), ("refused", 1_000), ("doubt", 1), ("doubt", 1_000)] {
        let (api, folder) = (Forgetful::default(), Folder::new());
        folder.write("p.csv", format!("prompt,mode\n{prompt},fast\n"));
        let birth = UnixMillis(1_800_000_000_000);
        let finished = run(&api, &folder, birth, Config::default(), Vec::new()).await;
        assert_eq!(finished.progress.tally.count(Status::Succeeded), 0, "{finished:?}");
        drop(finished);

        // Another row before it, which keeps the first slot for long.
        folder.write("p.csv", format!("prompt,mode\nslow,fast\n{prompt},fast\n"));
        let tomorrow = UnixMillis(birth.0 + 86_400_000);
        let mut batch = open(&folder.path("p.db"), &folder.path("p.csv"), birth);
        let (now, timeout) = (batch.stamp_at(tomorrow).unwrap(), Config::default().task_timeout);
        batch.retry(&[Status::Unknown], &Selection::default(), now, timeout).unwrap();
        drop(batch);
        let concurrent_tasks = NonZeroU32::new(slots).unwrap();
        let config =
            Config { limits: Limits { concurrent_tasks, ..Limits::DOCUMENTED }, ..Config::default() };
        let arrivals = vec![call(2, "t2", made("t2"))];
        let finished = run(&api, &folder, tomorrow, config, arrivals).await;
        let count = |status| finished.progress.tally.count(status);
        assert_eq!((count(Status::TimedOut), count(Status::Succeeded)), (1, 1), "{slots}: {finished:?}");
        assert_eq!(finished.progress.spent, PriceList::VENDOR.fast.times(2), "each bought once");
        let rows = folder.results("p.results.csv");
        let bought = &rows[1];
        assert_eq!((bought["status"].as_str(), bought["task_id"].as_str()), ("succeeded", "t2"), "{slots}");
        assert_eq!(bought["attempts"], "1");
    }
}
