//! One sheet's batch from its state file to its results: what a program or the command line drives.
//!
//! Owns the order of things: lock, open, import, then run. It decides nothing (that is
//! [`crate::schedule`]) and waits for nothing (that is [`crate::engine`]).

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::api::VideoApi;
use crate::clock::{Clock, Moment};
use crate::engine::{self, Callbacks, EngineError, FromDownloads, Start, World};
use crate::event::{EventSink, Progress};
use crate::generation::{Generation, PriceList};
use crate::job::{Limits, Stamp, Status, Tally};
use crate::manifest::{ManifestError, Reader};
use crate::names::{FileSystem, NameRule};
use crate::results::{ResultsError, ResultsFile};
use crate::schedule::gate::Gate;
use crate::schedule::{Before, Config, Halt, Restored, Schedule, Stored};
use crate::store::{
    Durability, Import, ImportError, ImportOptions, Lock, LockError, Naming, NamingError, Owner, Retried,
    Selection, Store, StoreError, Writer, WriterError, spawn_queue, state_lock_path,
};

/// Statuses of samples that ended without a video.
pub const UNSUCCESSFUL: [Status; 6] =
    [Status::Failed, Status::Rejected, Status::TimedOut, Status::Lost, Status::Unknown, Status::Invalid];

/// Why a batch cannot be opened or run. What was committed is safe, and the same call resumes.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Another process has the state file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sheet cannot be read into the state file.
    #[error(transparent)]
    Import(#[from] ImportError<ManifestError>),
    /// The results cannot be written.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The thread that reads the state file cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The run itself failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<WriterError> for BatchError {
    fn from(error: WriterError) -> Self {
        Self::Engine(error.into())
    }
}

/// An open state file that no other process uses.
#[derive(Debug)]
pub struct Batch {
    store: Store,
    /// Held for as long as the state file is open.
    lock: Lock,
    durability: Durability,
}

/// What a run is to do.
#[derive(Debug)]
pub struct Run {
    /// The time.
    pub clock: Clock,
    /// The gate that the first look at the balance has passed; see [`engine::first_balance`].
    pub gate: Gate,
    /// What governs it.
    pub config: Config,
    /// Which rows.
    pub selection: Selection,
    /// What videos cost.
    pub prices: PriceList,
    /// Where results go.
    pub results: PathBuf,
    /// How long to wait for submissions in flight after an interruption.
    pub grace: Duration,
    /// What downloads say and want, if there are any.
    pub downloads: Option<mpsc::Receiver<FromDownloads>>,
    /// How the API calls back, if it is asked to; `config.called_back` says whether somebody listens.
    pub callbacks: Option<Callbacks>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// Why it stopped before its end, if it did.
    pub halt: Option<Halt>,
    /// How it stands.
    pub progress: Progress,
    /// Whether the results are in order, or why not. Everything is safe in the state file, from
    /// which the next run or [`crate::results::export`] writes them again.
    pub results: Result<(), ResultsError>,
    /// The state file, for whatever else is to be asked of it.
    pub batch: Batch,
}

/// Downloads, and nothing else.
#[derive(Debug)]
pub struct Errand {
    /// The time.
    pub clock: Clock,
    /// The gate that every request passes.
    pub gate: Gate,
    /// What the account allows.
    pub limits: Limits,
    /// What downloads say and want.
    pub downloads: mpsc::Receiver<FromDownloads>,
}

impl Batch {
    /// Locks and opens the state file at `path`, whosever it is, to download what it has bought:
    /// nothing is to be bought with it.
    ///
    /// # Errors
    ///
    /// There is none, another process has it, or it cannot be used; then it is as it was.
    pub fn reopen(path: &Path, holder: &str, now: impl Into<Moment>) -> Result<Self, BatchError> {
        let lock = Lock::acquire(&state_lock_path(path), holder)?;
        let store = Store::reopen(path, Durability::Full, now)?;
        Ok(Self { store, lock, durability: Durability::Full })
    }

