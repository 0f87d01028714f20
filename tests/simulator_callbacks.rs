//! The simulator's callbacks: bytes and times by hand, and then over loopback.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use batchveo::api::{Polled, Submitted, VideoApi};
use batchveo::callback::{Address, Addresses, Arrival, Inbox, Refusals, Signer};
use batchveo::clock::Clock;
use batchveo::generation::Draft;
use batchveo::hosts::Hosts;
use batchveo::job::{Attempt, SampleId, Stamp, UnixMillis};
use batchveo::simulator::{
    Answer, Callback, CallbackAnswer, CallbackCounts, Caller, Ledger, LogNormal, Model, NextCallback,
    Scenario, Settings, Simulator, serve,
};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const BIRTH: UnixMillis = UnixMillis(1_704_067_200_000);
const OK: CallbackAnswer = CallbackAnswer::Status(200);

fn settings(faults: &str) -> Settings {
    Settings { scenario: Scenario::parse("test", faults).unwrap(), ..Settings::default() }
}

fn model(settings: Settings) -> Model {
    let mut model = Model::new(settings, BIRTH, Ledger::temporary().unwrap(), Stamp::BIRTH).unwrap();
    model.take_callbacks();
    model
}

fn body(prompt: &str, request_type: &str, url: &str) -> Vec<u8> {
    let input = json!({"mode": "fast", "prompt": prompt, "generationType": "TEXT_2_VIDEO"});
    json!({ "input": input, "request_type": request_type, "callback_url": url }).to_string().into_bytes()
}

fn id_in(answer: &Answer) -> String {
    let reply: Value = serde_json::from_slice(&answer.reply().unwrap().body).unwrap();
    reply["data"]["taskId"].as_str().unwrap().to_owned()
}

/// Buys at the beginning, to be called back at `http://here/PROMPT`. Answers the task and the latency.
fn buy(model: &mut Model, prompt: &str) -> (String, Duration) {
    let body = body(prompt, "callback", &format!("http://here/{prompt}"));
    let answer = model.generate(Caller::InProcess, &body, Stamp::BIRTH);
    (id_in(&answer), answer.latency)
}

/// The next callback, and when it is due.
fn next(model: &mut Model, now: &mut Stamp) -> Option<Callback> {
    loop {
        match model.next_callback(*now) {
            NextCallback::Send(callback) => return Some(callback),
            NextCallback::At(at) => *now = at,
            NextCallback::Nothing => return None,
        }
    }
}

fn counts(model: &Model) -> CallbackCounts {
    model.verdict().unwrap().callbacks
}

/// Takes all there is, each answered by `answer`; answers what was sent, and when.
fn all(model: &mut Model, answer: CallbackAnswer) -> Vec<(String, Stamp)> {
    let (mut now, mut sent) = (Stamp::BIRTH, Vec::new());
    while let Some(callback) = next(model, &mut now) {
        sent.push((callback.url().to_owned(), now));
        model.called_back(callback, answer, now);
    }
    sent
}

#[test]
fn a_callback_says_what_a_look_would_when_the_task_ends() {
    for prompt in ["a", "[[fail:CONTENT_VIOLATION]]"] {
        let mut model = model(Settings::default());
        let (task, _) = buy(&mut model, prompt);
        let mut now = Stamp::BIRTH;
        let callback = next(&mut model, &mut now).unwrap();
        let look = model.status(Caller::InProcess, Some(&task), now).reply().cloned().unwrap();
        assert_eq!(callback.body, look.body);
        let told: Value = serde_json::from_slice(&callback.body).unwrap();
        let late = BIRTH.0 + i64::try_from(now.as_millis()).unwrap()
            - told["data"]["completeTime"].as_i64().unwrap();
        assert!((50..=251).contains(&late), "{late} ms after the end");
        model.called_back(callback, OK, now);
        assert!(next(&mut model, &mut now).is_none());
        let told = CallbackCounts { due: 1, delivered: 1, acknowledged: 1, ..CallbackCounts::default() };
        assert_eq!(counts(&model), told);
    }
}

