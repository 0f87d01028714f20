//! `check`: its arguments. It plans what `run` would do and sends nothing.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::Environment;
use super::connection::ConnectionArgs;
use super::exit::Exit;
use super::run::{LimitArgs, PriceArgs, RunArgs, write_problems};
use super::sheet::{SheetArgs, Source};
use crate::api::Balance;
use crate::clock::Clock;
use crate::engine::first_balance;
use crate::generation::{GenerationType, Mode};
use crate::harmless::{self, Harmless};
use crate::job::{Stamp, Usd};
use crate::manifest::Problem;
use crate::report::wording::{About, Count, Money, Of};
use crate::report::{Pace, Screen, Work, estimate};
use crate::schedule::gate::Gate;
use crate::store::{Import, ImportOptions, Selection, Store};
use crate::veo::{Client, Timeouts};

/// Finds a sheet's mistakes, and what it would cost and take.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo check prompts.csv                       mistakes, cost, time
  batchveo check captions.csv --map prompt=caption
  batchveo check prompts.csv --balance             can the account pay?
  batchveo check prompts.csv --json | jq .cost_usd

Exit codes:
  0 the sheet is sound, 2 it is not, or the usage is wrong,
  3 the balance could not be asked")]
pub struct CheckArgs {
    /// The sheet: CSV, TSV, JSONL, JSON, XLSX or TXT (a prompt a line), or - for standard input
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

/// What a sheet comes to.
#[derive(Debug, Serialize)]
struct Plan {
    rows: u64,
    blank_rows: u64,
    /// Rows of references whose blank mode or ratio became the only one the API takes.
    adjusted_rows: u64,
    samples: u64,
    lines: Vec<Line>,
    cost_usd: Usd,
    cost_at_worst_usd: Usd,
    estimated_seconds: u64,
    balance_usd: Option<Usd>,
    problem_count: u64,
    /// The first of them.
    problems: Vec<Problem>,
}

/// The samples of one type and mode.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(rename = "type")]
    generation_type: GenerationType,
    mode: Mode,
    samples: u64,
    cost_usd: Usd,
}

/// Paid attempts beyond the first that a sample may need, unless `run` is told otherwise.
const PAID_RETRIES: u64 = 1;

/// Checks a sheet: reads it whole, sends nothing but, if asked for, one look at the balance.
///
/// # Errors
///
/// The sheet cannot be read as one, or the answer cannot be written.
pub fn perform(
    args: &CheckArgs,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    check(args, &Selection::default(), PAID_RETRIES, environment, screen, stdout)
}

/// The same for the arguments of a run (`--dry-run`).
///
/// # Errors
///
/// As [`perform`].
pub(super) fn perform_for_run(
    args: &RunArgs,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let check_args = CheckArgs {
        manifest: args.manifest.clone(),
        sheet: args.sheet.clone(),
        json: false,
        balance: false,
        connection: args.connection.clone(),
        limits: args.limits,
        price: args.price,
    };
    check(&check_args, &args.selection(), args.paid_retries.into(), environment, screen, stdout)
}

fn check(
    args: &CheckArgs,
    selection: &Selection,
    paid_retries: u64,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let source = Source::new(args.manifest.clone(), &args.sheet)?;
    let mut store = Store::scratch()?;
    let options = ImportOptions { skip_invalid: true, accept_changes: true };
    let import = store.import(source.open(&args.sheet.options())?, &options)?;
    let balance = if args.balance {
        match balance(args, environment)? {
            Balance::Left(left) => left,
            Balance::KeyRefused(failure) | Balance::Unclear(failure) => {
                writeln!(Harmless(stdout), "The balance could not be asked: {failure}")?;
                return Ok(Exit::Stopped);
            }
        }
    } else {
        None
    };
    let plan = plan(args, import, &store, selection, paid_retries, balance)?;
    if args.json {
        writeln!(stdout, "{}", harmless::json(&plan)?)?;
    } else if screen.is_quiet() {
        write_problems(&source, &plan.problems, plan.problem_count, &mut Harmless(stdout))?;
    } else {
        tell(&source, &plan, &mut Harmless(stdout))?;
    }
    Ok(if plan.problem_count == 0 { Exit::Succeeded } else { Exit::Refused })
}

fn plan(
    args: &CheckArgs,
    import: Import,
    store: &Store,
    selection: &Selection,
    paid_retries: u64,
    balance_usd: Option<Usd>,
) -> anyhow::Result<Plan> {
    let lines: Vec<Line> = store
        .plan(selection, args.price.list)?
        .into_iter()
        .map(|line| Line {
            generation_type: line.generation_type,
            mode: line.mode,
            samples: line.samples,
            cost_usd: line.cost,
        })
        .collect();
    let samples = lines.iter().map(|line| line.samples).sum();
    let cost_usd = lines.iter().fold(Usd::ZERO, |sum, line| sum + line.cost_usd);
    let work = Work { waiting: samples, in_flight: 0 };
    Ok(Plan {
        rows: import.rows,
        blank_rows: import.blank_rows,
        adjusted_rows: import.adjusted_rows,
        samples,
        lines,
        cost_usd,
        cost_at_worst_usd: cost_usd.times(paid_retries + 1),
        estimated_seconds: estimate(work, args.limits.into(), Pace::VENDOR).as_secs(),
        balance_usd,
        problem_count: import.problem_count,
        problems: import.problems,
    })
}

fn balance(args: &CheckArgs, environment: Environment<'_>) -> anyhow::Result<Balance> {
    let key = args.connection.api_key(environment)?;
    let client = Client::new(args.connection.base_url(environment)?, key, Timeouts::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let clock = Clock::real(Stamp::BIRTH, std::num::NonZeroU32::MIN);
        let mut gate = Gate::new(args.limits.rpm, clock.now());
        first_balance(&client, &mut gate, &clock, 0).await
    }))
}

fn tell(source: &Source, plan: &Plan, mut out: &mut dyn Write) -> anyhow::Result<()> {
    write_problems(source, &plan.problems, plan.problem_count, &mut out)?;
    write!(out, "{source}: {}", Of(plan.rows, "row"))?;
    if plan.blank_rows > 0 {
        write!(out, ", {} skipped", Of(plan.blank_rows, "blank row"))?;
    }
    writeln!(out)?;
    if plan.adjusted_rows > 0 {
        let rows = Of(plan.adjusted_rows, "reference row");
        writeln!(out, "{rows} named no mode or ratio: fast and 16:9, the only ones there are")?;
    }
    for line in &plan.lines {
        let (kind, mode) = (line.generation_type.as_str(), line.mode.as_str());
        writeln!(out, "  {:>9} {kind} in {mode} mode  {}", Count(line.samples), Money(line.cost_usd))?;
    }
    write!(out, "{} for {}", Of(plan.samples, "video"), Money(plan.cost_usd))?;
    if plan.cost_at_worst_usd > plan.cost_usd {
        write!(out, ", at worst {} with paid retries", Money(plan.cost_at_worst_usd))?;
    }
    let time = std::time::Duration::from_secs(plan.estimated_seconds);
    writeln!(out, "\n{} at these limits", About(time))?;
    if let Some(balance) = plan.balance_usd {
        let enough = if balance < plan.cost_usd { ", which is not enough" } else { "" };
        writeln!(out, "The balance is {}{enough}", Money(balance))?;
    }
    if plan.problem_count == 0 {
        writeln!(out, "The sheet is sound.")?;
    } else {
        writeln!(
            out,
            "{}: run would buy nothing; --skip-invalid runs the other rows",
            Of(plan.problem_count, "problem")
        )?;
    }
    Ok(())
}
