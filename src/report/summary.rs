//! The end of a run: what came of it, what it cost, and what to do next.
//!
//! Built from a [`Digest`] of the run's events and the [`Facts`] only the caller knows. It is
//! printed for people ([`fmt::Display`]) and written for programs (`--summary`, as JSON); both say
//! the same.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::digest::{Counts, Digest};
use super::doubts::{BalanceSays, DoubtsTold};
use super::next_steps::next_steps;
use super::wording::{Bytes, Count, HaltReason, Money, Of, Span, called, halt_word};
use crate::event::Callbacks;
use crate::job::{FailureKind, Status, UnixMillis, Usd};
use crate::store::{Doubts, UnsavedLinks};

/// How long a link to a video lasts by the vendor's model page. Another of its pages says 24 hours.
const LINKS_LAST: Duration = Duration::from_hours(15 * 24);

/// What the caller knows about a run beside its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Samples that did not succeed, by what was the matter, of the whole state file.
    pub failures: BTreeMap<FailureKind, u64>,
    /// What is in doubt, of the whole state file.
    pub doubts: Doubts,
    /// Videos that were not downloaded to anywhere.
    pub links: UnsavedLinks,
    /// What is where videos were to be downloaded to, if they were.
    pub delivered: Option<Delivered>,
    /// The words of the command that downloads what is not.
    pub fetch: Vec<String>,
    /// The results file.
    pub results: PathBuf,
    /// The state file.
    pub state: PathBuf,
    /// The words of the command that goes on with this run, without any `--retry`, such as
    /// `batchveo run prompts.csv --map prompt=name`.
    pub resume: Vec<String>,
    /// Whether the run was simulated: nothing was paid, and the links lead nowhere.
    pub simulated: bool,
    /// What the process will exit with.
    pub exit_code: u8,
}

/// What there is of a run's videos at a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// Where.
    pub destination: String,
    /// Videos there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Samples whose videos are made and not all there.
    pub left: u64,
}

/// Why buying stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// A word: `interrupted`, `no_money`, `key_refused`, `outage`, `too_many_failures`,
    /// `tasks_vanish`, `nothing_accepted`, `max_cost`, `max_duration`, `disk` or `no_buy`.
    pub reason: &'static str,
    /// A clause for a person.
    pub message: String,
}

/// Something worth doing after the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextStep {
    /// What, and what for.
    pub what: String,
    /// The command that does it, quoted for a shell.
    pub command: String,
}

/// The end of a run. Counts are of the whole state file unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    samples: u64,
    counts: Counts,
    failures: BTreeMap<FailureKind, u64>,
    /// Tasks that are still being made.
    in_flight: u64,
    /// Videos made by this process.
    made_this_run: u64,
    elapsed_seconds: f64,
    #[serde(skip)]
    elapsed: Duration,
    /// Videos made by this process, a minute of the run's clock; absent for a run of no length.
    videos_per_minute: Option<f64>,
    requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    callbacks: Option<Callbacks>,
    cost_usd: Usd,
    cost_this_run_usd: Usd,
    balance_before_usd: Option<Usd>,
    balance_after_usd: Option<Usd>,
    in_doubt: Option<DoubtsTold>,
    stopped: Option<Stop>,
    results: PathBuf,
    state: PathBuf,
    downloads: Option<Delivered>,
    /// Samples made whose videos were not downloaded to anywhere.
    not_downloaded: u64,
    /// Of them, those whose links pass 24 hours within six, or have.
    links_ending: u64,
    links_expire_at: Option<String>,
    next: Vec<NextStep>,
    simulated: bool,
    exit_code: u8,
}

