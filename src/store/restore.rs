//! Unfinished samples of an earlier process, back as values the core takes.
//!
//! Only what has a task or may have one is read, by an index that holds nothing else: memory and
//! time grow with what was in flight, not with the sheet. Ready samples come through the cursor.

use rusqlite::Row;

use super::{State, Store, StoreError, schema, unsigned};
use crate::generation::{Generation, PriceList};
use crate::job::{SampleId, Stamp, TaskId};
use crate::schedule::{Entry, Restored, Stored};

/// What the table holds of one watched sample.
struct Watched {
    line: u64,
    index: u32,
    state: State,
    removed: bool,
    attempts: u32,
    paid_retries: u32,
    not_before: Stamp,
    sample: SampleId,
    submitted: Option<Stamp>,
    accepted: Option<Stamp>,
    task: Option<String>,
    generation: Option<String>,
}

impl Store {
    /// Every sample with a submission, a task or a doubt that has not ended, in manifest order, and
    /// what it asks for. Those timed out and in doubt are among them, whatever their age.
    ///
    /// A sample no longer in the sheet comes with its paid retries used up: it is watched to its
    /// end and never bought again.
    ///
    /// # Errors
    ///
    /// A stored state that no step leads to, named with its row; a database that fails.
    pub fn restore(&self, prices: PriceList) -> Result<Vec<(Restored, Generation)>, StoreError> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT s.id, r.line, s.idx, s.state, s.removed, s.attempts, s.paid_retries, s.not_before,
                    s.submitted, s.accepted, s.task, r.generation
             FROM samples s INDEXED BY watched JOIN rows r ON r.position = s.row
             WHERE {} ORDER BY s.id",
            schema::WATCHED
        ))?;
        let mut rows = statement.query(())?;
        let mut restored = Vec::new();
        while let Some(row) = rows.next()? {
            restored.push(Watched::read(row)?.restore(prices)?);
        }
        Ok(restored)
    }
}

impl Watched {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let stamp = |column| row.get(column).map(|millis: Option<i64>| millis.map(stamp));
        Ok(Self {
            line: unsigned(row.get(1)?),
            index: row.get(2)?,
            state: row.get(3)?,
            removed: row.get(4)?,
            sample: SampleId(row.get(0)?),
            attempts: row.get(5)?,
            paid_retries: row.get(6)?,
            not_before: super::restore::stamp(row.get(7)?),
            submitted: stamp(8)?,
            accepted: stamp(9)?,
            task: row.get(10)?,
            generation: row.get(11)?,
        })
    }

    fn restore(self, prices: PriceList) -> Result<(Restored, Generation), StoreError> {
        let damaged =
            |what| StoreError::Damaged { line: self.line, index: self.index, state: self.state, what };
        let since = || self.submitted.ok_or_else(|| damaged("without the time of its submission"));
        let task = || {
            let task = self.task.as_deref().and_then(TaskId::new);
            let task = task.ok_or_else(|| damaged("without a task id"))?;
            let accepted = self.accepted.ok_or_else(|| damaged("without the time of its acceptance"))?;
            Ok::<_, StoreError>((task, accepted))
        };
        let stored = match self.state {
            State::Submitting => Stored::Submitting { since: since()? },
            State::Unknown => Stored::InDoubt { since: since()? },
            State::Running => task().map(|(task, accepted)| Stored::Running { task, accepted })?,
            State::TimedOut => task().map(|(task, accepted)| Stored::TimedOut { task, accepted })?,
            State::Ready
            | State::Succeeded
            | State::Failed
            | State::Rejected
            | State::Lost
            | State::Invalid => return Err(damaged("among those to be watched")),
        };
        let json = self.generation.as_deref().ok_or_else(|| damaged("without a request"))?;
        let generation = serde_json::from_str::<Generation>(json)?.sample(self.index);
        let entry = Entry {
            sample: self.sample,
            kind: generation.kind(),
            attempts: self.attempts,
            paid_retries: if self.removed { u32::MAX } else { self.paid_retries },
            price: prices.of(generation.draft().mode),
            not_before: self.not_before,
        };
        Ok((Restored { entry, stored }, generation))
    }
}

/// A stamp as it was stored.
pub(super) fn stamp(millis: i64) -> Stamp {
    Stamp::from_millis(unsigned(millis))
}
