//! `status`: its arguments. It reads the state file, also while a run goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::exit::Exit;
use super::paths::locate;
use crate::job::{Limits, Stamp, Status, Usd};
use crate::report::wording::{About, Count, Money, Of};
use crate::report::{Counts, Pace, Work, estimate};
use crate::store::{Selection, Store};

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

/// How far back the pace is measured.
const PACE_OVER: Duration = Duration::from_mins(5);

/// How a run stands.
#[derive(Debug, Serialize)]
struct Standing {
    state: PathBuf,
    samples: u64,
    #[serde(flatten)]
    counts: Counts,
    /// Submissions of unknown fate, or not answered yet.
    in_doubt: u64,
    cost_usd: Usd,
    /// Samples that ended in the last five minutes of the run's clock, a minute.
    ended_per_minute: f64,
    /// How long what is pending takes at this pace, or at the vendor's before there is one.
    estimated_seconds: u64,
}

/// Tells how a run stands.
///
/// # Errors
///
/// There is no such run, or its state file cannot be read.
pub fn perform(args: &StatusArgs, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let state = locate(args.run.as_deref(), Path::new("."))?;
    let standing = standing(&Store::read_only(&state)?)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *stdout, &standing)?;
        writeln!(stdout)?;
    } else {
        tell(&standing, stdout)?;
    }
    Ok(Exit::Succeeded)
}

#[expect(clippy::cast_precision_loss, reason = "a pace for a person")]
fn standing(store: &Store) -> anyhow::Result<Standing> {
    let tally = store.tally(&Selection::default())?;
    let now = store.last_stamp()?;
    let over = PACE_OVER.min(now.since(Stamp::BIRTH));
    let since = Stamp::from(now.since(Stamp::BIRTH).saturating_sub(over));
    let ended = store.ended_since(since)? as f64;
    let per_second = if over.is_zero() { 0.0 } else { ended / over.as_secs_f64() };
    let work = Work { waiting: tally.count(Status::Pending), in_flight: 0 };
    let pace = Pace { measured: (per_second > 0.0).then_some(per_second), ..Pace::VENDOR };
    Ok(Standing {
        state: store.path().to_owned(),
        samples: tally.total(),
        counts: Counts(tally),
        in_doubt: store.in_doubt()?,
        cost_usd: store.spending()?,
        ended_per_minute: (per_second * 600.0).round() / 10.0,
        estimated_seconds: estimate(work, Limits::DOCUMENTED, pace).as_secs(),
    })
}

fn tell(standing: &Standing, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}: {}", standing.state.display(), Of(standing.samples, "sample"))?;
    for status in Status::ALL {
        let count = standing.counts.0.count(status);
        if count > 0 {
            writeln!(out, "  {status:<10} {:>9}", Count(count))?;
        }
    }
    write!(out, "{} at list price", Money(standing.cost_usd))?;
    if standing.in_doubt > 0 {
        write!(out, ", {} in doubt or not answered yet", Of(standing.in_doubt, "submission"))?;
    }
    writeln!(out)?;
    if standing.counts.0.count(Status::Pending) > 0 {
        let left = About(Duration::from_secs(standing.estimated_seconds));
        writeln!(out, "{} ended a minute; {left} left while it runs", standing.ended_per_minute)?;
    }
    Ok(())
}
