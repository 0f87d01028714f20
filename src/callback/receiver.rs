//! The receiver: HTTP on a thread of its own, where neither the engine's loop nor a stranger holds
//! anything up but itself.
//!
//! The answers are what the vendor's retries want: exactly 200 once what a callback says is durable,
//! or when there is nothing to bring again; 503 when that takes too long, so that it is brought again;
//! 404 for an address that is not ours, before its body is read. A body that is too long is taken for
//! one that cannot be read: it has its task looked at, for a refusal would only bring it again. The
//! path is not looked at, for a proxy may rewrite it. Everybody can reach this: bodies, connections and
//! their time are bounded, and a connection carries one request, since callbacks are few and a proxy's
//! idle connections would take the room of others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::{Arrival, Inbox, Receipt, Refusals, TurnedAway};
use crate::veo;

/// Longest body that is kept, in bytes. The longest documented one has some hundred.
const LONGEST_BODY: usize = 64 << 10;

/// What strangers may take of this machine, and how long the API waits.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at once. Others wait in the system's queue.
    connections: usize,
    /// For the head of a request: whoever has not said by then what it wants makes room for others.
    head_within: Duration,
    /// For the body of a request.
    read_within: Duration,
    /// For an arrival to be durable.
    settled_within: Duration,
    /// For a connection: its head, body and wait together.
    connection_lasts: Duration,
}

/// 256 connections: the vendor's for 1,000 tasks that end together, and strangers'. The vendor waits for
/// 30 s, so that a thousand silent strangers keep none of its callbacks out. A commit takes
/// milliseconds; an answer to a submission, which an early callback waits for, may take longer than
/// 8 s, and then the callback is brought again.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    head_within: Duration::from_secs(5),
    read_within: Duration::from_secs(10),
    settled_within: Duration::from_secs(8),
    connection_lasts: Duration::from_secs(20),
};

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
    /// Listens at `address` for what `inbox` knows, and counts in `refusals` what it does not; what
    /// arrives comes out of the stream.
    ///
    /// # Errors
    ///
    /// The address cannot be listened at, or the system has no thread left.
    pub fn listen(
        address: SocketAddr,
        inbox: Inbox,
        refusals: Refusals,
    ) -> io::Result<(Self, BoxStream<'static, Arrival>)> {
        Self::within(BOUNDS, address, inbox, refusals)
    }

    fn within(
        bounds: Bounds,
        address: SocketAddr,
        inbox: Inbox,
        refusals: Refusals,
    ) -> io::Result<(Self, BoxStream<'static, Arrival>)> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        // One for each connection: whoever holds a connection has at most one arrival waiting.
        let (arrivals, arriving) = mpsc::channel(bounds.connections);
        let room = Arc::new(Semaphore::new(bounds.connections));
        let desk = Arc::new(Desk { bounds, inbox, refusals, arrivals });
        let pages = Router::new().route("/healthz", get(healthy)).fallback(receive).with_state(desk);
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = welcome(listener, room, bounds, pages) => {}
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
    bounds: Bounds,
    inbox: Inbox,
    refusals: Refusals,
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
            desk.refusals.add();
            tracing::debug!("a callback to no address of ours");
            return answer(StatusCode::NOT_FOUND, "");
        }
        Err(TurnedAway::Gone) => return answer(StatusCode::OK, ""),
    };
    let Ok(Ok(body)) = timeout(desk.bounds.read_within, read(body)).await else {
        return answer(StatusCode::REQUEST_TIMEOUT, "");
    };
    let (task, told) = veo::read_callback(&desk.inbox.redacted(&body));
    let (receipt, settled) = Receipt::new();
    let arrival = Arrival { sample, attempt, task, answer: told, receipt };
    let settle = async { desk.arrivals.send(arrival).await.is_ok() && settled.await.is_ok() };
    match timeout(desk.bounds.settled_within, settle).await {
        Ok(true) => answer(StatusCode::OK, ""),
        Ok(false) | Err(_) => answer(StatusCode::SERVICE_UNAVAILABLE, "try again\n"),
    }
}

