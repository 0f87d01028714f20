//! What every answer means, as a table that a person can read and a change must show itself in.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;

use batchveo::api::{Balance, Polled, Refusal, Submitted};
use batchveo::job::Failure;
use batchveo::veo::{Reply, read_balance, read_status, read_submission};
use proptest::prelude::*;

/// Bodies that were seen, that the vendor's pages allow, and that a proxy would write.
const BODIES: &[&str] = &[
    "",
    "<html><h1>Bad Gateway</h1></html>",
    "Insufficient credits",
    r#"{"code":200,"message":"succ"#,
    "null",
    "[]",
    "{}",
    r#"{"code":200,"message":"success","data":null}"#,
    r#"{"code":200,"message":"success","data":{"taskId":""}}"#,
    r#"{"code":200,"message":"success","data":{"taskId":"task_1"}}"#,
    r#"{"code":"200","data":{"taskId":17}}"#,
    r#"{"data":{"taskId":"task_1"}}"#,
    r#"{"code":0,"message":"success","data":{"taskId":"task_1"}}"#,
    r#"{"code":500,"message":"Internal error","data":{"taskId":"task_1"}}"#,
    r#"{"code":200,"message":"success","data":{"state":"pending"}}"#,
    r#"{"code":200,"message":"success","data":{"state":"success","resultJson":"{\"resultUrls\":[\"https://a.example/1.mp4\"]}"}}"#,
    r#"{"code":200,"message":"success","data":{"state":"failed","failCode":"CONTENT_VIOLATION"}}"#,
    r#"{"code":0}"#,
    r#"{"code":201}"#,
    r#"{"code":302}"#,
    r#"{"code":400,"message":"Insufficient credits","data":null}"#,
    r#"{"code":400,"message":"Invalid request","data":{"error":"Missing required field: input.prompt"}}"#,
    r#"{"code":400,"message":"Provider error","data":{"error":"SensitiveContentDetected"}}"#,
    r#"{"code":400,"message":"upstream: PROMPT_TOO_LONG (10001)"}"#,
    r#"{"code":400,"message":"Provider error","data":{"failCode":"INVALID_IMAGE_URL"}}"#,
    r#"{"code":400,"message":"Provider error","data":{"failCode":"BrandNewPolicyCode"}}"#,
    r#"{"code":400,"message":"Provider error","data":{"failCode":"BalanceTooLow"}}"#,
    r#"{"code":401,"message":"Invalid or missing API key"}"#,
    r#"{"code":402}"#,
    r#"{"code":403}"#,
    r#"{"code":403,"message":"Content violates policy"}"#,
    r#"{"code":403,"message":"API key lacks permission by policy"}"#,
    r#"{"code":404,"message":"Task not found"}"#,
    r#"{"code":408}"#,
    r#"{"code":429,"message":"Too many requests"}"#,
    r#"{"code":"429","message":"Maximum concurrent tasks reached"}"#,
    r#"{"code":429,"message":"You have too many tasks"}"#,
    r#"{"code":500,"message":"Internal error"}"#,
    r#"{"code":500,"message":"Insufficient balance"}"#,
    r#"{"code":503,"message":"Model temporarily unavailable"}"#,
    r#"{"code":504}"#,
    r#"{"code":1001,"message":"Something"}"#,
    r#"{"code":"INSUFFICIENT_CREDITS"}"#,
    r#"{"code":"oops"}"#,
    r#"{"code":true}"#,
    r#"{"code":400,"message":"TASKID_ERROR"}"#,
    r#"{"error":{"code":"NSFW","message":"no"}}"#,
    r#"{"msg":"active tasks: 1000"}"#,
];

fn reply(status: u16, body: &str) -> Reply {
    Reply { status, retry_after: None, body: body.into() }
}

/// The failure's kind and code, with the number left to the column of statuses.
fn failure(failure: &Failure, status: u16) -> String {
    let code = failure.code.as_deref().unwrap_or("-");
    let code = if code == format!("http_{status}") { "http_…" } else { code };
    format!("{}, {code}", failure.kind)
}

fn refusal(refusal: &Refusal, status: u16) -> String {
    format!("{:?}: {}", refusal.cause, failure(&refusal.failure, status))
}

