//! Names that every file system takes: FAT, NTFS, APFS, ext4 and their like, and S3.
//!
//! What one of them refuses or alters is altered here first, the same way each time. Where there is
//! not enough room, the longest value is cut, so that what tells samples apart stays.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{is_combining_mark, is_public_assigned};

use super::Piece;
use super::fold::shows_nothing;
use crate::harmless::acts_on_a_terminal;

/// Longest folder or file in bytes. File systems take 255, or 255 units of UTF-16, which are never
/// more than bytes of UTF-8; the rest is room for extensions and passing names.
pub(super) const LONGEST_PART: usize = 200;
/// Longest path in bytes: a key of S3 has 1,024 with its prefix.
pub(super) const LONGEST_PATH: usize = 900;

/// What hides a file, looks like an option or a home, or shows nothing, where a name begins.
const NOT_FIRST: [char; 8] = [' ', '.', '-', '~', '\u{200c}', '\u{200d}', '\u{fe0e}', '\u{fe0f}'];

/// The path of these folders and file, with `suffix`, which is safe, at its end. A file without a
/// name is named by its `key`.
pub(super) fn path(folders: &[Vec<Piece>], key: &str, suffix: &str) -> String {
    let within = |longest: usize| {
        let (file, folders) =
            folders.split_last().map_or((&[][..], &[][..]), |(file, rest)| (&file[..], rest));
        let mut parts: Vec<String> = folders.iter().map(|pieces| part(pieces, "_", "", longest)).collect();
        parts.push(part(file, key, suffix, longest));
        parts.join("/")
    };
    let path = within(LONGEST_PART);
    if path.len() <= LONGEST_PATH {
        return path;
    }
    within((LONGEST_PATH + 1) / folders.len().max(1) - 1)
}

/// One folder or file, of at most `longest` bytes.
fn part(pieces: &[Piece], nameless: &str, suffix: &str, longest: usize) -> String {
    // One more for the mark that makes a device a file.
    let room = longest.saturating_sub(suffix.len() + 1);
    let mut pieces: Vec<Piece> =
        pieces.iter().map(|piece| Piece { text: clean(&piece.text), ..*piece }).collect();
    shorten(&mut pieces, room);
    let joined = composed(pieces.iter().map(|piece| piece.text.as_str()).collect());
    let mut name = without_short_name(joined.trim_start_matches(NOT_FIRST));
    cut(&mut name, room);
    if suffix.is_empty() {
        name.truncate(name.trim_end_matches([' ', '.']).len());
    }
    if name.is_empty() {
        nameless.clone_into(&mut name);
        cut(&mut name, room);
    }
    name += suffix;
    if is_reserved(&name) {
        name.insert(0, '_');
    }
    name
}

/// Cuts the longest values until all pieces fit into `room`; texts of the template stay.
fn shorten(pieces: &mut [Piece], room: usize) {
    loop {
        let length: usize = pieces.iter().map(|piece| piece.text.len()).sum();
        let longest = pieces.iter_mut().filter(|piece| piece.is_value).max_by_key(|piece| piece.text.len());
        let Some(piece) = longest.filter(|piece| length > room && !piece.text.is_empty()) else { return };
        let left = piece.text.len().saturating_sub(length - room);
        cut(&mut piece.text, left);
        piece.text.truncate(piece.text.trim_end().len());
    }
}

/// Cuts `text` to at most `longest` bytes, between characters as a person counts them: marks and
/// what is joined stay with their letter, or go with it.
fn cut(text: &mut String, longest: usize) {
    if text.len() <= longest {
        return;
    }
    let belongs =
        |c: char| is_combining_mark(c) || shows_nothing(c) || matches!(c, '\u{1f3fb}'..='\u{1f3ff}');
    let mut end = text.floor_char_boundary(longest);
    while end > 0 && text[end..].starts_with(belongs) || text[..end].ends_with('\u{200d}') {
        end = text.floor_char_boundary(end - 1);
    }
    // Nothing but marks: then between any two.
    let end = if end == 0 { text.floor_char_boundary(longest) } else { end };
    text.truncate(end);
}

/// `text` composed, without what some file system refuses, alters or does not show.
fn clean(text: &str) -> String {
    let kept = |c: char| match c {
        c if c.is_ascii_alphanumeric() => Some(c),
        // Parts of letters and pictures.
        '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' => Some(c),
        c if c.is_whitespace() => Some(' '),
        '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' => Some('_'),
        c if acts_on_a_terminal(c) => Some('_'),
        c if shows_nothing(c) => None,
        // Private, or not a character yet: APFS refuses some of them.
        c if !is_public_assigned(c) => Some('_'),
        c => Some(c),
    };
    composed(text.chars().filter_map(kept).collect())
}

/// `text` with its letters composed (NFC).
fn composed(text: String) -> String {
    if text.is_ascii() { text } else { text.nfc().collect() }
}

/// `text` with nothing that could be the short name of another file, as FAT and NTFS make them:
/// `PROGRA~1`.
fn without_short_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_mark = c == '~' && chars.peek().is_some_and(char::is_ascii_digit);
        name.push(if is_mark { '-' } else { c });
    }
    name
}

/// Whether Windows takes `name`, with whatever extension, for a device.
pub(super) fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |stem: &str| {
        let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
        number.is_some_and(|rest| {
            let mut digits = rest.chars();
            digits.next().is_some_and(|c| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³'))
                && digits.next().is_none()
        })
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$")
        || numbered(&stem)
}
