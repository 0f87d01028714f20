//! An API whose tasks take as long as their rows say.
//!
//! Counts what reaches it and refuses what is over a limit, in memory and in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use batchveo::api::{Balance, CallbackUrl, Polled, Refusal, RefusalCause, Stage, Submitted, VideoApi};
use batchveo::callback::{Arrival, Inbox};
use batchveo::clock::Clock;
use batchveo::generation::Generation;
use batchveo::job::{Failure, FailureKind, Limits, Stamp, TaskId, UnixMillis, Usd, Video};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::Notify;

/// When the state file is born, on the wall.
pub(super) const BIRTH: UnixMillis = UnixMillis(1_800_000_000_000);

const WINDOW: Duration = Duration::from_secs(60);
/// Half to one and a half of it lie between a request and its answer, an end and its callback.
const LATENCY: Duration = Duration::from_millis(100);
/// A look that waits for the end is answered at this age at the latest: the task time-out, when whoever
/// asks gives the task up.
const LONGEST: Duration = Duration::from_mins(30);

/// When a look at a task is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// Soon, as it was at that moment.
    WhenAsked,
    /// When it has ended, with the network's delay.
    OverTheNetwork,
    /// When it has ended.
    AtOnce,
}

/// See the module. Clones are the same service.
#[derive(Clone)]
pub(super) struct Service(Arc<Inside>);

struct Inside {
    clock: Clock,
    durations: Vec<f64>,
    tells: Tells,
    books: Mutex<Books>,
    more_calls: Notify,
}

/// A callback that is due: when, for which row, and where.
type Call = Reverse<(Stamp, usize, String)>;

#[derive(Default)]
struct Books {
    window: VecDeque<Stamp>,
    alive: BinaryHeap<Reverse<Stamp>>,
    created: Vec<Stamp>,
    calls: BinaryHeap<Call>,
    requests: u64,
    refused: u64,
    fullest_window: usize,
}

impl Books {
    /// Takes note of a request; whether it is within the limit.
    fn admits(&mut self, now: Stamp) -> bool {
        while self.window.front().is_some_and(|sent| now.since(*sent) > WINDOW) {
            self.window.pop_front();
        }
        self.window.push_back(now);
        self.requests += 1;
        self.fullest_window = self.fullest_window.max(self.window.len());
        self.window.len() <= Limits::DOCUMENTED.requests_per_minute.get() as usize
    }

    /// Whether there is room for another task.
    fn has_room(&mut self, now: Stamp) -> bool {
        while self.alive.peek().is_some_and(|Reverse(ends)| *ends <= now) {
            self.alive.pop();
        }
        self.alive.len() < Limits::DOCUMENTED.concurrent_tasks.get() as usize
    }

    fn refuse(&mut self, cause: RefusalCause) -> Refusal {
        self.refused += 1;
        Refusal {
            cause,
            retry_after: None,
            failure: Failure::new(FailureKind::Transient, Some("http_429"), ""),
        }
    }
}

impl Service {
    pub(super) fn new(clock: Clock, durations: &[f64], tells: Tells) -> Self {
        let books = Books { created: vec![Stamp::BIRTH; durations.len()], ..Books::default() };
        Self(Arc::new(Inside {
            clock,
            durations: durations.to_vec(),
            tells,
            books: Mutex::new(books),
            more_calls: Notify::new(),
        }))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().expect("no panic")
    }

    /// Requests, those refused, and the most in any window.
    pub(super) fn counts(&self) -> (u64, u64, usize) {
        let books = self.books();
        (books.requests, books.refused, books.fullest_window)
    }

    /// When the task of this row ends, unless it never does.
    pub(super) fn ends(&self, row: usize) -> Option<Stamp> {
        Some(self.books().created[row] + Duration::try_from_secs_f64(self.0.durations[row]).ok()?)
    }

    fn made(&self, row: usize, ended: Stamp) -> Video {
        let created = self.books().created[row];
        let urls = vec![format!("https://video.example/{row}.mp4")];
        Video { urls, created: Some(BIRTH.at(created)), completed: Some(BIRTH.at(ended)) }
    }

