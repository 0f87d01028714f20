//! What holds of any answer at all.
//!
//! An input is a line with the HTTP status and perhaps the seconds of a `Retry-After`, and the
//! body below it. The rules are DESIGN's and are written here a second time, by number and field
//! alone, so that the table in `classify` is held against something that is not itself.

use std::time::Duration;

use batchveo::api::{Balance, Polled, Refusal, RefusalCause, Submitted, Verdict};
use batchveo::job::{Failure, FailureKind, UnixMillis};
use batchveo::veo::{Reply, read_balance, read_status, read_submission};
use serde_json::Value;

/// Each body is read under these as well: a success, and two after which nothing is known.
const STATUSES: [u16; 3] = [200, 302, 500];
/// The last millisecond of the year 9999.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// Reads the answer in `data` as every kind of answer.
///
/// # Panics
///
/// When an invariant does not hold.
pub(crate) fn check(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    let mut head = head.split_whitespace();
    let status = head.next().and_then(|text| text.parse().ok()).unwrap_or(200);
    let retry_after = head.next().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let body = data.get(end + 1..).unwrap_or_default().to_vec();
    let mut answer = Answer::new(Reply { status, retry_after, body });
    for status in std::iter::once(status).chain(STATUSES) {
        answer.reply.status = status;
        answer.check_submission();
        answer.check_look();
        answer.check_balance();
    }
}

/// A reply, and what a reader who trusts nothing sees in it.
struct Answer {
    reply: Reply,
    /// The JSON object, or null.
    envelope: Value,
    /// Every letter and digit of it, in lower case, text by text.
    texts: Vec<String>,
}

impl Answer {
    fn new(reply: Reply) -> Self {
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let envelope = if value.is_object() { value } else { Value::Null };
        let mut texts = vec![letters(&String::from_utf8_lossy(&reply.body))];
        gather(&envelope, &mut texts);
        Self { reply, envelope, texts }
    }

    /// The envelope's code: `Ok(None)` is none, an error one that is not a whole number.
    fn code(&self) -> Result<Option<i64>, ()> {
        match &self.envelope["code"] {
            Value::Null => Ok(None),
            Value::Number(number) => number.as_i64().map(Some).ok_or(()),
            Value::String(text) => text.trim().parse().map(Some).map_err(|_| ()),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(()),
        }
    }

    /// Whether it calls itself a success and nothing speaks against it.
    fn is_well(&self) -> bool {
        (200..300).contains(&self.reply.status) && matches!(self.code(), Ok(None | Some(200)))
    }

    /// Whether the status or the code is one of these.
    fn says(&self, numbers: &[i64]) -> bool {
        numbers.contains(&i64::from(self.reply.status))
            || matches!(self.code(), Ok(Some(code)) if numbers.contains(&code))
    }