#[test]
fn only_200_acknowledges_and_the_fourth_failure_is_the_last() {
    for answer in
        [204, 202, 302, 404, 503].map(CallbackAnswer::Status).into_iter().chain([CallbackAnswer::Nothing])
    {
        let mut model = model(Settings::default());
        buy(&mut model, "a");
        let (mut now, mut waits) = (Stamp::BIRTH, Vec::new());
        let mut failed = None;
        while let Some(callback) = next(&mut model, &mut now) {
            waits.extend(failed.map(|failed| now.since(failed).as_secs()));
            // A failure takes its time, and the wait counts from there.
            now = now + Duration::from_secs(20);
            failed = Some(now);
            model.called_back(callback, answer, now);
        }
        assert_eq!(waits, [30, 120, 600], "{answer:?}");
        let told =
            CallbackCounts { due: 1, delivered: 4, refused: 4, retried: 3, given_up: 1, ..counts(&model) };
        assert_eq!((counts(&model), counts(&model).acknowledged), (told, 0));
    }
}

#[test]
fn nobody_is_called_who_did_not_ask_or_whose_task_never_ends() {
    let mut model = model(settings("[[fault]]\nwhat = 'never_ends'\nfrom = '1s'\n"));
    model.generate(Caller::InProcess, &body("a", "async", "http://here/"), Stamp::BIRTH);
    let later = Stamp::from_millis(2_000);
    model.generate(Caller::InProcess, &body("b", "callback", "http://here/"), later);
    assert!(matches!(model.next_callback(later), NextCallback::Nothing));
    assert_eq!((counts(&model), model.verdict().unwrap().accepted), (CallbackCounts::default(), 2));
}

#[test]
fn a_submission_that_is_not_answered_has_its_callback() {
    let mut model = model(settings("[[fault]]\nwhat = 'drop'\nwhere = 'submit'\nwhen = 'after'\n"));
    let answer = model.generate(Caller::InProcess, &body("a", "callback", "http://here/a"), Stamp::BIRTH);
    assert!(answer.reply().is_none());
    assert_eq!(all(&mut model, OK).len(), 1);
}

#[test]
fn losses_and_doubles_come_at_their_rates_and_are_the_same_in_any_order() {
    let sent = |seed, order: &mut dyn Iterator<Item = u32>| {
        let scenario = Scenario::load("callbacks-lossy").unwrap();
        let mut model = model(Settings { seed, scenario, ..Settings::default() });
        for n in order {
            buy(&mut model, &n.to_string());
        }
        let mut times: HashMap<String, u32> = HashMap::new();
        for (url, _) in all(&mut model, OK) {
            *times.entry(url).or_default() += 1;
        }
        (times, counts(&model))
    };
    let tasks = 900;
    for seed in 0..3 {
        let (times, counted) = sent(seed, &mut (0..900));
        assert_eq!((times.clone(), counted), sent(seed, &mut (0..900).rev()));
        assert_ne!(times, sent(seed + 3, &mut (0..900)).0);
        let twice = times.values().filter(|times| **times == 2).count() as u64;
        assert_eq!(counted.lost + times.len() as u64, tasks);
        assert_eq!(
            (counted.due, counted.repeated, counted.delivered),
            (tasks, twice, tasks - counted.lost + twice)
        );
        assert_eq!(counted.acknowledged, counted.delivered);
        // Five standard deviations: 12 of 180 and 11 of 144.
        assert!(counted.lost.abs_diff(180) < 60 && twice.abs_diff(144) < 55, "{counted:?}");
    }
}

#[test]
fn what_is_lost_is_not_brought_again_and_what_is_late_is_late() {
    let lost = "[[fault]]\nwhat = 'callback'\nlost = true\n[[fault]]\nwhat = 'callback'\ntwice = true\nlate = '5m'\n";
    let mut model = model(settings(lost));
    buy(&mut model, "a");
    assert_eq!(all(&mut model, OK), []);
    assert_eq!(counts(&model), CallbackCounts { due: 1, lost: 1, ..CallbackCounts::default() });
    let end = |faults: &str| {
        let mut model = self::model(settings(faults));
        buy(&mut model, "a");
        all(&mut model, OK)[0].1
    };
    let late = end("[[fault]]\nwhat = 'callback'\nlate = '5m'\n");
    assert_eq!(late.since(end("")), Duration::from_mins(5));
}

