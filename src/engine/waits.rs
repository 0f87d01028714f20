//! What the loop waits for, each never ready where there is nothing to wait for.

use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use super::commits::Commit;
use crate::clock::Clock;
use crate::job::Stamp;
use crate::store::{Committed, WriterError};

/// A row, once there is a slot for it; the slot goes with the row. To be awaited without the runtime's
/// budget: in virtual time the loop seldom rests, and what has run out of that looks as if it were not
/// ready.
pub(super) async fn admit<T>(slots: &Semaphore, queue: &mut Receiver<T>) -> Option<T> {
    let slot = slots.acquire().await.ok()?;
    let row = queue.recv().await;
    if row.is_some() {
        slot.forget();
    }
    row
}

/// The end of the commit under way; never, if there is none.
pub(super) async fn awaited(commit: &mut Option<Commit>) -> Result<Committed, WriterError> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}

/// The end of a wait in real time. Virtual time is moved, not waited for.
pub(super) async fn wait_until(clock: &Clock, wake_at: Option<Stamp>) {
    match wake_at {
        Some(at) if !clock.is_virtual() => clock.sleep_until(at).await,
        Some(_) | None => std::future::pending().await,
    }
}
