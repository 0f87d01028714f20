//! The API's JSON: strict in what is sent, tolerant in what is read.
//!
//! Owns the field names and shapes, and nothing that sends. Decoding never fails and never
//! panics: what cannot be read is an answer too, and `classify` says what it means. The in-memory
//! simulator speaks through the same functions, so a rehearsal takes the same path as a purchase.

use std::time::Duration;

use serde::Serialize;

use super::classify::{self, Answer, Code};
use super::json::Json;
use crate::api::{Balance, CallbackUrl, Polled, Stage, Submitted, TaskFailure};
use crate::generation::{AspectRatio, Generation, GenerationType, Mode, Provider};
use crate::job::{Failure, FailureKind, TaskId, UnixMillis, Usd, Video};

/// Longest piece of an answer that is not JSON to look for words in, in bytes: an error page says
/// what it has to say at its beginning.
const LONGEST_PAGE: usize = 2_000;

/// Numbers below this are seconds since the epoch, others milliseconds: 1e12 seconds is the year
/// 33658, 1e12 milliseconds was 2001.
const FIRST_MILLIS: i64 = 1_000_000_000_000;
/// The last millisecond of the year 9999, which no task will see.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// What came back, whoever brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// How long the API asked us to wait, if it did.
    pub retry_after: Option<Duration>,
    /// The body, perhaps cut short.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Submission<'a> {
    request_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Provider>,
    input: Input<'a>,
}

/// Mixed casing is the API's.
#[derive(Serialize)]
struct Input<'a> {
    mode: Mode,
    prompt: &'a str,
    #[serde(rename = "generationType")]
    generation_type: GenerationType,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    image_urls: &'a [String],
    aspect_ratio: AspectRatio,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

/// The body that asks for one video, as JSON; with `callback`, also to be told there that it is made.
///
/// # Panics
///
/// Never: the body is made of strings and numbers alone.
#[must_use]
pub fn encode_submission(generation: &Generation, callback: Option<&CallbackUrl>) -> Vec<u8> {
    let draft = generation.draft();
    let submission = Submission {
        request_type: if callback.is_some() { "callback" } else { "async" },
        callback_url: callback.map(CallbackUrl::expose),
        provider: draft.provider,
        input: Input {
            mode: draft.mode,
            prompt: &draft.prompt,
            generation_type: draft.generation_type,
            image_urls: &draft.image_urls,
            aspect_ratio: draft.aspect_ratio,
            watermark: draft.watermark.as_deref(),
            seed: draft.seed,
        },
    };
    serde_json::to_vec(&submission).expect("strings and numbers are always JSON")
}

/// What the answer to a submission came to. Accepted only with a 2xx, a code that is absent or
/// 200, and a task id; an id beside anything else is a contradiction, and in doubt.
#[must_use]
pub fn read_submission(reply: &Reply) -> Submitted {
    let envelope = Envelope::read(reply);
    match envelope.task_id() {
        Some(task) if envelope.is_well() => Submitted::Accepted(task),
        Some(task) => Submitted::InDoubt(Failure::new(
            FailureKind::Doubt,
            Some("contradiction"),
            &format!("HTTP {}, no success, and yet a task: {task}", reply.status),
        )),
        None => classify::submission(&envelope.answer(), reply.retry_after),
    }
}

/// What the answer to a look at a task came to. A failed task is a well answered look.
#[must_use]
pub fn read_status(reply: &Reply) -> Polled {
    Envelope::read(reply).look()
}

/// Which task a callback names, and how it says the task is: its body is that of a look at the task.
#[must_use]
pub fn read_callback(body: &[u8]) -> (Option<TaskId>, Polled) {
    let reply = Reply { status: 200, retry_after: None, body: body.to_vec() };
    let envelope = Envelope::read(&reply);
    (envelope.task_id(), envelope.look())
}

/// What the answer to a look at the balance came to. An overdrawn account has nothing left.
#[must_use]
pub fn read_balance(reply: &Reply) -> Balance {
    let envelope = Envelope::read(reply);
    if !envelope.is_well() || envelope.value.is_none() {
        return classify::balance(&envelope.answer());
    }
    let dollars = match envelope.data() {
        Json::Number(number) => number.as_f64(),
        Json::Text(text) => text.trim().parse().ok(),
        Json::Null | Json::Bool | Json::Array(_) | Json::Object(_) => None,
    };
    // `max` would turn what is not a number into nothing left.
    Balance::Left(
        dollars.and_then(|dollars: f64| Usd::from_dollars(if dollars < 0.0 { 0.0 } else { dollars })),
    )
}

