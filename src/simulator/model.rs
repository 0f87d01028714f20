//! The API, as a value: requests go in with the time, answers come out with how long they take.
//!
//! Knows no socket, no runtime and no clock, so that the same model answers in memory and over
//! HTTP. Each request goes through the same doors in this order: the rate, the key, the rules, the
//! money, the slots; only then is it written down and accepted. A fault of the scenario stands before
//! the first door (no connection), behind the rate (nothing is carried out), or behind the last (what
//! was carried out is not told): a request that is over a limit is refused whatever else goes wrong.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::Settings;
use super::callbacks::{Callback, CallbackAnswer, Callbacks, NextCallback};
use super::envelope::{Accepted, state_at, success, too_late};
use super::fate::{self, FailCode, Fate, Marker, mix};
use super::fault::{Deed, NoMoney, Wrong};
use super::judge::{Breach, Endpoint, Judge};
use super::ledger::{Acceptance, Ledger, LedgerError};
use super::refused::Refused;
use super::request::{self, RequestHash, Submission};
use super::scenario::Quirks;
use super::shelf::{Asked, Shelf, Showing};
use super::task::Task;
use super::verdict::{self, AskedBasis, Verdict};
use crate::job::{Stamp, UnixMillis, Usd};
use crate::veo::Reply;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// This very process, which needs no key.
    InProcess,
    /// Somebody with this `Authorization` header, or without one.
    Http(Option<&'a str>),
}

/// An answer, and how long the service takes to give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What is answered.
    pub delivery: Delivery,
    /// From the arrival of the request to the answer, on the simulation's clock.
    pub latency: Duration,
}

/// How an answer reaches whoever asked, if it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Whole.
    Whole(Reply),
    /// The connection breaks in the middle of the body, which is here as it was meant.
    Half(Reply),
    /// The connection breaks before an answer begins.
    Dropped,
    /// There was no connection: the request never arrived.
    Unconnected,
}

impl Answer {
    /// The answer, if it comes whole.
    #[must_use]
    pub const fn reply(&self) -> Option<&Reply> {
        match &self.delivery {
            Delivery::Whole(reply) => Some(reply),
            Delivery::Half(_) | Delivery::Dropped | Delivery::Unconnected => None,
        }
    }
}

/// A simulated account at the API.
#[derive(Debug)]
pub struct Model {
    settings: Settings,
    birth: UnixMillis,
    judge: Judge,
    ledger: Ledger,
    shelf: Shelf,
    callbacks: Callbacks,
    /// The latest time seen.
    now: Stamp,
}

/// A served request: the body, and what its latency is drawn from.
struct Served {
    body: Vec<u8>,
    request: RequestHash,
    salt: u64,
    /// What it takes beyond its latency.
    held_back: Duration,
}

impl Served {
    const fn at_once(body: Vec<u8>, request: RequestHash, salt: u64) -> Self {
        Self { body, request, salt, held_back: Duration::ZERO }
    }
}

/// How much later a submission is answered whose callback is to come first: more than callbacks take.
const HELD_BACK: Duration = Duration::from_secs(1);

