//! `check`: its arguments. It plans what `run` would do and sends nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

mod disk;
mod images;

use super::Environment;
use super::callbacks::CallbackArgs;
use super::connection::ConnectionArgs;
use super::exit::Exit;
use super::names::{Flags, NameArgs, check_room, takes};
use super::paths::{RunPaths, videos_of};
use super::rehearsal::Peer;
use super::run::{BoundArgs, LimitArgs, PriceArgs, RunArgs, write_problems};
use super::sheet::{SheetArgs, Source};
use crate::api::Balance;
use crate::clock::Clock;
use crate::engine::first_balance;
use crate::generation::{GenerationType, Mode, PriceList};
use crate::harmless::{self, Harmless, one_line};
use crate::job::{Stamp, Usd};
use crate::manifest::Problem;
use crate::names::NameRule;
use crate::report::wording::{About, Bytes, Count, Money, Of};
use crate::report::{Pace, Screen, Work, estimate};
use crate::schedule::gate::Gate;
use crate::store::{Import, ImportOptions, Naming, PROBLEMS_SHOWN, Selection, Store};
use crate::veo::{Client, Timeouts};
use disk::Disk;
use images::{ImageArgs, Images};

/// Finds a sheet's mistakes, and what it would cost and take.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo check prompts.csv                       mistakes, cost, time
  batchveo check captions.csv --map prompt=caption
  batchveo check suite.txt --names exact --name '{prompt}-{sample}'
  batchveo check prompts.csv --download=/mnt/stick
  batchveo check prompts.csv --images              will the API take its images?
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
    /// What videos are called.
    #[command(flatten)]
    pub names: NameArgs,
    /// Where videos would go: a folder, or s3://bucket/prefix; with =, as in --download=films
    /// [default: prompts.videos for prompts.csv]
    #[arg(long, value_name = "DEST", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = "Videos")]
    pub download: Option<String>,
    /// Print the plan and the problems as JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Ask the API for the account's balance: one request
    #[arg(long, help_heading = "Account")]
    pub balance: bool,
    /// Whether to look at images.
    #[command(flatten)]
    pub images: ImageArgs,
    /// Whom to ask.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// What the account allows.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How much of that, and of money, a run would take.
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// What videos cost.
    #[command(flatten)]
    pub price: PriceArgs,
    /// Whether a run would be called back.
    #[command(flatten)]
    pub callbacks: CallbackArgs,
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
    prices_usd: Prices,
    cost_usd: Usd,
    cost_at_worst_usd: Usd,
    /// What `run` would stop at.
    max_cost_usd: Option<Usd>,
    limits: AtMost,
    estimated_seconds: u64,
    balance_usd: Option<Usd>,
    names: Names,
    disk: Disk,
    warnings: Vec<String>,
    problem_count: u64,
    /// The first of them.
    problems: Vec<Problem>,
    /// What its images come to, if they were looked at.
    images: Option<Images>,
    /// How many of them the sheet has whatever its videos are called.
    #[serde(skip)]
    of_sheet: u64,
}

/// What a video costs, by mode.
#[derive(Debug, Serialize)]
struct Prices {
    quality: Usd,
    fast: Usd,
}

/// What a run may use of what the account allows.
#[derive(Debug, Serialize)]
struct AtMost {
    requests_per_minute: u32,
    concurrent_tasks: u32,
}

/// What videos would be called.
#[derive(Debug, Serialize)]
struct Names {
    #[serde(serialize_with = "as_typed")]
    rule: NameRule,
    /// How many have a name.
    samples: u64,
    /// The first of them, without extensions.
    first: Vec<String>,
    longest: Option<String>,
    longest_bytes: usize,
}

fn as_typed<S: serde::Serializer>(rule: &NameRule, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Flags(rule))
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

/// Characters of a name that are shown.
const NAME_SHOWN: usize = 44;

/// The run that a check is about.
struct Ahead {
    selection: Selection,
    /// Its state file, if it says so.
    state: Option<PathBuf>,
    simulated: bool,
}

/// Checks a sheet: reads it whole, sends nothing but, if asked for, one look at the
/// balance and at each image.
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
    let selection = Selection::default();
    let ahead = Ahead { selection, state: None, simulated: false };
    check(args, ahead, environment, screen, stdout)
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
        names: args.names.clone(),
        download: args.download.download.clone().filter(|_| !args.download.no_download),
        json: false,
        balance: false,
        images: ImageArgs::default(),
        connection: args.connection.clone(),
        limits: args.limits,
        bounds: args.bounds,
        price: args.price,
        callbacks: args.callbacks.clone(),
    };
    let ahead =
        Ahead { selection: args.selection(), state: args.state.clone(), simulated: args.rehearsal.simulate };
    check(&check_args, ahead, environment, screen, stdout)
}

