//! How a run stands, in clauses that the bar and the plain lines share.
//!
//! Each clause fits 60 columns up to a million samples, so that a bar of several short lines never
//! wraps on a narrow terminal.

use std::fmt::Write as _;

use super::estimate::Outlook;
use super::wording::{About, Bytes, Count, Money, Span};
use crate::event::{Downloads, Progress};
use crate::job::Status;
use crate::schedule::Awaited;

/// Statuses a person means by `failed` while a run goes on; the summary tells them apart.
const FAILED: [Status; 4] = [Status::Failed, Status::Rejected, Status::TimedOut, Status::Lost];

/// What has come of the samples: `700 done, 12 failed, 937 in flight`, or before anything has
/// ended when the first videos are expected.
#[must_use]
pub(super) fn standing(progress: &Progress, outlook: &Outlook) -> String {
    if progress.ended == 0
        && let Some(clause) = before_the_first(progress, outlook)
    {
        return clause;
    }
    let mut clause = format!("{} done", Count(progress.tally.count(Status::Succeeded)));
    let failed = FAILED.iter().map(|status| progress.tally.count(*status)).sum();
    let in_flight = u64::from(progress.running) + u64::from(progress.submitting);
    let unknown = progress.tally.count(Status::Unknown);
    for (count, word) in [(failed, "failed"), (unknown, "unknown")] {
        if count > 0 {
            let _ = write!(clause, ", {} {word}", Count(count));
        }
    }
    let _ = write!(clause, ", {} in flight", Count(in_flight));
    clause
}

fn before_the_first(progress: &Progress, outlook: &Outlook) -> Option<String> {
    let tasks = match (progress.accepted, progress.running) {
        (0, 0) if progress.buying => return Some("submitting the first samples".to_owned()),
        (0, 0) => return None,
        (0, running) => format!("{} watched again", Count(running.into())),
        (accepted, _) => format!("{} accepted", Count(accepted)),
    };
    Some(match outlook.first_video(progress) {
        Some(wait) if !wait.is_zero() => format!("{tasks}, first videos expected in {}", About(wait)),
        Some(_) => format!("{tasks}, first videos expected any moment"),
        None => tasks,
    })
}

/// How downloads stand: `650 saved (1.65 GB), 8 at 12.0 MB/s, 50 waiting`.
#[must_use]
pub(super) fn downloads(downloads: &Downloads) -> String {
    let mut clause = format!("{} saved ({})", Count(downloads.saved), Bytes(downloads.bytes));
    if downloads.paused {
        clause.push_str(", paused");
    } else if downloads.active > 0 {
        let (active, pace) = (Count(downloads.active.into()), Bytes(downloads.bytes_per_second));
        let _ = write!(clause, ", {active} at {pace}/s");
    }
    for (count, word) in [(downloads.waiting, "waiting"), (downloads.failed, "not had")] {
        if count > 0 {
            let _ = write!(clause, ", {} {word}", Count(count));
        }
    }
    clause
}

/// What it takes: `8,912 requests/min, $140.20 spent, about 2 m 10 s left`.
#[must_use]
pub(super) fn pace(progress: &Progress, outlook: &Outlook) -> String {
    let requests = Count(progress.requests_last_minute.into());
    let mut clause = format!("{requests} requests/min, {} spent", Money(progress.spent));
    let left = outlook.left(progress);
    if let Some(Awaited { doubts, until }) = progress.awaited {
        let (wait, doubts) = (Span(until.since(progress.now)), Count(doubts.into()));
        let _ = write!(clause, ", up to {wait} for {doubts} in doubt");
    } else if left.is_zero() {
        clause.push_str(", nearly done");
    } else {
        let _ = write!(clause, ", {} left", About(left));
    }
    clause
}
