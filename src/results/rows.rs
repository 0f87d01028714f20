//! Rows of results on their way into a file: lines of CSV, JSON objects, or a worksheet.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use serde_json::Value;

use super::ResultsError;
use super::layout::Cell;
use super::workbook::Book;
use crate::manifest::guarded;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OutputFormat {
    /// A header and lines, separated by commas. No cell is a formula to a spreadsheet.
    #[default]
    Csv,
    /// A JSON object a line, each with every column; what is not there is `null`.
    Jsonl,
    /// An Excel workbook with one worksheet. Texts are texts there, never formulas.
    Xlsx,
}

impl OutputFormat {
    /// What the extension of `path` says; CSV if it says nothing, as for standard output.
    ///
    /// # Errors
    ///
    /// [`ResultsError::Format`] for an extension that promises what results are not written as, and for
    /// a workbook when this program is built without them.
    pub fn of(path: &Path) -> Result<Self, ResultsError> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let refused = |why: &str| Err(ResultsError::Format { path: path.into(), why: why.to_owned() });
        match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "xlsx" if cfg!(feature = "workbook") => Ok(Self::Xlsx),
            "xlsx" => refused("this batchveo is built without Excel files (the feature `workbook`)"),
            "tsv" | "json" | "xls" | "xlsm" | "ods" => {
                refused("results are written as .csv, .jsonl or .xlsx: name it so")
            }
            _ => Ok(Self::Csv),
        }
    }

    /// The word `--format` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Xlsx => "xlsx",
        }
    }

    /// Whether a file can grow as samples end. A workbook is written whole.
    #[must_use]
    pub const fn grows(self) -> bool {
        match self {
            Self::Csv | Self::Jsonl => true,
            Self::Xlsx => false,
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OutputFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "xlsx" if cfg!(feature = "workbook") => Ok(Self::Xlsx),
            other => Err(format!("`{other}` is not a format: use csv, jsonl or xlsx")),
        }
    }
}

/// Columns' names as `format` writes them.
pub(super) fn written_names(format: OutputFormat, names: &[String]) -> Vec<String> {
    match format {
        OutputFormat::Csv => names.iter().map(|name| guarded(name).into_owned()).collect(),
        OutputFormat::Xlsx => names.to_vec(),
        OutputFormat::Jsonl => {
            // Of two equal keys of an object one would be lost.
            let mut taken = HashSet::new();
            let unique = names.iter().map(|name| {
                let mut number = 2_u64;
                let mut unique = name.clone();
                while !taken.insert(unique.clone()) {
                    unique = format!("{name}_{number}");
                    number += 1;
                }
                unique
            });
            unique.collect()
        }
    }
}

/// Writes rows in one of the formats.
pub(super) enum Rows<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Jsonl {
        out: BufWriter<W>,
        /// The columns' names as JSON.
        keys: Vec<String>,
    },
    Xlsx(Box<Book>, W),
}

impl<W: Write> Rows<W> {
    /// Rows into `out`, in pieces of about `piece` bytes, for the columns with these [`written_names`].
    pub(super) fn new(
        format: OutputFormat,
        names: &[String],
        piece: usize,
        out: W,
    ) -> Result<Self, ResultsError> {
        Ok(match format {
            OutputFormat::Csv => {
                Self::Csv(Box::new(csv::WriterBuilder::new().buffer_capacity(piece).from_writer(out)))
            }
            OutputFormat::Jsonl => Self::Jsonl {
                out: BufWriter::with_capacity(piece, out),
                keys: names.iter().map(|name| Value::from(name.as_str()).to_string()).collect(),
            },
            OutputFormat::Xlsx => Self::Xlsx(Box::new(Book::new()?), out),
        })
    }

    /// Writes the line with the names, in a format that has one.
    pub(super) fn header(&mut self, names: &[String]) -> Result<(), ResultsError> {
        match self {
            Self::Csv(out) => out.write_record(names).map_err(failed),
            Self::Jsonl { .. } => Ok(()),
            Self::Xlsx(book, _) => book.header(names),
        }
    }

    /// Writes a row with as many cells as there are columns.
    pub(super) fn write(&mut self, cells: &[Cell<'_>]) -> Result<(), ResultsError> {
        match self {
            Self::Csv(out) => write_line(out, cells).map_err(ResultsError::Write),
            Self::Jsonl { out, keys } => write_object(out, keys, cells).map_err(ResultsError::Write),
            Self::Xlsx(book, _) => book.write(cells),
        }
    }

    /// Hands everything to the system.
    pub(super) fn end(self) -> Result<(), ResultsError> {
        match self {
            Self::Csv(mut out) => out.flush().map_err(ResultsError::Write),
            Self::Jsonl { mut out, .. } => out.flush().map_err(ResultsError::Write),
            Self::Xlsx(book, out) => book.end(out),
        }
    }
}

fn failed(error: csv::Error) -> ResultsError {
    ResultsError::Write(error.into())
}

fn write_line(out: &mut csv::Writer<impl Write>, cells: &[Cell<'_>]) -> io::Result<()> {
    for cell in cells {
        match cell {
            Cell::Blank => out.write_field(""),
            Cell::Text(text) => out.write_field(&*guarded(text)),
            Cell::Number(number) => out.write_field(number),
            Cell::List(list) => out.write_field(serde_json::to_string(list)?),
        }?;
    }
    Ok(out.write_record(None::<&[u8]>)?)
}

fn write_object(out: &mut impl Write, keys: &[String], cells: &[Cell<'_>]) -> io::Result<()> {
    let mut mark = '{';
    for (key, cell) in keys.iter().zip(cells) {
        write!(out, "{mark}{key}:")?;
        match cell {
            Cell::Blank => out.write_all(b"null")?,
            Cell::Text(text) => serde_json::to_writer(&mut *out, text)?,
            Cell::Number(number) => out.write_all(number.as_bytes())?,
            Cell::List(list) => serde_json::to_writer(&mut *out, list)?,
        }
        mark = ',';
    }
    out.write_all(b"}\n")
}
