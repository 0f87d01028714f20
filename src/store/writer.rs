//! Commits off the engine's loop.
//!
//! A thread owns the store and takes one batch at a time, so that `fsync` never holds up the
//! runtime; what arrives meanwhile is the engine's next batch. In virtual time nothing waits for
//! the disk and the hop to a thread would be most of the cost, so the same work is done in place.

use std::error::Error;
use std::future::{Future, ready};
use std::sync::mpsc;
use std::thread;

use futures::FutureExt;
use futures::future::Either;
use tokio::sync::oneshot;

use super::{Store, StoreError};
use crate::job::SampleId;
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

/// Why a batch was not committed, or not followed.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// Nothing of the batch is durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The batch is durable; what follows the state file is behind it.
    #[error(transparent)]
    Follower(Box<dyn Error + Send + Sync>),
    /// The thread cannot be started, or has ended.
    #[error("the thread that writes the state file is not running")]
    Gone(#[source] Option<std::io::Error>),
}

/// The only writer of a state file while a run goes on.
#[derive(Debug)]
pub struct Writer<F>(Place<F>);

#[derive(Debug)]
enum Place<F> {
    Thread { batches: mpsc::SyncSender<Batch>, thread: thread::JoinHandle<Desk<F>> },
    Here(Box<Desk<F>>),
}

/// Changes, and where to answer.
type Batch = (Vec<Change>, oneshot::Sender<Result<Vec<Change>, WriterError>>);

/// What the work is done on.
#[derive(Debug)]
struct Desk<F> {
    store: Store,
    follower: Option<F>,
    ended: Vec<SampleId>,
}

impl<F: Follower> Desk<F> {
    fn commit(&mut self, batch: Vec<Change>) -> Result<Vec<Change>, WriterError> {
        self.store.commit(&batch)?;
        if let Some(follower) = &mut self.follower {
            let ended = |change: &&Change| matches!(change.transition, Transition::Ended { .. });
            self.ended.clear();
            self.ended.extend(batch.iter().filter(ended).map(|change| change.sample));
            if !self.ended.is_empty() {
                let followed = follower.follow(&self.store, &self.ended);
                followed.map_err(|error| WriterError::Follower(error.into()))?;
            }
        }
        Ok(batch)
    }
}

impl<F: Follower> Writer<F> {
    /// A writer on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn spawn(store: Store, follower: Option<F>) -> Result<Self, WriterError> {
        let (batches, waiting) = mpsc::sync_channel::<Batch>(BATCHES_WAITING);
        let mut desk = Desk { store, follower, ended: Vec::new() };
        let work = move || {
            for (batch, answer) in waiting {
                // Nobody waits for the answer any more: the engine was dropped, the batch stands.
                drop(answer.send(desk.commit(batch)));
            }
            desk
        };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(work);
        let thread = thread.map_err(|error| WriterError::Gone(Some(error)))?;
        Ok(Self(Place::Thread { batches, thread }))
    }

    /// A writer that does its work in the call.
    #[must_use]
    pub fn inline(store: Store, follower: Option<F>) -> Self {
        Self(Place::Here(Box::new(Desk { store, follower, ended: Vec::new() })))
    }

    /// Makes `batch` durable, has its endings followed, and gives it back. The work is under way
    /// when this returns, whether or not the future is awaited. At most one batch may be
    /// outstanding: a second call waits for the thread to take the first.
    pub fn commit(
        &mut self,
        batch: Vec<Change>,
    ) -> impl Future<Output = Result<Vec<Change>, WriterError>> + Send + use<F> {
        match &mut self.0 {
            Place::Here(desk) => Either::Left(ready(desk.commit(batch))),
            Place::Thread { batches, .. } => {
                let (answer, answered) = oneshot::channel();
                // A thread that is gone drops the answer's sender, which is told below.
                drop(batches.send((batch, answer)));
                Either::Right(answered.map(|answer| answer.unwrap_or(Err(WriterError::Gone(None)))))
            }
        }
    }

    /// Waits for what is under way and gives back what the writer was made of.
    ///
    /// # Errors
    ///
    /// When the thread died.
    pub fn finish(self) -> Result<(Store, Option<F>), WriterError> {
        let desk = match self.0 {
            Place::Here(desk) => *desk,
            Place::Thread { batches, thread } => {
                drop(batches);
                thread.join().map_err(|_| WriterError::Gone(None))?
            }
        };
        Ok((desk.store, desk.follower))
    }
}
