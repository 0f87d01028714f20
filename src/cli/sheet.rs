//! The sheet a command works on, and how to read it.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::UsageError;
use crate::generation::{AspectRatio, GenerationType, Mode, Provider};
use crate::manifest::{
    Defaults, Format, ManifestError, Mapping, Options, Reader, parse_aspect_ratio, parse_generation_type,
    parse_mode, parse_provider,
};

/// Where the rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// The sheet named by `manifest`; `-` is standard input, which has no name to tell its format.
    ///
    /// # Errors
    ///
    /// Standard input without `--format`.
    pub fn new(manifest: PathBuf, options: &SheetArgs) -> Result<Self, UsageError> {
        if manifest.as_os_str() != "-" {
            return Ok(Self::File(manifest));
        }
        if options.format.is_none() {
            return Err(UsageError("standard input has no name to tell its format: add --format csv".into()));
        }
        Ok(Self::Stdin)
    }
}

impl Source {
    /// The sheet, ready to be read from its start.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not a sheet of prompts.
    pub fn open(&self, options: &Options) -> Result<Reader, ManifestError> {
        match self {
            Self::File(path) => Reader::open(path, options),
            Self::Stdin => {
                let format = options.format_of(Path::new("-"))?;
                Reader::new(&self.to_string(), Box::new(io::stdin()), format, options)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// Options that say how to read a sheet.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Sheet")]
pub struct SheetArgs {
    /// The sheet's format: csv, tsv, jsonl, json, txt or xlsx [default: by the file's extension]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Worksheet of a workbook, by name or number [default: the first that is not hidden]
    #[arg(long = "sheet", value_name = "NAME|N")]
    pub worksheet: Option<String>,
    /// Take a field from another column, such as prompt=caption or image_urls=img1,img2; repeatable
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    pub mappings: Vec<Mapping>,
    /// Mode of rows that name none: quality or fast [default: quality]
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub mode: Option<Mode>,
    /// Type of rows that name none: text, frames or reference [default: text]
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_generation_type)]
    pub generation_type: Option<GenerationType>,
    /// Aspect ratio of rows that name none: 16:9, 9:16 or auto [default: 16:9]
    #[arg(long, value_name = "RATIO", value_parser = parse_aspect_ratio)]
    pub aspect_ratio: Option<AspectRatio>,
    /// Routing of rows that name none: auto, value or official [default: the account's own]
    #[arg(long, value_name = "NAME", value_parser = parse_provider)]
    pub provider: Option<Provider>,
    /// Videos of each row that names no number [default: 1]
    #[arg(long, value_name = "N", value_parser = samples)]
    pub samples: Option<NonZeroU32>,
}

/// Most videos of one row, as in a sheet.
const MOST_SAMPLES: u32 = 1000;

fn samples(text: &str) -> Result<NonZeroU32, String> {
    let count = text.parse().ok().filter(|count: &NonZeroU32| count.get() <= MOST_SAMPLES);
    count.ok_or_else(|| format!("`{text}` is not a number from 1 to {MOST_SAMPLES}"))
}

impl SheetArgs {
    /// The same, as the manifest reader takes it.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            format: self.format,
            worksheet: self.worksheet.clone(),
            map: self.mappings.clone(),
            defaults: Defaults {
                mode: self.mode,
                generation_type: self.generation_type,
                aspect_ratio: self.aspect_ratio,
                provider: self.provider,
                samples: self.samples,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_needs_a_format() {
        let known = SheetArgs { format: Some(Format::Txt), ..SheetArgs::default() };
        assert_eq!(Source::new("-".into(), &known), Ok(Source::Stdin));
        assert!(Source::new("-".into(), &SheetArgs::default()).unwrap_err().to_string().contains("--format"));
        assert_eq!(Source::new("a.csv".into(), &SheetArgs::default()), Ok(Source::File("a.csv".into())));
    }
}
