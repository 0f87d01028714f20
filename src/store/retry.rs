//! Ended samples, back to be bought again.
//!
//! A doubt comes back only once it is older than the task time-out and the minute in which it could
//! be accepted, when a task of its could no longer be alive: until then its answer may still turn up, and its slot is held. It is marked
//! (`ready`, kind `doubt`, no message: nothing else stores that) so that the cursor gives it after
//! all others: while the run buys those, a callback may still settle what costs twice.

use std::time::Duration;

use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::restore::stamp;
use super::{Selection, State, Store, StoreError, stored, unsigned};
use crate::job::{Stamp, Status};
use crate::schedule::ACCEPTED_WITHIN;

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
    /// Puts samples of `selection` that are failed, rejected, timed out, lost or unknown back to be
    /// bought again, as far as `statuses` names them, with their paid retries restored; unknown
    /// ones only if they were submitted so long before `now` that their slots are free again, which is
    /// `task_timeout` after they could have been accepted. Other statuses have nothing to put back.
    /// What timed out, was lost or is unknown may be paid for twice: their attempts and cost stay
    /// counted.
    ///
    /// # Errors
    ///
    /// A selection by a column that the sheet has not; a database that fails. Nothing is put back
    /// then.
    pub fn retry(
        &mut self,
        statuses: &[Status],
        selection: &Selection,
        now: Stamp,
        task_timeout: Duration,
    ) -> Result<Retried, StoreError> {
        let condition = selection.condition(self)?;
        let chosen = format!(
            "SELECT s.id FROM samples s CROSS JOIN rows r ON r.position = s.row WHERE {}",
            condition.sql
        );
        let with = |more: Option<i64>| {
            params_from_iter(condition.parameters.iter().cloned().chain(more.map(Value::from)))
        };
        let savepoint = self.connection.savepoint()?;
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
        let known = savepoint.execute(
            &format!(
                "UPDATE samples SET state = 'ready', not_before = 0, paid_retries = 0, ended = NULL,
                        kind = NULL, code = NULL, message = NULL
                 WHERE id IN ({chosen} AND s.state IN ({again}))"
            ),
            with(None),
        )?;
        let mut retried = Retried { samples: known as u64, ..Retried::default() };
        if statuses.contains(&Status::Unknown) {
            // In the file's milliseconds; a part of one more makes a doubt younger, never older.
            let held = (ACCEPTED_WITHIN + task_timeout).as_nanos().div_ceil(1_000_000);
            let held = i64::try_from(held).unwrap_or(i64::MAX);
            let latest = stored(now.as_millis()).saturating_sub(held);
            retried.doubts = savepoint.execute(
                &format!(
                    "UPDATE samples SET state = 'ready', not_before = 0, paid_retries = 0, ended = NULL,
                            kind = 'doubt', code = NULL, message = NULL
                     WHERE id IN ({chosen} AND s.state = 'unknown' AND s.submitted <= ?)"
                ),
                with(Some(latest)),
            )? as u64;
            retried.samples += retried.doubts;
            let (young, oldest) = savepoint.query_one(
                &format!(
                    "SELECT count(*), min(submitted) FROM samples
                     WHERE id IN ({chosen} AND s.state = 'unknown')"
                ),
                with(None),
                |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)),
            )?;
            retried.too_young = unsigned(young);
            retried.next = oldest.map(|submitted| stamp(submitted.saturating_add(held)));
        }
        savepoint.commit()?;
        Ok(retried)
    }

    /// From here on what is put back is a proposal: it is forgotten with the store unless
    /// [`Store::agree`] follows. Looks through this store see it, others do not.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn propose(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// What was proposed holds.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn agree(&mut self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT")?;
        }
        Ok(())
    }
}
