//! What can be wrong: with a row, which is data, and with a whole sheet, which ends the reading.
//!
//! Both say what is wrong, where, and what to do about it. A [`Problem`] does not name its file,
//! a [`ManifestError`] does: rows are shown under the heading of their sheet.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::LONGEST_RECORD;
use crate::harmless::one_line;

/// Characters of a column's name that a message shows.
pub(super) const LONGEST_NAME: usize = 80;

/// Something wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Problem {
    /// The first line of the row's record, from 1; of a worksheet, its row.
    pub line: u64,
    /// Where that is, if a line does not tell: `Sheet1!B7`, or `entry 3, line 1` of an array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The sheet's own name of the column; `None` when it is about the whole row.
    pub column: Option<String>,
    /// What is wrong, such as `the prompt is empty`.
    pub what: String,
    /// What to do about it, such as `write what the video shows, or remove the row`.
    pub mend: String,
}

impl fmt::Display for Problem {
    /// `line 12, column mode: …: …`, or with the place: `Sheet1!B12, column mode: …: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => f.write_str(place)?,
            None => write!(f, "line {}", self.line)?,
        }
        if let Some(column) = &self.column {
            write!(f, ", column {}", one_line(column, LONGEST_NAME))?;
        }
        write!(f, ": {}: {}", self.what, self.mend)
    }
}

/// How a row's place is told where its line does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// By its line.
    Line,
    /// By its number in an array, from 1, and its line: all entries may be on one.
    Entry(u64),
    /// By its cells.
    Cells {
        /// The worksheet, as a formula names it.
        sheet: Arc<str>,
        /// The column of the first cell, from 0.
        first: u32,
    },
}

impl Place {
    /// What [`Problem::place`] says of `column`, or of the whole row.
    pub(super) fn of(&self, line: u64, column: Option<usize>) -> Option<String> {
        match self {
            Self::Line => None,
            Self::Entry(number) => Some(format!("entry {number}, line {line}")),
            Self::Cells { sheet, first } => Some(match column {
                Some(column) => {
                    let column = u64::from(*first) + column as u64;
                    format!("{sheet}!{}{line}", letters(column))
                }
                None => format!("{sheet} row {line}"),
            }),
        }
    }
}

/// The letters of a worksheet's column, counted from 0: A, …, Z, AA, ….
pub(super) fn letters(column: u64) -> String {
    let (rest, last) = (column / 26, column % 26);
    let before = rest.checked_sub(1).map(letters).unwrap_or_default();
    format!("{before}{}", char::from(b'A' + u8::try_from(last).unwrap_or_default()))
}

/// The name of a worksheet as a formula writes it, on one line.
pub(super) fn sheet_name(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let name = one_line(name, LONGEST_NAME);
    if plain { name } else { format!("'{}'", name.replace('\'', "''")) }
}

/// Why a sheet cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be opened or read.
    #[error("{name}: cannot be read")]
    Read {
        /// The sheet.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The format is not one of ours, or cannot be told.
    #[error("{name}: {mend}")]
    Format {
        /// The sheet.
        name: String,
        /// What to do.
        mend: String,
    },
    /// It holds NUL bytes, or a header that is not UTF-8.
    #[error(
        "{name}: {what}: save it as UTF-8, or convert it: iconv -f {encoding} -t UTF-8 {} > converted",
        shell_word(.name)
    )]
    Encoding {
        /// The sheet.
        name: String,
        /// What is wrong.
        what: &'static str,
        /// The likeliest encoding, as `iconv` calls it.
        encoding: &'static str,
    },
    /// Not one row in it.
    #[error("{name}: there is not a single row in it")]
    Empty {
        /// The sheet.
        name: String,
    },
    /// No column holds the prompts.
    #[error("{name}: no column named prompt; the columns are {}: try --map {}", list(.columns), shell_word(&format!("prompt={guess}")))]
    NoPrompt {
        /// The sheet.
        name: String,
        /// Its columns.
        columns: Vec<String>,
        /// The one that most likely holds the prompts.
        guess: String,
    },
    /// `--map` names a column that is not there.
    #[error("{name}: --map {field}={column}: no such column; the columns are {}", list(.columns))]
    NoSuchColumn {
        /// The sheet.
        name: String,
        /// Our field.
        field: &'static str,
        /// The column named.
        column: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// Two columns claim the same field.
    #[error(
        "{name}: the columns {} and {} both give the {field}: rename one, or choose: --map {field}=…",
        one_line(.first, LONGEST_NAME),
        one_line(.second, LONGEST_NAME)
    )]
    Ambiguous {
        /// The sheet.
        name: String,
        /// Our field.
        field: &'static str,
        /// One column.
        first: String,
        /// The other.
        second: String,
    },
    /// `--map` is given twice for one field.
    #[error("--map {field}=… is given twice: give it once")]
    MappedTwice {
        /// Our field.
        field: &'static str,
    },
    /// A quote is opened and the file ends.
    #[error(
        "{name}: line {line}: a quoted field is opened in this record and never closed: close it, or double a quote that is meant literally (\"\")"
    )]
    OpenQuote {
        /// The sheet.
        name: String,
        /// The record's first line.
        line: u64,
    },
    /// A JSON sheet that is not one array.
    #[error(
        "{name}: line {line}: {what}: one array of objects is wanted, such as [{{\"prompt\": \"a cat\"}}, …]"
    )]
    NotAnArray {
        /// The sheet.
        name: String,
        /// Where it ceases to be one.
        line: u64,
        /// What is there.
        what: String,
    },
    /// A workbook that cannot be read, or has no such worksheet.
    #[error("{name}: {what}")]
    Workbook {
        /// The sheet.
        name: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// A record is longer than [`LONGEST_RECORD`].
    #[error("{name}: line {line}: the record that begins here is longer than {} MiB: is a quote left open?", LONGEST_RECORD >> 20)]
    TooLong {
        /// The sheet.
        name: String,
        /// The record's first line.
        line: u64,
    },
    /// A JSONL sheet whose objects have ever new keys, or a header without end.
    #[error("{name}: line {line}: more than {most} columns: are these keys data? put them into one value")]
    TooManyColumns {
        /// The sheet.
        name: String,
        /// Where the limit was passed.
        line: u64,
        /// The limit.
        most: usize,
    },
}

fn list(columns: &[String]) -> String {
    let names: Vec<_> = columns.iter().take(30).map(|name| one_line(name, LONGEST_NAME)).collect();
    let mut shown = names.join(", ");
    if columns.len() > 30 {
        shown.push_str(", …");
    }
    shown
}

/// `text` as a word of a command, quoted where a shell needs it.
pub(super) fn shell_word(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_alphanumeric() || "_-./=".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// `text` as a message shows it: at most 40 characters, on one line.
pub(super) fn shown(text: &str) -> String {
    one_line(text, 40)
}
