//! The log: where it goes, how much of it, and the run's events in it.
//!
//! `RUST_LOG` wins over `-v`. Warnings are shown by default; what the bar, the plain lines and the
//! summary tell anyway is logged at `info` and below, so that nothing is said twice.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, debug, info, trace};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::screen::{LogLines, Screen};
use super::wording::HaltReason;
use crate::event::{DownloadEvent, EventSink, Progress, RunEvent};
use crate::harmless;
use crate::job::{Outcome, SampleId};
use crate::schedule::{Awaited, Change, Transition};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is not a log format: use text or json")),
        }
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is not understood.
    #[error("RUST_LOG is not a list such as `batchveo=debug,hyper=info`")]
    Filter(#[from] ParseError),
    /// The process logs already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Sends the process's log to `screen`: warnings, `batchveo`'s notes at a `verbosity` of 1, its
/// details at 2, all of it and the HTTP client's details from 3. `RUST_LOG` replaces all this.
/// Colours only on a terminal, and not under `NO_COLOR`.
///
/// # Errors
///
/// When `RUST_LOG` is malformed or a log was set up before.
pub fn init_logging(verbosity: u8, format: LogFormat, screen: Screen) -> Result<(), LogError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let rust_log = variable("RUST_LOG");
    let colours = io::stderr().is_terminal() && variable("NO_COLOR").is_none();
    let filter = filter(verbosity, rust_log.as_deref())?;
    Ok(subscriber(filter, format, colours, screen).try_init()?)
}

fn filter(verbosity: u8, rust_log: Option<&str>) -> Result<EnvFilter, ParseError> {
    let directives = match verbosity {
        0 => "warn",
        1 => "warn,batchveo=info",
        2 => "warn,batchveo=debug",
        3.. => "warn,batchveo=trace,hyper=debug,hyper_util=debug,reqwest=debug",
    };
    EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse(rust_log.unwrap_or(directives))
}

fn subscriber(
    filter: EnvFilter,
    format: LogFormat,
    colours: bool,
    screen: Screen,
) -> Box<dyn Subscriber + Send + Sync> {
    let lines = LogLines { screen, colours };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(lines);
    match format {
        LogFormat::Text => Box::new(lines.fmt_fields(debug_fn(write_field).delimited(" ")).finish()),
        LogFormat::Json => Box::new(lines.json().finish()),
    }
}

/// Writes a field as the log's own format does, but harmless: that format escapes only messages, and
/// what is written here is let through with its colours.
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    let text = harmless::lines(&text);
    match field.name() {
        "message" => out.write_str(&text),
        name if out.has_ansi_escapes() => write!(out, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{text}"),
        name => write!(out, "{name}={text}"),
    }
}

/// A sink that writes the run's events to the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoggedEvents;

impl EventSink for LoggedEvents {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        match event {
            RunEvent::Started { restored } => {
                info!(samples = progress.tally.total(), ended = progress.tally.ended(), restored, "started");
            }
            RunEvent::Changed(change) => log_change(change),
            RunEvent::Paused { until, failure } => {
                let seconds = until.since(progress.now).as_secs_f64();
                info!(seconds, %failure, "waiting");
            }
            RunEvent::Allowed { requests_per_minute, concurrent_tasks } => {
                info!(requests_per_minute, concurrent_tasks, "what the account allows now");
            }
            RunEvent::PollFailed { sample, failure } => debug!(%sample, %failure, "a look at a task failed"),
            RunEvent::CalledBack { sample, attempt, heard } => {
                debug!(%sample, attempt = attempt.0, result = heard.as_str(), "called back");
            }
            // Said by what a person sees of the run.
            RunEvent::Uncalled { ends } => info!(ends, "ends found by looks, and no callback yet"),
            RunEvent::DoubtsAwaited(Awaited { doubts, until }) => {
                let seconds = until.since(progress.now).as_secs_f64();
                info!(doubts, seconds, "waiting for callbacks that may settle submissions in doubt");
            }
            RunEvent::Balance(left) => info!(usd = %left, "balance"),
            RunEvent::BuyingStopped(halt) => info!(reason = %HaltReason(halt), "buying stopped"),
            RunEvent::Download(event) => log_download(event),
            RunEvent::GenerationOver => info!(ended = progress.ended, "nothing more is being made"),
            RunEvent::Heartbeat => trace!(
                running = progress.running,
                submitting = progress.submitting,
                slots = progress.slots_held,
                requests_last_minute = progress.requests_last_minute,
                "heartbeat"
            ),
            RunEvent::Finished => {
                info!(ended = progress.ended, requests = progress.requests, "finished");
            }
        }
    }
}

