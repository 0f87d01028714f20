//! Commits off the engine's loop.
//!
//! A thread owns the store and takes one batch at a time, so that `fsync` never holds up the
//! runtime; what arrives meanwhile is the engine's next batch. In virtual time nothing waits for
//! the disk and the hop to a thread would be most of the cost, so the same work is done in place.
//!
//! A batch that finds the disk full is tried again in the room that was set aside; it is durable
//! then, and whoever gave it is told to buy nothing more. What follows the state file never keeps a
//! batch from being durable: once it cannot be written it is left alone, to be built anew.

use std::error::Error;
use std::future::{Future, ready};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use futures::FutureExt;
use futures::future::Either;
use tokio::sync::oneshot;

use super::{Store, StoreError, Unsettled};
use crate::generation::PriceList;
use crate::job::{Attempt, SampleId};
use crate::schedule::cadence::Learned;
use crate::schedule::{Change, Transition};

/// Batches on their way to the thread: the engine has at most one outstanding.
const BATCHES_WAITING: usize = 1;

/// What is kept up to date behind the state file, such as the results.
pub trait Follower: Send + 'static {
    /// Why it cannot be.
    type Error: Error + Send + Sync + 'static;

    /// Takes note of samples that have ended, durably, in this order.
    ///
    /// # Errors
    ///
    /// What ended is safe in the state file all the same.
    fn follow(&mut self, store: &Store, ended: &[SampleId]) -> Result<(), Self::Error>;
}

/// A batch that is durable.
#[derive(Debug)]
pub struct Committed {
    /// The batch.
    pub changes: Vec<Change>,
    /// What went wrong all the same: nothing more should be bought. Told once.
    pub trouble: Option<Trouble>,
    /// What was looked up after it, in the order of [`LookUp::wanted`].
    pub found: Vec<Result<Option<Unsettled>, StoreError>>,
}

/// Submissions to look up once a batch is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// Which.
    pub wanted: Vec<(SampleId, Attempt)>,
    /// What videos cost.
    pub prices: PriceList,
}

/// Why nothing more should be bought, although everything so far is durable.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The disk is full, and the room that was set aside is in use.
    #[error("the disk of {} takes no more: {}", state.display(), with_causes(source))]
    DiskFull {
        /// The state file.
        state: PathBuf,
        /// What the state file said before that room was given to it.
        source: StoreError,
    },
    /// What follows the state file cannot be written any longer, and is behind it.
    #[error("{}", with_causes(&**_0))]
    Follower(#[source] Box<dyn Error + Send + Sync>),
}

/// Why a batch was not committed: nothing of it is durable.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The state file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk is full, and the room that was set aside was not enough.
    #[error(
        "the disk of {} takes no more: free some space, then give the same command again; it finds what is in flight",
        state.display()
    )]
    DiskFull {
        /// The state file.
        state: PathBuf,
        /// What the state file says.
        source: StoreError,
    },
    /// The thread cannot be started, or has ended.
    #[error("the thread that writes the state file is not running")]
    Gone(#[source] Option<std::io::Error>),
}

/// An error and what caused it, in one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

/// The only writer of a state file while a run goes on.
#[derive(Debug)]
pub struct Writer<F> {
    place: Place<F>,
    /// To be kept with the next batch.
    learned: Option<Learned>,
}

#[derive(Debug)]
enum Place<F> {
    Thread { batches: mpsc::SyncSender<(Batch, Answer)>, thread: thread::JoinHandle<Desk<F>> },
    Here(Box<Desk<F>>),
}

/// What is to be done together.
#[derive(Debug)]
struct Batch {
    changes: Vec<Change>,
    look_up: Option<LookUp>,
    learned: Option<Learned>,
}

/// Where to answer.
type Answer = oneshot::Sender<Result<Committed, WriterError>>;

/// What the work is done on.
#[derive(Debug)]
struct Desk<F> {
    store: Store,
    follower: Option<F>,
    /// Whether the follower is still told: not after it failed.
    following: bool,
    ended: Vec<SampleId>,
}

impl<F: Follower> Desk<F> {
    fn new(store: Store, follower: Option<F>) -> Self {
        Self { store, follower, following: true, ended: Vec::new() }
    }

    fn commit(&mut self, batch: Batch) -> Result<Committed, WriterError> {
        let Batch { changes, look_up, learned } = batch;
        let full = commit_where_there_is_room(&mut self.store, &changes, Store::find_room)?;
        let full = full.map(|source| Trouble::DiskFull { state: self.store.path().into(), source });
        // Not worth a word beyond the log: the next run learns it again.
        if let Some(Err(error)) = learned.map(|learned| self.store.keep_learned(&learned)) {
            tracing::debug!(%error, "what was learned of how long tasks take is not kept");
        }
        let behind = self.follow(&changes).err().map(|error| Trouble::Follower(error.into()));
        let found = look_up.map_or_else(Vec::new, |look_up| self.look_up(&look_up));
        Ok(Committed { changes, trouble: full.or(behind), found })
    }

