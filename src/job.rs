//! The vocabulary every other module speaks: stamps, names, statuses, failures, money.
//!
//! Owns the words of a sample's life and nothing that acts. Values are checked where they are
//! made, so that nothing inside the crate checks them again.

mod usd;

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::harmless::one_line;
pub use usd::Usd;

/// An instant, counted in nanoseconds from the birth of the state file.
///
/// Not a wall-clock time: it survives a restart, never runs backwards, and is what the pure core
/// reasons about. The state file keeps it in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// The birth of the state file.
    pub const BIRTH: Self = Self(0);

    /// Some 584 years later, which no run sees.
    pub const NEVER: Self = Self(u64::MAX);

    /// The stamp `nanos` nanoseconds after birth.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The stamp `millis` milliseconds after birth.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since birth.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since birth, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This long before; birth if that would be before it.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Stamp {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl From<Duration> for Stamp {
    /// The stamp this long after birth.
    fn from(since_birth: Duration) -> Self {
        Self::BIRTH + since_birth
    }
}

/// A wall-clock time in milliseconds since the Unix epoch, as the API writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The wall-clock time of `stamp` in a state file born at `self`.
    #[must_use]
    pub fn at(self, stamp: Stamp) -> Self {
        Self(self.0.saturating_add(i64::try_from(stamp.as_millis()).unwrap_or(i64::MAX)))
    }

    /// RFC 3339 in UTC with whole seconds, such as `2026-11-24T03:58:19Z`; empty for a time no
    /// calendar can hold.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.0.div_euclid(1000)).map(|at| at.to_string()).unwrap_or_default()
    }
}

/// One wanted video: one sample of one manifest row. Its number is its place in manifest order
/// within one state file and one import; it is not stable across an edited sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleId(pub i64);

impl fmt::Display for SampleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The API's name for a piece of work. Opaque, never empty. Shared: each look at a task names it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskId(Arc<str>);

impl TaskId {
    /// `None` when `text` is blank, longer than 512 bytes or holds control characters: nothing
    /// that could be asked about later.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let usable = !text.is_empty() && text.len() <= 512 && !text.chars().any(char::is_control);
        usable.then(|| Self(text.into()))
    }

    /// The id as the API wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The number of a submission of one sample, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The attempt after `self`.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What the account allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of any kind in any 60 seconds, at the server.
    pub requests_per_minute: NonZeroU32,
    /// Tasks alive at once, submissions in doubt included.
    pub concurrent_tasks: NonZeroU32,
}

impl Limits {
    /// The documented limits of the API: 10,000 requests a minute, 1,000 concurrent tasks.
    pub const DOCUMENTED: Self = Self {
        requests_per_minute: NonZeroU32::new(10_000).expect("not zero"),
        concurrent_tasks: NonZeroU32::new(1_000).expect("not zero"),
    };
}

/// How a sample stands, as a person reads it in the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not ended yet: not submitted, or its task is still being made.
    Pending,
    /// A video was made; its URL is in the result.
    Succeeded,
    /// The API took the task and the task failed.
    Failed,
    /// The API refused the submission; nothing was made.
    Rejected,
    /// The task was alive for longer than the task time-out; the next run asks once more.
    TimedOut,
    /// The API no longer knows the task, or called it a success without a video.
    Lost,
    /// A submission whose fate nobody knows; never bought again unasked.
    Unknown,
    /// The manifest's row cannot be submitted.
    Invalid,
}

impl Status {
    /// Every status, in the order summaries print them.
    pub const ALL: [Self; 8] = [
        Self::Succeeded,
        Self::Failed,
        Self::Rejected,
        Self::TimedOut,
        Self::Lost,
        Self::Unknown,
        Self::Invalid,
        Self::Pending,
    ];

    /// The word used in results, flags and summaries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a failure is about, and so who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The prompt or an image breaks the API's content rules.
    Content,
    /// The request is malformed or breaks a rule of the API.
    Input,
    /// An image could not be fetched or read.
    Image,
    /// The account has no money.
    Money,
    /// The service, not the request, is at fault; trying again may help.
    Transient,
    /// Nothing was heard in time.
    Timeout,
    /// Whether a submission was accepted is not known.
    Doubt,
    /// The key was refused.
    Key,
}

