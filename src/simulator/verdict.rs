//! What the judge has to say, for programs and for people.

use std::fmt;

use serde::Serialize;

use super::callbacks::CallbackCounts;
use super::judge::{Counts, Injected};
use super::shelf::VideoCounts;
use crate::job::Usd;

/// What "bought twice" was measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedBasis {
    /// The samples that were told to the ledger.
    Samples,
    /// Nothing was told: every distinct request counts as asked for once.
    EachRequestOnce,
}

/// The judge's verdict.
///
/// Requests, the fullest window and the most alive are of this process; what was accepted, failed
/// and spent is of the whole ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Requests of every kind.
    pub requests: u64,
    /// The same, by kind and by answer.
    #[serde(flatten)]
    pub counts: Counts,
    /// Most requests in any 60 seconds.
    pub fullest_window: u64,
    /// Most that are allowed.
    pub window_limit: u64,
    /// Most tasks alive at once.
    pub most_alive: u64,
    /// Most that are allowed.
    pub alive_limit: u64,
    /// Submissions accepted.
    pub accepted: u64,
    /// Those whose task fails.
    pub failed: u64,
    /// Those whose task makes a video: accepted minus failed.
    pub delivered: u64,
    /// Videos bought beyond those asked for.
    pub bought_twice: u64,
    /// What counts as asked for.
    pub asked_basis: AskedBasis,
    /// Charged for what was accepted, in dollars.
    pub spent: Usd,
    /// What the account has left, in dollars.
    pub balance_left: Usd,
    /// Requests of this process for each submission accepted; `None` without one.
    pub requests_per_task: Option<f64>,
    /// What was asked for of the videos, in this process.
    pub videos: VideoCounts,
    /// What became of callbacks, in this process.
    pub callbacks: CallbackCounts,
    /// Whether no documented limit was ever broken and nothing bought twice. What a scenario did is
    /// not held against anyone.
    pub held: bool,
}

impl fmt::Display for Verdict {
    /// Six plain lines, one more each if a scenario did anything, if videos were asked for and if anybody
    /// was to be called back, without an end of line at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { submissions, polls, balances, throttled_429, injected, .. } = self.counts;
        let basis = match self.asked_basis {
            AskedBasis::Samples => "beyond the samples asked for",
            AskedBasis::EachRequestOnce => "if each request is wanted once",
        };
        let verdict = if self.held { "every limit held" } else { "NOT HELD" };
        let each = self.requests_per_task.map_or_else(String::new, |each| format!(", {each:.1} a task"));
        writeln!(f, "judge: {verdict}")?;
        writeln!(
            f,
            "requests: {} ({submissions} submits, {polls} polls, {balances} balances), {throttled_429} answered 429{each}",
            self.requests
        )?;
        if injected.total() > 0 {
            write_folded(f, "injected by the scenario:", &injected.to_string())?;
            writeln!(f)?;
        }
        writeln!(f, "fullest minute: {} of {} requests", self.fullest_window, self.window_limit)?;
        writeln!(f, "most tasks alive: {} of {}", self.most_alive, self.alive_limit)?;
        writeln!(
            f,
            "accepted: {}, of which {} failed; bought twice: {} ({basis})",
            self.accepted, self.failed, self.bought_twice
        )?;
        write!(f, "simulated money: ${} spent, ${} left", self.spent, self.balance_left)?;
        if self.videos.requests > 0 {
            write!(f, "\nvideos: {}", self.videos)?;
        }
        if self.callbacks.due > 0 {
            writeln!(f)?;
            write_folded(f, "callbacks:", &self.callbacks.to_string())?;
        }
        Ok(())
    }
}

/// How many requests each task took; `None` without a task.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^53")]
pub(super) fn per_task(requests: u64, accepted: u64) -> Option<f64> {
    (accepted > 0).then(|| requests as f64 / accepted as f64)
}

