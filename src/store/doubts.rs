//! Submissions in doubt: what a person decides about with `--retry unknown`.

use rusqlite::{Row, params};

use super::restore::stamp;
use super::tallies::failure_kind;
use super::{State, Store, StoreError, import, stored, unsigned};
use crate::generation::{Generation, PriceList};
use crate::job::{Attempt, Failure, FailureKind, SampleId, Stamp, Status, TaskId, UnixMillis, Usd};
use crate::schedule::Entry;

/// One sample of the sheet that is `unknown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The row's line in the sheet.
    pub line: u64,
    /// The row's id, if the sheet has ids.
    pub id: Option<String>,
    /// Which sample of the row, from 0.
    pub index: u32,
    /// When it was submitted.
    pub submitted: UnixMillis,
    /// Why nobody knows what became of it.
    pub failure: Failure,
    /// What this submission cost if it was accepted.
    pub cost: Usd,
}

/// The samples of the sheet that are `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doubts {
    /// The first of them, by the time of submission.
    pub shown: Vec<Doubt>,
    /// All of them.
    pub count: u64,
    /// What they cost if all of them were accepted; it is part of [`Store::spending`].
    pub cost: Usd,
    /// When the oldest was submitted.
    pub oldest: Option<UnixMillis>,
    /// When the newest was submitted.
    pub newest: Option<UnixMillis>,
}

/// A submission whose task nobody has named, or was given up on, as a callback finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// The sample.
    pub entry: Entry,
    /// What it asks for.
    pub generation: Generation,
    /// What the state file takes the submission for.
    pub taken_for: TakenFor,
}

/// What the state file takes a submission for that a callback is to settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenFor {
    /// It may have been accepted.
    Doubt,
    /// The same, and its sample was put back, to be bought again.
    PutBack,
    /// It was answered with a refusal, or not sent: its sample waits to be bought.
    Refused,
    /// Its task timed out or was lost.
    GivenUp(GivenUp),
}

/// A task that timed out or was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// As what its sample ended.
    pub status: Status,
    /// Its name.
    pub task: TaskId,
    /// When it was accepted.
    pub accepted: Stamp,
}

/// The charge of a sample's last attempt: all attempts of one sample have one price, unless
/// `--price` changed between them.
const LAST_CHARGE: &str = "s.cost / max(s.attempts, 1)";

impl Store {
    /// The samples of the sheet whose submission is in doubt, with the first `limit` of them.
    /// Submissions without an answer yet, of a run that goes on or was killed, are not among them
    /// before a run has found them in doubt.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn doubts(&self, limit: usize) -> Result<Doubts, StoreError> {
        let wall = |millis: i64| self.birth.at(stamp(millis));
        let mut doubts = self.connection.query_one(
            &format!(
                "SELECT count(*), ifnull(sum({LAST_CHARGE}), 0), min(s.submitted), max(s.submitted)
                 FROM samples s WHERE s.state = 'unknown' AND s.removed = 0"
            ),
            (),
            |row| {
                Ok(Doubts {
                    shown: Vec::new(),
                    count: unsigned(row.get(0)?),
                    cost: Usd::from_micros(unsigned(row.get(1)?)),
                    oldest: row.get::<_, Option<i64>>(2)?.map(wall),
                    newest: row.get::<_, Option<i64>>(3)?.map(wall),
                })
            },
        )?;
        let mut statement = self.connection.prepare(&format!(
            "SELECT r.line, r.key, s.idx, s.submitted, s.kind, s.code, s.message, {LAST_CHARGE}
             FROM samples s CROSS JOIN rows r ON r.position = s.row
             WHERE s.state = 'unknown' AND s.removed = 0 ORDER BY s.submitted, s.id LIMIT ?1"
        ))?;
        let limit = stored(limit as u64);
        let shown = statement.query_map(params![limit], |row| self.read_doubt(row))?;
        doubts.shown = shown.collect::<Result<_, _>>()?;
        Ok(doubts)
    }

    /// The submission `attempt` of `sample`, if it is in doubt, or was put back from it and not repeated,
    /// or was refused, or its task was given up on. One that is about to be repeated counts, since only a
    /// commit with that intent may have looked; who asks must not send it then.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn unsettled(
        &self,
        sample: SampleId,
        attempt: Attempt,
        prices: PriceList,
    ) -> Result<Option<Unsettled>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.idx, s.state, s.removed, s.paid_retries, s.not_before, r.generation,
                 s.task, s.accepted, s.attempts
             FROM samples s JOIN rows r ON r.position = s.row
             WHERE s.id = ?1 AND (
                 s.attempts = ?2 AND s.state IN ('unknown', 'timed_out', 'lost')
                 OR s.state IN ('ready', 'submitting') AND (
                     s.attempts = ?2 AND s.kind = 'doubt' AND s.message IS NULL
                     OR s.attempt = ?2 AND s.attempts = ?2 - 1 AND s.removed = 0))",
        )?;
        let mut rows = statement.query(params![sample.0, attempt.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let json: Option<String> = row.get(5)?;
        let generation = serde_json::from_str::<Generation>(json.as_deref().unwrap_or_default())?;
        let generation = generation.sample(row.get(0)?);
        let removed: bool = row.get(2)?;
        let entry = Entry {
            sample,
            kind: generation.kind(),
            attempts: row.get(8)?,
            paid_retries: if removed { u32::MAX } else { row.get(3)? },
            price: prices.of(generation.draft().mode),
            not_before: stamp(row.get(4)?),
        };
        let state: State = row.get(1)?;
        let taken_for = match state {
            State::TimedOut | State::Lost => {
                let task = row.get::<_, Option<String>>(6)?.as_deref().and_then(TaskId::new);
                let Some(task) = task else { return Ok(None) };
                let accepted = stamp(row.get::<_, Option<i64>>(7)?.unwrap_or_default());
                TakenFor::GivenUp(GivenUp { status: state.status(), task, accepted })
            }
            State::Ready | State::Submitting if entry.attempts < attempt.0 => TakenFor::Refused,
            State::Ready | State::Submitting => TakenFor::PutBack,
            State::Unknown => TakenFor::Doubt,
            State::Running | State::Succeeded | State::Failed | State::Rejected | State::Invalid => {
                return Ok(None);
            }
        };
        Ok(Some(Unsettled { entry, generation, taken_for }))
    }

    /// How many submissions have no answer, of a run that goes on or was killed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn unanswered(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM samples WHERE state = 'submitting'";
        Ok(unsigned(self.connection.query_one(sql, (), |row| row.get(0))?))
    }

    fn read_doubt(&self, row: &Row<'_>) -> rusqlite::Result<Doubt> {
        let kind: Option<String> = row.get(4)?;
        Ok(Doubt {
            line: unsigned(row.get(0)?),
            id: import::id_of(row.get_ref(1)?.as_blob().unwrap_or_default()),
            index: row.get(2)?,
            submitted: self.birth.at(stamp(row.get(3)?)),
            failure: Failure {
                kind: kind.as_deref().and_then(failure_kind).unwrap_or(FailureKind::Doubt),
                code: row.get(5)?,
                message: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
            },
            cost: Usd::from_micros(unsigned(row.get(7)?)),
        })
    }
}