fn submitted(answer: &Submitted, status: u16) -> String {
    match answer {
        Submitted::Accepted(task) => format!("ACCEPTED {task}"),
        Submitted::NotAccepted(why) => format!("not accepted, {}", refusal(why, status)),
        Submitted::Rejected(why) => format!("rejected: {}", failure(why, status)),
        Submitted::NoMoney(why) => format!("no money: {}", failure(why, status)),
        Submitted::KeyRefused(why) => format!("key refused: {}", failure(why, status)),
        Submitted::InDoubt(why) => format!("IN DOUBT: {}", failure(why, status)),
    }
}

fn polled(answer: &Polled, status: u16) -> String {
    match answer {
        Polled::Alive(_) => "alive".into(),
        Polled::Succeeded(video) => format!("SUCCEEDED {}", video.urls.join(" ")),
        Polled::SucceededWithoutUrl => "success without a video".into(),
        Polled::Failed(task) => format!("FAILED {:?}: {}", task.verdict, failure(&task.failure, status)),
        Polled::NotFound(why) => format!("not found: {}", failure(why, status)),
        Polled::NotAnswered(why) => format!("not answered, {}", refusal(why, status)),
        Polled::KeyRefused(why) => format!("key refused: {}", failure(why, status)),
        Polled::Unclear(why) => format!("unclear: {}", failure(why, status)),
    }
}

fn balance(answer: &Balance, status: u16) -> String {
    match answer {
        Balance::Left(left) => format!("left: {left:?}"),
        Balance::KeyRefused(why) => format!("key refused: {}", failure(why, status)),
        Balance::Unclear(why) => format!("unclear: {}", failure(why, status)),
    }
}

/// Every body under every status; statuses that mean the same are drawn together, and so are
/// bodies.
fn table(bodies: &[&str], means: impl Fn(&Reply) -> String) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for body in bodies {
        let lines = lines(body, &means);
        let shown = if body.is_empty() { "(empty)" } else { body };
        match groups.iter_mut().find(|(same, _)| *same == lines) {
            Some((_, bodies)) => bodies.push(shown),
            None => groups.push((lines, vec![shown])),
        }
    }
    let groups: Vec<String> =
        groups.iter().map(|(lines, bodies)| format!("{}\n{lines}", bodies.join("\n"))).collect();
    groups.join("\n")
}

fn lines(body: &str, means: impl Fn(&Reply) -> String) -> String {
    let mut lines: Vec<(u16, u16, String)> = Vec::new();
    for status in 100..=599 {
        let meaning = means(&reply(status, body));
        match lines.last_mut() {
            Some((_, last, same)) if *same == meaning => *last = status,
            Some(_) | None => lines.push((status, status, meaning)),
        }
    }
    lines.iter().fold(String::new(), |mut text, (first, last, meaning)| {
        let statuses = if first == last { first.to_string() } else { format!("{first}-{last}") };
        writeln!(text, "  {statuses:<7} {meaning}").unwrap();
        text
    })
}

#[test]
fn submissions() {
    insta::assert_snapshot!(table(BODIES, |reply| submitted(&read_submission(reply), reply.status)));
}

#[test]
fn looks_at_a_task() {
    insta::assert_snapshot!(table(BODIES, |reply| polled(&read_status(reply), reply.status)));
}

#[test]
fn looks_at_the_balance() {
    let bodies = [
        "",
        r#"{"code":200,"message":"success","data":12.5}"#,
        r#"{"code":200,"message":"success","data":null}"#,
        r#"{"code":401,"message":"Invalid or missing API key"}"#,
        r#"{"code":402}"#,
    ];
    insta::assert_snapshot!(table(&bodies, |reply| balance(&read_balance(reply), reply.status)));
}

