//! How rows lie in the sheet: as delimited records or cells under a header, as JSON objects, as bare
//! lines.
//!
//! Each layout turns the text into [`Row`]s of cells by column. What makes one record unreadable
//! is told in its row; what makes the sheet unreadable is an error.

use super::array::Array;
use super::columns::{Columns, Field, MOST_COLUMNS};
use super::delimited::{Delimited, Fields, find_delimiter};
use super::format::Format;
use super::guard::bare;
use super::object::Object;
use super::options::Mapping;
use super::problem::{ManifestError, Place, shown};
use super::row::{Damage, Row};
use super::source::{Source, is_blank};
use super::workbook::Rows;

/// A way of reading rows, and what it has passed over.
pub(super) enum Layout {
    /// Records under a header.
    Delimited(Box<Delimited>),
    /// A JSON object a line.
    Objects {
        /// Lines without text.
        blank: u64,
        /// An object was read, and it had a prompt.
        begun: bool,
    },
    /// The objects of one JSON array.
    Array {
        /// How far it is read.
        array: Array,
        /// An object was read, and it had a prompt.
        begun: bool,
    },
    /// Rows of a worksheet.
    Cells(Box<Rows>),
    /// A prompt a line.
    Lines {
        /// Lines without text.
        blank: u64,
    },
}

impl Layout {
    /// Reads what comes before the first row.
    pub(super) fn open(
        format: Format,
        source: &mut Source,
        worksheet: Option<&str>,
        map: &[Mapping],
    ) -> Result<(Self, Columns), ManifestError> {
        if worksheet.is_some() && format != Format::Xlsx {
            let what = format!("a sheet in {format} has no worksheets: leave --sheet out");
            return Err(ManifestError::Workbook { name: source.name().to_owned(), what });
        }
        match format {
            Format::Csv | Format::Tsv => open_delimited(format, source, map),
            Format::Jsonl => Ok((Self::Objects { blank: 0, begun: false }, Columns::new(map)?)),
            Format::Json => Ok((Self::Array { array: Array::default(), begun: false }, Columns::new(map)?)),
            Format::Xlsx => {
                let (rows, columns) = Rows::open(source, worksheet, map)?;
                Ok((Self::Cells(Box::new(rows)), columns))
            }
            Format::Txt => {
                let columns = Columns::of_header(map, [Field::Prompt.as_str()].into_iter(), source.name())?;
                columns.check_prompt(source.name(), &[])?;
                Ok((Self::Lines { blank: 0 }, columns))
            }
        }
    }

    /// Rows without any text, so far.
    pub(super) const fn blank_rows(&self) -> u64 {
        match self {
            Self::Delimited(records) => records.blank(),
            Self::Objects { blank, .. } | Self::Lines { blank } => *blank,
            Self::Cells(rows) => rows.blank(),
            Self::Array { .. } => 0,
        }
    }

    /// The next row that is not blank.
    pub(super) fn next_row(
        &mut self,
        source: &mut Source,
        columns: &mut Columns,
    ) -> Result<Option<Row>, ManifestError> {
        match self {
            Self::Delimited(records) => {
                Ok(records.next(source)?.map(|fields| delimited_row(&fields, columns.names().len())))
            }
            Self::Objects { blank, begun } => {
                let Some((line, bytes)) = next_line(source, blank)? else { return Ok(None) };
                if !*begun && bytes.trim_ascii_start().starts_with(b"[") {
                    let mend = "it begins with an array: add --format json, or write one object a line";
                    return Err(ManifestError::Format { name: source.name().to_owned(), mend: mend.into() });
                }
                object_row(Row::new(line, Place::Line, Vec::new()), &bytes, source.name(), columns, begun)
                    .map(Some)
            }
            Self::Array { array, begun } => {
                let Some(written) = array.next(source)? else { return Ok(None) };
                let row = Row::new(written.line, Place::Entry(written.number), Vec::new());
                object_row(row, &written.bytes, source.name(), columns, begun).map(Some)
            }
            Self::Cells(rows) => rows.next_row(source.name(), columns),
            Self::Lines { blank } => {
                let Some((line, bytes)) = next_line(source, blank)? else { return Ok(None) };
                let mut row = Row::new(line, Place::Line, Vec::new());
                let prompt =
                    std::str::from_utf8(&bytes).map_or(bytes.as_slice(), |text| text.trim().as_bytes());
                push_cell(&mut row, prompt);
                Ok(Some(row))
            }
        }
    }
}

fn open_delimited(
    format: Format,
    source: &mut Source,
    map: &[Mapping],
) -> Result<(Layout, Columns), ManifestError> {
    source.skip_empty_lines()?;
    let delimiter = if format == Format::Tsv { b'\t' } else { find_delimiter(source)? };
    let mut records = Delimited::new(delimiter);
    let columns = match records.next(source)? {
        None => return Err(ManifestError::Empty { name: source.name().to_owned() }),
        Some(header) => header_columns(&header, map, source)?,
    };
    if columns.name_of(Field::Prompt).is_none() {
        let first = records.next(source)?.map(|fields| delimited_row(&fields, columns.names().len()));
        columns.check_prompt(source.name(), first.as_ref().map_or(&[], |row| &row.fields))?;
    }
    Ok((Layout::Delimited(Box::new(records)), columns))
}

