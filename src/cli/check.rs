//! `check`: its arguments. It plans what `run` would do and sends nothing.

use std::path::PathBuf;

use super::connection::ConnectionArgs;
use super::run::{LimitArgs, PriceArgs};
use super::sheet::SheetArgs;

/// Finds a sheet's mistakes, and what it would cost and take.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo check prompts.csv                       mistakes, rows by type and mode, cost, time
  batchveo check captions.csv --map prompt=caption
  batchveo check prompts.csv --balance             and whether the account can pay for it
  batchveo check prompts.csv --json | jq .cost_usd

Exit codes:
  0 the sheet is sound, 2 it is not, or the usage is wrong, 3 the balance could not be asked")]
pub struct CheckArgs {
    /// The sheet: CSV, TSV, JSONL or TXT (a prompt a line), or - for standard input
    pub manifest: PathBuf,
    /// How to read it.
    #[command(flatten)]
    pub sheet: SheetArgs,
    /// Print the plan and the problems as JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Ask the API for the account's balance: one request
    #[arg(long, help_heading = "Account")]
    pub balance: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What the account allows.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What videos cost.
    #[command(flatten)]
    pub price: PriceArgs,
}
