//! Transfers from a server that says what it is told to, byte by byte.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::place::{Content, DraftId, Place};
use super::transfer::{Broken, Whole, fetch};
use crate::clock::Clock;
use crate::hosts::{Client, Hosts, Patience};
use crate::job::Stamp;

/// A server on loopback that answers each request with the next of its answers, and closes.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v/clip.mp4", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&asked);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                requests.lock().unwrap().push(String::from_utf8(request).unwrap().to_ascii_lowercase());
                stream.write_all(&answer).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes(), body].concat()
}

/// A video of so many bytes.
fn video(length: usize) -> Vec<u8> {
    let mut bytes = b"\0\0\0\x20ftypisom".to_vec();
    bytes.extend((0..length - bytes.len()).map(|at| u8::try_from(at % 251).unwrap()));
    bytes
}

/// Fetches as often as there are answers: what came of each, and the draft's whole.
async fn fetch_all(answers: Vec<Vec<u8>>) -> (Vec<Result<Whole, Broken>>, Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path().to_str().unwrap()).unwrap();
    let count = answers.len();
    let server = Server::start(answers).await;
    let mut came = Vec::new();
    for _ in 0..count {
        let mut draft = place.begin(&DraftId::new("s", "t", 1)).await.unwrap();
        came.push(fetch((&client(), &clock()), &server.url, &mut draft, |_| {}).await);
        draft.suspend().await.unwrap();
    }
    (came, server, folder)
}

fn clock() -> Clock {
    Clock::real(Stamp::BIRTH, NonZeroU32::MIN)
}

fn client() -> Client {
    Hosts::new(None, true).client(Patience::default()).unwrap()
}

fn is_whole(came: Option<&Result<Whole, Broken>>, of: &[u8]) {
    let content = Content { bytes: of.len() as u64, sha256: Sha256::digest(of).into() };
    assert!(matches!(came, Some(Ok(whole)) if whole.content == content), "{came:?}");
}

#[tokio::test]
async fn a_cut_video_is_gone_on_with_and_hashed_as_one() {
    let video = video(1_000);
    let (came, server, _folder) = fetch_all(vec![
        answer("200 OK\r\ncontent-length: 1000\r\netag: \"a\"", &video[..400]),
        answer(
            "206 Partial Content\r\ncontent-length: 600\r\ncontent-range: bytes 400-999/1000\r\netag: \"a\"",
            &video[400..],
        ),
    ])
    .await;
    assert!(matches!(came[0], Err(Broken::Later { .. })), "{:?}", came[0]);
    is_whole(came.last(), &video);
    let asked = server.asked();
    assert!(!asked[0].contains("range:"), "{}", asked[0]);
    assert!(asked[1].contains("range: bytes=400-") && asked[1].contains("if-range: \"a\""), "{}", asked[1]);
    assert!(asked.iter().all(|request| !request.contains("authorization")), "{asked:?}");
}

#[tokio::test]
async fn what_changed_or_has_no_ranges_begins_anew() {
    let video = video(1_000);
    for second in ["200 OK\r\ncontent-length: 1000\r\netag: \"b\"", "200 OK\r\ncontent-length: 1000"] {
        let (came, ..) = fetch_all(vec![
            answer(
                "200 OK\r\ncontent-length: 1000\r\netag: \"a\"",
                &[&b"\0\0\0\x20ftyp"[..], &[9; 392]].concat(),
            ),
            answer(second, &video),
        ])
        .await;
        is_whole(came.last(), &video);
    }
    // A part of another video, against what was asked for.
    let (came, ..) = fetch_all(vec![
        answer("200 OK\r\ncontent-length: 1000\r\netag: \"a\"", &video[..400]),
        answer("206 Partial Content\r\ncontent-range: bytes 400-1999/2000\r\netag: \"b\"", &[1; 1_600]),
        answer("200 OK\r\ncontent-length: 1000\r\netag: \"b\"", &video),
    ])
    .await;
    assert!(matches!(came[1], Err(Broken::Later { .. })), "{:?}", came[1]);
    is_whole(came.last(), &video);
}

