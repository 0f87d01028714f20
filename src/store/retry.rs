//! Ended samples, back to be bought again.
//!
//! A doubt comes back only once it is older than the task time-out, when a task of its could no
//! longer be alive: until then its answer may still turn up, and its slot is held. It is marked
//! (`ready`, kind `doubt`, no message: nothing else stores that) so that the cursor gives it after
//! all others: while the run buys those, a callback may still settle what costs twice.

use std::time::Duration;

use rusqlite::params;

use super::restore::stamp;
use super::{State, Store, StoreError, stored, unsigned};
use crate::job::{Stamp, Status};

/// What came of [`Store::retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retried {
    /// Samples put back, doubts among them.
    pub samples: u64,
    /// Doubts put back: each of these may be paid for twice.
    pub doubts: u64,
    /// Doubts left as they are, because they are not as old as the task time-out.
    pub too_young: u64,
    /// When the oldest of those is old enough.
    pub next: Option<Stamp>,
}

impl Store {
    /// Puts samples of the sheet that are failed, rejected, timed out, lost or unknown back to be
    /// bought again, as far as `statuses` names them, with their paid retries restored; unknown
    /// ones only if they were submitted `task_timeout` or more before `now`. Other statuses have
    /// nothing to put back. What timed out, was lost or is unknown may be paid for twice: their
    /// attempts and cost stay counted.
    ///
    /// # Errors
    ///
    /// When the database fails; nothing is put back then.
    pub fn retry(
        &mut self,
        statuses: &[Status],
        now: Stamp,
        task_timeout: Duration,
    ) -> Result<Retried, StoreError> {
        let transaction = self.connection.transaction()?;
        let again = State::sql_list(|state| match state {
            State::Failed | State::Rejected | State::TimedOut | State::Lost => {
                statuses.contains(&state.status())
            }
            State::Ready
            | State::Submitting
            | State::Running
            | State::Succeeded
            | State::Unknown
            | State::Invalid => false,
        });
        let known = transaction.execute(
            &format!(
                "UPDATE samples SET state = 'ready', not_before = 0, paid_retries = 0, ended = NULL,
                        kind = NULL, code = NULL, message = NULL
                 WHERE removed = 0 AND state IN ({again})"
            ),
            (),
        )?;
        let mut retried = Retried { samples: known as u64, ..Retried::default() };
        if statuses.contains(&Status::Unknown) {
            // In the file's milliseconds; a part of one more makes a doubt younger, never older.
            let timeout = i64::try_from(task_timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
            let latest = stored(now.as_millis()).saturating_sub(timeout);
            retried.doubts = transaction.execute(
                "UPDATE samples SET state = 'ready', not_before = 0, paid_retries = 0, ended = NULL,
                        kind = 'doubt', code = NULL, message = NULL
                 WHERE removed = 0 AND state = 'unknown' AND submitted <= ?1",
                params![latest],
            )? as u64;
            retried.samples += retried.doubts;
            let (young, oldest) = transaction.query_one(
                "SELECT count(*), min(submitted) FROM samples WHERE removed = 0 AND state = 'unknown'",
                (),
                |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)),
            )?;
            retried.too_young = unsigned(young);
            retried.next = oldest.map(|submitted| stamp(submitted.saturating_add(timeout)));
        }
        transaction.commit()?;
        Ok(retried)
    }
}
