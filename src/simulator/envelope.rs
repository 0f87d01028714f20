//! The API's answers, as the simulator writes them: written out apart from the client's reading, as the
//! rules of a request are.

use serde::Serialize;
use serde_json::{Value, json};

use super::fate::{FailCode, Fate};
use super::scenario::Quirks;
use super::task::Task;
use crate::job::UnixMillis;
use crate::veo::Reply;

/// As long as nearly every answer, in bytes, so that its room is asked for once.
const LONGEST_USUAL: usize = 384;

#[derive(Serialize)]
struct Success<T> {
    code: u16,
    message: &'static str,
    data: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted<'a> {
    pub(super) task_id: &'a str,
}

/// The `data` of a status answer. `costTime` comes with successes only, as in the vendor's samples.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskState<'a> {
    task_id: &'a str,
    state: &'a str,
    create_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_time: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_json: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fail_msg: Option<&'static str>,
}

/// What a proxy answers in the end for a service that did nothing.
pub(super) fn too_late() -> Reply {
    let envelope = json!({ "code": 504, "message": "Gateway timeout", "data": null });
    Reply { status: 504, retry_after: None, body: envelope.to_string().into_bytes() }
}

/// How a task stands at `now`. `links` are its videos', should it have made any.
pub(super) fn state_at<'a>(
    task: &Task,
    task_id: &'a str,
    now: UnixMillis,
    quirks: Quirks<'a>,
    links: impl FnOnce() -> Vec<String>,
) -> TaskState<'a> {
    let Fate { duration_ms, waiting_ms, failure } = task.fate;
    let ends = task.ends();
    let ended = ends.is_some_and(|ends| now >= ends);
    let made = task.has_made(now);
    let failure = failure.filter(|_| ended);
    let state = if made {
        "success"
    } else if ended {
        "failed"
    } else if let Some(state) = quirks.state {
        state
    } else if now.0 < task.created.0.saturating_add(i64::from(waiting_ms)) {
        "pending"
    } else {
        "processing"
    };
    let result = || {
        let result = json!({ "resultUrls": if quirks.no_url { vec![] } else { links() } });
        if quirks.result_object { result } else { result.to_string().into() }
    };
    TaskState {
        task_id,
        state,
        create_time: task.created.0,
        complete_time: ends.filter(|_| ended).map(|ends| ends.0),
        cost_time: made.then(|| duration_ms.saturating_sub(waiting_ms)),
        result_json: made.then(result),
        fail_code: failure.map(FailCode::as_str),
        fail_msg: failure.map(FailCode::message),
    }
}

pub(super) fn success<T: Serialize>(data: T) -> Vec<u8> {
    let mut body = Vec::with_capacity(LONGEST_USUAL);
    serde_json::to_writer(&mut body, &Success { code: 200, message: "success", data })
        .expect("strings and numbers always become JSON");
    body
}
