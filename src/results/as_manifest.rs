//! Samples as a sheet that `run` takes again, and that asks for the very same requests.
//!
//! The sheet stands alone: its columns have the fields' own names and every choice is written out,
//! so that no `--map` and no default is needed. A sample is a row; where a row asked for several,
//! each has its own seed and an id of its own. What passed through passes through.

use std::collections::HashSet;
use std::io::{self, Write};
use std::ops::ControlFlow;

use serde_json::Value;

use super::layout::Cell;
use super::workbook::{Book, holds};
use super::{PIECE, ResultsError};
use crate::generation::{AspectRatio, GenerationType, Mode, Provider};
use crate::manifest::{Field, Format, LONGEST_ID, guarded};
use crate::store::{Asked, Cells, Names, ResultFilter, Store, Uses};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// Rows, one for each sample.
    pub rows: u64,
    /// Bad rows of the sheet, which are left out: they ask for nothing that could be sent.
    pub invalid: u64,
}

/// Writes the samples that `filter` wants to `out` as a sheet in `format`, in manifest order.
///
/// # Errors
///
/// [`ResultsError::NotASheet`] for a format that holds prompts alone, and for text that the format
/// cannot hold; when `out` cannot be written or the state file cannot be read.
pub fn export_as_manifest(
    store: &Store,
    filter: &ResultFilter,
    format: Format,
    out: impl Write,
) -> Result<Rewritten, ResultsError> {
    let uses = store.uses(filter)?;
    let columns = Columns::of(uses, store.columns_of(filter.removed, Cells::PassedThrough)?);
    let mut sheet = Sheet::begin(format, &columns, out)?;
    // Ids of one sheet are unique. Those of samples, and of several sheets, need not be.
    let shared = filter.removed || store.uses_samples(false)?;
    let names = shared.then(Names::new).transpose()?;
    store.for_each_asked(filter, |asked| {
        let id = asked.id.as_deref().map(|id| own_id(id, &asked, names.as_ref())).transpose();
        let written = id.and_then(|id| sheet.write(&columns, &asked, id.as_deref()));
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    })?;
    sheet.end()?;
    Ok(Rewritten { rows: uses.samples, invalid: uses.invalid })
}

/// The row's id or, of a row with several samples, `{id}-{index}`; with a number behind it, and
/// shortened before that, where it is taken or too long.
fn own_id(id: &str, asked: &Asked, names: Option<&Names>) -> Result<String, ResultsError> {
    let several = asked.samples > 1;
    let suffix = if several { format!("-{}", asked.index) } else { String::new() };
    let mut name = with_suffix(id, &suffix);
    let Some(names) = names else { return Ok(name) };
    let mut number = 2_u64;
    while !names.take(&name)? {
        name = with_suffix(id, &format!("{suffix}-{number}"));
        number += 1;
    }
    Ok(name)
}

fn with_suffix(id: &str, suffix: &str) -> String {
    let room = LONGEST_ID - suffix.chars().count();
    id.chars().take(room).chain(suffix.chars()).collect()
}

/// Our columns that are used, and the sheet's own behind them.
struct Columns {
    fields: Vec<Field>,
    own: Vec<String>,
}

impl Columns {
    fn of(uses: Uses, passed_through: Vec<String>) -> Self {
        let is_used = |field: &Field| match field {
            Field::Prompt | Field::Type | Field::Mode | Field::AspectRatio => true,
            Field::Id => uses.id,
            Field::ImageUrls => uses.image_urls,
            Field::Seed => uses.seed,
            Field::Watermark => uses.watermark,
            Field::Provider => uses.provider,
            Field::Samples | Field::FirstFrame | Field::LastFrame => false,
        };
        let fields = [
            Field::Id,
            Field::Prompt,
            Field::Type,
            Field::Mode,
            Field::AspectRatio,
            Field::ImageUrls,
            Field::Seed,
            Field::Watermark,
            Field::Provider,
        ];
        // A name that would be taken for a field's, or is there twice, becomes another.
        let mut taken = HashSet::new();
        let own = passed_through.into_iter().map(|mut name| {
            while Field::named(&name).is_some() || !taken.insert(name.clone()) {
                name.insert_str(0, "sheet_");
            }
            name
        });
        Self { own: own.collect(), fields: fields.into_iter().filter(is_used).collect() }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.as_str()).chain(self.own.iter().map(String::as_str))
    }
}

