//! The bytes of a sheet: read in chunks, hashed as they are, handed on as text with line numbers.
//!
//! UTF-8 passes through unchecked, because a bad byte belongs to one field of one row and must not
//! end the reading; UTF-16 is recognised by its byte order mark and turned into UTF-8, an
//! undecodable unit into a byte that no UTF-8 text holds, so that it too is found where it stands.
//! (The usual transcoders put U+FFFD there, which is then indistinguishable from a written one.)

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use super::LONGEST_RECORD;
use super::problem::ManifestError;

/// Bytes asked of the input at once.
const CHUNK: usize = 64 * 1024;
/// Stands for what UTF-16 could not decode: never part of UTF-8.
const UNDECODABLE: u8 = 0xFF;
/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// A cursor over the text of a sheet.
pub(super) struct Source {
    name: String,
    input: Box<dyn Read + Send>,
    hasher: blake3::Hasher,
    encoding: Encoding,
    /// Bytes as read, before decoding.
    raw: Vec<u8>,
    /// Decoded text; what is before `start` is consumed.
    text: Vec<u8>,
    start: usize,
    ended: bool,
    line: u64,
    after_return: bool,
}

impl Source {
    /// An input of which nothing is read: see [`Self::spool`].
    pub(super) fn unread(name: &str, input: Box<dyn Read + Send>) -> Self {
        Self {
            name: name.to_owned(),
            input,
            hasher: blake3::Hasher::new(),
            encoding: Encoding::Utf8,
            raw: vec![0; CHUNK],
            text: Vec::new(),
            start: 0,
            ended: false,
            line: 1,
            after_return: false,
        }
    }

    /// A text. Reads the byte order mark, if there is one; programs that join files leave more, and
    /// none is text.
    pub(super) fn new(name: &str, input: Box<dyn Read + Send>) -> Result<Self, ManifestError> {
        let mut source = Self::unread(name, input);
        // Nothing is decoded yet, so these are raw bytes. A pipe may deliver them one by one, and what
        // is judged by them must not depend on that.
        while source.text.len() < CHUNK && source.fill()? {}
        let head = std::mem::take(&mut source.text);
        let rest = match head.as_slice() {
            [0xFF, 0xFE, rest @ ..] => {
                source.encoding = Encoding::Utf16(Utf16 { big_endian: false, ..Utf16::default() });
                rest
            }
            [0xFE, 0xFF, rest @ ..] => {
                source.encoding = Encoding::Utf16(Utf16 { big_endian: true, ..Utf16::default() });
                rest
            }
            all if all.iter().take(CHUNK).any(|&byte| byte == 0) => {
                return Err(ManifestError::Encoding {
                    name: source.name,
                    what: "it holds NUL bytes and no byte order mark, so it is not text in UTF-8",
                    encoding: "UTF-16LE",
                });
            }
            all => all,
        };
        source.encoding.decode(rest, &mut source.text);
        if source.ended {
            source.encoding.finish(&mut source.text);
        }
        while source.buffer().starts_with(MARK) {
            source.start += MARK.len();
        }
        Ok(source)
    }

    /// The sheet's name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The number of the line that the next byte is on, from 1. A line ends with `\n`, `\r\n` or
    /// a lone `\r`.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// The hash of the bytes read so far, as they are in the file.
    pub(super) fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    /// The text that is read and not consumed. Empty does not mean the end: see [`Self::fill`].
    pub(super) fn buffer(&self) -> &[u8] {
        &self.text[self.start..]
    }

    /// Reads more behind [`Self::buffer`]; false at the end of the input.
    pub(super) fn fill(&mut self) -> Result<bool, ManifestError> {
        if self.ended {
            return Ok(false);
        }
        self.text.drain(..self.start);
        self.start = 0;
        let read = self.read()?;
        let bytes = &self.raw[..read];
        self.encoding.decode(bytes, &mut self.text);
        if read == 0 {
            self.ended = true;
            self.encoding.finish(&mut self.text);
        }
        Ok(read > 0 || !self.text.is_empty())
    }