/// A line of `head` and `list`, on as many lines as it takes to stay within 80 columns.
fn write_folded(f: &mut fmt::Formatter<'_>, head: &str, list: &str) -> fmt::Result {
    write!(f, "{head}")?;
    let mut column = head.len();
    for item in list.split_inclusive(", ").map(str::trim_end) {
        if column + item.len() >= 80 {
            write!(f, "\n ")?;
            column = 1;
        }
        write!(f, " {item}")?;
        column += 1 + item.len();
    }
    Ok(())
}

impl fmt::Display for Injected {
    /// What there was of each kind, such as `12 answered 429, 3 connections dropped`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.throttled_429, "answered 429"),
            (self.unavailable_503, "answered 503"),
            (self.unauthorized_401, "answered 401"),
            (self.not_found_404, "answered 404"),
            (self.errors, "answered otherwise"),
            (self.redirects, "redirected"),
            (self.damaged, "answers damaged"),
            (self.dropped, "connections dropped"),
            (self.slow, "answers delayed"),
            (self.unconnected, "connections not made"),
            (self.tasks, "tasks spoilt"),
        ];
        let mut separator = "";
        for (count, kind) in kinds.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {kind}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_six_lines() {
        let verdict = Verdict {
            requests: 12,
            counts: Counts { submissions: 3, polls: 8, balances: 1, ..Counts::default() },
            fullest_window: 12,
            window_limit: 10_000,
            most_alive: 3,
            alive_limit: 1_000,
            accepted: 3,
            failed: 1,
            delivered: 2,
            bought_twice: 0,
            asked_basis: AskedBasis::Samples,
            spent: Usd::from_cents(60),
            balance_left: Usd::from_cents(40),
            requests_per_task: Some(4.0),
            videos: VideoCounts::default(),
            callbacks: CallbackCounts::default(),
            held: true,
        };
        insta::assert_snapshot!(verdict, @r"
        judge: every limit held
        requests: 12 (3 submits, 8 polls, 1 balances), 0 answered 429, 4.0 a task
        fullest minute: 12 of 10000 requests
        most tasks alive: 3 of 1000
        accepted: 3, of which 1 failed; bought twice: 0 (beyond the samples asked for)
        simulated money: $0.60 spent, $0.40 left
        ");
        let injected = Injected { throttled_429: 2, tasks: 1, ..Injected::default() };
        let spoilt = Verdict { counts: Counts { injected, ..verdict.counts }, ..verdict.clone() };
        let line = "injected by the scenario: 2 answered 429, 1 tasks spoilt";
        assert_eq!(spoilt.to_string().lines().nth(2), Some(line));
        let injected =
            Injected { not_found_404: 105, errors: 7, damaged: 2, dropped: 1, slow: 2, ..injected };
        let much = Verdict { counts: Counts { injected, ..verdict.counts }, ..verdict.clone() }.to_string();
        assert!(much.lines().all(|line| line.len() <= 80) && much.contains(",\n  "), "{much}");
        let videos = VideoCounts { requests: 3, bytes_sent: 500, whole: 1, ..VideoCounts::default() };
        let shown = Verdict { videos, ..verdict.clone() }.to_string();
        assert!(
            shown.ends_with("left\nvideos: 3 asked for, 1 sent whole (one 0 times at most), 500 bytes sent")
        );
        let callbacks = CallbackCounts { due: 120, delivered: 131, acknowledged: 100, ..verdict.callbacks };
        let callbacks = CallbackCounts { refused: 31, retried: 11, lost: 24, repeated: 18, ..callbacks };
        let shown = Verdict { callbacks, ..verdict.clone() }.to_string();
        assert!(
            shown.ends_with(
                "left\ncallbacks: 120 due, 131 sent, 100 acknowledged, 31 refused, 11 sent again,\n  24 lost by the \
                 scenario, 18 sent twice"
            ),
            "{shown}"
        );
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["throttled_429"], 0);
        assert_eq!(json["asked_basis"], "samples");
        assert_eq!(json["spent"], 0.6);
    }
}
