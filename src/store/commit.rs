//! What happens to samples, made durable in batches.
//!
//! One batch is one transaction: all of it survives a crash, or none. Each step is an `UPDATE`
//! guarded by the states it may start from; a step that no guard lets through is an error that
//! names the row and both sides, and the batch is undone. Replay after a crash meets the same
//! guards, so a story that live running could not have told is never stored.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, params};

use super::{State, Store, StoreError, set_meta, stored, unsigned};
use crate::job::{Failure, Outcome, SampleId, Stamp};
use crate::schedule::{Change, Transition};

/// `AND removed = 0`: what is no longer in the sheet is watched to its end, never bought.
const INTEND: &str = "UPDATE samples SET state = 'submitting', attempt = ?2, submitted = ?3
     WHERE id = ?1 AND state = 'ready' AND removed = 0";

/// That the attempt was made is kept: its address may still call.
const RETRACT: &str = "UPDATE samples SET state = 'ready',
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
     WHERE id = ?1 AND (state = 'unknown' OR state = 'ready' AND kind = 'doubt') AND attempts = ?2";

const DEFER: &str = "UPDATE samples SET state = 'ready', not_before = ?2, paid_retries = ?3, ended = NULL,
        kind = ?4, code = ?5, message = ?6
     WHERE id = ?1 AND state IN ('running', 'timed_out')";

/// An ending with a task: only what has a task can end so.
const END_TASK: &str = "UPDATE samples SET state = ?2, ended = ?3, attempts = ?4, cost = cost + ?5,
        created = ?6, completed = ?7, kind = ?8, code = ?9, message = ?10, urls = ?11
     WHERE id = ?1 AND state IN ('running', 'timed_out')";

/// A video: a callback may tell of it after its task was given up for lost.
const END_MADE: &str = "UPDATE samples SET state = ?2, ended = ?3, attempts = ?4, cost = cost + ?5,
        created = ?6, completed = ?7, kind = ?8, code = ?9, message = ?10, urls = ?11
     WHERE id = ?1 AND state IN ('running', 'timed_out', 'lost')";

/// An ending of a submission that brought no task.
const END_SUBMISSION: &str = "UPDATE samples SET state = ?2, ended = ?3, attempts = ?4, cost = cost + ?5,
        created = ?6, completed = ?7, kind = ?8, code = ?9, message = ?10, urls = ?11
     WHERE id = ?1 AND state = 'submitting'";

/// How far the stamp that is stored may be ahead of what is committed: a page less is written by nearly
/// every commit, and a process that follows starts so much later at most.
const AHEAD: Duration = Duration::from_secs(1);

/// What is known of stamps that were committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamps {
    /// The largest.
    latest: Stamp,
    /// What is stored, which none has passed.
    bound: Stamp,
}

/// The steps of one transaction.
struct Steps<'c>(&'c Connection);

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
        let stamps = match self.stamps {
            Some(stamps) => stamps,
            None => self.last_stamp().map(|stored| Stamps { latest: stored, bound: stored })?,
        };
        let (latest, bound) = (latest.max(stamps.latest), stamps.bound);
        let passed = (latest > bound).then_some(latest + AHEAD);
        let steps = Steps(&self.connection);
        steps.run("BEGIN", ())?;
        let done = steps.apply_all(changes, passed).and_then(|()| Ok(steps.run("COMMIT", ()).map(drop)?));
        if done.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::debug!(%error, "a batch that failed is not undone yet");
        }
        done?;
        self.stamps = Some(Stamps { latest, bound: passed.unwrap_or(bound) });
        Ok(())
    }

    /// Stores the last stamp as it is, at an orderly end.
    pub(super) fn settle_stamps(&self) -> rusqlite::Result<()> {
        match self.stamps {
            Some(Stamps { latest, bound }) if latest < bound => {
                set_meta(&self.connection, "last_stamp", millis(latest))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Steps<'_> {
    fn run(&self, sql: &str, parameters: impl Params) -> rusqlite::Result<usize> {
        self.0.prepare_cached(sql)?.execute(parameters)
    }

    fn apply_all(&self, changes: &[Change], bound: Option<Stamp>) -> Result<(), StoreError> {
        if let Some(bound) = bound {
            set_meta(self.0, "last_stamp", millis(bound))?;
        }
        changes.iter().try_for_each(|change| self.apply(change))
    }

    fn apply(&self, change: &Change) -> Result<(), StoreError> {
        let (id, at) = (change.sample.0, millis(change.at));
        let changed = match &change.transition {
            Transition::Intended(attempt) => self.run(INTEND, params![id, attempt.0, at])?,
            Transition::Retracted => self.run(RETRACT, [id])?,
            Transition::Accepted { task, attempt, cost } => {
                self.run(ACCEPT, params![id, attempt.0, task.as_str(), at, stored(cost.micros())])?
            }
            Transition::Found { task, attempt, .. } => {
                self.run(FIND, params![id, attempt.0, task.as_str(), at])?
            }
            Transition::Deferred { not_before, paid_retries, failure } => {
                let Failure { kind, code, message } = failure;
                let not_before = millis(*not_before);
                self.run(DEFER, params![id, not_before, paid_retries, kind.as_str(), code, message])?
            }
            Transition::Ended { outcome, attempts, cost } => {
                self.end(id, at, outcome, *attempts, stored(cost.micros()))?
            }
        };
        if changed == 1 { Ok(()) } else { Err(self.refusal(change.sample, &change.transition)) }
    }

    fn end(
        &self,
        id: i64,
        at: i64,
        outcome: &Outcome,
        attempts: u32,
        cost: i64,
    ) -> Result<usize, StoreError> {
        let (step, state) = match outcome {
            Outcome::Succeeded(_) => (END_MADE, State::Succeeded),
            Outcome::Failed(_) => (END_TASK, State::Failed),
            Outcome::TimedOut(_) => (END_TASK, State::TimedOut),
            Outcome::Lost(_) => (END_TASK, State::Lost),
            Outcome::Rejected(_) => (END_SUBMISSION, State::Rejected),
            Outcome::Unknown(_) => (END_SUBMISSION, State::Unknown),
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
        let parameters =
            params![id, state, at, attempts, cost, created, completed, kind, code, message, urls];
        Ok(self.run(step, parameters)?)
    }

    /// Why a guard let nothing through.
    fn refusal(&self, sample: SampleId, transition: &Transition) -> StoreError {
        let found = self
            .0
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
