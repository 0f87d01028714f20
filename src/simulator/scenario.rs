//! Scenarios: named lists of faults, and which request, task or account each of them strikes.
//!
//! A scenario is a TOML text: built in under a name, or in a file. Several add up; of the faults that
//! would strike one request, the first does. Every choice is a hash of (seed, place of the fault in
//! the list, what is struck, when), never a draw from a generator that moves on: the same seed tells
//! the same story, whatever else is asked in between.

use std::ops::RangeInclusive;
use std::path::Path;

use super::fate::{FailCode, mix, unit};
use super::fault::{
    AccountFault, Deed, Endpoints, NoMoney, RequestFault, TaskFault, Telling, Twist, Wrong, lowered,
};
use super::judge::Endpoint;
use super::named::NAMED;
use super::request::RequestHash;
use super::scenario_file;
use super::video_faults::VideoFaults;
use crate::job::{Limits, Stamp, Usd};

pub use super::scenario_file::ScenarioError;

/// Faults that strike together. The default has none.
///
/// As text, a scenario is `about = "a line"` and any number of `[[fault]]`, each with `what` and the
/// fields that go with it:
///
/// | `what` | fields of its own | what happens |
/// |---|---|---|
/// | `answer` | `status`, `code`, `message`, `body`, `retry_after`, `accepted` | a request is answered this; `body` is `json`, `no_data`, `html`, `truncated` or `empty` |
/// | `cut` | `accepted` | the connection breaks in the middle of the answer |
/// | `drop` | `when` | the connection breaks `before` the request is read, or `after` it is carried out |
/// | `slow` | `by`, `accepted` | the answer comes so much later |
/// | `no_connection` | `by` | no connection is made, which takes so long to be told |
/// | `unknown` | `first` | a task is 404, for its first so long or for good |
/// | `state` | `state` | a task that is alive is in this state |
/// | `fail` | `codes` | a task fails with one of these, or of `all` |
/// | `never_ends` | `holds` | a task is made for ever, and keeps its slot so long (30 minutes) |
/// | `no_url`, `result_object` | | a task succeeds without a URL, or with `resultJson` as an object |
/// | `callback` | `lost`, `twice`, `late`, `early` | a task's callback is never sent, sent twice, sent so much later, or sent before its submission is answered, for which the task ends at once |
/// | `limits` | `requests`, `tasks` | less is allowed: a number, or a share such as `"50%"` |
/// | `money` | `balance`, `told` | the account holds so many dollars, and being empty is told as `400`, `402` or `fail_code` |
///
/// The first five strike requests: `where` is `submit`, `status`, `balance`, `any` (which it is
/// without), or a list of these. `accepted` is the share of struck submissions that are accepted all
/// the same: half, but none where the number is a refusal by the vendor's pages (429, 503, 4xx but
/// 408). Requests and tasks are struck by `share` (0 to 1, all without it). All but `money` have a
/// window, of the simulation's clock: `from`, `until`, and `every` with `for` to come again. Of tasks
/// and their callbacks it says when they were accepted. A callback that is lost is, whatever else
/// strikes it.
///
/// A table `[videos]` says how the videos are that a server shows. In memory there are none.
///
/// | field | |
/// |---|---|
/// | `bytes` | how long they are, such as `"200000..2000000"` |
/// | `links` | how many a task is given (1) |
/// | `cut` | share of bodies in which the connection breaks, anywhere |
/// | `wrong_length` | share of bodies that are announced longer than they are |
/// | `stall` | share of bodies of which no more comes, anywhere, while the connection stays |
/// | `not_video` | share of answers that are a page and say 200 |
/// | `no_range` | `true`: every answer is the whole |
/// | `rate`, `rate_in_all` | bytes a second, of the simulation's clock, of a connection and of all together |
/// | `expire` | how long a link lives, such as `"30m"`; then it is 403 or 404, and a look at the task gives another |
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scenario {
    pub(super) about: String,
    pub(super) requests: Vec<RequestFault>,
    pub(super) tasks: Vec<TaskFault>,
    pub(super) account: Vec<AccountFault>,
    pub(super) videos: VideoFaults,
}

/// A built-in scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// What it goes by.
    pub name: &'static str,
    /// The TOML text: an example to start a file of one's own from.
    pub text: &'static str,
}

/// What a draw is for: keeps draws about one request independent of each other.
#[derive(Debug, Clone, Copy)]
enum Draw {
    /// Apart from the draws of `fate`, which begin at 1.
    Strikes = 0x5ce0,
    StrikesAtTheDoor,
    Accepted,
    Twisted,
    Code,
}

