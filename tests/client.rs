//! The client against a server on this machine that does what networks do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchveo::api::{Balance, CallbackUrl, Polled, RefusalCause, Stage, Submitted, VideoApi};
use batchveo::generation::{AspectRatio, Draft, Generation, GenerationType, Mode};
use batchveo::job::{FailureKind, TaskId, Usd};
use batchveo::veo::{ApiKey, BaseUrl, Client, Timeouts};
use futures::future::join_all;

const KEY: &str = "sk-recognisable/0123456789";
/// As long as a test may wait.
const HASTE: Duration = Duration::from_millis(200);

/// What the server does with a request.
#[derive(Clone)]
enum Deed {
    /// Writes this and closes.
    Write(Vec<u8>),
    /// Reads the request and closes.
    Close,
    /// Writes this, reads another request on the same connection and closes.
    WriteAndReadAnother(Vec<u8>),
    /// Reads the request and stays silent.
    Stall,
    /// Writes this and stays silent.
    WriteAndStall(Vec<u8>),
}

/// A server that does one thing with every request and keeps what it got.
struct Server {
    base: BaseUrl,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(deed: Deed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut stalled = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream).unwrap();
                seen.lock().unwrap().push(request);
                match &deed {
                    Deed::Close => {}
                    Deed::WriteAndReadAnother(answer) => {
                        stream.write_all(answer).unwrap();
                        let another = read_request(&stream).unwrap();
                        seen.lock().unwrap().push(another);
                    }
                    Deed::Stall => stalled.push(stream),
                    // The client may stop reading before everything is written.
                    Deed::Write(answer) => drop(stream.write_all(answer)),
                    Deed::WriteAndStall(answer) => {
                        drop(stream.write_all(answer));
                        stalled.push(stream);
                    }
                }
            }
        });
        Self { base, requests }
    }

    fn answering(status: &str, headers: &str, body: &str) -> Self {
        Self::new(Deed::Write(answer(status, headers, body)))
    }

    fn client(&self) -> Client {
        Client::new(self.base.clone(), ApiKey::new(KEY).unwrap(), Timeouts::default()).unwrap()
    }

    /// A client that does not wait long.
    fn hasty_client(&self) -> Client {
        let timeouts = Timeouts { submit: HASTE, status: HASTE, balance: HASTE, ..Timeouts::default() };
        Client::new(self.base.clone(), ApiKey::new(KEY).unwrap(), timeouts).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into()
}

fn read_request(stream: &TcpStream) -> io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Ok(request);
        }
    }
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(request + &String::from_utf8(body).unwrap())
}

fn generation() -> Generation {
    let draft = Draft {
        prompt: "a cat".into(),
        generation_type: GenerationType::Text,
        mode: Mode::Fast,
        aspect_ratio: AspectRatio::Landscape,
        image_urls: vec![],
        seed: Some(7),
        watermark: None,
        provider: None,
    };
    draft.check().unwrap()
}

