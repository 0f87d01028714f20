//! `export`: its arguments. It writes results again out of the state file.

use std::path::PathBuf;

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