    /// Serves downloads until they end or `shutdown` is ready; buys and watches nothing, and leaves
    /// the results as they are.
    ///
    /// # Errors
    ///
    /// The state file fails.
    pub async fn fetch<A: VideoApi, S: EventSink>(
        self,
        api: &A,
        errand: Errand,
        sink: &mut S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Finished, BatchError> {
        let Errand { clock, gate, limits, downloads } = errand;
        let tally = self.store.tally(&Selection::default())?;
        let spent = self.store.spending()?;
        let writer = Writer::spawn(self.store, None)?;
        let config = Config { limits, collect_only: true, ..Config::default() };
        let schedule = Schedule::new(config, gate, Before { failures: 0, spent }, clock.now());
        // A queue that has ended.
        let (_, queue) = mpsc::channel(1);
        let world = World { api, clock, writer, queue, downloads: Some(downloads), callbacks: None, sink };
        let start = Start {
            schedule,
            restored: Vec::new(),
            tally,
            spent,
            grace: Duration::ZERO,
            halt: None,
            prices: PriceList::VENDOR,
        };
        let ending = engine::run(world, start, shutdown).await?;
        let (store, _) = ending.writer.finish()?;
        let batch = Self { store, lock: self.lock, durability: self.durability };
        Ok(Finished { halt: ending.halt, progress: ending.progress, results: Ok(()), batch })
    }

    /// Locks and opens the state file at `path`, or makes it. `holder` tells others who has it.
    ///
    /// # Errors
    ///
    /// Another process has it, or it is not this `owner`'s, or it cannot be used; then it is as it
    /// was.
    pub fn open(
        path: &Path,
        holder: &str,
        owner: &Owner<'_>,
        durability: Durability,
        now: impl Into<Moment>,
    ) -> Result<Self, BatchError> {
        let lock = Lock::acquire(&state_lock_path(path), holder)?;
        Ok(Self { store: Store::open(path, owner, durability, now)?, lock, durability })
    }

    /// The state file.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Puts ended samples back to be bought again; see [`Store::retry`].
    ///
    /// # Errors
    ///
    /// When the state file fails.
    pub fn retry(
        &mut self,
        statuses: &[Status],
        selection: &Selection,
        now: Stamp,
        task_timeout: Duration,
    ) -> Result<Retried, BatchError> {
        Ok(self.store.retry(statuses, selection, now, task_timeout)?)
    }

    /// From here on what is put back holds only if [`Batch::run`] follows: until then somebody may
    /// say no.
    ///
    /// # Errors
    ///
    /// When the state file fails.
    pub fn propose(&mut self) -> Result<(), BatchError> {
        Ok(self.store.propose()?)
    }

    /// Reads the sheet into the state file and compares it with what is there; see [`Store::import`].
    ///
    /// # Errors
    ///
    /// The sheet or the state file cannot be read to the end. The state is then as it was.
    pub fn import(&mut self, sheet: Reader, options: ImportOptions) -> Result<Import, BatchError> {
        Ok(self.store.import(sheet, &options)?)
    }

    /// Names the samples that are not bought; see [`Store::assign_names`].
    ///
    /// # Errors
    ///
    /// A template that does not fit the sheet; a state file that fails.
    pub fn assign_names(&mut self, rule: &NameRule, place: &FileSystem) -> Result<Naming, NamingError> {
        self.store.assign_names(rule, place)
    }

    /// The stamp at which a process starts at this moment; see [`Store::stamp_at`].
    ///
    /// # Errors
    ///
    /// When the state file fails.
    pub fn stamp_at(&self, moment: impl Into<Moment>) -> Result<Stamp, BatchError> {
        Ok(self.store.stamp_at(&moment.into())?)
    }

    /// Whether a run of `selection` would send anything: something to buy, or something to watch.
    ///
    /// # Errors
    ///
    /// When the state file fails.
    pub fn has_work(&self, selection: &Selection, prices: PriceList) -> Result<bool, BatchError> {
        let to_buy = self.store.plan(selection, prices)?.iter().any(|line| line.samples > 0);
        let is_watched =
            |(sample, _): &(Restored, Generation)| !matches!(sample.stored, Stored::InDoubt { .. });
        Ok(to_buy || self.store.restore(prices)?.iter().any(is_watched))
    }

    /// Buys, watches, and writes the results, until every selected sample has ended, buying stopped
    /// for good, or `shutdown` is ready.
    ///
    /// # Errors
    ///
    /// The state file or the results cannot be written.
    pub async fn run<A: VideoApi, S: EventSink>(
        mut self,
        api: &A,
        run: Run,
        sink: &mut S,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Finished, BatchError> {
        let Run { clock, gate, config, selection, prices, results, grace, downloads, callbacks } = run;
        self.store.agree()?;
        self.store.outlast_others()?;
        let restored = self.store.restore(prices)?;
        let tally = self.store.tally(&Selection::default())?;
        let failures = unsuccessful(&self.store.tally(&selection)?);
        let spent = self.store.spending()?;
        let learned = self.store.learned();
        let queue = spawn_queue(self.store.cursor(&selection, prices)?).map_err(BatchError::Thread)?;
        let results = ResultsFile::begin(&results, &self.store)?;
        // Where there is no room for what is bought, nothing is; what is paid for is still watched.
        let halt = match self.durability {
            Durability::Full => self.store.set_aside().err().as_ref().map(no_room),
            Durability::Rehearsal => None,
        };
        let writer = if clock.is_virtual() {
            Writer::inline(self.store, Some(results))
        } else {
            Writer::spawn(self.store, Some(results))?
        };
        let before = Before { failures, spent };
        let mut schedule = Schedule::new(config, gate, before, clock.now());
        if let Some(learned) = learned {
            schedule.recall(&learned);
        }
        let world = World { api, clock, writer, queue, downloads, callbacks, sink };
        let start = Start { schedule, restored, tally, spent, grace, halt, prices };
        let ending = engine::run(world, start, shutdown).await?;
        let (mut store, results) = ending.writer.finish()?;
        let results = results.map_or(Ok(()), |results| results.finish(&store));
        if let Some(Err(error)) = ending.learned.map(|learned| store.keep_learned(&learned)) {
            tracing::debug!(%error, "what was learned of how long tasks take is not kept");
        }
        let batch = Self { store, lock: self.lock, durability: self.durability };
        Ok(Finished { halt: ending.halt, progress: ending.progress, results, batch })
    }
}

/// Why nothing is bought when no room can be set aside.
fn no_room(error: &std::io::Error) -> Halt {
    Halt::Disk(format!("there is no room to set 8 MiB aside beside the state file: {error}"))
}

/// How many samples ended without a video.
#[must_use]
pub fn unsuccessful(tally: &Tally) -> u64 {
    UNSUCCESSFUL.iter().map(|status| tally.count(*status)).sum()
}