impl FailureKind {
    /// Every kind, in the order summaries print them.
    pub const ALL: [Self; 8] = [
        Self::Content,
        Self::Input,
        Self::Image,
        Self::Money,
        Self::Transient,
        Self::Timeout,
        Self::Doubt,
        Self::Key,
    ];

    /// The word used in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Input => "input",
            Self::Image => "image",
            Self::Money => "money",
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::Doubt => "doubt",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why something failed, in the words a result row shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// What it is about.
    pub kind: FailureKind,
    /// The API's code: a fail code such as `CONTENT_VIOLATION`, or `http_503`.
    pub code: Option<String>,
    /// One line for a person, cut after [`Failure::LONGEST_MESSAGE`] characters, none of which acts on
    /// a terminal; an ellipsis is where it was cut.
    pub message: String,
}

impl Failure {
    /// Longest message kept, in characters: enough for any sentence, too short for a web page.
    pub const LONGEST_MESSAGE: usize = 300;

    /// A failure whose texts come from outside: see [`one_line`]; what is too long is cut.
    #[must_use]
    pub fn new(kind: FailureKind, code: Option<&str>, message: &str) -> Self {
        let code = code.map(|code| one_line(code, 80)).filter(|code| !code.is_empty());
        Self { kind, code, message: one_line(message, Self::LONGEST_MESSAGE) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({code}): {}", self.kind, self.message),
            None => write!(f, "{}: {}", self.kind, self.message),
        }
    }
}

/// A finished video.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Video {
    /// Where to fetch it; at least one.
    pub urls: Vec<String>,
    /// When the API took the task, if it said so.
    pub created: Option<UnixMillis>,
    /// When the API finished it, if it said so.
    pub completed: Option<UnixMillis>,
}

/// How a sample ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A video.
    Succeeded(Video),
    /// The task failed.
    Failed(Failure),
    /// The submission was refused.
    Rejected(Failure),
    /// The task outlived the time-out.
    TimedOut(Failure),
    /// The task cannot be found, or has no video.
    Lost(Failure),
    /// The submission's fate is not known.
    Unknown(Failure),
}

impl Outcome {
    /// The status this outcome is reported as.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Succeeded(_) => Status::Succeeded,
            Self::Failed(_) => Status::Failed,
            Self::Rejected(_) => Status::Rejected,
            Self::TimedOut(_) => Status::TimedOut,
            Self::Lost(_) => Status::Lost,
            Self::Unknown(_) => Status::Unknown,
        }
    }

    /// Why, unless it succeeded.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Succeeded(_) => None,
            Self::Failed(failure)
            | Self::Rejected(failure)
            | Self::TimedOut(failure)
            | Self::Lost(failure)
            | Self::Unknown(failure) => Some(failure),
        }
    }
}

/// How many samples stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally([u64; 8]);

impl Tally {
    /// How many samples have `status`.
    #[must_use]
    pub const fn count(&self, status: Status) -> u64 {
        self.0[status as usize]
    }

    /// Puts `count` samples under `status`.
    pub const fn set(&mut self, status: Status, count: u64) {
        self.0[status as usize] = count;
    }

    /// Moves one sample from one status to another.
    pub const fn shift(&mut self, from: Status, to: Status) {
        self.0[from as usize] = self.0[from as usize].saturating_sub(1);
        self.0[to as usize] += 1;
    }

    /// All samples.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Samples that have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.total() - self.count(Status::Pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_texts_are_one_short_line() {
        let failure = Failure::new(FailureKind::Input, Some(" A\nB "), &"a\u{1b}[31m b\r\n".repeat(200));
        assert_eq!(failure.code.as_deref(), Some("A B"));
        assert!(!failure.message.chars().any(char::is_control));
        assert_eq!(failure.message.chars().count(), Failure::LONGEST_MESSAGE + 1);
    }

    #[test]
    fn a_blank_task_id_is_none() {
        assert_eq!(TaskId::new("  "), None);
        assert_eq!(TaskId::new("a\u{0}b"), None);
        assert_eq!(TaskId::new(" task_1 ").map(|id| id.to_string()), Some("task_1".to_owned()));
    }
}
