//! `status`: its arguments. It reads the state file, also while a run goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::exit::Exit;
use super::paths::{about_state, locate};
use crate::clock::wall_time;
use crate::harmless::{self, Harmless};
use crate::job::{Limits, Stamp, Status, UnixMillis, Usd};
use crate::report::wording::{About, Bytes, Count, Money, Of, command_line};
use crate::report::{Counts, Pace, Work, estimate};
use crate::store::{DestinationCount, Selection, Store, UnsavedLinks};

/// Tells how a run stands, also while it goes on.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo status                                    the only run in this folder
  batchveo status prompts.csv
  batchveo status prompts.csv.simulated.batchveo.db  a rehearsal
  watch -n 5 batchveo status prompts.csv             beside a run
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
    /// Those of a run that goes on or was killed, that have no answer.
    unanswered: u64,
    doubts: Doubtful,
    cost_usd: Usd,
    /// What was downloaded to where.
    downloads: Vec<DestinationTold>,
    links: LinksTold,
    /// Samples that ended in the last five minutes of the run's clock, a minute.
    ended_per_minute: f64,
    /// How long what is pending takes at this pace, or at the vendor's before there is one.
    estimated_seconds: u64,
}

/// Videos at one destination.
#[derive(Debug, Serialize)]
struct DestinationTold {
    destination: String,
    files: u64,
    bytes: u64,
    /// Those that could not be had when it was last tried.
    failed: u64,
}

/// Links to videos that were downloaded to nowhere.
#[derive(Debug, Serialize)]
struct LinksTold {
    not_downloaded: u64,
    /// Those that pass 24 hours within six, or have.
    ending: u64,
    /// When the oldest of them was made.
    oldest: Option<String>,
}

impl DestinationTold {
    fn of(counts: DestinationCount) -> Self {
        let DestinationCount { address, files, bytes, failed } = counts;
        Self { destination: address, files, bytes, failed }
    }
}

/// Samples of the sheet that are unknown.
#[derive(Debug, Serialize)]
struct Doubtful {
    count: u64,
    /// What they cost if all of them were accepted.
    cost_usd: Usd,
    /// When the oldest was submitted.
    oldest: Option<String>,
    /// When the newest was submitted.
    newest: Option<String>,
}

