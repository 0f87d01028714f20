//! Downloads on their own, as lines of text: nothing is bought, and so nothing is told of buying.

use std::io::Write;
use std::time::Duration;

use super::standing;
use super::wording::{Span, lost};
use crate::event::{DownloadEvent, EventSink, Progress, RunEvent};
use crate::job::Stamp;

/// Time between two lines that only say how it stands.
const EVERY: Duration = Duration::from_secs(10);

/// Writes lines about downloads to `W`. A line that cannot be written is lost.
#[derive(Debug)]
pub struct Fetching<W> {
    out: W,
    last: Stamp,
}

impl<W: Write> Fetching<W> {
    /// Lines to `out`.
    #[must_use]
    pub const fn new(out: W) -> Self {
        Self { out, last: Stamp::BIRTH }
    }

    fn line(&mut self, progress: &Progress, text: &str) {
        self.last = progress.now;
        let line = format!("[{}] {text}\n", Span(progress.now.since(progress.started)));
        let _ = self.out.write_all(line.as_bytes());
    }
}

impl<W: Write> EventSink for Fetching<W> {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        match event {
            RunEvent::Started { .. } => self.last = progress.now,
            RunEvent::Download(DownloadEvent::Failed { problem, .. }) => {
                self.line(progress, &format!("not downloaded: {problem}"));
            }
            RunEvent::Download(DownloadEvent::Paused { why }) => {
                self.line(progress, &format!("waiting, and trying again every few seconds: {why}"));
            }
            RunEvent::Download(DownloadEvent::Resumed) => self.line(progress, "going on"),
            RunEvent::Download(DownloadEvent::Lost { videos }) => self.line(progress, &lost(*videos)),
            RunEvent::Heartbeat if progress.now.since(self.last) >= EVERY => {
                if let Some(downloads) = &progress.downloads {
                    self.line(progress, &standing::downloads(downloads));
                }
            }
            // An end that came early is told with the outcome.
            RunEvent::Download(DownloadEvent::Saved { .. } | DownloadEvent::Ended { .. })
            | RunEvent::Changed(_)
            | RunEvent::Paused { .. }
            | RunEvent::Allowed { .. }
            | RunEvent::PollFailed { .. }
            | RunEvent::CalledBack { .. }
            | RunEvent::Uncalled { .. }
            | RunEvent::DoubtsAwaited(_)
            | RunEvent::Balance(_)
            | RunEvent::BuyingStopped(_)
            | RunEvent::GenerationOver
            | RunEvent::Heartbeat
            | RunEvent::Finished => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Downloads;

    #[test]
    fn nothing_is_told_of_buying() {
        let mut out = Vec::new();
        let mut fetching = Fetching::new(&mut out);
        let standing =
            Downloads { waiting: 40, active: 8, saved: 12, bytes: 3_000_000, ..Downloads::default() };
        let at = |seconds| Progress {
            now: Stamp::BIRTH + Duration::from_secs(seconds),
            downloads: Some(standing),
            ..Progress::default()
        };
        for (event, seconds) in [
            (RunEvent::Started { restored: 0 }, 0),
            (RunEvent::BuyingStopped(&crate::schedule::Halt::CollectOnly), 0),
            (RunEvent::Download(&DownloadEvent::Lost { videos: 2 }), 1),
            (RunEvent::Heartbeat, 5),
            (RunEvent::Heartbeat, 11),
            (RunEvent::Download(&DownloadEvent::Paused { why: "full".into() }), 12),
            (RunEvent::Download(&DownloadEvent::Resumed), 13),
            (RunEvent::Finished, 14),
        ] {
            fetching.notice(&event, &at(seconds));
        }
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
