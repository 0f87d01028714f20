//! The API, as a value: requests go in with the time, answers come out with how long they take.
//!
//! Knows no socket, no runtime and no clock, so that the same model answers in memory and over
//! HTTP. Each request goes through the same doors in this order: the rate, the key, the rules, the
//! money, the slots; only then is it written down and accepted. A scenario that injects faults
//! belongs between those doors.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use super::Settings;
use super::fate::{self, FailCode, Fate, Marker};
use super::judge::{Breach, Endpoint, Judge};
use super::ledger::{Acceptance, Ledger, LedgerError};
use super::request::{self, RequestHash};
use super::task::Task;
use super::verdict::{AskedBasis, Verdict};
use crate::job::{Stamp, UnixMillis, Usd};
use crate::veo::Reply;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// This very process, which needs no key.
    InProcess,
    /// Somebody with this `Authorization` header, or without one.
    Http(Option<&'a str>),
}

/// An answer, and how long the service takes to give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What is answered.
    pub reply: Reply,
    /// From the arrival of the request to the answer, on the simulation's clock.
    pub latency: Duration,
}

/// A simulated account at the API.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    birth: UnixMillis,
    judge: Judge,
    ledger: Ledger,
    /// The latest time seen.
    now: Stamp,
}

/// Why a request is not served.
enum Refused {
    Breach(Breach),
    Unauthorized,
    Invalid(String),
    NoMoney,
    UnknownTask,
    UnknownEndpoint,
    Ledger(LedgerError),
}

impl Refused {
    /// HTTP status, message and, where the documented envelope has it, `data`.
    fn envelope(&self) -> (u16, &'static str, Option<Value>) {
        match self {
            Self::Breach(Breach::Rate) => (429, "Too many requests", Some(Value::Null)),
            Self::Breach(Breach::Alive) => (429, "Too many concurrent tasks", Some(Value::Null)),
            Self::Unauthorized => (401, "Invalid or missing API key", None),
            Self::Invalid(error) => (400, "Invalid request", Some(json!({ "error": error }))),
            Self::NoMoney => (400, "Insufficient credits", Some(Value::Null)),
            Self::UnknownTask => (404, "Task not found", Some(Value::Null)),
            Self::UnknownEndpoint => (404, "Not found", Some(Value::Null)),
            Self::Ledger(_) => (500, "Internal server error", Some(Value::Null)),
        }
    }
}

/// A served request: the body, and what its latency is drawn from.
struct Served {
    body: Vec<u8>,
    request: RequestHash,
    salt: u64,
}

#[derive(Serialize)]
struct Success<T> {
    code: u16,
    message: &'static str,
    data: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Accepted<'a> {
    task_id: &'a str,
}

/// The `data` of a status answer. `costTime` comes with successes only, as in the vendor's samples.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskState<'a> {
    task_id: &'a str,
    state: &'static str,
    create_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_time: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_msg: Option<&'static str>,
}

