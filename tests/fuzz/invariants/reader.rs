//! What holds of reading any sheet at all.
//!
//! An input is a line of options, written as on the command line, and the sheet below it:
//! `--format jsonl --map prompt=caption --mode fast --chunk 7`. `--chunk` is how many bytes a read
//! brings, `--fail` after how many bytes the input breaks off. What cannot be understood is passed
//! over, so that a change of any byte is another input and not a wasted one.

use std::io::{self, Read};

use batchveo::generation::Generation;
use batchveo::manifest::{
    Entry, Format, LONGEST_RECORD, Options, Reader, Record, parse_aspect_ratio, parse_generation_type,
    parse_mode, parse_provider,
};
use batchveo::veo::encode_submission;

const MARK: &[u8] = b"\xEF\xBB\xBF";
/// Most problems of a row beside one for each damaged cell: a field has two at most, and a list of
/// images some more.
const MOST_PROBLEMS: usize = 40;

/// Reads the sheet in `data` in several ways and holds them against each other.
///
/// # Panics
///
/// When an invariant does not hold.
pub(crate) fn check(data: &[u8]) {
    let case = Case::parse(data);
    let whole = case.read(&case.sheet, usize::MAX, None);

    let chunked = case.read(&case.sheet, case.chunk, None);
    assert_eq!(whole, chunked, "read in chunks of {}", case.chunk);

    let cut = case.fail.min(case.sheet.len());
    let broken = case.read(&case.sheet, case.chunk, Some(cut));
    assert!(broken.error.is_some(), "an input that breaks off is not the whole sheet");
    assert!(whole.records.starts_with(&broken.records), "broken off after {cut} bytes: {broken:?}");

    check_encodings(&case, &whole);
    if matches!(case.format, Format::Csv | Format::Tsv) {
        check_records(&case, &whole);
    } else if whole.error.is_none() && matches!(case.format, Format::Jsonl | Format::Txt) {
        let lines = lines_with_text(&case.sheet);
        assert!(lines.is_none_or(|lines| lines == whole.records.len()), "each line is a row: {whole:?}");
    }
}

/// A sheet and how it is to be read.
struct Case {
    format: Format,
    options: Options,
    chunk: usize,
    fail: usize,
    sheet: Vec<u8>,
}

/// What a reading came to.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    columns: Vec<String>,
    records: Vec<Record>,
    blank: u64,
    /// Of a reading that came to the end: what was read when an error was met depends on the chunks.
    fingerprint: Option<[u8; 32]>,
    error: Option<String>,
}

impl Case {
    fn parse(data: &[u8]) -> Self {
        let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
        let sheet = data.get(end + 1..).unwrap_or_default().to_vec();
        let mut case =
            Self { format: Format::Csv, options: Options::default(), chunk: 1, fail: usize::MAX, sheet };
        for option in String::from_utf8_lossy(&data[..end]).split("--") {
            let (name, value) = option.trim().split_once(' ').unwrap_or_default();
            case.set(name, value.trim());
        }
        case
    }

    fn set(&mut self, name: &str, value: &str) {
        let defaults = &mut self.options.defaults;
        match name {
            "format" => self.format = value.parse().unwrap_or(self.format),
            "map" => self.options.map.extend(value.parse()),
            "mode" => defaults.mode = parse_mode(value).ok(),
            "type" => defaults.generation_type = parse_generation_type(value).ok(),
            "aspect-ratio" => defaults.aspect_ratio = parse_aspect_ratio(value).ok(),
            "provider" => defaults.provider = parse_provider(value).ok(),
            "samples" => defaults.samples = value.parse().ok(),
            "chunk" => self.chunk = value.parse().unwrap_or(1).max(1),
            "fail" => self.fail = value.parse().unwrap_or(usize::MAX),
            _ => {}
        }
    }

    /// Reads `sheet` to its end, every row checked.
    fn read(&self, sheet: &[u8], chunk: usize, fail: Option<usize>) -> Reading {
        let mut reading =
            Reading { columns: Vec::new(), records: Vec::new(), blank: 0, fingerprint: None, error: None };
        let input = Chunks { rest: sheet[..fail.unwrap_or(sheet.len())].to_vec(), chunk, fail, reads: 0 };
        let mut reader = match Reader::new("sheet", Box::new(input), self.format, &self.options) {
            Ok(reader) => reader,
            Err(error) => {
                reading.error = Some(error.to_string());
                return reading;
            }
        };
        while let Some(record) = reader.next() {
            match record {
                Ok(record) => {
                    let before = reading.records.last().map_or(0, |record| record.line);
                    let rises = record.line > before || self.format == Format::Json && record.line == before;
                    assert!(rises, "lines rise: {record:?} after line {before}");
                    check_record(&record, reader.columns(), &self.options);
                    reading.records.push(record);
                }
                Err(error) => reading.error = Some(error.to_string()),
            }
        }
        assert!(reader.next().is_none(), "the end stays the end");
        reading.columns = reader.columns().to_vec();
        reading.blank = reader.blank_rows();
        reading.fingerprint = reading.error.is_none().then(|| reader.fingerprint());
        reading
    }
}

