//! Figures for Prometheus: served at an address, or written to a file.
//!
//! Both have a thread of their own, so that nobody who reads them can hold a run up. What cannot be
//! opened is told before anything is bought; what fails later is said once and changes nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, thread};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::UsageError;
use crate::clock::Clock;
use crate::job::{Limits, Stamp};
use crate::report::{Health, Metrics, Screen};

/// How often the file is written: the node exporter is scraped every 15 s or so.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// How each of our files begins, by which one is told from somebody else's.
const FIRST_WORDS: &[u8] = b"# HELP batchveo_";

/// Where figures are shown.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct MetricsArgs {
    /// Serve Prometheus metrics at /metrics and whether the run goes on at /healthz
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Write Prometheus metrics to this file every few seconds and at the end, whole or not at all
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
}

impl MetricsArgs {
    /// Opens what is asked for; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or the file not be written.
    pub fn open(&self, limits: Limits, screen: &Screen) -> Result<Option<Shown>, UsageError> {
        if self.metrics.is_none() && self.metrics_file.is_none() {
            return Ok(None);
        }
        let metrics = Metrics::new(limits, Clock::real(Stamp::BIRTH, std::num::NonZeroU32::MIN));
        let server = self.metrics.map(|address| {
            serve(address, metrics.clone(), screen)
                .map_err(|error| UsageError(format!("--metrics {address}: {error}")))
        });
        let file = self.metrics_file.as_ref().map(|path| {
            keep_writing(path.clone(), metrics.clone(), screen.clone())
                .map_err(|error| UsageError(format!("--metrics-file {}: {error}", path.display())))
        });
        Ok(Some(Shown { metrics, server: server.transpose()?, file: file.transpose()? }))
    }
}

/// Figures on show, until this is dropped; the file is then written a last time.
#[derive(Debug)]
pub struct Shown {
    /// The sink that makes them.
    pub metrics: Metrics,
    server: Option<Server>,
    file: Option<FileWriter>,
}

impl Shown {
    /// Takes the figures down, after they were written a last time.
    pub fn end(self) {
        drop((self.file, self.server));
    }
}

/// A server with a thread of its own, until it is dropped.
#[derive(Debug)]
struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    #[cfg(test)]
    address: SocketAddr,
}

fn serve(address: SocketAddr, metrics: Metrics, screen: &Screen) -> io::Result<Server> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    if !bound.ip().is_loopback() {
        let _ = writeln!(
            screen.clone(),
            "Metrics at http://{bound}/metrics are open to whoever can reach this machine: counts and costs, no prompts."
        );
    } else if address.port() == 0 {
        let _ = writeln!(screen.notes(), "Metrics at http://{bound}/metrics.");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (stop, stopped) = oneshot::channel();
    let pages =
        Router::new().route("/metrics", get(figures)).route("/healthz", get(health)).with_state(metrics);
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = axum::serve(listener, pages) => {}
                _ = stopped => {}
            }
        });
    };
    let thread = thread::Builder::new().name("metrics".into()).spawn(work)?;
    Ok(Server {
        stop: Some(stop),
        thread: Some(thread),
        #[cfg(test)]
        address: bound,
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn figures(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (kind, text) = if accepts.into_iter().any(|value| value.contains("application/openmetrics-text")) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.openmetrics())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", metrics.prometheus())
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn health(State(metrics): State<Metrics>) -> (StatusCode, String) {
    match metrics.health() {
        Health::Well => (StatusCode::OK, "ok\n".into()),
        Health::Stuck(silent) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("nothing has happened for {} s\n", silent.as_secs()))
        }
    }
}