#[test]
fn fail_codes() {
    let codes = [
        "CONTENT_VIOLATION",
        "NSFW_DETECTED",
        "SensitiveContent",
        "SensitiveContentDetected",
        "NSFW",
        "ProhibitedContentDetected",
        "InputImageSensitiveContentDetected",
        "InputOutputSensitiveContentDetected",
        "PROMPT_TOO_LONG",
        "INVALID_PROMPT",
        "PromptLengthExceeded",
        "INVALID_IMAGE_URL",
        "IMAGE_DOWNLOAD_FAILED",
        "IMAGE_TOO_LARGE",
        "UNSUPPORTED_FORMAT",
        "PROCESSING_TIMEOUT",
        "MODEL_UNAVAILABLE",
        "GENERATION_FAILED",
        "INSUFFICIENT_CREDITS",
        "INVALID_LORA_URL",
        "TASKID_ERROR",
        // In the other spelling.
        "ContentViolation",
        "content_violation",
        "ProcessingTimeout",
        "ImageDownloadFailed",
        "InsufficientCredits",
        "SENSITIVE_CONTENT",
        // On no page.
        "OutputPolicyBlocked",
        "UpstreamTimedOut",
        "ServerBusy",
        "INTERNAL_ERROR",
        "IMAGE_SERVICE_UNAVAILABLE",
        "ImageCorrupted",
        "PromptInvalidLanguage",
        "VIDEO_SIZE",
        "BalanceTooLow",
        "Gremlins",
        "500",
        "",
    ];
    let mut table = String::new();
    for code in codes {
        let body = serde_json::json!({"data": {"state": "failed", "failCode": code}}).to_string();
        writeln!(table, "{code:<36} {}", polled(&read_status(&reply(200, &body)), 200)).unwrap();
    }
    for message in ["Blocked by our content policy", "Timed out; try again", "Bad luck", "was NSFW_DETECTED"]
    {
        for code in [serde_json::Value::Null, serde_json::json!(400)] {
            let data = serde_json::json!({"state": "failed", "failCode": code, "failMsg": message});
            let body = serde_json::json!({ "data": data }).to_string();
            let means = polled(&read_status(&reply(200, &body)), 200);
            writeln!(table, "{:<36} {means}", format!("{code} {message}")).unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn messages_say_what_came() {
    let mut table = String::new();
    for (status, body) in [
        (
            400,
            r#"{"code":400,"message":"Invalid request","data":{"error":"Missing required field: input.prompt"}}"#,
        ),
        (200, r#"{"code":429,"message":"Too many requests"}"#),
        (200, r#"{"code":200,"message":"success","data":{}}"#),
        (200, r#"{"code":500,"message":"Internal error","data":{"taskId":"task_1"}}"#),
        (502, "<html>\n<h1>Bad Gateway</h1>\n</html>"),
        (500, ""),
    ] {
        let answer = read_submission(&reply(status, body));
        let (Submitted::Rejected(why) | Submitted::InDoubt(why)) = &answer else {
            let Submitted::NotAccepted(why) = &answer else { panic!("{answer:?}") };
            writeln!(table, "{}", why.failure).unwrap();
            continue;
        };
        writeln!(table, "{why}").unwrap();
    }
    insta::assert_snapshot!(table);
}

/// JSON that looks like the API's and holds anything anywhere.
fn envelope() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (100..600).prop_map(|number: i32| number.to_string()),
        any::<f64>().prop_filter("JSON has no NaN", |f| f.is_finite()).prop_map(|f| f.to_string()),
        ".{0,12}".prop_map(|text| serde_json::json!(text).to_string()),
        prop::sample::select(vec!["\"success\"", "\"failed\"", "\"task_1\"", "{}", "[[]]", "true", "\"{}\""])
            .prop_map(str::to_owned),
    ];
    let names = prop::sample::select(vec![
        "code",
        "message",
        "data",
        "taskId",
        "state",
        "resultJson",
        "resultUrls",
        "failCode",
        "failMsg",
        "error",
        "createTime",
        "completeTime",
    ]);
    scalar.prop_recursive(3, 24, 6, move |inner| {
        prop::collection::vec((names.clone(), inner), 0..6).prop_map(|fields| {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        })
    })
}

fn holds_an_id(body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    let id = &body["data"]["taskId"];
    id.is_number() || id.as_str().is_some_and(|id| !id.trim().is_empty())
}

proptest! {
    #[test]
    fn nothing_makes_the_decoders_panic_and_nothing_without_an_id_is_accepted(
        status in any::<u16>(),
        body in prop_oneof![envelope().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..64)],
        success in any::<bool>(),
    ) {
        let status = if success { 200 } else { status };
        let reply = Reply { status, retry_after: None, body };
        if let Submitted::Accepted(task) = read_submission(&reply) {
            prop_assert!((200..300).contains(&status) && holds_an_id(&reply.body), "{task}");
        }
        if let Polled::Succeeded(video) = read_status(&reply) {
            prop_assert!(!video.urls.is_empty());
        }
        if let Balance::Left(_) = read_balance(&reply) {
            prop_assert!((200..300).contains(&status));
        }
    }
}
