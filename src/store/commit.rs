//! What happens to samples, made durable in batches.
//!
//! One batch is one transaction: all of it survives a crash, or none. Each step is an `UPDATE`
//! guarded by the states it may start from; a step that no guard lets through is an error that
//! names the row and both sides, and the batch is undone. Replay after a crash meets the same
//! guards, so a story that live running could not have told is never stored.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::{State, Store, StoreError, set_meta, stored, unsigned};
use crate::job::{Failure, Outcome, SampleId, Stamp};
use crate::schedule::{Change, Transition};

/// `AND removed = 0`: what is no longer in the sheet is watched to its end, never bought.
const INTEND: &str = "UPDATE samples SET state = 'submitting', attempt = ?2, submitted = ?3
     WHERE id = ?1 AND state = 'ready' AND removed = 0";

const RETRACT: &str = "UPDATE samples SET state = 'ready', attempt = nullif(attempts, 0),
        submitted = CASE WHEN attempts = 0 THEN NULL ELSE submitted END
     WHERE id = ?1 AND state = 'submitting'";

const ACCEPT: &str = "UPDATE samples SET state = 'running', task = ?3, accepted = ?4,
        attempts = attempts + 1, cost = cost + ?5, created = NULL, completed = NULL,
        kind = NULL, code = NULL, message = NULL
     WHERE id = ?1 AND state = 'submitting' AND attempt = ?2";

/// A doubt resolved, perhaps one that was put back to be bought again: it was counted and charged when
/// it became one.
const FIND: &str = "UPDATE samples SET state = 'running', task = ?3, accepted = ?4, ended = NULL,
        created = NULL, completed = NULL, kind = NULL, code = NULL, message = NULL
     WHERE id = ?1 AND (state = 'unknown' OR state = 'ready' AND kind = 'doubt') AND attempt = ?2";

const DEFER: &str = "UPDATE samples SET state = 'ready', not_before = ?2, paid_retries = ?3, ended = NULL,
        kind = ?4, code = ?5, message = ?6
     WHERE id = ?1 AND state IN ('running', 'timed_out')";

/// An ending with a task: only what has a task can end so.
const END_TASK: &str = "UPDATE samples SET state = ?2, ended = ?3, attempts = ?4, cost = cost + ?5,
        created = ?6, completed = ?7, kind = ?8, code = ?9, message = ?10, urls = ?11
     WHERE id = ?1 AND state IN ('running', 'timed_out')";

/// An ending of a submission that brought no task.
const END_SUBMISSION: &str = "UPDATE samples SET state = ?2, ended = ?3, attempts = ?4, cost = cost + ?5,
        created = ?6, completed = ?7, kind = ?8, code = ?9, message = ?10, urls = ?11
     WHERE id = ?1 AND state = 'submitting'";

/// The statements of one transaction, each prepared once and found without a look-up.
struct Steps<'c> {
    connection: &'c Connection,
    intend: CachedStatement<'c>,
    retract: CachedStatement<'c>,
    accept: CachedStatement<'c>,
    find: CachedStatement<'c>,
    defer: CachedStatement<'c>,
    end_task: CachedStatement<'c>,
    end_submission: CachedStatement<'c>,
}

impl Store {
    /// Makes `changes` durable, in their order, all or none.
    ///
    /// An acceptance counts one attempt and charges its cost; an ending sets the attempts and adds
    /// what it costs itself; accepting what was in doubt charges nothing again.
    ///
    /// # Errors
    ///
    /// A step that the stored state does not allow, a sample that is not there, or a database that
    /// fails; nothing of the batch is kept then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let Some(latest) = changes.iter().map(|change| change.at).max() else { return Ok(()) };
        let latest = latest.max(self.last_stamp()?);
        let transaction = self.connection.transaction()?;
        {
            let mut steps = Steps::new(&transaction)?;
            for change in changes {
                steps.apply(change)?;
            }
        }
        set_meta(&transaction, "last_stamp", millis(latest))?;
        transaction.commit()?;
        Ok(())
    }
}

