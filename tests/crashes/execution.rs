//! One story from its first process to its end: run, crash, resume, mend, and check.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use batchveo::api::Balance;
use batchveo::batch::{Batch, BatchError, Finished, Run, UNSUCCESSFUL};
use batchveo::clock::Clock;
use batchveo::engine::first_balance;
use batchveo::generation::PriceList;
use batchveo::job::{Stamp, Status, UnixMillis};
use batchveo::manifest::{Options, Reader};
use batchveo::schedule::Halt;
use batchveo::schedule::gate::Gate;
use batchveo::store::{Durability, ImportOptions, Owner, Selection};
use futures::FutureExt as _;
use tokio::runtime::Runtime;

use super::BIRTH;
use super::checks::rows_of;
use super::service::{Process, Unwound, World};
use super::story::Story;

/// Processes after which a story that has not ended never will: it halts a few times, and crashes
/// at most [`super::MOST_CRASHES`] times.
const MOST_PROCESSES: u64 = 40;
/// Halts after which the service is mended whatever the reason.
const PATIENCE: u32 = 4;

/// What came of a story.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) effects: u32,
    pub(crate) crashes: u32,
    pub(crate) checks: u64,
    pub(crate) violations: Vec<String>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) trace: String,
}

/// How a process ended.
enum End {
    Crashed,
    /// The first look at the balance was not answered well.
    NotBegun,
    Finished(Option<Halt>),
    /// In a way that no process may.
    Broken(String),
}

/// A folder with the story's state file as it is when its sheet has been read.
pub(crate) struct Stage {
    story: Story,
    folder: tempfile::TempDir,
    told: u32,
}

impl Stage {
    pub(crate) fn new(story: Story) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a folder");
        let sheet = folder.path().join("sheet.csv");
        std::fs::write(&sheet, story.sheet()).expect("a sheet");
        let mut batch = open(&folder.path().join("state.db"), BIRTH).expect("a new state file");
        let reader = Reader::open(&sheet, &Options::default()).expect("a sheet that can be read");
        assert!(batch.import(reader, ImportOptions::default()).expect("a sound sheet").applied);
        Self { story, folder, told: 0 }
    }

    /// Tells the story with a crash before each of these effects.
    pub(crate) fn tell(
        &mut self,
        runtime: &Runtime,
        crashes: &[u32],
        expected: Option<&[Status]>,
        traced: bool,
    ) -> Told {
        self.told += 1;
        let folder = self.folder.path().join(self.told.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::copy(self.folder.path().join("state.db"), folder.join("state.db")).expect("a copy");
        let mut telling = Telling::new(&self.story, folder.clone(), crashes, traced);
        let statuses = telling.go_on(runtime);
        if self.story.retried && telling.world().checks.violations.is_empty() && telling.put_back() {
            telling.go_on(runtime);
        }
        let mut world = telling.world.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(expected) = expected.filter(|_| self.story.is_steady()) {
            for (place, (told, expected)) in statuses.iter().zip(expected).enumerate() {
                let fixed = [Status::Succeeded, Status::Failed, Status::Rejected].contains(expected);
                world.checks.that(!fixed || told == expected || *told == Status::Unknown, || {
                    format!("sample at {place} is {told}, and {expected} without a crash")
                });
            }
        }
        std::fs::remove_dir_all(&folder).expect("a folder to remove");
        Told {
            effects: world.effects,
            crashes: telling.crashes,
            checks: world.checks.made,
            violations: world.checks.violations,
            statuses,
            trace: world.trace.unwrap_or_default(),
        }
    }
}

fn open(state: &Path, now: UnixMillis) -> Result<Batch, BatchError> {
    Batch::open(state, "crashes", &Owner::Simulator { seed: 1 }, Durability::Rehearsal, now)
}

struct Telling {
    story: Story,
    folder: PathBuf,
    world: Mutex<World>,
    /// The true time.
    now: Stamp,
    set_back: Duration,
    crashes: u32,
}

