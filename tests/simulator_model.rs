//! The simulated account, asked as the API is asked: bytes in, bytes out, time by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use batchveo::job::{Limits, Stamp, UnixMillis, Usd};
use batchveo::simulator::{AskedBasis, Caller, Ledger, LedgerError, Model, Settings};
use serde_json::{Value, json};

const BIRTH: UnixMillis = UnixMillis(1_704_067_200_000);

fn model(settings: Settings) -> Model {
    Model::new(settings, BIRTH, Ledger::temporary().unwrap(), Stamp::BIRTH).unwrap()
}

fn at(seconds: u64) -> Stamp {
    Stamp::from_millis(seconds * 1_000)
}

fn body(prompt: &str) -> Vec<u8> {
    let input = json!({"mode": "fast", "prompt": prompt, "generationType": "TEXT_2_VIDEO"});
    json!({ "input": input }).to_string().into_bytes()
}

fn generate(model: &mut Model, prompt: &str, now: Stamp) -> (u16, Value) {
    let reply = model.generate(Caller::InProcess, &body(prompt), now).reply().cloned().unwrap();
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

fn buy(model: &mut Model, prompt: &str, now: Stamp) -> String {
    let (status, envelope) = generate(model, prompt, now);
    assert_eq!((status, &envelope["code"], &envelope["message"]), (200, &json!(200), &json!("success")));
    envelope["data"]["taskId"].as_str().unwrap().to_owned()
}

fn look(model: &mut Model, task: &str, now: Stamp) -> (u16, Value) {
    let reply = model.status(Caller::InProcess, Some(task), now).reply().cloned().unwrap();
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

#[test]
fn a_task_goes_through_its_states() {
    let mut model = model(Settings::default());
    let task = buy(&mut model, "a cat", at(7));
    let created = BIRTH.0 + 7_000;
    let mut states = Vec::new();
    let mut last = Value::Null;
    for second in 7..700 {
        let (code, envelope) = look(&mut model, &task, at(second));
        assert_eq!(code, 200);
        last = envelope["data"].clone();
        assert_eq!((&last["taskId"], &last["createTime"]), (&json!(task), &json!(created)));
        assert_eq!(last.get("completeTime").is_some(), last["state"] == "success");
        let state = last["state"].as_str().unwrap().to_owned();
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    assert_eq!(states, ["pending", "processing", "success"]);
    let took = last["completeTime"].as_i64().unwrap() - created;
    assert!((20_000..=600_000).contains(&took));
    assert!(last["costTime"].as_i64().unwrap() < took);
    let result: Value = serde_json::from_str(last["resultJson"].as_str().unwrap()).unwrap();
    let url = result["resultUrls"][0].as_str().unwrap();
    assert!(url.starts_with("https://simulated.invalid/"), "{url}");
}

#[test]
fn markers_fail_and_refuse() {
    let mut model = model(Settings::default());
    let mut hours = 0;
    let mut end = |model: &mut Model, prompt| {
        hours += 1;
        let task = buy(model, prompt, at(hours * 3_600));
        let data = look(model, &task, at(hours * 3_600 + 600)).1["data"].clone();
        (data["state"].as_str().unwrap().to_owned(), data["failCode"].clone())
    };
    let failed = |code: &str| ("failed".to_owned(), json!(code));
    let success = ("success".to_owned(), Value::Null);
    for _ in 0..2 {
        assert_eq!(end(&mut model, "a [[fail:CONTENT_VIOLATION]]"), failed("CONTENT_VIOLATION"));
    }
    assert_eq!(end(&mut model, "a [[fail-once:GENERATION_FAILED]]"), failed("GENERATION_FAILED"));
    assert_eq!(end(&mut model, "a [[fail-once:GENERATION_FAILED]]"), success);
    let (status, envelope) = generate(&mut model, "a [[refuse:SensitiveContent]]", at(0));
    assert_eq!((status, &envelope["data"]["error"]), (400, &json!("SensitiveContent")));
    let verdict = model.verdict().unwrap();
    assert_eq!((verdict.accepted, verdict.failed, verdict.delivered, verdict.bought_twice), (4, 3, 1, 0));
}

#[test]
fn order_of_arrival_changes_no_fate() {
    let prompts: Vec<String> = (0..40).map(|n| format!("prompt {n}")).collect();
    let settings = |seed| Settings { seed, fail_rate: 0.3, ..Settings::default() };
    let ends = |seed, order: &[&String]| {
        let mut model = model(settings(seed));
        let tasks: Vec<String> = order.iter().map(|prompt| buy(&mut model, prompt, at(0))).collect();
        let looks = tasks.iter().map(|task| look(&mut model, task, at(600)).1["data"].take());
        let mut ends: Vec<(&String, Value)> = order.iter().copied().zip(looks).collect();
        ends.sort_by(|a, b| a.0.cmp(b.0));
        ends.into_iter().map(|(_, end)| end).collect::<Vec<_>>()
    };
    let (order, backwards): (Vec<_>, Vec<_>) = (prompts.iter().collect(), prompts.iter().rev().collect());
    let forwards = ends(1, &order);
    assert_eq!(forwards, ends(1, &backwards));
    assert_ne!(forwards, ends(2, &order));
    let twice = ends(1, &[&prompts[0], &prompts[0]]);
    assert_ne!(twice[0]["completeTime"], twice[1]["completeTime"], "the same request again is a new draw");
}

#[test]
fn the_task_after_the_limit_is_refused_until_one_ends() {
    let mut model = model(Settings::default());
    for n in 0..1_000 {
        buy(&mut model, &format!("prompt {n}"), at(0));
    }
    let (status, envelope) = generate(&mut model, "one more", at(1));
    assert_eq!(
        (status, envelope),
        (429, json!({"code": 429, "message": "Too many concurrent tasks", "data": null}))
    );
    buy(&mut model, "one more", at(600));
    let verdict = model.verdict().unwrap();
    assert_eq!((verdict.most_alive, verdict.counts.throttled_429, verdict.held), (1_000, 1, false));
}

#[test]
fn the_request_after_the_limit_is_refused_and_a_wrong_key_counts() {
    let limits = Limits { requests_per_minute: NonZeroU32::new(4).unwrap(), ..Limits::DOCUMENTED };
    let mut model = model(Settings { limits, key: Some("secret".into()), ..Settings::default() });
    let wrong = Caller::Http(Some("Bearer guess"));
    assert_eq!(model.balance(wrong, at(0)).reply().unwrap().status, 401);
    assert_eq!(model.status(Caller::Http(None), Some("x"), at(1)).reply().unwrap().status, 401);
    assert_eq!(model.generate(wrong, &body("a cat"), at(2)).reply().unwrap().status, 401);
    assert_eq!(
        model.unknown_endpoint(Caller::Http(Some("Bearer secret")), at(3)).reply().unwrap().status,
        404
    );
    let refused = model.balance(Caller::Http(Some("Bearer secret")), at(59)).reply().cloned().unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(model.balance(Caller::Http(Some("Bearer secret")), at(61)).reply().unwrap().status, 200);
    let verdict = model.verdict().unwrap();
    assert_eq!((verdict.requests, verdict.fullest_window, verdict.accepted), (6, 5, 0));
    assert_eq!((verdict.counts.unauthorized_401, verdict.counts.throttled_429, verdict.held), (3, 1, false));
}

#[test]
fn errors_repeat_the_key_only_when_told_to() {
    for echo_headers in [false, true] {
        let mut model = model(Settings { echo_headers, key: Some("right".into()), ..Settings::default() });
        let reply = model.balance(Caller::Http(Some("Bearer sk-wrong")), at(0)).reply().cloned().unwrap();
        let text = String::from_utf8(reply.body).unwrap();
        assert_eq!(text.contains("sk-wrong"), echo_headers, "{text}");
        if !echo_headers {
            let envelope: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(envelope, json!({"code": 401, "message": "Invalid or missing API key"}));
        }
    }
}

#[test]
fn money_runs_out_as_the_vendor_says() {
    let mut model = model(Settings { balance: Usd::from_cents(50), ..Settings::default() });
    let balance = |model: &mut Model| {
        let reply = model.balance(Caller::InProcess, at(0)).reply().cloned().unwrap();
        serde_json::from_slice::<Value>(&reply.body).unwrap()["data"].clone()
    };
    assert_eq!(balance(&mut model), json!(0.5));
    buy(&mut model, "a", at(0));
    buy(&mut model, "b", at(0));
    assert_eq!(balance(&mut model), json!(0.1));
    let (status, envelope) = generate(&mut model, "c", at(0));
    assert_eq!(
        (status, envelope),
        (400, json!({"code": 400, "message": "Insufficient credits", "data": null}))
    );
    let verdict = model.verdict().unwrap();
    assert_eq!((verdict.spent, verdict.balance_left), (Usd::from_cents(40), Usd::from_cents(10)));
}

#[test]
fn an_unknown_or_missing_task_is_said_to_be_so() {
    let mut model = model(Settings::default());
    let task = buy(&mut model, "a cat", at(0));
    let mut foreign = self::model(Settings { seed: 9, ..Settings::default() });
    for (id, status) in [(task.as_str(), 404), ("task_1", 404), ("", 404)] {
        assert_eq!(look(&mut foreign, id, at(0)).0, status, "{id}");
    }
    assert_eq!(foreign.status(Caller::InProcess, None, at(0)).reply().unwrap().status, 400);
    assert_eq!(foreign.verdict().unwrap().counts.not_found_404, 3);
}

#[test]
fn a_killed_rehearsal_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let settings = || Settings { balance: Usd::from_cents(100), ..Settings::default() };
    let limits = Limits { concurrent_tasks: NonZeroU32::new(3).unwrap(), ..Limits::DOCUMENTED };
    let open = |now| {
        let settings = Settings { limits, ..settings() };
        Model::new(settings, BIRTH, Ledger::open(&path).unwrap(), now).unwrap()
    };
    let mut before = open(Stamp::BIRTH);
    let tasks: Vec<String> =
        ["a", "b", "a"].into_iter().map(|prompt| buy(&mut before, prompt, at(0))).collect();
    let unkilled: Vec<(u16, Value)> = tasks.iter().map(|task| look(&mut before, task, at(600))).collect();
    drop(before);

    let mut after = open(at(1));
    assert_eq!(generate(&mut after, "c", at(1)).0, 429, "the tasks before are still alive");
    let resumed: Vec<(u16, Value)> = tasks.iter().map(|task| look(&mut after, task, at(600))).collect();
    assert_eq!(resumed, unkilled);
    let verdict = after.verdict().unwrap();
    assert_eq!((verdict.accepted, verdict.bought_twice, verdict.most_alive), (3, 1, 3));
    assert_eq!(verdict.balance_left, Usd::from_cents(40));
    assert_eq!(verdict.asked_basis, AskedBasis::EachRequestOnce);
    let again = buy(&mut after, "a", at(601));
    assert!(!tasks.contains(&again), "the third purchase of a request is its own draw");
}

#[test]
fn what_was_asked_for_is_no_double_purchase() {
    let mut model = model(Settings::default());
    let generation = serde_json::from_value(json!({
        "prompt": "a", "type": "TEXT_2_VIDEO", "mode": "fast", "aspect_ratio": "16:9",
    }))
    .unwrap();
    let wanted = batchveo::simulator::request_hash(&generation);
    for _ in 0..2 {
        buy(&mut model, "a", at(0));
    }
    assert_eq!(model.verdict().unwrap().bought_twice, 1);
    model
        .ledger_mut()
        .expect(|asked| {
            asked.add(wanted)?;
            asked.add(wanted)?;
            Ok::<_, LedgerError>(())
        })
        .unwrap();
    let verdict = model.verdict().unwrap();
    assert_eq!((verdict.bought_twice, verdict.asked_basis, verdict.held), (0, AskedBasis::Samples, true));
}

#[test]
fn answers_take_their_time_and_the_same_time_again() {
    let latencies = || -> Vec<Duration> {
        let mut model = model(Settings::default());
        (0..50).map(|n| model.generate(Caller::InProcess, &body(&n.to_string()), at(n)).latency).collect()
    };
    let first = latencies();
    assert_eq!(first, latencies());
    assert!(first.iter().all(|span| (50..=250).contains(&span.as_millis())));
    assert!(first.iter().any(|span| span != &first[0]));
}
