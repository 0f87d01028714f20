use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use futures::stream;

use super::*;
use crate::clock::Clock;
use crate::hosts::{Hosts, Patience};
use crate::job::Stamp;

const PNG: &[u8] = b"\x89PNG\r\n\x1A\n and so on";

/// A host on this machine with images of every sort; answers its address.
async fn host_here() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::new(AtomicU32::new(0));
    let routes = Router::new().route(
        "/{name}",
        get(move |Path(name): Path<String>, headers: HeaderMap| async move {
            answer(&name, headers.contains_key(header::RANGE), calls.fetch_add(1, Ordering::Relaxed))
        }),
    );
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// A body of unknown length, piece by piece.
fn endless(pieces: usize) -> Body {
    let piece = Bytes::from([PNG, &vec![0; 100_000]].concat());
    Body::from_stream(stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
}

fn part(range: &'static str) -> Response {
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], PNG).into_response()
}

fn answer(name: &str, ranged: bool, calls: u32) -> Response {
    match name {
        "part.png" => part("bytes 0-4095/10000000"),
        "huge.png" => part("bytes 0-4095/10000001"),
        "mute.png" if ranged => part("bytes 0-4095/*"),
        "mute.png" | "endless.png" => endless(1_000).into_response(),
        "short.png" => endless(3).into_response(),
        "declared.png" => ([(header::CONTENT_LENGTH, "12345678")], endless(1_000)).into_response(),
        "page.png" => "<!doctype html><p>Log in".into_response(),
        "empty.png" => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        "moved.png" => Redirect::temporary("/good.png").into_response(),
        "inside.png" => Redirect::temporary("http://169.254.169.254/latest").into_response(),
        "secret.png" => StatusCode::FORBIDDEN.into_response(),
        "twice.png" if calls == 0 => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")]).into_response()
        }
        "good.png" | "twice.png" => PNG.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn client(here: &str) -> Client {
    Hosts::new(Some(&here.parse().unwrap()), false).client(Patience::default()).unwrap()
}

#[tokio::test]
async fn looks() {
    let here = host_here().await;
    let client = client(&here);
    let sound = |bytes| Look::Sound(Seen { kind: Kind::Png, bytes });
    for (name, seen) in [
        ("good.png", sound(PNG.len() as u64)),
        ("moved.png", sound(PNG.len() as u64)),
        ("part.png", sound(10_000_000)),
        ("short.png", sound(3 * (100_000 + PNG.len() as u64))),
    ] {
        assert_eq!(look(&client, &format!("{here}/{name}")).await, seen, "{name}");
    }
    for (name, code, words) in [
        ("huge.png", "IMAGE_TOO_LARGE", "10.1 MB, more than 10 MB"),
        ("declared.png", "IMAGE_TOO_LARGE", "12.4 MB, more than 10 MB"),
        ("endless.png", "IMAGE_TOO_LARGE", "more than 10 MB"),
        ("mute.png", "IMAGE_TOO_LARGE", "more than 10 MB"),
        ("page.png", "UNSUPPORTED_FORMAT", "an HTML page, and not JPG, PNG or WebP"),
        ("empty.png", "UNSUPPORTED_FORMAT", "an empty file, and not JPG, PNG or WebP"),
        ("secret.png", "IMAGE_DOWNLOAD_FAILED", "the answer is 403 Forbidden"),
        ("no.png", "IMAGE_DOWNLOAD_FAILED", "the answer is 404 Not Found"),
    ] {
        let seen = look(&client, &format!("{here}/{name}")).await;
        let Look::Flawed(flaw) = seen else { panic!("{name}: {seen:?}") };
        assert_eq!((flaw.code(), flaw.to_string()), (code, words.to_owned()), "{name}");
    }
    for (address, words) in [
        (format!("{here}/inside.png"), "the host `169.254.169.254` is not called: 169.254.169.254 is"),
        ("http://10.0.0.1/a.png".to_owned(), "10.0.0.1 is a private address"),
        ("file:///a.png".to_owned(), "only http and https are"),
        ("a.png".to_owned(), "not an address"),
    ] {
        let seen = look(&client, &address).await;
        let Look::Flawed(flaw) = seen else { panic!("{address}: {seen:?}") };
        assert_eq!(flaw.code(), "INVALID_IMAGE_URL");
        assert!(flaw.to_string().contains(words), "{flaw}");
    }
    // A port that nobody listens on.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let seen = look(&client, &format!("http://{nobody}/a.png")).await;
    let Look::Unclear(flaw, None) = seen else { panic!("{seen:?}") };
    assert!(flaw.to_string().starts_with("no connection ("), "{flaw}");
}

#[tokio::test]
async fn a_survey_looks_at_all_and_asks_again_where_it_may_help() {
    let here = host_here().await;
    let names = ["twice.png", "good.png", "no.png", "page.png"];
    let mut left = names.into_iter();
    let mut told = Vec::new();
    let clock = Clock::real(Stamp::BIRTH, NonZeroU32::MIN);
    let next = || Ok::<_, ()>(left.next().map(|name| (format!("{here}/{name}"), name)));
    let found = |name, seen: Result<Seen, Flaw>| {
        told.push((name, seen.map_err(|flaw| flaw.code()).map(|seen| seen.bytes)));
        Ok(())
    };
    survey(&client(&here), &clock, true, next, found).await.unwrap();
    told.sort_by_key(|(name, _)| names.iter().position(|other| other == name));
    let length = PNG.len() as u64;
    assert_eq!(
        told,
        [
            ("twice.png", Ok(length)),
            ("good.png", Ok(length)),
            ("no.png", Err("IMAGE_DOWNLOAD_FAILED")),
            ("page.png", Err("UNSUPPORTED_FORMAT")),
        ]
    );
}
