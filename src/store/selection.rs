//! A part of the sheet, as an SQL condition: `--limit` and `--where`.

use rusqlite::types::Value;

use super::{Store, StoreError, stored};

/// Which rows of the sheet; all of them by default. Rows no longer in the sheet are never selected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Only the first so many rows.
    pub limit: Option<u64>,
    /// Only rows whose cell in this column, by the sheet's own name, is exactly this text; all must
    /// hold. A row that ends before the column has an empty cell there.
    pub filters: Vec<(String, String)>,
}

/// A condition on `rows r` and `samples s`, with its parameters in order.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) parameters: Vec<Value>,
}

impl Selection {
    /// The condition that a live row meets.
    pub(super) fn condition(&self, store: &Store) -> Result<Condition, StoreError> {
        let mut sql = String::from("s.removed = 0");
        let mut parameters = Vec::new();
        if let Some(limit) = self.limit {
            sql.push_str(" AND s.row <= ?");
            parameters.push(stored(limit).into());
        }
        if !self.filters.is_empty() {
            let columns = store.columns()?;
            for (column, text) in &self.filters {
                let place = place(&columns, column).ok_or_else(|| StoreError::NoSuchColumn {
                    column: column.clone(),
                    columns: columns.clone(),
                })?;
                sql.push_str(" AND ifnull(json_extract(r.fields, ?), '') = ?");
                parameters.push(format!("$[{place}]").into());
                parameters.push(text.clone().into());
            }
        }
        Ok(Condition { sql, parameters })
    }
}

/// Where `name` is among the columns: exactly, or else in any case.
fn place(columns: &[String], name: &str) -> Option<usize> {
    let exact = columns.iter().position(|column| column == name);
    exact.or_else(|| columns.iter().position(|column| column.eq_ignore_ascii_case(name)))
}