    fn speaks_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.texts.iter().any(|text| text.contains(word)))
    }

    fn is_about_money(&self) -> bool {
        self.says(&[402]) || self.speaks_of(&["credit", "balance"])
    }

    /// Whether the status or the code says that the request was not carried out.
    fn refuses(&self) -> bool {
        is_refusal(i64::from(self.reply.status)) || matches!(self.code(), Ok(Some(code)) if is_refusal(code))
    }

    /// A task id that can be asked about.
    fn task_id(&self) -> Option<String> {
        let text = match &self.envelope["data"]["taskId"] {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return None;
            }
        };
        (!text.is_empty() && text.len() <= 512 && !text.contains(char::is_control)).then_some(text)
    }

    fn check_submission(&self) {
        let submitted = read_submission(&self.reply);
        let accepted = if let Submitted::Accepted(task) = &submitted { Some(task.as_str()) } else { None };
        let wanted = self.task_id().filter(|_| self.is_well());
        assert_eq!(accepted, wanted.as_deref(), "{submitted:?}");
        match &submitted {
            Submitted::Accepted(_) => {}
            Submitted::InDoubt(failure) => {
                check_failure(failure, &[FailureKind::Doubt]);
                assert!(self.task_id().is_some() || !self.refuses(), "evidence of a refusal: {failure}");
            }
            Submitted::NotAccepted(refusal) => self.check_refusal(refusal),
            Submitted::Rejected(failure) => {
                use FailureKind::{Content, Image, Input, Transient};
                check_failure(failure, &[Content, Image, Input, Transient]);
                assert!(self.refuses(), "no evidence of a refusal: {failure}");
            }
            Submitted::NoMoney(failure) => {
                check_failure(failure, &[FailureKind::Money]);
                assert!(self.is_about_money(), "{failure}");
            }
            Submitted::KeyRefused(failure) => self.check_key(failure),
        }
        let free = accepted.is_some() || matches!(submitted, Submitted::InDoubt(_));
        assert!(free || self.task_id().is_none(), "a task may be alive: {submitted:?}");
    }

    fn check_look(&self) {
        let polled = read_status(&self.reply);
        let state = self.envelope["data"]["state"].as_str().map(str::trim).filter(|state| !state.is_empty());
        let state = state.filter(|_| self.is_well());
        let read = match &polled {
            Polled::Alive(_) => state.filter(|state| !is(state, "success") && !is(state, "failed")),
            Polled::Succeeded(video) => {
                assert!(!video.urls.is_empty());
                video.urls.iter().for_each(|url| check_url(url));
                check_time(video.created);
                check_time(video.completed);
                state.filter(|state| is(state, "success"))
            }
            Polled::SucceededWithoutUrl => state.filter(|state| is(state, "success")),
            Polled::Failed(task) => {
                use FailureKind::{Content, Image, Input, Money, Transient};
                check_failure(&task.failure, &[Content, Image, Input, Money, Transient]);
                check_time(task.created);
                check_time(task.completed);
                let money = task.failure.kind == Money;
                assert_eq!(task.verdict == Verdict::NoMoney, money, "{task:?}");
                assert!(!money || self.is_about_money(), "{task:?}");
                state.filter(|state| is(state, "failed"))
            }
            Polled::NotFound(failure) => {
                check_failure(failure, &[FailureKind::Transient]);
                assert!(self.says(&[404]) || self.speaks_of(&["taskiderror"]), "{failure}");
                None
            }
            Polled::NotAnswered(refusal) => {
                self.check_refusal(refusal);
                None
            }
            Polled::KeyRefused(failure) => {
                self.check_key(failure);
                None
            }
            Polled::Unclear(failure) => {
                use FailureKind::{Content, Image, Input, Money, Transient};
                check_failure(failure, &[Content, Image, Input, Money, Transient]);
                None
            }
        };
        assert_eq!(read, state, "a state is read, and never made up: {polled:?}");
    }

    fn check_balance(&self) {
        match read_balance(&self.reply) {
            Balance::Left(left) => {
                assert!(self.is_well() && self.envelope.is_object(), "{left:?}");
                assert!(left.is_none_or(|left| left.dollars() <= 1e12), "{left:?}");
            }
            Balance::KeyRefused(failure) => self.check_key(&failure),
            Balance::Unclear(failure) => {
                use FailureKind::{Input, Money, Transient};
                check_failure(&failure, &[Input, Money, Transient]);
                assert!(!self.is_well() || self.envelope.is_null(), "{failure}");
            }
        }
    }

    fn check_refusal(&self, refusal: &Refusal) {
        check_failure(&refusal.failure, &[FailureKind::Transient]);
        assert_eq!(refusal.retry_after, self.reply.retry_after);
        let number = match refusal.cause {
            RefusalCause::Rate | RefusalCause::Concurrency => 429,
            RefusalCause::Unavailable => 503,
            RefusalCause::Connect => panic!("an answer came: {refusal:?}"),
        };
        assert!(self.says(&[number]), "{refusal:?}");
    }

    fn check_key(&self, failure: &Failure) {
        check_failure(failure, &[FailureKind::Key]);
        assert!(self.says(&[401, 403]), "{failure}");
    }
}

/// Statuses and codes that are evidence of a refusal.
fn is_refusal(number: i64) -> bool {
    number == 503 || (400..500).contains(&number) && number != 408
}

fn is(state: &str, name: &str) -> bool {
    state.eq_ignore_ascii_case(name)
}

/// What is shown to a person and written to a results row.
fn check_failure(failure: &Failure, kinds: &[FailureKind]) {
    assert!(kinds.contains(&failure.kind), "{failure:?}");
    assert!(!failure.message.is_empty(), "{failure:?}");
    // One more for the mark that it was cut.
    assert!(failure.message.chars().count() <= Failure::LONGEST_MESSAGE + 1, "{failure:?}");
    assert!(!failure.message.contains(char::is_control), "{failure:?}");
    let code = failure.code.as_deref().unwrap_or_default();
    assert!(code.chars().count() <= 81 && !code.contains(char::is_control), "{failure:?}");
}

fn check_url(url: &str) {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    assert!(matches!(scheme.as_deref(), Some("http" | "https")), "{url:?}");
    assert!(!url.contains(|c: char| c.is_control() || c.is_whitespace()), "{url:?}");
}

fn check_time(time: Option<UnixMillis>) {
    assert!(time.is_none_or(|UnixMillis(millis)| (1..=LAST_MILLIS).contains(&millis)), "{time:?}");
}

fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The letters of every text in `value`.
fn gather(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(letters(text)),
        Value::Array(values) => values.iter().for_each(|value| gather(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| gather(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
