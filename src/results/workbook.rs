//! Rows of results as an Excel workbook.
//!
//! A text is written as a text, whatever it looks like: never a formula, never a link (a worksheet
//! has room for 65,530 of those, and a row that is a link to its video is one click from being
//! fetched by whoever looks at the sheet). Numbers are numbers; times stay RFC 3339, since a date of
//! Excel has no time zone. Rows go into a passing file as they come, so memory does not grow with them.

use super::ResultsError;

#[cfg(feature = "workbook")]
pub(super) use excel::Book;
#[cfg(not(feature = "workbook"))]
pub(super) use without::Book;

/// Longest text of a cell, in UTF-16 units.
#[cfg(feature = "workbook")]
const LONGEST_CELL: usize = 32_767;

/// Most rows of a worksheet, the header among them.
const MOST_ROWS: u64 = 1_048_576;

/// Most columns of a worksheet.
const MOST_COLUMNS: usize = 16_384;

/// That a worksheet has room for a header with so many columns and so many rows below it.
pub(super) fn check_room(rows: u64, columns: usize) -> Result<(), ResultsError> {
    let why = if rows >= MOST_ROWS {
        format!("a worksheet has {MOST_ROWS} rows, and these are {rows} below the header")
    } else if columns > MOST_COLUMNS {
        format!("a worksheet has {MOST_COLUMNS} columns, and these are {columns}")
    } else {
        return Ok(());
    };
    Err(ResultsError::NotASheet { why: format!("{why}: name a .csv or .jsonl file") })
}

/// `text` as a cell holds it: what is too long ends with a mark that says how long it was.
#[cfg(feature = "workbook")]
fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= LONGEST_CELL {
        return text.into();
    }
    let units = text.chars().map(char::len_utf16).sum::<usize>();
    if units <= LONGEST_CELL {
        return text.into();
    }
    let mark = format!("… [cut: {} characters]", text.chars().count());
    let mut room = LONGEST_CELL - mark.encode_utf16().count();
    let fits = |c: &char| {
        let left = room.checked_sub(c.len_utf16());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let kept: String = text.chars().take_while(fits).collect();
    (kept + &mark).into()
}

/// Whether a cell holds `text` whole.
#[cfg(feature = "workbook")]
pub(super) fn holds(text: &str) -> bool {
    matches!(cut(text), std::borrow::Cow::Borrowed(_))
}

/// Whether a cell holds `text` whole.
#[cfg(not(feature = "workbook"))]
pub(super) const fn holds(_: &str) -> bool {
    false
}

#[cfg(feature = "workbook")]
mod excel {
    use std::io::{self, Seek, Write};

    use rust_xlsxwriter::{Format, Workbook, XlsxError};

    use super::{check_room, cut};
    use crate::results::ResultsError;
    use crate::results::layout::Cell;

    /// A workbook that is being written.
    pub(in crate::results) struct Book {
        book: Workbook,
        row: u32,
    }

    impl Book {
        pub(in crate::results) fn new() -> Result<Self, ResultsError> {
            let mut book = Workbook::new();
            let sheet = book.add_worksheet_with_constant_memory().map_err(failed)?;
            sheet.set_name("results").and_then(|sheet| sheet.set_freeze_panes(1, 0)).map_err(failed)?;
            Ok(Self { book, row: 0 })
        }

        pub(in crate::results) fn header(&mut self, names: &[String]) -> Result<(), ResultsError> {
            let bold = Format::new().set_bold();
            let sheet = self.book.worksheet_from_index(0).map_err(failed)?;
            for (column, name) in (0..).zip(names) {
                sheet.write_string_with_format(self.row, column, cut(name), &bold).map_err(failed)?;
            }
            self.row += 1;
            Ok(())
        }

        pub(in crate::results) fn write(&mut self, cells: &[Cell<'_>]) -> Result<(), ResultsError> {
            check_room(self.row.into(), cells.len())?;
            let sheet = self.book.worksheet_from_index(0).map_err(failed)?;
            for (column, cell) in (0..).zip(cells) {
                match cell {
                    Cell::Blank => continue,
                    Cell::Text(text) if text.is_empty() => continue,
                    Cell::Text(text) => sheet.write_string(self.row, column, cut(text)),
                    Cell::Number(number) => match number.parse::<f64>() {
                        Ok(value) => sheet.write_number(self.row, column, value),
                        Err(_) => sheet.write_string(self.row, column, number),
                    },
                    Cell::List(list) => {
                        let list = serde_json::to_string(list).map_err(|error| write_error(error.into()))?;
                        sheet.write_string(self.row, column, cut(&list))
                    }
                }
                .map_err(failed)?;
            }
            self.row += 1;
            Ok(())
        }

        pub(in crate::results) fn end(mut self, mut out: impl Write) -> Result<(), ResultsError> {
            // An archive is written by a thread of its own, where `out` may not be able to go.
            let mut file = tempfile::tempfile().map_err(write_error)?;
            self.book.save_to_writer(&mut file).map_err(failed)?;
            file.rewind().and_then(|()| io::copy(&mut file, &mut out)).map(drop).map_err(write_error)
        }
    }

    fn failed(error: XlsxError) -> ResultsError {
        write_error(if let XlsxError::IoError(error) = error { error } else { io::Error::other(error) })
    }

    fn write_error(error: io::Error) -> ResultsError {
        ResultsError::Write(error)
    }
}

/// In the place of a workbook, in a program without them; none is ever made.
#[cfg(not(feature = "workbook"))]
mod without {
    use std::io::Write;

    use crate::results::ResultsError;
    use crate::results::layout::Cell;

    pub(in crate::results) enum Book {}

    impl Book {
        pub(in crate::results) fn new() -> Result<Self, ResultsError> {
            let why = "this batchveo is built without Excel files (the feature `workbook`)";
            Err(ResultsError::NotASheet { why: why.to_owned() })
        }

        pub(in crate::results) fn header(&mut self, _: &[String]) -> Result<(), ResultsError> {
            match *self {}
        }

        pub(in crate::results) fn write(&mut self, _: &[Cell<'_>]) -> Result<(), ResultsError> {
            match *self {}
        }

        pub(in crate::results) fn end(self, _: impl Write) -> Result<(), ResultsError> {
            match self {}
        }
    }
}

#[cfg(all(test, feature = "workbook"))]
mod tests {
    use super::*;

    #[test]
    fn a_worksheet_ends() {
        assert!(check_room(MOST_ROWS - 1, MOST_COLUMNS).is_ok());
        for (rows, columns, words) in [
            (MOST_ROWS, 1, "and these are 1048576 below the header: name a .csv"),
            (1, 16_385, "and these are 16385:"),
        ] {
            let told = check_room(rows, columns).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let fits = "é".repeat(LONGEST_CELL);
        assert_eq!(cut(&fits), fits);
        for long in ["é".repeat(LONGEST_CELL + 1), "🎬".repeat(LONGEST_CELL)] {
            let cut = cut(&long);
            let units = cut.encode_utf16().count();
            assert!((LONGEST_CELL - 1..=LONGEST_CELL).contains(&units), "{units}");
            assert!(cut.ends_with(&format!("… [cut: {} characters]", long.chars().count())));
        }
    }
}