fn check(
    args: &CheckArgs,
    ahead: Ahead,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let source = Source::new(args.manifest.clone(), &args.sheet)?;
    let Ahead { selection, state, simulated } = ahead;
    if args.callbacks.callback_url.is_some() {
        let peer =
            if simulated { Peer::Simulator } else { Peer::at(&args.connection.base_url(environment)?) };
        args.callbacks.address(peer)?;
    }
    // A sheet from standard input that names no state file has none.
    let state = RunPaths::choose(&source, state, None, simulated).ok().map(|paths| paths.state);
    let before = state.as_deref().and_then(before);
    let mut store = before.as_ref().map_or_else(Store::scratch, Store::scratch_after)?;
    let options = ImportOptions { skip_invalid: true, accept_changes: true };
    let import = store.import(source.open(&args.sheet.options())?, &options)?;
    store.plan_anew()?;
    let (balance, unasked) = match args.balance.then(|| balance(args, environment)).transpose()? {
        None => (None, None),
        Some(Balance::Left(left)) => (left, None),
        Some(Balance::KeyRefused(failure) | Balance::Unclear(failure)) => {
            (None, Some(format!("the balance could not be asked: {failure}")))
        }
    };
    let beside = || videos_of(&source, state.as_deref(), simulated);
    let named = args.download.as_deref().filter(|named| !named.is_empty());
    let destination = named.map_or_else(beside, PathBuf::from);
    let rule = args.names.rule(before.as_ref().map(Store::name_rule).transpose()?.flatten());
    let place = takes(rule.style, &destination)?;
    let naming = store.assign_names(&rule, &place)?;
    check_room(&naming, &place, &destination)?;
    let saved = before.as_ref().map(mean_of_saved).transpose()?.flatten();
    let found = Found { import, naming, rule, destination, saved, balance };
    let mut plan = plan(args, found, &store, &selection)?;
    plan.warnings.extend(unasked.clone());
    if args.images.images {
        let api = args.connection.base_url(environment)?;
        plan.images = Some(images::look(args.images, &store, &selection, &api)?);
    }
    if args.json {
        writeln!(stdout, "{}", harmless::json(&plan)?)?;
    } else if screen.is_quiet() {
        write_problems(&source, &plan.problems, plan.problem_count, &mut Harmless(stdout))?;
        if let Some(why) = &unasked {
            writeln!(screen.clone(), "batchveo: {why}")?;
        }
    } else {
        tell(&source, &plan, &mut Harmless(stdout))?;
    }
    let flawed = plan.images.as_ref().map_or(0, |images| images.problem_count);
    Ok(match (plan.problem_count + flawed, unasked) {
        (0, None) => Exit::Succeeded,
        (0, Some(_)) => Exit::Stopped,
        (_, _) => Exit::Refused,
    })
}

/// The state file of earlier runs, if there is one that can be read: the plan is about the sheet, and
/// `run` says what is wrong with the other.
fn before(state: &Path) -> Option<Store> {
    if !state.is_file() {
        return None;
    }
    let opened = Store::read_only(state);
    opened.inspect_err(|error| tracing::debug!(%error, "the state file is not looked at")).ok()
}

/// Bytes of a video in the mean of those saved anywhere.
fn mean_of_saved(store: &Store) -> anyhow::Result<Option<u64>> {
    let saved = store.destinations()?;
    let (files, bytes) =
        saved.iter().fold((0, 0_u64), |sum, to| (sum.0 + to.files, sum.1.saturating_add(to.bytes)));
    Ok(bytes.checked_div(files))
}

/// What was found out about a sheet.
struct Found {
    import: Import,
    naming: Naming,
    rule: NameRule,
    destination: PathBuf,
    /// Bytes of a video in the mean of those that the sheet's runs saved.
    saved: Option<u64>,
    balance: Option<Usd>,
}

fn plan(args: &CheckArgs, found: Found, store: &Store, selection: &Selection) -> anyhow::Result<Plan> {
    let Found { import, naming, rule, destination, saved, balance: balance_usd } = found;
    let planned = store.plan(selection, args.price.list)?;
    let disk = Disk::of(&planned, &destination, saved);
    let lines: Vec<Line> = planned
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
    let BoundArgs { paid_retries, max_cost, .. } = args.bounds;
    let limits = args.bounds.of(args.limits)?;
    let PriceList { quality, fast } = args.price.list;
    let mut problems = [import.problems, naming.problems].concat();
    problems.sort_by_key(|problem| problem.line);
    problems.truncate(PROBLEMS_SHOWN);
    let mut plan = Plan {
        rows: import.rows,
        blank_rows: import.blank_rows,
        adjusted_rows: import.adjusted_rows,
        samples,
        lines,
        prices_usd: Prices { quality, fast },
        cost_usd,
        cost_at_worst_usd: cost_usd.times(u64::from(paid_retries) + 1),
        max_cost_usd: max_cost,
        limits: AtMost {
            requests_per_minute: limits.requests_per_minute.get(),
            concurrent_tasks: limits.concurrent_tasks.get(),
        },
        estimated_seconds: estimate(work, limits, Pace::VENDOR).as_secs(),
        balance_usd,
        names: Names {
            rule,
            samples: naming.samples,
            longest_bytes: naming.longest.as_ref().map_or(0, String::len),
            first: naming.first,
            longest: naming.longest,
        },
        disk,
        warnings: Vec::new(),
        of_sheet: import.problem_count,
        problem_count: import.problem_count + naming.problem_count,
        problems,
        images: None,
    };
    plan.warnings = plan.warnings();
    Ok(plan)
}

