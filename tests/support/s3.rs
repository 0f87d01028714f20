//! A real S3-compatible server on this machine, shared by the tests of a process.
//!
//! The tests' command installs it and says where. Without it tests that need it are skipped, loudly;
//! where the command has said where it is and it is not, they fail.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where the tests' command puts the server, for tests that are run by hand.
const INSTALLED: &str = "target/tools/s3/bin/moto_server";

static SHARED: Mutex<Weak<S3>> = Mutex::new(Weak::new());

/// The server. Killed when the last test that uses it has ended.
pub(crate) struct S3 {
    process: Child,
    address: String,
}

impl S3 {
    /// `None`, loudly, where it is not installed.
    #[expect(clippy::explicit_write, reason = "the harness captures what the macro prints")]
    pub(crate) fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let told = std::env::var_os("BATCHVEO_TEST_S3").map(PathBuf::from);
        let program = told.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(INSTALLED));
        if !program.exists() {
            assert!(told.is_none(), "BATCHVEO_TEST_S3 says {}, where nothing is", program.display());
            writeln!(std::io::stderr(), "SKIPPED: there is no {INSTALLED}; .ci/test installs it").unwrap();
            return None;
        }
        let running = Arc::new(Self::start(&program));
        *shared = Arc::downgrade(&running);
        Some(running)
    }

    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            line.split_once("http://").map(|(_, address)| address.trim().to_owned())
        });
        // It writes a line for each request, which somebody has to read.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.expect("it says where it listens") }
    }

    /// The variables of the environment that lead to it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "an-id"),
            ("AWS_SECRET_ACCESS_KEY", "a-secret"),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// A new bucket.
    pub(crate) fn make_bucket(&self, name: &str) {
        let (status, _, body) = self.ask("PUT", &format!("/{name}"), b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }

    pub(crate) fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        assert_eq!(self.ask("PUT", &format!("/{bucket}/{key}"), bytes).0, 200);
    }

    pub(crate) fn delete(&self, bucket: &str, key: &str) {
        assert_eq!(self.ask("DELETE", &format!("/{bucket}/{key}"), b"").0, 204);
    }

    /// The object and the heads it comes with; `None` if there is none.
    pub(crate) fn get(&self, bucket: &str, key: &str) -> Option<(String, Vec<u8>)> {
        let (status, head, body) = self.ask("GET", &format!("/{bucket}/{key}"), b"");
        (status == 200).then_some((head, body))
    }

    /// All keys of a bucket.
    pub(crate) fn keys(&self, bucket: &str) -> Vec<String> {
        let (_, _, body) = self.ask("GET", &format!("/{bucket}?list-type=2"), b"");
        all_between(&String::from_utf8(body).unwrap(), "<Key>", "</Key>")
    }

    /// The keys whose upload is not finished.
    pub(crate) fn unfinished(&self, bucket: &str) -> Vec<String> {
        let (_, _, body) = self.ask("GET", &format!("/{bucket}?uploads"), b"");
        all_between(&String::from_utf8(body).unwrap(), "<Key>", "</Key>")
    }

    /// Begins an upload, as somebody who is killed then.
    pub(crate) fn begin_upload(&self, bucket: &str, key: &str) {
        assert_eq!(self.ask("POST", &format!("/{bucket}/{key}?uploads"), b"").0, 200);
    }

    /// A request with a name and no more of a signature: the server does not look at it.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        head += "authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, \
                 SignedHeaders=host, Signature=0\r\n";
        write!(head, "content-length: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), body)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn all_between(text: &str, begin: &str, end: &str) -> Vec<String> {
    let parts = text.split(begin).skip(1);
    parts.filter_map(|part| part.split_once(end)).map(|(inner, _)| inner.to_owned()).collect()
}