impl Model {
    /// An account with the books of `ledger`, in which `now` is that long after `birth`.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn new(
        settings: Settings,
        birth: UnixMillis,
        ledger: Ledger,
        now: Stamp,
    ) -> Result<Self, LedgerError> {
        let mut judge = Judge::new(settings.limits);
        ledger.for_alive(now, |ends_ms| judge.live(ends_ms))?;
        Ok(Self { settings, birth, judge, ledger, now })
    }

    /// `POST /generateTask/veo-3-1`.
    pub fn generate(&mut self, caller: Caller<'_>, body: &[u8], now: Stamp) -> Answer {
        let served = self.admit(Endpoint::Generate, caller, now).and_then(|()| self.accept(body));
        self.answer(caller, served)
    }

    /// `GET /statusTask/veo-3-1`; `task_id` is `None` when the query has none.
    pub fn status(&mut self, caller: Caller<'_>, task_id: Option<&str>, now: Stamp) -> Answer {
        let served = self.admit(Endpoint::Status, caller, now).and_then(|()| self.look(task_id));
        self.answer(caller, served)
    }

    /// `GET /apikeys/current-balance`: dollars, to the hundredth of a cent.
    pub fn balance(&mut self, caller: Caller<'_>, now: Stamp) -> Answer {
        let served = self.admit(Endpoint::Balance, caller, now).map(|()| {
            let left = Usd::from_micros(self.balance_left().micros() / 100 * 100).dollars();
            Served { body: success(left), request: RequestHash(0), salt: self.now.as_nanos() }
        });
        self.answer(caller, served)
    }

    /// Anything the API does not have.
    pub fn unknown_endpoint(&mut self, caller: Caller<'_>, now: Stamp) -> Answer {
        let refused = self.admit(Endpoint::Unknown, caller, now).and(Err(Refused::UnknownEndpoint));
        self.answer(caller, refused)
    }

    /// The books.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The books, to write down what is asked for.
    pub const fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// What the judge has to say so far. Reads the whole ledger once.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn verdict(&self) -> Result<Verdict, LedgerError> {
        let totals = self.ledger.totals();
        let counts = self.judge.counts;
        let bought_twice = self.ledger.bought_twice()?;
        let (fullest_window, most_alive) = (self.judge.fullest_window as u64, self.judge.most_alive as u64);
        let window_limit = u64::from(self.settings.limits.requests_per_minute.get());
        let alive_limit = u64::from(self.settings.limits.concurrent_tasks.get());
        Ok(Verdict {
            requests: counts.requests(),
            counts,
            fullest_window,
            window_limit,
            most_alive,
            alive_limit,
            accepted: totals.accepted,
            failed: totals.failed,
            delivered: totals.accepted - totals.failed,
            bought_twice,
            asked_basis: if self.ledger.expecting() {
                AskedBasis::Samples
            } else {
                AskedBasis::EachRequestOnce
            },
            spent: totals.spent,
            balance_left: self.balance_left(),
            held: fullest_window <= window_limit
                && most_alive <= alive_limit
                && counts.throttled_429 == 0
                && bought_twice == 0,
        })
    }

    fn balance_left(&self) -> Usd {
        Usd::from_micros(self.settings.balance.micros().saturating_sub(self.ledger.totals().spent.micros()))
    }

    /// The rate and the key. Time never runs backwards here, whatever order callers come in.
    fn admit(&mut self, endpoint: Endpoint, caller: Caller<'_>, now: Stamp) -> Result<(), Refused> {
        self.now = self.now.max(now);
        self.judge.arrive(endpoint, self.now).map_err(Refused::Breach)?;
        if knows_key(caller, self.settings.key.as_ref()) { Ok(()) } else { Err(Refused::Unauthorized) }
    }

    /// The rules, the money and the slots; then the purchase.
    fn accept(&mut self, body: &[u8]) -> Result<Served, Refused> {
        let request = request::read(body).map_err(Refused::Invalid)?;
        if let Some(Marker::Refuse(code)) = request.marker {
            return Err(Refused::Invalid(code.as_str().to_owned()));
        }
        let cost = self.settings.prices.of(request.mode);
        if self.balance_left() < cost {
            return Err(Refused::NoMoney);
        }
        self.judge.room(self.now).map_err(Refused::Breach)?;
        let nth = self.ledger.accepted(request.hash).map_err(Refused::Ledger)?;
        let fate = Fate::of(&self.settings, request, nth);
        let ends_ms = self.now.as_millis() + u64::from(fate.duration_ms);
        let acceptance = Acceptance {
            request: request.hash,
            nth,
            accepted: self.now,
            ends_ms,
            failed: fate.failure.is_some(),
            cost,
        };
        self.ledger.record(&acceptance).map_err(Refused::Ledger)?;
        self.judge.live(ends_ms);
        let task = Task { created: self.birth.at(self.now), fate, request: request.hash, nth };
        let task_id = task.encode(self.settings.seed);
        let body = success(Accepted { task_id: &task_id });
        Ok(Served { body, request: request.hash, salt: u64::from(nth) })
    }

    fn look(&self, task_id: Option<&str>) -> Result<Served, Refused> {
        let task_id = task_id.ok_or_else(|| Refused::Invalid("Missing required field: taskId".into()))?;
        let task = Task::decode(self.settings.seed, task_id).ok_or(Refused::UnknownTask)?;
        let data = state_at(&task, task_id, self.birth.at(self.now));
        Ok(Served { body: success(data), request: task.request, salt: self.now.as_nanos() })
    }

    fn answer(&mut self, caller: Caller<'_>, served: Result<Served, Refused>) -> Answer {
        let (status, body, request, salt) = match served {
            Ok(Served { body, request, salt }) => (200, body, request, salt),
            Err(refused) => {
                if let Refused::Ledger(error) = &refused {
                    tracing::error!(%error, "the simulator cannot keep its ledger");
                }
                let (status, message, data) = refused.envelope();
                let mut envelope = json!({ "code": status, "message": message });
                if let Some(data) = data {
                    envelope["data"] = data;
                }
                if let (true, Caller::Http(Some(header))) = (self.settings.echo_headers, caller) {
                    envelope["message"] = format!("{message} (Authorization: {header})").into();
                }
                (status, envelope.to_string().into_bytes(), RequestHash(0), self.now.as_nanos())
            }
        };
        self.judge.answered(status);
        let latency = fate::latency(&self.settings, request, salt);
        Answer { reply: Reply { status, retry_after: None, body }, latency }
    }
}

fn knows_key(caller: Caller<'_>, key: Option<&SecretString>) -> bool {
    match caller {
        Caller::InProcess => true,
        Caller::Http(None) => false,
        Caller::Http(Some(header)) => header
            .strip_prefix("Bearer ")
            .map(str::trim)
            .is_some_and(|token| key.map_or_else(|| !token.is_empty(), |key| key.expose_secret() == token)),
    }
}

/// How a task stands at `now`.
fn state_at<'a>(task: &Task, task_id: &'a str, now: UnixMillis) -> TaskState<'a> {
    let Fate { duration_ms, waiting_ms, failure } = task.fate;
    let ends = task.created.0.saturating_add(i64::from(duration_ms));
    let ended = now.0 >= ends;
    let made = ended && failure.is_none();
    let failure = failure.filter(|_| ended);
    let state = if made {
        "success"
    } else if ended {
        "failed"
    } else if now.0 < task.created.0.saturating_add(i64::from(waiting_ms)) {
        "pending"
    } else {
        "processing"
    };
    let result = || {
        let Task { request, nth, .. } = task;
        format!(r#"{{"resultUrls":["https://simulated.invalid/{request}-{nth}.mp4"]}}"#)
    };
    TaskState {
        task_id,
        state,
        create_time: task.created.0,
        complete_time: ended.then_some(ends),
        cost_time: made.then(|| duration_ms.saturating_sub(waiting_ms)),
        result_json: made.then(result),
        fail_code: failure.map(FailCode::as_str),
        fail_msg: failure.map(FailCode::message),
    }
}

fn success<T: Serialize>(data: T) -> Vec<u8> {
    serde_json::to_vec(&Success { code: 200, message: "success", data })
        .expect("strings and numbers always become JSON")
}
