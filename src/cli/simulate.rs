//! `simulate`: its arguments. It serves the model of the API over HTTP.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::run::{LimitArgs, PriceArgs};
use super::sheet::SheetArgs;
use super::values::{dollars, probability};
use crate::job::Usd;

/// Serves a model of the API over HTTP, with a judge at /judge.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo simulate --time-scale 10 &
  BATCHVEO_API_KEY=any batchveo run prompts.csv --base-url http://127.0.0.1:8787 --time-scale 10
  curl -s http://127.0.0.1:8787/judge      limits kept? anything bought twice?
  curl -s http://127.0.0.1:8787/ledger     what was accepted, as CSV
  batchveo simulate --key secret --fail-rate 0.05 --balance 20

Exit codes:
  0 stopped by Ctrl-C or SIGTERM, 2 usage, or the address cannot be listened on")]
pub struct SimulateArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8787")]
    pub listen: SocketAddr,
    /// Seconds that pass in a real one; give the run the same
    #[arg(long, value_name = "K", default_value = "1")]
    pub time_scale: NonZeroU32,
    /// Which of all possible services: the same number, the same fates
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Share of tasks that fail, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = probability)]
    pub fail_rate: f64,
    /// Dollars the account has
    #[arg(long, value_name = "USD", default_value = "10000", value_parser = dollars)]
    pub balance: Usd,
    /// Accept this key alone; without it, any. Not a real key: it can be read by every user here
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// Put the request's headers into error messages, as some services do
    #[arg(long)]
    pub echo_headers: bool,
    /// Judge against what this sheet asks for: duplicates in it are no double purchases
    #[arg(long, value_name = "SHEET")]
    pub expect: Option<PathBuf>,
    /// How to read that sheet.
    #[command(flatten)]
    pub sheet: SheetArgs,
    /// What the account allows.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What videos cost.
    #[command(flatten)]
    pub price: PriceArgs,
}