    /// Reads some raw bytes; answers how many, none at the end.
    fn read(&mut self) -> Result<usize, ManifestError> {
        loop {
            match self.input.read(&mut self.raw) {
                Ok(read) => {
                    self.hasher.update(&self.raw[..read]);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.unreadable(source)),
            }
        }
    }

    /// The rest of an unread input as a passing file, which bytes that are not text need to be looked
    /// about in; `None` if that is more than `most` bytes.
    pub(super) fn spool(&mut self, most: u64) -> Result<Option<File>, ManifestError> {
        let mut file = tempfile::tempfile().map_err(|error| self.unreadable(error))?;
        let mut length = 0;
        loop {
            let read = self.read()?;
            if read == 0 {
                self.ended = true;
                file.rewind().map_err(|error| self.unreadable(error))?;
                return Ok(Some(file));
            }
            length += read as u64;
            if length > most {
                return Ok(None);
            }
            file.write_all(&self.raw[..read]).map_err(|error| self.unreadable(error))?;
        }
    }

    fn unreadable(&self, source: io::Error) -> ManifestError {
        ManifestError::Read { name: self.name.clone(), source }
    }

    /// Takes `count` bytes off the front of the buffer.
    pub(super) fn consume(&mut self, count: usize) {
        for &byte in &self.text[self.start..self.start + count] {
            self.line += u64::from(byte == b'\r' || byte == b'\n' && !self.after_return);
            self.after_return = byte == b'\r';
        }
        self.start += count;
    }

    /// The next byte; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, ManifestError> {
        while self.buffer().is_empty() {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(self.buffer().first().copied())
    }

    /// Moves to the first byte of the next line that has one; answers how many empty lines it
    /// passed. To be called at the beginning of a line.
    pub(super) fn skip_empty_lines(&mut self) -> Result<u64, ManifestError> {
        let mut empty = 0;
        while let Some(byte @ (b'\r' | b'\n')) = self.peek()? {
            // The second half of `\r\n` ends no line of its own.
            empty += u64::from(byte == b'\r' || !self.after_return);
            self.consume(1);
        }
        Ok(empty)
    }

    /// How far it is to the end of this line, without what ends it. Nothing is consumed.
    pub(super) fn rest_of_line(&mut self) -> Result<usize, ManifestError> {
        self.distance_to(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// How many bytes come before the first that `is_end` accepts, or before the end.
    pub(super) fn distance_to(&mut self, mut is_end: impl FnMut(u8) -> bool) -> Result<usize, ManifestError> {
        let mut seen = 0;
        loop {
            if let Some(found) = self.buffer()[seen..].iter().position(|&byte| is_end(byte)) {
                return Ok(seen + found);
            }
            seen = self.buffer().len();
            if seen > LONGEST_RECORD {
                return Err(self.too_long(self.line));
            }
            if !self.fill()? {
                return Ok(seen);
            }
        }
    }

    /// The error of a record that begins at `line` and does not end in reasonable space.
    pub(super) fn too_long(&self, line: u64) -> ManifestError {
        ManifestError::TooLong { name: self.name.clone(), line }
    }
}

/// Whether there is no text in these bytes, only white space of any script.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.trim().is_empty())
}

enum Encoding {
    Utf8,
    Utf16(Utf16),
}

impl Encoding {
    fn decode(&mut self, bytes: &[u8], text: &mut Vec<u8>) {
        match self {
            Self::Utf8 => text.extend_from_slice(bytes),
            Self::Utf16(utf16) => bytes.iter().for_each(|&byte| utf16.byte(byte, text)),
        }
    }

