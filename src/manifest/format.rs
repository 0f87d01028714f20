//! Which of our formats a sheet is in.
//!
//! The name's extension decides unless `--format` does. The content is never guessed at: a wrong
//! guess would buy videos of header lines.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::problem::ManifestError;

/// How a sheet is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A header and rows, separated by commas, semicolons or tabs, whichever the header uses.
    Csv,
    /// A header and rows, separated by tabs.
    Tsv,
    /// A JSON object a line.
    Jsonl,
    /// One JSON array of objects.
    Json,
    /// A prompt a line.
    Txt,
    /// A worksheet of an Excel workbook: a header and rows.
    Xlsx,
}

impl Format {
    /// Every format, in the order messages list them.
    pub const ALL: [Self; 6] = [Self::Csv, Self::Tsv, Self::Jsonl, Self::Json, Self::Txt, Self::Xlsx];

    /// Their words, for messages.
    const WORDS: &'static str = "csv, tsv, jsonl, json, txt or xlsx";

    /// The word `--format` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Txt => "txt",
            Self::Xlsx => "xlsx",
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
    /// [`ManifestError::Format`] when neither says; it names `--format`, or how to turn a workbook of
    /// another kind into a sheet.
    pub fn choose(given: Option<Self>, path: &Path) -> Result<Self, ManifestError> {
        given.or_else(|| Self::from_path(path)).ok_or_else(|| {
            let name = path.display().to_string();
            let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
            let mend = match extension.to_ascii_lowercase().as_str() {
                "xls" | "xlsb" | "ods" | "numbers" => {
                    "a workbook of this kind cannot be read: save it as .xlsx, or the sheet as CSV (UTF-8)"
                        .to_owned()
                }
                _ if name == "-" => {
                    let mend =
                        format!("it has no extension to tell the format by: add --format {}", Self::WORDS);
                    return ManifestError::Format { name: "standard input".into(), mend };
                }
                _ => format!("the extension does not tell the format: add --format {}", Self::WORDS),
            };
            ManifestError::Format { name, mend }
        })
    }
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
            "json" => Ok(Self::Json),
            "txt" => Ok(Self::Txt),
            "xlsx" | "xlsm" => Ok(Self::Xlsx),
            other => Err(format!("`{other}` is not a format: use {}", Self::WORDS)),
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
            ("a.json", Some(Format::Json)),
            ("a.XLSX", Some(Format::Xlsx)),
            ("a.xlsm", Some(Format::Xlsx)),
            ("a.xls", None),
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
            ("a.XLS", "save it as .xlsx, or the sheet as CSV"),
            ("a.ods", "save it as .xlsx, or the sheet as CSV"),
            ("a.dat", "a.dat: the extension does not tell the format: add --format csv, tsv"),
            ("prompts", "add --format csv"),
            ("-", "standard input: it has no extension to tell the format by: add --format csv"),
        ] {
            let message = Format::choose(None, Path::new(name)).unwrap_err().to_string();
            assert!(message.contains(wanted), "{name}: {message}");
        }
    }
}
