//! `run`: its arguments, and the files, the destination and the limits they come to.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::callbacks::CallbackArgs;
use super::connection::ConnectionArgs;
use super::downloads::DownloadArgs;
use super::metrics::MetricsArgs;
use super::names::NameArgs;
use super::paths::RunPaths;
use super::rehearsal::{Peer, RehearsalArgs, TimeScale, load_scenarios};
use super::sheet::{SheetArgs, Source};
use super::values::{ColumnFilter, MaxFailures, dollars, retryable, share};
use super::{Environment, UsageError};
use crate::callback::Address;
use crate::generation::PriceList;
use crate::job::{Limits, Status, Usd};
use crate::report::ProgressStyle;
use crate::schedule::Config;
use crate::schedule::cadence::Cadence;
use crate::schedule::retry::RetryPolicy;
use crate::schedule::share::Share;
use crate::simulator::Scenario;
use crate::store::Selection;
use crate::veo::{ApiKey, BaseUrl};

mod ending;
mod files;
mod perform;
mod sheet_in;
mod sinks;

pub use perform::perform;
pub(super) use perform::{account_of, state_home};
pub use sheet_in::write_problems;

/// Turns a sheet into videos, and resumes.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of the command line")]
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo run prompts.csv --simulate --time-scale 60   a minute each second
  batchveo run prompts.csv --simulate --time-scale max --scenario mixed
                                                        while 5 % of all fails
  batchveo run prompts.csv --limit 3 --mode fast        buy the first three rows
  batchveo run prompts.csv                              and the rest; resumes
  batchveo run prompts.csv --download                   and have the videos here
  batchveo run prompts.csv --retry failed,timed_out     try these again
  batchveo run prompts.csv --retry unknown              doubts; may pay twice
  batchveo run captions.csv --map prompt=caption --map id=video
  jq -c '.scenes[]' f.json | batchveo run - --format jsonl --state f.batchveo.db

Exit codes:
  0         every sample succeeded, or no more failed than --max-failures allows
  1         finished, but some samples did not succeed
  2         usage, sheet or configuration is wrong; nothing was bought
  3         stopped and resumable: key, money, cap, outage, disk, time
  4         another process holds the state file or the account
  130, 143  interrupted, resumable")]
