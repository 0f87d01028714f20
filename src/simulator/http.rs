//! The simulator over HTTP: the API's three endpoints, the videos, callbacks, the verdict and the ledger.
//!
//! Thin on purpose: it reads a request, asks the model, waits on the clock, and does to the connection
//! what the answer says. `GET /judge`, `GET /ledger`, `GET /videos`, `GET /images/good.png` and
//! `POST /top-up?usd=100` are the simulator's own: they count as no request and no fault strikes them,
//! but nobody can reach them either while an outage keeps the port closed. A client's time-outs are
//! real: only an answer that is later than they are by the wall clock is too late.

use std::fmt::Write as _;
use std::future::{Future, ready};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use axum::Extension;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::watch;

use super::connection::{Doorway, Switch};
use super::images;
use super::judge::Endpoint;
use super::showing::{self, Stopping};
use super::{Answer, Caller, Delivery, LONGEST_BODY, LedgerError, Model, RequestHash, Simulator};
use crate::job::{Stamp, Usd};
use crate::veo::Reply;

/// Where redirects lead: a host that does not exist, so that a key sent there goes nowhere.
const ELSEWHERE: &str = "https://elsewhere.invalid";

/// Requests of the ledger sent in one piece: small enough to hold in memory and to keep nobody waiting.
const LEDGER_PAGE: u32 = 1_000;

/// Answers on `listener` and calls back until `shutdown` is ready, then finishes the answers begun, but
/// for videos. Callbacks go to this machine alone, unless [`Simulator::calling`] says otherwise; those
/// that are still to come are forgotten. Links to videos lead to this address; where it is that of
/// every network, to loopback.
///
/// # Errors
///
/// The listener fails for good, or HTTPS cannot be set up.
pub async fn serve(
    simulator: Simulator,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    simulator.lock().shelf_mut().stands_at(format!("http://{address}"));
    let doorway = Doorway::new(listener, simulator.clone())?;
    let (stop, stopping) = watch::channel(false);
    let calling = simulator.clone();
    let service = routes(simulator, stopping).into_make_service_with_connect_info::<Switch>();
    let shutdown = async move {
        shutdown.await;
        // Fails only when nobody sends anything.
        let _ = stop.send(true);
    };
    tokio::select! {
        ended = axum::serve(doorway, service).with_graceful_shutdown(shutdown) => ended,
        ended = calling.call_back() => ended.map_err(io::Error::other),
    }
}

fn routes(simulator: Simulator, stopping: Stopping) -> Router {
    Router::new()
        .route("/images/{name}", get(images::sample))
        .route("/videos", get(showing::books))
        .route("/videos/{name}", get(showing::video))
        .route("/api/v1/generateTask/veo-3-1", post(generate))
        .route("/api/v1/statusTask/veo-3-1", get(status))
        .route("/api/v1/apikeys/current-balance", get(balance))
        .route("/judge", get(verdict))
        .route("/ledger", get(ledger))
        .route("/top-up", post(top_up))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(Extension(stopping))
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

async fn generate(
    State(simulator): State<Simulator>,
    ConnectInfo(connection): ConnectInfo<Switch>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if simulator.hangs_up(Endpoint::Generate) {
        return hang_up(&connection);
    }
    let body = read(body).await;
    let flaw = match &simulator.eyes {
        Some(eyes) => eyes.judge(&body).await,
        None => None,
    };
    let generate = |model: &mut Model, now| model.generate_of_images(caller(&headers), &body, flaw, now);
    simulator.tell(&connection, &uri, generate).await
}

async fn status(
    State(simulator): State<Simulator>,
    ConnectInfo(connection): ConnectInfo<Switch>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Response {
    if simulator.hangs_up(Endpoint::Status) {
        return hang_up(&connection);
    }
    let task_id = query.as_ref().ok().map(|query| query.task_id.as_str());
    simulator.tell(&connection, &uri, |model, now| model.status(caller(&headers), task_id, now)).await
}

async fn balance(
    State(simulator): State<Simulator>,
    ConnectInfo(connection): ConnectInfo<Switch>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if simulator.hangs_up(Endpoint::Balance) {
        return hang_up(&connection);
    }
    simulator.tell(&connection, &uri, |model, now| model.balance(caller(&headers), now)).await
}

async fn unknown(
    State(simulator): State<Simulator>,
    ConnectInfo(connection): ConnectInfo<Switch>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    simulator.tell(&connection, &uri, |model, now| model.unknown_endpoint(caller(&headers), now)).await
}

#[derive(Deserialize)]
struct TopUp {
    usd: f64,
}

async fn top_up(State(simulator): State<Simulator>, query: Result<Query<TopUp>, QueryRejection>) -> Response {
    match query.ok().and_then(|Query(TopUp { usd })| Usd::from_dollars(usd)) {
        Some(more) => {
            axum::Json(serde_json::json!({ "balance_left": simulator.top_up(more) })).into_response()
        }
        None => (StatusCode::BAD_REQUEST, "say how many dollars: POST /top-up?usd=100\n").into_response(),
    }
}

impl Simulator {
    fn hangs_up(&self, endpoint: Endpoint) -> bool {
        self.ask(|model, now| model.hangs_up(endpoint, now)).0
    }

    /// Whether nobody can connect now, and when that may change.
    pub(super) fn closure(&self) -> (bool, Option<Stamp>) {
        let ask = |model: &mut Model, now| {
            let scenario = &model.settings().scenario;
            (scenario.is_closed(now), scenario.next_closure_edge(now))
        };
        self.ask(ask).0
    }

    /// Asks the model and gives its answer when it is due, as far as the answer wants to be given.
    async fn tell(
        &self,
        connection: &Switch,
        uri: &Uri,
        request: impl FnOnce(&mut Model, Stamp) -> Answer,
    ) -> Response {
        let (Answer { delivery, latency }, arrived) = self.ask(request);
        self.clock.sleep_until(arrived + latency).await;
        match delivery {
            Delivery::Whole(reply) => envelope(reply, uri),
            Delivery::Half(reply) => half(reply, uri),
            Delivery::Dropped | Delivery::Unconnected => hang_up(connection),
        }
    }
}

/// Breaks the connection; what is answered here is never written.
fn hang_up(connection: &Switch) -> Response {
    connection.break_off();
    StatusCode::NO_CONTENT.into_response()
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

fn envelope(reply: Reply, uri: &Uri) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let is_page = reply.body.first() == Some(&b'<');
    let kind = if is_page { "text/html; charset=utf-8" } else { "application/json" };
    let mut response = (status, [(header::CONTENT_TYPE, kind)], reply.body).into_response();
    if let Some(wait) = reply.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().into());
    }
    if status.is_redirection() {
        let location = format!("{ELSEWHERE}{uri}");
        // What came in as an address goes out as one.
        if let Ok(location) = location.try_into() {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    response
}

/// The head of the whole answer and half of its body; then the connection breaks.
fn half(reply: Reply, uri: &Uri) -> Response {
    let length = reply.body.len();
    let (mut parts, _) = envelope(Reply { body: Vec::new(), ..reply.clone() }, uri).into_parts();
    parts.headers.insert(header::CONTENT_LENGTH, length.into());
    let first = stream::iter([Ok(Bytes::from(reply.body).slice(..length / 2))]);
    let broken = stream::once(async {
        // What came before is written while this waits for its turn.
        tokio::task::yield_now().await;
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "broken by the scenario"))
    });
    Response::from_parts(parts, Body::from_stream(first.chain(broken)))
}

fn unreadable(error: &LedgerError) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
