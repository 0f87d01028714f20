//! The simulator's videos on loopback, as whoever fetches them sees them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU32;
use std::time::Duration;

use batchveo::clock::Clock;
use batchveo::job::{Stamp, UnixMillis};
use batchveo::simulator::{Ledger, Scenario, Settings, Simulator, VideoCounts, VideoId, read_video, serve};
use reqwest::header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server whose time passes this many times as fast: a task has been made within a second.
const FASTER: u32 = 1_000;

struct Server {
    simulator: Simulator,
    clock: Clock,
    base: String,
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// One with these lines in its table `[videos]`.
    async fn start(videos: &str) -> Self {
        let settings = Settings {
            key: Some("secret".into()),
            latency: Duration::ZERO..=Duration::ZERO,
            video_bytes: 300_000..=400_000,
            scenario: Scenario::parse("test", &format!("[videos]\n{videos}")).unwrap(),
            ..Settings::default()
        };
        let clock = Clock::real(Stamp::BIRTH, NonZeroU32::new(FASTER).unwrap());
        let simulator =
            Simulator::new(settings, Ledger::temporary().unwrap(), clock.clone(), UnixMillis(0)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(simulator.clone(), listener, async {
            let _ = stopped.await;
        }));
        let client = Client::builder().no_proxy().build().unwrap();
        Self { simulator, clock, base, client, stop, serving }
    }

    async fn ask(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}/api/v1/{path}", self.base)).bearer_auth("secret");
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    }

    async fn buy(&self, prompt: &str) -> String {
        let input = json!({"mode": "fast", "prompt": prompt, "generationType": "TEXT_2_VIDEO"});
        let body = json!({ "request_type": "async", "input": input }).to_string();
        let request = self.client.post(format!("{}/api/v1/generateTask/veo-3-1", self.base)).body(body);
        let answer = request.bearer_auth("secret").send().await.unwrap().bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["data"]["taskId"].as_str().unwrap().to_owned()
    }

    /// The task's links, as soon as there are any.
    async fn links(&self, task: &str) -> Vec<String> {
        loop {
            let answer = self.ask(&format!("statusTask/veo-3-1?taskId={task}")).await;
            if let Some(result) = answer["data"]["resultJson"].as_str() {
                let result: Value = serde_json::from_str(result).unwrap();
                let links = result["resultUrls"].as_array().unwrap();
                return links.iter().map(|link| link.as_str().unwrap().to_owned()).collect();
            }
            assert_ne!(answer["data"]["state"], "failed");
            self.clock.sleep(Duration::from_secs(5)).await;
        }
    }

    async fn get(&self, link: &str) -> Response {
        self.client.get(link).send().await.unwrap()
    }

    async fn part(&self, link: &str, range: &str) -> Response {
        self.client.get(link).header(RANGE, range).send().await.unwrap()
    }

    fn counts(&self) -> VideoCounts {
        self.simulator.verdict().unwrap().videos
    }

    async fn stop(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<&str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn bytes(response: Response) -> Vec<u8> {
    response.bytes().await.unwrap().to_vec()
}

/// What comes of a body, and whether it comes whole.
async fn as_much_as_comes(mut response: Response) -> (Vec<u8>, bool) {
    let mut come = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => come.extend_from_slice(&chunk),
            Ok(None) => return (come, true),
            Err(_) => return (come, false),
        }
    }
}