/// What a row says in one field; `Null` where it says nothing.
fn value(field: Field, asked: &Asked, id: Option<&str>) -> Value {
    let draft = asked.generation.draft();
    match field {
        Field::Id => id.into(),
        Field::Prompt => draft.prompt.as_str().into(),
        Field::Type => GenerationType::as_str(draft.generation_type).into(),
        Field::Mode => Mode::as_str(draft.mode).into(),
        Field::AspectRatio => AspectRatio::as_str(draft.aspect_ratio).into(),
        Field::ImageUrls if draft.image_urls.is_empty() => Value::Null,
        Field::ImageUrls => draft.image_urls.as_slice().into(),
        Field::Seed => draft.seed.into(),
        Field::Watermark => draft.watermark.as_deref().into(),
        Field::Provider => draft.provider.map(Provider::as_str).into(),
        Field::Samples | Field::FirstFrame | Field::LastFrame => Value::Null,
    }
}

/// A sheet that is being written.
enum Sheet<W: Write> {
    Delimited(Box<csv::Writer<W>>),
    /// A line each.
    Objects(io::BufWriter<W>),
    /// Of one array; whether there is one yet.
    Array(io::BufWriter<W>, bool),
    Worksheet(Box<Book>, W),
}

impl<W: Write> Sheet<W> {
    fn begin(format: Format, columns: &Columns, mut out: W) -> Result<Self, ResultsError> {
        let delimiter = match format {
            Format::Jsonl => return Ok(Self::Objects(io::BufWriter::with_capacity(PIECE, out))),
            Format::Json => return Ok(Self::Array(io::BufWriter::with_capacity(PIECE, out), false)),
            Format::Csv => b',',
            Format::Tsv => b'\t',
            Format::Xlsx => {
                let mut book = Book::new()?;
                // A worksheet's reader goes by its names for where it ends.
                let names: Vec<_> = (1..)
                    .zip(columns.names())
                    .map(|(place, name)| match name.trim() {
                        "" => format!("column_{place}"),
                        _ => name.to_owned(),
                    })
                    .collect();
                names.iter().try_for_each(|name| whole(name, None))?;
                book.header(&names)?;
                return Ok(Self::Worksheet(Box::new(book), out));
            }
            Format::Txt => {
                let why = "lines of text hold prompts alone: name a .csv, .tsv, .jsonl, .json or .xlsx file";
                return Err(ResultsError::NotASheet { why: why.to_owned() });
            }
        };
        // Our reader finds the delimiter by counting in the header, outside of quotes.
        let quotes = columns.names().any(|name| name.contains([',', ';', '\t']));
        let style = if quotes { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut header =
            csv::WriterBuilder::new().delimiter(delimiter).quote_style(style).from_writer(Vec::new());
        let names = columns.names().map(|name| writable(name, None).map(|()| guarded(name)));
        for name in names.collect::<Result<Vec<_>, _>>()? {
            header.write_field(&*name).map_err(failed)?;
        }
        header.write_record(None::<&[u8]>).map_err(failed)?;
        let header = header.into_inner().map_err(|error| ResultsError::Write(error.into_error()))?;
        out.write_all(&header).map_err(ResultsError::Write)?;
        let rows = csv::WriterBuilder::new().delimiter(delimiter).buffer_capacity(PIECE).from_writer(out);
        Ok(Self::Delimited(Box::new(rows)))
    }

    fn write(&mut self, columns: &Columns, asked: &Asked, id: Option<&str>) -> Result<(), ResultsError> {
        let fields = columns.fields.iter().map(|field| (*field, value(*field, asked, id)));
        let cells = asked.cells.iter().map(String::as_str).chain(std::iter::repeat(""));
        let own = columns.own.iter().map(String::as_str).zip(cells);
        match self {
            Self::Delimited(rows) => {
                for cell in fields.map(|(_, value)| cell(value)).chain(own.map(|(_, cell)| cell.to_owned())) {
                    writable(&cell, Some(asked.line))?;
                    rows.write_field(&*guarded(&cell)).map_err(failed)?;
                }
                rows.write_record(None::<&[u8]>).map_err(failed)
            }
            Self::Worksheet(book, _) => {
                let cells = fields.map(|(_, value)| cell(value)).chain(own.map(|(_, cell)| cell.to_owned()));
                let cells =
                    cells.map(|cell| whole(&cell, Some(asked.line)).map(|()| Cell::Text(cell.into())));
                book.write(&cells.collect::<Result<Vec<_>, _>>()?)
            }
            Self::Objects(out) => write_object(out, fields, own)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(ResultsError::Write),
            Self::Array(out, begun) => {
                let mark: &[u8] = if std::mem::replace(begun, true) { b",\n" } else { b"[\n" };
                out.write_all(mark).and_then(|()| write_object(out, fields, own)).map_err(ResultsError::Write)
            }
        }
    }

    fn end(self) -> Result<(), ResultsError> {
        match self {
            Self::Worksheet(book, out) => return book.end(out),
            Self::Delimited(mut rows) => rows.flush(),
            Self::Objects(mut out) => out.flush(),
            Self::Array(mut out, begun) => {
                let end: &[u8] = if begun { b"\n]\n" } else { b"[]\n" };
                out.write_all(end).and_then(|()| out.flush())
            }
        }
        .map_err(ResultsError::Write)
    }
}

/// What is said, and nothing for what is not.
fn write_object<'a>(
    out: &mut impl Write,
    fields: impl Iterator<Item = (Field, Value)>,
    own: impl Iterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    let said = fields.filter(|(_, value)| !value.is_null()).map(|(field, value)| (field.as_str(), value));
    let mut mark = '{';
    for (name, value) in said.chain(own.map(|(name, cell)| (name, cell.into()))) {
        write!(out, "{mark}{}:{value}", Value::from(name))?;
        mark = ',';
    }
    out.write_all(b"}")
}

