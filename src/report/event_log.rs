//! `--events`: the run as NDJSON, one object a line, for programs.
//!
//! Every line has `time` (RFC 3339, UTC, milliseconds) and `event`; [`Body`] is the list of events
//! and their fields, which are named as in the results where they mean the same. Heartbeats are
//! left out. A thread does the writing, because the reader of a pipe may be slower than the run;
//! what cannot be written never stops the run, and is said once.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::{Serialize, Serializer};

use super::digest::Counts;
use super::wording::{HaltReason, halt_word, hex};
use crate::event::{DownloadEvent, EventSink, Progress, RunEvent};
use crate::job::{Attempt, Failure, FailureKind, Outcome, SampleId, Stamp, Status, TaskId, UnixMillis, Usd};
use crate::schedule::{Awaited, Change, Transition};

/// Lines that may wait for a slow reader: some ten megabytes, a minute of the fastest real run.
const BACKLOG: usize = 65_536;

/// What to do when 65,536 lines wait for a slow reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Hold the run up: for files, and for virtual time, which stands still meanwhile.
    Wait,
    /// Leave lines out, and say how many in a `dropped` line: for pipes, whose reader may be stuck.
    Drop,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "with_millis")]
    time: UnixMillis,
    #[serde(flatten)]
    body: Body<'a>,
}