/// A fault that strikes a request, with its place in the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strike<'a> {
    place: u64,
    pub(super) deed: &'a Deed,
}

/// Everything that is wrong with one task when it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Quirks<'a> {
    /// It is not known.
    pub(super) unknown: bool,
    /// Its state while it is alive.
    pub(super) state: Option<&'a str>,
    pub(super) no_url: bool,
    pub(super) result_object: bool,
}

/// What is wrong with a task from the moment it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Doom {
    /// Whether anything at all is, or will be, wrong with it; its callback aside.
    pub(super) struck: bool,
    pub(super) failure: Option<FailCode>,
    /// It never ends, and keeps its slot for so many milliseconds.
    pub(super) holds_ms: Option<u64>,
}

impl Scenario {
    /// The built-in scenarios, in the order in which they are listed.
    pub const NAMED: &'static [Named] = NAMED;

    /// The scenario that `word` names: a built-in one, or else a file.
    ///
    /// # Errors
    ///
    /// There is neither, or the file cannot be read or is no scenario.
    pub fn load(word: &str) -> Result<Self, ScenarioError> {
        if let Some(named) = NAMED.iter().find(|named| named.name == word) {
            return Self::parse(word, named.text);
        }
        match std::fs::read_to_string(word) {
            Ok(text) => Self::parse(&Path::new(word).display().to_string(), &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(ScenarioError::Unknown(word.to_owned()))
            }
            Err(error) => Err(ScenarioError::Unreadable { path: word.to_owned(), error }),
        }
    }

