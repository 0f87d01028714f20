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
use super::wording::{Count, HaltReason, Span};
use crate::event::{EventSink, Progress, RunEvent};
use crate::harmless::one_line;
use crate::job::{Failure, Stamp};

/// How often the bar is drawn: often enough to look alive, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(200);

const CALM: &str = "[{wide_bar}] {share}\n{standing}\n{pace}";
const WITH_NOTICE: &str = "[{wide_bar}] {share}\n{standing}\n{pace}\n{wide_msg}";

/// What the loop leaves for the drawing thread.
struct Scene {
    progress: Progress,
    outlook: Outlook,
}

type Shared = Arc<Mutex<Scene>>;

/// A bar of three lines, and a fourth while there is something to say:
///
/// ```text
/// [================>                   ] 712 of 1,649, 2 m 10 s
/// 700 done, 12 failed, 937 in flight
/// 3,912 requests/min, $140.20 spent, about 2 m 10 s left
/// waiting 30 s: transient (http_503): service unavailable
/// ```
///
/// It is gone when the run is over or the bar dropped, so that the summary follows the log.
pub struct Bar {
    widget: ProgressBar,
    scene: Shared,
    /// Until when the pause in the fourth line lasts.
    paused_until: Option<Stamp>,
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
        widget.set_style(style(CALM, &scene));
        Self { widget, scene, paused_until: None }
    }

    fn show_notice(&self, notice: &str) {
        self.widget.set_style(style(WITH_NOTICE, &self.scene));
        // The bar goes to the terminal past the screen.
        self.widget.set_message(one_line(notice, Failure::LONGEST_MESSAGE));
    }
}

fn look(scene: &Shared) -> MutexGuard<'_, Scene> {
    scene.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str, scene: &Shared) -> ProgressStyle {
    let clause = |words: fn(&Scene) -> String| {
        let scene = Arc::clone(scene);
        move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&words(&look(&scene)));
        }
    };
    ProgressStyle::with_template(template)
        .expect("the templates above are valid, and a test draws both")
        .progress_chars("=> ")
        .with_key("share", clause(share))
        .with_key("standing", clause(|scene| standing::standing(&scene.progress, &scene.outlook)))
        .with_key("pace", clause(|scene| standing::pace(&scene.progress, &scene.outlook)))
}

fn share(Scene { progress, outlook }: &Scene) -> String {
    let elapsed = Span(progress.now.since(progress.started));
    format!("{} of {}, {elapsed}", Count(progress.tally.ended()), Count(outlook.wanted(progress)))
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
            | RunEvent::Balance(_) => return,
            RunEvent::Paused { until, failure } => {
                self.paused_until = Some(*until);
                self.show_notice(&format!("waiting {}: {failure}", Span(until.since(progress.now))));
            }
            RunEvent::BuyingStopped(halt) => {
                self.paused_until = None;
                self.show_notice(&format!("buying stopped: {}", HaltReason(halt)));
            }
            RunEvent::Started { .. } | RunEvent::Heartbeat => {
                if self.paused_until.is_some_and(|until| progress.now >= until) {
                    self.paused_until = None;
                    self.widget.set_style(style(CALM, &self.scene));
                }
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
    use crate::job::{FailureKind, Limits, Status, Usd};
    use crate::schedule::Halt;
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
