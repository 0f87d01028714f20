//! `export`: its arguments. It writes results again out of the state file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::exit::Exit;
use super::paths::locate;
use crate::results;
use crate::store::{ResultFilter, Selection, Store};

use super::values::status;
use crate::job::Status;

/// Writes the results again, or some of them.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo export prompts.csv -o all.csv
  batchveo export prompts.csv -o - --status failed,rejected
  batchveo export prompts.csv -o paid.csv --removed    what was bought for rows no longer in the sheet

Exit codes:
  0 written, 2 usage, there is no such run, or the file is in the way")]
pub struct ExportArgs {
    /// The sheet or its state file [default: the only state file in this folder]
    #[arg(value_name = "MANIFEST|STATE")]
    pub run: Option<PathBuf>,
    /// Where to, or - for standard output; a file that exists is not overwritten
    #[arg(short, long, value_name = "FILE|-")]
    pub output: PathBuf,
    /// Only samples with one of these statuses, such as failed,rejected
    #[arg(long = "status", value_name = "STATUS,…", value_delimiter = ',', value_parser = status)]
    pub statuses: Vec<Status>,
    /// Only what was bought for rows that are no longer in the sheet
    #[arg(long)]
    pub removed: bool,
}

/// Writes results.
///
/// # Errors
///
/// There is no such run, a file is in the way, or it cannot be written.
pub fn perform(args: &ExportArgs, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let state = locate(args.run.as_deref(), Path::new("."))?;
    let store = Store::read_only(&state)?;
    let filter = ResultFilter {
        statuses: args.statuses.clone(),
        removed: args.removed,
        selection: Selection::default(),
    };
    if args.output.as_os_str() == "-" {
        results::export(&store, &filter, stdout)?;
        return Ok(Exit::Succeeded);
    }
    let shown = args.output.display();
    let file = OpenOptions::new().write(true).create_new(true).open(&args.output);
    let mut file = file.with_context(|| format!("{shown} is left as it is"))?;
    let rows = results::export(&store, &filter, &mut file)?;
    file.sync_all().with_context(|| format!("writing {shown}"))?;
    writeln!(stdout, "Wrote {rows} rows to {shown}.")?;
    Ok(Exit::Succeeded)
}
