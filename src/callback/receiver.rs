//! The receiver: HTTP on a thread of its own, where neither the engine's loop nor a stranger holds
//! anything up but itself.
//!
//! The answers are what the vendor's retries want: exactly 200 once what a callback says is durable,
//! or when there is nothing to bring again; 503 when that takes too long, so that it is brought again;
//! 404 for an address that is not ours, before its body is read. The path is not looked at, for a proxy
//! may rewrite it. Everybody can reach this: bodies, connections and their time are bounded, and a
//! connection carries one request, since callbacks are few and a proxy's idle connections would take
//! the room of others.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Sleep, timeout};

use super::{Arrival, Inbox, Receipt, TurnedAway};
use crate::veo;

/// Longest body that is read, in bytes. The longest documented one has some hundred.
const LONGEST_BODY: usize = 64 << 10;

/// Connections at once: the vendor's for 1,000 tasks that end together, and strangers'. Others wait in
/// the system's queue.
const CONNECTIONS: usize = 256;

/// How long the body of a request may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How long an arrival may take to be durable. A commit takes milliseconds; an answer to a submission,
/// which an early callback waits for, may take longer, and then the callback is brought again.
const SETTLED_WITHIN: Duration = Duration::from_secs(8);

/// How long a connection may last, its head, body and wait together. The vendor waits for 30 s.
const CONNECTION_LASTS: Duration = Duration::from_secs(20);

/// How long to wait when the system has no more room for connections.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Receiver {
    /// Listens at `address` for what `inbox` knows; what arrives comes out of the stream.
    ///
    /// # Errors
    ///
    /// The address cannot be listened at, or the system has no thread left.
    pub fn listen(address: SocketAddr, inbox: Inbox) -> io::Result<(Self, BoxStream<'static, Arrival>)> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        // One for each connection: whoever holds a connection has at most one arrival waiting.
        let (arrivals, arriving) = mpsc::channel(CONNECTIONS);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let desk = Arc::new(Desk { inbox, arrivals });
        let pages = Router::new().route("/healthz", get(healthy)).fallback(receive).with_state(desk);
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = axum::serve(Door { listener, room }, pages) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("callbacks".into()).spawn(work)?;
        let arriving = futures::stream::unfold(arriving, async |mut arriving| {
            let arrival = arriving.recv().await?;
            Some((arrival, arriving))
        });
        Ok((Self { stop: Some(stop), thread: Some(thread), address }, arriving.boxed()))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Desk {
    inbox: Inbox,
    arrivals: mpsc::Sender<Arrival>,
}

async fn healthy() -> Response {
    answer(StatusCode::OK, "ok\n")
}

async fn receive(State(desk): State<Arc<Desk>>, method: Method, uri: Uri, body: Body) -> Response {
    if method != Method::POST {
        return ([(header::ALLOW, "POST")], answer(StatusCode::METHOD_NOT_ALLOWED, "")).into_response();
    }
    let (sample, attempt) = match desk.inbox.recognise(uri.query().unwrap_or_default()) {
        Ok(known) => known,
        Err(TurnedAway::Forged) => {
            tracing::debug!("a callback to no address of ours");
            return answer(StatusCode::NOT_FOUND, "");
        }
        Err(TurnedAway::Gone) => return answer(StatusCode::OK, ""),
    };
    let body = match timeout(READ_WITHIN, to_bytes(body, LONGEST_BODY)).await {
        Ok(Ok(body)) => body,
        // Longer than any answer of the API: to be looked at as what cannot be read.
        Ok(Err(error)) if is_too_long(&error) => Default::default(),
        Ok(Err(_)) | Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, ""),
    };
    let (task, told) = veo::read_callback(&desk.inbox.redacted(&body));
    let (receipt, settled) = Receipt::new();
    let arrival = Arrival { sample, attempt, task, answer: told, receipt };
    let settle = async { desk.arrivals.send(arrival).await.is_ok() && settled.await.is_ok() };
    match timeout(SETTLED_WITHIN, settle).await {
        Ok(true) => answer(StatusCode::OK, ""),
        Ok(false) | Err(_) => answer(StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
    }
}

fn answer(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONNECTION, "close")], text).into_response()
}

/// Whether a body was left unread because it is longer than the longest.
fn is_too_long(error: &axum::Error) -> bool {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
        .any(|error| error.to_string().contains("length limit"))
}

/// The port, with room for a bounded number of connections.
struct Door {
    listener: tokio::net::TcpListener,
    room: Arc<Semaphore>,
}

impl Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    #[expect(clippy::disallowed_methods, reason = "connections are of the network and so of real time")]
    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            // Never closed.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let ends = Box::pin(tokio::time::sleep(CONNECTION_LASTS));
                    return (Visit { stream, ends, _room: room }, from);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for a callback is not taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection, for a while.
struct Visit {
    stream: TcpStream,
    ends: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl Visit {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ends.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