pub struct RunArgs {
    /// The sheet: CSV, TSV, JSONL, JSON, XLSX or TXT (a prompt a line), or - for standard input
    pub manifest: PathBuf,
    /// Check the sheet and show what would be bought; send nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// How to read the sheet.
    #[command(flatten)]
    pub sheet: SheetArgs,
    /// Run the good rows and report the bad ones as invalid
    #[arg(long, help_heading = "Sheet")]
    pub skip_invalid: bool,
    /// Go on although rows whose videos were bought are edited or gone
    #[arg(long, help_heading = "Sheet")]
    pub accept_changes: bool,
    /// Only the first N rows
    #[arg(long, value_name = "N", help_heading = "Sheet")]
    pub limit: Option<u64>,
    /// Only rows whose column holds this value; repeatable, all must hold
    #[arg(long = "where", value_name = "COLUMN=VALUE", help_heading = "Sheet")]
    pub filters: Vec<ColumnFilter>,
    /// The state file [default: the sheet's name and .batchveo.db]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub state: Option<PathBuf>,
    /// The results: .csv or .jsonl, which grow, or .xlsx, written when the run ends
    /// [default: prompts.results.csv for prompts.csv]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// How progress is shown: auto, bar, plain or none
    #[arg(long, value_name = "STYLE", default_value = "auto", help_heading = "Output")]
    pub progress: ProgressStyle,
    /// Write what happens as a JSON object a line; - for standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub events: Option<PathBuf>,
    /// Write the end of the run as JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub summary: Option<PathBuf>,
    /// Whether videos are downloaded.
    #[command(flatten)]
    pub download: DownloadArgs,
    /// Where figures are shown.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// What videos are called.
    #[command(flatten)]
    pub names: NameArgs,
    /// Whom to ask.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What the account allows.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How much of the account and of money.
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// What videos cost.
    #[command(flatten)]
    pub price: PriceArgs,
    /// Buy without asking, however much it costs
    #[arg(short, long, help_heading = "Money")]
    pub yes: bool,
    /// Stop buying at the next failure when more samples than this have failed, earlier runs included;
    /// a number or a share of all
    #[arg(long, value_name = "N|P%", help_heading = "Money")]
    pub max_failures: Option<MaxFailures>,
    /// Buy nothing: only collect what is bought already
    #[arg(long, help_heading = "Money")]
    pub no_buy: bool,
    /// Put ended samples back: failed, rejected, timed_out, lost, unknown; the last three may pay twice, and unknown
    /// ones are put back when older than --task-timeout, and bought last
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = retryable, conflicts_with = "no_buy", help_heading = "Money")]
    pub retry: Vec<Status>,
    /// When to ask about a task: as learned from how long tasks take, or fixed:90s,5s with the age at the
    /// first look and the time between looks
    #[arg(long, value_name = "learned|fixed:FIRST,EVERY", default_value_t = Cadence::Learned, hide_default_value = true, help_heading = "Time")]
    pub poll: Cadence,
    /// Ask about tasks with at most this part of the requests that submissions leave
    #[arg(long, value_name = "P%", default_value = "100%", value_parser = share, help_heading = "Time")]
    pub poll_share: Share,
    /// Give up on a task of this age; the next run asks about it once more
    #[arg(long, value_name = "SPAN", default_value = "30m", value_parser = humantime::parse_duration, help_heading = "Time")]
    pub task_timeout: Duration,
    /// Stop when the service has been away for so long
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = humantime::parse_duration, help_heading = "Time")]
    pub outage_timeout: Duration,
    /// Stop after so long, as by Ctrl-C; tasks being made are left to the next run
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration, help_heading = "Time")]
    pub max_duration: Option<Duration>,
    /// After Ctrl-C, wait so long for submissions in flight
    #[arg(long, value_name = "SPAN", default_value = "20s", value_parser = humantime::parse_duration, help_heading = "Time")]
    pub grace: Duration,
    /// Whether tasks are called back.
    #[command(flatten)]
    pub callbacks: CallbackArgs,
    /// Whether this is a rehearsal.
    #[command(flatten)]
    pub rehearsal: RehearsalArgs,
}

/// What the account allows.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Account")]
pub struct LimitArgs {
    /// Requests in any 60 seconds, of every kind
    #[arg(long, value_name = "N", default_value_t = Limits::DOCUMENTED.requests_per_minute)]
    pub rpm: NonZeroU32,
    /// Tasks alive at once
    #[arg(long, value_name = "N", default_value_t = Limits::DOCUMENTED.concurrent_tasks)]
    pub concurrency: NonZeroU32,
}

impl From<LimitArgs> for Limits {
    fn from(args: LimitArgs) -> Self {
        Self { requests_per_minute: args.rpm, concurrent_tasks: args.concurrency }
    }
}

/// How much of the account a run takes, and of money.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct BoundArgs {
    /// The part of the account this run takes; those of all runs on this machine must fit in 100%
    #[arg(long, value_name = "P%", default_value = "100%", value_parser = share, help_heading = "Account")]
    pub share: Share,
    /// New attempts, each paid, at a task that failed through no fault of its own
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Money")]
    pub paid_retries: u32,
    /// Never spend more than this on this state file in all, what is in flight included
    #[arg(long, value_name = "USD", value_parser = dollars, help_heading = "Money")]
    pub max_cost: Option<Usd>,
}

impl BoundArgs {
    /// What a run may use of what the account allows.
    ///
    /// # Errors
    ///
    /// The share leaves nothing of it.
    pub fn of(&self, account: LimitArgs) -> Result<Limits, UsageError> {
        self.share.of(account.into()).map_err(|error| UsageError(error.to_string()))
    }
}

