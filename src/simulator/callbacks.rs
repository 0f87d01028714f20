//! Callbacks: who is told of a task's end, when, how often, and what came of it.
//!
//! Knows no socket and no clock; whoever has them takes each attempt when it is due and says how it was
//! answered. The rules are the vendor's: one delivery when the task ends, acknowledged by 200 within
//! 30 s and by nothing else, and at most three more, each so long after the failure before it. What is
//! under way is in memory alone: a simulator that dies tells nobody of the tasks it had accepted, which
//! a client finds out by looking, as it must with any service.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Settings;
use super::fate;
use super::fault::Telling;
use super::task::Task;
use crate::job::Stamp;

/// How long an attempt may take; what has not answered 200 by then has not answered.
pub const CALLBACK_PATIENCE: Duration = Duration::from_secs(30);

/// From a failed attempt to the next. After the last of them it is given up.
const RETRIES: [Duration; 3] = [Duration::from_secs(30), Duration::from_mins(2), Duration::from_mins(10)];

/// What became of callbacks, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CallbackCounts {
    /// Tasks that have ended and were to be told of.
    pub due: u64,
    /// Requests sent, with those sent again and those sent twice.
    pub delivered: u64,
    /// Of them, those answered 200 in time.
    pub acknowledged: u64,
    /// Of them, those answered otherwise, too late or not at all.
    pub refused: u64,
    /// Of those delivered, those that an earlier failure caused.
    pub retried: u64,
    /// Deliveries whose last attempt has failed.
    pub given_up: u64,
    /// Addresses that the simulator does not call.
    pub not_called: u64,
    /// Tasks of which the scenario tells nobody.
    pub lost: u64,
    /// Deliveries that the scenario makes once more, whatever became of the first.
    pub repeated: u64,
    /// Tasks of which the scenario tells late.
    pub late: u64,
    /// Tasks of which the scenario tells before their submission is answered.
    pub early: u64,
}

impl fmt::Display for CallbackCounts {
    /// What there was, such as `12 due, 12 sent, 12 acknowledged`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { due, delivered, acknowledged, .. } = self;
        write!(f, "{due} due, {delivered} sent, {acknowledged} acknowledged")?;
        let rest = [
            (self.refused, "refused"),
            (self.retried, "sent again"),
            (self.given_up, "given up"),
            (self.not_called, "not sent: --call-any-host"),
            (self.lost, "lost by the scenario"),
            (self.repeated, "sent twice"),
            (self.late, "sent late"),
            (self.early, "sent early"),
        ];
        rest.into_iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, kind)| write!(f, ", {count} {kind}"))
    }
}

/// An attempt to tell of a task's end. It is to be made now, and [`super::Model::called_back`] to be told
/// what came of it.
#[derive(Debug)]
pub struct Callback {
    pub(super) notice: Notice,
    /// What to POST: what a look at the task would be answered.
    pub body: Vec<u8>,
}

impl Callback {
    /// Where to: the `callback_url` of the submission.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.notice.url
    }
}

/// How an attempt was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackAnswer {
    /// With this HTTP status, within [`CALLBACK_PATIENCE`].
    Status(u16),
    /// Too late, or not at all.
    Nothing,
    /// It was not made, and never will be: the address is none that the simulator calls.
    NotCalled,
}

/// What there is to tell.
#[derive(Debug)]
pub enum NextCallback {
    /// This, now.
    Send(Callback),
    /// Nothing before then.
    At(Stamp),
    /// Nothing.
    Nothing,
}

/// Who is to be told of which task.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    url: String,
    pub(super) task: Task,
    telling: Telling,
    failures: usize,
    /// The one that [`Telling::twice`] adds.
    copy: bool,
}

/// A notice and when it is due. Ordered by that, and then by which came first.
#[derive(Debug)]
struct Due {
    key: (Stamp, u64),
    notice: Notice,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// The attempts to come, in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    /// Whether anybody takes them; without, nothing is kept.
    taken: bool,
    to_come: BinaryHeap<Reverse<Due>>,
    /// Attempts so far.
    count: u64,
    counts: CallbackCounts,
}

impl Callbacks {
    /// From here on somebody takes what is due.
    pub(super) const fn take_from_now(&mut self) {
        self.taken = true;
    }

    pub(super) const fn counts(&self) -> CallbackCounts {
        self.counts
    }

    /// When the next attempt is due.
    pub(super) fn next_at(&self) -> Option<Stamp> {
        self.to_come.peek().map(|Reverse(due)| due.key.0)
    }

    /// Whoever asked for `task`, which ends at `ends`, is to be told of that at `url`.
    pub(super) fn expect(
        &mut self,
        settings: &Settings,
        (url, task): (&str, Task),
        ends: Stamp,
        telling: Telling,
    ) {
        if self.taken {
            let notice = Notice { url: url.to_owned(), task, telling, failures: 0, copy: false };
            let late = telling.late.unwrap_or_default();
            self.push(ends + fate::callback_latency(settings, &task, false) + late, notice);
        }
    }

    /// The next attempt, if one is due at `now`.
    pub(super) fn next(&mut self, settings: &Settings, now: Stamp) -> Option<Notice> {
        while self.next_at().is_some_and(|at| at <= now) {
            let Reverse(Due { notice, .. }) = self.to_come.pop()?;
            let Notice { task, telling, failures, copy, .. } = notice;
            let first = failures == 0 && !copy;
            let counts = &mut self.counts;
            counts.due += u64::from(first);
            if telling.lost {
                counts.lost += 1;
                continue;
            }
            counts.delivered += 1;
            counts.retried += u64::from(failures > 0);
            counts.repeated += u64::from(failures == 0 && copy);
            counts.late += u64::from(first && telling.late.is_some());
            counts.early += u64::from(first && telling.early);
            if first && telling.twice {
                let again = Notice { copy: true, ..notice.clone() };
                self.push(now + fate::callback_latency(settings, &task, true), again);
            }
            return Some(notice);
        }
        None
    }

    /// Takes note of what came of an attempt, at `now`, and of the next, if there is to be one.
    pub(super) fn answered(&mut self, notice: Notice, answer: CallbackAnswer, now: Stamp) {
        match answer {
            CallbackAnswer::Status(200) => self.counts.acknowledged += 1,
            CallbackAnswer::NotCalled => {
                self.counts.delivered -= 1;
                self.counts.not_called += 1;
            }
            CallbackAnswer::Status(_) | CallbackAnswer::Nothing => {
                self.counts.refused += 1;
                match RETRIES.get(notice.failures) {
                    Some(wait) => {
                        let failures = notice.failures + 1;
                        let again = Notice { failures, telling: Telling::default(), ..notice };
                        self.push(now + *wait, again);
                    }
                    None => self.counts.given_up += 1,
                }
            }
        }
    }

    fn push(&mut self, at: Stamp, notice: Notice) {
        self.count += 1;
        self.to_come.push(Reverse(Due { key: (at, self.count), notice }));
    }
}
