//! The samples of the fuzz targets, and changes of them, without a fuzzer.
//!
//! `tests/fuzz` searches for inputs that break an invariant; this keeps what was found from coming
//! back, on any compiler. Each sample is read as it is and after some dozen changes, the same ones
//! on every machine. A failure names the sample and writes the input down as a string of Rust.

#![expect(clippy::unwrap_used, reason = "a sample that cannot be read fails the test")]

#[path = "fuzz/invariants/answer.rs"]
mod answer;
#[path = "fuzz/invariants/reader.rs"]
mod reader;

use std::fs;
use std::io::{self, Read};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batchveo::manifest::{Format, Options, Reader};

/// Changed inputs of each target.
const CHANGED: usize = 2_000;
/// Longest changed input, in bytes: changes may double what they are given.
const LONGEST: usize = 1_024;

#[test]
fn sheets_are_read_as_promised() {
    replay("reader", reader::check);
}

#[test]
fn answers_are_read_as_promised() {
    replay("answer", answer::check);
}

/// The real sheets beside the project, where there are any.
#[test]
fn real_sheets_are_read_as_promised() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    for (name, options) in [
        ("opensora-48.csv", "--format csv --map prompt=text"),
        ("vbench-longer-946-crlf.txt", "--format txt"),
        ("vbench-cn-946.txt", "--format txt"),
    ] {
        if let Ok(sheet) = fs::read(folder.join(name)) {
            let options = format!("{options} --chunk 1000 --fail 20000\n");
            reader::check(&[options.as_bytes(), &sheet].concat());
        }
    }
}

/// Checks every sample of `target`, and [`CHANGED`] changes of them.
fn replay(target: &str, check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut paths: Vec<PathBuf> = fs::read_dir(fuzz.join("corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    // The order of a folder is the machine's.
    paths.sort();
    let samples: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(samples.len() >= 20, "{} samples of {target}", samples.len());
    let words = dictionary(&fs::read_to_string(fuzz.join(target).with_extension("dict")).unwrap());
    let mut changes = Changes { state: 0x0BAD_5EED, words: &words, samples: &samples };

    let mut broken = Vec::new();
    for (path, sample) in paths.iter().zip(&samples) {
        let mut inputs = vec![sample.clone()];
        inputs.extend((0..CHANGED / samples.len()).map(|_| changes.of(sample)));
        // One of a sample is enough: the others most likely break the same rule.
        let found = inputs.iter().find(|input| catch_unwind(|| check(input)).is_err());
        broken.extend(found.map(|input| format!("{}: b\"{}\"", path.display(), input.escape_ascii())));
    }
    assert!(broken.is_empty(), "these break a rule, as said above:\n{}", broken.join("\n"));
}

/// The words of a dictionary of libFuzzer: one a line in quotes, with `\\`, `\"` and `\x`.
fn dictionary(text: &str) -> Vec<Vec<u8>> {
    let words = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    words.map(unescape).collect()
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = after;
            }
            (b'\\', [literal, after @ ..]) => {
                bytes.push(*literal);
                rest = after;
            }
            (byte, _) => bytes.push(byte),
        }
    }
    bytes
}

#[test]
fn words_of_a_dictionary() {
    let words = dictionary("# no word\n\"a\\x0Ab\"\n\"\\\"\\\\u0000\\\\\"\n");
    assert_eq!(words, [&b"a\nb"[..], b"\"\\u0000\\"]);
}

/// What a fuzzer does to an input, from a seed.
struct Changes<'a> {
    state: u64,
    words: &'a [Vec<u8>],
    samples: &'a [Vec<u8>],
}

impl Changes<'_> {
    /// One to four changes of `sample`.
    fn of(&mut self, sample: &[u8]) -> Vec<u8> {
        let mut input = sample.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
            input.truncate(LONGEST);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.range(input.len());
        match self.below(8) {
            0 => input.truncate(from),
            1 => drop(input.drain(from..to)),
            2 => input.extend_from_within(from..to),
            3 => {
                let copy = input[from..to].to_vec();
                let at = self.below(input.len() + 1);
                input.splice(at..at, copy);
            }
            4 => {
                if let Some(byte) = input.get_mut(from) {
                    *byte ^= 1 << self.below(8);
                }
            }
            5 => {
                let other = &self.samples[self.below(self.samples.len())];
                let (begin, end) = self.range(other.len());
                input.splice(from..to, other[begin..end].iter().copied());
            }
            6 => {
                let word = &self.words[self.below(self.words.len())];
                input.splice(from..to.min(from + word.len()), word.iter().copied());
            }
            _ => {
                let word = &self.words[self.below(self.words.len())];
                input.splice(from..from, word.iter().copied());
            }
        }
    }

    /// A range of something of `length`, mostly short.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 8 };
        (from, (from + self.below(most + 1)).min(length))
    }

    /// A number below `limit`, which is not 0. (`xorshift64*`.)
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let high = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % limit
    }
}

/// Rows without end, and how many bytes of them were asked for.
struct Endless {
    head: Vec<u8>,
    row: Vec<u8>,
    at: usize,
    given: Arc<AtomicU64>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            let at = self.at.checked_sub(self.head.len()).map(|at| at % self.row.len());
            *byte = at.map_or_else(|| self.head[self.at], |at| self.row[at]);
            self.at += 1;
        }
        self.given.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(buffer.len())
    }
}

/// A row is handed on as soon as it is there: what waits in the reader does not grow with the sheet.
#[test]
fn a_sheet_without_end_is_read_in_constant_space() {
    const ROWS: usize = 20_000;
    /// Two reads' worth: the row in hand may begin at the end of one.
    const AHEAD: usize = 2 * 64 * 1024;
    for (format, head, row) in [
        (Format::Csv, "prompt,id\n", "\"a\ncat\",x\r\n"),
        (Format::Tsv, "prompt\tid\n", "a cat\tx\n"),
        (Format::Jsonl, "", "{\"prompt\":\"a cat\",\"id\":1}\n"),
        (Format::Json, "[{\"prompt\":\"a\"}", ",{\"prompt\":\"a cat\",\"id\":[1,\"]\"]}\n"),
        (Format::Txt, "", "a cat\n"),
        // Rows of nothing are passed over without being kept.
        (Format::Csv, "prompt,id\n", "a,b\n,\n\n\"\",\" \"\n"),
    ] {
        let given = Arc::new(AtomicU64::new(0));
        let input = Endless { head: head.into(), row: row.into(), at: 0, given: Arc::clone(&given) };
        let reader = Reader::new("sheet", Box::new(input), format, &Options::default()).unwrap();
        for (count, record) in reader.take(ROWS).enumerate() {
            record.unwrap();
            let needed = head.len() + (count + 1) * row.len();
            let given = usize::try_from(given.load(Ordering::Relaxed)).unwrap();
            assert!(given <= needed + AHEAD, "{format}: {given} bytes for {} rows", count + 1);
        }
    }
}