/// A value as a cell.
fn cell(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Array(list) => {
            let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            let apart = |text: &&str| !text.contains(|c: char| c == '|' || c.is_whitespace());
            // A list that begins with a bracket is read as JSON.
            if texts.iter().all(apart) && !texts.iter().any(|text| text.starts_with('[')) {
                texts.join("|")
            } else {
                Value::Array(list).to_string()
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// That a cell of a worksheet holds this text, and not a part of it.
fn whole(text: &str, line: Option<u64>) -> Result<(), ResultsError> {
    if holds(text) {
        return Ok(());
    }
    let place = line.map_or_else(|| "the header".to_owned(), |line| format!("line {line}"));
    let why =
        format!("{place} has a text that is too long for a worksheet's cell: name a .csv or .jsonl file");
    Err(ResultsError::NotASheet { why })
}

/// That the reader will take a cell with this text for text.
fn writable(text: &str, line: Option<u64>) -> Result<(), ResultsError> {
    if !text.contains('\0') {
        return Ok(());
    }
    let place = line.map_or_else(|| "the header".to_owned(), |line| format!("line {line}"));
    let why = format!("{place} has a NUL character, which only JSON can hold: name a .jsonl file");
    Err(ResultsError::NotASheet { why })
}

fn failed(error: csv::Error) -> ResultsError {
    ResultsError::Write(error.into())
}
