//! Progress as lines of text, for log files and pipes.
//!
//! A line at each turn of the run, and in between one every so often: [`Interval`] says how often,
//! in the run's own time, since this crate reads no other clock. No control codes.

use std::io::Write;
use std::num::NonZeroU32;
use std::time::Duration;

use super::estimate::Outlook;
use super::standing;
use super::wording::{Count, HaltReason, Of, Span, awaited, lost, uncalled};
use crate::clock::Clock;
use crate::event::{DownloadEvent, EventSink, Progress, RunEvent};
use crate::job::{Outcome, Stamp};
use crate::schedule::{Change, Transition};

/// How often a line is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// After this much of the run's time.
    Time(Duration),
    /// After this part of the samples has ended, in percent.
    Percent(NonZeroU32),
}

impl Interval {
    /// 30 s of real time on a clock that runs at a factor; 5 % of the samples in virtual time,
    /// where hours pass in a second.
    #[must_use]
    pub fn for_clock(clock: &Clock) -> Self {
        const FIVE: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
        match clock.factor() {
            Some(factor) => Self::Time(Duration::from_secs(30) * factor.get()),
            None => Self::Percent(FIVE),
        }
    }
}

/// Writes plain lines to `W`. A line that cannot be written is lost and the run goes on.
pub struct Plain<W> {
    out: W,
    interval: Interval,
    outlook: Outlook,
    /// When the last line was written, and how many samples had ended.
    last: (Stamp, u64),
    told: Told,
    accepted: bool,
    made: bool,
}

/// What was told since the last regular line: a service that refuses every second must not fill the
/// log.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    pause: bool,
    failed_download: bool,
}

impl<W: Write> Plain<W> {
    /// Lines to `out` for a run with `outlook`.
    #[must_use]
    pub const fn new(out: W, interval: Interval, outlook: Outlook) -> Self {
        let (last, told) = ((Stamp::BIRTH, 0), Told { pause: false, failed_download: false });
        Self { out, interval, outlook, last, told, accepted: false, made: false }
    }

    fn line(&mut self, progress: &Progress, text: &str) {
        // In one write, so that lines of other writers do not come between.
        let line = format!("[{}] {text}\n", Span(progress.now.since(progress.started)));
        let _ = self.out.write_all(line.as_bytes());
    }

    fn regular_line(&mut self, progress: &Progress) {
        self.last = (progress.now, progress.tally.ended());
        self.told = Told::default();
        let text = self.whole_standing(progress);
        let pace = standing::pace(progress, &self.outlook);
        let downloads = progress.downloads.as_ref().map(standing::downloads);
        let downloads = downloads.map(|downloads| format!("; {downloads}")).unwrap_or_default();
        self.line(progress, &format!("{text}, {pace}{downloads}"));
    }

    fn whole_standing(&self, progress: &Progress) -> String {
        let standing = standing::standing(progress, &self.outlook);
        format!("{} of {}: {standing}", Count(progress.tally.ended()), Count(self.outlook.wanted(progress)))
    }

    fn due(&self, progress: &Progress) -> bool {
        let (stamp, ended) = self.last;
        match self.interval {
            Interval::Time(span) => progress.now.since(stamp) >= span,
            Interval::Percent(percent) => {
                let step = self.outlook.wanted(progress) * u64::from(percent.get()) / 100;
                progress.tally.ended().saturating_sub(ended) >= step.max(1)
            }
        }
    }

    /// The turns that show in the figures rather than as an event of their own.
    fn tell_firsts(&mut self, progress: &Progress, made: bool) {
        if !self.accepted && progress.accepted > 0 {
            self.accepted = true;
            self.line(progress, "first sample accepted");
        }
        if !self.made && made {
            self.made = true;
            self.line(progress, "first video made");
        }
    }
}

const fn makes_a_video(change: &Change) -> bool {
    matches!(&change.transition, Transition::Ended { outcome: Outcome::Succeeded(_), .. })
}

