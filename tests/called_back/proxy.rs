//! A reverse proxy in front of the receiver, which knows every address that the API is given, as a
//! careless proxy's log does, and can keep callbacks to itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What came along.
#[derive(Clone)]
pub(crate) struct Call {
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// Where the receiver is.
    pub(crate) behind: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Proxy {
    /// One that passes on what `passes`, and answers the rest 503.
    pub(crate) fn start(passes: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (behind, calls) = (free_port(), Arc::<Mutex<Vec<Call>>>::default());
        let (kept, passes) = (Arc::clone(&calls), Arc::new(passes));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (kept, passes) = (Arc::clone(&kept), Arc::clone(&passes));
                std::thread::spawn(move || {
                    let call = read(&client);
                    kept.lock().unwrap().push(call.clone());
                    let status = if passes(&call) { send(behind, &call) } else { 503 };
                    // The caller may have gone.
                    let _ = write!(
                        &client,
                        "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    );
                });
            }
        });
        Self { address, behind, calls }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until there were `count` calls.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Call> {
        for _ in 0..4_000 {
            let calls = self.calls();
            if calls.len() >= count {
                return calls;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{} calls", self.calls().len());
    }

    /// What the receiver answers to `call`.
    pub(crate) fn send(&self, target: &str, body: &str) -> u16 {
        send(self.behind, &Call { target: target.to_owned(), body: body.as_bytes().to_vec() })
    }
}

/// A port of this machine at which nobody listens yet.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn read(stream: &TcpStream) -> Call {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Call { target: first.split(' ').nth(1).unwrap().to_owned(), body }
}

/// Sends `call`; answers the status, or 502 where nobody answers.
fn send(to: SocketAddr, Call { target, body }: &Call) -> u16 {
    let send = || {
        let mut stream = TcpStream::connect(to)?;
        let head = format!("POST {target} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
        write!(stream, "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let status = send().ok().and_then(|answer| answer.split(' ').nth(1)?.parse().ok());
    status.unwrap_or(502)
}
