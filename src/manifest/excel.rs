//! An Excel workbook to the rows of one worksheet: the only file that knows the format's reader.
//!
//! A cell is what a person sees in it, as far as that can be told without Excel: numbers with 15
//! digits and without their format, dates as `2026-01-31` or with `12:30:00` behind, the value that a
//! formula had when the file was saved. Of merged cells the first has the value and the others have none.
//!
//! The bytes are somebody else's. An archive can say that it holds a terabyte, so it is looked
//! through before it is read, by what it really inflates to; and what the reader of the format does
//! on nonsense ends here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsx, XlsxError};
use zip::ZipArchive;
use zip::result::ZipError;

use super::LONGEST_RECORD;
use super::problem::{ManifestError, sheet_name, shown};
use super::workbook::{Cell, Cells};
use crate::harmless::one_line;

/// Most bytes that all parts of a workbook may inflate to.
const LARGEST_INFLATED: u64 = 2 << 30;
/// Most bytes of the texts that cells share. They are held in memory, in up to three times as much.
const LARGEST_TEXTS: u64 = 256 << 20;
/// How many times its size a part may inflate to, once it is larger than [`FREE`]: sheets inflate to
/// some ten times, and nothing written by hand to a hundred.
const LARGEST_RATIO: u64 = 100;
/// Most rows that a worksheet can have.
const MOST_ROWS: u32 = 1_048_576;
/// What may be this large at any ratio, in bytes.
const FREE: u64 = 16 << 20;

/// The name of the worksheet that `wanted` says, and its rows, one a line.
pub(super) fn take_out(
    file: File,
    name: &str,
    wanted: Option<&str>,
) -> Result<(String, File), ManifestError> {
    look_through(&file).map_err(|what| refused(name, what))?;
    // The reader counts on what a sound file holds, and stops the program where that is not so.
    let read = catch_unwind(AssertUnwindSafe(|| read(file, name, wanted)));
    read.unwrap_or_else(|_| Err(refused(name, broken("its parts contradict each other"))))
}

fn refused(name: &str, what: impl Into<String>) -> ManifestError {
    ManifestError::Workbook { name: name.to_owned(), what: what.into() }
}

fn broken(why: impl std::fmt::Display) -> String {
    let why = one_line(&why.to_string(), 120);
    format!(
        "not a sound workbook ({why}): open it in Excel and save it as .xlsx, or the sheet as CSV (UTF-8)"
    )
}

/// Inflates every part once, to nothing; says what is wrong.
fn look_through(mut file: &File) -> Result<(), String> {
    let mut magic = [0; 4];
    let begins = file.read_exact(&mut magic).and_then(|()| file.rewind()).map(|()| magic);
    match begins {
        Ok([b'P', b'K', 3, 4]) => {}
        Ok([0xD0, 0xCF, 0x11, 0xE0]) => {
            return Err("an old .xls, or a workbook with a password: save it as .xlsx without one".into());
        }
        Ok(_) | Err(_) => return Err("not an Excel workbook (.xlsx): what is it? add --format".into()),
    }
    let unsound = |error: ZipError| broken(error);
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(unsound)?;
    let mut all = 0;
    for index in 0..archive.len() {
        let mut part = archive.by_index(index).map_err(unsound)?;
        let texts = part.name().map_err(unsound)?.to_ascii_lowercase().ends_with("sharedstrings.xml");
        let (packed, mut inflated) = (part.compressed_size(), 0);
        let mut count = Count::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = part.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                break;
            }
            inflated += read as u64;
            let bomb = inflated > FREE && inflated / LARGEST_RATIO > packed;
            if bomb || all + inflated > LARGEST_INFLATED || (texts && inflated > LARGEST_TEXTS) {
                return Err(
                    "it unpacks to more than is read of a workbook: save the sheet as CSV (UTF-8)".into()
                );
            }
            if texts {
                count.read(&buffer[..read]);
            }
        }
        if count.largest > inflated {
            return Err(broken("it promises more texts than it has"));
        }
        all += inflated;
    }
    Ok(())
}

/// Finds the largest `uniqueCount="…"`: the reader makes room for so many texts before it sees one.
#[derive(Default)]
struct Count {
    /// How much of the name is matched.
    matched: usize,
    number: u64,
    largest: u64,
}

