//! Text from outside, so that a terminal shows it and does nothing else.
//!
//! Prompts, answers, file names and arguments are somebody else's. A control character in them can
//! move the cursor, rename the window or make a terminal type; a mark that turns the direction of
//! text can make a message say what it does not say. Text that becomes data of ours is cleaned
//! there, by [`one_line`]; whatever else is written for people passes [`lines`] at the edge.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

/// Whether a terminal acts on `c` rather than showing it: control characters (C0, DEL, C1) and the
/// marks, embeddings, overrides and isolates of bidirectional text.
#[must_use]
pub fn acts_on_a_terminal(c: char) -> bool {
    let direction =
        matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{061C}');
    c.is_control() || direction
}

/// `text` on one line of at most `longest` characters: what acts on a terminal becomes a space, and
/// runs of white space one space.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let clean: String = text.chars().map(|c| if acts_on_a_terminal(c) { ' ' } else { c }).collect();
    let mut line = String::new();
    for word in clean.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// `text` with its line ends: a tab becomes a space, and what else acts on a terminal U+FFFD.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    let passes = |c: char| c == '\n' || !acts_on_a_terminal(c);
    if text.chars().all(passes) {
        return text.into();
    }
    let shown = |c| match c {
        '\t' => ' ',
        c if passes(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(shown).collect::<String>().into()
}

/// The same, with the colours of a log whose own texts are harmless: sequences that begin with
/// ESC `[` and end with `m`, with digits and semicolons between, stay.
#[must_use]
pub fn coloured_lines(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(escape) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(escape);
        clean.push_str(&lines(before));
        let inside = |c: char| c.is_ascii_digit() || c == ';';
        let length = from.strip_prefix("\u{1b}[").and_then(|codes| {
            let end = codes.find(|c| !inside(c))?;
            codes[end..].starts_with('m').then_some("\u{1b}[".len() + end + "m".len())
        });
        let (escape, behind) = from.split_at(length.unwrap_or(1));
        if length.is_some() {
            clean.push_str(escape);
        } else {
            clean.push(char::REPLACEMENT_CHARACTER);
        }
        rest = behind;
    }
    clean.push_str(&lines(rest));
    clean
}

/// `value` as JSON for people and programs: what acts on a terminal is escaped and loses nothing.
///
/// # Errors
///
/// When `value` cannot be serialised.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    // Outside of strings there is none of these, and inside serde_json has escaped the first 32.
    let escape = |c: char| match c {
        c if c != '\n' && acts_on_a_terminal(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    Ok(if text.chars().any(|c| c != '\n' && acts_on_a_terminal(c)) {
        text.chars().map(escape).collect()
    } else {
        text
    })
}

/// Writes text through [`lines`]. Give whole characters, as `write!` does: part of one is U+FFFD.
#[derive(Debug)]
pub struct Harmless<W>(pub W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.write_all(lines(&String::from_utf8_lossy(text)).as_bytes()).map(|()| text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "a\u{1b}[31mb\r\u{7}c\u{9b}2J\u{202e}d\u{2066}e\u{200f}f\u{61c}g\u{7f}h\ti\u{85}";

    #[test]
    fn what_acts_on_a_terminal_is_not_written() {
        let bad = char::REPLACEMENT_CHARACTER;
        let shown = format!("a{bad}[31mb{bad}{bad}c{bad}2J{bad}d{bad}e{bad}f{bad}g{bad}h i{bad}");
        assert_eq!(lines(HOSTILE), shown);
        assert_eq!(lines("two\nlines, 日本語 שלום 🎬"), "two\nlines, 日本語 שלום 🎬");
        assert_eq!(one_line(HOSTILE, 99), "a [31mb c 2J d e f g h i");
        let mut out = Harmless(Vec::new());
        write!(out, "{HOSTILE}").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), shown);
    }

    #[test]
    fn colours_stay_and_nothing_else_does() {
        let bad = char::REPLACEMENT_CHARACTER;
        for (text, clean) in [
            ("\u{1b}[31mred\u{1b}[0m", "\u{1b}[31mred\u{1b}[0m".to_owned()),
            ("\u{1b}[1;38;5;9m\u{1b}[m", "\u{1b}[1;38;5;9m\u{1b}[m".to_owned()),
            ("\u{1b}[2Jx\u{1b}]0;t\u{7}\u{1b}", format!("{bad}[2Jx{bad}]0;t{bad}{bad}")),
            ("\u{1b}[31", format!("{bad}[31")),
            ("\u{1b}[3\u{1b}[1m", format!("{bad}[3\u{1b}[1m")),
        ] {
            assert_eq!(coloured_lines(text), clean);
        }
    }

    proptest! {
        #[test]
        fn nothing_slips_through(text in "[\\x00-\\x9f\u{200e}\u{202e}é🎬]{0,40}") {
            let acts = |text: &str| text.chars().any(|c| c != '\n' && acts_on_a_terminal(c));
            prop_assert!(!acts(&lines(&text)));
            prop_assert!(!acts(&one_line(&text, 20)));
            let without_colours = coloured_lines(&text).replace("\u{1b}[", "");
            prop_assert!(!acts(&without_colours));
            let json = json(&[&text]).unwrap();
            prop_assert!(!acts(&json));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
        }
    }
}