fn answer(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONNECTION, "close")], text).into_response()
}

/// A body; nothing for one longer than the longest, which no answer of the API is. That one is read to
/// its end all the same: a connection that closes before may lose the answer, and the body comes again.
async fn read(body: Body) -> Result<Vec<u8>, axum::Error> {
    let mut chunks = body.into_data_stream();
    let mut read = Vec::new();
    let mut room = LONGEST_BODY;
    while let Some(chunk) = chunks.next().await.transpose()? {
        if let Some(left) = room.checked_sub(chunk.len()) {
            room = left;
            read.extend_from_slice(&chunk);
        } else {
            room = 0;
            read = Vec::new();
        }
    }
    Ok(read)
}

/// Takes connections from `listener`, as many at once as there is `room` for.
#[expect(clippy::disallowed_methods, reason = "connections are of the network and so of real time")]
async fn welcome(listener: TcpListener, room: Arc<Semaphore>, bounds: Bounds, pages: Router) {
    // Never closed.
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(visit(stream, bounds, pages.clone(), place));
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for a callback is not taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One request and its answer. HTTP/1.1 alone: a connection of HTTP/2 carries a hundred at once, and
/// `axum::serve` would speak it as soon as any dependency turns it on.
async fn visit(stream: TcpStream, bounds: Bounds, pages: Router, _place: OwnedSemaphorePermit) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_within)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    match timeout(bounds.connection_lasts, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for a callback broke"),
        Err(_) => tracing::debug!("a connection for a callback took too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::api::Polled;
    use crate::callback::{Addresses, Signer};
    use crate::job::{Attempt, SampleId, TaskId};

    const BRIEF: Bounds = Bounds {
        connections: 2,
        head_within: Duration::from_millis(150),
        read_within: Duration::from_millis(150),
        settled_within: Duration::from_millis(150),
        connection_lasts: Duration::from_millis(400),
    };

    struct Listening {
        receiver: Receiver,
        arrivals: BoxStream<'static, Arrival>,
        refusals: Refusals,
        target: String,
    }

    fn listening(bounds: Bounds) -> Listening {
        let signer = Signer::new(&[1; 32], 0);
        let refusals = Refusals::default();
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let inbox = Inbox::new(signer.clone());
        let (receiver, arrivals) = Receiver::within(bounds, anywhere, inbox, refusals.clone()).unwrap();
        let addresses = Addresses::signed("http://localhost/".parse().unwrap(), signer);
        let url = addresses.of(SampleId(1), Attempt(1)).expose().to_owned();
        let target = url.strip_prefix("http://localhost").unwrap().to_owned();
        Listening { receiver, arrivals, refusals, target }
    }

    impl Listening {
        /// A connection on which `text` has been sent.
        fn send(&self, text: &str) -> std::net::TcpStream {
            let mut stream = std::net::TcpStream::connect(self.receiver.address()).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream
        }

        fn post(&self, target: &str, length: usize, body: &str) -> std::net::TcpStream {
            self.send(&format!("POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"))
        }
    }

    /// The status of the answer, if there is one before the connection ends.
    fn status(mut stream: std::net::TcpStream) -> Option<u16> {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    #[test]
    fn who_is_slow_or_silent_is_let_go() {
        let listening = listening(BRIEF);
        assert_eq!(status(listening.send("POST / HT")), None, "half a head");
        assert_eq!(status(listening.post(&listening.target, 10, "half")), Some(408), "half a body");
        assert_eq!(status(listening.post(&listening.target, 2, "{}")), Some(503), "nobody takes it");
        // Two hold all the room there is, for a while.
        let silent = [listening.send(""), listening.send("")];
        assert_eq!(status(listening.post("/", 0, "")), Some(404), "after them");
        drop(silent);
        assert_eq!(listening.refusals.count(), 1);
    }

    #[test]
    fn who_says_nothing_makes_room_before_who_says_it_slowly() {
        let patient = Duration::from_mins(1);
        let bounds = Bounds {
            read_within: patient,
            settled_within: Duration::ZERO,
            connection_lasts: patient,
            ..BRIEF
        };
        let listening = listening(bounds);
        // A head in pieces, and a body that comes when the time for a head is long over.
        let Listening { target, .. } = &listening;
        let mut slow = listening.send(&format!("POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"));
        slow.write_all(b"\r").unwrap();
        slow.write_all(b"\n{").unwrap();
        let mut silent = listening.send("POST / HTTP/1.1\r\nhost: x\r\n");
        silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        match silent.read(&mut [0; 1]) {
            Ok(length) => assert_eq!(length, 0, "an answer to half a head"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "it is kept"),
        }
        slow.write_all(b"}").unwrap();
        assert_eq!(status(slow), Some(503));
    }

    #[test]
    fn a_connection_carries_one_request() {
        let listening = listening(BRIEF);
        let mut answers = String::new();
        let twice = "PUT /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
        let _ = listening.send(&twice).read_to_string(&mut answers);
        assert_eq!(answers.matches("HTTP/1.1 405").count(), 1, "{answers}");
    }

    #[test]
    fn http_2_is_not_spoken() {
        let patient = Duration::from_mins(1);
        let listening = listening(Bounds { head_within: patient, connection_lasts: patient, ..BRIEF });
        // What a client begins with that takes the server to speak HTTP/2, with empty settings.
        let mut stream = listening.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(length) => assert_eq!(length, 0, "an answer in HTTP/2"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "it is kept"),
        }
    }

    #[test]
    fn a_stranger_is_answered_before_the_body_is_read() {
        let listening = listening(BOUNDS);
        assert_eq!(status(listening.post("/?batchveo=0.1.1.00", 1_000_000, "")), Some(404));
        assert_eq!(status(listening.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")), Some(200));
        assert_eq!(status(listening.send("DELETE / HTTP/1.1\r\nhost: x\r\n\r\n")), Some(405));
    }

    #[tokio::test]
    async fn the_answer_is_that_of_the_receipt() {
        let mut listening = listening(BOUNDS);
        let waiting = listening.post(&listening.target, 2, "{}");
        let arrival = listening.arrivals.next().await.unwrap();
        arrival.receipt.settle();
        assert_eq!(status(waiting), Some(200));
        let waiting = listening.post(&listening.target, 2, "{}");
        drop(listening.arrivals.next().await.unwrap());
        assert_eq!(status(waiting), Some(503), "brought again");
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_answered_as_one_that_cannot_be_read() {
        let mut listening = listening(BOUNDS);
        let body = |length: usize| {
            let around = r#"{"code":200,"data":{"taskId":"t","state":"pending","x":""}}"#.len();
            let text = "x".repeat(length - around);
            format!(r#"{{"code":200,"data":{{"taskId":"t","state":"pending","x":"{text}"}}}}"#)
        };
        for (length, task) in [
            (LONGEST_BODY, TaskId::new("t")),
            (LONGEST_BODY + 1, None),
            // More than the system takes in before anybody reads.
            (16 << 20, None),
        ] {
            let (receiver, target) = (listening.receiver.address(), listening.target.clone());
            let body = body(length);
            let visitor = thread::spawn(move || {
                let mut stream = std::net::TcpStream::connect(receiver).unwrap();
                write!(stream, "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
                    .unwrap();
                stream.write_all(body.as_bytes()).unwrap();
                status(stream)
            });
            let arrival = listening.arrivals.next().await.unwrap();
            assert_eq!(arrival.task, task, "{length}");
            assert_eq!(matches!(arrival.answer, Polled::Unclear(_)), task.is_none(), "{length}");
            arrival.receipt.settle();
            assert_eq!(visitor.join().unwrap(), Some(200), "{length}");
        }
    }
}
