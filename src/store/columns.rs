//! The sheet's columns, and the cells of its rows.
//!
//! A row of the sheet keeps its cells in the order of the sheet's columns. A row that is no longer
//! in it may come from a sheet with other columns, so each of its cells goes with its column's name.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{Store, StoreError, meta};
use crate::manifest::Field;

/// A column of the sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Whether it gives a field; if not, it passes through.
    pub(super) bound: bool,
}

/// Which cells of a row are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// All of them.
    All,
    /// Those of the columns that give no field.
    PassedThrough,
}

/// A cell of a row that is no longer in the sheet: its column, its text, and 1 if the column gave a
/// field.
type Named = (String, String, u8);

/// A row's cells as they are stored.
enum Stored {
    /// In the order of the sheet's columns.
    OfSheet(Vec<String>),
    /// Of a row that is no longer in the sheet.
    Named(Vec<Named>),
}

impl Stored {
    fn parse(json: &str) -> Result<Self, StoreError> {
        // Nearly all are of the first kind, and the others fail at their first cell.
        match serde_json::from_str(json) {
            Ok(cells) => Ok(Self::OfSheet(cells)),
            Err(_) => Ok(Self::Named(serde_json::from_str(json)?)),
        }
    }
}

/// The columns of a table of rows, and which cell of a row goes where.
#[derive(Debug)]
pub(super) struct Table {
    names: Vec<String>,
    /// By the place in the sheet: the place here.
    of_sheet: Vec<Option<usize>>,
    /// By name, and how many columns before it have that name: the place here.
    places: HashMap<(String, usize), usize>,
    cells: Cells,
}

impl Table {
    /// All cells of a row of the sheet, and none of any other.
    pub(super) fn plain() -> Self {
        Self::new(&[], Cells::All)
    }

    fn new(sheet: &[Column], cells: Cells) -> Self {
        let mut table = Self { names: Vec::new(), of_sheet: Vec::new(), places: HashMap::new(), cells };
        let mut seen = Seen::default();
        for Column { name, bound } in sheet {
            let nth = seen.nth(name);
            let place = table.wants(*bound).then(|| table.place(name, nth));
            table.of_sheet.push(place);
        }
        table
    }

    const fn wants(&self, bound: bool) -> bool {
        match self.cells {
            Cells::All => true,
            Cells::PassedThrough => !bound,
        }
    }

    fn place(&mut self, name: &str, nth: usize) -> usize {
        *self.places.entry((name.to_owned(), nth)).or_insert_with(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        })
    }

    /// The cells of a row, by our columns; the last ones may be missing.
    pub(super) fn read(&self, json: &str) -> Result<Vec<String>, StoreError> {
        let mut row = Vec::with_capacity(self.names.len());
        let mut put = |place: usize, text: String| {
            if row.len() <= place {
                row.resize(place + 1, String::new());
            }
            row[place] = text;
        };
        match Stored::parse(json)? {
            Stored::OfSheet(cells) if self.cells == Cells::All => return Ok(cells),
            Stored::OfSheet(cells) => {
                for (text, place) in cells.into_iter().zip(&self.of_sheet) {
                    if let Some(place) = place {
                        put(*place, text);
                    }
                }
            }
            Stored::Named(cells) => {
                let mut seen = Seen::default();
                for (name, text, bound) in cells {
                    let nth = seen.nth(&name);
                    if self.wants(bound != 0)
                        && let Some(place) = self.places.get(&(name, nth))
                    {
                        put(*place, text);
                    }
                }
            }
        }
        Ok(row)
    }
}

/// Counts columns of one name.
#[derive(Default)]
struct Seen(HashMap<String, usize>);

impl Seen {
    fn nth(&mut self, name: &str) -> usize {
        let count = self.0.entry(name.to_owned()).or_default();
        *count += 1;
        *count - 1
    }
}

/// The columns of the sheet that is in the state file.
pub(super) fn of_sheet(connection: &Connection) -> Result<Vec<Column>, StoreError> {
    let names: Option<String> = meta(connection, "columns")?;
    let bound: Option<String> = meta(connection, "bound_columns")?;
    let names: Vec<String> = names.map(|json| serde_json::from_str(&json)).transpose()?.unwrap_or_default();
    let bound: Option<Vec<usize>> = bound.map(|json| serde_json::from_str(&json)).transpose()?;
    let columns = names.into_iter().enumerate().map(|(place, name)| {
        // A file of before this was stored tells it by the names alone.
        let bound = match &bound {
            Some(bound) => bound.contains(&place),
            None => Field::named(&name).is_some(),
        };
        Column { name, bound }
    });
    Ok(columns.collect())
}

impl Store {
    /// The columns of the rows of the sheet or, with `removed`, of those no longer in it: the
    /// sheet's, and behind them those that only earlier sheets had.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn columns_of(&self, removed: bool, cells: Cells) -> Result<Vec<String>, StoreError> {
        Ok(self.table(removed, cells)?.names)
    }

    pub(super) fn table(&self, removed: bool, cells: Cells) -> Result<Table, StoreError> {
        let mut table = Table::new(&of_sheet(&self.connection)?, cells);
        if removed {
            let sql = "SELECT fields FROM rows WHERE removed = 1 ORDER BY position";
            let mut statement = self.connection.prepare(sql)?;
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                let stored = Stored::parse(row.get_ref(0)?.as_str().unwrap_or(""))?;
                let Stored::Named(cells) = stored else { continue };
                let mut seen = Seen::default();
                for (name, _, bound) in cells {
                    let nth = seen.nth(&name);
                    if table.wants(bound != 0) {
                        table.place(&name, nth);
                    }
                }
            }
        }
        Ok(table)
    }
}