fn read_state(state: &str, data: &Json<'_>) -> Polled {
    let created = data.get("createTime").and_then(read_time);
    let completed = data.get("completeTime").and_then(read_time);
    if state.eq_ignore_ascii_case("success") {
        let urls = read_urls(data.get("resultJson").unwrap_or(&Json::Null));
        return if urls.is_empty() {
            Polled::SucceededWithoutUrl
        } else {
            Polled::Succeeded(Video { urls, created, completed })
        };
    }
    if state.eq_ignore_ascii_case("failed") {
        let message = text_of(data.get("failMsg")).unwrap_or_default();
        let code = match data.get("failCode") {
            Some(Json::Number(number)) => Some(number.to_string()),
            code => text_of(code).map(str::to_owned),
        };
        let (failure, verdict) = classify::task_failure(code.as_deref(), message);
        return Polled::Failed(TaskFailure { failure, verdict, created, completed });
    }
    // `pending`, `processing`, and whatever the vendor adds next; `processing_r2` was seen.
    Polled::Alive(match state {
        state if state.eq_ignore_ascii_case("pending") => Stage::Pending,
        state if state.eq_ignore_ascii_case("processing") => Stage::Processing,
        _ => Stage::Unnamed,
    })
}

/// The videos of a `resultJson`, which is documented as JSON in a string and was seen as an object.
fn read_urls(result: &Json<'_>) -> Vec<String> {
    let parsed;
    let result = match result {
        Json::Text(json) => {
            parsed = Json::read(json.as_bytes()).unwrap_or(Json::Null);
            &parsed
        }
        Json::Null | Json::Bool | Json::Number(_) | Json::Array(_) | Json::Object(_) => result,
    };
    let urls = result.get("resultUrls").map(Json::items).unwrap_or_default();
    urls.iter()
        .filter_map(Json::as_str)
        .map(str::trim)
        .filter(|url| is_web_address(url))
        .map(str::to_owned)
        .collect()
}

fn is_web_address(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || c.is_whitespace())
        && reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Milliseconds or seconds since the epoch, as a number or in quotes, or an RFC 3339 time.
fn read_time(value: &Json<'_>) -> Option<UnixMillis> {
    let number = match value {
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and the range is checked below")]
        Json::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|time| time as i64))?,
        Json::Text(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => text.trim().parse::<jiff::Timestamp>().ok()?.as_millisecond(),
        },
        Json::Null | Json::Bool | Json::Array(_) | Json::Object(_) => return None,
    };
    let millis = if number < FIRST_MILLIS { number.saturating_mul(1_000) } else { number };
    (1..=LAST_MILLIS).contains(&millis).then_some(UnixMillis(millis))
}

/// `{code, message, data}`, or what came in its place.
struct Envelope<'a> {
    reply: &'a Reply,
    /// The JSON object, if it was one.
    value: Option<Json<'a>>,
    /// The beginning of the body, if it was not.
    page: String,
}

impl<'a> Envelope<'a> {
    fn read(reply: &'a Reply) -> Self {
        let value = Json::read(&reply.body).filter(Json::is_object);
        let page = match value {
            Some(_) => String::new(),
            None => {
                String::from_utf8_lossy(&reply.body[..reply.body.len().min(LONGEST_PAGE)]).trim().to_owned()
            }
        };
        Self { reply, value, page }
    }