impl Summary {
    /// The summary of a run that is over.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a pace for a person")]
    pub fn new(digest: &Digest, facts: Facts) -> Self {
        let last = digest.last;
        let elapsed = last.now.since(last.started);
        let minutes = elapsed.as_secs_f64() / 60.0;
        let made = digest.made();
        let in_flight = u64::from(last.running) + u64::from(last.submitting);
        let expiry = facts.links.oldest.filter(|_| !facts.simulated).map(|first| {
            let lasts = i64::try_from(LINKS_LAST.as_millis()).unwrap_or(i64::MAX);
            UnixMillis(first.0.saturating_add(lasts)).to_rfc3339()
        });
        Self {
            samples: last.tally.total(),
            counts: Counts(last.tally),
            in_flight,
            made_this_run: made,
            elapsed_seconds: (elapsed.as_secs_f64() * 1e3).round() / 1e3,
            elapsed,
            videos_per_minute: (minutes > 0.0).then(|| (made as f64 / minutes * 10.0).round() / 10.0),
            requests: last.requests,
            callbacks: last.callbacks,
            cost_usd: last.spent,
            cost_this_run_usd: last.spent_now,
            balance_before_usd: digest.first_balance,
            balance_after_usd: digest.last_balance,
            in_doubt: DoubtsTold::new(
                &facts.doubts,
                BalanceSays::new(digest.first_balance, digest.last_balance, digest.bought_by_then),
            ),
            stopped: digest
                .halt
                .as_ref()
                .map(|halt| Stop { reason: halt_word(halt), message: HaltReason(halt).to_string() }),
            next: next_steps(digest, in_flight, &facts),
            failures: facts.failures,
            results: facts.results,
            state: facts.state,
            downloads: facts.delivered,
            not_downloaded: facts.links.samples,
            links_ending: facts.links.ending,
            links_expire_at: expiry,
            simulated: facts.simulated,
            exit_code: facts.exit_code,
        }
    }

    /// Samples whose videos were to be downloaded and are not all there.
    #[must_use]
    pub fn not_delivered(&self) -> u64 {
        self.downloads.as_ref().map_or(0, |delivered| delivered.left)
    }

    /// What the process should exit with, as the caller said.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_headline(f)?;
        self.write_counts(f)?;
        self.write_cost(f)?;
        if let Some(doubts) = &self.in_doubt {
            write!(f, "{doubts}")?;
        }
        writeln!(f, "Results   {}", self.results.display())?;
        writeln!(f, "State     {}", self.state.display())?;
        self.write_downloads(f)?;
        if let Some(callbacks) = &self.callbacks {
            for (place, line) in called(callbacks).iter().enumerate() {
                writeln!(f, "{:<9} {line}", if place == 0 { "Callbacks" } else { "" })?;
            }
        }
        if self.simulated {
            writeln!(f, "Links     lead nowhere: this was a rehearsal")?;
        } else if let Some(expiry) = &self.links_expire_at {
            self.write_links(f, expiry)?;
        }
        for (place, step) in self.next.iter().enumerate() {
            let label = if place == 0 { "Next" } else { "" };
            writeln!(f, "{label:<9} {}:", step.what)?;
            writeln!(f, "            {}", step.command)?;
        }
        Ok(())
    }
}

impl Summary {
    /// What is not downloaded, and until when it can be. The vendor's pages disagree.
    fn write_links(&self, f: &mut fmt::Formatter<'_>, expiry: &str) -> fmt::Result {
        let videos = Of(self.not_downloaded, "video");
        writeln!(f, "Links     to {videos} not downloaded expire from {expiry} on (15 days,")?;
        writeln!(f, "          says one of the vendor's pages; 24 hours, says another)")?;
        if self.links_ending > 0 {
            let ending = Count(self.links_ending);
            writeln!(f, "          {ending} of them pass 24 hours within 6 hours, or have: do it now")?;
        }
        Ok(())
    }

