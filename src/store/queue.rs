//! The bounded queue between the state file and the engine.
//!
//! A thread of its own reads the cursor, so that the engine's loop never waits for the disk and
//! memory does not grow with the sheet.

use std::io;
use std::thread;

use tokio::sync::mpsc;

use super::{Cursor, StoreError};
use crate::generation::Generation;
use crate::schedule::Entry;

/// Samples read ahead. The engine takes them at most as fast as the account allows, about 167 a
/// second; this is more than a second's worth, and at most a few megabytes of prompts.
pub const QUEUE_LENGTH: usize = 256;

/// Feeds what `cursor` reads into a queue, which ends with it. Dropping the receiver ends the
/// thread.
///
/// # Errors
///
/// When the system has no thread left.
pub fn spawn(cursor: Cursor) -> io::Result<mpsc::Receiver<Result<(Entry, Generation), StoreError>>> {
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
    thread::Builder::new().name("queue".to_owned()).spawn(move || {
        for sample in cursor {
            if sender.blocking_send(sample).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}