#[tokio::test]
async fn a_video_is_fetched_whole_and_in_parts() {
    let server = Server::start("").await;
    let task = server.buy("a cat").await;
    let link = server.links(&task).await.remove(0);
    assert!(link.starts_with(&format!("{}/videos/{task}.mp4?signature=", server.base)), "{link}");
    let response = server.get(&link).await;
    let length = response.content_length().unwrap();
    assert!((300_000..=400_000).contains(&length), "{length}");
    assert_eq!(header(&response, CONTENT_TYPE), Some("video/mp4"));
    assert_eq!(header(&response, ACCEPT_RANGES), Some("bytes"));
    let tag = header(&response, ETAG).unwrap().to_owned();
    let whole = bytes(response).await;
    assert_eq!((whole.len() as u64, &whole[4..8]), (length, &b"ftyp"[..]));
    let Some(VideoId { nth: 0, part: 1, .. }) = read_video(&whole[..]).unwrap() else { panic!() };

    let response = server.part(&link, "bytes=1000-").await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    let range = format!("bytes 1000-{}/{length}", length - 1);
    assert_eq!(header(&response, CONTENT_RANGE), Some(range.as_str()));
    assert_eq!(bytes(response).await, whole[1_000..]);
    let response = server.part(&link, &format!("bytes={length}-")).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&response, CONTENT_RANGE), Some(format!("bytes */{length}").as_str()));
    for (if_range, status) in [(tag.as_str(), 206), ("\"another\"", 200)] {
        let request = server.client.get(&link).header(RANGE, "bytes=0-9").header(IF_RANGE, if_range);
        assert_eq!(request.send().await.unwrap().status(), status, "{if_range}");
    }
    let counts = server.counts();
    assert_eq!((counts.requests, counts.videos, counts.bytes, counts.with_key), (5, 1, length, 0));
    assert_eq!((counts.whole_of_one, counts.spoilt, counts.refused), (counts.whole, 0, 0));
    server.stop().await;
}

