//! Rows of a worksheet, taken out of their workbook.
//!
//! A workbook is no stream: its texts lie elsewhere than its rows. So all rows are taken out of it
//! first, into a passing file with one row a line, and are read from there like any other sheet.
//! The first row with text is the header; rows without any are skipped, hidden ones are not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::columns::{Columns, Field, MOST_COLUMNS};
#[cfg(feature = "workbook")]
use super::excel::take_out;
use super::layout::too_many;
use super::options::Mapping;
use super::problem::{ManifestError, Place, letters, sheet_name};
use super::row::{Damage, Row};
use super::source::Source;

/// Largest workbook, in bytes: ten times that of a million prompts.
const LARGEST: u64 = 1 << 30;

/// What is wrong with a formula without a value, and what to do about it.
const NEVER_CALCULATED: &str = "never calculated: open the workbook in Excel or LibreOffice, and save it";

/// A cell as a person sees it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Cell {
    /// Its text; a number or a date as its text.
    Text(String),
    /// A formula that came to an error, such as `#REF!`.
    Error(String),
    /// A formula whose value was not saved, as programs leave it that write workbooks without
    /// calculating them.
    Uncalculated,
}

impl Cell {
    /// Whether nothing is to be seen in it.
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) | Self::Error(text) => text.trim().is_empty(),
            Self::Uncalculated => false,
        }
    }
}

/// The cells of one row that hold something, by column from 0.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Cells {
    /// The row's number, from 1.
    pub(super) row: u32,
    pub(super) cells: BTreeMap<u32, Cell>,
}

/// The rows below a header.
pub(super) struct Rows {
    spool: BufReader<File>,
    sheet: Arc<str>,
    /// The first column with a name, from 0.
    first: u32,
    /// The last row that was read.
    last: u32,
    blank: u64,
}

impl Rows {
    /// Takes the rows of a worksheet out of the workbook that `source` is, and reads the header.
    pub(super) fn open(
        source: &mut Source,
        worksheet: Option<&str>,
        map: &[Mapping],
    ) -> Result<(Self, Columns), ManifestError> {
        let Some(file) = source.spool(LARGEST)? else {
            let what = "a workbook of more than 1 GiB is not read: save the sheet as CSV (UTF-8)";
            return Err(ManifestError::Workbook { name: source.name().to_owned(), what: what.to_owned() });
        };
        let (sheet, spool) = take_out(file, source.name(), worksheet)?;
        let mut rows = Self {
            spool: BufReader::new(spool),
            sheet: sheet_name(&sheet).into(),
            first: 0,
            last: 0,
            blank: 0,
        };
        let columns = rows.header(source.name(), map)?;
        Ok((rows, columns))
    }

    /// Rows without any text between those that have some.
    pub(super) const fn blank(&self) -> u64 {
        self.blank
    }

    fn header(&mut self, name: &str, map: &[Mapping]) -> Result<Columns, ManifestError> {
        let Some(Cells { row, mut cells }) = self.next(name)? else {
            return Err(ManifestError::Empty { name: name.to_owned() });
        };
        cells.retain(|_, cell| !cell.is_blank());
        self.last = row;
        let ends = cells.first_key_value().zip(cells.last_key_value());
        let (first, last) = ends.map_or((0, 0), |((first, _), (last, _))| (*first, *last));
        self.first = first;
        if last - first >= u32::try_from(MOST_COLUMNS).unwrap_or(u32::MAX) {
            return Err(too_many(name, row.into()));
        }
        if let Some((column, _)) = cells.iter().find(|(_, cell)| matches!(cell, Cell::Uncalculated)) {
            let at = format!("{}!{}{row}", self.sheet, letters((*column).into()));
            let what = format!("{at}, in the header, is a formula that was {NEVER_CALCULATED}");
            return Err(ManifestError::Workbook { name: name.to_owned(), what });
        }
        let names: Vec<String> = (first..=last)
            .map(|column| match cells.remove(&column) {
                Some(Cell::Text(text) | Cell::Error(text)) => text,
                Some(Cell::Uncalculated) | None => String::new(),
            })
            .collect();
        let mut columns = Columns::of_header(map, names.iter().map(String::as_str), name)?;
        if columns.name_of(Field::Prompt).is_none() {
            let row = self.next_row(name, &mut columns)?;
            columns.check_prompt(name, row.as_ref().map_or(&[], |row| &row.fields))?;
        }
        Ok(columns)
    }

    /// The next row that is not blank.
    pub(super) fn next_row(
        &mut self,
        name: &str,
        columns: &mut Columns,
    ) -> Result<Option<Row>, ManifestError> {
        let Some(Cells { row: number, cells }) = self.next(name)? else { return Ok(None) };
        self.blank += u64::from(number - self.last - 1);
        self.last = number;
        let place = Place::Cells { sheet: Arc::clone(&self.sheet), first: self.first };
        let mut row = Row::new(number.into(), place, Vec::new());
        let mut beyond = None;
        for (column, cell) in cells {
            let place = column.checked_sub(self.first).map(|place| place as usize);
            let Some(place) = place.filter(|place| *place < columns.names().len()) else {
                beyond = beyond.or(Some(column).filter(|_| !cell.is_blank()));
                continue;
            };
            row.fields.resize(place, String::new());
            row.fields.push(match cell {
                Cell::Text(text) => text,
                Cell::Error(error) => {
                    // What passes through is nobody's but the user's.
                    if columns.bound().contains(&place) {
                        row.damaged.push((place, Damage::Formula(error.clone())));
                    }
                    error
                }
                Cell::Uncalculated => {
                    if columns.bound().contains(&place) {
                        row.damaged.push((place, Damage::Uncalculated));
                    }
                    String::new()
                }
            });
        }
        let Some(column) = beyond else { return Ok(Some(row)) };
        let what =
            format!("{}{number} has a value, and the header has no name above it", letters(column.into()));
        Ok(Some(row.broken(what, "name the column, or clear the cell")))
    }

    fn next(&mut self, name: &str) -> Result<Option<Cells>, ManifestError> {
        let mut line = Vec::new();
        let unreadable = |source| ManifestError::Read { name: name.to_owned(), source };
        if self.spool.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|error| unreadable(error.into()))
    }
}

/// Says that this program cannot.
#[cfg(not(feature = "workbook"))]
fn take_out(_: File, name: &str, _: Option<&str>) -> Result<(String, File), ManifestError> {
    let what =
        "this batchveo is built without Excel files (the feature `workbook`): save the sheet as CSV (UTF-8)";
    Err(ManifestError::Workbook { name: name.to_owned(), what: what.to_owned() })
}
