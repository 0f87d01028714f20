//! `simulate`: its arguments. It serves the model of the API over HTTP, and tells of its scenarios.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::TcpListener;

use super::UsageError;
use super::exit::Exit;
use super::rehearsal::load_scenarios;
use super::signals::Signals;
use crate::clock::{Clock, wall_time};
use crate::hosts::{Hosts, Patience};
use crate::report::Screen;
use crate::simulator::{Ledger, Named, Scenario, Settings, Simulator, request_hash, serve, video_bytes};

use super::run::{LimitArgs, PriceArgs};
use super::sheet::{SheetArgs, Source};
use super::values::{dollars, probability};
use crate::job::{Stamp, Usd};

/// Serves a model of the API over HTTP, with a judge at /judge.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of the command line")]
#[command(after_help = "\
Examples:
  batchveo simulate --time-scale 10 --expect prompts.csv &
  export BATCHVEO_API_KEY=any BATCHVEO_BASE_URL=http://127.0.0.1:8787
  batchveo run prompts.csv --time-scale 10
  curl -s http://127.0.0.1:8787/judge      limits kept? anything bought twice?
  curl -s http://127.0.0.1:8787/ledger     what was accepted, as CSV
  curl -s http://127.0.0.1:8787/videos     how often each video was fetched
  curl -s -X POST 'http://127.0.0.1:8787/top-up?usd=100'      put money in
  batchveo simulate --key secret --fail-rate 0.05 --balance 20
  batchveo simulate --list-scenarios                          what can go wrong
  batchveo simulate --show-scenario outage > mine.toml        to start one's own
  batchveo simulate --scenario outage,cut --scenario mine.toml
  batchveo simulate --scenario callbacks-lossy          for run --callback-url
  batchveo simulate --scenario videos-cut --video-bytes 1000000..9000000

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
    /// Dollars the account has [default: 10000, or what the scenario says]
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub balance: Option<Usd>,
    /// What goes wrong: scenarios by name or from files, which add up; their times count from the
    /// start of this server. Client time-outs are real, so delays shrink with --time-scale
    #[arg(long, value_name = "NAME|FILE,…", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// List the built-in scenarios and end
    #[arg(long, conflicts_with_all = ["scenario", "show_scenario"])]
    pub list_scenarios: bool,
    /// Print the text of a built-in scenario and end
    #[arg(long, value_name = "NAME", conflicts_with = "scenario")]
    pub show_scenario: Option<String>,
    /// How long videos are: so many bytes, or from so many to so many [default: 200000..2000000, or
    /// what the scenario says]
    #[arg(long, value_name = "BYTES", value_parser = video_bytes)]
    pub video_bytes: Option<RangeInclusive<u64>>,
    /// Fetch the images of submissions and fail the tasks whose images the API would not take; there
    /// are some to try at /images/good.png, good.jpg, good.webp, huge.jpg, not-an-image.png,
    /// animation.gif, moved.png, inside.png and private.png
    #[arg(long)]
    pub fetch_images: bool,
    /// Call back any host that submissions name, and not this machine alone
    #[arg(long)]
    pub call_any_host: bool,
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

/// Serves until a signal comes, then says what the judge has to say; or tells of the scenarios.
///
/// # Errors
///
/// The address cannot be listened on, or a scenario or the sheet to expect cannot be read.
pub fn perform(args: &SimulateArgs, screen: &Screen, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    if args.list_scenarios {
        return list(stdout);
    }
    if let Some(name) = &args.show_scenario {
        return show(name, stdout);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve_until_signal(args, screen.clone()))
}

/// A line for each: the name, and what happens.
fn list(stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let longest = Scenario::NAMED.iter().map(|named| named.name.len()).max().unwrap_or(0);
    for Named { name, text } in Scenario::NAMED {
        writeln!(stdout, "{name:<longest$}  {}", Scenario::parse(name, text)?.about())?;
    }
    Ok(Exit::Succeeded)
}

fn show(name: &str, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let named = Scenario::NAMED.iter().find(|named| named.name == name);
    let Named { text, .. } = named.ok_or_else(|| {
        UsageError(format!("--show-scenario {name}: there is none of that name; --list-scenarios lists them"))
    })?;
    stdout.write_all(text.as_bytes())?;
    Ok(Exit::Succeeded)
}

async fn serve_until_signal(args: &SimulateArgs, mut screen: Screen) -> anyhow::Result<Exit> {
    let scenario = load_scenarios(&args.scenario)?;
    let usual = Settings::default();
    let settings = Settings {
        seed: args.seed,
        limits: args.limits.into(),
        key: args.key.as_deref().map(Into::into),
        balance: args.balance.or(scenario.balance()).unwrap_or(usual.balance),
        prices: args.price.list,
        video_bytes: args.video_bytes.clone().or(scenario.video_bytes()).unwrap_or(usual.video_bytes),
        fail_rate: args.fail_rate,
        echo_headers: args.echo_headers,
        scenario,
        ..usual
    };
    let clock = Clock::real(Stamp::BIRTH, args.time_scale);
    let simulator = Simulator::new(settings, Ledger::temporary()?, clock, wall_time())?;
    if let Some(sheet) = &args.expect {
        expect(&simulator, sheet, &args.sheet)?;
    }
    let mut signals = Signals::listen()?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr()?;
    writeln!(
        screen,
        "Simulating on http://{address}; the judge is at http://{address}/judge. Ctrl-C ends it."
    )?;
    let simulator = if args.call_any_host { simulator.calling(Hosts::new(None, true)) } else { simulator };
    let server = if args.fetch_images {
        // As for the API, this machine is allowed to whoever is on it.
        let api = format!("http://127.0.0.1:{}", address.port()).parse()?;
        let hosts = Hosts::new(Some(&api), false);
        simulator.clone().fetching_images(hosts.client(Patience::default()).context("cannot set up HTTPS")?)
    } else {
        simulator.clone()
    };
    serve(server, listener, async move {
        signals.next().await;
    })
    .await?;
    writeln!(screen, "{}", simulator.verdict()?)?;
    Ok(Exit::Succeeded)
}

/// Tells the judge what the sheet asks for. Its bad rows ask for nothing.
fn expect(simulator: &Simulator, sheet: &Path, args: &SheetArgs) -> anyhow::Result<()> {
    let source = Source::new(sheet.to_owned(), args)?;
    let reader = source.open(&args.options())?;
    simulator.expect(|asked| {
        for record in reader {
            let Ok(entry) = record?.entry else { continue };
            for index in 0..entry.samples.get() {
                asked.add(request_hash(&entry.generation.clone().sample(index)))?;
            }
        }
        anyhow::Ok(())
    })
}
