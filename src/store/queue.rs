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

/// Samples handed over at once, when there is room for so many: the thread and the engine then wake
/// each other once for all of them and not for each.
const AT_ONCE: usize = 64;

/// Feeds what `cursor` reads into a queue, which ends with it. Dropping the receiver ends the
/// thread.
///
/// # Errors
///
/// When the system has no thread left.
pub fn spawn(cursor: Cursor) -> io::Result<mpsc::Receiver<Result<(Entry, Generation), StoreError>>> {
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    thread::Builder::new().name("queue".to_owned()).spawn(move || {
        let mut cursor = cursor.peekable();
        while cursor.peek().is_some() {
            let Ok(places) = runtime.block_on(sender.reserve_many(AT_ONCE)) else { return };
            for (place, sample) in places.zip(&mut cursor) {
                place.send(sample);
            }
        }
    })?;
    Ok(receiver)
}
