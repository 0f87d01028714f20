//! `verify`: its arguments. It hashes again what is at a place, and says what is not whole.

use std::io::Write;
use std::num::NonZeroUsize;
use std::thread;

use serde::Serialize;

use super::UsageError;
use super::exit::Exit;
use crate::download::{Destination, Finding, Place, PlaceError, SUMS, Verified, verify};
use crate::harmless::{self, Harmless};
use crate::report::wording::{Count, Of, command_line};
use crate::report::{Meter, Screen};

/// Hashes videos again and says which are damaged, missing or not listed.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Reads the file SHA256SUMS, which downloads keep beside the videos; in a folder,
sha256sum -c SHA256SUMS does the same. Changes nothing and needs no state file.
To fetch what is not whole: batchveo download SHEET --to DEST --check
Videos in a bucket are read whole: that may cost what their transfer costs.

Examples:
  batchveo verify prompts.videos
  batchveo verify s3://bucket/prefix      credentials from AWS_… variables
  batchveo verify prompts.videos --json | jq -r '.damaged[]'

Exit codes:
  0 every file listed is whole, 1 some are damaged, missing or unreadable,
  2 usage, or there is no list to read")]
pub struct VerifyArgs {
    /// The folder, or s3://bucket/prefix
    #[arg(value_name = "DEST")]
    pub place: String,
    /// How many files are read at once [default: as many as processors, 8 at most]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Files read at once, however many processors there are, unless more are asked for.
const MOST_JOBS: usize = 8;

/// What is told to programs.
#[derive(Debug, Default, Serialize)]
struct Report {
    place: String,
    /// Files listed.
    listed: u64,
    /// Of them, those that are whole.
    whole: u64,
    damaged: Vec<String>,
    missing: Vec<String>,
    unreadable: Vec<String>,
    unlisted: Vec<String>,
}

impl Report {
    fn put(&mut self, finding: Finding) {
        let (list, path) = match finding {
            Finding::Damaged(path) => (&mut self.damaged, path),
            Finding::Missing(path) => (&mut self.missing, path),
            Finding::Unreadable { path, .. } => (&mut self.unreadable, path),
            Finding::Unlisted(path) => (&mut self.unlisted, path),
        };
        list.push(path);
    }
}

/// Tells what is not whole.
///
/// # Errors
///
/// There is no such place, no list, or it cannot be read.
pub fn perform(args: &VerifyArgs, screen: &Screen, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    let unusable = |error: PlaceError| UsageError(error.to_string());
    if let Destination::Folder(folder) = args.place.parse().map_err(unusable)?
        && !folder.is_dir()
    {
        return Err(UsageError(format!("{}: there is no such folder", args.place)).into());
    }
    let place = Place::open(&args.place).map_err(unusable)?;
    let jobs = args.jobs.unwrap_or_else(|| {
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        processors.min(NonZeroUsize::new(MOST_JOBS).unwrap_or(NonZeroUsize::MIN))
    });
    let meter = Meter::new(screen, "verified");
    let mut report = Report { place: place.address().to_owned(), ..Report::default() };
    let mut written = Ok(());
    let found = |finding: Finding| {
        if args.json {
            report.put(finding);
        } else if written.is_ok() {
            written = tell(&finding, &mut Harmless(&mut *stdout));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let verified = runtime.block_on(verify(&place, jobs, found, |done, of| meter.set(done, of)));
    let verified = verified.map_err(unusable)?;
    drop(meter);
    written?;
    let Some(verified) = verified else {
        let told = format!(
            "{} holds no {SUMS}: nothing was downloaded there, or by another program",
            place.address()
        );
        return Err(UsageError(told).into());
    };
    if args.json {
        (report.listed, report.whole) = (verified.listed, verified.whole);
        writeln!(stdout, "{}", harmless::json(&report)?)?;
    } else {
        writeln!(Harmless(stdout), "{}: {}", place.address(), summary(verified))?;
    }
    if !verified.is_whole() {
        let sheet = sheet_of(&args.place);
        let again = command_line(&["batchveo", "download", &sheet, "--to", &args.place, "--check"]);
        writeln!(screen.notes(), "What is damaged or missing is fetched again by: {again}")?;
    }
    Ok(if verified.is_whole() { Exit::Succeeded } else { Exit::Unsuccessful })
}

/// The sheet whose videos these probably are, or a word for it.
fn sheet_of(place: &str) -> String {
    let beside = |place: &str| {
        let stem = place.trim_end_matches('/').strip_suffix(".videos")?;
        let names = ["csv", "tsv", "jsonl", "json", "txt", "xlsx"].map(|kind| format!("{stem}.{kind}"));
        names.into_iter().find(|name| std::path::Path::new(name).is_file())
    };
    beside(place).unwrap_or_else(|| "SHEET".to_owned())
}

fn tell(finding: &Finding, out: &mut dyn Write) -> std::io::Result<()> {
    match finding {
        Finding::Damaged(path) => writeln!(out, "damaged     {path}"),
        Finding::Missing(path) => writeln!(out, "missing     {path}"),
        Finding::Unreadable { path, why } => writeln!(out, "unreadable  {path}: {why}"),
        Finding::Unlisted(path) => writeln!(out, "not listed  {path}"),
    }
}

/// A line without its end.
fn summary(verified: Verified) -> String {
    let Verified { listed, whole, unlisted } = verified;
    let files = Of(listed, "file");
    let rest = if unlisted > 0 { format!("; {} not listed", Count(unlisted)) } else { String::new() };
    if listed == whole {
        format!("{files} listed, every one whole{rest}")
    } else {
        format!("{files} listed, {} whole, {} not{rest}", Count(whole), Count(listed - whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_at_the_end() {
        let verified = |listed, whole, unlisted| summary(Verified { listed, whole, unlisted });
        assert_eq!(verified(1, 1, 0), "1 file listed, every one whole");
        assert_eq!(verified(1_649, 1_640, 2), "1,649 files listed, 1,640 whole, 9 not; 2 not listed");
    }
}
