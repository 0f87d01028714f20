//! The simulator on loopback, as any HTTP client sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use batchveo::clock::Clock;
use batchveo::job::{Stamp, UnixMillis};
use batchveo::simulator::{LONGEST_BODY, Ledger, Settings, Simulator, serve};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    base: String,
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let settings = Settings {
            key: Some("secret".into()),
            latency: Duration::ZERO..=Duration::ZERO,
            ..Settings::default()
        };
        let clock = Clock::virtual_from(Stamp::BIRTH);
        let simulator = Simulator::new(settings, Ledger::temporary().unwrap(), clock, UnixMillis(0)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(simulator, listener, async {
            let _ = stopped.await;
        }));
        Self { base, client: Client::builder().no_proxy().build().unwrap(), stop, serving }
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