#[tokio::test]
async fn the_books_tell_what_was_sent_and_a_key_that_came_along() {
    let server = Server::start("").await;
    let links = [server.buy("a").await, server.buy("b").await];
    let links = [server.links(&links[0]).await.remove(0), server.links(&links[1]).await.remove(0)];
    let lengths =
        [bytes(server.get(&links[0]).await).await.len(), bytes(server.get(&links[1]).await).await.len()];
    assert_eq!(server.counts().with_key, 0);
    bytes(server.client.get(&links[1]).header(AUTHORIZATION, "Bearer x").send().await.unwrap()).await;
    server.client.head(&links[0]).header("x-api-key", "my secret").send().await.unwrap();
    let counts = server.counts();
    let sent = (lengths[0] + 2 * lengths[1]) as u64;
    assert_eq!((counts.requests, counts.with_key, counts.bytes_sent), (4, 2, sent));
    assert_eq!((counts.whole, counts.whole_of_one), (3, 2));
    let books = server.get(&format!("{}/videos", server.base)).await.text().await.unwrap();
    let ends = [format!("-0,{0},2,{0},1", lengths[0]), format!("-0,{},2,{},2", lengths[1], 2 * lengths[1])];
    assert!(books.starts_with("video,bytes,asked,sent,whole\n") && books.lines().count() == 3, "{books}");
    assert!(ends.iter().all(|end| books.lines().any(|line| line.ends_with(end))), "{books} {ends:?}");
    let verdict = server.simulator.verdict().unwrap();
    assert_eq!(verdict.counts.requests(), verdict.requests);
    assert_eq!(verdict.counts.unknown_endpoints + verdict.counts.unauthorized_401, 0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_link_shows_nothing() {
    let server = Server::start("links = 2").await;
    let task = server.buy("a cat").await;
    let early = format!("{}/videos/{task}.mp4?signature=0", server.base);
    assert_eq!(server.get(&early).await.status(), 404, "not made yet");
    let links = server.links(&task).await;
    let parts = [bytes(server.get(&links[0]).await).await, bytes(server.get(&links[1]).await).await];
    assert!(links[1].contains(&format!("/{task}.2.mp4?")), "{links:?}");
    let named = parts.map(|part| read_video(&part[..]).unwrap().unwrap().part);
    assert_eq!((links.len(), named), (2, [1, 2]));
    let signature = links[0].split_once("signature=").unwrap().1;
    for (wrong, status) in [
        (format!("{task}.mp4"), 403),
        (format!("{task}.mp4?signature=0000000000000000"), 403),
        (format!("{task}.2.mp4?signature={signature}"), 403),
        (format!("{task}.mp4?expires=9&signature={signature}"), 403),
        (format!("{task}.mp4?expires=soon&signature={signature}"), 403),
        (format!("{task}.two.mp4?signature={signature}"), 404),
        (format!("{task}.mov?signature={signature}"), 404),
        (format!("task_1.mp4?signature={signature}"), 404),
    ] {
        assert_eq!(server.get(&format!("{}/videos/{wrong}", server.base)).await.status(), status, "{wrong}");
    }
    assert_eq!(server.counts().refused, 9);
    server.stop().await;
}

#[tokio::test]
async fn a_video_that_is_cut_can_be_gone_on_with() {
    let server = Server::start("cut = 0.6").await;
    let link = server.links(&server.buy("a cat").await).await.remove(0);
    let (mut have, mut asked) = (Vec::new(), 0);
    loop {
        asked += 1;
        let (come, whole) =
            as_much_as_comes(server.part(&link, &format!("bytes={}-", have.len())).await).await;
        have.extend(come);
        if whole {
            break;
        }
    }
    assert!(read_video(&have[..]).unwrap().is_some());
    let counts = server.counts();
    assert_eq!((counts.requests, counts.spoilt, counts.whole), (asked, asked - 1, u64::from(asked == 1)));
    assert!(counts.bytes_sent >= counts.bytes);
    server.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_with_a_body() {
    let server = Server::start("wrong_length = 1").await;
    let link = server.links(&server.buy("a cat").await).await.remove(0);
    let response = server.get(&link).await;
    let told = response.content_length().unwrap();
    let (come, whole) = as_much_as_comes(response).await;
    assert!(!whole && (come.len() as u64) < told && read_video(&come[..]).unwrap().is_some());
    server.stop().await;

    let server = Server::start("not_video = 1").await;
    let link = server.links(&server.buy("a cat").await).await.remove(0);
    let response = server.get(&link).await;
    assert_eq!(
        (response.status().as_u16(), header(&response, CONTENT_TYPE)),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(bytes(response).await.starts_with(b"<!DOCTYPE html>"));
    server.stop().await;

    let server = Server::start("no_range = true").await;
    let link = server.links(&server.buy("a cat").await).await.remove(0);
    let response = server.part(&link, "bytes=1000-").await;
    assert_eq!((response.status().as_u16(), header(&response, ACCEPT_RANGES)), (200, None));
    assert!(read_video(&bytes(response).await[..]).unwrap().is_some());
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_waits_for_no_video() {
    for videos in ["stall = 1", "rate = 1", "rate_in_all = 1"] {
        let server = Server::start(videos).await;
        let link = server.links(&server.buy("a cat").await).await.remove(0);
        let body = as_much_as_comes(server.get(&link).await);
        let ((come, whole), ()) = tokio::join!(body, server.stop());
        assert!(!whole && come.len() < 300_000, "{videos}");
    }
}

#[tokio::test]
async fn a_link_dies_and_a_look_at_the_task_gives_another() {
    // 300 milliseconds of the real clock.
    let server = Server::start("expire = '300s'").await;
    let task = server.buy("a cat").await;
    let link = server.links(&task).await.remove(0);
    assert_eq!(bytes(server.get(&link).await).await[4..8], *b"ftyp");
    let status = loop {
        let status = server.get(&link).await.status().as_u16();
        if status != 200 {
            break status;
        }
    };
    assert!(matches!(status, 403 | 404), "{status}");
    let fresh = server.links(&task).await.remove(0);
    assert_ne!(fresh, link);
    assert!(read_video(&bytes(server.get(&fresh).await).await[..]).unwrap().is_some());
    server.stop().await;
}
