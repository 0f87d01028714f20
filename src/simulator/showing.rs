//! The videos over HTTP: `GET /videos/TASK.mp4`, and the books of them, `GET /videos`.
//!
//! Bodies are made as they are sent, a piece at a time, as fast as the scenario lets them go. What is
//! broken off is broken off for good: the connection goes with it. A server that is told to stop does
//! not wait for bodies.

use std::fmt::Write as _;
use std::future::{pending, ready};
use std::io;

use axum::Extension;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::sync::watch;

use super::Simulator;
use super::shelf::{Asked, Body, Entry, Showing, time_for};
use super::video_faults::Mishap;
use super::videos::{Video, VideoId};
use crate::job::Stamp;

/// Most bytes made at once: a small part of what a socket takes, and soon made.
const PIECE: u64 = 64 * 1024;
/// Fewest, however slow a connection is.
const SMALLEST_PIECE: u64 = 1024;
/// Pieces in a second of a slow connection.
const PIECES_A_SECOND: u64 = 4;
/// Lines of the books sent in one piece.
const PAGE_OF_BOOKS: usize = 1_000;
/// What comes in place of a video.
const PAGE: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head>\
    <body>Checking your browser before you go on.</body></html>\n";

/// Whether the server is told to stop.
pub(super) type Stopping = watch::Receiver<bool>;

#[derive(Deserialize)]
pub(super) struct Link {
    expires: Option<i64>,
    signature: Option<String>,
}

pub(super) async fn video(
    State(simulator): State<Simulator>,
    Extension(stopping): Extension<Stopping>,
    Path(name): Path<String>,
    link: Result<Query<Link>, QueryRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut baggage: Vec<&str> = headers.values().filter_map(|value| value.to_str().ok()).collect();
    baggage.extend(uri.query());
    let link = link.as_ref().ok().map(|Query(link)| link);
    let asked = Asked {
        name: &name,
        expires: link.and_then(|link| link.expires),
        signature: link.and_then(|link| link.signature.as_deref()),
        range: text(header::RANGE),
        if_range: text(header::IF_RANGE),
        baggage: &baggage,
        authorized: headers.contains_key(header::AUTHORIZATION),
    };
    match simulator.ask(|model, now| model.show(&asked, now)).0 {
        Showing::Refused(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
            (status, format!("{status}\n")).into_response()
        }
        Showing::Page => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response(),
        Showing::OutOfRange(Video { length, .. }) => {
            let range = format!("bytes */{length}");
            (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response()
        }
        Showing::Body(body) => response(simulator, body, stopping),
    }
}

fn response(simulator: Simulator, body: Body, stopping: Stopping) -> Response {
    let Body { video, from, to, partial, ranges, mishap, .. } = body;
    let more = match mishap {
        Some(Mishap::TooLong { by }) => by,
        Some(Mishap::Cut { .. } | Mishap::Stall { .. } | Mishap::Page) | None => 0,
    };
    let status = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, "video/mp4".to_owned()),
            (header::CONTENT_LENGTH, (to - from + more).to_string()),
            (header::ETAG, video.etag()),
        ],
        sending(simulator, body, stopping),
    )
        .into_response();
    let headers = response.headers_mut();
    if ranges {
        headers.insert(header::ACCEPT_RANGES, header::HeaderValue::from_static("bytes"));
    }
    if partial {
        let range = format!("bytes {from}-{}/{}", to - 1, video.length);
        // Digits always make a header.
        if let Ok(range) = range.try_into() {
            headers.insert(header::CONTENT_RANGE, range);
        }
    }
    response
}

/// A body on its way.
struct Sending {
    simulator: Simulator,
    body: Body,
    /// The next byte.
    at: u64,
    /// When this connection may send it.
    free: Stamp,
    stopping: Stopping,
}

fn sending(simulator: Simulator, body: Body, stopping: Stopping) -> HttpBody {
    let free = simulator.clock.now();
    let sending = Sending { simulator, body, at: body.from, free, stopping };
    HttpBody::from_stream(stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        let mut stopping = sending.stopping.clone();
        let piece = tokio::select! {
            piece = sending.piece() => piece?,
            // Without a sender, there is nobody left to stop it.
            Ok(_) = stopping.wait_for(|stopping| *stopping) => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        let goes_on = piece.is_ok();
        Some((piece, goes_on.then_some(sending)))
    }))
}

impl Sending {
    /// The next bytes; `None` after the last.
    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        let Body { video, from, to, mishap, rate, .. } = self.body;
        let end = match mishap {
            Some(Mishap::Cut { after } | Mishap::Stall { after }) => from + after,
            Some(Mishap::TooLong { .. } | Mishap::Page) | None => to,
        };
        if self.at == end {
            return Self::end(mishap).await;
        }
        let all = self.simulator.lock().settings().scenario.videos.rate_in_all;
        let slowest = rate.into_iter().chain(all).min();
        let most = slowest.map_or(PIECE, |rate| (rate.get() / PIECES_A_SECOND).clamp(SMALLEST_PIECE, PIECE));
        let count = most.min(end - self.at);
        self.wait_for_turn(count).await;
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
        video.write(self.at, &mut bytes);
        self.at += count;
        self.simulator.lock().shelf_mut().sent(&self.body, count, self.at);
        Some(Ok(bytes.into()))
    }

    /// What comes after the last byte.
    async fn end(mishap: Option<Mishap>) -> Option<io::Result<Bytes>> {
        // What came before is written while this waits for its turn; what breaks is not written at all.
        tokio::task::yield_now().await;
        match mishap {
            Some(Mishap::Cut { .. }) => {
                Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "broken by the scenario")))
            }
            Some(Mishap::Stall { .. }) => pending().await,
            Some(Mishap::TooLong { .. } | Mishap::Page) | None => None,
        }
    }

    /// Waits until `count` more bytes may go.
    async fn wait_for_turn(&mut self, count: u64) {
        let all = self.simulator.ask(|model, now| {
            let rate = model.settings().scenario.videos.rate_in_all?;
            Some(model.shelf_mut().queue(rate, count, now))
        });
        let (all, now) = all;
        if let Some(rate) = self.body.rate {
            self.free = self.free.max(now) + time_for(count, rate);
        }
        let due = self.free.max(all.unwrap_or(now));
        if due > now {
            self.simulator.clock.sleep_until(due).await;
        }
    }
}

/// CSV, a line for each video that was asked for.
pub(super) async fn books(State(simulator): State<Simulator>) -> Response {
    let head = "video,bytes,asked,sent,whole\n".to_owned();
    let pages = stream::unfold(Some((head, None)), move |page| {
        let Some((text, after)) = page else { return ready(None) };
        let next = lines(&simulator, after);
        ready(Some((Ok::<_, io::Error>(Bytes::from(text)), next)))
    });
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], HttpBody::from_stream(pages)).into_response()
}

/// The next lines and where they end.
fn lines(simulator: &Simulator, after: Option<VideoId>) -> Option<(String, Option<VideoId>)> {
    let model = simulator.lock();
    let (mut text, mut last) = (String::new(), None);
    for (id, entry) in model.shelf().entries_after(after).take(PAGE_OF_BOOKS) {
        let Entry { length, asked, whole, sent } = entry;
        writeln!(text, "{id},{length},{asked},{sent},{whole}").expect("writing to a string never fails");
        last = Some(*id);
    }
    last.map(|last| (text, Some(last)))
}
