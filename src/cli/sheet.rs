//! The sheet a command works on, and how to read it.

use std::path::PathBuf;

use super::UsageError;

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

/// Options that say how to read a sheet. They keep the words; the manifest's own types read them.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Sheet")]
pub struct SheetArgs {
    /// The sheet's format: csv, tsv, jsonl or txt [default: by the file's extension]
    #[arg(long, value_name = "FORMAT", value_parser = ["csv", "tsv", "jsonl", "txt"], hide_possible_values = true)]
    pub format: Option<String>,
    /// Take a field from another column, such as prompt=caption or image_urls=img1,img2; repeatable
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    pub mappings: Vec<String>,
    /// Mode of rows that name none: quality or fast [default: quality]
    #[arg(long, value_name = "MODE", value_parser = ["quality", "fast"], hide_possible_values = true)]
    pub mode: Option<String>,
    /// Type of rows that name none: text, frames or reference [default: text]
    #[arg(long = "type", value_name = "TYPE")]
    pub generation_type: Option<String>,
    /// Aspect ratio of rows that name none: 16:9, 9:16 or auto [default: 16:9]
    #[arg(long, value_name = "RATIO", value_parser = ["16:9", "9:16", "auto"], hide_possible_values = true)]
    pub aspect_ratio: Option<String>,
    /// Routing of rows that name none: auto, value or official [default: the account's own]
    #[arg(long, value_name = "NAME", value_parser = ["auto", "value", "official"], hide_possible_values = true)]
    pub provider: Option<String>,
    /// Videos of each row that names no number [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub samples: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_needs_a_format() {
        let known = SheetArgs { format: Some("txt".into()), ..SheetArgs::default() };
        assert_eq!(Source::new("-".into(), &known), Ok(Source::Stdin));
        assert!(Source::new("-".into(), &SheetArgs::default()).unwrap_err().to_string().contains("--format"));
        assert_eq!(Source::new("a.csv".into(), &SheetArgs::default()), Ok(Source::File("a.csv".into())));
    }
}
