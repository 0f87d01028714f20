//! What samples ask for, so that a sheet can ask for it again.

use std::ops::ControlFlow;

use rusqlite::{Connection, params_from_iter};

use super::columns::Cells;
use super::outcome::Wanted;
use super::{ResultFilter, Store, StoreError, import, unsigned};
use crate::generation::Generation;

/// What one sample asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The row's line, in the sheet it was last seen in.
    pub line: u64,
    /// The row's id, if it has one.
    pub id: Option<String>,
    /// How many samples the row asks for.
    pub samples: u32,
    /// Which of them this is, from 0.
    pub index: u32,
    /// The request, with the sample's own seed.
    pub generation: Generation,
    /// The cells of the columns that give no field, in the order of [`Store::columns_of`]; the last
    /// ones may be missing.
    pub cells: Vec<String>,
}

/// What some samples make use of.
#[expect(clippy::struct_excessive_bools, reason = "one for each column that a sheet may do without")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// How many of them ask for something: they are not bad rows.
    pub samples: u64,
    /// Bad rows.
    pub invalid: u64,
    /// Any id.
    pub id: bool,
    /// Any image.
    pub image_urls: bool,
    /// Any seed.
    pub seed: bool,
    /// Any watermark.
    pub watermark: bool,
    /// Any provider.
    pub provider: bool,
}

impl Store {
    /// What the samples that `filter` wants make use of.
    ///
    /// # Errors
    ///
    /// A selection by a column that the sheet has not; a database that fails.
    pub fn uses(&self, filter: &ResultFilter) -> Result<Uses, StoreError> {
        let Wanted { sql, parameters } = Wanted::by(filter, self)?;
        let uses = self.connection.query_one(
            &format!(
                "SELECT count(generation), count(*) - count(generation), ifnull(max(substr(key, 1, 1) = x'00'), 0),
                        count(generation ->> 'image_urls') > 0, count(generation ->> 'seed') > 0,
                        count(generation ->> 'watermark') > 0, count(generation ->> 'provider') > 0
                 FROM samples s CROSS JOIN rows r ON r.position = s.row WHERE {sql}"
            ),
            params_from_iter(parameters),
            |row| {
                Ok(Uses {
                    samples: unsigned(row.get(0)?),
                    invalid: unsigned(row.get(1)?),
                    id: row.get(2)?,
                    image_urls: row.get(3)?,
                    seed: row.get(4)?,
                    watermark: row.get(5)?,
                    provider: row.get(6)?,
                })
            },
        )?;
        Ok(uses)
    }

    /// Shows `visit` what the samples that `filter` wants ask for, in manifest order, until it
    /// breaks. Bad rows ask for nothing.
    ///
    /// # Errors
    ///
    /// Whatever the visit breaks with; a selection by a column that the sheet has not; a database
    /// that fails.
    pub fn for_each_asked<E: From<StoreError>>(
        &self,
        filter: &ResultFilter,
        mut visit: impl FnMut(Asked) -> ControlFlow<E>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(StoreError::from(error));
        let table = self.table(filter.removed, Cells::PassedThrough)?;
        let Wanted { sql, parameters } = Wanted::by(filter, self)?;
        let mut statement = self
            .connection
            .prepare(&format!(
                "SELECT r.line, r.key, r.samples, s.idx, r.generation, r.fields
                 FROM samples s CROSS JOIN rows r ON r.position = s.row
                 WHERE {sql} AND r.generation IS NOT NULL ORDER BY s.id"
            ))
            .map_err(failed)?;
        let mut rows = statement.query(params_from_iter(parameters)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let read = || -> Result<Asked, StoreError> {
                let generation: Generation = serde_json::from_str(row.get_ref(4)?.as_str().unwrap_or(""))?;
                let index = row.get(3)?;
                Ok(Asked {
                    line: unsigned(row.get(0)?),
                    id: import::id_of(row.get_ref(1)?.as_blob().unwrap_or_default()),
                    samples: row.get(2)?,
                    index,
                    generation: generation.sample(index),
                    cells: table.read(row.get_ref(5)?.as_str().unwrap_or(""))?,
                })
            };
            if let ControlFlow::Break(error) = visit(read()?) {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Names that are taken: on disk when there are many, so that memory does not grow with a sheet.
#[derive(Debug)]
pub struct Names(Connection);

impl Names {
    /// No names yet.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn new() -> Result<Self, StoreError> {
        // An empty path is a database of this connection's own, in a file that has no name.
        let connection = Connection::open("")?;
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             CREATE TABLE names(name TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN;",
        )?;
        Ok(Self(connection))
    }

    /// Takes `name`; whether it was free.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn take(&self, name: &str) -> Result<bool, StoreError> {
        let mut insert = self.0.prepare_cached("INSERT OR IGNORE INTO names VALUES(?1)")?;
        Ok(insert.execute([name])? == 1)
    }
}