    fn finish(&mut self, text: &mut Vec<u8>) {
        match self {
            Self::Utf8 => {}
            Self::Utf16(utf16) => utf16.finish(text),
        }
    }
}

/// What a chunk of UTF-16 may leave unfinished.
#[derive(Default)]
struct Utf16 {
    big_endian: bool,
    half: Option<u8>,
    high: Option<u16>,
}

impl Utf16 {
    fn byte(&mut self, byte: u8, text: &mut Vec<u8>) {
        let Some(first) = self.half.take() else {
            self.half = Some(byte);
            return;
        };
        let pair = [first, byte];
        let unit = if self.big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
        match (self.high.take(), unit) {
            (None, 0xD800..=0xDBFF) => self.high = Some(unit),
            (Some(high), 0xDC00..=0xDFFF) => push(char::decode_utf16([high, unit]), text),
            (Some(_), 0xD800..=0xDBFF) => {
                text.push(UNDECODABLE);
                self.high = Some(unit);
            }
            (Some(_), _) => {
                text.push(UNDECODABLE);
                push(char::decode_utf16([unit]), text);
            }
            (None, _) => push(char::decode_utf16([unit]), text),
        }
    }

    fn finish(&mut self, text: &mut Vec<u8>) {
        if self.half.take().is_some() || self.high.take().is_some() {
            text.push(UNDECODABLE);
        }
    }
}

fn push(decoded: impl Iterator<Item = Result<char, std::char::DecodeUtf16Error>>, text: &mut Vec<u8>) {
    for character in decoded {
        match character {
            Ok(character) => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(_) => text.push(UNDECODABLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers one byte a read, as a slow pipe may.
    struct Trickle(Vec<u8>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut source = Source::new("x", Box::new(Trickle(bytes.to_vec()))).unwrap();
        let length = source.distance_to(|_| false).unwrap();
        source.buffer()[..length].to_vec()
    }

    #[test]
    fn byte_order_marks_and_undecodable_units() {
        let cases: [(&[u8], &[u8]); 14] = [
            (b"", b""),
            (b"a", b"a"),
            (b"\xEF\xBB\xBFa", b"a"),
            (b"\xEF\xBB", b"\xEF\xBB"),
            (b"\xEF\xBB\xBF\xEF\xBB\xBFa", b"a"),
            (b"\xFE\xFF\xFE\xFF\0a", b"a"),
            (b"\xFF\xFE", b""),
            (b"\xFF\xFEa\0", b"a"),
            (b"\xFE\xFF\0a", b"a"),
            (b"\xFF\xFE=\xD8\x00\xDEa\0", "😀a".as_bytes()),
            (b"\xFF\xFE=\xD8a\0", b"\xFFa"),
            (b"\xFF\xFE=\xD8=\xD8\x00\xDE", b"\xFF\xF0\x9F\x98\x80"),
            (b"\xFF\xFE\x00\xDEa\0b", b"\xFFa\xFF"),
            (b"\xFF\xFE=\xD8", b"\xFF"),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(text(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn lines_are_counted_whatever_ends_them() {
        for (bytes, lines, empty) in [
            ("a\nb", 2, 0),
            ("a\r\nb", 2, 0),
            ("a\rb", 2, 0),
            ("a\n\n\r\n\r\rb", 6, 4),
            ("a\r\n\r\nb", 3, 1),
            ("a\n\rb", 3, 1),
        ] {
            let mut source = Source::new("x", Box::new(Trickle(bytes.into()))).unwrap();
            let line = source.rest_of_line().unwrap();
            assert_eq!(line, 1, "{bytes:?}");
            source.consume(line);
            source.peek().unwrap();
            source.consume(1);
            assert_eq!(source.skip_empty_lines().unwrap(), empty, "{bytes:?}");
            assert_eq!(source.peek().unwrap(), Some(b'b'));
            assert_eq!(source.line(), lines, "{bytes:?}");
        }
    }

    #[test]
    fn binary_files_are_refused() {
        let bytes = b"PK\x03\x04\x00\x00".to_vec();
        // However the bytes come.
        let inputs: [Box<dyn Read + Send>; 2] =
            [Box::new(io::Cursor::new(bytes.clone())), Box::new(Trickle(bytes))];
        for input in inputs {
            let Err(error) = Source::new("a.csv", input) else { panic!("taken for text") };
            assert!(error.to_string().contains("iconv -f UTF-16LE -t UTF-8 a.csv"), "{error}");
        }
    }
}