/// Tells how a run stands.
///
/// # Errors
///
/// There is no such run, or its state file cannot be read.
pub fn perform(args: &StatusArgs, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let state = locate(args.run.as_deref(), Path::new("."))?;
    let standing = Store::read_only(&state).map_err(anyhow::Error::from).and_then(|store| standing(&store));
    let standing = standing.map_err(|error| about_state(error, &state))?;
    if args.json {
        writeln!(stdout, "{}", harmless::json(&standing)?)?;
    } else {
        tell(&standing, &mut Harmless(stdout))?;
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
    let doubts = store.doubts(0)?;
    let links = match store.base_url()? {
        Some(_) => store.unsaved_links(wall_time())?,
        // A rehearsal's lead nowhere.
        None => UnsavedLinks::default(),
    };
    Ok(Standing {
        state: store.path().to_owned(),
        samples: tally.total(),
        counts: Counts(tally),
        in_doubt: store.in_doubt()?,
        unanswered: store.unanswered()?,
        doubts: Doubtful {
            count: doubts.count,
            cost_usd: doubts.cost,
            oldest: doubts.oldest.map(UnixMillis::to_rfc3339),
            newest: doubts.newest.map(UnixMillis::to_rfc3339),
        },
        cost_usd: store.spending()?,
        downloads: store.destinations()?.into_iter().map(DestinationTold::of).collect(),
        links: LinksTold {
            not_downloaded: links.samples,
            ending: links.ending,
            oldest: links.oldest.map(UnixMillis::to_rfc3339),
        },
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
    if standing.unanswered > 0 {
        write!(out, ", {} not answered yet", Of(standing.unanswered, "submission"))?;
    }
    writeln!(out)?;
    let doubts = &standing.doubts;
    if doubts.count > 0 {
        let samples = Of(doubts.count, "sample");
        write!(out, "{samples} in doubt may have cost {} of it: submitted ", Money(doubts.cost_usd))?;
        match (&doubts.oldest, &doubts.newest) {
            (Some(oldest), Some(newest)) if oldest != newest => writeln!(out, "{oldest} to {newest}")?,
            (oldest, _) => writeln!(out, "{}", oldest.as_deref().unwrap_or("long ago"))?,
        }
        writeln!(out, "  run with --retry unknown buys them again, perhaps paying twice")?;
    }
    for DestinationTold { destination, files, bytes, failed } in &standing.downloads {
        write!(out, "{} ({}) in {destination}", Of(*files, "video"), Bytes(*bytes))?;
        if *failed > 0 {
            write!(out, "; {} could not be had", Count(*failed))?;
        }
        writeln!(out)?;
    }
    let links = &standing.links;
    if links.ending > 0 {
        writeln!(out, "{} not downloaded: links last 24 hours by one of the", Of(links.ending, "video"))?;
        writeln!(out, "  vendor's pages (15 days by another), and that is over within 6 hours or")?;
        let state = standing.state.display().to_string();
        writeln!(out, "  was: {}", command_line(&["batchveo", "download", &state]))?;
    }
    if standing.counts.0.count(Status::Pending) > 0 {
        let left = About(Duration::from_secs(standing.estimated_seconds));
        writeln!(out, "{} ended a minute; {left} left while it runs", standing.ended_per_minute)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Attempt, Failure, FailureKind, Outcome, SampleId};
    use crate::manifest::{Format, Options, Reader};
    use crate::schedule::{Change, Transition};
    use crate::store::{Durability, ImportOptions, Owner};

    #[test]
    fn videos_that_nobody_has_are_told_while_their_links_may_last() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::Api { base_url: "https://api.example", key: &|_| [0; 32] };
        let now = wall_time();
        let mut store = Store::open(&folder.path().join("s.db"), &owner, Durability::Rehearsal, now).unwrap();
        let sheet = Box::new("prompt\na\n".as_bytes());
        let sheet = Reader::new("s", sheet, Format::Csv, &Options::default()).unwrap();
        assert!(store.import(sheet, &ImportOptions::default()).unwrap().applied);
        let mut made = |hours: i64| {
            let completed = UnixMillis(now.0 - hours * 3_600_000);
            let task = crate::job::TaskId::new("t").unwrap();
            let urls = vec!["u".to_owned()];
            let video = crate::job::Video { urls, created: None, completed: Some(completed) };
            let turn = |transition| Change { sample: SampleId(1), at: Stamp::BIRTH, transition };
            let accepted = Transition::Accepted { task, attempt: Attempt(1), cost: Usd::ZERO };
            let ended =
                Transition::Ended { outcome: Outcome::Succeeded(video), attempts: 1, cost: Usd::ZERO };
            store.commit(&[turn(Transition::Intended(Attempt(1))), turn(accepted), turn(ended)]).unwrap();
            let mut text = Vec::new();
            tell(&standing(&store).unwrap(), &mut text).unwrap();
            (String::from_utf8(text).unwrap(), serde_json::to_value(standing(&store).unwrap()).unwrap())
        };
        let (text, json) = made(19);
        assert!(text.contains("1 video not downloaded") && text.contains("batchveo download "), "{text}");
        assert_eq!((&json["links"]["not_downloaded"], &json["links"]["ending"]), (&1.into(), &1.into()));
    }

    #[test]
    fn doubts_are_told_with_what_they_may_cost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let owner = Owner::Simulator { seed: 0 };
        let mut store = Store::open(&path, &owner, Durability::Rehearsal, UnixMillis(0)).unwrap();
        let sheet = Box::new("prompt\na\nb\nc\n".as_bytes());
        let sheet = Reader::new("s", sheet, Format::Csv, &Options::default()).unwrap();
        assert!(store.import(sheet, &ImportOptions::default()).unwrap().applied);
        let told = |store: &Store| {
            let mut text = Vec::new();
            tell(&standing(store).unwrap(), &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert!(!told(&store).contains("doubt"));
        let mut commit = |sample, at, transition| {
            store
                .commit(&[Change { sample: SampleId(sample), at: Stamp::from_millis(at), transition }])
                .unwrap();
        };
        for sample in [1, 2, 3] {
            commit(sample, 1_000 * u64::try_from(sample).unwrap(), Transition::Intended(Attempt(1)));
        }
        for sample in [1, 2] {
            let outcome = Outcome::Unknown(Failure::new(FailureKind::Doubt, None, "no answer"));
            commit(sample, 9_000, Transition::Ended { outcome, attempts: 1, cost: Usd::from_cents(150) });
        }
        let text = told(&store);
        for words in [
            "$3.00 at list price, 1 submission not answered yet\n",
            "2 samples in doubt may have cost $3.00 of it: submitted 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z\n",
            "--retry unknown",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        let json = serde_json::to_value(standing(&store).unwrap()).unwrap();
        assert_eq!((&json["in_doubt"], &json["unanswered"]), (&3.into(), &1.into()));
        let doubts = &json["doubts"];
        assert_eq!((&doubts["count"], &doubts["cost_usd"]), (&2.into(), &3.0.into()));
        assert_eq!(
            (&doubts["oldest"], &doubts["newest"]),
            (&"1970-01-01T00:00:01Z".into(), &"1970-01-01T00:00:02Z".into())
        );
    }
}
