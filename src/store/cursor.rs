//! Ready samples in manifest order, a page at a time, those put back after a doubt last.
//!
//! Forward only, by key, on a connection of its own: it neither holds a read transaction open
//! between pages, which would keep the log from being emptied, nor waits for commits. A sample that
//! becomes ready again behind it is the core's business, which still holds it.

use std::collections::VecDeque;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::restore::stamp;
use super::selection::{Condition, Selection};
use super::{Store, StoreError, connect};
use crate::generation::{Generation, PriceList};
use crate::job::SampleId;
use crate::schedule::Entry;

/// Samples read at once: few enough to be small, enough that a page costs less than its rows.
const PAGE: i64 = 512;

/// What is ready after a doubt: [`Store::retry`] puts it back so, and no commit does.
const AFTER_DOUBT: &str = "(s.kind IS 'doubt' AND s.message IS NULL)";

/// Which of the ready samples are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Those that nothing was paid for in vain, or for certain.
    First,
    /// Those put back after a doubt: to buy one of these may pay twice.
    AfterDoubt,
}

/// A forward-only reader of ready samples, in manifest order, those put back after a doubt behind
/// the others; usable from any thread.
#[derive(Debug)]
pub struct Cursor {
    connection: Connection,
    pub(super) sql: String,
    condition: Condition,
    prices: PriceList,
    pass: Pass,
    after: i64,
    page: VecDeque<(Entry, Generation)>,
    ended: bool,
}

impl Store {
    /// A cursor over the ready samples of `selection`.
    ///
    /// # Errors
    ///
    /// A selection by a column that the sheet has not; a database that fails.
    pub fn cursor(&self, selection: &Selection, prices: PriceList) -> Result<Cursor, StoreError> {
        let condition = selection.condition(self)?;
        let sql = format!(
            "SELECT s.id, s.idx, s.attempts, s.paid_retries, s.not_before, r.generation
             FROM samples s CROSS JOIN rows r ON r.position = s.row
             WHERE {} AND s.state = 'ready' AND s.id > ? AND {AFTER_DOUBT} = ? ORDER BY s.id LIMIT {PAGE}",
            condition.sql
        );
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(Cursor {
            connection,
            sql,
            condition,
            prices,
            pass: Pass::First,
            after: i64::MIN,
            page: VecDeque::new(),
            ended: false,
        })
    }
}

impl Cursor {
    fn next_page(&mut self) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(&self.sql)?;
        let place = [Value::from(self.after), Value::from(self.pass == Pass::AfterDoubt)];
        let mut rows = statement.query(params_from_iter(self.condition.parameters.iter().chain(&place)))?;
        while let Some(row) = rows.next()? {
            let generation: Generation = serde_json::from_str(row.get_ref(5)?.as_str().unwrap_or(""))?;
            let entry = Entry {
                sample: SampleId(row.get(0)?),
                kind: generation.kind(),
                attempts: row.get(2)?,
                paid_retries: row.get(3)?,
                price: self.prices.of(generation.draft().mode),
                not_before: stamp(row.get(4)?),
            };
            self.after = entry.sample.0;
            self.page.push_back((entry, generation.sample(row.get(1)?)));
        }
        Ok(())
    }
}

impl Iterator for Cursor {
    type Item = Result<(Entry, Generation), StoreError>;

    /// The next ready sample. After an error or the end there are no more.
    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.ended {
            if let Err(error) = self.next_page() {
                self.ended = true;
                self.page.clear();
                return Some(Err(error));
            }
            match self.pass {
                Pass::First if self.page.is_empty() => {
                    self.pass = Pass::AfterDoubt;
                    self.after = i64::MIN;
                }
                Pass::AfterDoubt => self.ended = self.page.is_empty(),
                Pass::First => {}
            }
        }
        self.page.pop_front().map(Ok)
    }
}
