//! The progress bar of a run on a terminal.
//!
//! Rule: the engine's loop only leaves a copy of [`Progress`]; words are made when the bar's own
//! thread draws, a few times a second. So a million events cost a million copies and no text, and
//! the bar stays alive while the loop waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::estimate::Outlook;
use super::screen::Screen;
use super::standing;
use super::wording::{Count, HaltReason, Span, lost, settling, uncalled};
use crate::event::{DownloadEvent, EventSink, Progress, RunEvent};
use crate::harmless::one_line;
use crate::job::{Failure, Stamp};

/// How often the bar is drawn: often enough to look alive, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(200);

/// How long a download that failed is told of.
const DOWNLOAD_NOTICE: Duration = Duration::from_secs(10);

const RUN: &str = "[{wide_bar}] {share}\n{standing}\n{pace}";
const DOWNLOADS: &str = "\n{downloads}";
const NOTICE: &str = "\n{wide_msg}";

/// What the loop leaves for the drawing thread.
struct Scene {
    progress: Progress,
    outlook: Outlook,
}

type Shared = Arc<Mutex<Scene>>;

/// A bar of three lines, one for downloads if there are any, and a last one while there is something
/// to say:
///
/// ```text
/// [================>                   ] 712 of 1,649, 2 m 10 s
/// 700 done, 12 failed, 937 in flight
/// 3,912 requests/min, $140.20 spent, about 2 m 10 s left
/// 650 saved (1.65 GB), 8 at 12.0 MB/s, 50 waiting
/// waiting 30 s: transient (http_503): service unavailable
/// ```
///
/// It is gone when the run is over or the bar dropped, so that the summary follows the log.
pub struct Bar {
    widget: ProgressBar,
    scene: Shared,
    /// Which lines there are.
    lines: Lines,
    /// Until when the pause in the last line lasts.
    paused_until: Option<Stamp>,
}

/// Which lines a bar has beside its first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lines {
    downloads: bool,
    notice: bool,
}

impl Lines {
    fn template(self) -> String {
        let more = [(self.downloads, DOWNLOADS), (self.notice, NOTICE)].into_iter();
        more.filter(|(there, _)| *there).fold(RUN.to_owned(), |template, (_, line)| template + line)
    }
}

impl Bar {
    /// A bar on `screen` for a run with `outlook`, drawn by a thread of its own from now on.
    #[must_use]
    pub fn new(screen: &Screen, outlook: Outlook) -> Self {
        let bar = Self::still(screen, outlook);
        bar.widget.enable_steady_tick(TICK);
        bar
    }

    /// A bar that is drawn only when asked.
    fn still(screen: &Screen, outlook: Outlook) -> Self {
        let scene = Arc::new(Mutex::new(Scene { progress: Progress::default(), outlook }));
        let widget = screen.bars().add(ProgressBar::new(0));
        widget.set_style(style(Lines::default(), &scene));
        Self { widget, scene, lines: Lines::default(), paused_until: None }
    }

    fn draw_lines(&mut self, lines: Lines) {
        if self.lines != lines {
            self.lines = lines;
            self.widget.set_style(style(lines, &self.scene));
        }
    }

    fn show_notice(&mut self, notice: &str) {
        self.draw_lines(Lines { notice: true, ..self.lines });
        // The bar goes to the terminal past the screen.
        self.widget.set_message(one_line(notice, Failure::LONGEST_MESSAGE));
    }
}

fn look(scene: &Shared) -> MutexGuard<'_, Scene> {
    scene.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(lines: Lines, scene: &Shared) -> ProgressStyle {
    let clause = |words: fn(&Scene) -> String| {
        let scene = Arc::clone(scene);
        move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&words(&look(&scene)));
        }
    };
    ProgressStyle::with_template(&lines.template())
        .expect("the templates above are valid, and tests draw them")
        .progress_chars("=> ")
        .with_key("share", clause(share))
        .with_key("standing", clause(|scene| standing::standing(&scene.progress, &scene.outlook)))
        .with_key("downloads", clause(|scene| downloads(&scene.progress)))
        .with_key("pace", clause(|scene| standing::pace(&scene.progress, &scene.outlook)))
}

fn share(Scene { progress, outlook }: &Scene) -> String {
    let elapsed = Span(progress.now.since(progress.started));
    format!("{} of {}, {elapsed}", Count(progress.tally.ended()), Count(outlook.wanted(progress)))
}

fn downloads(progress: &Progress) -> String {
    progress.downloads.as_ref().map(standing::downloads).unwrap_or_default()
}

