//! What can go wrong, as values: faults of requests, of tasks, of their callbacks and of the account.
//!
//! Owns the words and what each of them makes of an answer; which request it strikes is for
//! [`super::scenario`]. Of everything that may or may not have been accepted, half is, unless the
//! scenario says otherwise: a client that takes such an answer for a refusal buys twice, and the
//! judge sees it.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::fate::FailCode;
use super::judge::{Endpoint, Injected};
use super::window::Window;
use crate::job::{Limits, Usd};

/// What reaches the client of an answer that a fault has damaged, or what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// The documented envelope.
    Json,
    /// The same without `data`.
    NoData,
    /// A page, as proxies write it.
    Html,
    /// The first half of the envelope, sent as if it were the whole.
    Truncated,
    /// Nothing.
    Empty,
}

/// A request and its answer that go wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RequestFault {
    pub(super) endpoints: Endpoints,
    /// Of the requests in the window, 0 to 1.
    pub(super) share: f64,
    pub(super) window: Window,
    pub(super) deed: Deed,
}

/// Whom a fault of requests strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Endpoints {
    pub(super) submit: bool,
    pub(super) status: bool,
    pub(super) balance: bool,
}

impl Endpoints {
    pub(super) const ALL: Self = Self { submit: true, status: true, balance: true };

    pub(super) const fn hold(self, endpoint: Endpoint) -> bool {
        match endpoint {
            Endpoint::Generate => self.submit,
            Endpoint::Status => self.status,
            Endpoint::Balance => self.balance,
            Endpoint::Unknown => false,
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    /// It is answered with this, carried out or not.
    Answer(Wrong),
    /// It is answered well or not at all, and the connection breaks in the middle of the body.
    Cut {
        /// Share of the struck submissions that are accepted.
        accepted: f64,
    },
    /// The connection breaks before the request is read.
    DropBefore,
    /// The connection breaks after the request is carried out.
    DropAfter,
    /// The answer comes late. What is not carried out is answered 504 by then.
    Slow {
        /// By how much.
        by: Duration,
        /// Share of the struck submissions that are accepted.
        accepted: f64,
    },
    /// No connection is made.
    NoConnection {
        /// How long the client is kept waiting for that; its connect time-out may come first.
        after: Duration,
    },
}

/// An answer that a fault gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wrong {
    pub(super) status: u16,
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) shape: Shape,
    pub(super) retry_after: Option<Duration>,
    /// Share of the struck submissions that are accepted.
    pub(super) accepted: f64,
}

impl Wrong {
    /// Whether the number is a refusal by the vendor's pages; no other says what became of the request.
    pub(super) const fn refuses(number: u16) -> bool {
        matches!(number, 503 | 400..=407 | 409..=499)
    }

    /// Counts itself as what it is.
    pub(super) const fn count_in(&self, injected: &mut Injected) {
        let number = if matches!(self.status, 200..=299) { self.code } else { self.status };
        let count = match number {
            200..=299 => &mut injected.damaged,
            300..=399 => &mut injected.redirects,
            401 => &mut injected.unauthorized_401,
            429 => &mut injected.throttled_429,
            503 => &mut injected.unavailable_503,
            _ => &mut injected.errors,
        };
        *count += 1;
    }

    /// The body. `well` is what would have been answered, for a request that was carried out.
    pub(super) fn body(&self, well: Option<&[u8]>) -> Vec<u8> {
        let mut envelope = json!({ "code": self.code, "message": self.message });
        match self.shape {
            Shape::Json => envelope["data"] = Value::Null,
            Shape::NoData => {}
            Shape::Html => {
                let Self { status, message, .. } = self;
                let page = format!("<html><head><title>{status} {message}</title></head>\r\n<body>");
                return format!(
                    "{page}\r\n<center><h1>{status} {message}</h1></center>\r\n</body></html>\r\n"
                )
                .into_bytes();
            }
            Shape::Truncated => return half(well),
            Shape::Empty => return Vec::new(),
        }
        envelope.to_string().into_bytes()
    }
}

/// The first half of an answer; of one that was never made, what all of them begin with.
pub(super) fn half(well: Option<&[u8]>) -> Vec<u8> {
    well.map_or_else(|| br#"{"code":200,"message":"suc"#.to_vec(), |body| body[..body.len() / 2].to_vec())
}

/// Tasks that go wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskFault {
    /// Of the tasks accepted in the window, 0 to 1.
    pub(super) share: f64,
    pub(super) window: Window,
    pub(super) twist: Twist,
}

/// What is wrong with a task.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Twist {
    /// 404 for the first part of its life, or for good.
    Unknown {
        /// How long; for good, if `None`.
        first: Option<Duration>,
    },
    /// While it is alive, its state is this word.
    State(String),
    /// It fails, with one of these codes.
    Fail(Vec<FailCode>),
    /// It is made for ever.
    NeverEnds {
        /// How long it keeps its slot all the same.
        holds: Duration,
    },
    /// It succeeds without a URL.
    NoUrl,
    /// Its `resultJson` is an object and not a string.
    ResultObject,
    /// Its callback, if one is wanted, is not as it should be.
    Callback(Telling),
}

/// What is wrong with the callback of a task. The default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Telling {
    /// No attempt is made.
    pub(super) lost: bool,
    /// It comes once more, whatever became of the first.
    pub(super) twice: bool,
    /// It comes so much later.
    pub(super) late: Option<Duration>,
    /// The task ends at once, and its callback comes before its submission is answered.
    pub(super) early: bool,
}

/// An account that is not as documented.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AccountFault {
    /// Less is allowed than documented: another program uses the account too.
    Limits { window: Window, requests: Option<Amount>, tasks: Option<Amount> },
    /// The account holds this much, and says that it is empty in this way.
    Money { balance: Option<Usd>, told: NoMoney },
}

/// How want of money is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(super) enum NoMoney {
    /// 400 "Insufficient credits", as in a sample of the vendor's.
    #[default]
    #[serde(rename = "400")]
    BadRequest,
    /// 402, as on the vendor's page of errors.
    #[serde(rename = "402")]
    PaymentRequired,
    /// The task is taken, costs nothing, and fails of `INSUFFICIENT_CREDITS`.
    #[serde(rename = "fail_code")]
    FailCode,
}

/// A limit: so many, or a part of what is documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Count(NonZeroU32),
    /// 1 to 100.
    Percent(u32),
}

impl Amount {
    fn of(self, whole: NonZeroU32) -> NonZeroU32 {
        match self {
            Self::Count(count) => count.min(whole),
            Self::Percent(percent) => {
                let part = u64::from(whole.get()) * u64::from(percent) / 100;
                u32::try_from(part).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
            }
        }
    }
}

/// What is left of `limits`.
pub(super) fn lowered(limits: Limits, requests: Option<Amount>, tasks: Option<Amount>) -> Limits {
    let part = |amount: Option<Amount>, whole| amount.map_or(whole, |amount| amount.of(whole));
    Limits {
        requests_per_minute: part(requests, limits.requests_per_minute),
        concurrent_tasks: part(tasks, limits.concurrent_tasks),
    }
}
