//! What the engine asks of a video API, and what an answer means to it.
//!
//! The contract: **a submission is never repeated unless the answer proves that it was not
//! accepted.** [`Submitted::NotAccepted`], [`Submitted::Rejected`], [`Submitted::NoMoney`] and
//! [`Submitted::KeyRefused`] are such proof; [`Submitted::InDoubt`] is not. Asking for a task's
//! state or the balance may be repeated at will. Dropping a future of [`VideoApi::submit`] before
//! it is ready leaves the submission in doubt.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::generation::Generation;
use crate::job::{Failure, TaskId, UnixMillis, Usd, Video};

/// Where the API is asked to tell that a task has ended. Whoever knows it can speak for the API, so it
/// is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(String);

impl CallbackUrl {
    /// The address, as it is to be sent.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The address, for the request and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackUrl(..)")
    }
}

/// What a submission came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// A task was made.
    Accepted(TaskId),
    /// Surely not accepted, and through no fault of the request: the same request may go again,
    /// after everyone has waited.
    NotAccepted(Refusal),
    /// Refused because of what it asks for: the sample ends, and the same request would fail again.
    Rejected(Failure),
    /// Refused for want of money: buying stops.
    NoMoney(Failure),
    /// Refused because of the key: buying stops.
    KeyRefused(Failure),
    /// It may or may not have been accepted.
    InDoubt(Failure),
}

/// Why everyone has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What to slow down.
    pub cause: RefusalCause,
    /// How long the API asked us to wait, if it did.
    pub retry_after: Option<Duration>,
    /// For the log and the summary.
    pub failure: Failure,
}

/// What stood in the way of a request that was surely not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCause {
    /// Too many requests (429).
    Rate,
    /// Too many tasks alive (429 that says so).
    Concurrency,
    /// The service is away (503).
    Unavailable,
    /// No connection was made.
    Connect,
}

/// What a look at a task came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// Still being made. Any state that is not known to be an end means this.
    Alive(Stage),
    /// A video.
    Succeeded(Video),
    /// The API calls it a success and names no video.
    SucceededWithoutUrl,
    /// The task failed.
    Failed(TaskFailure),
    /// The API does not know the task.
    NotFound(Failure),
    /// The look was surely not answered because everyone has to wait; the task is as it was.
    NotAnswered(Refusal),
    /// The key was refused; the task is as it was.
    KeyRefused(Failure),
    /// The look failed in another way; the task is as it was.
    Unclear(Failure),
}

/// How far a task is that is still being made, as far as the API says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It waits to be begun (`pending`).
    Pending,
    /// It is worked on (`processing`).
    Processing,
    /// In a state that no page names, or nothing is known of it.
    #[default]
    Unnamed,
}

/// A task that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// Why.
    pub failure: Failure,
    /// What it means for the sample.
    pub verdict: Verdict,
    /// When the API took the task, if it said so.
    pub created: Option<UnixMillis>,
    /// When the task ended, if it said so.
    pub completed: Option<UnixMillis>,
}

/// What a failed task means for its sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The same request would fail again.
    Final,
    /// A new, paid attempt may succeed.
    MayRetry,
    /// The account has no money: buying stops, and the sample waits.
    NoMoney,
}

/// What a look at the balance came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// What is left. `None` for an answer that is well but holds no readable amount.
    Left(Option<Usd>),
    /// The key was refused.
    KeyRefused(Failure),
    /// The look failed in another way.
    Unclear(Failure),
}

/// A service that makes videos in the background.
///
/// Implementations send exactly one request per call: no retries and no redirects of their own,
/// since either would pass the limits unseen.
pub trait VideoApi {
    /// Asks for one video, and to be told at `callback`, if it is given, when its task has ended.
    /// **Not** safe to repeat.
    fn submit(
        &self,
        generation: Generation,
        callback: Option<CallbackUrl>,
    ) -> impl Future<Output = Submitted> + Send;

    /// Asks how a task is. Safe to repeat.
    fn status(&self, task: TaskId) -> impl Future<Output = Polled> + Send;

    /// Asks what the account has left. Safe to repeat.
    fn balance(&self) -> impl Future<Output = Balance> + Send;
}