    /// The callbacks, each when it arrives.
    pub(super) fn arrivals(&self, inbox: Inbox) -> BoxStream<'static, Arrival> {
        let next = |(service, inbox): (Self, Inbox)| async move {
            loop {
                let first = service.books().calls.peek().map(|Reverse((at, ..))| *at);
                match first {
                    Some(at) if at <= service.0.clock.now() => {
                        let call = service.books().calls.pop();
                        let Some(Reverse((_, row, url))) = call else { continue };
                        let arrival = inbox.read(&url, &service.body(row)).expect("an address of ours");
                        return Some((arrival, (service, inbox)));
                    }
                    Some(at) => tokio::select! {
                        biased;
                        () = service.0.more_calls.notified() => {}
                        () = service.0.clock.sleep_until(at) => {}
                    },
                    None => service.0.more_calls.notified().await,
                }
            }
        };
        stream::unfold((self.clone(), inbox), next).boxed()
    }

    /// A callback's body, by the vendor's page.
    fn body(&self, row: usize) -> Vec<u8> {
        let Some(Video { urls, created, completed }) = self.ends(row).map(|ended| self.made(row, ended))
        else {
            return Vec::new();
        };
        let urls = serde_json::json!({ "resultUrls": urls }).to_string();
        serde_json::json!({
            "code": 200,
            "message": "success",
            "data": {
                "taskId": name(row),
                "state": "success",
                "createTime": created,
                "completeTime": completed,
                "resultJson": urls,
            }
        })
        .to_string()
        .into_bytes()
    }
}

impl VideoApi for Service {
    async fn submit(&self, generation: Generation, callback: Option<CallbackUrl>) -> Submitted {
        let row = row_of(&generation.draft().prompt);
        let answer = {
            let mut books = self.books();
            let now = self.0.clock.now();
            if !books.admits(now) {
                Submitted::NotAccepted(books.refuse(RefusalCause::Rate))
            } else if !books.has_room(now) {
                Submitted::NotAccepted(books.refuse(RefusalCause::Concurrency))
            } else {
                let lives = Duration::try_from_secs_f64(self.0.durations[row]).unwrap_or(LONGEST);
                books.alive.push(Reverse(now + lives));
                books.created[row] = now;
                if let Some(url) = callback {
                    books.calls.push(Reverse((now + lives + latency(row, 1), row, url.expose().to_owned())));
                    self.0.more_calls.notify_one();
                }
                Submitted::Accepted(TaskId::new(&name(row)).expect("a name"))
            }
        };
        self.0.clock.sleep(latency(row, 0)).await;
        answer
    }

    async fn status(&self, task: TaskId) -> Polled {
        let row = row_of(task.as_str());
        let asked = self.0.clock.now();
        let refused = {
            let mut books = self.books();
            if books.admits(asked) { None } else { Some(books.refuse(RefusalCause::Rate)) }
        };
        let ends = self.ends(row);
        let waits = self.0.tells != Tells::WhenAsked;
        if waits {
            let longest = self.books().created[row] + LONGEST;
            self.0.clock.sleep_until(ends.unwrap_or(longest)).await;
        }
        let seen = self.0.clock.now();
        if self.0.tells != Tells::AtOnce {
            self.0.clock.sleep(latency(row, asked.as_millis())).await;
        }
        match (refused, ends) {
            (Some(refusal), _) => Polled::NotAnswered(refusal),
            (None, Some(ended)) if ended <= seen => Polled::Succeeded(self.made(row, ended)),
            (None, _) => Polled::Alive(Stage::Processing),
        }
    }

    async fn balance(&self) -> Balance {
        Balance::Left(Some(Usd::from_cents(10_000_000)))
    }
}

/// Another for each row and question, the same in every run.
fn latency(row: usize, question: u64) -> Duration {
    let word = (row as u64 ^ question.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    LATENCY.mul_f64(0.5 + (word >> 40) as f64 / (1_u64 << 24) as f64)
}

fn name(row: usize) -> String {
    format!("task {row}")
}

/// The number behind the last blank, of a prompt or a task's name.
fn row_of(text: &str) -> usize {
    text.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number of ours")
}
