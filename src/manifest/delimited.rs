//! Records of CSV and TSV, with the line each begins on.
//!
//! Field rules are the `csv` crate's, through its core, which leaves buffers to us. That is what
//! makes three things possible that its reader does not offer: the right line after `\r\n` and
//! empty lines, a bound on a record, and an error for a quote that is never closed, instead of one
//! field that swallows the rest of the sheet.

use csv_core::ReadRecordResult;

use super::LONGEST_RECORD;
use super::problem::ManifestError;
use super::source::{Source, is_blank};

/// Splits a [`Source`] into records.
pub(super) struct Delimited {
    core: csv_core::Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    blank: u64,
}

/// One record: the line it begins on, and its fields as they are, unquoted and undecoded.
pub(super) struct Fields<'a> {
    pub(super) line: u64,
    bytes: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, ends) = (self.bytes, self.ends);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(ends).map(move |(start, &end)| &bytes[start..end])
    }
}

impl Delimited {
    pub(super) fn new(delimiter: u8) -> Self {
        Self {
            core: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            bytes: vec![0; 1024],
            ends: vec![0; 16],
            blank: 0,
        }
    }

    /// Empty lines and records without a single character but white space, so far.
    pub(super) const fn blank(&self) -> u64 {
        self.blank
    }

    /// The next record that is not blank.
    pub(super) fn next(&mut self, source: &mut Source) -> Result<Option<Fields<'_>>, ManifestError> {
        loop {
            self.blank += source.skip_empty_lines()?;
            if source.peek()?.is_none() {
                return Ok(None);
            }
            let line = source.line();
            let (length, count) = self.read(source)?;
            if is_blank(&self.bytes[..length]) {
                self.blank += 1;
                continue;
            }
            return Ok(Some(Fields { line, bytes: &self.bytes[..length], ends: &self.ends[..count] }));
        }
    }

    /// Reads one record into the buffers; answers how much of each it fills.
    fn read(&mut self, source: &mut Source) -> Result<(usize, usize), ManifestError> {
        let line = source.line();
        let (mut length, mut count) = (0, 0);
        loop {
            let more = source.peek()?.is_some();
            // A line end closes the last record; if it does not, it is inside quotes.
            let input = if more { source.buffer() } else { b"\n".as_slice() };
            let (result, read, wrote, ended) =
                self.core.read_record(input, &mut self.bytes[length..], &mut self.ends[count..]);
            if more {
                source.consume(read);
            }
            length += wrote;
            count += ended;
            if length > LONGEST_RECORD || count > LONGEST_RECORD {
                return Err(source.too_long(line));
            }
            match result {
                ReadRecordResult::InputEmpty if !more => {
                    return Err(ManifestError::OpenQuote { name: source.name().to_owned(), line });
                }
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.resize(self.bytes.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record | ReadRecordResult::End => return Ok((length, count)),
            }
        }
    }
}

/// The delimiter of a CSV: whichever of `,` `;` and tab its first record has most of, outside
/// quotes; a comma when it has none.
pub(super) fn find_delimiter(source: &mut Source) -> Result<u8, ManifestError> {
    let mut quoted = false;
    let mut counts = [(b',', 0_usize), (b';', 0), (b'\t', 0)];
    source.distance_to(|byte| {
        quoted ^= byte == b'"';
        if !quoted && let Some((_, count)) = counts.iter_mut().find(|(delimiter, _)| *delimiter == byte) {
            *count += 1;
        }
        !quoted && matches!(byte, b'\r' | b'\n')
    })?;
    let most = counts.into_iter().rev().max_by_key(|&(_, count)| count);
    Ok(most.map_or(b',', |(delimiter, _)| delimiter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("x", Box::new(std::io::Cursor::new(text.to_owned().into_bytes()))).unwrap()
    }

    #[test]
    fn delimiters() {
        for (header, wanted) in [
            ("prompt", b','),
            ("", b','),
            ("a,b;c,d", b','),
            ("a;b;c,d\n,,,,", b';'),
            ("a\tb,c\td", b'\t'),
            ("\"a,b,c\";d", b';'),
            ("\"a\n,b,\"\"c\";d\r\n,,,", b';'),
            ("a;b,c", b','),
        ] {
            assert_eq!(find_delimiter(&mut source(header)).unwrap(), wanted, "{header:?}");
        }
    }

    #[test]
    fn records_and_their_lines() {
        let text = "a,b\r\n\r\n1,\"x\r\ny\"\r\n,\r\n \t, \n2,5\" \"pipe\"\r3,\"\"\"q\"\"\"";
        let mut source = source(text);
        let mut records = Delimited::new(b',');
        let mut seen = Vec::new();
        while let Some(fields) = records.next(&mut source).unwrap() {
            let texts: Vec<_> =
                fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
            seen.push(format!("{}: {}", fields.line, texts.join("|")));
        }
        assert_eq!(seen, ["1: a|b", "3: 1|x\r\ny", "7: 2|5\" \"pipe\"", "8: 3|\"q\""]);
        assert_eq!(records.blank(), 3);
    }

    #[test]
    fn a_quote_left_open_is_an_error_at_its_record() {
        for text in ["a\n1\n\"x\n\n", "a\n\"x\"\n\"x\"\""] {
            let (mut source, mut records) = (source(text), Delimited::new(b','));
            let error = loop {
                match records.next(&mut source) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{text:?} was read"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, ManifestError::OpenQuote { line: 3, .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_record_is_bounded() {
        let endless = format!("a\n\"{}", "x".repeat(2 * LONGEST_RECORD));
        let (mut source, mut records) = (source(&endless), Delimited::new(b','));
        records.next(&mut source).unwrap();
        assert!(matches!(records.next(&mut source), Err(ManifestError::TooLong { line: 2, .. })));
        assert!(records.bytes.len() <= 2 * LONGEST_RECORD, "the buffer stayed bounded");
    }
}