    fn write_downloads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Delivered { destination, files, bytes, left }) = &self.downloads else { return Ok(()) };
        writeln!(f, "Videos    {destination}")?;
        write!(f, "          {} there ({})", Of(*files, "file"), Bytes(*bytes))?;
        if *left > 0 {
            write!(f, ", {} not all there", Of(*left, "sample"))?;
        }
        writeln!(f)
    }

    fn write_headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(stop) = &self.stopped {
            writeln!(f, "Stopped: {}", stop.message)?;
        }
        let made = Count(self.counts.0.count(Status::Succeeded));
        let verb = if self.simulated { "simulated" } else { "made" };
        write!(f, "{made} of {} {verb}", Of(self.samples, "video"))?;
        if self.made_this_run < self.counts.0.count(Status::Succeeded) {
            write!(f, ", {} of them in this run", Count(self.made_this_run))?;
        }
        write!(f, ", in {}", Span(self.elapsed))?;
        match self.videos_per_minute {
            Some(pace) if self.made_this_run > 0 => writeln!(f, " ({pace:.1} a minute)"),
            Some(_) | None => writeln!(f),
        }
    }

    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for status in Status::ALL {
            let count = self.counts.0.count(status);
            if count > 0 {
                writeln!(f, "  {status:<10} {:>9}", Count(count))?;
            }
        }
        let kinds: Vec<String> = FailureKind::ALL
            .iter()
            .filter_map(|kind| self.failures.get(kind).map(|count| (kind, *count)))
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| format!("{kind} {}", Count(count)))
            .collect();
        if !kinds.is_empty() {
            writeln!(f, "  because of: {}", kinds.join(", "))?;
        }
        writeln!(f)
    }

    fn write_cost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cost      {}", Money(self.cost_usd))?;
        if self.cost_usd != self.cost_this_run_usd {
            write!(f, ", {} of it in this run", Money(self.cost_this_run_usd))?;
        }
        f.write_str(if self.simulated { ", simulated" } else { " at list price" })?;
        match (self.balance_before_usd, self.balance_after_usd) {
            (Some(before), Some(after)) => {
                writeln!(f, "\nBalance   from {} to {}", Money(before), Money(after))
            }
            (Some(before), None) => writeln!(f, "\nBalance   {} at the start", Money(before)),
            (None, _) => writeln!(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Progress;
    use crate::job::{Failure, Stamp, Tally};
    use crate::report::next_steps::go_on;
    use crate::report::script;
    use crate::schedule::Halt;
    use crate::store::Doubt;

    fn facts(failures: &[(FailureKind, u64)], exit_code: u8) -> Facts {
        Facts {
            failures: failures.iter().copied().collect(),
            doubts: Doubts::default(),
            links: UnsavedLinks { samples: 3, ending: 0, oldest: Some(script::BIRTH) },
            delivered: None,
            fetch: ["batchveo", "download", "prompts.csv"].map(str::to_owned).to_vec(),
            results: "prompts.results.csv".into(),
            state: "prompts.csv.batchveo.db".into(),
            resume: ["batchveo", "run", "prompts.csv"].map(str::to_owned).to_vec(),
            simulated: false,
            exit_code,
        }
    }

    fn digest(counts: &[(Status, u64)], halt: Option<Halt>) -> Digest {
        let mut tally = Tally::default();
        for (status, count) in counts {
            tally.set(*status, *count);
        }
        let last = Progress {
            now: Stamp::from_millis(258_200),
            tally,
            requests: 13_188,
            spent: Usd::from_cents(32_980),
            spent_now: Usd::from_cents(32_980),
            ..Progress::default()
        };
        Digest { last, halt, first_balance: Some(Usd::from_cents(124_000)), ..Digest::default() }
    }

    fn both(summary: &Summary) -> String {
        let json = serde_json::to_string_pretty(summary).unwrap();
        format!("{summary}\n{json}")
    }

    #[test]
    fn everything_succeeded() {
        let mut all = digest(&[(Status::Succeeded, 1_649)], None);
        all.last_balance = Some(Usd::from_cents(91_020));
        insta::assert_snapshot!(both(&Summary::new(&all, facts(&[], 0))));
    }

    #[test]
    fn some_did_not() {
        let counts = [
            (Status::Succeeded, 1_620),
            (Status::Failed, 12),
            (Status::Rejected, 5),
            (Status::TimedOut, 1),
            (Status::Lost, 2),
            (Status::Unknown, 8),
            (Status::Invalid, 1),
        ];
        let kinds = [(FailureKind::Content, 9), (FailureKind::Transient, 3), (FailureKind::Doubt, 8)];
        let mut some = digest(&counts, None);
        some.last_balance = Some(Usd::from_cents(91_120));
        some.bought_by_then = Usd::from_cents(32_820);
        let doubt = |line, id: Option<&str>, index| Doubt {
            line,
            id: id.map(str::to_owned),
            index,
            submitted: script::BIRTH,
            failure: Failure::new(FailureKind::Doubt, Some("timeout"), "no answer within 60 s"),
            cost: Usd::from_cents(20),
        };
        let doubts = Doubts {
            shown: vec![doubt(17, Some("row-16"), 0), doubt(40, None, 2)],
            count: 8,
            cost: Usd::from_cents(160),
            oldest: Some(script::BIRTH),
            newest: Some(script::BIRTH),
        };
        insta::assert_snapshot!(both(&Summary::new(&some, Facts { doubts, ..facts(&kinds, 1) })));
    }

    #[test]
    fn interrupted_in_a_second_run() {
        let counts = [(Status::Succeeded, 800), (Status::Pending, 849)];
        let mut stopped = digest(&counts, Some(Halt::Interrupted));
        stopped.before.set(Status::Succeeded, 300);
        stopped.last.running = 700;
        stopped.last.spent_now = Usd::from_cents(10_000);
        let mut facts = facts(&[], 130);
        facts.resume =
            ["batchveo", "run", "my prompts.csv", "--map", "prompt=name"].map(str::to_owned).to_vec();
        insta::assert_snapshot!(both(&Summary::new(&stopped, facts)));
    }

    #[test]
    fn a_wait_for_doubts_can_be_gone_on_with_while_they_may_be_settled() {
        let next = |until: u64, tried: &[(Status, u64)]| {
            let stopped = Digest {
                awaited_until: Some(Stamp::from_millis(until)),
                ..digest(tried, Some(Halt::Interrupted))
            };
            let steps = Summary::new(&stopped, facts(&[], 130)).next;
            steps
                .into_iter()
                .map(|NextStep { what, command }| format!("{what}: {command}"))
                .collect::<Vec<_>>()
        };
        let doubts = [(Status::Succeeded, 7), (Status::Unknown, 2)];
        let wait_on = "wait on for 2 doubtful samples, which a callback may settle: batchveo run prompts.csv";
        assert_eq!(next(258_201, &doubts)[0], wait_on);
        for (until, tried) in [(258_200, &doubts[..]), (258_201, &doubts[..1])] {
            assert!(!next(until, tried).iter().any(|step| step.contains("wait on")), "{until}");
        }
    }

    #[test]
    fn the_money_ran_out() {
        let mut digest = Digest::default();
        script::play(&mut digest);
        let kinds = [(FailureKind::Content, 1), (FailureKind::Input, 1), (FailureKind::Doubt, 1)];
        insta::assert_snapshot!(both(&Summary::new(&digest, facts(&kinds, 3))));
    }

    #[test]
    fn the_key_was_refused() {
        let failure = Failure::new(FailureKind::Key, Some("http_401"), "Invalid or missing API key");
        let mut refused = digest(&[(Status::Pending, 1_649)], Some(Halt::KeyRefused(failure)));
        refused.first_balance = None;
        refused.last = Progress {
            now: Stamp::from_millis(400),
            tally: refused.last.tally,
            requests: 1,
            ..Progress::default()
        };
        let facts = Facts { links: UnsavedLinks::default(), ..facts(&[], 3) };
        insta::assert_snapshot!(both(&Summary::new(&refused, facts)));
    }

    #[test]
    fn videos_that_are_not_there_and_links_that_end() {
        let delivered = Delivered { destination: "/films".into(), files: 7, bytes: 12_345_678, left: 2 };
        let links = UnsavedLinks { samples: 2, ending: 1, oldest: Some(script::BIRTH) };
        let facts = Facts { delivered: Some(delivered), links, ..facts(&[], 1) };
        insta::assert_snapshot!(both(&Summary::new(&digest(&[(Status::Succeeded, 9)], None), facts)));
    }

    #[test]
    fn a_rehearsal_says_so() {
        let facts = Facts { simulated: true, ..facts(&[], 0) };
        let text = Summary::new(&digest(&[(Status::Succeeded, 10)], None), facts).to_string();
        assert!(text.contains("10 of 10 videos simulated"), "{text}");
        assert!(text.contains("lead nowhere") && text.contains(", simulated"), "{text}");
        assert!(!text.contains("expire"), "{text}");
    }

    #[test]
    fn every_reason_to_stop_has_its_advice() {
        let failure = || Failure::new(FailureKind::Transient, None, "x");
        let halts = [
            Halt::Interrupted,
            Halt::NoMoney(failure()),
            Halt::KeyRefused(failure()),
            Halt::Outage(failure()),
            Halt::TooManyFailures(1),
            Halt::TasksVanish(failure()),
            Halt::NothingAccepted(failure()),
            Halt::CostCap(Usd::from_cents(10_000)),
            Halt::TimeUp,
            Halt::Disk("no space left on device".into()),
            Halt::CollectOnly,
        ];
        let advice: Vec<String> = halts
            .iter()
            .map(|halt| format!("{}: {}\n    {}", halt_word(halt), HaltReason(halt), go_on(Some(halt), 2, 1)))
            .collect();
        insta::assert_snapshot!(advice.join("\n"));
    }
}