fn header_columns(header: &Fields<'_>, map: &[Mapping], source: &Source) -> Result<Columns, ManifestError> {
    if header.len() > MOST_COLUMNS {
        return Err(too_many(source.name(), header.line));
    }
    let names: Result<Vec<&str>, _> = header.iter().map(std::str::from_utf8).collect();
    let names = names.map_err(|_| ManifestError::Encoding {
        name: source.name().to_owned(),
        what: "its header is not UTF-8",
        encoding: "WINDOWS-1252",
    })?;
    Columns::of_header(map, names.into_iter().map(bare), source.name())
}

fn delimited_row(fields: &Fields<'_>, columns: usize) -> Row {
    let mut row = Row::new(fields.line, Place::Line, Vec::with_capacity(columns));
    // What is beyond the header has no column to be shown in.
    fields.iter().take(columns).for_each(|bytes| push_bare_cell(&mut row, bytes));
    if fields.len() == columns {
        return row;
    }
    let what = format!("{} fields, and the header has {columns}", fields.len());
    let mend = if fields.len() > columns {
        "put double quotes around a cell with a delimiter in it"
    } else {
        "add the missing ones, or look for a quote left open"
    };
    row.broken(what, mend)
}

/// Adds a cell that may be guarded and may not be UTF-8.
fn push_bare_cell(row: &mut Row, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => row.fields.push(bare(text).to_owned()),
        Err(_) => push_cell(row, bytes),
    }
}

/// Adds a cell that may not be UTF-8.
fn push_cell(row: &mut Row, bytes: &[u8]) {
    if let Err(error) = std::str::from_utf8(bytes) {
        row.damaged.push((row.fields.len(), Damage::NotUtf8(error.valid_up_to() + 1)));
    }
    row.fields.push(String::from_utf8_lossy(bytes).into_owned());
}

/// The next line with text on it, and its number.
fn next_line(source: &mut Source, blank: &mut u64) -> Result<Option<(u64, Vec<u8>)>, ManifestError> {
    loop {
        *blank += source.skip_empty_lines()?;
        if source.peek()?.is_none() {
            return Ok(None);
        }
        let number = source.line();
        let length = source.rest_of_line()?;
        if length > super::LONGEST_RECORD {
            return Err(source.too_long(number));
        }
        let line = source.buffer()[..length].to_vec();
        // The line's end goes with it, else it would count as an empty line.
        source.consume(length);
        if source.peek()?.is_some() {
            source.consume(1);
        }
        if !is_blank(&line) {
            return Ok(Some((number, line)));
        }
        *blank += 1;
    }
}

/// Reads the object written in `bytes` into a `row` that has no cells yet.
fn object_row(
    mut row: Row,
    bytes: &[u8],
    sheet: &str,
    columns: &mut Columns,
    begun: &mut bool,
) -> Result<Row, ManifestError> {
    let alone = row.place == Place::Line;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let of = if alone { "line" } else { "entry" };
            let what = format!("byte {} of the {of} is not UTF-8", error.valid_up_to() + 1);
            return Ok(row.broken(what, "save the sheet as UTF-8"));
        }
    };
    let object: Object = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => {
            let message = error.to_string();
            let why = message.rsplit_once(" at line ").map_or(message.as_str(), |(why, _)| why);
            let place = match error.line() {
                0 | 1 => format!("at byte {}", error.column()),
                line => format!("at line {}, byte {}", row.line + line as u64 - 1, error.column()),
            };
            let what = format!("not a JSON object, {place}: {}", shown(why));
            let mend = if alone {
                "write one object a line, as jq -c . does"
            } else {
                "write an object, such as {\"prompt\": \"a cat\"}"
            };
            return Ok(row.broken(what, mend));
        }
    };
    let line = row.line;
    for (key, value) in object.0 {
        let column = columns.find(&key).unwrap_or_else(|| columns.add(key));
        if column >= MOST_COLUMNS {
            return Err(too_many(sheet, line));
        }
        if row.fields.len() <= column {
            row.fields.resize(column + 1, String::new());
        }
        row.fields[column] = value.text;
        if value.nested {
            row.nested.push(column);
        }
    }
    if !*begun {
        columns.check_prompt(sheet, &row.fields)?;
        *begun = true;
    }
    Ok(row)
}

pub(super) fn too_many(sheet: &str, line: u64) -> ManifestError {
    ManifestError::TooManyColumns { name: sheet.to_owned(), line, most: MOST_COLUMNS }
}
