//! `SHA256SUMS`: what is saved at a place, in the format of `sha256sum`.
//!
//! Owns the lines of it and how they are put together; `sha256sum -c SHA256SUMS` reads them. Lines that
//! are not ours stay as they are. Nothing here touches a place.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

/// The name of the list, at the top of the place.
pub const SUMS: &str = "SHA256SUMS";

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The file's name, with `/` between folders.
    pub path: String,
    /// The SHA-256 of all of it.
    pub sha256: [u8; 32],
}

impl Sum {
    /// The line, with its end. A name that holds a backslash or an end of line is escaped as
    /// `sha256sum` does it, with a backslash before the line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = String::with_capacity(self.path.len() + 68);
        if self.path.contains(['\\', '\n', '\r']) {
            line.push('\\');
        }
        for byte in self.sha256 {
            write!(line, "{byte:02x}").expect("writing to a string never fails");
        }
        line.push_str("  ");
        for c in self.path.chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                c => line.push(c),
            }
        }
        line.push('\n');
        line
    }

    /// What the line, with or without its end, says; `None` if it is none of such a list.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        let (escaped, line) = line.strip_prefix('\\').map_or((false, line), |line| (true, line));
        let (hash, rest) = line.split_at_checked(64)?;
        let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
        let mut sha256 = [0; 32];
        for (byte, pair) in sha256.iter_mut().zip(hash.as_bytes().chunks_exact(2)) {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let path = if escaped { unescaped(name)? } else { name.to_owned() };
        (!path.is_empty()).then_some(Self { path, sha256 })
    }
}

fn unescaped(name: &str) -> Option<String> {
    let mut path = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        path.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(path)
}

/// Writes a list anew out of the old one and what it must hold.
///
/// Twenty-four bytes of each line are in memory, and one line.
#[derive(Debug)]
pub(super) struct Merging<W> {
    out: W,
    seen: HashSet<u64>,
    /// A last line without an end: of somebody's editor, or what a power cut left of one of ours.
    tail: Vec<u8>,
    changed: bool,
}

