//! The entries of one JSON array, one by one.
//!
//! Only commas and brackets are looked at here, outside of texts: where an entry ends. What it is,
//! is for whoever reads the entry, so that one bad entry is a problem of its row and the array goes
//! on. An entry is held whole, the array never is.

use super::LONGEST_RECORD;
use super::problem::ManifestError;
use super::source::Source;

/// How far an array is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Array {
    /// Nothing is read.
    #[default]
    Unopened,
    /// So many entries are.
    Inside(u64),
    /// All are, and what closes them.
    Closed,
}

/// An entry as it is written, without the white space around it.
pub(super) struct Written {
    /// Its number, from 1.
    pub(super) number: u64,
    /// The line it begins on.
    pub(super) line: u64,
    pub(super) bytes: Vec<u8>,
}

impl Array {
    /// The next entry.
    pub(super) fn next(&mut self, source: &mut Source) -> Result<Option<Written>, ManifestError> {
        let first = skip_space(source)?;
        let next = match (*self, first) {
            (Self::Unopened | Self::Closed, None) => return Ok(None),
            (Self::Unopened, Some(b'[')) => {
                source.consume(1);
                match skip_space(source)? {
                    Some(b']') => return self.close(source),
                    Some(_) | None => 1,
                }
            }
            (Self::Unopened, Some(b'{')) => return Err(wrong(source, "it begins with an object")),
            (Self::Unopened, Some(_)) => return Err(wrong(source, "it does not begin with `[`")),
            (Self::Inside(_), Some(b']')) => return self.close(source),
            (Self::Inside(before), Some(b',')) => {
                source.consume(1);
                skip_space(source)?;
                before + 1
            }
            (Self::Inside(_), Some(_)) => return Err(wrong(source, "neither a comma nor `]` is here")),
            (Self::Inside(_), None) => return Err(wrong(source, "the array is never closed")),
            (Self::Closed, Some(_)) => return Err(wrong(source, "the array is closed, and more follows")),
        };
        *self = Self::Inside(next);
        let line = source.line();
        let length = source.distance_to(end_of_entry())?;
        if length > LONGEST_RECORD {
            return Err(source.too_long(line));
        }
        if source.buffer().len() == length {
            return Err(ManifestError::NotAnArray {
                name: source.name().to_owned(),
                line,
                what: "the entry that begins here is never closed".to_owned(),
            });
        }
        let bytes = source.buffer()[..length].trim_ascii_end().to_vec();
        if bytes.is_empty() {
            let last = source.buffer().get(length) == Some(&b']');
            return Err(wrong(
                source,
                if last { "a comma too many before the `]`" } else { "an entry is missing" },
            ));
        }
        source.consume(length);
        Ok(Some(Written { number: next, line, bytes }))
    }

    fn close(&mut self, source: &mut Source) -> Result<Option<Written>, ManifestError> {
        source.consume(1);
        *self = Self::Closed;
        match skip_space(source)? {
            Some(_) => Err(wrong(source, "the array is closed, and more follows")),
            None => Ok(None),
        }
    }
}

/// Finds the byte that ends an entry: what closes more than was opened, or a comma outside.
fn end_of_entry() -> impl FnMut(u8) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    move |byte| {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return false;
        }
        match byte {
            b'"' => quoted = true,
            // As deep as a record is long, at most.
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 0 => return true,
            b']' | b'}' => depth -= 1,
            b',' => return depth == 0,
            _ => {}
        }
        false
    }
}

/// Moves to the next byte that is not white space, and answers it.
fn skip_space(source: &mut Source) -> Result<Option<u8>, ManifestError> {
    loop {
        match source.peek()? {
            Some(b' ' | b'\t' | b'\r' | b'\n') => source.consume(1),
            other => return Ok(other),
        }
    }
}

fn wrong(source: &Source, what: &str) -> ManifestError {
    ManifestError::NotAnArray { name: source.name().to_owned(), line: source.line(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Result<Vec<String>, String> {
        let input = Box::new(std::io::Cursor::new(text.to_owned().into_bytes()));
        let mut source = Source::new("x", input).unwrap();
        let mut array = Array::default();
        let mut entries = Vec::new();
        while let Some(entry) = array.next(&mut source).map_err(|error| error.to_string())? {
            let text = String::from_utf8(entry.bytes).unwrap();
            entries.push(format!("{}@{}: {text}", entry.number, entry.line));
        }
        Ok(entries)
    }

    #[test]
    fn entries_and_where_they_are() {
        for (text, wanted) in [
            ("", &[][..]),
            (" [ ] ", &[]),
            (r#"[{"a":1},{"b":[2,{}]}]"#, &[r#"1@1: {"a":1}"#, r#"2@1: {"b":[2,{}]}"#]),
            (
                "[\n {\"a\":\r\n\"]},\\\"[\"} ,\n1\n, \"x\"]\n",
                &["1@2: {\"a\":\r\n\"]},\\\"[\"}", "2@4: 1", "3@5: \"x\""],
            ),
            // Not JSON, and for whoever reads the entry.
            ("[{],x]", &["1@1: {]", "2@1: x"]),
        ] {
            assert_eq!(entries(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_array() {
        for (text, wanted) in [
            (
                "\n{\"a\":1}",
                "x: line 2: it begins with an object: one array of objects is wanted, such as [{\"prompt\"",
            ),
            ("1", "does not begin with `[`"),
            ("[1,\n]", "line 2: a comma too many before the `]`"),
            ("[1,,2]", "an entry is missing"),
            ("[,1]", "an entry is missing"),
            ("[1\n", "line 1: the entry that begins here is never closed"),
            ("[1,\n\"]", "line 2: the entry that begins here is never closed"),
            ("[", "never closed"),
            ("[1}", "neither a comma nor `]`"),
            ("[] 1", "more follows"),
            ("[1]\n]", "line 2: the array is closed, and more follows"),
        ] {
            let error = entries(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