#[test]
fn an_early_callback_comes_before_the_answer_and_tells_of_an_end() {
    for seed in 0..50 {
        let early = settings("[[fault]]\nwhat = 'callback'\nearly = true\n");
        let mut model = model(Settings { seed, ..early });
        let (task, answered) = buy(&mut model, "a");
        let mut now = Stamp::BIRTH;
        let callback = next(&mut model, &mut now).unwrap();
        assert!(now.since(Stamp::BIRTH) + Duration::from_millis(500) < answered);
        let told: Value = serde_json::from_slice(&callback.body).unwrap();
        assert_eq!((&told["data"]["taskId"], &told["data"]["state"]), (&json!(task), &json!("success")));
        assert_eq!((counts(&model).early, counts(&model).due), (1, 1));
    }
}

/// What `future` comes to, with virtual time moving while it waits.
async fn run<T>(clock: &Clock, future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            answer = &mut future => return answer,
            () = clock.advance(None) => {}
        }
    }
}

#[tokio::test]
async fn in_memory_a_callback_is_acknowledged_when_what_it_says_is_durable() {
    let clock = Clock::virtual_from(Stamp::BIRTH);
    let ledger = Ledger::temporary().unwrap();
    let simulator = Simulator::new(Settings::default(), ledger, clock.clone(), BIRTH).unwrap();
    let signer = |secret: u8| Signer::new(&[secret; 32], 0);
    let refusals = Refusals::default();
    let mut arrivals = Box::pin(simulator.arrivals(Inbox::new(signer(1)), refusals.clone()));
    let address: Address = "https://hooks.example/veo".parse().unwrap();
    let draft = json!({ "prompt": "a cat", "type": "TEXT_2_VIDEO", "mode": "fast", "aspect_ratio": "16:9" });
    let generation = serde_json::from_value::<Draft>(draft).unwrap().check().unwrap();
    let submit = async |secret, sample| {
        let addresses = Addresses::signed(address.clone(), signer(secret));
        let callback = addresses.of(SampleId(sample), Attempt(1));
        let submitted = run(&clock, simulator.submit(generation.clone(), Some(callback))).await;
        let Submitted::Accepted(task) = submitted else { panic!("{submitted:?}") };
        task
    };
    let task = submit(1, 7).await;
    let mut seen = Vec::new();
    for durable in [false, false, true] {
        let Arrival { sample, attempt, task: named, answer, receipt } =
            run(&clock, arrivals.next()).await.unwrap();
        assert_eq!((sample, attempt, named), (SampleId(7), Attempt(1), Some(task.clone())));
        assert!(matches!(answer, Polled::Succeeded(_)), "{answer:?}");
        seen.push(clock.now());
        if durable {
            receipt.settle();
        }
    }
    let waits: Vec<u64> = seen.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(waits, [30, 120]);
    // One whose address somebody else has made is turned away, and given up in the end.
    submit(2, 7).await;
    {
        let nothing_more = async {
            tokio::select! {
                arrival = arrivals.next() => panic!("{arrival:?}"),
                () = clock.sleep(Duration::from_hours(1)) => {}
            }
        };
        run(&clock, nothing_more).await;
    }
    let counts = simulator.verdict().unwrap().callbacks;
    assert_eq!((counts.due, counts.acknowledged, counts.refused, counts.given_up), (2, 1, 2 + 4, 1));
    assert_eq!(refusals.count(), 4);
}

/// A receiver on this machine that keeps what it is sent, and how it answers.
#[derive(Clone, Default)]
struct Receiver {
    sent: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    /// Answers, the first first; then 200.
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl Receiver {
    /// Answers where it is.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/hook", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}/hook")
    }

