//! `status`: its arguments. It reads the state file, also while a run goes on.

use std::path::PathBuf;

/// Tells how a run stands, also while it goes on.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo status                                      the only run in this folder
  batchveo status prompts.csv
  batchveo status prompts.csv.simulated.batchveo.db    a rehearsal
  watch -n 5 batchveo status prompts.csv               beside a run in another terminal
  batchveo status --json | jq .succeeded

Exit codes:
  0 told, 2 usage, or there is no such run")]
pub struct StatusArgs {
    /// The sheet or its state file [default: the only state file in this folder]
    #[arg(value_name = "MANIFEST|STATE")]
    pub run: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}
