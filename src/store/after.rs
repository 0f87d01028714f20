//! A passing state file that goes on from another: what a sheet would meet there, with nothing there
//! touched.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::names::{RULE, has_names};
use super::{Store, StoreError, meta, set_meta};

/// Samples whose name is theirs for good; what an import compares a sheet with.
const BOUGHT: &str = "(attempts > 0 OR state = 'submitting' OR removed)";

impl Store {
    /// As [`Store::scratch`], with what `earlier` has bought and how that is called, so that a sheet is
    /// compared and named as it would be there. Streamed: memory does not grow with it.
    ///
    /// # Errors
    ///
    /// When the temporary folder cannot be written, or a database fails.
    pub fn scratch_after(earlier: &Self) -> Result<Self, StoreError> {
        let mut store = Self::scratch()?;
        let transaction = store.connection.transaction()?;
        // One look at a file that may be written meanwhile.
        let then = earlier.connection.unchecked_transaction()?;
        let of_bought = format!("IN (SELECT row FROM samples WHERE {BOUGHT})");
        copy(&then, &transaction, "rows", &format!("position {of_bought}"))?;
        copy(&then, &transaction, "samples", BOUGHT)?;
        if has_names(&then)? {
            let bought = format!("sample IN (SELECT id FROM samples WHERE {BOUGHT})");
            copy(&then, &transaction, "names", &bought)?;
        }
        for name in ["columns", "bound_columns", RULE] {
            if let Some(value) = meta::<String>(&then, name)? {
                set_meta(&transaction, name, value)?;
            }
        }
        drop(then);
        transaction.commit()?;
        Ok(store)
    }

    /// Makes every sound sample of the sheet one that is yet to be bought: a plan is about the whole
    /// sheet. Only for a [`Store::scratch_after`] another.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn plan_anew(&self) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE samples SET state = 'ready' WHERE removed = 0 AND state NOT IN ('ready', 'invalid')",
            (),
        )?;
        Ok(())
    }
}

fn copy(from: &Connection, to: &Connection, table: &str, which: &str) -> rusqlite::Result<()> {
    let mut select = from.prepare(&format!("SELECT * FROM {table} WHERE {which}"))?;
    let columns = select.column_count();
    let places = vec!["?"; columns].join(", ");
    let mut insert = to.prepare(&format!("INSERT INTO {table} VALUES({places})"))?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>()?;
        insert.execute(params_from_iter(values))?;
    }
    Ok(())
}
