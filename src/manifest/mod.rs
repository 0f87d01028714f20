//! Rows out of files.
//!
//! A [`Reader`] streams one sheet in constant memory: CSV, TSV, JSONL, a JSON array or a prompt a line;
//! of an Excel workbook, the texts that its cells share are held while its rows are taken out. A bad row
//! is data with a position: its [`Record`] carries everything that is wrong with it, and reading
//! goes on. Only what makes the rest unreadable, such as a sheet without prompts, is a
//! [`ManifestError`] and ends it. Nothing here knows of other rows: that ids are unique is for
//! whoever has them all.
//!
//! ```
//! use batchveo::manifest::{Format, Options, Reader};
//!
//! let sheet = "prompt,mode\na cat,fast\na dog,slow\n";
//! let input = Box::new(sheet.as_bytes());
//! let reader = Reader::new("pets.csv", input, Format::Csv, &Options::default())?;
//! let records = reader.collect::<Result<Vec<_>, _>>()?;
//! assert!(records[0].entry.is_ok());
//! let problems = records[1].entry.as_ref().unwrap_err();
//! assert_eq!(
//!     problems[0].to_string(),
//!     "line 3, column mode: `slow` is not a mode: write quality or fast"
//! );
//! # Ok::<(), batchveo::manifest::ManifestError>(())
//! ```

mod array;
mod columns;
mod delimited;
#[cfg(feature = "workbook")]
mod excel;
mod format;
mod guard;
mod layout;
mod object;
mod options;
mod problem;
mod row;
mod source;
#[cfg(test)]
mod tests;
mod words;
mod workbook;

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::Path;

pub use columns::Field;
pub use format::Format;
pub use guard::guarded;
pub use options::{Defaults, Mapping, Options};
pub use problem::{ManifestError, Problem};
pub use row::LONGEST_ID;
pub use words::{UnknownWord, parse_aspect_ratio, parse_generation_type, parse_mode, parse_provider};

use crate::generation::Generation;
use columns::Columns;
use layout::Layout;
use source::Source;

/// Longest record read, in bytes: a hundred times the longest prompt, and a bound on what one
/// quote left open can cost.
pub const LONGEST_RECORD: usize = 4 * 1024 * 1024;

/// One row of a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The line it begins on, from 1; of a worksheet, its row. Entries of an array may share one.
    pub line: u64,
    /// Its cells, in the order of [`Reader::columns`]; the last ones may be missing. They are as they
    /// are in the sheet, but for the apostrophe of [`guarded`].
    pub fields: Vec<String>,
    /// What it asks for, or everything that is wrong with it.
    pub entry: Result<Entry, Vec<Problem>>,
    /// Which blank cells did not get their usual default.
    pub adjusted: Adjusted,
}

/// What a sound row asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The user's own key of the row: not blank, at most 512 characters, none of them control
    /// characters. Not known to be unique.
    pub id: Option<String>,
    /// How many videos.
    pub samples: NonZeroU32,
    /// What each of them is.
    pub generation: Generation,
}

/// Blank cells of a reference row that became the only values the API takes there, although the
/// default for blank cells is another. Always empty for a row with problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Adjusted {
    /// The mode became `fast`.
    pub mode: bool,
    /// The aspect ratio became `16:9`.
    pub aspect_ratio: bool,
}

/// The rows of one sheet, in order. After an error there are no more.
pub struct Reader {
    source: Source,
    format: Format,
    options: Options,
    columns: Columns,
    layout: Layout,
    records: u64,
    ended: bool,
}

impl Reader {
    /// Opens the sheet at `path`. Standard input is for [`Reader::new`].
    ///
    /// # Errors
    ///
    /// A format that cannot be told, a file that cannot be read, and those of [`Reader::new`].
    pub fn open(path: &Path, options: &Options) -> Result<Self, ManifestError> {
        let format = options.format_of(path)?;
        Self::new(&path.display().to_string(), Box::new(open(path)?), format, options)
    }

    /// Reads a sheet from `input`, and its header at once; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// An unreadable or empty input; a header without prompts, without a mapped column, or with two
    /// columns for one field.
    pub fn new(
        name: &str,
        input: Box<dyn Read + Send>,
        format: Format,
        options: &Options,
    ) -> Result<Self, ManifestError> {
        let mut source =
            if format == Format::Xlsx { Source::unread(name, input) } else { Source::new(name, input)? };
        let worksheet = options.worksheet.as_deref();
        let (layout, columns) = Layout::open(format, &mut source, worksheet, &options.map)?;
        Ok(Self { source, format, options: options.clone(), columns, layout, records: 0, ended: false })
    }

    /// The sheet's own columns, in order, without the apostrophe of [`guarded`]. A column without a name is called `column_3` by its
    /// place; a sheet of lines has the one column `prompt`. Of JSON objects these are all keys in
    /// the order they were first seen, and so complete only after the last record.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        self.columns.names()
    }

    /// The column that gives `field`, the first one if several do.
    #[must_use]
    pub fn column_of(&self, field: Field) -> Option<&str> {
        self.columns.name_of(field)
    }

    /// The places of the columns that give a field; the others pass through. Complete when
    /// [`Reader::columns`] is.
    #[must_use]
    pub fn bound_columns(&self) -> Vec<usize> {
        self.columns.bound()
    }

    /// How many rows without any text were passed so far.
    #[must_use]
    pub const fn blank_rows(&self) -> u64 {
        self.layout.blank_rows()
    }

    /// The hash of all bytes read so far and of the options. After the last record it is the
    /// sheet's [`fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.options.fingerprint(self.format, self.source.hash())
    }

    fn record(&mut self) -> Result<Option<Record>, ManifestError> {
        let Some(row) = self.layout.next_row(&mut self.source, &mut self.columns)? else {
            if self.records == 0 {
                return Err(ManifestError::Empty { name: self.source.name().to_owned() });
            }
            self.columns.check_mapped(self.source.name())?;
            return Ok(None);
        };
        self.records += 1;
        let (entry, adjusted) = row::read(&row, &self.columns, self.options.defaults);
        Ok(Some(Record { line: row.line, fields: row.fields, entry, adjusted }))
    }
}

impl Iterator for Reader {
    type Item = Result<Record, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.record().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

impl std::iter::FusedIterator for Reader {}

/// What [`Reader::fingerprint`] answers after the last record of the sheet at `path`, without
/// reading its rows: whether a sheet is what it was, and is read as it was.
///
/// # Errors
///
/// A format that cannot be told, or a file that cannot be read.
pub fn fingerprint(path: &Path, options: &Options) -> Result<[u8; 32], ManifestError> {
    let format = options.format_of(path)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(open(path)?).map_err(|source| unreadable(path, source))?;
    Ok(options.fingerprint(format, hasher.finalize()))
}

fn open(path: &Path) -> Result<File, ManifestError> {
    File::open(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> ManifestError {
    ManifestError::Read { name: path.display().to_string(), source }
}
