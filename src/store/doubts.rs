//! Submissions in doubt: what a person decides about with `--retry unknown`.

use rusqlite::{Row, params};

use super::restore::stamp;
use super::tallies::failure_kind;
use super::{Store, StoreError, import, stored, unsigned};
use crate::job::{Failure, FailureKind, UnixMillis, Usd};

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
