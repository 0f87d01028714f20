//! Cells that a spreadsheet would take for formulas.
//!
//! Spreadsheets run a cell that begins with `=`, `+`, `-` or `@` (or the wide
//! forms of these), and some look behind a leading tab or line end. What we write into CSV and TSV
//! may come from the API or from somebody else's sheet, so such a cell gets an apostrophe, the
//! spreadsheets' own mark of a text. What we read loses it again, and so that nothing else is lost
//! by that, a text of our own that begins with apostrophes and then so gets one more:
//!
//! | text | cell |
//! |---|---|
//! | `=1+1` | `'=1+1` |
//! | `'=1+1` | `''=1+1` |
//! | `-5`, `+1.5e3` | as they are: plain numbers run nothing |
//! | `'tis`, `a=b`, `''` | as they are |
//!
//! [`bare`] undoes [`guarded`] for every text. JSON and lines of text need neither.

use std::borrow::Cow;

/// `text` as a cell of a CSV or TSV file that no spreadsheet takes for a formula.
#[must_use]
pub fn guarded(text: &str) -> Cow<'_, str> {
    let plain_number = || text.parse().is_ok_and(f64::is_finite);
    if begins_a_formula(text) && !plain_number() { format!("'{text}").into() } else { text.into() }
}

/// The text that a cell of a CSV or TSV file stands for.
pub(super) fn bare(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|text| begins_a_formula(text)).unwrap_or(cell)
}

/// Whether a formula may begin here, behind any number of apostrophes.
fn begins_a_formula(text: &str) -> bool {
    let begins = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    text.trim_start_matches('\'').starts_with(begins)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Format, Options, Reader};

    #[test]
    fn formulas_get_an_apostrophe_and_numbers_do_not() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(1)", "'@SUM(1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("\n=1", "'\n=1"),
            ("＝1", "'＝1"),
            ("－", "'－"),
            ("'=1", "''=1"),
            ("''-5", "'''-5"),
            ("'-5", "''-5"),
            ("-inf", "'-inf"),
            ("-1e999", "'-1e999"),
            ("-5 ", "'-5 "),
            ("+49 30 123", "'+49 30 123"),
        ] {
            assert_eq!(guarded(text), cell);
            assert_eq!(bare(cell), text);
        }
        for text in ["", "'", "'tis", "''", "a=b", " =1", "1", "-5", "+1.5e3", "-.5", "' ="] {
            assert_eq!(guarded(text), text);
            assert_eq!(bare(text), text);
        }
        // Written by hand: a number forced to be a text.
        assert_eq!(bare("'-5"), "-5");
    }

    /// Texts that are mostly about to be formulas.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "['=+\\-@\t\r\n＝＠0-9.e \",;a]{0,6}",
            "'{0,3}[=+\\-@\t\r\n＝＋－＠].{0,8}",
            any::<f64>().prop_map(|number| number.to_string()),
            any::<String>(),
        ]
        // A sheet with NUL bytes is refused: it is likely to be UTF-16.
        .prop_filter("NUL", |text| !text.contains('\0'))
    }

    /// What the reader makes of a sheet with this header and these cells, each beside a prompt.
    fn read(bytes: Vec<u8>, format: Format) -> (Vec<String>, Vec<Vec<String>>) {
        let mut reader =
            Reader::new("s", Box::new(std::io::Cursor::new(bytes)), format, &Options::default()).unwrap();
        let rows = reader.by_ref().map(|record| record.unwrap().fields).collect();
        (reader.columns().to_vec(), rows)
    }

    fn write(format: Format, header: &[&str], rows: &[Vec<String>]) -> Vec<u8> {
        let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        out.write_record(header.iter().map(|name| guarded(name).into_owned())).unwrap();
        for row in rows {
            out.write_record(row.iter().map(|cell| guarded(cell).into_owned())).unwrap();
        }
        out.into_inner().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_cell_is_a_formula(
            cells in prop::collection::vec(texts(), 1..6),
            tsv: bool,
        ) {
            let format = if tsv { Format::Tsv } else { Format::Csv };
            let rows: Vec<_> = cells.iter().map(|cell| vec!["a cat".to_owned(), cell.clone()]).collect();
            let bytes = write(format, &["prompt", "note"], &rows);
            let mut raw = csv::ReaderBuilder::new()
                .delimiter(if tsv { b'\t' } else { b',' })
                .from_reader(bytes.as_slice());
            for record in raw.records() {
                let record = record.unwrap();
                prop_assert!(!begins_a_formula(&record[1]) || record[1].starts_with('\'') || record[1].parse::<f64>().is_ok());
            }
            prop_assert_eq!(read(bytes.clone(), format).1, rows.clone());
            // And back: a file that we wrote is written the same again.
            prop_assert_eq!(write(format, &["prompt", "note"], &read(bytes.clone(), format).1), bytes);
        }

        #[test]
        fn headers_are_guarded_and_read_the_same_way(name in texts()) {
            let name = name.trim();
            prop_assume!(!name.is_empty() && crate::manifest::Field::named(name).is_none());
            let bytes = write(Format::Tsv, &["prompt", name], &[vec!["a".to_owned(), "b".to_owned()]]);
            prop_assert_eq!(read(bytes, Format::Tsv).0, ["prompt", name]);
        }
    }
}