    fn field(&self, name: &str) -> &Json<'a> {
        self.value.as_ref().and_then(|value| value.get(name)).unwrap_or(&Json::Null)
    }

    fn data(&self) -> &Json<'a> {
        self.field("data")
    }

    fn code(&self) -> Code {
        let code = self.field("code");
        let number = match code {
            Json::Null => return Code::Absent,
            Json::Number(number) => number.as_i64(),
            Json::Text(text) => text.trim().parse().ok(),
            Json::Bool | Json::Array(_) | Json::Object(_) => None,
        };
        number.map_or(Code::Unreadable, Code::Number)
    }

    fn is_well(&self) -> bool {
        (200..=299).contains(&self.reply.status) && self.code().is_well()
    }

    /// A string by the documents; a whole number is tolerated. Of one too long for 64 bits only a
    /// near one could be read, which is no task's name.
    fn task_id(&self) -> Option<TaskId> {
        match self.data().get("taskId")? {
            Json::Text(text) => TaskId::new(text),
            Json::Number(number) if !number.is_f64() => TaskId::new(&number.to_string()),
            Json::Number(_) | Json::Null | Json::Bool | Json::Array(_) | Json::Object(_) => None,
        }
    }

    fn look(&self) -> Polled {
        let state = self.data().get("state").and_then(Json::as_str).map(str::trim);
        match state {
            Some(state) if self.is_well() && !state.is_empty() => read_state(state, self.data()),
            Some(_) | None => classify::look(&self.answer(), self.reply.retry_after),
        }
    }

    /// Where a fail code was seen or is likely; the documents do not name the field.
    fn answer(&self) -> Answer<'_> {
        let (data, error) = (self.data(), self.field("error"));
        let code = if self.code() == Code::Unreadable { Some(self.field("code")) } else { None };
        let fail_code = [data.get("failCode"), code, data.get("code"), error.get("code")]
            .into_iter()
            .find_map(|field| text_of(field).filter(|text| !is_number(text)));
        let page = Some(self.page.as_str()).filter(|page| !page.is_empty());
        let mut words: Vec<&str> = [
            Some(self.field("message")),
            Some(self.field("msg")),
            Some(error),
            error.get("message"),
            Some(data),
            data.get("error"),
            data.get("message"),
            data.get("failMsg"),
        ]
        .into_iter()
        .filter_map(text_of)
        .chain(page)
        .collect();
        words.dedup();
        Answer { status: self.reply.status, code: self.code(), fail_code, words }
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A text field that is there and says something. One of control characters alone would be shown as
/// nothing at all.
fn text_of<'t>(field: Option<&'t Json<'_>>) -> Option<&'t str> {
    field.and_then(Json::as_str).map(str::trim).filter(|text| text.contains(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Draft;
    use serde_json::{Value, json};

    fn reply(status: u16, body: &Value) -> Reply {
        Reply { status, retry_after: None, body: body.to_string().into_bytes() }
    }

    fn draft(generation_type: GenerationType, images: &[&str]) -> Draft {
        Draft {
            prompt: "un chat \"très\" calme\n".into(),
            generation_type,
            mode: Mode::Fast,
            aspect_ratio: AspectRatio::Landscape,
            image_urls: images.iter().map(ToString::to_string).collect(),
            seed: None,
            watermark: None,
            provider: None,
        }
    }

    fn sent(draft: Draft) -> String {
        String::from_utf8(encode_submission(&draft.check().unwrap(), None)).unwrap()
    }

    #[test]
    fn submissions_hold_what_was_asked_and_nothing_else() {
        insta::assert_snapshot!(sent(draft(GenerationType::Text, &[])), @r#"{"request_type":"async","input":{"mode":"fast","prompt":"un chat \"très\" calme\n","generationType":"TEXT_2_VIDEO","aspect_ratio":"16:9"}}"#);
        let mut frames =
            draft(GenerationType::Frames, &["https://a.example/1.png", "https://a.example/2.png"]);
        frames.mode = Mode::Quality;
        frames.aspect_ratio = AspectRatio::Auto;
        frames.seed = Some(0);
        insta::assert_snapshot!(sent(frames), @r#"{"request_type":"async","input":{"mode":"quality","prompt":"un chat \"très\" calme\n","generationType":"FIRST_AND_LAST_FRAMES_2_VIDEO","image_urls":["https://a.example/1.png","https://a.example/2.png"],"aspect_ratio":"auto","seed":0}}"#);
        let mut reference = draft(GenerationType::Reference, &["https://a.example/1.png"]);
        reference.provider = Some(Provider::Official);
        reference.watermark = Some(String::new());
        reference.seed = Some(u64::MAX);
        insta::assert_snapshot!(sent(reference), @r#"{"request_type":"async","provider":"official","input":{"mode":"fast","prompt":"un chat \"très\" calme\n","generationType":"REFERENCE_2_VIDEO","image_urls":["https://a.example/1.png"],"aspect_ratio":"16:9","watermark":"","seed":18446744073709551615}}"#);
    }

    #[test]
    fn a_submission_says_where_to_call_back() {
        let url = CallbackUrl::new("https://hooks.example/veo?batchveo=1".into());
        let generation = draft(GenerationType::Text, &[]).check().unwrap();
        let sent = String::from_utf8(encode_submission(&generation, Some(&url))).unwrap();
        let callback = r#"{"request_type":"callback","callback_url":"https://hooks.example/veo?batchveo=1","input":{"mode""#;
        assert!(sent.starts_with(callback), "{sent}");
        assert!(!format!("{url:?}").contains("hooks"));
    }

    #[test]
    fn a_task_id_may_be_a_number() {
        for (id, read) in [
            (json!("task_1"), Some("task_1")),
            (json!(17), Some("17")),
            (json!(" "), None),
            (serde_json::from_str("123456789012345678901234").unwrap(), None),
        ] {
            let submitted = read_submission(&reply(200, &json!({"code": "200", "data": {"taskId": id}})));
            let accepted = read.map(|id| Submitted::Accepted(TaskId::new(id).unwrap()));
            assert_eq!(matches!(submitted, Submitted::Accepted(_)).then_some(submitted), accepted);
        }
    }

    fn look(data: &Value) -> Polled {
        read_status(&reply(200, &json!({"code": 200, "message": "success", "data": data})))
    }

    #[test]
    fn states_are_read_without_case_and_unknown_ones_are_alive() {
        for (state, stage) in [
            ("pending", Stage::Pending),
            ("Processing ", Stage::Processing),
            ("processing_r2", Stage::Unnamed),
            (" Queued ", Stage::Unnamed),
            ("succes", Stage::Unnamed),
        ] {
            assert_eq!(look(&json!({"state": state})), Polled::Alive(stage), "{state}");
        }
        assert!(matches!(look(&json!({"state": " SUCCESS "})), Polled::SucceededWithoutUrl));
        assert!(matches!(look(&json!({"state": "Failed"})), Polled::Failed(_)));
        for data in [json!({}), json!({"state": ""}), json!({"state": 3}), json!(null), json!([1])] {
            assert!(matches!(look(&data), Polled::Unclear(_)), "{data}");
        }
        let bare = read_status(&reply(200, &json!({"data": {"state": "pending"}})));
        assert_eq!(bare, Polled::Alive(Stage::Pending));
    }

    #[test]
    fn a_failure_without_words_says_so() {
        let polled = look(&json!({"state": "failed", "failCode": "\u{7}", "failMsg": " \0\u{202e}\n"}));
        let Polled::Failed(task) = polled else { panic!("{polled:?}") };
        assert_eq!(task.failure.to_string(), "transient: the task failed; no message");
    }

    #[test]
    fn results_are_read_as_text_or_object() {
        let url = "https://file.example/temp/1.mp4";
        let urls = json!({"resultUrls": [url, "", null, 7, "ftp://a.example/1", "not a url", "https://a b"]});
        for result in [json!(urls.to_string()), urls] {
            let polled = look(&json!({"state": "success", "resultJson": result, "createTime": 1}));
            let created = Some(UnixMillis(1_000));
            assert_eq!(
                polled,
                Polled::Succeeded(Video { urls: vec![url.to_owned()], created, completed: None })
            );
        }
        for result in [json!(""), json!("{"), json!("[]"), json!({"resultUrls": []}), json!(null), json!(1)] {
            let polled = look(&json!({"state": "success", "resultJson": result}));
            assert_eq!(polled, Polled::SucceededWithoutUrl, "{result}");
        }
    }

    #[test]
    fn times_are_read_in_every_form_that_was_seen() {
        let time = 1_780_459_451_000;
        for (value, read) in [
            (json!(time), Some(time)),
            (json!(1_780_459_451), Some(time)),
            (json!(1_780_459_451_000.0), Some(time)),
            (json!(" 1780459451000 "), Some(time)),
            (json!("2026-06-03T04:04:11Z"), Some(time)),
            (json!("yesterday"), None),
            (json!(0), None),
            (json!(-5), None),
            (json!(1e300), None),
            (json!(i64::MAX), None),
            (json!(null), None),
        ] {
            let text = value.to_string();
            assert_eq!(read_time(&Json::read(text.as_bytes()).unwrap()), read.map(UnixMillis), "{value}");
        }
    }

    #[test]
    fn balances_are_read_as_number_or_text() {
        for (data, left) in [
            (json!(12.3456), Some(12_345_600)),
            (json!("7"), Some(7_000_000)),
            (json!(-0.5), Some(0)),
            (json!({}), None),
            (json!(null), None),
            (json!("NaN"), None),
        ] {
            let balance = read_balance(&reply(200, &json!({"code": 200, "data": data})));
            assert_eq!(balance, Balance::Left(left.map(Usd::from_micros)), "{data}");
        }
        let page = Reply { status: 200, retry_after: None, body: b"<html>".to_vec() };
        assert!(matches!(read_balance(&page), Balance::Unclear(_)));
        let refused =
            read_balance(&reply(200, &json!({"code": 401, "message": "Invalid or missing API key"})));
        assert!(matches!(refused, Balance::KeyRefused(_)));
        assert!(matches!(read_balance(&reply(503, &json!({}))), Balance::Unclear(_)));
    }
}