impl Model {
    /// An account with the books of `ledger`, in which `now` is that long after `birth`.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn new(
        settings: Settings,
        birth: UnixMillis,
        ledger: Ledger,
        now: Stamp,
    ) -> Result<Self, LedgerError> {
        let mut judge = Judge::new(settings.limits);
        ledger.for_alive(now, |ends_ms| judge.live(ends_ms))?;
        let (shelf, callbacks) = (Shelf::default(), Callbacks::default());
        Ok(Self { settings, birth, judge, ledger, shelf, callbacks, now })
    }

    /// `POST /generateTask/veo-3-1`.
    pub fn generate(&mut self, caller: Caller<'_>, body: &[u8], now: Stamp) -> Answer {
        self.generate_of_images(caller, body, None, now)
    }

    /// The same with what was found out about its images: what its task fails with, if it does.
    pub(super) fn generate_of_images(
        &mut self,
        caller: Caller<'_>,
        body: &[u8],
        flaw: Option<FailCode>,
        now: Stamp,
    ) -> Answer {
        let submission = request::read(body).map_err(Refused::Invalid).map(|mut submission| {
            submission.request.marker = submission.request.marker.or(flaw.map(Marker::Fail));
            submission
        });
        let about = submission.as_ref().map_or(RequestHash(0), |submission| submission.request.hash);
        self.serve(Endpoint::Generate, caller, about, now, |model| model.accept(&submission?))
    }

    /// `GET /statusTask/veo-3-1`; `task_id` is `None` when the query has none.
    pub fn status(&mut self, caller: Caller<'_>, task_id: Option<&str>, now: Stamp) -> Answer {
        let task = task_id.and_then(|id| Task::decode(self.settings.seed, id));
        let about = task.map_or(0, |task| mix(&[task.request.0, u64::from(task.nth)]));
        self.serve(Endpoint::Status, caller, RequestHash(about), now, |model| model.look(task_id, task))
    }

    /// `GET /apikeys/current-balance`: dollars, to the hundredth of a cent.
    pub fn balance(&mut self, caller: Caller<'_>, now: Stamp) -> Answer {
        self.serve(Endpoint::Balance, caller, RequestHash(0), now, |model| {
            let left = Usd::from_micros(model.balance_left().micros() / 100 * 100).dollars();
            Ok(Served::at_once(success(left), RequestHash(0), model.now.as_nanos()))
        })
    }

    /// Anything the API does not have.
    pub fn unknown_endpoint(&mut self, caller: Caller<'_>, now: Stamp) -> Answer {
        self.serve(Endpoint::Unknown, caller, RequestHash(0), now, |_| Err(Refused::UnknownEndpoint))
    }

    /// From here on callbacks of what is accepted are kept until they are due; without this, nobody is
    /// called back.
    pub const fn take_callbacks(&mut self) {
        self.callbacks.take_from_now();
    }

    /// Who is to be told of a task's end at `now`, and of what.
    pub fn next_callback(&mut self, now: Stamp) -> NextCallback {
        self.now = self.now.max(now);
        let Some(notice) = self.callbacks.next(&self.settings, self.now) else {
            return self.callbacks.next_at().map_or(NextCallback::Nothing, NextCallback::At);
        };
        let (_, body) = self.state_of(&notice.task, &notice.task.encode(self.settings.seed));
        NextCallback::Send(Callback { notice, body })
    }

    /// When the next callback is due, if one is.
    pub(super) fn next_callback_at(&self) -> Option<Stamp> {
        self.callbacks.next_at()
    }

    /// Takes note of what came of a callback at `now`; if it was not acknowledged, another comes later.
    pub fn called_back(&mut self, callback: Callback, answer: CallbackAnswer, now: Stamp) {
        self.now = self.now.max(now);
        self.callbacks.answered(callback.notice, answer, self.now);
    }

    /// A request for a video, which is none to the API and counts as none.
    pub(super) fn show(&mut self, asked: &Asked<'_>, now: Stamp) -> Showing {
        self.now = self.now.max(now);
        self.shelf.show(&self.settings, asked, self.birth.at(self.now))
    }

    /// The videos.
    pub(super) const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub(super) const fn shelf_mut(&mut self) -> &mut Shelf {
        &mut self.shelf
    }

    /// Whether the connection breaks on which a request for `endpoint` is about to be read. Only for a
    /// server, which asks this before it reads; [`Model::generate`] and its like then leave it out.
    pub(super) fn hangs_up(&mut self, endpoint: Endpoint, now: Stamp) -> bool {
        self.now = self.now.max(now);
        match self.settings.scenario.at_the_door(self.settings.seed, endpoint, self.now) {
            None => return false,
            Some(Deed::NoConnection { .. }) => self.judge.counts.injected.unconnected += 1,
            Some(
                Deed::Answer(_) | Deed::Cut { .. } | Deed::DropBefore | Deed::DropAfter | Deed::Slow { .. },
            ) => {
                // It was sent all the same, and whether it is within the limit is asked of the window.
                let _ = self.judge.arrive(endpoint, self.now);
                self.judge.counts.injected.dropped += 1;
            }
        }
        true
    }

    /// Puts money into the account. Answers what it holds then.
    pub fn top_up(&mut self, more: Usd) -> Usd {
        self.settings.balance = self.settings.balance + more;
        self.balance_left()
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The books.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The books, to write down what is asked for.
    pub const fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// What the judge has to say so far. Reads the whole ledger once.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn verdict(&self) -> Result<Verdict, LedgerError> {
        let totals = self.ledger.totals();
        let counts = self.judge.counts;
        let bought_twice = self.ledger.bought_twice()?;
        let (fullest_window, most_alive) = (self.judge.fullest_window as u64, self.judge.most_alive as u64);
        let window_limit = u64::from(self.settings.limits.requests_per_minute.get());
        let alive_limit = u64::from(self.settings.limits.concurrent_tasks.get());
        Ok(Verdict {
            requests: counts.requests(),
            counts,
            fullest_window,
            window_limit,
            most_alive,
            alive_limit,
            accepted: totals.accepted,
            failed: totals.failed,
            delivered: totals.accepted - totals.failed,
            bought_twice,
            asked_basis: if self.ledger.expecting() {
                AskedBasis::Samples
            } else {
                AskedBasis::EachRequestOnce
            },
            spent: totals.spent,
            balance_left: self.balance_left(),
            requests_per_task: verdict::per_task(counts.requests(), totals.accepted),
            videos: self.shelf.counts(),
            callbacks: self.callbacks.counts(),
            held: fullest_window <= window_limit
                && most_alive <= alive_limit
                && counts.throttled_429 == 0
                && bought_twice == 0,
        })
    }

    fn balance_left(&self) -> Usd {
        Usd::from_micros(self.settings.balance.micros().saturating_sub(self.ledger.totals().spent.micros()))
    }

    /// Lets a request through the doors, or the scenario have it. `about` is what the request is about,
    /// for the scenario's draws. Time never runs backwards here, whatever order callers come in.
    fn serve(
        &mut self,
        endpoint: Endpoint,
        caller: Caller<'_>,
        about: RequestHash,
        now: Stamp,
        carry_out: impl FnOnce(&mut Self) -> Result<Served, Refused>,
    ) -> Answer {
        self.now = self.now.max(now);
        let (seed, now) = (self.settings.seed, self.now);
        let door = matches!(caller, Caller::Http(_));
        let strike = self.settings.scenario.strike(seed, endpoint, about, now, door);
        let strike = strike.map(|strike| (strike.deed.clone(), strike.accepts(seed, about, now)));
        if let Some((Deed::NoConnection { after }, _)) = strike {
            self.judge.counts.injected.unconnected += 1;
            return Answer { delivery: Delivery::Unconnected, latency: after };
        }
        if let Err(refused) = self.admit(endpoint) {
            return self.answer(caller, Err(refused));
        }
        let Some((deed, accepts)) = strike else {
            let served = self.check_key(caller).and_then(|()| carry_out(self));
            return self.answer(caller, served);
        };
        let served = match endpoint {
            Endpoint::Generate if accepts => match self.check_key(caller).and_then(|()| carry_out(self)) {
                Ok(served) => Some(served),
                Err(refused) => return self.answer(caller, Err(refused)),
            },
            Endpoint::Generate => None,
            Endpoint::Status | Endpoint::Balance | Endpoint::Unknown => carry_out(self).ok(),
        };
        self.spoil(deed, served, about)
    }

    /// The rate: the documented one, and what the scenario leaves of it.
    fn admit(&mut self, endpoint: Endpoint) -> Result<(), Refused> {
        self.judge.arrive(endpoint, self.now).map_err(Refused::Breach)?;
        self.check_hidden(Breach::Rate)
    }

    fn check_hidden(&self, breach: Breach) -> Result<(), Refused> {
        let hidden = self.settings.scenario.limits(self.settings.limits, self.now);
        let over = hidden != self.settings.limits && self.judge.is_over(hidden, breach);
        if over { Err(Refused::Hidden(breach)) } else { Ok(()) }
    }

    fn check_key(&self, caller: Caller<'_>) -> Result<(), Refused> {
        if knows_key(caller, self.settings.key.as_ref()) { Ok(()) } else { Err(Refused::Unauthorized) }
    }

    /// The rules, the money and the slots; then the purchase.
    fn accept(&mut self, submission: &Submission) -> Result<Served, Refused> {
        let Submission { request, callback_url } = submission;
        let request = *request;
        if let Some(Marker::Refuse(code)) = request.marker {
            return Err(Refused::Invalid(code.as_str().to_owned()));
        }
        let mut cost = self.settings.prices.of(request.mode);
        let broke = self.balance_left() < cost;
        if broke {
            match self.settings.scenario.no_money() {
                NoMoney::BadRequest => return Err(Refused::NoMoney),
                NoMoney::PaymentRequired => return Err(Refused::NoMoney402),
                NoMoney::FailCode => cost = Usd::ZERO,
            }
        }
        self.judge.room(self.now).map_err(Refused::Breach)?;
        self.check_hidden(Breach::Alive)?;
        let nth = self.ledger.accepted(request.hash).map_err(Refused::Ledger)?;
        let (mut fate, doom) = Fate::of(&self.settings, request, nth, self.now);
        if broke {
            fate.failure = Some(FailCode::NO_MONEY);
        }
        let telling = callback_url.as_ref().map(|url| {
            let Settings { seed, scenario, .. } = &self.settings;
            (url, scenario.telling(*seed, request.hash, nth, self.now))
        });
        let early = telling.is_some_and(|(_, telling)| telling.early);
        if early {
            fate = fate.at_once();
        }
        let slot_ms = doom.holds_ms.unwrap_or_else(|| u64::from(fate.duration_ms));
        let ends_ms = self.now.as_millis().saturating_add(slot_ms);
        let acceptance = Acceptance {
            request: request.hash,
            nth,
            accepted: self.now,
            ends_ms,
            failed: fate.failure.is_some(),
            cost,
        };
        self.ledger.record(&acceptance).map_err(Refused::Ledger)?;
        self.judge.live(ends_ms);
        self.judge.counts.injected.tasks += u64::from(doom.struck || broke);
        let task = Task { created: self.birth.at(self.now), fate, request: request.hash, nth };
        let task_id = task.encode(self.settings.seed);
        if let Some((url, telling)) = telling
            && task.ends().is_some()
        {
            let ends = self.now + Duration::from_millis(u64::from(fate.duration_ms));
            self.callbacks.expect(&self.settings, (url, task), ends, telling);
        }
        let body = success(Accepted { task_id: &task_id });
        let held_back = if early { HELD_BACK } else { Duration::ZERO };
        Ok(Served { body, request: request.hash, salt: u64::from(nth), held_back })
    }

    fn look(&self, task_id: Option<&str>, task: Option<Task>) -> Result<Served, Refused> {
        let task_id = task_id.ok_or_else(|| Refused::Invalid("Missing required field: taskId".into()))?;
        let task = task.ok_or(Refused::UnknownTask)?;
        let (quirks, body) = self.state_of(&task, task_id);
        if quirks.unknown {
            return Err(Refused::Forgotten);
        }
        Ok(Served::at_once(body, task.request, self.now.as_nanos()))
    }

    /// What is wrong with a task now, and what there is to tell of it.
    fn state_of(&self, task: &Task, task_id: &str) -> (Quirks<'_>, Vec<u8>) {
        let age = task.created.0.saturating_sub(self.birth.0);
        let created = Stamp::from_millis(u64::try_from(age).unwrap_or(0));
        let Settings { seed, scenario, .. } = &self.settings;
        let quirks = scenario.quirks(*seed, task.request, task.nth, created, self.now);
        let now = self.birth.at(self.now);
        let links = || self.shelf.links(&self.settings, task, task_id, now);
        (quirks, success(state_at(task, task_id, now, quirks, links)))
    }

    fn answer(&mut self, caller: Caller<'_>, served: Result<Served, Refused>) -> Answer {
        let (status, Served { body, request, salt, held_back }) = match served {
            Ok(served) => (200, served),
            Err(refused) => {
                if let Refused::Ledger(error) = &refused {
                    tracing::error!(%error, "the simulator cannot keep its ledger");
                }
                self.count(&refused);
                let (status, message, data) = refused.envelope();
                let mut envelope = json!({ "code": status, "message": message });
                if let Some(data) = data {
                    envelope["data"] = data;
                }
                if let (true, Caller::Http(Some(header))) = (self.settings.echo_headers, caller) {
                    envelope["message"] = format!("{message} (Authorization: {header})").into();
                }
                let body = envelope.to_string().into_bytes();
                (status, Served::at_once(body, RequestHash(0), self.now.as_nanos()))
            }
        };
        let latency = fate::latency(&self.settings, request, salt) + held_back;
        Answer { delivery: Delivery::Whole(Reply { status, retry_after: None, body }), latency }
    }

    /// Tells the judge of a refusal: as the client's fault, or as the scenario's.
    fn count(&mut self, refused: &Refused) {
        match refused {
            Refused::Hidden(_) => self.judge.counts.injected.throttled_429 += 1,
            Refused::Forgotten => self.judge.counts.injected.not_found_404 += 1,
            Refused::Breach(_)
            | Refused::Unauthorized
            | Refused::Invalid(_)
            | Refused::NoMoney
            | Refused::NoMoney402
            | Refused::UnknownTask
            | Refused::UnknownEndpoint
            | Refused::Ledger(_) => self.judge.answered(refused.envelope().0),
        }
    }

    /// What a fault makes of the answer to a request that was carried out, or was not.
    fn spoil(&mut self, deed: Deed, served: Option<Served>, about: RequestHash) -> Answer {
        let mut latency = fate::latency(&self.settings, about, self.now.as_nanos());
        let injected = &mut self.judge.counts.injected;
        let well = |body| Reply { status: 200, retry_after: None, body };
        let delivery = match deed {
            Deed::Answer(wrong) => {
                wrong.count_in(injected);
                let body = wrong.body(served.as_ref().map(|served| served.body.as_slice()));
                let Wrong { status, retry_after, .. } = wrong;
                Delivery::Whole(Reply { status, retry_after, body })
            }
            Deed::Cut { .. } => {
                injected.damaged += 1;
                Delivery::Half(well(served.map_or_else(|| success(Value::Null), |served| served.body)))
            }
            Deed::DropBefore | Deed::DropAfter => {
                injected.dropped += 1;
                Delivery::Dropped
            }
            Deed::Slow { by, .. } => {
                injected.slow += 1;
                latency += by;
                Delivery::Whole(served.map_or_else(too_late, |served| well(served.body)))
            }
            Deed::NoConnection { .. } => Delivery::Unconnected,
        };
        Answer { delivery, latency }
    }
}

fn knows_key(caller: Caller<'_>, key: Option<&SecretString>) -> bool {
    match caller {
        Caller::InProcess => true,
        Caller::Http(None) => false,
        Caller::Http(Some(header)) => header
            .strip_prefix("Bearer ")
            .map(str::trim)
            .is_some_and(|token| key.map_or_else(|| !token.is_empty(), |key| key.expose_secret() == token)),
    }
}