/// What a line says. `sample` counts the samples in manifest order.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Body<'a> {
    /// The run begins.
    Started { samples: u64, pending: u64, restored: u64 },
    /// About to be submitted.
    Intended { sample: SampleId, attempt: Attempt },
    /// The submission was surely not accepted.
    Retracted { sample: SampleId },
    /// The API took it.
    Accepted { sample: SampleId, attempt: Attempt, task_id: &'a TaskId, cost_usd: Usd },
    /// The task of a submission in doubt became known.
    Found { sample: SampleId, attempt: Attempt, task_id: &'a TaskId },
    /// The task failed, and a new one will be bought after `not_before`.
    Deferred {
        sample: SampleId,
        #[serde(serialize_with = "with_millis")]
        not_before: UnixMillis,
        #[serde(flatten)]
        error: ErrorFields<'a>,
    },
    /// The sample has its result.
    Ended(Ending<'a>),
    /// Everyone waits.
    Paused {
        #[serde(serialize_with = "with_millis")]
        until: UnixMillis,
        #[serde(flatten)]
        error: ErrorFields<'a>,
    },
    /// What the account allows now, as refusals have taught.
    Allowed { requests_per_minute: u32, concurrent_tasks: u32 },
    /// A look at a task failed, which changes nothing.
    PollFailed {
        sample: SampleId,
        #[serde(flatten)]
        error: ErrorFields<'a>,
    },
    /// The API called back.
    CalledBack { sample: SampleId, attempt: Attempt, result: &'static str },
    /// No callback has come yet, and so many were expected.
    Uncalled { ends: u64 },
    /// Only submissions in doubt are waited for, which a callback may settle.
    DoubtsAwaited {
        doubts: u32,
        #[serde(serialize_with = "with_millis")]
        until: UnixMillis,
    },
    /// What the account has left.
    Balance { balance_usd: Usd },
    /// Nothing more is bought.
    BuyingStopped { reason: &'static str, message: String },
    /// A video is at its place, whole.
    Saved { sample: SampleId, part: u32, file: &'a str, bytes: u64, sha256: String },
    /// A video could not be had.
    DownloadFailed { sample: SampleId, part: u32, message: &'a str },
    /// Downloads wait; generation goes on.
    DownloadsPaused { message: &'a str },
    /// Downloads go on.
    DownloadsResumed,
    /// Downloads have ended before they were done; generation goes on.
    DownloadsEnded { message: &'a str },
    /// Saved videos are not there any more, and are fetched again.
    DownloadsLost { videos: u64 },
    /// Only downloads are waited for.
    GenerationOver,
    /// Lines were left out because the reader was slow.
    Dropped { lines: u64 },
    /// The run is over.
    Finished { counts: Counts, requests: u64, cost_usd: Usd, cost_this_run_usd: Usd },
}

#[derive(Serialize)]
struct Ending<'a> {
    sample: SampleId,
    status: Status,
    attempts: u32,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    video_urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_seconds: Option<f64>,
    #[serde(flatten)]
    error: Option<ErrorFields<'a>>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    #[serde(rename = "error_kind")]
    kind: FailureKind,
    #[serde(rename = "error_code", skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(rename = "error_message")]
    message: &'a str,
}

impl<'a> From<&'a Failure> for ErrorFields<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self { kind: failure.kind, code: failure.code.as_deref(), message: &failure.message }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn with_millis<S: Serializer>(time: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
        Err(_) => serializer.serialize_none(),
    }
}

impl<'a> Body<'a> {
    /// What to say of `event`; `None` for a heartbeat.
    fn of(event: &'a RunEvent<'_>, progress: &Progress, birth: UnixMillis) -> Option<Self> {
        Some(match event {
            RunEvent::Started { restored } => Self::Started {
                samples: progress.tally.total(),
                pending: progress.tally.count(Status::Pending),
                restored: *restored,
            },
            RunEvent::Changed(change) => Self::of_change(change, birth),
            RunEvent::Paused { until, failure } => {
                Self::Paused { until: birth.at(*until), error: (*failure).into() }
            }
            RunEvent::Allowed { requests_per_minute, concurrent_tasks } => Self::Allowed {
                requests_per_minute: *requests_per_minute,
                concurrent_tasks: *concurrent_tasks,
            },
            RunEvent::PollFailed { sample, failure } => {
                Self::PollFailed { sample: *sample, error: (*failure).into() }
            }
            RunEvent::Balance(left) => Self::Balance { balance_usd: *left },
            RunEvent::BuyingStopped(halt) => {
                Self::BuyingStopped { reason: halt_word(halt), message: HaltReason(halt).to_string() }
            }
            RunEvent::Download(event) => Self::of_download(event),
            RunEvent::GenerationOver => Self::GenerationOver,
            RunEvent::CalledBack { sample, attempt, heard } => {
                Self::CalledBack { sample: *sample, attempt: *attempt, result: heard.as_str() }
            }
            RunEvent::Uncalled { ends } => Self::Uncalled { ends: *ends },
            RunEvent::DoubtsAwaited(Awaited { doubts, until }) => {
                Self::DoubtsAwaited { doubts: *doubts, until: birth.at(*until) }
            }
            RunEvent::Heartbeat => return None,
            RunEvent::Finished => Self::Finished {
                counts: Counts(progress.tally),
                requests: progress.requests,
                cost_usd: progress.spent,
                cost_this_run_usd: progress.spent_now,
            },
        })
    }

    fn of_download(event: &'a DownloadEvent) -> Self {
        match event {
            DownloadEvent::Saved { sample, part, bytes, path, sha256 } => {
                Self::Saved { sample: *sample, part: *part, file: path, bytes: *bytes, sha256: hex(sha256) }
            }
            DownloadEvent::Failed { sample, part, problem } => {
                Self::DownloadFailed { sample: *sample, part: *part, message: problem }
            }
            DownloadEvent::Paused { why } => Self::DownloadsPaused { message: why },
            DownloadEvent::Resumed => Self::DownloadsResumed,
            DownloadEvent::Ended { why } => Self::DownloadsEnded { message: why },
            DownloadEvent::Lost { videos } => Self::DownloadsLost { videos: *videos },
        }
    }

    fn of_change(change: &'a Change, birth: UnixMillis) -> Self {
        let sample = change.sample;
        match &change.transition {
            Transition::Intended(attempt) => Self::Intended { sample, attempt: *attempt },
            Transition::Retracted => Self::Retracted { sample },
            Transition::Accepted { task, attempt, cost } => {
                Self::Accepted { sample, attempt: *attempt, task_id: task, cost_usd: *cost }
            }
            Transition::Found { task, attempt, .. } => {
                Self::Found { sample, attempt: *attempt, task_id: task }
            }
            Transition::Deferred { not_before, failure, .. } => {
                Self::Deferred { sample, not_before: birth.at(*not_before), error: failure.into() }
            }
            Transition::Ended { outcome, attempts, .. } => {
                Self::Ended(Ending::of(sample, outcome, *attempts))
            }
        }
    }
}

impl<'a> Ending<'a> {
    fn of(sample: SampleId, outcome: &'a Outcome, attempts: u32) -> Self {
        let (video_urls, generation_seconds) = match outcome {
            Outcome::Succeeded(video) => (&video.urls[..], seconds(video.created, video.completed)),
            Outcome::Failed(_)
            | Outcome::Rejected(_)
            | Outcome::TimedOut(_)
            | Outcome::Lost(_)
            | Outcome::Unknown(_) => (&[][..], None),
        };
        let error = outcome.failure().map(Into::into);
        Self { sample, status: outcome.status(), attempts, video_urls, generation_seconds, error }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a video's making are few")]
fn seconds(created: Option<UnixMillis>, completed: Option<UnixMillis>) -> Option<f64> {
    let millis = completed?.0.checked_sub(created?.0).filter(|millis| *millis >= 0)?;
    Some(millis as f64 / 1e3)
}

/// Writes NDJSON. All lines are written when it is dropped.
///
/// Each line has `time` and `event`, and by event:
///
/// | `event` | fields |
/// |---|---|
/// | `started` | `samples`, `pending`, `restored` (tasks and doubts of an earlier run) |
/// | `intended` | `sample`, `attempt` |
/// | `retracted` | `sample` (surely not accepted; it goes again) |
/// | `accepted` | `sample`, `attempt`, `task_id`, `cost_usd` |
/// | `deferred` | `sample`, `not_before`, error fields (the task failed; a new one follows) |
/// | `ended` | `sample`, `status`, `attempts`, `video_urls`, `generation_seconds`, error fields |
/// | `paused` | `until`, error fields |
/// | `poll_failed` | `sample`, error fields |
/// | `called_back` | `sample`, `attempt`, `result` (`ended`, `settled` a doubt, `early`, `odd`, `nothing`) |
/// | `uncalled` | `ends` (found by looks, while no callback has come at all) |
/// | `doubts_awaited` | `doubts` (submissions that a callback may settle; nothing else is left), `until` at most |
/// | `balance` | `balance_usd` |
/// | `buying_stopped` | `reason` (a word, as [`super::Stop::reason`]), `message` |
/// | `saved` | `sample`, `part` (of the task's videos, from 1), `file` (its name at its place), `bytes`, `sha256` |
/// | `download_failed` | `sample`, `part`, `message` |
/// | `downloads_paused` | `message` (a full disk, say; tried again by itself) |
/// | `downloads_resumed` | |
/// | `downloads_ended` | `message` (before they were done; generation goes on) |
/// | `downloads_lost` | `videos` (saved before, no longer there or not whole: fetched again) |
/// | `generation_over` | (only downloads are waited for) |
/// | `dropped` | `lines` (left out because the reader was slow) |
/// | `finished` | `counts` (by status), `requests`, `cost_usd`, `cost_this_run_usd` |
///
/// `sample` is the sample's place in manifest order; the error fields are `error_kind`,
/// `error_code` and `error_message`, as in the results. A field that does not apply is left out.
pub struct EventLog {
    birth: UnixMillis,
    when_full: WhenFull,
    /// Lines left out since the last one that went through.
    dropped: u64,
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl EventLog {
    /// Writes to `out` the events of a run whose state file was born at `birth`.
    ///
    /// # Errors
    ///
    /// When the writing thread cannot be started. Later errors of `out` are logged once, and the
    /// run goes on without the event log; a reader that goes away is no error.
    pub fn new(out: impl Write + Send + 'static, birth: UnixMillis, when_full: WhenFull) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(BACKLOG);
        let writer =
            std::thread::Builder::new().name("event-log".to_owned()).spawn(move || {
                match write_lines(out, &waiting) {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                        tracing::warn!(%error, "the event log cannot be written; the run goes on without it");
                    }
                    Err(_) | Ok(()) => {}
                }
            })?;
        Ok(Self { birth, when_full, dropped: 0, lines: Some(lines), writer: Some(writer) })
    }

    fn write(&mut self, now: Stamp, body: Body<'_>, when_full: WhenFull) {
        if self.dropped > 0 {
            let lines = self.dropped;
            if !self.send(now, Body::Dropped { lines }, when_full) {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if !self.send(now, body, when_full) {
            self.dropped += 1;
        }
    }

    /// Whether the line found room.
    fn send(&mut self, now: Stamp, body: Body<'_>, when_full: WhenFull) -> bool {
        let Some(lines) = &self.lines else { return true };
        let Ok(mut line) = serde_json::to_string(&Line { time: self.birth.at(now), body }) else {
            return true;
        };
        line.push('\n');
        let gone = match when_full {
            WhenFull::Wait => lines.send(line).is_err(),
            WhenFull::Drop => match lines.try_send(line) {
                Ok(()) => false,
                Err(TrySendError::Full(_)) => return false,
                Err(TrySendError::Disconnected(_)) => true,
            },
        };
        if gone {
            self.lines = None;
        }
        true
    }
}

/// Writes lines until there are no more; what is there is flushed before it waits.
fn write_lines(out: impl Write, waiting: &Receiver<String>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    while let Ok(line) = waiting.recv() {
        out.write_all(line.as_bytes())?;
        for line in waiting.try_iter() {
            out.write_all(line.as_bytes())?;
        }
        out.flush()?;
    }
    Ok(())
}

impl EventSink for EventLog {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        if let Some(body) = Body::of(event, progress, self.birth) {
            let at = match event {
                RunEvent::Changed(change) => change.at,
                RunEvent::Started { .. }
                | RunEvent::Paused { .. }
                | RunEvent::Allowed { .. }
                | RunEvent::PollFailed { .. }
                | RunEvent::CalledBack { .. }
                | RunEvent::Uncalled { .. }
                | RunEvent::DoubtsAwaited(_)
                | RunEvent::Balance(_)
                | RunEvent::BuyingStopped(_)
                | RunEvent::Download(_)
                | RunEvent::GenerationOver
                | RunEvent::Heartbeat
                | RunEvent::Finished => progress.now,
            };
            // Nothing is held up by the last line.
            let last = matches!(event, RunEvent::Finished);
            self.write(at, body, if last { WhenFull::Wait } else { self.when_full });
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script::{self, Sheet};
    use std::sync::mpsc::{Sender, channel};

    #[test]
    fn a_run_as_lines() {
        let sheet = Sheet::default();
        let mut log = EventLog::new(sheet.clone(), script::BIRTH, WhenFull::Drop).unwrap();
        script::play(&mut log);
        drop(log);
        for line in sheet.text().lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(object["time"].is_string() && object["event"].is_string(), "{line}");
        }
        insta::assert_snapshot!(sheet.text());
    }

    #[test]
    fn a_wait_for_doubts_is_a_line() {
        let sheet = Sheet::default();
        let mut log = EventLog::new(sheet.clone(), script::BIRTH, WhenFull::Drop).unwrap();
        let awaited = Awaited { doubts: 3, until: Stamp::from_millis(1_000) };
        log.notice(&RunEvent::DoubtsAwaited(awaited), &Progress::default());
        drop(log);
        let line: serde_json::Value = serde_json::from_str(&sheet.text()).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-24T03:58:19.000Z", "event": "doubts_awaited", "doubts": 3, "until": "2026-11-24T03:58:20.000Z",
        });
        assert_eq!(line, expected);
    }

    /// Says when a write begins, and lets none through before it is told to.
    struct Stuck {
        sheet: Sheet,
        begun: Sender<()>,
        go: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.begun.send(());
            let _ = self.go.recv();
            self.sheet.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_loses_lines_and_is_told_how_many() {
        let (begun, has_begun) = channel();
        let (go, waits) = channel();
        let sheet = Sheet::default();
        let stuck = Stuck { sheet: sheet.clone(), begun, go: waits };
        let mut log = EventLog::new(stuck, script::BIRTH, WhenFull::Drop).unwrap();
        let progress = Progress::default();
        let balance = RunEvent::Balance(Usd::ZERO);
        log.notice(&balance, &progress);
        has_begun.recv().unwrap();
        for _ in 0..BACKLOG + 5 {
            log.notice(&balance, &progress);
        }
        drop(go);
        log.notice(&RunEvent::Finished, &progress);
        drop(log);
        let text = sheet.text();
        assert_eq!(text.lines().count(), 1 + BACKLOG + 2);
        let mut end = text.lines().rev();
        assert!(end.next().unwrap().contains(r#""event":"finished""#));
        assert!(end.next().unwrap().contains(r#""event":"dropped","lines":5"#));
    }

    #[test]
    fn a_broken_file_does_not_stop_the_run() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut log = EventLog::new(Full, script::BIRTH, WhenFull::Wait).unwrap();
        let progress = Progress::default();
        for _ in 0..2 * BACKLOG {
            log.notice(&RunEvent::Balance(Usd::ZERO), &progress);
        }
        assert!(log.lines.is_none(), "the log goes on for a writer that is gone");
    }
}