    fn look_up(&self, look_up: &LookUp) -> Vec<Result<Option<Unsettled>, StoreError>> {
        let find = |(sample, attempt): &(_, _)| self.store.unsettled(*sample, *attempt, look_up.prices);
        look_up.wanted.iter().map(find).collect()
    }

    fn follow(&mut self, changes: &[Change]) -> Result<(), F::Error> {
        let Some(follower) = self.follower.as_mut().filter(|_| self.following) else { return Ok(()) };
        let ended = |change: &&Change| matches!(change.transition, Transition::Ended { .. });
        self.ended.clear();
        self.ended.extend(changes.iter().filter(ended).map(|change| change.sample));
        if self.ended.is_empty() {
            return Ok(());
        }
        follower.follow(&self.store, &self.ended).inspect_err(|_| self.following = false)
    }
}

/// Makes `changes` durable, in the room that `find_room` finds if the disk is full. Answers how the
/// state file failed before that.
pub(super) fn commit_where_there_is_room(
    store: &mut Store,
    changes: &[Change],
    find_room: impl FnOnce(&mut Store),
) -> Result<Option<StoreError>, WriterError> {
    let first = match store.commit(changes) {
        Ok(()) => return Ok(None),
        Err(error) => error,
    };
    let last = if first.is_for_want_of_room() {
        find_room(store);
        match store.commit(changes) {
            Ok(()) => return Ok(Some(first)),
            Err(error) => error,
        }
    } else {
        first
    };
    tell_what_is_lost(changes);
    Err(if last.is_for_want_of_room() {
        WriterError::DiskFull { state: store.path().into(), source: last }
    } else {
        last.into()
    })
}

/// Names on the log the tasks that were bought and cannot be written down: it is all that is left.
pub fn tell_what_is_lost(changes: &[Change]) {
    for Change { sample, transition, .. } in changes {
        if let Transition::Accepted { task, .. } = transition {
            tracing::error!(%sample, %task, "bought, and it cannot be written down");
        }
    }
}

impl<F: Follower> Writer<F> {
    /// A writer on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn spawn(store: Store, follower: Option<F>) -> Result<Self, WriterError> {
        let (batches, waiting) = mpsc::sync_channel::<(Batch, Answer)>(BATCHES_WAITING);
        let mut desk = Desk::new(store, follower);
        let work = move || {
            for (batch, answer) in waiting {
                // Nobody waits for the answer any more: the engine was dropped, the batch stands.
                drop(answer.send(desk.commit(batch)));
            }
            desk
        };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(work);
        let thread = thread.map_err(|error| WriterError::Gone(Some(error)))?;
        Ok(Self { place: Place::Thread { batches, thread }, learned: None })
    }

    /// A writer that does its work in the call.
    #[must_use]
    pub fn inline(store: Store, follower: Option<F>) -> Self {
        Self { place: Place::Here(Box::new(Desk::new(store, follower))), learned: None }
    }

    /// Makes `batch` durable, has its endings followed, and gives it back. The work is under way
    /// when this returns, whether or not the future is awaited. At most one batch may be
    /// outstanding: a second call waits for the thread to take the first.
    pub fn commit(
        &mut self,
        batch: Vec<Change>,
    ) -> impl Future<Output = Result<Committed, WriterError>> + Send + use<F> {
        self.commit_and_look_up(batch, None)
    }

    /// The same, and looks these submissions up once the batch is durable.
    pub fn commit_and_look_up(
        &mut self,
        changes: Vec<Change>,
        look_up: Option<LookUp>,
    ) -> impl Future<Output = Result<Committed, WriterError>> + Send + use<F> {
        let batch = Batch { changes, look_up, learned: self.learned.take() };
        match &mut self.place {
            Place::Here(desk) => Either::Left(ready(desk.commit(batch))),
            Place::Thread { batches, .. } => {
                let (answer, answered) = oneshot::channel();
                // A thread that is gone drops the answer's sender, which is told below.
                drop(batches.send((batch, answer)));
                Either::Right(answered.map(|answer| answer.unwrap_or(Err(WriterError::Gone(None)))))
            }
        }
    }

    /// Has this kept with the next batch.
    pub fn remember(&mut self, learned: Learned) {
        self.learned = Some(learned);
    }

    /// Waits for what is under way and gives back what the writer was made of.
    ///
    /// # Errors
    ///
    /// When the thread died.
    pub fn finish(self) -> Result<(Store, Option<F>), WriterError> {
        let desk = match self.place {
            Place::Here(desk) => *desk,
            Place::Thread { batches, thread } => {
                drop(batches);
                thread.join().map_err(|_| WriterError::Gone(None))?
            }
        };
        Ok((desk.store, desk.follower))
    }
}
