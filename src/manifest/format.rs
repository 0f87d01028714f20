//! Which of the four formats a sheet is in.
//!
//! The name's extension decides unless `--format` does. The content is never guessed at: a wrong
//! guess would buy videos of header lines.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::problem::{ManifestError, shell_word};

/// How a sheet is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A header and rows, separated by commas, semicolons or tabs, whichever the header uses.
    Csv,
    /// A header and rows, separated by tabs.
    Tsv,
    /// A JSON object a line.
    Jsonl,
    /// A prompt a line.
    Txt,
}

impl Format {
    /// Every format, in the order messages list them.
    pub const ALL: [Self; 4] = [Self::Csv, Self::Tsv, Self::Jsonl, Self::Txt];

    /// The word `--format` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Txt => "txt",
        }
    }

    /// The format a file's extension names, in any case; `None` when it names none of ours.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        path.extension()?.to_str()?.parse().ok()
    }

    /// `given` if there is one, else what the extension of `path` says. `-` is standard input.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Format`] when neither says; it names `--format`, or the command that turns
    /// a JSON array or a workbook into a sheet.
    pub fn choose(given: Option<Self>, path: &Path) -> Result<Self, ManifestError> {
        given.or_else(|| Self::from_path(path)).ok_or_else(|| {
            let name = path.display().to_string();
            let stem = path.with_extension("").display().to_string();
            let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
            let mend = match extension.to_ascii_lowercase().as_str() {
                "json" => array_mend(&name, &stem),
                "xlsx" | "xls" | "ods" | "numbers" => {
                    "a workbook cannot be read: export the sheet as CSV (UTF-8)".to_owned()
                }
                _ if name == "-" => {
                    return ManifestError::Format {
                        name: "standard input".into(),
                        mend:
                            "it has no extension to tell the format by: add --format csv, tsv, jsonl or txt"
                                .into(),
                    };
                }
                _ => "the extension does not tell the format: add --format csv, tsv, jsonl or txt".to_owned(),
            };
            ManifestError::Format { name, mend }
        })
    }
}

/// How to turn a file that holds one JSON array into a sheet.
pub(super) fn array_mend(name: &str, stem: &str) -> String {
    let (from, to) = (shell_word(name), shell_word(&format!("{stem}.jsonl")));
    format!("one JSON object a line is wanted: jq -c '.[]' {from} > {to}")
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "txt" => Ok(Self::Txt),
            other => Err(format!("`{other}` is not a format: use csv, tsv, jsonl or txt")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions() {
        for (name, format) in [
            ("a.csv", Some(Format::Csv)),
            ("A.CSV", Some(Format::Csv)),
            ("a.b.Tsv", Some(Format::Tsv)),
            ("a.jsonl", Some(Format::Jsonl)),
            ("a.ndjson", Some(Format::Jsonl)),
            ("a.txt", Some(Format::Txt)),
            ("a.json", None),
            ("csv", None),
            ("-", None),
        ] {
            assert_eq!(Format::from_path(Path::new(name)), format, "{name}");
            let chosen = Format::choose(Some(Format::Tsv), Path::new(name));
            assert_eq!(chosen.ok(), Some(Format::Tsv), "--format wins for {name}");
        }
        for format in Format::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("xml".parse::<Format>().unwrap_err().contains("use csv"));
    }

    #[test]
    fn an_unknown_format_is_told_with_its_mend() {
        for (name, wanted) in [
            ("x/a.json", "x/a.json: one JSON object a line is wanted: jq -c '.[]' x/a.json > x/a.jsonl"),
            ("my a's.json", "jq -c '.[]' 'my a'\\''s.json' > 'my a'\\''s.jsonl'"),
            ("a.XLSX", "export the sheet as CSV"),
            ("a.dat", "a.dat: the extension does not tell the format: add --format csv, tsv"),
            ("prompts", "add --format csv"),
            ("-", "standard input: it has no extension to tell the format by: add --format csv"),
        ] {
            let message = Format::choose(None, Path::new(name)).unwrap_err().to_string();
            assert!(message.contains(wanted), "{name}: {message}");
        }
    }
}
