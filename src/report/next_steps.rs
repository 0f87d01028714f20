//! What is left to do when a run has ended, each with the command that does it.

use super::digest::Digest;
use super::summary::{Facts, NextStep};
use super::wording::{Count, Of, command_line};
use crate::job::{FailureKind, Status};
use crate::schedule::Halt;

/// What to do next, the most useful first.
pub(super) fn next_steps(digest: &Digest, in_flight: u64, facts: &Facts) -> Vec<NextStep> {
    let count = |status| digest.last.tally.count(status);
    let mut steps = Vec::new();
    let mut step = |what: String, retry: Option<&str>| steps.push(again(facts, what, retry));
    let pending = count(Status::Pending);
    let (timed_out, invalid) = (count(Status::TimedOut), count(Status::Invalid));
    if pending > 0 {
        step(go_on(digest.halt.as_ref(), pending, in_flight), None);
    } else if timed_out > 0 {
        step(format!("ask once more for {}, already paid for", Of(timed_out, "late video")), None);
    } else if count(Status::Unknown) > 0 && digest.awaited_until.is_some_and(|until| digest.last.now < until)
    {
        let doubts = Of(count(Status::Unknown), "doubtful sample");
        step(format!("wait on for {doubts}, which a callback may settle"), None);
    }
    let left = facts.delivered.as_ref().map_or(facts.links.samples, |delivered| delivered.left);
    if left > 0 && !facts.simulated {
        let what = format!("download {}", Of(left, "video"));
        steps.push(NextStep { what, command: command_line(&facts.fetch) });
    }
    let mut step = |what: String, retry: Option<&str>| steps.push(again(facts, what, retry));
    let edited = count(Status::Rejected) + invalid;
    if edited > 0 {
        step(format!("mend in the sheet what {} asked for, then", Of(edited, "refused sample")), None);
    }
    let failed = count(Status::Failed);
    if failed > 0 {
        let content = facts.failures.get(&FailureKind::Content).copied().unwrap_or(0);
        let advice = if content > 0 { "; refused content needs another prompt first" } else { "" };
        step(format!("buy {} again{advice}", Of(failed, "failed sample")), Some("failed"));
    }
    for (status, noun) in [(Status::Lost, "lost sample"), (Status::Unknown, "doubtful sample")] {
        let samples = count(status);
        if samples > 0 {
            let old = if status == Status::Unknown { " once old enough" } else { "" };
            let what = format!("buy {} again{old}, perhaps paying twice", Of(samples, noun));
            step(what, Some(status.as_str()));
        }
    }
    steps
}

/// The command of this run again, perhaps to put samples back.
fn again(facts: &Facts, what: String, retry: Option<&str>) -> NextStep {
    let retry = retry.map(|status| ["--retry", status]).into_iter().flatten();
    let words: Vec<&str> = facts.resume.iter().map(String::as_str).chain(retry).collect();
    NextStep { what, command: command_line(&words) }
}

/// What to do about samples that are left, given why they were.
pub(super) fn go_on(halt: Option<&Halt>, pending: u64, in_flight: u64) -> String {
    let first = match halt {
        None | Some(Halt::Interrupted | Halt::TimeUp) => "",
        Some(Halt::NoMoney(_)) => "add money to the account, then ",
        Some(Halt::KeyRefused(_)) => "set BATCHVEO_API_KEY to a valid key, then ",
        Some(Halt::Outage(_)) => "when the service is back, ",
        Some(Halt::TooManyFailures(_)) => "look at the failures, then ",
        Some(Halt::TasksVanish(_)) => "check that the key and the base URL are the same as before, then ",
        Some(Halt::NothingAccepted(_)) => "mend what the API refuses, then ",
        Some(Halt::CostCap(_)) => "raise --max-cost, then ",
        Some(Halt::Disk(_)) => "free the disk, then ",
        Some(Halt::CollectOnly) => "without --no-buy, ",
    };
    let left = format!("{first}go on with the {} left", Of(pending, "sample"));
    match in_flight {
        0 => left,
        _ => format!("{left}; {} already being made and paid for", Count(in_flight)),
    }
}
