//! A run in the words of Prometheus.
//!
//! Rule: the engine's loop leaves a copy of [`Progress`] and counts what has no count there; names
//! and text are made when somebody reads. Names follow Prometheus: a base unit at the end, `_total`
//! for what only grows and begins anew with each process. Labels hold words of ours alone, never
//! what an answer said, so that their number is bounded.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::wording::halt_word;
use crate::clock::{Clock, wall_time};
use crate::event::{EventSink, Progress, RunEvent};
use crate::job::{Failure, Limits, Outcome, Stamp, Status, UnixMillis, Usd, Video};
use crate::schedule::Transition;

/// A run that has told nothing for so long is stuck: it tells of itself every second.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// Upper bounds for how long tasks take, in seconds: the vendor speaks of 90 s to 5 minutes, and a
/// run gives up after 30 minutes.
const DURATIONS: [f64; 11] = [30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 240.0, 300.0, 600.0, 1_200.0, 1_800.0];

/// The figures of a run, to be read at any time; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    figures: Arc<Mutex<Figures>>,
    clock: Clock,
}

#[derive(Debug)]
struct Figures {
    progress: Progress,
    /// Requests in 60 seconds and tasks at once, as the account is known to allow.
    allowed: (u32, u32),
    balance: Option<Usd>,
    halt: Option<&'static str>,
    refused: u64,
    retried: u64,
    pauses: BTreeMap<&'static str, u64>,
    poll_failures: BTreeMap<&'static str, u64>,
    durations: Histogram,
    standing: Standing,
}

/// Whether the run goes on, by a clock of its own.
#[derive(Debug, Clone, Copy)]
enum Standing {
    Starting,
    Told { first: UnixMillis, last: UnixMillis, at: Stamp },
    Over { first: UnixMillis, last: UnixMillis },
}

/// Whether a run does what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has not begun, or has told something lately, or is over.
    Well,
    /// It has told nothing for this long.
    Stuck(Duration),
}

impl Metrics {
    /// Of a run within `limits`. Its liveness is told by `clock`, which should be real.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock) -> Self {
        let figures = Figures {
            progress: Progress::default(),
            allowed: (limits.requests_per_minute.get(), limits.concurrent_tasks.get()),
            balance: None,
            halt: None,
            refused: 0,
            retried: 0,
            pauses: BTreeMap::new(),
            poll_failures: BTreeMap::new(),
            durations: Histogram::new(DURATIONS),
            standing: Standing::Starting,
        };
        Self { figures: Arc::new(Mutex::new(figures)), clock }
    }

    /// Whether the run's loop goes on.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.look().standing {
            Standing::Told { at, .. } => {
                let silent = self.clock.now().since(at);
                if silent > STUCK_AFTER { Health::Stuck(silent) } else { Health::Well }
            }
            Standing::Starting | Standing::Over { .. } => Health::Well,
        }
    }

    /// All figures in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        // Writing to a string never fails.
        let _ = prometheus_text::encode(&mut text, &self.registry());
        text
    }

    /// All figures in `OpenMetrics` 1.0.
    #[must_use]
    pub fn openmetrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string never fails.
        let _ = text::encode(&mut text, &self.registry());
        text
    }

    fn look(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry(&self) -> Registry {
        let figures = self.look();
        let mut out = Out(Registry::with_prefix("batchveo"));
        out.run(&figures);
        out.requests(&figures);
        out.money(&figures);
        out.downloads(&figures.progress);
        out.callbacks(&figures.progress);
        out.0
    }
}

