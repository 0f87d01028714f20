//! The simulator over HTTP: the API's three endpoints, the verdict and the ledger.
//!
//! Thin on purpose: it reads a request, asks the model, waits on the clock. `GET /judge` and
//! `GET /ledger` are the simulator's own and count as no request.

use std::fmt::Write as _;
use std::future::{Future, ready};
use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures::{StreamExt, stream};
use serde::Deserialize;

use super::{Caller, LONGEST_BODY, LedgerError, RequestHash, Simulator};
use crate::veo::Reply;

/// Requests of the ledger sent in one piece: small enough to hold in memory and to keep nobody waiting.
const LEDGER_PAGE: u32 = 1_000;

/// Answers on `listener` until `shutdown` is ready, then finishes the answers begun.
///
/// # Errors
///
/// The listener fails for good.
pub async fn serve(
    simulator: Simulator,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Small answers wait for nothing.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    axum::serve(listener, routes(simulator)).with_graceful_shutdown(shutdown).await
}

fn routes(simulator: Simulator) -> Router {
    Router::new()
        .route("/api/v1/generateTask/veo-3-1", post(generate))
        .route("/api/v1/statusTask/veo-3-1", get(status))
        .route("/api/v1/apikeys/current-balance", get(balance))
        .route("/judge", get(verdict))
        .route("/ledger", get(ledger))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(simulator)
}

#[derive(Deserialize)]
struct StatusQuery {
    #[serde(rename = "taskId")]
    task_id: String,
}

fn caller(headers: &HeaderMap) -> Caller<'_> {
    Caller::Http(headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()))
}

async fn generate(State(simulator): State<Simulator>, headers: HeaderMap, body: Body) -> Response {
    let body = read(body).await;
    envelope(simulator.ask(|model, now| model.generate(caller(&headers), &body, now)).await)
}

async fn status(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Response {
    let task_id = query.as_ref().ok().map(|query| query.task_id.as_str());
    envelope(simulator.ask(|model, now| model.status(caller(&headers), task_id, now)).await)
}

async fn balance(State(simulator): State<Simulator>, headers: HeaderMap) -> Response {
    envelope(simulator.ask(|model, now| model.balance(caller(&headers), now)).await)
}

async fn unknown(State(simulator): State<Simulator>, headers: HeaderMap) -> Response {
    envelope(simulator.ask(|model, now| model.unknown_endpoint(caller(&headers), now)).await)
}

async fn verdict(State(simulator): State<Simulator>) -> Response {
    match simulator.verdict() {
        Ok(verdict) => axum::Json(verdict).into_response(),
        Err(error) => unreadable(&error),
    }
}

/// CSV, a line for each distinct request; `asked` is empty when no expectations were given.
async fn ledger(State(simulator): State<Simulator>) -> Response {
    let head = stream::iter([Ok(Bytes::from_static(b"request,accepted,failed,asked\n"))]);
    let pages = stream::try_unfold(None, move |after| ready(page(&simulator, after)));
    let body = Body::from_stream(head.chain(pages));
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], body).into_response()
}

/// The next lines of the ledger and where they end. A ledger that cannot be read breaks the answer
/// off, so that no reader takes a part for the whole.
type Page = Option<(Bytes, Option<RequestHash>)>;

fn page(simulator: &Simulator, after: Option<RequestHash>) -> Result<Page, LedgerError> {
    let lines = simulator.lock().ledger().lines(after, LEDGER_PAGE)?;
    let Some(last) = lines.last().map(|line| line.request) else { return Ok(None) };
    let mut text = String::new();
    for line in lines {
        let asked = line.asked.map(|asked| asked.to_string()).unwrap_or_default();
        writeln!(text, "{},{},{},{asked}", line.request, line.accepted, line.failed)
            .expect("writing to a string never fails");
    }
    Ok(Some((text.into(), Some(last))))
}

/// The body, or one byte more of it than the model reads, or what came of it before the connection
/// broke: a request that arrives counts, and half a body is no JSON.
async fn read(body: Body) -> Vec<u8> {
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(Ok(chunk)) = stream.next().await {
        let room = LONGEST_BODY + 1 - whole.len();
        whole.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if whole.len() > LONGEST_BODY {
            break;
        }
    }
    whole
}

fn envelope(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], reply.body).into_response();
    if let Some(wait) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().into());
    }
    response
}

fn unreadable(error: &LedgerError) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