impl Telling {
    fn new(story: &Story, folder: PathBuf, crashes: &[u32], traced: bool) -> Self {
        let world = World::new(story.clone(), &folder, crashes, traced);
        Self {
            story: story.clone(),
            folder,
            world: Mutex::new(world),
            now: Stamp::BIRTH,
            set_back: Duration::ZERO,
            crashes: 0,
        }
    }

    fn world(&mut self) -> &mut World {
        self.world.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Process after process until every sample has ended.
    fn go_on(&mut self, runtime: &Runtime) -> Vec<Status> {
        let mut halts = 0;
        for process in 0..MOST_PROCESSES {
            let (end, statuses) = self.process(runtime);
            let now = self.now;
            let world = self.world();
            let trouble = match end {
                End::Crashed => {
                    self.crashes += 1;
                    None
                }
                End::NotBegun => Some("the run has not begun".to_owned()),
                End::Finished(None) => {
                    let pending = statuses.contains(&Status::Pending);
                    world.checks.that(!pending, || "a run to the end leaves samples pending".to_owned());
                    return statuses;
                }
                End::Finished(Some(halt)) => Some(format!("{halt:?}")),
                End::Broken(how) => {
                    world.checks.that(false, || how);
                    return statuses;
                }
            };
            self.now = now + self.story.downtime(process);
            self.set_back = self.story.set_back;
            if let Some(trouble) = trouble {
                halts += 1;
                let outage_ends = self.story.outage.map(|(_, until, _)| until);
                let of_itself = ["Interrupted", "TimeUp"].iter().any(|halt| trouble.contains(halt));
                if !of_itself || halts >= PATIENCE {
                    self.now = self.now.max(outage_ends.unwrap_or_default());
                    self.world().mend();
                }
                self.world().note(now, &format!("STOPPED: {trouble}"));
            }
        }
        self.world().checks.that(false, || format!("not at an end after {MOST_PROCESSES} processes"));
        Vec::new()
    }

    /// What ended without a video is put back to be bought again, doubts among it if they are old
    /// enough; answers whether there was anything.
    fn put_back(&mut self) -> bool {
        self.now = self.now + self.story.downtime(MOST_PROCESSES);
        let wall = self.wall();
        let timeout = self.story.config(true).task_timeout;
        let mut batch =
            open(&self.folder.join("state.db"), wall).expect("the state file of a run that ended");
        let stamp = batch.stamp_at(wall).expect("a state file that can be read");
        let before = rows_of(batch.store());
        let mut retry = |stamp| {
            batch.retry(&UNSUCCESSFUL, &Selection::default(), stamp, timeout).expect("a sound state file")
        };
        // Doubts that are too young are put back as soon as they may be.
        if let Some(next) = retry(stamp).next {
            self.now = self.now + next.since(stamp);
            retry(next);
        }
        let after = rows_of(batch.store());
        let now = self.now;
        let world = self.world();
        for (place, (before, after)) in before.iter().zip(&after).enumerate() {
            let put_back = before.status != after.status;
            let in_doubt = before.status == Status::Unknown;
            let last = world.sent_for(place).last().map(|(_, last)| last.arrived);
            if in_doubt {
                // A request is on its way for three seconds at most.
                let age = last.map(|arrived| now.since(arrived) + Duration::from_secs(3));
                world.checks.that(!put_back || age.is_none_or(|age| age >= timeout), || {
                    format!("sample {} is put back when its doubt is {age:?} old", before.sample)
                });
            }
            if put_back {
                world.note(now, &format!("PUT BACK: sample {} ({})", before.sample, before.status));
                world.put_back.insert(place, (world.submissions.len(), usize::from(in_doubt)));
                world.doubtful.remove(&place);
            }
        }
        !world.put_back.is_empty()
    }

    /// What the wall clock shows.
    fn wall(&self) -> UnixMillis {
        UnixMillis(BIRTH.at(self.now).0 - i64::try_from(self.set_back.as_millis()).unwrap_or(0))
    }

    /// One process, and what its end left behind.
    fn process(&mut self, runtime: &Runtime) -> (End, Vec<Status>) {
        let wall = self.wall();
        let state = self.folder.join("state.db");
        let results = self.folder.join("results.csv");
        let opened = open(&state, wall).and_then(|batch| Ok((batch.stamp_at(wall)?, batch)));
        let (stamp, batch) = match opened {
            Ok(opened) => opened,
            Err(error) => return (End::Broken(told(&error)), Vec::new()),
        };
        let clock = Clock::virtual_from(stamp);
        let now = self.now;
        let world = self.world();
        world.begin(now, stamp);
        if world.samples.is_empty() {
            let ids = |world: &World| -> rusqlite::Result<Vec<i64>> {
                let mut ids = world.state.prepare("SELECT id FROM samples ORDER BY id")?;
                ids.query_map((), |row| row.get(0))?.collect()
            };
            world.samples = ids(world).expect("a state file that can be read");
        }
        let process = Process { world: &self.world, clock: clock.clone() };
        let run = std::panic::AssertUnwindSafe(self.run(&process, batch, &results)).catch_unwind();
        let ended = runtime.block_on(run);
        drop(process);
        self.now = self.world().truth(clock.now());
        let world = self.world();
        world.look_at_state();
        world.check_cap();
        match ended {
            Ok(Ok(None)) => (End::NotBegun, Vec::new()),
            Ok(Ok(Some(Finished { halt, progress, batch, results: written, .. }))) => {
                world.checks.that(written.is_ok(), || format!("the results are not in order: {written:?}"));
                let store = batch.store();
                let rows = rows_of(store);
                let spending = store.spending().expect("a state file that can be read");
                world.checks.that(progress.spent == spending, || {
                    format!("the run says {} spent, the state {spending}", progress.spent)
                });
                let tally = store.tally(&Selection::default()).expect("a state file that can be read");
                world.checks.that(progress.tally == tally, || {
                    format!("the run counts {:?}, the state {tally:?}", progress.tally)
                });
                world.check_results(&results, &rows);
                world.check_known();
                if halt.is_none() {
                    world.check_all(&rows, spending);
                }
                (End::Finished(halt), rows.iter().map(|row| row.status).collect())
            }
            Ok(Err(error)) => (End::Broken(told(&error)), Vec::new()),
            Err(payload) => match payload.downcast_ref::<Unwound>() {
                Some(Unwound::Crash) => {
                    if world.torn {
                        tear(&results, world.effects);
                    }
                    (End::Crashed, Vec::new())
                }
                Some(Unwound::Endless) => (End::Broken("the run does not end".to_owned()), Vec::new()),
                None => {
                    let text = payload.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("?");
                    (End::Broken(format!("panic: {text}")), Vec::new())
                }
            },
        }
    }

    /// What the command does; `None` where the service does not answer the first look well.
    async fn run(
        &self,
        process: &Process<'_>,
        batch: Batch,
        results: &Path,
    ) -> Result<Option<Finished>, BatchError> {
        let (clock, config) = (process.clock.clone(), self.story.config(process.world().mended));
        // By this clock, and fixed now: when the loop first waits for it is not the story's to say.
        let interrupted = self.story.interrupted_at.filter(|at| *at > self.now);
        let interrupted = interrupted.map(|at| clock.now() + at.since(self.now));
        let mut gate = Gate::new(config.limits.requests_per_minute, clock.now());
        if batch.has_work(&Selection::default(), PriceList::VENDOR)? {
            let balance = first_balance(process, &mut gate, &clock, config.retry.seed).await;
            if !matches!(balance, Balance::Left(_)) {
                return Ok(None);
            }
        }
        let shutdown = async {
            match interrupted {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let run = Run {
            clock: clock.clone(),
            gate,
            config,
            selection: Selection::default(),
            prices: PriceList::VENDOR,
            results: results.to_owned(),
            grace: self.story.grace,
            downloads: None,
            callbacks: None,
        };
        batch.run(process, run, &mut &*process, shutdown).await.map(Some)
    }
}

/// What a crash in the middle of writing leaves of the last line.
fn tear(results: &Path, seed: u32) {
    let text = std::fs::read(results).expect("results");
    let lines = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let keep = lines + seed as usize % (text.len() - lines);
    std::fs::write(results, &text[..keep]).expect("results");
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