impl<'c> Steps<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            intend: connection.prepare_cached(INTEND)?,
            retract: connection.prepare_cached(RETRACT)?,
            accept: connection.prepare_cached(ACCEPT)?,
            find: connection.prepare_cached(FIND)?,
            defer: connection.prepare_cached(DEFER)?,
            end_task: connection.prepare_cached(END_TASK)?,
            end_submission: connection.prepare_cached(END_SUBMISSION)?,
        })
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        let (id, at) = (change.sample.0, millis(change.at));
        let changed = match &change.transition {
            Transition::Intended(attempt) => self.intend.execute(params![id, attempt.0, at])?,
            Transition::Retracted => self.retract.execute([id])?,
            Transition::Accepted { task, attempt, cost } => {
                self.accept.execute(params![id, attempt.0, task.as_str(), at, stored(cost.micros())])?
            }
            Transition::Found { task, attempt, .. } => {
                self.find.execute(params![id, attempt.0, task.as_str(), at])?
            }
            Transition::Deferred { not_before, paid_retries, failure } => {
                let Failure { kind, code, message } = failure;
                let not_before = millis(*not_before);
                self.defer.execute(params![id, not_before, paid_retries, kind.as_str(), code, message])?
            }
            Transition::Ended { outcome, attempts, cost } => {
                self.end(id, at, outcome, *attempts, stored(cost.micros()))?
            }
        };
        if changed == 1 { Ok(()) } else { Err(self.refusal(change.sample, &change.transition)) }
    }

    fn end(
        &mut self,
        id: i64,
        at: i64,
        outcome: &Outcome,
        attempts: u32,
        cost: i64,
    ) -> Result<usize, StoreError> {
        let (step, state) = match outcome {
            Outcome::Succeeded(_) => (&mut self.end_task, State::Succeeded),
            Outcome::Failed(_) => (&mut self.end_task, State::Failed),
            Outcome::TimedOut(_) => (&mut self.end_task, State::TimedOut),
            Outcome::Lost(_) => (&mut self.end_task, State::Lost),
            Outcome::Rejected(_) => (&mut self.end_submission, State::Rejected),
            Outcome::Unknown(_) => (&mut self.end_submission, State::Unknown),
        };
        let (created, completed, urls) = match outcome {
            Outcome::Succeeded(video) => (
                video.created.map(|time| time.0),
                video.completed.map(|time| time.0),
                Some(serde_json::to_string(&video.urls)?),
            ),
            Outcome::Failed(_)
            | Outcome::Rejected(_)
            | Outcome::TimedOut(_)
            | Outcome::Lost(_)
            | Outcome::Unknown(_) => (None, None, None),
        };
        let failure = outcome.failure();
        let kind = failure.map(|failure| failure.kind.as_str());
        let code = failure.and_then(|failure| failure.code.as_deref());
        let message = failure.map(|failure| failure.message.as_str());
        Ok(step
            .execute(params![id, state, at, attempts, cost, created, completed, kind, code, message, urls])?)
    }

    /// Why a guard let nothing through.
    fn refusal(&self, sample: SampleId, transition: &Transition) -> StoreError {
        let found = self
            .connection
            .query_row(
                "SELECT r.line, s.idx, s.state FROM samples s JOIN rows r ON r.position = s.row WHERE s.id = ?1",
                [sample.0],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, State>(2)?)),
            )
            .optional();
        match found {
            Ok(Some((line, index, found))) => {
                StoreError::IllegalTransition { line: unsigned(line), index, step: name(transition), found }
            }
            Ok(None) => StoreError::NoSuchSample(sample),
            Err(error) => error.into(),
        }
    }
}

/// The step in words, with the state it would lead to.
fn name(transition: &Transition) -> String {
    match transition {
        Transition::Intended(attempt) => format!("going to submitting, as attempt {},", attempt.0),
        Transition::Retracted => "going back to ready".to_owned(),
        Transition::Accepted { task, attempt, .. } => {
            format!("going to running, by task {task} of attempt {},", attempt.0)
        }
        Transition::Found { task, attempt, .. } => {
            format!("going to running, by task {task} found for attempt {},", attempt.0)
        }
        Transition::Deferred { .. } => "going to ready, for another attempt,".to_owned(),
        Transition::Ended { outcome, .. } => format!("going to {}", outcome.status()),
    }
}

fn millis(stamp: Stamp) -> i64 {
    stored(stamp.as_millis())
}