/// What videos cost.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Money")]
pub struct PriceArgs {
    /// Dollars a video, by mode
    #[arg(long = "price", value_name = "MODE=USD,…", default_value = "quality=1.50,fast=0.20")]
    pub list: PriceList,
}

/// Who makes the videos.
#[derive(Debug, Clone)]
pub enum Destination {
    /// The simulator in this process.
    Simulator {
        /// Which of all possible rehearsals.
        seed: u64,
        /// Share of tasks that fail, from 0 to 1.
        fail_rate: f64,
        /// What goes wrong.
        scenario: Scenario,
        /// What the account has been given, if that was said.
        balance: Option<Usd>,
    },
    /// The API.
    Api {
        /// Where.
        base_url: BaseUrl,
        /// With whose key.
        key: ApiKey,
    },
}

/// What the arguments of a run come to together with the environment.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The rows.
    pub source: Source,
    /// The files.
    pub paths: RunPaths,
    /// Who makes the videos.
    pub destination: Destination,
    /// How fast time goes.
    pub time_scale: TimeScale,
    /// What the run may use: its share of what the account allows.
    pub limits: Limits,
    /// Where videos are downloaded to, if they are.
    pub download: Option<String>,
    /// Where the API calls back, if it does.
    pub callback: Option<Address>,
}

impl RunPlan {
    /// Resolves `args`. Reads the key file and scenario files, if any are named, and nothing else.
    ///
    /// # Errors
    ///
    /// What does not go together, with what to do about it.
    pub fn resolve(args: &RunArgs, environment: Environment<'_>) -> Result<Self, UsageError> {
        let rehearsal = &args.rehearsal;
        let source = Source::new(args.manifest.clone(), &args.sheet)?;
        let paths = RunPaths::choose(&source, args.state.clone(), args.output.clone(), rehearsal.simulate)?;
        let destination = if rehearsal.simulate {
            let scenario = load_scenarios(&rehearsal.scenario)?;
            let balance = rehearsal.sim_balance.or(scenario.balance());
            let (seed, fail_rate) = (rehearsal.sim_seed, rehearsal.sim_fail_rate);
            Destination::Simulator { seed, fail_rate, scenario, balance }
        } else {
            let key = args.connection.api_key(environment)?;
            Destination::Api { base_url: args.connection.base_url(environment)?, key }
        };
        let time_scale = TimeScale::allowed(rehearsal.time_scale, destination.peer())?;
        let limits = args.bounds.of(args.limits)?;
        let download = args.download.destination(&source, &paths.state, rehearsal.simulate)?;
        let callback = args.callbacks.address(destination.peer())?;
        Ok(Self { source, paths, destination, time_scale, limits, download, callback })
    }
}

impl Destination {
    const fn peer(&self) -> Peer {
        match self {
            Self::Simulator { .. } => Peer::Simulator,
            Self::Api { base_url, .. } => Peer::at(base_url),
        }
    }
}

impl RunArgs {
    /// The rows that are run.
    pub(super) fn selection(&self) -> Selection {
        let filters = self.filters.iter().map(|filter| (filter.column.clone(), filter.value.clone()));
        Selection { limit: self.limit, filters: filters.collect() }
    }

    /// What governs a run within `limits` of a sheet that asks for `samples` videos, and that may be
    /// `called_back`.
    fn config(&self, limits: Limits, samples: u64, seed: u64, called_back: bool) -> Config {
        Config {
            limits,
            cadence: self.poll,
            poll_share: self.poll_share,
            retry: RetryPolicy { paid_retries: self.bounds.paid_retries, seed },
            task_timeout: self.task_timeout,
            outage_timeout: self.outage_timeout,
            max_failures: self.max_failures.map(|most| most.of(samples)),
            max_cost: self.bounds.max_cost,
            max_duration: self.max_duration,
            collect_only: self.no_buy,
            called_back,
        }
    }
}