fn task(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

/// The kind and the code of a doubt.
fn doubt(answer: &Submitted) -> &str {
    let Submitted::InDoubt(failure) = answer else { panic!("{answer:?}") };
    assert_eq!(failure.kind, FailureKind::Doubt);
    failure.code.as_deref().unwrap()
}

#[tokio::test]
async fn requests_are_what_the_api_documents() {
    let server = Server::answering("200 OK", "", r#"{"code":200,"data":{"taskId":"task_1"}}"#);
    let client = server.client();
    assert_eq!(client.submit(generation(), None).await, Submitted::Accepted(task("task_1")));
    drop(client.status(task("a b&c/é")).await);
    drop(client.balance().await);
    let host = server.base.to_string().replace("http://", "");
    let version = env!("CARGO_PKG_VERSION");
    let common = format!(
        "authorization: Bearer {KEY}\r\naccept: */*\r\nuser-agent: batchveo/{version}\r\nhost: {host}\r\n"
    );
    let body = r#"{"request_type":"async","input":{"mode":"fast","prompt":"a cat","generationType":"TEXT_2_VIDEO","aspect_ratio":"16:9","seed":7}}"#;
    assert_eq!(
        server.requests(),
        [
            format!(
                "POST /api/v1/generateTask/veo-3-1 HTTP/1.1\r\ncontent-type: application/json\r\n\
                 {common}content-length: {}\r\n\r\n{body}",
                body.len()
            ),
            format!("GET /api/v1/statusTask/veo-3-1?taskId=a+b%26c%2F%C3%A9 HTTP/1.1\r\n{common}\r\n"),
            format!("GET /api/v1/apikeys/current-balance HTTP/1.1\r\n{common}\r\n"),
        ]
    );
}

#[tokio::test]
async fn answers_are_read() {
    let server = Server::answering("200 OK", "", r#"{"code":200,"data":{"state":"pending"}}"#);
    assert_eq!(server.client().status(task("t")).await, Polled::Alive(Stage::Pending));
    let server = Server::answering("200 OK", "", r#"{"code":200,"message":"success","data":12.3456}"#);
    assert_eq!(server.client().balance().await, Balance::Left(Some(Usd::from_micros(12_345_600))));
    let server = Server::answering("429 Too Many Requests", "Retry-After: 7\r\n", "");
    let Submitted::NotAccepted(refusal) = server.client().submit(generation(), None).await else { panic!() };
    assert_eq!((refusal.cause, refusal.retry_after), (RefusalCause::Rate, Some(Duration::from_secs(7))));
    let Polled::NotAnswered(refusal) = server.client().status(task("t")).await else { panic!() };
    assert_eq!((refusal.cause, refusal.retry_after), (RefusalCause::Rate, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn what_was_never_sent_is_not_in_doubt() {
    // A port that nobody listens on any more.
    let base: BaseUrl = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let client = Client::new(base, ApiKey::new(KEY).unwrap(), Timeouts::default()).unwrap();
    let Submitted::NotAccepted(refusal) = client.submit(generation(), None).await else { panic!() };
    assert_eq!(refusal.cause, RefusalCause::Connect);
    assert_eq!(refusal.failure.code.as_deref(), Some("connect"));
    assert!(refusal.failure.message.starts_with("no connection: "), "{}", refusal.failure);
    let Polled::NotAnswered(refusal) = client.status(task("t")).await else { panic!() };
    assert_eq!(refusal.cause, RefusalCause::Connect);
    assert!(matches!(client.balance().await, Balance::Unclear(_)));
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_in_time_was_never_sent_either() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // TLS on a server that says nothing: the connection is not made until its handshake is over.
    let base: BaseUrl = format!("https://{address}").parse().unwrap();
    let connect = Duration::from_millis(100);
    let client =
        Client::new(base, ApiKey::new(KEY).unwrap(), Timeouts { connect, ..Timeouts::default() }).unwrap();
    let Submitted::NotAccepted(refusal) = client.submit(generation(), None).await else { panic!() };
    assert_eq!(refusal.cause, RefusalCause::Connect);
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_in_doubt() {
    let half = answer("200 OK", "", r#"{"code":200,"data":{"taskId":"task_1"}}"#);
    let half = half[..half.len() - 5].to_vec();
    let cases = [
        (Deed::Close, "connection"),
        (Deed::Write(b"not HTTP at all\r\n\r\n".to_vec()), "connection"),
        (Deed::Write(half.clone()), "connection"),
        (Deed::Stall, "timeout"),
        (Deed::WriteAndStall(half), "timeout"),
    ];
    // Side by side, since each of the stalled takes its time.
    join_all(cases.map(|(deed, code)| async move {
        let server = Server::new(deed);
        let client = if code == "timeout" { server.hasty_client() } else { server.client() };
        assert_eq!(doubt(&client.submit(generation(), None).await), code);
        assert_eq!(server.requests().len(), 1, "sent once, whatever happens");
        let (polled, balance) = tokio::join!(client.status(task("t")), client.balance());
        let Polled::Unclear(failure) = polled else { panic!() };
        assert_eq!(failure.code.as_deref(), Some(code));
        assert_eq!(failure.kind == FailureKind::Timeout, code == "timeout");
        assert!(matches!(balance, Balance::Unclear(_)));
    }))
    .await;
}

/// Holds this thread, and with it the runtime, for longer than `server`'s client waits, once the
/// server has a request. The answer comes meanwhile.
async fn stall(server: &Server) {
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    std::thread::sleep(HASTE + Duration::from_millis(200));
}

#[tokio::test]
async fn an_answer_that_came_while_this_process_was_stopped_is_heard() {
    let accepted = answer("200 OK", "", r#"{"code":200,"data":{"taskId":"task_1"}}"#);
    let server = Server::new(Deed::Write(accepted));
    let client = server.hasty_client();
    let (submitted, ()) = tokio::join!(client.submit(generation(), None), stall(&server));
    assert_eq!(submitted, Submitted::Accepted(task("task_1")));

    let alive = answer("200 OK", "", r#"{"code":200,"data":{"state":"pending"}}"#);
    let server = Server::new(Deed::Write(alive));
    let client = server.hasty_client();
    let (polled, ()) = tokio::join!(client.status(task("t")), stall(&server));
    assert_eq!(polled, Polled::Alive(Stage::Pending));
}

#[tokio::test]
async fn a_submission_on_a_used_connection_is_sent_once() {
    let pending = r#"{"code":200,"data":{"state":"pending"}}"#;
    let kept = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{pending}", pending.len());
    let server = Server::new(Deed::WriteAndReadAnother(kept.into()));
    let client = server.client();
    assert_eq!(client.status(task("t")).await, Polled::Alive(Stage::Pending));
    assert_eq!(doubt(&client.submit(generation(), None).await), "connection");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].starts_with("POST "), "on the connection of the first");
}

#[tokio::test]
async fn half_a_refusal_is_a_refusal() {
    let whole = answer("401 Unauthorized", "", r#"{"code":401,"message":"Invalid or missing API key"}"#);
    let server = Server::new(Deed::Write(whole[..whole.len() - 9].to_vec()));
    let Submitted::KeyRefused(failure) = server.client().submit(generation(), None).await else { panic!() };
    assert_eq!(failure.code.as_deref(), Some("http_401"));
    let whole = answer("500 Internal Server Error", "", r#"{"code":500,"message":"oh"}"#);
    let server = Server::new(Deed::Write(whole[..whole.len() - 9].to_vec()));
    assert_eq!(doubt(&server.client().submit(generation(), None).await), "http_500");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::answering("200 OK", "", r#"{"code":200,"data":{"taskId":"task_1"}}"#);
    for status in ["301 Moved Permanently", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let server = Server::answering(status, &format!("location: {}/x\r\n", elsewhere.base), "");
        assert_eq!(
            doubt(&server.client().submit(generation(), None).await),
            format!("http_{}", &status[..3])
        );
        assert!(matches!(server.client().status(task("t")).await, Polled::Unclear(_)));
        assert_eq!(server.requests().len(), 2);
    }
    assert!(elsewhere.requests().is_empty(), "the key went to another host");
}

#[tokio::test]
async fn bodies_are_read_up_to_a_bound() {
    // No length, no end: a client that reads it all never returns.
    let long = "x".repeat(2 << 20);
    let head = |status: &str| format!("HTTP/1.1 {status}\r\n\r\n").into_bytes();
    let endless = |status: &str, body: &str| Deed::WriteAndStall([head(status), body.into()].concat());
    let server = Server::new(endless("200 OK", &format!(r#"{{"code":200,"data":{{"taskId":"{long}"#)));
    assert_eq!(doubt(&server.client().submit(generation(), None).await), "http_200");
    let server = Server::new(endless("400 Bad Request", &long));
    assert!(matches!(server.client().submit(generation(), None).await, Submitted::Rejected(_)));
    let server = Server::new(endless("200 OK", &long));
    let Polled::Unclear(failure) = server.client().status(task("t")).await else { panic!() };
    assert!(failure.message.len() < 400);
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_anywhere_however_the_api_echoes_it() {
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || sink.clone())
        .finish();
    // For the whole process: one thread's subscriber may miss what another thread has met first.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let escaped = KEY.replace('/', "\\/").replace("sk-", "\\u0073k-");
    let percent = KEY.replace('/', "%2F");
    let mut said = Vec::new();
    for (status, body) in [
        ("401 Unauthorized", format!(r#"{{"code":401,"message":"headers: Authorization: Bearer {KEY}"}}"#)),
        (
            "400 Bad Request",
            format!(r#"{{"code":400,"message":"bad","data":{{"error":"Bearer {escaped}"}}}}"#),
        ),
        ("403 Forbidden", format!("<html>Authorization: Bearer {KEY} {percent}</html>")),
        ("500 Internal Server Error", format!(r#"{{"torn":"Bearer {KEY}"#)),
        ("503 Service Unavailable", format!(r#"{{"error":{{"code":"{KEY}","message":"{percent}"}}}}"#)),
        ("200 OK", format!(r#"{{"code":"{KEY}"}}"#)),
        (
            "200 OK",
            format!(
                r#"{{"code":200,"data":{{"taskId":"{KEY}","state":"failed","failCode":"{KEY}","failMsg":"{escaped}"}}}}"#
            ),
        ),
        (
            "200 OK",
            format!(
                r#"{{"code":200,"data":{{"taskId":"task_{escaped}","state":"success","resultJson":{{"resultUrls":["https://a.example/?k={percent}"]}}}}}}"#
            ),
        ),
        (
            "200 OK",
            format!(
                r#"{{"data":{{"state":"success","resultJson":"{{\"resultUrls\":[\"https://a.example/{KEY}\"]}}"}}}}"#
            ),
        ),
        (&format!("200 {KEY}"), String::new()),
        ("302 Found", KEY.to_owned()),
    ] {
        let server = Server::answering(status, &format!("x-echo: {KEY}\r\nlocation: /{KEY}\r\n"), &body);
        let client = server.client();
        said.push(format!("{:?}", client.submit(generation(), None).await));
        said.push(format!("{:?}", client.status(task("task_1")).await));
        said.push(format!("{:?} {client:?}", client.balance().await));
    }
    let signature = format!("0.7.1.{}", "5e".repeat(32));
    let callback = format!("https://hooks.example/veo?batchveo={signature}");
    let escaped_url = callback.replace('/', "\\/").replace("batchveo=", "batchve\\u006f=");
    let percent_url =
        callback.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D");
    for (status, body) in [
        (
            "400 Bad Request",
            format!(
                r#"{{"code":400,"message":"callback_url {callback} is not public","data":"{escaped_url}"}}"#
            ),
        ),
        (
            "400 Bad Request",
            format!(r#"{{"code":400,"message":"bad: {{\"callback_url\":\"{callback}\"}}"}}"#),
        ),
        ("400 Bad Request", format!(r#"{{"code":400,"message":"cannot reach {escaped_url}"}}"#)),
        ("400 Bad Request", format!(r#"{{"code":400,"message":"see /log?u={percent_url}"}}"#)),
        ("422 Unprocessable Entity", format!("<html>batchveo={signature}</html>")),
        ("500 Internal Server Error", format!(r#"{{"torn":"{callback}"#)),
    ] {
        let server = Server::answering(status, "", &body);
        let address = Some(CallbackUrl::new(callback.clone()));
        let submitted = format!("{:?}", server.client().submit(generation(), address).await);
        assert!(submitted.contains("[callback]") || body.contains("torn"), "{submitted}");
        said.push(submitted);
    }
    let server = Server::new(Deed::Write(format!("not HTTP {KEY}\r\n\r\n").into()));
    said.push(format!("{:?}", server.client().submit(generation(), None).await));

    let said = said.join("\n");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("[key]") && log.contains("[key]"), "the echoes were read and logged");
    assert!(log.contains("TRACE") && log.contains("/api/v1/generateTask/veo-3-1"), "{log}");
    for secret in [KEY, &percent, &escaped, "recognisable", &signature, "hooks.example"] {
        assert!(!said.contains(secret), "{said}");
        assert!(!log.contains(secret), "{log}");
    }
}
