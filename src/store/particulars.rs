//! All that is known of one sample: what it asks for, and what came of it.

use rusqlite::OptionalExtension;

use super::{ResultRow, Store, StoreError, import};
use crate::generation::Generation;
use crate::job::SampleId;

/// One sample in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Particulars {
    /// The row's id, if it has one.
    pub id: Option<String>,
    /// The request, with the sample's own seed; `None` of a bad row.
    pub generation: Option<Generation>,
    /// How it stands.
    pub result: ResultRow,
}

impl Store {
    /// All that is known of `sample`.
    ///
    /// # Errors
    ///
    /// A sample that is not there; a database that fails.
    pub fn particulars(&self, sample: SampleId) -> Result<Particulars, StoreError> {
        let result = self.result(sample)?;
        let mut statement = self.connection.prepare_cached(
            "SELECT r.key, r.generation FROM samples s CROSS JOIN rows r ON r.position = s.row WHERE s.id = ?1",
        )?;
        let row = statement.query_row([sample.0], |row| {
            let id = import::id_of(row.get_ref(0)?.as_blob().unwrap_or_default());
            Ok((id, row.get::<_, Option<String>>(1)?))
        });
        let (id, request) = row.optional()?.ok_or(StoreError::NoSuchSample(sample))?;
        let generation = request.map(|json| serde_json::from_str::<Generation>(&json)).transpose()?;
        let generation = generation.map(|generation| generation.sample(result.index));
        Ok(Particulars { id, generation, result })
    }
}
