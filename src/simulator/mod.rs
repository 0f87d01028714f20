//! A deterministic model of the API with a strict judge: rehearsals, tests and benches cost nothing.
//!
//! Owns what the vendor's pages say the service does and what this crate must never do to it. Two
//! adapters reach the one [`Model`]: [`Simulator`] is a [`crate::api::VideoApi`] in memory (through
//! the real encoder and decoders), and [`serve`] answers HTTP. It must not share rules with the
//! client, or it would forgive the client's mistakes. Submissions that ask for a callback are told of
//! their task's end: over HTTP, or in memory to whoever takes [`Simulator::callbacks`]. The videos that
//! tasks make can be fetched from a server, and checked with [`read_video`]; in memory there are links
//! to nowhere.
//!
//! A prompt may ask for trouble: `[[fail:CODE]]` fails every task of that request,
//! `[[fail-once:CODE]]` only the first, `[[refuse:CODE]]` is answered 400. The codes are
//! [`FailCode::ALL`]. A [`Scenario`] makes trouble for all of them.

mod callbacks;
mod calling;
mod connection;
mod courier;
mod envelope;
mod fate;
mod fault;
mod http;
mod images;
mod judge;
mod ledger;
mod memory;
mod model;
mod named;
mod refused;
mod request;
mod scenario;
mod scenario_file;
mod scenario_values;
mod shelf;
mod showing;
mod task;
mod verdict;
mod video_faults;
mod videos;
mod window;

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use images::Eyes;
use secrecy::SecretString;
use tokio::sync::Notify;

pub use callbacks::{CALLBACK_PATIENCE, Callback, CallbackAnswer, CallbackCounts, NextCallback};
pub use fate::{FailCode, LogNormal};
pub use http::serve;
pub use judge::{Counts, Injected};
pub use ledger::{Expectations, Ledger, LedgerError};
pub use model::{Answer, Caller, Delivery, Model};
pub use request::{LONGEST_BODY, RequestHash, request_hash};
pub use scenario::{Named, Scenario, ScenarioError};
pub use shelf::VideoCounts;
pub use verdict::{AskedBasis, Verdict};
pub use videos::{VideoId, read_video, video_bytes};

use crate::clock::Clock;
use crate::generation::{Mode, PriceList};
use crate::hosts::{Client, Hosts};
use crate::job::{Limits, Stamp, UnixMillis, Usd};
use crate::veo::Timeouts;

/// How the simulated service is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What every random choice hangs on.
    pub seed: u64,
    /// What the judge allows.
    pub limits: Limits,
    /// The only key let in over HTTP; any but an empty one if `None`.
    pub key: Option<SecretString>,
    /// What the account holds before its first purchase.
    pub balance: Usd,
    /// What a purchase costs; taken at acceptance and never given back, since no page says otherwise.
    pub prices: PriceList,
    /// The share of tasks that fail, 0 to 1, of transient and content codes.
    pub fail_rate: f64,
    /// How long tasks take in quality mode.
    pub quality_duration: LogNormal,
    /// How long tasks take in fast mode.
    pub fast_duration: LogNormal,
    /// How long an answer takes.
    pub latency: RangeInclusive<Duration>,
    /// How long it takes from the end of a task until its callback arrives.
    pub callback_latency: RangeInclusive<Duration>,
    /// How long the videos are that a server shows, in bytes.
    pub video_bytes: RangeInclusive<u64>,
    /// What goes wrong. Its windows are of the clock that the simulator is given.
    pub scenario: Scenario,
    /// Whether refusals repeat the `Authorization` header, as badly made services do.
    pub echo_headers: bool,
}

impl Default for Settings {
    /// The vendor's limits, prices and average time, and $10,000.
    fn default() -> Self {
        Self {
            seed: 0,
            limits: Limits::DOCUMENTED,
            key: None,
            balance: Usd::from_cents(1_000_000),
            prices: PriceList::VENDOR,
            fail_rate: 0.0,
            quality_duration: LogNormal::VEO,
            fast_duration: LogNormal::VEO,
            latency: Duration::from_millis(50)..=Duration::from_millis(250),
            callback_latency: Duration::from_millis(50)..=Duration::from_millis(250),
            video_bytes: 200_000..=2_000_000,
            scenario: Scenario::default(),
            echo_headers: false,
        }
    }
}

impl Settings {
    const fn durations(&self, mode: Mode) -> LogNormal {
        match mode {
            Mode::Quality => self.quality_duration,
            Mode::Fast => self.fast_duration,
        }
    }
}

/// A simulated service: a [`Model`] with a clock. Clones are the same service.
#[derive(Debug, Clone)]
pub struct Simulator {
    model: Arc<Mutex<Model>>,
    clock: Clock,
    /// Of a caller in memory, on the simulation's clock. A client over HTTP has its own.
    timeouts: Timeouts,
    /// What a server looks at images with, if it does.
    eyes: Option<Arc<Eyes>>,
    /// Whom a server calls back.
    called: Hosts,
    /// Told when the next callback is due at another time than before.
    news: Arc<Notify>,
}

impl Simulator {
    /// A service with the books of `ledger`, whose stamps count from `birth`.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn new(
        settings: Settings,
        ledger: Ledger,
        clock: Clock,
        birth: UnixMillis,
    ) -> Result<Self, LedgerError> {
        let model = Model::new(settings, birth, ledger, clock.now())?;
        Ok(Self {
            model: Arc::new(Mutex::new(model)),
            clock,
            timeouts: Timeouts::default(),
            eyes: None,
            called: Hosts::of_this_machine(),
            news: Arc::new(Notify::new()),
        })
    }

    /// The same service, which as a server fetches the images of submissions with `client` and fails the
    /// tasks whose images the API would not take. A submission's answer waits for the looks; each
    /// address is looked at once.
    #[must_use]
    pub fn fetching_images(self, client: Client) -> Self {
        Self { eyes: Some(Arc::new(Eyes::new(client))), ..self }
    }

    /// The same service, which as a server calls back all of these hosts, and not this machine alone.
    #[must_use]
    pub fn calling(self, called: Hosts) -> Self {
        Self { called, ..self }
    }

    /// Replaces what is asked for; see [`Ledger::expect`].
    ///
    /// # Errors
    ///
    /// `fill`'s own, or the ledger cannot be written.
    pub fn expect<E: From<LedgerError>>(
        &self,
        fill: impl FnOnce(&mut Expectations<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.lock().ledger_mut().expect(fill)
    }

    /// What the judge has to say so far. Reads the whole ledger once: about a second for a million
    /// acceptances, in which nothing else is answered.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn verdict(&self) -> Result<Verdict, LedgerError> {
        self.lock().verdict()
    }

    /// Puts money into the account. Answers what it holds then.
    #[must_use]
    pub fn top_up(&self, more: Usd) -> Usd {
        self.lock().top_up(more)
    }

    /// A panic in one request leaves no half-made change behind that matters to the next.
    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the model, with the time read inside the lock so that it never runs backwards. The answer
    /// is due when it says, counted from the stamp.
    fn ask<T>(&self, request: impl FnOnce(&mut Model, Stamp) -> T) -> (T, Stamp) {
        let mut model = self.lock();
        let now = self.clock.now();
        let due = model.next_callback_at();
        let answer = request(&mut model, now);
        if model.next_callback_at() != due {
            self.news.notify_one();
        }
        (answer, now)
    }
}