impl EventSink for Bar {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        let wanted = {
            let mut scene = look(&self.scene);
            scene.progress = *progress;
            scene.outlook.notice(event, progress);
            scene.outlook.wanted(progress)
        };
        match event {
            RunEvent::Changed(_)
            | RunEvent::PollFailed { .. }
            | RunEvent::Allowed { .. }
            | RunEvent::Balance(_)
            | RunEvent::CalledBack { .. }
            | RunEvent::Download(DownloadEvent::Saved { .. })
            | RunEvent::GenerationOver => return,
            RunEvent::Download(DownloadEvent::Failed { problem, .. }) => {
                self.paused_until = Some(progress.now + DOWNLOAD_NOTICE);
                self.show_notice(&format!("not downloaded: {problem}"));
            }
            RunEvent::Download(DownloadEvent::Lost { videos }) => {
                self.paused_until = Some(progress.now + DOWNLOAD_NOTICE);
                self.show_notice(&lost(*videos));
            }
            RunEvent::Download(DownloadEvent::Paused { why }) => {
                self.paused_until = None;
                self.show_notice(&format!("downloads wait: {why}"));
            }
            RunEvent::Download(DownloadEvent::Ended { why }) => {
                self.paused_until = None;
                self.show_notice(&format!("downloads have ended early: {why}"));
            }
            RunEvent::Download(DownloadEvent::Resumed) => {
                self.paused_until = None;
                self.draw_lines(Lines { notice: false, ..self.lines });
            }
            RunEvent::Paused { until, failure } => {
                self.paused_until = Some(*until);
                self.show_notice(&format!("waiting {}: {failure}", Span(until.since(progress.now))));
            }
            RunEvent::Uncalled { ends } => {
                self.show_notice(&uncalled(*ends));
            }
            RunEvent::DoubtsAwaited(doubts) => {
                // How long still is told by the line above.
                self.paused_until = Some(doubts.until);
                self.show_notice(&settling(doubts));
            }
            RunEvent::BuyingStopped(halt) => {
                self.paused_until = None;
                self.show_notice(&format!("buying stopped: {}", HaltReason(halt)));
            }
            RunEvent::Started { .. } | RunEvent::Heartbeat => {
                if self.paused_until.is_some_and(|until| progress.now >= until) {
                    self.paused_until = None;
                    self.draw_lines(Lines { notice: false, ..self.lines });
                }
                self.draw_lines(Lines { downloads: progress.downloads.is_some(), ..self.lines });
            }
            RunEvent::Finished => {
                self.widget.finish_and_clear();
                return;
            }
        }
        self.widget.set_length(wanted);
        self.widget.set_position(progress.tally.ended());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.widget.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Downloads;
    use crate::job::{FailureKind, Limits, Status, Usd};
    use crate::schedule::{Awaited, Halt};
    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};
    use std::io::{self, Write};

    /// Line output onto the terminal in memory.
    struct Lines(InMemoryTerm);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write_str(&String::from_utf8_lossy(bytes).replace('\n', "\r\n"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    fn terminal(columns: u16) -> (InMemoryTerm, Screen, Bar) {
        let terminal = InMemoryTerm::new(24, columns);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let screen = Screen::new(target, Box::new(Lines(terminal.clone())));
        let bar = Bar::still(&screen, Outlook::new(Limits::DOCUMENTED, 0));
        (terminal, screen, bar)
    }

    fn drawn(terminal: &InMemoryTerm, bar: &Bar) -> String {
        bar.widget.force_draw();
        terminal.contents()
    }

    fn progress(second: u64) -> Progress {
        let mut progress = Progress { buying: true, ..Progress::default() };
        progress.now = Stamp::from_millis(second * 1_000);
        progress.tally.set(Status::Pending, 1_649);
        progress
    }

    fn middle() -> Progress {
        let mut progress = progress(130);
        progress.tally.set(Status::Pending, 937);
        progress.tally.set(Status::Succeeded, 700);
        progress.tally.set(Status::Failed, 12);
        Progress {
            running: 930,
            submitting: 7,
            ended: 712,
            accepted: 1_642,
            requests_last_minute: 3_912,
            spent: Usd::from_cents(32_840),
            ..progress
        }
    }

    #[test]
    fn a_run_at_two_widths() {
        for columns in [60, 120] {
            let (terminal, _screen, mut bar) = terminal(columns);
            let mut shots = Vec::new();
            bar.notice(&RunEvent::Started { restored: 0 }, &progress(0));
            shots.push(drawn(&terminal, &bar));
            let early = Progress {
                accepted: 1_000,
                running: 1_000,
                oldest_task: Some(Stamp::BIRTH),
                spent: Usd::from_cents(20_000),
                ..progress(20)
            };
            bar.notice(&RunEvent::Heartbeat, &early);
            shots.push(drawn(&terminal, &bar));
            bar.notice(&RunEvent::Heartbeat, &Progress { now: Stamp::from_millis(125_000), ..early });
            shots.push(drawn(&terminal, &bar));
            bar.notice(&RunEvent::Heartbeat, &middle());
            shots.push(drawn(&terminal, &bar));
            let failure =
                Failure::new(FailureKind::Transient, Some("http_503"), &"the service is away ".repeat(9));
            let until = Stamp::from_millis(160_000);
            bar.notice(&RunEvent::Paused { until, failure: &failure }, &middle());
            shots.push(drawn(&terminal, &bar));
            bar.notice(&RunEvent::Heartbeat, &Progress { now: until, ..middle() });
            shots.push(drawn(&terminal, &bar));
            let halt = Halt::NoMoney(Failure::new(FailureKind::Money, None, "Insufficient credits"));
            bar.notice(&RunEvent::BuyingStopped(&halt), &Progress { buying: false, ..middle() });
            shots.push(drawn(&terminal, &bar));
            bar.notice(&RunEvent::Finished, &middle());
            assert_eq!(terminal.contents(), "");
            insta::assert_snapshot!(format!("bar_at_{columns}"), shots.join("\n\n"));
        }
    }

    #[test]
    fn downloads_have_a_line_and_a_full_disk_a_notice() {
        let (terminal, _screen, mut bar) = terminal(60);
        let downloads = Downloads {
            waiting: 123_456,
            active: 8,
            saved: 650_000,
            bytes: 1_649_000_000,
            bytes_per_second: 12_000_000,
            ..Downloads::default()
        };
        let with = |downloads| Progress { downloads: Some(downloads), ..middle() };
        let mut shots = Vec::new();
        bar.notice(&RunEvent::Heartbeat, &with(downloads));
        shots.push(drawn(&terminal, &bar));
        let paused = with(Downloads { active: 0, paused: true, failed: 2, ..downloads });
        let why = "no space left in videos".to_owned();
        bar.notice(&RunEvent::Download(&DownloadEvent::Paused { why }), &paused);
        shots.push(drawn(&terminal, &bar));
        bar.notice(&RunEvent::Download(&DownloadEvent::Resumed), &with(downloads));
        shots.push(drawn(&terminal, &bar));
        insta::assert_snapshot!(shots.join("\n\n"));
    }

    #[test]
    fn a_large_run_fits_a_narrow_terminal() {
        let (terminal, _screen, mut bar) = terminal(60);
        let mut large = Progress { now: Stamp::from_millis(119_000_000), ..middle() };
        large.tally.set(Status::Succeeded, 980_000);
        large.tally.set(Status::Failed, 12_345);
        large.tally.set(Status::Unknown, 345);
        large.spent = Usd::from_cents(150_000_050);
        bar.notice(&RunEvent::Heartbeat, &large);
        let lines = drawn(&terminal, &bar);
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }

    #[test]
    fn a_wait_for_doubts_is_told_with_how_long_it_may_last() {
        let (terminal, _screen, mut bar) = terminal(80);
        let until = Stamp::from_millis(1_801_000);
        let waiting = |second: u64| Progress {
            awaited: Some(Awaited { doubts: 2, until }),
            running: 0,
            submitting: 0,
            requests_last_minute: 0,
            ..Progress { now: Stamp::from_millis(second * 1_000), ..middle() }
        };
        bar.notice(&RunEvent::DoubtsAwaited(Awaited { doubts: 2, until }), &waiting(200));
        let begins = drawn(&terminal, &bar);
        bar.notice(&RunEvent::Heartbeat, &waiting(1_760));
        let ends = drawn(&terminal, &bar);
        bar.notice(&RunEvent::Heartbeat, &Progress { now: until, ..middle() });
        insta::assert_snapshot!([begins, ends, drawn(&terminal, &bar)].join("\n\n"));
    }

    #[test]
    fn log_lines_land_above_the_bar() {
        let (terminal, mut screen, mut bar) = terminal(60);
        bar.notice(&RunEvent::Heartbeat, &middle());
        bar.widget.force_draw();
        screen.write_all(b"WARN one\n").unwrap();
        screen.write_all(b"WARN two\n").unwrap();
        insta::assert_snapshot!(drawn(&terminal, &bar));
        drop(bar);
        assert_eq!(terminal.contents(), "WARN one\nWARN two");
    }

    #[test]
    fn events_between_heartbeats_draw_nothing() {
        let (terminal, _screen, mut bar) = terminal(60);
        bar.notice(&RunEvent::Heartbeat, &progress(0));
        let before = drawn(&terminal, &bar);
        bar.notice(&RunEvent::Balance(Usd::ZERO), &middle());
        assert_eq!(terminal.contents(), before);
        assert!(drawn(&terminal, &bar).contains("700 done"));
    }
}