impl<W: Write> Merging<W> {
    /// Begins with the lines of `old`, each once, without those that say of a file what `saved` says
    /// otherwise: they are of a file that was fetched again.
    ///
    /// # Errors
    ///
    /// The old list cannot be read, or the new one not written.
    pub(super) fn begin(mut old: impl BufRead, mut out: W, saved: &Saved) -> io::Result<Self> {
        let (mut seen, mut tail, mut changed) = (HashSet::new(), Vec::new(), false);
        let mut line = Vec::new();
        while old.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                tail = line;
                break;
            }
            let sum = Sum::parse(&line);
            let stale = sum.as_ref().is_some_and(|sum| saved.says_otherwise(sum));
            if stale || (sum.is_some() && !seen.insert(short(&line))) {
                changed = true;
            } else {
                out.write_all(&line)?;
            }
            line.clear();
        }
        Ok(Self { out, seen, tail, changed })
    }

    /// Adds what is saved, unless it is listed.
    ///
    /// # Errors
    ///
    /// The new list cannot be written.
    pub(super) fn add(&mut self, sum: &Sum) -> io::Result<()> {
        let line = sum.line();
        if !self.tail.is_empty() && line.as_bytes().starts_with(&self.tail) {
            self.tail.clear();
        }
        if self.seen.insert(short(line.as_bytes())) {
            self.changed = true;
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// The new list, or `None` if it is the old one.
    ///
    /// # Errors
    ///
    /// The new list cannot be written.
    pub(super) fn finish(mut self) -> io::Result<Option<W>> {
        if self.changed && !self.tail.is_empty() {
            self.tail.push(b'\n');
            self.out.write_all(&self.tail)?;
        }
        self.out.flush()?;
        Ok(self.changed.then_some(self.out))
    }
}

/// What is saved: of each file, enough to tell whether a line about it is true.
#[derive(Debug, Default)]
pub(super) struct Saved(HashMap<u64, u64>);

impl Saved {
    pub(super) fn add(&mut self, sum: &Sum) {
        self.0.insert(short(sum.path.as_bytes()), short(&sum.sha256));
    }

    fn says_otherwise(&self, sum: &Sum) -> bool {
        self.0.get(&short(sum.path.as_bytes())).is_some_and(|hash| *hash != short(&sum.sha256))
    }
}

/// Enough of a hash to tell lines apart.
fn short(line: &[u8]) -> u64 {
    let hash = blake3::hash(line);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(path: &str, byte: u8) -> Sum {
        Sum { path: path.into(), sha256: [byte; 32] }
    }

    #[test]
    fn lines_are_those_of_sha256sum() {
        let hash = "ab".repeat(32);
        assert_eq!(sum("a b/\u{e4}.mp4", 0xab).line(), format!("{hash}  a b/\u{e4}.mp4\n"));
        // As `sha256sum` writes a file called `a\b<newline>c`.
        assert_eq!(sum("a\\b\nc", 0xab).line(), format!("\\{hash}  a\\\\b\\nc\n"));
        assert_eq!(Sum::parse(format!("{hash} *x").as_bytes()), Some(sum("x", 0xab)));
        assert_eq!(Sum::parse(format!("{}  x\n", hash.to_uppercase()).as_bytes()), Some(sum("x", 0xab)));
        for wrong in
            ["", "# ours", &hash, &format!("{hash}  "), &format!("{hash} x"), &format!("g{}  x", &hash[1..])]
        {
            assert_eq!(Sum::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Sum::parse(format!("\\{hash}  a\\q\n").as_bytes()), None);
        assert_eq!(Sum::parse(b"\xff"), None);
    }

    fn merged(old: &str, saved: &[Sum]) -> Option<String> {
        let mut known = Saved::default();
        for sum in saved {
            known.add(sum);
        }
        let mut merging = Merging::begin(old.as_bytes(), Vec::new(), &known).unwrap();
        for sum in saved {
            merging.add(sum).unwrap();
        }
        merging.finish().unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_is_foreign_stays_and_what_is_saved_is_listed_once() {
        let [a, b, foreign] = [sum("a.mp4", 1), sum("b.mp4", 2), sum("theirs.zip", 3)];
        let [a_line, b_line, their_line] = [&a, &b, &foreign].map(Sum::line);
        let old = format!("# a remark\n{their_line}{a_line}");
        assert_eq!(merged(&old, std::slice::from_ref(&a)), None, "nothing to do");
        let new = format!("{old}{b_line}");
        assert_eq!(merged(&old, &[a.clone(), b.clone()]), Some(new.clone()));
        assert_eq!(merged(&format!("{old}{a_line}{b_line}"), &[]), Some(new.clone()), "twice is once");
        // Torn by a power cut, and not.
        assert_eq!(merged(&format!("{old}{}", &b_line[..70]), &[a.clone(), b.clone()]), Some(new));
        let by_hand = format!("{a_line}# no end");
        assert_eq!(merged(&by_hand, std::slice::from_ref(&b)), Some(format!("{a_line}{b_line}# no end\n")));
        assert_eq!(merged(&by_hand, std::slice::from_ref(&a)), None);
        assert_eq!(merged("", &[a.clone(), b.clone()]), Some(format!("{a_line}{b_line}")));
        // Fetched again, and other bytes came; of what is not ours nobody knows which line is true.
        let old_a = sum("a.mp4", 9).line();
        let old = format!("{their_line}{}{old_a}{b_line}", sum("theirs.zip", 4).line());
        let new = format!("{their_line}{}{b_line}{a_line}", sum("theirs.zip", 4).line());
        assert_eq!(merged(&old, &[a, b]), Some(new));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(path in "[^\0]{1,40}", byte: u8) {
            let sum = sum(&path, byte);
            prop_assert_eq!(sum.line().matches('\n').count(), 1);
            prop_assert_eq!(Sum::parse(sum.line().as_bytes()), Some(sum));
        }

        #[test]
        fn no_bytes_make_reading_panic(line: Vec<u8>, head in "[0-9a-f]{62,66} [ *].{0,9}") {
            for sum in [Sum::parse(&line), Sum::parse(head.as_bytes())].into_iter().flatten() {
                prop_assert_eq!(Sum::parse(sum.line().as_bytes()), Some(sum));
            }
        }
    }
}