impl EventSink for Metrics {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        let mut figures = self.look();
        figures.progress = *progress;
        match event {
            RunEvent::Changed(change) => return figures.changed(&change.transition),
            RunEvent::Paused { failure, .. } => {
                *figures.pauses.entry(reason(failure)).or_default() += 1;
            }
            RunEvent::PollFailed { failure, .. } => {
                *figures.poll_failures.entry(reason(failure)).or_default() += 1;
            }
            RunEvent::Allowed { requests_per_minute, concurrent_tasks } => {
                figures.allowed = (*requests_per_minute, *concurrent_tasks);
            }
            RunEvent::Balance(left) => figures.balance = Some(*left),
            RunEvent::BuyingStopped(halt) => figures.halt = Some(halt_word(halt)),
            RunEvent::Download(_) | RunEvent::CalledBack { .. } | RunEvent::Uncalled { .. } => return,
            RunEvent::Started { .. }
            | RunEvent::DoubtsAwaited(_)
            | RunEvent::GenerationOver
            | RunEvent::Heartbeat
            | RunEvent::Finished => {}
        }
        let (last, at) = (wall_time(), self.clock.now());
        let first = match figures.standing {
            Standing::Starting => last,
            Standing::Told { first, .. } | Standing::Over { first, .. } => first,
        };
        figures.standing = if matches!(event, RunEvent::Finished) {
            Standing::Over { first, last }
        } else {
            Standing::Told { first, last, at }
        };
    }
}

impl Figures {
    fn changed(&mut self, transition: &Transition) {
        match transition {
            Transition::Retracted | Transition::Ended { outcome: Outcome::Rejected(_), .. } => {
                self.refused += 1;
            }
            Transition::Deferred { .. } => self.retried += 1,
            Transition::Ended { outcome: Outcome::Succeeded(video), .. } => {
                if let Some(seconds) = seconds(video) {
                    self.durations.observe(seconds);
                }
            }
            Transition::Intended(_)
            | Transition::Accepted { .. }
            | Transition::Found { .. }
            | Transition::Ended { .. } => {}
        }
    }
}

/// How long the API took for it.
fn seconds(video: &Video) -> Option<f64> {
    let millis = video.completed?.0.checked_sub(video.created?.0)?;
    Some(Duration::from_millis(u64::try_from(millis).ok()?).as_secs_f64())
}