impl Count {
    const NAME: &'static [u8] = b"uniqueCount";

    fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == 0 {
                // UTF-16, which nobody writes here, and in which the name is not found.
                self.largest = u64::MAX;
            }
            if self.matched < Self::NAME.len() {
                let next = self.matched + 1;
                self.matched =
                    if byte == Self::NAME[self.matched] { next } else { usize::from(byte == b'u') };
                self.number = 0;
                continue;
            }
            match byte {
                b'0'..=b'9' => {
                    self.number = self.number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                    self.largest = self.largest.max(self.number);
                }
                b' ' | b'\t' | b'\r' | b'\n' | b'=' | b'"' | b'\'' | b'+' if self.number == 0 => {}
                _ => self.matched = 0,
            }
        }
    }
}

fn read(file: File, name: &str, wanted: Option<&str>) -> Result<(String, File), ManifestError> {
    let unsound = |error: XlsxError| refused(name, broken(error));
    let mut book: Xlsx<_> = Xlsx::new(BufReader::new(file)).map_err(unsound)?;
    let sheet = choose(&book, wanted).map_err(|what| refused(name, what))?;
    let mut cells = book.worksheet_cells_reader(&sheet).map_err(unsound)?;
    let failed = |source| ManifestError::Read { name: name.to_owned(), source };
    let mut spool = BufWriter::new(tempfile::tempfile().map_err(failed)?);
    let (mut row, mut size) = (Cells::default(), 0);
    while let Some(cell) = cells.next_cell_with_formula_metadata().map_err(unsound)? {
        let (number, column) = cell.pos;
        let number = number.saturating_add(1);
        if number > MOST_ROWS {
            return Err(refused(name, broken(format_args!("row {number} of at most {MOST_ROWS}"))));
        }
        if number < row.row {
            return Err(refused(name, broken(format_args!("row {number} comes after row {}", row.row))));
        }
        if number > row.row {
            write(&mut spool, &row).map_err(failed)?;
            (row, size) = (Cells { row: number, cells: BTreeMap::new() }, 0);
        }
        let cell = if let DataRef::Error(error) = &cell.value {
            Cell::Error(error.to_string())
        } else if cell.formula.is_some() && matches!(cell.value, DataRef::Empty) {
            Cell::Uncalculated
        } else {
            Cell::Text(text(&cell.value))
        };
        match &cell {
            Cell::Text(text) | Cell::Error(text) if text.is_empty() => continue,
            Cell::Text(text) | Cell::Error(text) => size += text.len(),
            Cell::Uncalculated => {}
        }
        if size > LONGEST_RECORD {
            return Err(ManifestError::TooLong { name: name.to_owned(), line: number.into() });
        }
        row.cells.insert(column, cell);
    }
    write(&mut spool, &row).map_err(failed)?;
    let mut spool = spool.into_inner().map_err(|error| failed(error.into_error()))?;
    spool.rewind().map_err(failed)?;
    Ok((sheet, spool))
}

fn write(out: &mut impl Write, row: &Cells) -> std::io::Result<()> {
    if row.cells.values().all(Cell::is_blank) {
        return Ok(());
    }
    serde_json::to_writer(&mut *out, row)?;
    out.write_all(b"\n")
}

/// The worksheet called `wanted`, or else of that number, or else the first that can be seen.
fn choose<R: Read + Seek>(book: &Xlsx<R>, wanted: Option<&str>) -> Result<String, String> {
    let sheets = book.sheets_metadata().iter().filter(|sheet| sheet.typ == SheetType::WorkSheet);
    let sheets: Vec<_> = sheets.collect();
    let found = match wanted.map(str::trim) {
        None => sheets.iter().find(|sheet| sheet.visible == SheetVisible::Visible),
        Some(wanted) => {
            let called = |same: fn(&str, &str) -> bool| sheets.iter().find(|sheet| same(&sheet.name, wanted));
            let number = || wanted.parse().ok().and_then(|number: usize| sheets.get(number.checked_sub(1)?));
            called(|name, wanted| name == wanted)
                .or_else(|| called(|name, wanted| name.to_lowercase() == wanted.to_lowercase()))
                .or_else(number)
        }
    };
    found.map(|sheet| sheet.name.clone()).ok_or_else(|| {
        let names: Vec<_> = sheets.iter().take(30).map(|sheet| sheet_name(&sheet.name)).collect();
        match wanted {
            Some(wanted) => format!(
                "no worksheet `{}`; there are {}: name one with --sheet, or its number",
                shown(wanted),
                names.join(", ")
            ),
            None => "no worksheet that can be seen: name a hidden one with --sheet".to_owned(),
        }
    })
}