fn log_download(event: &DownloadEvent) {
    match event {
        DownloadEvent::Saved { sample, part, bytes, path, .. } => {
            debug!(%sample, part, bytes, %path, "saved");
        }
        DownloadEvent::Failed { sample, part, problem } => {
            tracing::warn!(%sample, part, %problem, "not downloaded");
        }
        DownloadEvent::Paused { why } => info!(%why, "downloads wait"),
        DownloadEvent::Resumed => info!("downloads go on"),
        DownloadEvent::Ended { why } => tracing::warn!(%why, "downloads have ended early"),
        DownloadEvent::Lost { videos } => {
            tracing::warn!(videos, "fetched again: no longer there, or not whole");
        }
    }
}

fn log_change(Change { sample, transition, .. }: &Change) {
    match transition {
        Transition::Intended(attempt) => trace!(%sample, attempt = attempt.0, "submitting"),
        Transition::Retracted => debug!(%sample, "not accepted; it will be submitted again"),
        Transition::Accepted { task, attempt, .. } => {
            debug!(%sample, attempt = attempt.0, %task, "accepted");
        }
        Transition::Found { task, attempt, .. } => {
            info!(%sample, attempt = attempt.0, %task, "the task of a submission in doubt was found");
        }
        Transition::Deferred { failure, .. } => {
            info!(%sample, %failure, "the task failed; a new one will be bought");
        }
        Transition::Ended { outcome, .. } => log_ending(*sample, outcome),
    }
}

fn log_ending(sample: SampleId, outcome: &Outcome) {
    let status = outcome.status();
    if let Some(failure) = outcome.failure() {
        info!(%sample, %status, %failure, "ended");
    } else {
        debug!(%sample, %status, "ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::script::{self, Sheet};
    use indicatif::ProgressDrawTarget;

    fn logged(verbosity: u8, rust_log: Option<&str>, format: LogFormat) -> String {
        let sheet = Sheet::default();
        let screen = Screen::new(ProgressDrawTarget::hidden(), Box::new(sheet.clone()));
        let filter = filter(verbosity, rust_log).unwrap();
        tracing::subscriber::with_default(subscriber(filter, format, false, screen), || {
            tracing::warn!("careful");
            debug!(target: "hyper::client", "bytes");
            script::play(&mut LoggedEvents);
        });
        sheet.text()
    }

    #[test]
    fn verbosity_and_rust_log() {
        for (verbosity, rust_log, shown, hidden) in [
            (0, None, "careful", "started"),
            (1, None, "CONTENT_VIOLATION", "accepted"),
            (2, None, "task_3_1", "submitting"),
            (3, None, "bytes", "never said"),
            (3, Some("batchveo=info"), "started", "bytes"),
            (0, Some("hyper=debug"), "bytes", "started"),
        ] {
            let text = logged(verbosity, rust_log, LogFormat::Text);
            assert!(text.contains(shown), "-v {verbosity}, {rust_log:?}: no `{shown}` in\n{text}");
            assert!(!text.contains(hidden), "-v {verbosity}, {rust_log:?}: `{hidden}` in\n{text}");
        }
        assert!(filter(0, Some("batchveo=loud")).is_err());
    }

    #[test]
    fn a_field_with_an_escape_sequence_colours_nothing() {
        for (colours, format) in [(false, LogFormat::Text), (true, LogFormat::Text), (false, LogFormat::Json)]
        {
            let sheet = Sheet::default();
            let screen = Screen::new(ProgressDrawTarget::hidden(), Box::new(sheet.clone()));
            let subscriber = subscriber(filter(1, None).unwrap(), format, colours, screen);
            let hostile = "\u{1b}[35mpurple\u{1b}[2J\u{9b}31m\u{202e}\r\u{7}";
            tracing::subscriber::with_default(subscriber, || info!(task = %hostile, hostile, "{hostile}"));
            let text = sheet.text();
            assert!(text.contains("purple") && !text.contains("\u{1b}[35m"), "{text:?}");
            let own = text.replace("\u{1b}[", "");
            assert!(colours || own == text, "{text:?}");
            let acts = |c| c != '\n' && crate::harmless::acts_on_a_terminal(c);
            assert!(!own.chars().any(acts), "{text:?}");
        }
    }

    #[test]
    fn json_is_an_object_a_line() {
        for line in logged(3, None, LogFormat::Json).lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(object["level"].is_string(), "{line}");
        }
    }
}
