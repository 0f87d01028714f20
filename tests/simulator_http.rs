//! The simulator on loopback, as any HTTP client sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use batchveo::api::{Balance, Polled, RefusalCause, Submitted, VideoApi};
use batchveo::clock::Clock;
use batchveo::generation::{AspectRatio, Draft, Generation, GenerationType, Mode};
use batchveo::job::{Stamp, TaskId, UnixMillis};
use batchveo::simulator::{LONGEST_BODY, Ledger, Scenario, Settings, Simulator, serve};
use batchveo::veo::{self, ApiKey, Timeouts};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    simulator: Simulator,
    base: String,
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::with("", Clock::virtual_from(Stamp::BIRTH)).await
    }

    /// One with a fault, which is the TOML of its fields.
    async fn with(fault: &str, clock: Clock) -> Self {
        let text =
            if fault.is_empty() { String::new() } else { format!("[[fault]]\n{fault}").replace("; ", "\n") };
        let settings = Settings {
            key: Some("secret".into()),
            latency: Duration::ZERO..=Duration::ZERO,
            scenario: Scenario::parse("test", &text).unwrap(),
            ..Settings::default()
        };
        let simulator = Simulator::new(settings, Ledger::temporary().unwrap(), clock, UnixMillis(0)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(simulator.clone(), listener, async {
            let _ = stopped.await;
        }));
        Self { simulator, base, client: Client::builder().no_proxy().build().unwrap(), stop, serving }
    }

    /// The client that batchveo uses.
    fn batchveo(&self, timeouts: Timeouts) -> veo::Client {
        veo::Client::new(self.base.parse().unwrap(), ApiKey::new("secret").unwrap(), timeouts).unwrap()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth("secret")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn generate(&self, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        answer(self.request(Method::POST, "/api/v1/generateTask/veo-3-1").body(body)).await
    }

    async fn stop(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

fn body(prompt: &str) -> String {
    let input = json!({"mode": "quality", "prompt": prompt, "generationType": "TEXT_2_VIDEO"});
    json!({ "request_type": "async", "input": input }).to_string()
}

#[tokio::test]
async fn the_three_endpoints_the_verdict_and_the_ledger() {
    let server = Server::start().await;
    let (status, envelope) = server.generate(body("a cat")).await;
    assert_eq!(status, 200);
    let task = envelope["data"]["taskId"].as_str().unwrap().to_owned();
    server.generate(body("a cat")).await;

    let (status, envelope) = server.get(&format!("/api/v1/statusTask/veo-3-1?taskId={task}")).await;
    assert_eq!((status.as_u16(), &envelope["data"]["state"]), (200, &json!("pending")));
    let (_, envelope) = server.get("/api/v1/apikeys/current-balance").await;
    assert_eq!(envelope["data"], 9_997.0);

    let (_, verdict) = server.get("/judge").await;
    assert_eq!(
        (&verdict["requests"], &verdict["accepted"], &verdict["bought_twice"]),
        (&json!(4), &json!(2), &json!(1))
    );
    assert_eq!((&verdict["asked_basis"], &verdict["held"]), (&json!("each_request_once"), &json!(false)));

    let response = server.request(Method::GET, "/ledger").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let ledger = response.text().await.unwrap();
    let lines: Vec<&str> = ledger.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "request,accepted,failed,asked"));
    assert!(lines[1].ends_with(",2,0,") && !ledger.contains("cat"), "{ledger}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    let wrong_key =
        server.client.get(format!("{}/api/v1/apikeys/current-balance", server.base)).bearer_auth("guess");
    assert_eq!(
        answer(wrong_key).await,
        (StatusCode::UNAUTHORIZED, json!({"code": 401, "message": "Invalid or missing API key"}))
    );
    for path in ["/", "/api/v1/generateTask/veo-2", "/api/v1/generateTask/veo-3-1"] {
        let (status, envelope) = server.get(path).await;
        assert_eq!((status.as_u16(), &envelope["code"]), (404, &json!(404)), "{path}");
    }
    assert_eq!(server.get("/api/v1/statusTask/veo-3-1?taskId=task_1").await.0, 404);
    let (status, envelope) = server.get("/api/v1/statusTask/veo-3-1").await;
    assert_eq!(
        (status.as_u16(), &envelope["data"]["error"]),
        (400, &json!("Missing required field: taskId"))
    );
    let (status, envelope) = server.generate(body("")).await;
    assert_eq!(
        (status.as_u16(), &envelope["data"]["error"]),
        (400, &json!("Missing required field: input.prompt"))
    );
    assert_eq!(server.generate(vec![b' '; LONGEST_BODY + 1]).await.0, 400);

    let (_, verdict) = server.get("/judge").await;
    let counts = ["requests", "unauthorized_401", "not_found_404", "bad_requests_400", "accepted"];
    assert_eq!(counts.map(|name| verdict[name].as_u64().unwrap()), [8, 1, 4, 3, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_long_ledger_comes_whole() {
    let server = Server::start().await;
    let submissions = (0..1_000).map(|n| server.generate(body(&n.to_string())));
    let accepted = futures::future::join_all(submissions).await;
    assert!(accepted.iter().all(|(status, _)| *status == 200));
    let ledger = server.request(Method::GET, "/ledger").send().await.unwrap().text().await.unwrap();
    assert_eq!(ledger.lines().count(), 1_001);
    server.stop().await;
}

fn generation() -> Generation {
    let draft = Draft {
        prompt: "a cat".into(),
        generation_type: GenerationType::Text,
        mode: Mode::Fast,
        aspect_ratio: AspectRatio::Landscape,
        image_urls: vec![],
        seed: None,
        watermark: None,
        provider: None,
    };
    draft.check().unwrap()
}

#[tokio::test]
async fn what_a_fault_does_to_a_real_connection() {
    let task = TaskId::new("task_1").unwrap();
    for (fault, code, accepted) in [
        ("what='drop'; when='before'", "connection", 0),
        ("what='drop'; when='after'", "connection", 1),
        ("what='cut'; accepted=1", "connection", 1),
        ("what='cut'; accepted=0", "connection", 0),
        ("what='answer'; status=200; body='truncated'; accepted=1", "http_200", 1),
        ("what='answer'; status=200; body='empty'; accepted=1", "http_200", 1),
        ("what='answer'; status=302; accepted=1", "http_302", 1),
        ("what='answer'; status=502; body='html'; accepted=0", "http_502", 0),
    ] {
        let server = Server::with(fault, Clock::virtual_from(Stamp::BIRTH)).await;
        let client = server.batchveo(Timeouts::default());
        let Submitted::InDoubt(failure) = client.submit(generation(), None).await else { panic!("{fault}") };
        assert_eq!(failure.code.as_deref(), Some(code), "{fault}: {failure}");
        let Polled::Unclear(failure) = client.status(task.clone()).await else { panic!("{fault}") };
        assert_eq!(failure.code.as_deref(), Some(code), "{fault}: {failure}");
        assert!(matches!(client.balance().await, Balance::Unclear(_)), "{fault}");
        let verdict = server.simulator.verdict().unwrap();
        assert_eq!((verdict.accepted, verdict.requests, verdict.held), (accepted, 3, true), "{fault}");
        assert_eq!(verdict.counts.injected.total(), 3, "{fault}");
        drop(client);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_connection_is_dropped_before_the_body_has_come() {
    let server = Server::with("what='drop'; when='before'", Clock::virtual_from(Stamp::BIRTH)).await;
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
    let request = "POST /api/v1/generateTask/veo-3-1 HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    // An end or a reset, by what of the request was still on its way.
    let _ = stream.read_to_end(&mut heard).await;
    assert_eq!(heard, b"");
    assert_eq!(server.simulator.verdict().unwrap().counts.injected.dropped, 1);
    server.stop().await;
}

#[tokio::test]
async fn half_an_answer_is_half_and_a_redirect_leads_elsewhere() {
    let server = Server::with("what='cut'; accepted=1", Clock::virtual_from(Stamp::BIRTH)).await;
    let mut response = server
        .request(Method::POST, "/api/v1/generateTask/veo-3-1")
        .body(body("a cat"))
        .send()
        .await
        .unwrap();
    let length = usize::try_from(response.content_length().unwrap()).unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!((response.status().as_u16(), first.len()), (200, length / 2));
    assert!(response.chunk().await.is_err());
    server.stop().await;

    let server = Server::with("what='answer'; status=307", Clock::virtual_from(Stamp::BIRTH)).await;
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response =
        client.get(format!("{}/api/v1/statusTask/veo-3-1?taskId=1", server.base)).send().await.unwrap();
    let location = "https://elsewhere.invalid/api/v1/statusTask/veo-3-1?taskId=1";
    assert_eq!(response.headers()["location"], location);
    drop((response, client));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_slower_than_the_time_out_is_in_doubt_and_bought() {
    let real = Clock::real(Stamp::BIRTH, NonZeroU32::MIN);
    let server = Server::with("what='slow'; by='1h'; accepted=1", real).await;
    let submit = Duration::from_millis(200);
    let client = server.batchveo(Timeouts { submit, ..Timeouts::default() });
    let Submitted::InDoubt(failure) = client.submit(generation(), None).await else { panic!() };
    assert_eq!(failure.code.as_deref(), Some("timeout"));
    assert_eq!(server.simulator.verdict().unwrap().accepted, 1);
}

/// A minute a second.
fn fast() -> Clock {
    Clock::real(Stamp::BIRTH, NonZeroU32::new(60).unwrap())
}

#[tokio::test]
async fn an_outage_closes_the_port_and_breaks_what_is_open() {
    let server = Server::with("what='no_connection'; from='20s'", fast()).await;
    let client = server.batchveo(Timeouts::default());
    // Before it, connections are made and kept; then those that are open break, and no other is made.
    while let Balance::Left(_) = client.balance().await {}
    loop {
        let answer = client.status(TaskId::new("task_1").unwrap()).await;
        if matches!(&answer, Polled::NotAnswered(refusal) if refusal.cause == RefusalCause::Connect) {
            break;
        }
        assert!(matches!(answer, Polled::Unclear(_) | Polled::NotFound(_)), "{answer:?}");
    }
    let Submitted::NotAccepted(refusal) = client.submit(generation(), None).await else { panic!() };
    assert_eq!(refusal.cause, RefusalCause::Connect);
    let verdict = server.simulator.verdict().unwrap();
    assert_eq!((verdict.accepted, verdict.counts.submissions), (0, 0));
}

#[tokio::test]
async fn after_an_outage_the_port_is_open_again() {
    let server = Server::with("what='no_connection'; until='60s'", fast()).await;
    let client = server.batchveo(Timeouts::default());
    let mut refused = 0;
    while let Balance::Unclear(_) = client.balance().await {
        refused += 1;
    }
    assert!(refused > 0);
    assert!(matches!(client.submit(generation(), None).await, Submitted::Accepted(_)));
}

#[tokio::test]
async fn money_is_put_in() {
    let server = Server::start().await;
    let (status, told) = answer(server.request(Method::POST, "/top-up?usd=12.5")).await;
    assert_eq!((status.as_u16(), &told["balance_left"]), (200, &json!(10_012.5)));
    for wrong in ["/top-up", "/top-up?usd=-1", "/top-up?usd=much"] {
        assert_eq!(server.request(Method::POST, wrong).send().await.unwrap().status(), 400, "{wrong}");
    }
    assert_eq!(server.get("/judge").await.1["requests"], 0);
    server.stop().await;
}