    /// The scenario in the TOML `text`; `origin` is what errors call it.
    ///
    /// # Errors
    ///
    /// The text is not TOML, or says what no scenario can.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ScenarioError> {
        scenario_file::read(origin, text)
    }

    /// The faults of both, those of `self` first.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        if self.about.is_empty() {
            self.about = more.about;
        } else if !more.about.is_empty() {
            self.about = format!("{}; {}", self.about, more.about);
        }
        self.requests.extend(more.requests);
        self.tasks.extend(more.tasks);
        self.account.extend(more.account);
        self.videos = self.videos.and(more.videos);
        self
    }

    /// What happens, in a line.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// What the scenario wants the account to hold, if it says so; the smallest, if several do.
    /// Whoever makes the [`super::Settings`] decides whether it does.
    #[must_use]
    pub fn balance(&self) -> Option<Usd> {
        let balance = |fault: &AccountFault| match fault {
            AccountFault::Money { balance, .. } => *balance,
            AccountFault::Limits { .. } => None,
        };
        self.account.iter().filter_map(balance).min()
    }

    /// How long the scenario wants videos to be, in bytes, if it says so. Whoever makes the
    /// [`super::Settings`] decides whether they are.
    #[must_use]
    pub fn video_bytes(&self) -> Option<RangeInclusive<u64>> {
        self.videos.bytes.clone()
    }

    /// What strikes a request that is about to be read from its connection, for a server that has
    /// a connection to break: nothing is known of it but when it comes.
    pub(super) fn at_the_door(&self, seed: u64, endpoint: Endpoint, now: Stamp) -> Option<&Deed> {
        self.requests.iter().zip(0..).find_map(|(fault, place)| {
            let draw = [seed, Draw::StrikesAtTheDoor as u64, place, endpoint as u64, now.as_nanos()];
            let struck = is_at_the_door(&fault.deed) && strikes(fault, endpoint, now, &draw);
            struck.then_some(&fault.deed)
        })
    }

    /// What strikes a request about `request`. `door` says that what strikes before it is read has
    /// had its chance.
    pub(super) fn strike(
        &self,
        seed: u64,
        endpoint: Endpoint,
        request: RequestHash,
        now: Stamp,
        door: bool,
    ) -> Option<Strike<'_>> {
        self.requests.iter().zip(0..).find_map(|(fault, place)| {
            let draw = [seed, Draw::Strikes as u64, place, endpoint as u64, request.0, now.as_nanos()];
            let struck = !(door && is_at_the_door(&fault.deed)) && strikes(fault, endpoint, now, &draw);
            struck.then_some(Strike { place, deed: &fault.deed })
        })
    }

    /// What is wrong from the beginning with the task that `nth` others of the same request came before.
    pub(super) fn doom(&self, seed: u64, request: RequestHash, nth: u32, created: Stamp) -> Doom {
        let mut doom = Doom::default();
        for (place, twist) in self.twists(seed, request, nth, created) {
            doom.struck |= !matches!(twist, Twist::Callback(_));
            match twist {
                Twist::Fail(codes) => {
                    let draw = mix(&[seed, Draw::Code as u64, place, request.0, u64::from(nth)]);
                    let code = usize::try_from(draw % codes.len().max(1) as u64).ok();
                    doom.failure = doom.failure.or_else(|| code.and_then(|code| codes.get(code)).copied());
                }
                Twist::NeverEnds { holds } => {
                    doom.holds_ms = doom.holds_ms.or_else(|| u64::try_from(holds.as_millis()).ok());
                }
                Twist::Unknown { .. }
                | Twist::State(_)
                | Twist::NoUrl
                | Twist::ResultObject
                | Twist::Callback(_) => {}
            }
        }
        doom
    }

    /// What is wrong with that task's callback.
    pub(super) fn telling(&self, seed: u64, request: RequestHash, nth: u32, created: Stamp) -> Telling {
        self.twists(seed, request, nth, created).fold(Telling::default(), |sum, (_, twist)| match twist {
            Twist::Callback(more) => Telling {
                lost: sum.lost || more.lost,
                twice: sum.twice || more.twice,
                late: sum.late.or(more.late),
                early: sum.early || more.early,
            },
            Twist::Unknown { .. }
            | Twist::State(_)
            | Twist::Fail(_)
            | Twist::NeverEnds { .. }
            | Twist::NoUrl
            | Twist::ResultObject => sum,
        })
    }

    /// What a look at that task at `now` finds wrong with it.
    pub(super) fn quirks(
        &self,
        seed: u64,
        request: RequestHash,
        nth: u32,
        created: Stamp,
        now: Stamp,
    ) -> Quirks<'_> {
        let mut quirks = Quirks::default();
        for (_, twist) in self.twists(seed, request, nth, created) {
            match twist {
                Twist::Unknown { first } => {
                    quirks.unknown |= first.is_none_or(|first| now < created + first);
                }
                Twist::State(word) => quirks.state = quirks.state.or(Some(word)),
                Twist::NoUrl => quirks.no_url = true,
                Twist::ResultObject => quirks.result_object = true,
                Twist::Fail(_) | Twist::NeverEnds { .. } | Twist::Callback(_) => {}
            }
        }
        quirks
    }

    fn twists(
        &self,
        seed: u64,
        request: RequestHash,
        nth: u32,
        created: Stamp,
    ) -> impl Iterator<Item = (u64, &Twist)> {
        self.tasks.iter().zip(0..).filter_map(move |(fault, place)| {
            let draw = mix(&[seed, Draw::Twisted as u64, place, request.0, u64::from(nth)]);
            let struck = fault.window.holds(created) && unit(draw) <= fault.share;
            struck.then_some((place, &fault.twist))
        })
    }

    /// What is left of `limits` at `now`.
    pub(super) fn limits(&self, limits: Limits, now: Stamp) -> Limits {
        self.account.iter().fold(limits, |left, fault| match fault {
            AccountFault::Limits { window, requests, tasks } if window.holds(now) => {
                let lowered = lowered(limits, *requests, *tasks);
                Limits {
                    requests_per_minute: left.requests_per_minute.min(lowered.requests_per_minute),
                    concurrent_tasks: left.concurrent_tasks.min(lowered.concurrent_tasks),
                }
            }
            AccountFault::Limits { .. } | AccountFault::Money { .. } => left,
        })
    }

    /// How want of money is told.
    pub(super) fn no_money(&self) -> NoMoney {
        let told = |fault: &AccountFault| match fault {
            AccountFault::Money { told, .. } => Some(*told),
            AccountFault::Limits { .. } => None,
        };
        self.account.iter().find_map(told).unwrap_or_default()
    }

    /// Whether nobody at all can connect at `now`.
    pub(super) fn is_closed(&self, now: Stamp) -> bool {
        self.closures().any(|fault| fault.window.holds(now))
    }

    /// The next moment after `now` at which [`Scenario::is_closed`] may answer otherwise.
    pub(super) fn next_closure_edge(&self, now: Stamp) -> Option<Stamp> {
        self.closures().filter_map(|fault| fault.window.next_edge(now)).min()
    }

    /// Outages that a server can show by closing its port.
    fn closures(&self) -> impl Iterator<Item = &RequestFault> {
        self.requests.iter().filter(|fault| {
            matches!(fault.deed, Deed::NoConnection { .. })
                && fault.endpoints == Endpoints::ALL
                && fault.share >= 1.0
        })
    }
}

