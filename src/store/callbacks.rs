//! What addresses for callbacks are made with: a secret, and which numbers samples have had.
//!
//! An address names its sample by the number that it has. Reading in a changed sheet numbers samples
//! anew, so each numbering has a number of its own, and those samples whose callback may still come are
//! found by all the numbers they have had.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::{Store, StoreError, meta, set_meta, stored, unsigned};
use crate::callback::Signer;
use crate::job::SampleId;

/// Samples that a callback may be about, in words of the old table of samples.
const AWAITED: &str = "(state IN ('submitting', 'running', 'timed_out', 'unknown')
    OR state = 'ready' AND (attempt > attempts OR kind = 'doubt' AND message IS NULL))";

/// The numbers that samples have had.
pub(super) const MOVED: &str = "(
    numbering INTEGER NOT NULL,
    old INTEGER NOT NULL,
    new INTEGER NOT NULL,
    PRIMARY KEY(numbering, old)
) STRICT, WITHOUT ROWID";

impl Store {
    /// Makes addresses for callbacks, and knows those again that were made before. The secret is of this
    /// file alone, and made when it is first asked for.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn callback_signer(&self) -> Result<Signer, StoreError> {
        if secret(&self.connection)?.is_none() {
            // Of a generator that the system's randomness seeds, as the salt is.
            let secret: [u8; 32] =
                self.connection.query_one("SELECT randomblob(32)", (), |row| row.get(0))?;
            set_meta(&self.connection, "callback_secret", secret.to_vec())?;
        }
        let secret = secret(&self.connection)?.unwrap_or_default();
        Ok(Signer::new(&secret, numbering(&self.connection)?))
    }

    /// Samples whose callback may still come, by the numbering and the number that they had before the
    /// sheet was read in again.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn moved_samples(&self) -> Result<HashMap<(u64, SampleId), SampleId>, StoreError> {
        let mut statement = self.connection.prepare("SELECT numbering, old, new FROM moved_samples")?;
        let moved = statement.query_map((), |row| {
            Ok(((unsigned(row.get(0)?), SampleId(row.get(1)?)), SampleId(row.get(2)?)))
        })?;
        Ok(moved.collect::<Result<_, _>>()?)
    }
}

/// Whether any address was ever made, so that numbers must be kept.
pub(super) fn are_expected(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(secret(connection)?.is_some())
}

/// Keeps the numbers that samples have now, before the new table takes the place of the old; `renumbered`
/// holds the new ones.
pub(super) fn renumber(connection: &Connection) -> rusqlite::Result<()> {
    let now = numbering(connection)?;
    connection.execute_batch(&format!(
        "DELETE FROM moved_samples WHERE new NOT IN (SELECT old FROM renumbered)
             OR new NOT IN (SELECT id FROM samples WHERE {AWAITED});
         UPDATE moved_samples SET new = renumbered.new FROM renumbered
             WHERE renumbered.old = moved_samples.new;"
    ))?;
    connection.execute(
        &format!(
            "INSERT INTO moved_samples SELECT ?1, r.old, r.new FROM renumbered r
                 WHERE r.old IN (SELECT id FROM samples WHERE {AWAITED})"
        ),
        params![stored(now)],
    )?;
    set_meta(connection, "numbering", stored(now + 1))
}

fn secret(connection: &Connection) -> rusqlite::Result<Option<[u8; 32]>> {
    meta(connection, "callback_secret")
}

fn numbering(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(unsigned(meta::<i64>(connection, "numbering")?.unwrap_or(0)))
}