/// Why, in one of a few words: too many requests are worth an alarm of their own.
fn reason(failure: &Failure) -> &'static str {
    match failure.code.as_deref() {
        Some("http_429") => "http_429",
        Some("http_503") => "http_503",
        Some(_) | None => failure.kind.as_str(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age are exact")]
fn unix_seconds(time: UnixMillis) -> f64 {
    time.0 as f64 / 1e3
}

/// One label of ours and its value.
type Label = [(&'static str, &'static str); 1];
type Real = Gauge<f64, AtomicU64>;
type Whole = Gauge<u64, AtomicU64>;

/// The registry that a reading fills.
struct Out(Registry);

impl Out {
    fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Whole::default();
        gauge.set(value);
        self.add(name, help, gauge);
    }

    fn real(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Real::default();
        gauge.set(value);
        self.add(name, help, gauge);
    }

    /// `_total` is put to the name.
    fn count(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.add(name, help, counter);
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let family = Family::<Label, Whole>::default();
        for (word, value) in values {
            family.get_or_create(&[(label, word)]).set(value);
        }
        self.add(name, help, family);
    }

    /// `_total` is put to the name.
    fn counts(&mut self, name: &str, help: &str, values: &BTreeMap<&'static str, u64>) {
        let family = Family::<Label, Counter>::default();
        // Told from the start, so that the first one shows as a rise.
        family.get_or_create(&[("reason", "http_429")]).inc_by(0);
        for (word, value) in values {
            family.get_or_create(&[("reason", word)]).inc_by(*value);
        }
        self.add(name, help, family);
    }

    fn run(&mut self, figures: &Figures) {
        let progress = &figures.progress;
        self.gauges("build_info", "The program, always 1", "version", [(env!("CARGO_PKG_VERSION"), 1)]);
        self.gauges(
            "samples",
            "Samples of the whole state file",
            "status",
            Status::ALL.map(|status| (status.as_str(), progress.tally.count(status))),
        );
        self.count("samples_ended", "Samples ended by this process", progress.ended);
        self.gauges(
            "tasks",
            "Submissions not answered, and tasks being watched",
            "state",
            [("submitting", progress.submitting.into()), ("running", progress.running.into())],
        );
        self.add(
            "task_duration_seconds",
            "How long the API took for a video, by its own times",
            figures.durations.clone(),
        );
        let oldest = progress.oldest_task.map_or(Duration::ZERO, |oldest| progress.now.since(oldest));
        self.real("oldest_task_age_seconds", "Age of the oldest task being watched", oldest.as_secs_f64());
        let (first, last, over) = match figures.standing {
            Standing::Starting => return,
            Standing::Told { first, last, .. } => (first, last, 0),
            Standing::Over { first, last } => (first, last, 1),
        };
        self.real("start_timestamp_seconds", "When this run began", unix_seconds(first));
        self.real("last_event_timestamp_seconds", "When this run last told of itself", unix_seconds(last));
        self.gauge("finished", "Whether this run is over", over);
    }

    fn requests(&mut self, figures: &Figures) {
        let progress = &figures.progress;
        let (per_minute, at_once) = figures.allowed;
        self.count("requests", "Requests sent by this process, of every kind", progress.requests);
        self.gauge(
            "requests_last_minute",
            "Requests sent in the last 60 seconds",
            progress.requests_last_minute.into(),
        );
        self.gauge("requests_per_minute_limit", "Requests allowed in any 60 seconds", per_minute.into());
        self.gauge(
            "slots_in_use",
            "Slots held: submitting, running, backing off, in doubt",
            progress.slots_held.into(),
        );
        self.gauge("slots_limit", "Tasks allowed at once", at_once.into());
        self.count("submissions_accepted", "Submissions that the API took", progress.accepted);
        self.count("submissions_refused", "Submissions that the API surely did not take", figures.refused);
        self.count("tasks_retried", "Failed tasks that are bought again", figures.retried);
        self.counts(
            "poll_failures",
            "Looks at tasks that were not answered or refused, which changes no task",
            &figures.poll_failures,
        );
        self.counts("pauses", "Times that everyone waited", &figures.pauses);
    }

    fn money(&mut self, figures: &Figures) {
        let progress = &figures.progress;
        let spent = Counter::<f64, AtomicU64>::default();
        spent.inc_by(progress.spent_now.dollars());
        self.add("spent_usd", "List price of what this process bought, doubts included", spent);
        self.real("cost_usd", "List price of what the whole state file bought", progress.spent.dollars());
        if let Some(balance) = figures.balance {
            self.real("balance_usd", "What the account had when it was last asked", balance.dollars());
        }
        self.gauge("buying", "Whether new samples are submitted", progress.buying.into());
        if let Some(reason) = figures.halt {
            self.gauges("buying_stopped", "Why nothing more is bought", "reason", [(reason, 1)]);
        }
    }

    fn downloads(&mut self, progress: &Progress) {
        let Some(downloads) = progress.downloads else { return };
        self.gauges(
            "downloads",
            "Videos that wait to be saved, and those under way",
            "state",
            [("waiting", downloads.waiting), ("active", downloads.active.into())],
        );
        self.count("videos_saved", "Videos saved by this process", downloads.saved);
        self.count("download_failures", "Videos that could not be had", downloads.failed);
        self.count("download_bytes", "Bytes of videos received by this process", downloads.bytes);
        self.gauge("downloads_paused", "Whether downloads wait, for room say", downloads.paused.into());
    }

    fn callbacks(&mut self, progress: &Progress) {
        let Some(callbacks) = progress.callbacks else { return };
        let family = Family::<Label, Counter>::default();
        for (word, value) in callbacks.by_result() {
            family.get_or_create(&[("result", word)]).inc_by(value);
        }
        self.add(
            "callbacks",
            "Callbacks by what came of them; refused ones were to no address of ours",
            family,
        );
        self.count(
            "ends_without_callback",
            "Ends that looks found although a callback was to tell of them",
            callbacks.uncalled,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Callbacks, Downloads};
    use crate::report::script::{self, LIMITS};

    fn played() -> Metrics {
        let mut metrics = Metrics::new(LIMITS, Clock::virtual_from(Stamp::BIRTH));
        script::play(&mut metrics);
        metrics
    }

    #[test]
    fn a_run_in_the_words_of_prometheus() {
        let text = played().prometheus().replace(env!("CARGO_PKG_VERSION"), "VERSION");
        let mut told: Vec<_> = text.lines().filter(|line| !line.contains("timestamp_seconds ")).collect();
        // The values of a label come in any order.
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        let is_bucket = |line: &str| line.contains("_bucket{");
        for family in told.chunk_by_mut(|one, next| name(one) == name(next)).filter(|all| !is_bucket(all[0]))
        {
            family.sort_unstable();
        }
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn openmetrics_has_its_end_and_the_same_figures() {
        let metrics = played();
        let samples = |text: &str| {
            // The one writes `le="30.0"`, the other `le="30"`; the times are those of the test.
            let differ =
                |line: &&str| ["#", "timestamp_seconds", "_bucket"].iter().any(|word| line.contains(word));
            let lines = text.lines().filter(|line| !differ(line));
            let mut lines: Vec<_> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let open = metrics.openmetrics();
        assert!(open.ends_with("# EOF\n"), "{open}");
        assert_eq!(samples(&open), samples(&metrics.prometheus()));
    }

    #[test]
    fn downloads_and_the_balance_are_told_once_there_are_any() {
        let mut metrics = Metrics::new(LIMITS, Clock::virtual_from(Stamp::BIRTH));
        let text = metrics.prometheus();
        for word in ["balance", "download", "callback"] {
            assert!(!text.contains(word), "{text}");
        }
        let downloads = Downloads { waiting: 3, active: 2, saved: 7, bytes: 700, ..Downloads::default() };
        let progress = Progress { downloads: Some(downloads), ..Progress::default() };
        let callbacks = Callbacks { ended: 5, refused: 9, uncalled: 2, ..Callbacks::default() };
        let progress = Progress { callbacks: Some(callbacks), ..progress };
        metrics.notice(&RunEvent::Balance(Usd::from_cents(1_250)), &progress);
        let text = metrics.prometheus();
        for line in [
            "batchveo_balance_usd 12.5",
            "batchveo_downloads{state=\"waiting\"} 3",
            "batchveo_videos_saved_total 7",
            "batchveo_download_bytes_total 700",
            "batchveo_downloads_paused 0",
            "batchveo_callbacks_total{result=\"ended\"} 5",
            "batchveo_callbacks_total{result=\"settled\"} 0",
            "batchveo_callbacks_total{result=\"refused\"} 9",
            "batchveo_ends_without_callback_total 2",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
    }

    #[tokio::test]
    async fn a_run_that_is_silent_is_stuck_until_it_speaks_or_is_over() {
        let clock = Clock::virtual_from(Stamp::BIRTH);
        let mut metrics = Metrics::new(LIMITS, clock.clone());
        let progress = Progress::default();
        clock.advance(Some(Stamp::from_millis(90_000))).await;
        assert_eq!(metrics.health(), Health::Well, "not begun");
        metrics.notice(&RunEvent::Started { restored: 0 }, &progress);
        clock.advance(Some(Stamp::from_millis(120_000))).await;
        assert_eq!(metrics.health(), Health::Well);
        clock.advance(Some(Stamp::from_millis(121_000))).await;
        assert_eq!(metrics.health(), Health::Stuck(Duration::from_secs(31)));
        metrics.notice(&RunEvent::Heartbeat, &progress);
        assert_eq!(metrics.health(), Health::Well);
        metrics.notice(&RunEvent::Finished, &progress);
        clock.advance(Some(Stamp::from_millis(999_000))).await;
        assert_eq!(metrics.health(), Health::Well, "over");
    }
}
