//! The words of a sheet and of the command line for types, modes, ratios and providers.
//!
//! One table each, read in any case, so that a cell and a flag accept exactly the same.

use std::fmt;

use super::problem::shown;
use crate::generation::{AspectRatio, GenerationType, Mode, Provider};

/// A word that is not in the table asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// What is wrong, such as `` `slow` is not a mode ``.
    pub what: String,
    /// What to write instead, such as `write quality or fast`.
    pub mend: String,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.mend)
    }
}

impl std::error::Error for UnknownWord {}

/// `quality` or `fast`.
///
/// # Errors
///
/// Any other word.
pub fn parse_mode(text: &str) -> Result<Mode, UnknownWord> {
    const WORDS: [(&str, Mode); 2] = [("quality", Mode::Quality), ("fast", Mode::Fast)];
    look_up(&WORDS, text).ok_or_else(|| unknown(text, "a mode", "write quality or fast"))
}

/// The API's names, or `text`, `frames`, `reference`.
///
/// # Errors
///
/// Any other word.
pub fn parse_generation_type(text: &str) -> Result<GenerationType, UnknownWord> {
    const WORDS: [(&str, GenerationType); 6] = [
        ("text", GenerationType::Text),
        ("frames", GenerationType::Frames),
        ("reference", GenerationType::Reference),
        (GenerationType::Text.as_str(), GenerationType::Text),
        (GenerationType::Frames.as_str(), GenerationType::Frames),
        (GenerationType::Reference.as_str(), GenerationType::Reference),
    ];
    look_up(&WORDS, text).ok_or_else(|| unknown(text, "a type", "write text, frames or reference"))
}

/// `16:9`, `9:16` or `auto`.
///
/// # Errors
///
/// Any other word. A ratio that a spreadsheet turned into a time of day is told as such.
pub fn parse_aspect_ratio(text: &str) -> Result<AspectRatio, UnknownWord> {
    const WORDS: [(&str, AspectRatio); 3] =
        [("16:9", AspectRatio::Landscape), ("9:16", AspectRatio::Portrait), ("auto", AspectRatio::Auto)];
    const TIMES: [&str; 6] = ["16:09", "16:09:00", "4:09 PM", "09:16", "9:16:00", "9:16 AM"];
    look_up(&WORDS, text).ok_or_else(|| {
        let time = TIMES.iter().any(|time| time.eq_ignore_ascii_case(text.trim()));
        let mend = if time {
            "a spreadsheet took the ratio for a time: format the column as text and write 16:9, 9:16 or auto"
        } else {
            "write 16:9, 9:16 or auto"
        };
        unknown(text, "an aspect ratio", mend)
    })
}

/// `auto`, `value` or `official`.
///
/// # Errors
///
/// Any other word.
pub fn parse_provider(text: &str) -> Result<Provider, UnknownWord> {
    const WORDS: [(&str, Provider); 3] =
        [("auto", Provider::Auto), ("value", Provider::Value), ("official", Provider::Official)];
    look_up(&WORDS, text).ok_or_else(|| unknown(text, "a provider", "write auto, value or official"))
}

/// A whole number from 0. A spreadsheet may have written it as `1234.0`.
pub(super) fn parse_whole(text: &str) -> Option<u64> {
    let digits = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    // `parse` would take a plus sign.
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn look_up<T: Copy>(words: &[(&str, T)], text: &str) -> Option<T> {
    words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())).map(|&(_, meaning)| meaning)
}

fn unknown(text: &str, noun: &str, mend: &str) -> UnknownWord {
    UnknownWord { what: format!("`{}` is not {noun}", shown(text.trim())), mend: mend.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_any_case() {
        assert_eq!(parse_mode(" FAST "), Ok(Mode::Fast));
        assert_eq!(parse_mode("quality"), Ok(Mode::Quality));
        for (text, wanted) in [
            ("Text", GenerationType::Text),
            ("TEXT_2_VIDEO", GenerationType::Text),
            ("frames", GenerationType::Frames),
            ("first_and_last_frames_2_video", GenerationType::Frames),
            ("REFERENCE", GenerationType::Reference),
            ("Reference_2_Video", GenerationType::Reference),
        ] {
            assert_eq!(parse_generation_type(text), Ok(wanted), "{text}");
        }
        assert_eq!(parse_aspect_ratio("16:9"), Ok(AspectRatio::Landscape));
        assert_eq!(parse_aspect_ratio("9:16"), Ok(AspectRatio::Portrait));
        assert_eq!(parse_aspect_ratio("Auto"), Ok(AspectRatio::Auto));
        for provider in [Provider::Auto, Provider::Value, Provider::Official] {
            assert_eq!(parse_provider(provider.as_str()), Ok(provider));
        }
    }

    #[test]
    fn other_words_are_told_what_to_write() {
        let refused = |error: Option<UnknownWord>| error.map(|word| word.to_string()).unwrap_or_default();
        assert_eq!(refused(parse_mode("slow").err()), "`slow` is not a mode: write quality or fast");
        assert_eq!(
            refused(parse_generation_type("image").err()),
            "`image` is not a type: write text, frames or reference"
        );
        assert_eq!(
            refused(parse_provider("me").err()),
            "`me` is not a provider: write auto, value or official"
        );
        assert!(refused(parse_aspect_ratio("4:3").err()).ends_with("ratio: write 16:9, 9:16 or auto"));
        for time in ["16:09", "16:09:00", "09:16", "4:09 pm"] {
            assert!(refused(parse_aspect_ratio(time).err()).contains("took the ratio for a time"), "{time}");
        }
        let long = refused(parse_mode(&"x\n".repeat(99)).err());
        assert!(long.chars().count() < 90 && !long.contains('\n'), "{long}");
    }

    #[test]
    fn whole_numbers() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("1234", Some(1234)),
            ("1234.0", Some(1234)),
            ("1234.000", Some(1234)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1234.", None),
            ("1234.5", None),
            (".0", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1e3", None),
            ("1,000", None),
            ("0x10", None),
            ("١٢", None),
        ] {
            assert_eq!(parse_whole(text), wanted, "{text}");
        }
    }
}
