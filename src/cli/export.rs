//! `export`: its arguments. It writes results again out of the state file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::UsageError;
use super::exit::Exit;
use super::paths::{about_state, locate};
use super::values::status;
use crate::harmless::Harmless;
use crate::job::Status;
use crate::manifest::Format;
use crate::report::wording::Of;
use crate::results::{self, OutputFormat, Rewritten};
use crate::store::{ResultFilter, Selection, Store};

/// Writes the results again, or some of them.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo export prompts.csv -o all.xlsx
  batchveo export prompts.csv -o - --status failed,rejected
  batchveo export prompts.csv -o paid.csv --removed    bought, and gone since
  batchveo export prompts.csv -o again.csv --status failed --as-manifest
  batchveo run again.csv                               once they are mended

Exit codes:
  0 written, 2 usage, there is no such run, or the file is in the way")]
pub struct ExportArgs {
    /// The sheet or its state file [default: the only state file in this folder]
    #[arg(value_name = "MANIFEST|STATE")]
    pub run: Option<PathBuf>,
    /// Where to, or - for standard output; a file that exists is not overwritten
    #[arg(short, long, value_name = "FILE|-")]
    pub output: PathBuf,
    /// How it is written: csv, jsonl or xlsx; a sheet also as tsv or json [default: by the file's extension, else csv]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Only samples with one of these statuses, such as failed,rejected
    #[arg(long = "status", value_name = "STATUS,…", value_delimiter = ',', value_parser = status)]
    pub statuses: Vec<Status>,
    /// Only what was bought for rows that are no longer in the sheet
    #[arg(long)]
    pub removed: bool,
    /// Write a sheet that asks for the same again, a row a sample, needing no --map and no defaults
    #[arg(long)]
    pub as_manifest: bool,
}

/// Writes results.
///
/// # Errors
///
/// There is no such run, a file is in the way, or it cannot be written.
pub fn perform(args: &ExportArgs, screen: &mut dyn Write, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let state = locate(args.run.as_deref(), Path::new("."))?;
    write_from(&state, args, screen, stdout).map_err(|error| about_state(error, &state))
}

fn write_from(
    state: &Path,
    args: &ExportArgs,
    screen: &mut dyn Write,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let store = Store::read_only(state)?;
    let filter = ResultFilter {
        statuses: args.statuses.clone(),
        removed: args.removed,
        selection: Selection::default(),
    };
    let to_stdout = args.output.as_os_str() == "-";
    // Data stays as it is, except where a person looks at it.
    let mut for_person = Harmless(&mut *stdout);
    let data: &mut dyn Write = if io::stdout().is_terminal() { &mut for_person } else { for_person.0 };
    if args.as_manifest {
        let format = match args.format {
            Some(format) => format,
            None if to_stdout => Format::Csv,
            None => format_of(&args.output)?,
        };
        may_be_shown(format == Format::Xlsx && to_stdout)?;
        let write = |out: &mut dyn Write| results::export_as_manifest(&store, &filter, format, out);
        let Rewritten { rows, invalid } = if to_stdout {
            write(data)?
        } else {
            results::write_new(&args.output, |mut file| write(&mut file))?
        };
        if !to_stdout {
            writeln!(Harmless(stdout), "Wrote {} to {}.", Of(rows, "row"), args.output.display())?;
        }
        if invalid > 0 {
            let bad = Of(invalid, "bad row");
            writeln!(screen, "{bad} of the sheet left out: there is nothing in them that could be sent.")?;
        }
        return Ok(Exit::Succeeded);
    }
    let format = match args.format {
        Some(format) => results_format(format)?,
        None if to_stdout => OutputFormat::Csv,
        None => OutputFormat::of(&args.output)?,
    };
    may_be_shown(format == OutputFormat::Xlsx && to_stdout)?;
    if to_stdout {
        results::export(&store, &filter, format, data)?;
        return Ok(Exit::Succeeded);
    }
    let rows = results::write_new(&args.output, |file| results::export(&store, &filter, format, file))?;
    writeln!(Harmless(stdout), "Wrote {} to {}.", Of(rows, "row"), args.output.display())?;
    Ok(Exit::Succeeded)
}

/// The format of a sheet at `path`: its name must tell, as `run` will go by it.
fn format_of(path: &Path) -> Result<Format, UsageError> {
    let told = Format::from_path(path).filter(|format| *format != Format::Txt);
    told.ok_or_else(|| {
        let shown = path.display();
        UsageError(format!("{shown}: a sheet's name ends in .csv, .tsv, .jsonl, .json or .xlsx: name it so"))
    })
}

/// The format of results that `format` is.
fn results_format(format: Format) -> Result<OutputFormat, UsageError> {
    format.as_str().parse().map_err(UsageError)
}

/// A workbook is no text.
fn may_be_shown(workbook_to_stdout: bool) -> Result<(), UsageError> {
    if workbook_to_stdout && io::stdout().is_terminal() {
        return Err(UsageError("a workbook is not shown on a terminal: name a file with -o".into()));
    }
    Ok(())
}