/// An input that comes in pieces, is interrupted now and then, and may break off at its end.
struct Chunks {
    rest: Vec<u8>,
    chunk: usize,
    fail: Option<usize>,
    reads: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.rest.is_empty() && self.fail.is_some() {
            return Err(io::Error::other("broken off"));
        }
        let count = self.chunk.min(buffer.len()).min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

fn check_record(record: &Record, columns: &[String], options: &Options) {
    assert!(record.fields.len() <= columns.len(), "no more cells than columns: {record:?}");
    // A byte that is not UTF-8 becomes a character of three.
    let bytes: usize = record.fields.iter().map(String::len).sum();
    assert!(bytes <= 3 * LONGEST_RECORD, "a row of {bytes} bytes");
    match &record.entry {
        Ok(entry) => check_entry(entry, options),
        Err(problems) => {
            assert!(!problems.is_empty(), "a bad row says why: {record:?}");
            assert!(problems.len() <= columns.len() + MOST_PROBLEMS, "{} problems in a row", problems.len());
            assert_eq!(record.adjusted, batchveo::manifest::Adjusted::default());
            for problem in problems {
                assert_eq!(problem.line, record.line, "{problem}");
                assert!(problem.column.as_ref().is_none_or(|column| columns.contains(column)), "{problem}");
                assert!(!problem.what.is_empty() && !problem.mend.is_empty(), "{problem:?}");
                let said = problem.what.chars().count() + problem.mend.chars().count();
                let name = columns.iter().map(|name| name.chars().count()).max().unwrap_or_default();
                assert!(said <= 300 + name, "a problem is a sentence: {problem}");
            }
        }
    }
}

fn check_entry(entry: &Entry, options: &Options) {
    let Entry { id, samples, generation } = entry;
    let draft = generation.draft();
    assert!(!draft.prompt.is_empty() && draft.prompt == draft.prompt.trim(), "{draft:?}");
    assert!(draft.prompt.chars().count() <= 10_000);
    assert!(samples.get() <= 1_000 || Some(*samples) == options.defaults.samples, "{samples} samples");
    if let Some(id) = id {
        assert!(!id.trim().is_empty() && id.chars().count() <= 512, "{id:?}");
        assert!(!id.contains(char::is_control), "{id:?}");
    }
    for url in &draft.image_urls {
        assert!(url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http")), "{url:?}");
        assert!(!url.contains(char::is_control), "{url:?}");
    }
    // The state file keeps a request as JSON, and the API gets it as JSON.
    let kept = serde_json::to_string(generation).expect("a request is JSON");
    assert_eq!(serde_json::from_str::<Generation>(&kept).ok().as_ref(), Some(generation), "{kept}");
    let sent: serde_json::Value = serde_json::from_slice(&encode_submission(generation, None)).expect("JSON");
    assert_eq!(sent["input"]["prompt"], draft.prompt.as_str());
}

/// The same text in UTF-16, either way round, and with a byte order mark, is the same sheet.
fn check_encodings(case: &Case, wanted: &Reading) {
    let plain = case.sheet.strip_prefix(MARK).unwrap_or(&case.sheet);
    let Ok(text) = std::str::from_utf8(plain) else { return };
    // Taken for UTF-16 without a mark, and refused.
    if text.contains('\0') {
        return;
    }
    let units = || std::iter::once(0xFEFF).chain(text.encode_utf16());
    let encoded: [Vec<u8>; 3] = [
        [MARK, plain].concat(),
        units().flat_map(u16::to_le_bytes).collect(),
        units().flat_map(u16::to_be_bytes).collect(),
    ];
    for sheet in encoded {
        let mut read = case.read(&sheet, case.chunk, None);
        // The one thing that is of the bytes and not of the text.
        read.fingerprint = wanted.fingerprint;
        assert_eq!(&read, wanted, "encoded as {:?}", &sheet[..2]);
    }
}

/// The rows are the `csv` crate's records under one of the delimiters, and none is missing.
fn check_records(case: &Case, reading: &Reading) {
    let sheet = case.sheet.strip_prefix(MARK).unwrap_or(&case.sheet);
    let utf16 = sheet.starts_with(b"\xFF\xFE") || sheet.starts_with(b"\xFE\xFF");
    // The crate would take a second mark off.
    if reading.records.is_empty() || utf16 || sheet.starts_with(MARK) {
        return;
    }
    let delimiters: &[u8] = if case.format == Format::Tsv { b"\t" } else { b",;\t" };
    let same = delimiters.iter().any(|&delimiter| {
        let mut csv = csv::ReaderBuilder::new();
        csv.delimiter(delimiter).has_headers(false).flexible(true);
        let records = csv.from_reader(sheet).into_byte_records().filter_map(Result::ok);
        let mut records = records.filter(|record| {
            !std::str::from_utf8(record.as_slice()).is_ok_and(|text| text.trim().is_empty())
        });
        let header = records.next().is_some_and(|header| header.len() == reading.columns.len());
        let rows = reading.records.iter().all(|row| {
            records.next().is_some_and(|record| {
                let cells: Vec<_> = record.iter().take(reading.columns.len()).map(bare).collect();
                row.fields.iter().map(|field| bare(field.as_bytes())).eq(cells)
            })
        });
        header && rows && (reading.error.is_some() || records.next().is_none())
    });
    assert!(same, "rows lost or made up: {reading:?}");
}

/// A cell without apostrophes before it: the reader may take off one that guards a formula.
fn bare(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).trim_start_matches('\'').to_owned()
}

/// How many lines of a UTF-8 sheet hold text.
fn lines_with_text(sheet: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(sheet.strip_prefix(MARK).unwrap_or(sheet)).ok()?;
    Some(text.split(['\r', '\n']).filter(|line| !line.trim().is_empty()).count())
}