impl Plan {
    /// What is no mistake of the sheet and may still not be meant, a line each.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.adjusted_rows > 0 {
            let rows = Of(self.adjusted_rows, "reference row");
            warnings.push(format!("{rows} named no mode or ratio: they get fast and 16:9"));
        }
        if let Some(balance) = self.balance_usd.filter(|balance| *balance < self.cost_usd) {
            warnings.push(format!("the balance is {}, which is not enough", Money(balance)));
        }
        if let Some(cap) = self.max_cost_usd.filter(|cap| *cap < self.cost_usd) {
            warnings.push(format!("--max-cost {cap} is less: run stops buying there"));
        }
        if let Some(free) = self.disk.free_bytes.filter(|_| self.disk.is_short()) {
            let free = Bytes(free);
            warnings.push(format!(
                "only {free} are free at {}: choose another --download",
                self.disk.destination
            ));
        }
        warnings
    }
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
    for line in &plan.lines {
        let (kind, mode) = (line.generation_type.as_str(), line.mode.as_str());
        writeln!(out, "  {:>9} {kind} in {mode} mode  {}", Count(line.samples), Money(line.cost_usd))?;
    }
    write!(out, "{} for {}", Of(plan.samples, "video"), Money(plan.cost_usd))?;
    if plan.cost_at_worst_usd > plan.cost_usd {
        write!(out, ", at worst {} with paid retries", Money(plan.cost_at_worst_usd))?;
    }
    let time = std::time::Duration::from_secs(plan.estimated_seconds);
    writeln!(out)?;
    writeln!(out, "Time: {} at these limits", About(time))?;
    if let Some(balance) = plan.balance_usd.filter(|balance| *balance >= plan.cost_usd) {
        writeln!(out, "The balance is {}", Money(balance))?;
    }
    tell_videos(plan, out)?;
    for warning in &plan.warnings {
        writeln!(out, "Note: {warning}")?;
    }
    if let Some(images) = &plan.images {
        images.write(source, out)?;
    }
    let flawed = plan.images.as_ref().map_or(0, |images| images.problem_count);
    if plan.problem_count == 0 {
        let but = if flawed == 0 { "" } else { ", but for its images: mend those first" };
        writeln!(out, "The sheet is sound{but}.")?;
        return Ok(());
    }
    let problems = Of(plan.problem_count, "problem");
    if plan.of_sheet > 0 {
        writeln!(out, "{problems}: run would buy nothing; --skip-invalid runs the other rows")?;
    } else {
        writeln!(out, "{problems}: with these names run would buy nothing")?;
    }
    Ok(())
}

/// Says what videos would be called, and the room they need.
fn tell_videos(plan: &Plan, out: &mut dyn Write) -> anyhow::Result<()> {
    let Names { rule, samples, first, longest, longest_bytes } = &plan.names;
    let Disk { destination, needed_bytes, bytes_per_video, free_bytes } = &plan.disk;
    let size = |mode| match mode {
        Mode::Quality => Bytes(bytes_per_video.quality),
        Mode::Fast => Bytes(bytes_per_video.fast),
    };
    let has = |mode| plan.lines.iter().any(|line| line.mode == mode);
    let one = match (has(Mode::Quality), has(Mode::Fast)) {
        (true, true) => format!("{} a video, {} a fast one", size(Mode::Quality), size(Mode::Fast)),
        (false, true) => format!("{} a video", size(Mode::Fast)),
        (_, false) => format!("{} a video", size(Mode::Quality)),
    };
    let known = if bytes_per_video.assumed { "assuming" } else { "as those saved have" };
    write!(out, "Disk: about {}, {known} {one}", Bytes(*needed_bytes))?;
    writeln!(out, "{}", free_bytes.map_or_else(String::new, |free| format!("; {} free", Bytes(free))))?;
    writeln!(out, "Videos in {destination}, by {}:", Flags(rule))?;
    for name in first {
        writeln!(out, "  {}.mp4", one_line(name, NAME_SHOWN))?;
    }
    let longest = longest.as_ref().filter(|longest| !first.contains(longest));
    if let Some(longest) = longest {
        writeln!(out, "  {}.mp4, the longest, {longest_bytes} bytes", one_line(longest, NAME_SHOWN))?;
    }
    let more = samples.saturating_sub(first.len() as u64 + u64::from(longest.is_some()));
    if more > 0 {
        writeln!(out, "  … and {} more", Count(more))?;
    }
    Ok(())
}
