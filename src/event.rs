//! What a run tells whoever listens: one stream, many readers.
//!
//! The engine never prints. It hands each [`RunEvent`], with the [`Progress`] after it, to an
//! [`EventSink`]; the bar, the plain lines, the NDJSON file and the tests are all sinks. A change
//! is told only after it is durable.

use serde::Serialize;

use crate::job::{Attempt, Failure, SampleId, Stamp, Tally, Usd};
use crate::schedule::{Awaited, Change, Halt, Heard};

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent<'a> {
    /// The run begins; `restored` samples of an earlier process are being watched again.
    Started {
        /// How many tasks or doubts came back from the state file.
        restored: u64,
    },
    /// A sample moved, durably.
    Changed(&'a Change),
    /// Everyone waits until a stamp, or submissions alone do.
    Paused {
        /// Until when.
        until: Stamp,
        /// Why.
        failure: &'a Failure,
    },
    /// Refusals, or their absence, have taught what the account allows now.
    Allowed {
        /// Requests in any 60 seconds.
        requests_per_minute: u32,
        /// Tasks alive at once.
        concurrent_tasks: u32,
    },
    /// A look at a task failed; the task is as it was.
    PollFailed {
        /// Whose task.
        sample: SampleId,
        /// Why.
        failure: &'a Failure,
    },
    /// The API called back, at an address of this attempt.
    CalledBack {
        /// Whose task.
        sample: SampleId,
        /// Of which submission.
        attempt: Attempt,
        /// What came of it. It is durable only when a change says so.
        heard: Heard,
    },
    /// Looks have found this many ends that callbacks were to tell of, and no callback has come yet. Told
    /// once.
    Uncalled {
        /// How many.
        ends: u64,
    },
    /// Nothing is left but submissions in doubt that a callback may settle. Told once.
    DoubtsAwaited(Awaited),
    /// The account's balance.
    Balance(Usd),
    /// Nothing more is bought.
    BuyingStopped(&'a Halt),
    /// Something about downloads.
    Download(&'a DownloadEvent),
    /// Nothing more is being made, and downloads are all that is waited for.
    GenerationOver,
    /// A second of the run's clock has passed.
    Heartbeat,
    /// The run is over.
    Finished,
}

/// Something worth telling of downloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadEvent {
    /// A video is at its place, whole, and the state file says so.
    Saved {
        /// Whose video.
        sample: SampleId,
        /// Which of the task's videos, from 1.
        part: u32,
        /// How long it is.
        bytes: u64,
        /// Its name at its place, with `/` between folders.
        path: String,
        /// The SHA-256 of all of it.
        sha256: [u8; 32],
    },
    /// A video could not be had; the next run or `batchveo download` tries again.
    Failed {
        /// Whose video.
        sample: SampleId,
        /// Which of the task's videos, from 1.
        part: u32,
        /// Why, and what to do.
        problem: String,
    },
    /// Downloads wait, and try again by themselves; generation goes on.
    Paused {
        /// Why.
        why: String,
    },
    /// Downloads go on.
    Resumed,
    /// Downloads have ended before they were done, and generation goes on; `batchveo download` fetches
    /// what is left.
    Ended {
        /// Why.
        why: String,
    },
    /// Videos that were saved are not there any more, or not whole, and are fetched again.
    Lost {
        /// How many.
        videos: u64,
    },
}

/// How downloads stand in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Downloads {
    /// Samples made and neither saved nor under way.
    pub waiting: u64,
    /// Videos under way.
    pub active: u32,
    /// Videos saved by this process.
    pub saved: u64,
    /// Videos that could not be had.
    pub failed: u64,
    /// Bytes received by this process.
    pub bytes: u64,
    /// Bytes a second lately.
    pub bytes_per_second: u64,
    /// Whether they wait, for room on the disk say.
    pub paused: bool,
}

/// How callbacks stand in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Callbacks {
    /// Those that told the end of a task.
    pub ended: u64,
    /// Those that settled a submission in doubt.
    pub settled: u64,
    /// Those that came before the answer to their submission.
    pub early: u64,
    /// Those that did not fit what is known, and led to a look.
    pub odd: u64,
    /// Those that changed nothing, such as the second of two.
    pub nothing: u64,
    /// Requests to no address of ours.
    pub refused: u64,
    /// Ends that looks found although a callback was to tell of them.
    pub uncalled: u64,
}

impl Callbacks {
    /// One more callback.
    pub const fn count(&mut self, heard: Heard) {
        let counter = match heard {
            Heard::Ended => &mut self.ended,
            Heard::Settled => &mut self.settled,
            Heard::Kept => &mut self.early,
            Heard::Odd => &mut self.odd,
            Heard::Nothing | Heard::Elsewhere => &mut self.nothing,
        };
        *counter += 1;
    }

    /// Each count with the word for it in logs and metrics, but for [`Callbacks::uncalled`].
    #[must_use]
    pub const fn by_result(&self) -> [(&'static str, u64); 6] {
        [
            (Heard::Ended.as_str(), self.ended),
            (Heard::Settled.as_str(), self.settled),
            (Heard::Kept.as_str(), self.early),
            (Heard::Odd.as_str(), self.odd),
            (Heard::Nothing.as_str(), self.nothing),
            ("refused", self.refused),
        ]
    }

    /// All that were to addresses of ours.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.ended + self.settled + self.early + self.odd + self.nothing
    }
}

/// How a run stands. Counts are of the whole state file unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The run's clock.
    pub now: Stamp,
    /// When this process began.
    pub started: Stamp,
    /// Samples by status.
    pub tally: Tally,
    /// Submissions sent and not answered.
    pub submitting: u32,
    /// Tasks being watched.
    pub running: u32,
    /// Slots held: submitting, running, backing off, in doubt.
    pub slots_held: u32,
    /// Samples accepted by this process.
    pub accepted: u64,
    /// Samples ended in this process.
    pub ended: u64,
    /// Requests sent by this process.
    pub requests: u64,
    /// Requests sent in the last 60 seconds of the run's clock.
    pub requests_last_minute: u32,
    /// List price of everything accepted or in doubt, of the whole state file.
    pub spent: Usd,
    /// The same, of this process alone.
    pub spent_now: Usd,
    /// The part of it that was accepted for certain: what the balance must have fallen by.
    pub bought_now: Usd,
    /// Accepted tasks not ended: when the oldest was accepted.
    pub oldest_task: Option<Stamp>,
    /// Whether new samples are being submitted.
    pub buying: bool,
    /// The submissions in doubt that are all that is waited for, if they are.
    pub awaited: Option<Awaited>,
    /// How downloads stand, if there are any.
    pub downloads: Option<Downloads>,
    /// How callbacks stand, if they are listened for.
    pub callbacks: Option<Callbacks>,
}

/// A reader of a run.
pub trait EventSink {
    /// Takes note. Called on the engine's loop: quick, and never blocking.
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress);
}

impl<F: FnMut(&RunEvent<'_>, &Progress)> EventSink for F {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        self(event, progress);
    }
}
