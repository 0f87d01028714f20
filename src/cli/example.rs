//! `example`: a sample sheet to start from.
//!
//! The sheet is the one in `examples/`, so that the README, the tests and this command show the
//! same rows.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;

use super::UsageError;
use crate::harmless::Harmless;

/// The sheet: every generation type, defaults, samples, and columns that pass through.
pub const SHEET: &str = include_str!("../../examples/prompts.csv");

/// Writes a sample sheet with all three generation types.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo example                   write prompts.csv
  batchveo example my/prompts.csv    write it there; never over a file
  batchveo example - | head -3       look at it")]
pub struct ExampleArgs {
    /// Where to, or - for standard output
    #[arg(value_name = "PATH", default_value = "prompts.csv")]
    pub path: PathBuf,
}

/// Writes the sheet to the file named, which must not exist, or to `stdout`.
///
/// # Errors
///
/// The file exists ([`UsageError`]) or cannot be written.
pub fn write(args: &ExampleArgs, stdout: &mut dyn Write) -> anyhow::Result<()> {
    if args.path.as_os_str() == "-" {
        return Ok(stdout.write_all(SHEET.as_bytes())?);
    }
    let shown = args.path.display();
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&args.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(UsageError(format!("{shown} exists and is left as it is: name another file")).into());
        }
        Err(error) => return Err(error).with_context(|| format!("creating {shown}")),
    };
    file.write_all(SHEET.as_bytes()).with_context(|| format!("writing {shown}"))?;
    writeln!(Harmless(stdout), "Wrote {shown}. Next: batchveo check {shown}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_sheet_once_and_never_over_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let args = ExampleArgs { path: folder.path().join("prompts.csv") };
        let mut stdout = Vec::new();
        write(&args, &mut stdout).unwrap();
        assert!(String::from_utf8(stdout).unwrap().contains("batchveo check"));
        assert_eq!(std::fs::read_to_string(&args.path).unwrap(), SHEET);

        std::fs::write(&args.path, "mine").unwrap();
        let error = write(&args, &mut Vec::new()).unwrap_err();
        assert!(error.is::<UsageError>(), "{error:#}");
        assert_eq!(std::fs::read_to_string(&args.path).unwrap(), "mine");
    }

    #[test]
    fn a_dash_is_standard_output() {
        let mut stdout = Vec::new();
        write(&ExampleArgs { path: "-".into() }, &mut stdout).unwrap();
        assert_eq!(stdout, SHEET.as_bytes());
    }

    #[test]
    fn the_sheet_shows_every_type_and_a_prompt_in_each_row() {
        let mut reader = csv::Reader::from_reader(SHEET.as_bytes());
        let header = reader.headers().unwrap().clone();
        let column = |name| header.iter().position(|column| column == name).unwrap();
        let (prompt, kind) = (column("prompt"), column("type"));
        let rows: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
        assert!(rows.iter().all(|row| !row[prompt].is_empty()));
        for wanted in ["text", "frames", "reference"] {
            assert!(rows.iter().any(|row| &row[kind] == wanted), "{wanted}");
        }
    }
}