impl Strike<'_> {
    /// Whether a submission that is struck so is accepted all the same.
    pub(super) fn accepts(&self, seed: u64, request: RequestHash, now: Stamp) -> bool {
        let share = match self.deed {
            Deed::Answer(Wrong { accepted, .. }) | Deed::Cut { accepted } | Deed::Slow { accepted, .. } => {
                *accepted
            }
            Deed::DropBefore | Deed::NoConnection { .. } => 0.0,
            Deed::DropAfter => 1.0,
        };
        unit(mix(&[seed, Draw::Accepted as u64, self.place, request.0, now.as_nanos()])) <= share
    }
}

fn is_at_the_door(deed: &Deed) -> bool {
    match deed {
        Deed::DropBefore | Deed::NoConnection { .. } => true,
        Deed::Answer(_) | Deed::Cut { .. } | Deed::DropAfter | Deed::Slow { .. } => false,
    }
}

fn strikes(fault: &RequestFault, endpoint: Endpoint, now: Stamp, draw: &[u64]) -> bool {
    fault.endpoints.hold(endpoint) && fault.window.holds(now) && unit(mix(draw)) <= fault.share
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 20,000 requests, one a millisecond, each fault of `text` strikes.
    fn struck(seed: u64, text: &str) -> Vec<usize> {
        let scenario = Scenario::parse("test", text).unwrap();
        let mut counts = vec![0; scenario.requests.len()];
        for n in 0..20_000 {
            let request = RequestHash(mix(&[n]));
            let now = Stamp::from_millis(n);
            let strike = scenario.strike(seed, Endpoint::Generate, request, now, false);
            if let Some(Strike { place, .. }) = strike {
                counts[usize::try_from(place).unwrap()] += 1;
            }
        }
        counts
    }

    #[test]
    fn shares_are_kept_whatever_the_seed() {
        let fault = |share: f64| format!("[[fault]]\nwhat='cut'\nshare={share}\n");
        let text = fault(0.05) + &fault(0.0) + &fault(0.2) + &fault(1.0);
        for seed in 0..10 {
            let counts = struck(seed, &text);
            // Five standard deviations each; a fault has what those before it leave.
            assert!(counts[0].abs_diff(1_000) < 155, "{seed}: {counts:?}");
            assert_eq!(counts[1], 0);
            assert!(counts[2].abs_diff(3_800) < 280, "{seed}: {counts:?}");
            assert_eq!(counts.iter().sum::<usize>(), 20_000);
        }
    }

    #[test]
    fn the_first_fault_that_strikes_does_and_a_door_is_passed_once() {
        let text = "[[fault]]\nwhat='drop'\nwhen='before'\n[[fault]]\nwhat='no_url'\n[[fault]]\nwhat='cut'\n";
        let scenario = Scenario::parse("test", text).unwrap();
        let strike = |door| {
            let strike = scenario.strike(0, Endpoint::Status, RequestHash(1), Stamp::BIRTH, door);
            strike.map(|strike| strike.deed.clone())
        };
        assert_eq!(strike(false), Some(Deed::DropBefore));
        assert_eq!(strike(true), Some(Deed::Cut { accepted: 0.5 }));
        assert_eq!(scenario.at_the_door(0, Endpoint::Status, Stamp::BIRTH), Some(&Deed::DropBefore));
        assert_eq!(scenario.at_the_door(0, Endpoint::Unknown, Stamp::BIRTH), None);
    }

    #[test]
    fn only_an_outage_of_everything_closes_the_port() {
        let closed = |fields: &str| {
            let scenario =
                Scenario::parse("test", &format!("[[fault]]\nwhat='no_connection'\n{fields}")).unwrap();
            let at = |seconds: u64| Stamp::from_millis(seconds * 1_000);
            let next = scenario.next_closure_edge(at(5)).map(|edge| edge.as_millis() / 1_000);
            ([5, 15, 25].map(|second| scenario.is_closed(at(second))), next)
        };
        assert_eq!(closed("from='10s'\nuntil='20s'"), ([false, true, false], Some(10)));
        assert_eq!(closed("where='submit'"), ([false; 3], None));
        assert_eq!(closed("share=0.5"), ([false; 3], None));
    }
}