impl<W: Write> EventSink for Plain<W> {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        self.outlook.notice(event, progress);
        match event {
            RunEvent::Started { restored } => {
                self.last = (progress.now, progress.tally.ended());
                let waiting = self.outlook.wanted(progress).saturating_sub(progress.tally.ended());
                let again = match restored {
                    0 => String::new(),
                    _ => format!(", {} of an earlier run watched again", Count(*restored)),
                };
                self.line(progress, &format!("started: {} to go{again}", Of(waiting, "sample")));
            }
            RunEvent::Changed(change) => {
                self.tell_firsts(progress, makes_a_video(change));
                if self.due(progress) {
                    self.regular_line(progress);
                }
            }
            RunEvent::Paused { until, failure } if !self.told.pause => {
                self.told.pause = true;
                let wait = Span(until.since(progress.now));
                self.line(progress, &format!("waiting {wait}: {failure}"));
            }
            RunEvent::Allowed { requests_per_minute, concurrent_tasks } => {
                let (requests, tasks) =
                    (Count((*requests_per_minute).into()), Count((*concurrent_tasks).into()));
                let text = format!("the account allows about {requests} requests/min and {tasks} tasks now");
                self.line(progress, &text);
            }
            RunEvent::Uncalled { ends } => self.line(progress, &uncalled(*ends)),
            RunEvent::DoubtsAwaited(doubts) => self.line(progress, &awaited(doubts, progress.now)),
            RunEvent::BuyingStopped(halt) => {
                self.line(progress, &format!("buying stopped: {}", HaltReason(halt)));
            }
            RunEvent::Download(DownloadEvent::Failed { problem, .. }) if !self.told.failed_download => {
                self.told.failed_download = true;
                self.line(progress, &format!("not downloaded: {problem}"));
            }
            RunEvent::Download(DownloadEvent::Paused { why }) => {
                self.line(progress, &format!("downloads wait, and try again every few seconds: {why}"));
            }
            RunEvent::Download(DownloadEvent::Lost { videos }) => self.line(progress, &lost(*videos)),
            RunEvent::Download(DownloadEvent::Resumed) => self.line(progress, "downloads go on"),
            RunEvent::Download(DownloadEvent::Ended { why }) => {
                self.line(progress, &format!("downloads have ended early: {why}"));
            }
            RunEvent::GenerationOver => {
                let downloads = progress.downloads.unwrap_or_default();
                let left = downloads.waiting + u64::from(downloads.active);
                if left > 0 {
                    let text = self.whole_standing(progress);
                    self.line(progress, &format!("{text}; {} still to download", Of(left, "video")));
                }
            }
            RunEvent::Heartbeat if self.due(progress) => self.regular_line(progress),
            RunEvent::Finished => {
                let text = self.whole_standing(progress);
                self.line(progress, &format!("finished: {text}"));
            }
            RunEvent::Paused { .. }
            | RunEvent::Heartbeat
            | RunEvent::Download(DownloadEvent::Saved { .. } | DownloadEvent::Failed { .. })
            | RunEvent::PollFailed { .. }
            | RunEvent::CalledBack { .. }
            | RunEvent::Balance(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script;

    fn lines(interval: Interval) -> String {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, interval, Outlook::new(script::LIMITS, 0));
        script::play(&mut plain);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_told_by_the_clock() {
        let text = lines(Interval::Time(Duration::from_secs(30)));
        assert!(!text.contains('\u{1b}'));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_run_told_by_its_share() {
        insta::assert_snapshot!(lines(Interval::Percent(NonZeroU32::new(25).unwrap())));
    }

    #[test]
    fn a_wait_for_doubts_is_told_when_it_begins_and_with_every_line() {
        let mut out = Vec::new();
        let half_a_minute = Interval::Time(Duration::from_secs(30));
        let mut plain = Plain::new(&mut out, half_a_minute, Outlook::new(script::LIMITS, 0));
        let awaited = crate::schedule::Awaited { doubts: 1, until: Stamp::from_millis(1_862_000) };
        let at = |second: u64| Progress {
            now: Stamp::from_millis(second * 1_000),
            awaited: Some(awaited),
            ended: 1,
            ..Progress::default()
        };
        plain.notice(&RunEvent::Started { restored: 0 }, &Progress::default());
        plain.notice(&RunEvent::DoubtsAwaited(awaited), &at(62));
        plain.notice(&RunEvent::Heartbeat, &at(92));
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "[1 m 02 s] waiting up to 30 m for 1 submission in doubt: a callback may settle it; Ctrl-C ends \
                 the wait, the next run goes on",
                "[1 m 32 s] 0 of 0: 0 done, 0 in flight, 0 requests/min, $0.00 spent, up to 29 m 30 s for 1 in \
                 doubt",
            ]
        );
    }

    #[test]
    fn the_interval_follows_the_clock() {
        let fast = Clock::virtual_from(Stamp::BIRTH);
        assert_eq!(Interval::for_clock(&fast), Interval::Percent(NonZeroU32::new(5).unwrap()));
    }

    #[tokio::test]
    async fn the_interval_is_half_a_minute_of_real_time() {
        let clock = Clock::real(Stamp::BIRTH, NonZeroU32::new(60).unwrap());
        assert_eq!(Interval::for_clock(&clock), Interval::Time(Duration::from_mins(30)));
    }
}