    fn count(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

async fn take(
    State(receiver): State<Receiver>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    axum::Json(body): axum::Json<Value>,
) -> (StatusCode, [(&'static str, &'static str); 1], &'static str) {
    assert_eq!(query["key"], "1 2");
    receiver.sent.lock().unwrap().push((headers, body));
    let mut answers = receiver.answers.lock().unwrap();
    let status = if answers.is_empty() { StatusCode::OK } else { answers.remove(0) };
    (status, [("location", "/hook?key=1%202")], "thanks")
}

/// A server whose clock runs a thousand times as fast, and where it is.
async fn server(called: Option<Hosts>) -> (Simulator, String) {
    let clock = Clock::real(Stamp::BIRTH, NonZeroU32::new(1_000).unwrap());
    let short = LogNormal { mean: Duration::from_secs(20), ..LogNormal::VEO };
    let settings = Settings { fast_duration: short, ..Settings::default() };
    let simulator = Simulator::new(settings, Ledger::temporary().unwrap(), clock, BIRTH).unwrap();
    let simulator = match called {
        Some(hosts) => simulator.calling(hosts),
        None => simulator,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(simulator.clone(), listener, std::future::pending()));
    (simulator, base)
}

async fn submit(base: &str, prompt: &str, url: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{base}/api/v1/generateTask/veo-3-1")).bearer_auth("any");
    let answer = request.body(body(prompt, "callback", url)).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer["data"]["taskId"].as_str().unwrap().to_owned()
}

/// Waits until what the judge counts is as `enough` wants it.
async fn until(simulator: &Simulator, enough: impl Fn(CallbackCounts) -> bool) -> CallbackCounts {
    let pause = Clock::real(Stamp::BIRTH, NonZeroU32::MIN);
    for _ in 0..4_000 {
        let counts = simulator.verdict().unwrap().callbacks;
        if enough(counts) {
            return counts;
        }
        pause.sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", simulator.verdict().unwrap().callbacks)
}

#[tokio::test]
async fn a_server_calls_back_until_it_is_answered_200() {
    let receiver = Receiver::default();
    *receiver.answers.lock().unwrap() = vec![StatusCode::TEMPORARY_REDIRECT, StatusCode::ACCEPTED];
    let hook = receiver.listen().await + "?key=1%202";
    let (simulator, base) = server(None).await;
    let task = submit(&base, "a", &hook).await;
    let counts = until(&simulator, |counts| counts.acknowledged == 1).await;
    let expected = CallbackCounts { due: 1, delivered: 3, acknowledged: 1, refused: 2, retried: 2, ..counts };
    assert_eq!((counts, receiver.count()), (expected, 3));
    let sent = receiver.sent.lock().unwrap().clone();
    assert!(sent.iter().all(|(headers, body)| {
        headers["content-type"] == "application/json"
            && !headers.contains_key("authorization")
            && body["data"]["taskId"] == json!(task)
            && body["data"]["state"] == "success"
    }));
    // What comes later is due sooner than what waits for its next attempt.
    receiver.answers.lock().unwrap().push(StatusCode::INTERNAL_SERVER_ERROR);
    for prompt in ["b", "c"] {
        submit(&base, prompt, &hook).await;
    }
    until(&simulator, |counts| counts.acknowledged == 3).await;
}

#[tokio::test]
async fn other_machines_are_not_called_unless_it_is_allowed() {
    let (simulator, base) = server(None).await;
    for url in ["http://10.255.255.1/", "https://93.184.215.14/x", "http:///"] {
        submit(&base, url, url).await;
    }
    let counts = until(&simulator, |counts| counts.not_called == 3).await;
    assert_eq!((counts.due, counts.delivered, counts.refused), (3, 0, 0));
    // Nobody listens there: an attempt fails, and the next one waits.
    let (simulator, base) = server(Some(Hosts::new(None, true))).await;
    submit(&base, "a", "http://127.0.0.1:9/").await;
    assert_eq!(until(&simulator, |counts| counts.given_up == 1).await.delivered, 4);
}