/// Writes the file with a thread of its own, until it is dropped.
#[derive(Debug)]
struct FileWriter {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn keep_writing(path: PathBuf, metrics: Metrics, mut screen: Screen) -> io::Result<FileWriter> {
    if is_somebody_elses(&path)? {
        return Err(io::Error::other("there is something else in it: name another file"));
    }
    write(&path, &metrics)?;
    let (stop, stopped) = mpsc::channel();
    let work = move || {
        let mut told = false;
        loop {
            let over = !matches!(stopped.recv_timeout(WRITE_EVERY), Err(RecvTimeoutError::Timeout));
            if let Err(error) = write(&path, &metrics)
                && !std::mem::replace(&mut told, true)
            {
                let _ = writeln!(screen, "batchveo: --metrics-file {}: {error}", path.display());
            }
            if over {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("metrics file".into()).spawn(work)?;
    Ok(FileWriter { stop: Some(stop), thread: Some(thread) })
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Whether something is at `path` that is no file of metrics of ours.
fn is_somebody_elses(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(found) if !found.is_file() => return Ok(true),
        Ok(_) => {}
    }
    let mut first = Vec::new();
    fs::File::open(path)?.take(FIRST_WORDS.len() as u64).read_to_end(&mut first)?;
    Ok(!first.is_empty() && first != FIRST_WORDS)
}

/// Puts the figures at `path` at once: who reads it sees the old file or the new.
fn write(path: &Path, metrics: &Metrics) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".batchveo-metrics-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The collector that reads it is another user.
        builder.permissions(fs::Permissions::from_mode(0o644));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(metrics.prometheus().as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventSink, Progress, RunEvent};
    use indicatif::ProgressDrawTarget;
    use std::io::BufRead;
    use std::net::TcpStream;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn screen(&self) -> Screen {
            Screen::new(ProgressDrawTarget::hidden(), Box::new(self.clone()))
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn open(args: &MetricsArgs, page: &Page) -> Result<Option<Shown>, UsageError> {
        args.open(Limits::DOCUMENTED, &page.screen())
    }

    /// The head and the body that an address answers.
    fn asked(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        io::BufReader::new(stream).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    #[test]
    fn metrics_are_served_in_both_formats_and_health_with_them() {
        let page = Page::default();
        let args = MetricsArgs { metrics: Some("127.0.0.1:0".parse().unwrap()), metrics_file: None };
        let mut shown = open(&args, &page).unwrap().unwrap();
        let address = shown.server.as_ref().unwrap().address;
        assert!(page.text().contains(&format!("http://{address}/metrics")), "{}", page.text());
        shown.metrics.notice(&RunEvent::Heartbeat, &Progress { requests: 42, ..Progress::default() });
        let (head, body) = asked(address, "/metrics", "*/*");
        assert!(head.contains("200 ok") && head.contains("text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("\nbatchveo_requests_total 42\n"), "{body}");
        let (head, body) = asked(address, "/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
        assert!(head.contains("application/openmetrics-text") && body.contains("# EOF"), "{head}\n{body}");
        let (head, body) = asked(address, "/healthz", "*/*");
        assert!(head.contains("200 ok") && body.contains("ok"), "{head}\n{body}");
        assert!(asked(address, "/", "*/*").0.contains("404"));

        let taken = MetricsArgs { metrics: Some(address), metrics_file: None };
        let error = open(&taken, &page).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--metrics {address}: ")), "{error}");
        drop(shown);
        assert!(TcpStream::connect(address).is_err(), "it has ended");
    }

    #[test]
    fn an_address_that_others_can_reach_is_told() {
        let page = Page::default();
        let args = MetricsArgs { metrics: Some("0.0.0.0:0".parse().unwrap()), metrics_file: None };
        drop(open(&args, &page).unwrap());
        assert!(page.text().contains("whoever can reach this machine"), "{}", page.text());
    }

    #[test]
    fn the_file_is_there_from_the_start_and_as_of_the_end_and_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batchveo.prom");
        let args = MetricsArgs { metrics: None, metrics_file: Some(path.clone()) };
        let page = Page::default();
        for requests in [1, 2] {
            let mut shown = open(&args, &page).unwrap().unwrap();
            let first = fs::read(&path).unwrap();
            assert!(first.starts_with(FIRST_WORDS) && first.lines().all(|line| line.is_ok()));
            shown.metrics.notice(&RunEvent::Finished, &Progress { requests, ..Progress::default() });
            drop(shown);
            let last = fs::read_to_string(&path).unwrap();
            assert!(last.contains(&format!("\nbatchveo_requests_total {requests}\n")), "{last}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "mine\n").unwrap();
        let args = MetricsArgs { metrics: None, metrics_file: Some(path.clone()) };
        let error = open(&args, &Page::default()).unwrap_err().to_string();
        assert!(error.contains("something else in it"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine\n");
        let absent = MetricsArgs { metrics: None, metrics_file: Some(folder.path().join("absent/m.prom")) };
        assert!(open(&absent, &Page::default()).is_err());
    }
}