#[tokio::test]
async fn what_came_whole_and_was_not_seen_is_not_asked_for_again() {
    let video = video(500);
    let whole = answer("200 OK\r\ncontent-length: 500", &video);
    let (mut came, server, folder) = fetch_all(vec![whole]).await;
    let place = Place::open(folder.path().to_str().unwrap()).unwrap();
    let mut draft = place.begin(&DraftId::new("s", "t", 1)).await.unwrap();
    came.push(fetch((&client(), &clock()), &server.url, &mut draft, |_| {}).await);
    is_whole(came.first(), &video);
    is_whole(came.last(), &video);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn pages_dead_links_and_short_bodies_are_no_videos() {
    let page = b"<!doctype html><html></html>";
    let (came, ..) = fetch_all(vec![
        answer("404 Not Found", b""),
        answer("200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 28", page),
        answer("200 OK\r\ncontent-type: video/mp4\r\ncontent-length: 28", page),
        answer("200 OK\r\ncontent-length: 0", b""),
        answer("503 Service Unavailable\r\nretry-after: 9", b""),
        answer("200 OK\r\ncontent-length: 900", &video(500)),
    ])
    .await;
    for dead in &came[..4] {
        assert!(matches!(dead, Err(Broken::Dead(_))), "{dead:?}");
    }
    let nine = Some(std::time::Duration::from_secs(9));
    assert!(
        matches!(came[4], Err(Broken::Later { retry_after, .. }) if retry_after == nine),
        "{:?}",
        came[4]
    );
    assert!(matches!(came[5], Err(Broken::Later { .. })), "{:?}", came[5]);
}

/// A video of an odd service: the length is nowhere but in its boxes.
#[tokio::test]
async fn what_comes_without_a_length_is_whole_by_its_boxes_only() {
    let video =
        [&b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08moov\0\0\x03\xe8mdat"[..], &[7; 992]].concat();
    let chunked = |body: &[u8], end: &str| {
        let head = format!("200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        [format!("HTTP/1.1 {head}").as_bytes(), body, end.as_bytes()].concat()
    };
    let (came, server, _folder) = fetch_all(vec![
        answer("200 OK", &video[..500]),
        answer("200 OK", &video[..video.len() - 1]),
        chunked(&video[..500], "\r\n"),
        chunked(&video[..500], "\r\n0\r\n\r\n"),
        answer("200 OK", &self::video(500)),
        answer("200 OK", &video),
    ])
    .await;
    for (at, cut) in came[..5].iter().enumerate() {
        assert!(matches!(cut, Err(Broken::Later { .. })), "{at}: {cut:?}");
    }
    is_whole(came.last(), &video);
    assert!(server.asked().iter().all(|request| !request.contains("range:")), "{:?}", server.asked());
    let (came, ..) = fetch_all(vec![chunked(&video, "\r\n0\r\n\r\n")]).await;
    is_whole(came.last(), &video);
}

/// A link that is asked for again leads to another video, whose server knows no `If-Range`.
#[tokio::test]
async fn two_videos_never_become_one() {
    let (one, other) = (video(1_000), [&video(500)[..], &[9; 500]].concat());
    let rest = &other[400..];
    for (first, second) in [
        ("etag: \"a\"", ""),
        ("last-modified: Thu, 26 Nov 2026 02:00:00 GMT", ""),
        ("etag: \"a\"", "etag: \"b\"\r\n"),
    ] {
        let part = format!("206 Partial Content\r\n{second}content-range: bytes 400-999/1000");
        let (came, ..) = fetch_all(vec![
            answer(&format!("200 OK\r\ncontent-length: 1000\r\n{first}"), &one[..400]),
            answer(&part, rest),
            answer("200 OK\r\ncontent-length: 1000", &other),
        ])
        .await;
        assert!(matches!(came[1], Err(Broken::Later { .. })), "{:?}", came[1]);
        is_whole(came.last(), &other);
    }
}

#[tokio::test]
async fn redirects_are_followed_and_private_hosts_are_not() {
    let video = video(300);
    let (came, ..) = fetch_all(vec![answer("302 Found\r\nlocation: ../ftp", b"")]).await;
    assert!(came[0].is_err());
    let second = Server::start(vec![answer("200 OK\r\ncontent-length: 300", &video)]).await;
    let first = Server::start(vec![answer(&format!("302 Found\r\nlocation: {}", second.url), b"")]).await;
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path().to_str().unwrap()).unwrap();
    let mut draft = place.begin(&DraftId::new("s", "t", 1)).await.unwrap();
    let strict = Hosts::new(None, false).client(Patience::default()).unwrap();
    let refused = fetch((&strict, &clock()), &first.url, &mut draft, |_| {}).await;
    assert!(
        matches!(&refused, Err(Broken::Refused(why)) if why.contains("--allow-private-hosts")),
        "{refused:?}"
    );
    assert!(first.asked().is_empty());
    is_whole(Some(&fetch((&client(), &clock()), &first.url, &mut draft, |_| {}).await), &video);
}