/// A cell's value as its text.
fn text(value: &DataRef<'_>) -> String {
    match value {
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number_text(*number),
        DataRef::Bool(true) => "TRUE".to_owned(),
        DataRef::Bool(false) => "FALSE".to_owned(),
        DataRef::DateTime(time) => time_text(time),
        DataRef::Error(error) => error.to_string(),
        DataRef::Empty => String::new(),
    }
}

/// With the 15 digits that Excel shows: behind them is what binary fractions are off by.
fn number_text(number: f64) -> String {
    let shown: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    shown.to_string()
}

fn time_text(time: &ExcelDateTime) -> String {
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    if time.is_duration() {
        // Counted in whole seconds; a cell of a length is short.
        #[expect(clippy::cast_possible_truncation, reason = "a length beyond i64 seconds is no length")]
        let seconds = (time.as_f64() * 86_400.0).round() as i64;
        let sign = if seconds < 0 { "-" } else { "" };
        let seconds = seconds.unsigned_abs();
        return format!("{sign}{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    let date = format!("{year:04}-{month:02}-{day:02}");
    match (time.as_f64() < 1.0, clock.as_str()) {
        (true, _) => clock,
        (false, "00:00:00") => date,
        (false, _) => format!("{date} {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use calamine::ExcelDateTimeType::{DateTime, TimeDelta};
    use rust_xlsxwriter::{ExcelDateTime as Time, Format as Look, Formula, Workbook};
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;
    use crate::manifest::{Format, Options, Reader as Sheet, Record};

    fn open(book: Vec<u8>, worksheet: Option<&str>) -> Result<Sheet, String> {
        let options = Options { worksheet: worksheet.map(str::to_owned), ..Options::default() };
        let read = Sheet::new("a.xlsx", Box::new(Cursor::new(book)), Format::Xlsx, &options);
        read.map_err(|error| error.to_string())
    }

    fn read(book: Vec<u8>, worksheet: Option<&str>) -> Result<(Vec<String>, Vec<Record>), String> {
        let mut sheet = open(book, worksheet)?;
        let records: Result<Vec<_>, _> = sheet.by_ref().collect();
        Ok((sheet.columns().to_vec(), records.map_err(|error| error.to_string())?))
    }

    /// One with a header in row 3, from column B on.
    fn book() -> Workbook {
        let mut book = Workbook::new();
        book.add_worksheet().set_hidden(true).write(0, 0, "prompt").unwrap();
        let sheet = book.add_worksheet().set_name("My prompts").unwrap().set_active(true);
        for (column, name) in ["Prompt", "seed", "", "mode", "when", "on"].into_iter().enumerate() {
            sheet.write(2, u16::try_from(column).unwrap() + 1, name).unwrap();
        }
        sheet.write(4, 1, "a cat\nwith \"two\" lines, and <&> _x000D_").unwrap();
        sheet.write(4, 2, 1234.0).unwrap();
        sheet.write(4, 3, 0.1 + 0.2).unwrap();
        let day = Look::new().set_num_format("yyyy-mm-dd hh:mm");
        sheet.write_with_format(4, 5, Time::from_ymd(2026, 1, 31).unwrap(), &day).unwrap();
        sheet.write(4, 6, true).unwrap();
        // Row 6 is blank, 7 hidden.
        sheet.set_row_hidden(6).unwrap();
        sheet.write(6, 1, Formula::new("=\"a \"&\"dog\"").set_result("a dog")).unwrap();
        sheet.write(6, 2, Formula::new("=1+1").set_result("2")).unwrap();
        let clock = Time::from_ymd(2026, 1, 31).unwrap().and_hms(12, 30, 0).unwrap();
        sheet.write_with_format(6, 5, clock, &day).unwrap();
        book
    }

    #[test]
    fn cells_are_what_a_person_sees() {
        let (columns, records) = read(book().save_to_buffer().unwrap(), None).unwrap();
        assert_eq!(columns, ["Prompt", "seed", "column_3", "mode", "when", "on"]);
        assert_eq!(
            records[0].fields,
            ["a cat\nwith \"two\" lines, and <&> _x000D_", "1234", "0.3", "", "2026-01-31", "TRUE"]
        );
        assert_eq!(records[1].fields, ["a dog", "2", "", "", "2026-01-31 12:30:00"]);
        assert_eq!(records.iter().map(|record| record.line).collect::<Vec<_>>(), [5, 7]);
        assert!(records.iter().all(|record| record.entry.is_ok()), "{records:?}");
        let mut sheet = open(book().save_to_buffer().unwrap(), None).unwrap();
        sheet.by_ref().for_each(drop);
        assert_eq!(sheet.blank_rows(), 2);
    }

    #[test]
    fn numbers_and_times() {
        for (number, text) in [
            (1234.0, "1234"),
            (-0.5, "-0.5"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333333"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e21, "1000000000000000000000"),
        ] {
            assert_eq!(number_text(number), text);
        }
        let time = |value, kind| time_text(&ExcelDateTime::new(value, kind, false));
        assert_eq!(time(45_943.0, DateTime), "2025-10-13");
        assert_eq!(time(45_943.5, DateTime), "2025-10-13 12:00:00");
        assert_eq!(time(0.5, DateTime), "12:00:00");
        assert_eq!(time(1.5, TimeDelta), "36:00:00");
    }

    #[test]
    fn problems_name_their_cells() {
        let mut book = book();
        let sheet = book.worksheet_from_index(1).unwrap();
        sheet.write(8, 1, "").unwrap().write(8, 2, "x").unwrap();
        sheet.write(9, 1, Formula::new("=A1/0").set_result("#DIV/0!")).unwrap();
        sheet.write(10, 1, "a").unwrap().write(10, 4, "slow").unwrap().write(10, 7, "who").unwrap();
        sheet.write(11, 1, "a").unwrap().write(11, 6, Formula::new("=NA()").set_result("#N/A")).unwrap();
        let (_, records) = read(book.save_to_buffer().unwrap(), None).unwrap();
        let told = |record: &Record| {
            let problems = record.entry.as_ref().err().into_iter().flatten();
            problems.map(ToString::to_string).collect::<Vec<_>>().join(" / ")
        };
        let told: Vec<_> = records[2..].iter().map(told).collect();
        assert!(told[0].contains("'My prompts'!B9, column Prompt: the prompt is empty"), "{}", told[0]);
        assert!(told[0].contains("'My prompts'!C9, column seed: `x` is not a seed"), "{}", told[0]);
        assert_eq!(
            told[1],
            "'My prompts'!B10, column Prompt: the formula comes to #DIV/0!: mend the formula, or write its value"
        );
        assert!(
            told[2].starts_with("'My prompts' row 11: H11 has a value, and the header has no name"),
            "{}",
            told[2]
        );
        // An error in a column that passes through is the user's own affair.
        assert_eq!((told[3].as_str(), records[5].fields[5].as_str()), ("", "#N/A"));
    }

    /// `book` with one of its cells as `changed`: what no program that calculates writes.
    fn doctored(book: &mut Workbook, cell: &str, changed: &str) -> Vec<u8> {
        let mut parts = ZipArchive::new(Cursor::new(book.save_to_buffer().unwrap())).unwrap();
        let mut doctored = ZipWriter::new(Cursor::new(Vec::new()));
        let mut found = false;
        for index in 0..parts.len() {
            let mut part = parts.by_index(index).unwrap();
            let mut text = String::new();
            part.read_to_string(&mut text).unwrap();
            found |= text.contains(cell);
            doctored.start_file(part.name().unwrap().into_owned(), SimpleFileOptions::default()).unwrap();
            doctored.write_all(text.replace(cell, changed).as_bytes()).unwrap();
        }
        assert!(found, "no {cell}");
        doctored.finish().unwrap().into_inner()
    }

    #[test]
    fn a_formula_that_was_never_calculated_is_not_taken_for_a_blank() {
        let mut book = book();
        let sheet = book.worksheet_from_index(1).unwrap();
        sheet.write(8, 1, "a").unwrap().write(8, 2, Formula::new("=40+2").set_result("7")).unwrap();
        let (saved, unsaved) = ("<f>40+2</f><v>7</v>", "<f>40+2</f>");
        let (_, records) = read(doctored(&mut book, saved, unsaved), None).unwrap();
        let problems = records[2].entry.as_ref().unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "'My prompts'!C9, column seed: the formula was never calculated: open the workbook in Excel or LibreOffice, \
             and save it"
        );
        // What comes to an empty text is blank.
        let blank = "<f>40+2</f><v></v>";
        let (_, records) =
            read(doctored(&mut book, &format!(">{saved}"), &format!(" t=\"str\">{blank}")), None).unwrap();
        assert!(records[2].entry.is_ok(), "{records:?}");
        // In a column that passes through it is the user's own affair; in the header nobody's.
        let sheet = book.worksheet_from_index(1).unwrap();
        sheet.write(8, 2, "1").unwrap().write(8, 6, Formula::new("=40+2").set_result("7")).unwrap();
        let (_, records) = read(doctored(&mut book, saved, unsaved), None).unwrap();
        assert!(records[2].entry.is_ok() && records[2].fields[5].is_empty(), "{records:?}");
        let sheet = book.worksheet_from_index(1).unwrap();
        sheet.write(2, 2, Formula::new("=40+2").set_result("7")).unwrap();
        let told = read(doctored(&mut book, saved, unsaved), None).unwrap_err();
        assert!(
            told.contains("'My prompts'!C3, in the header, is a formula that was never calculated"),
            "{told}"
        );
    }

    #[test]
    fn a_row_beyond_all_rows_is_none() {
        let told = read(doctored(&mut book(), "r=\"C7\"", "r=\"C4294967295\""), None).unwrap_err();
        assert!(told.contains("row 4294967295 of at most 1048576"), "{told}");
    }

    #[test]
    fn worksheets_by_name_and_number() {
        let book = || book().save_to_buffer().unwrap();
        for wanted in [None, Some("My prompts"), Some("my PROMPTS"), Some("2")] {
            assert_eq!(read(book(), wanted).unwrap().1.len(), 2, "{wanted:?}");
        }
        for (wanted, error) in [
            ("1", "a.xlsx: there is not a single row in it"),
            ("0", "a.xlsx: no worksheet `0`; there are Sheet1, 'My prompts': name one with --sheet"),
            ("Prompts", "no worksheet `Prompts`"),
        ] {
            let told = read(book(), Some(wanted)).unwrap_err();
            assert!(told.contains(error), "{wanted}: {told}");
        }
    }

    /// An archive of these parts.
    fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in parts {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn hostile_files_are_told_and_cost_nothing() {
        let sound = book().save_to_buffer().unwrap();
        let promise = br#"<sst uniqueCount = "99999999999"><si><t>a</t></si></sst>"#;
        for (bytes, wanted) in [
            (b"prompt\na\n".to_vec(), "not an Excel workbook"),
            (Vec::new(), "not an Excel workbook"),
            (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec(), "an old .xls, or a workbook with a password"),
            (sound[..sound.len() / 2].to_vec(), "not a sound workbook"),
            (archive(&[("xl/workbook.xml", b"<workbook/>")]), "not a sound workbook"),
            (archive(&[("xl/worksheets/sheet1.xml", &vec![b' '; 20 << 20])]), "unpacks to more than is read"),
            (archive(&[("xl/sharedStrings.xml", promise)]), "it promises more texts than it has"),
            (archive(&[("xl/SharedStrings.xml", b"<\0s\0s\0t\0")]), "it promises more texts than it has"),
        ] {
            let told = read(bytes, None).unwrap_err();
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
    }

    /// Whatever byte is changed, reading ends in rows or in an error.
    #[test]
    fn changed_files_are_read_or_refused() {
        let sound = book().save_to_buffer().unwrap();
        let mut refused = 0;
        for place in (0..sound.len()).step_by(sound.len() / 100) {
            let mut changed = sound.clone();
            changed[place] ^= 0x55;
            refused += usize::from(read(changed, None).is_err());
        }
        assert!(refused > 50, "{refused}: archives have check sums");
    }
}
