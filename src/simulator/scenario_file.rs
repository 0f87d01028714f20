//! Scenarios as text: TOML in, faults out, errors that name file, line, field and mend.
//!
//! Every field is checked here, and a field that does not belong is an error: a fault that does not
//! strike because of a slip would make a rehearsal say too much.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::fate::FailCode;
use super::fault::{
    AccountFault, Amount, Deed, Endpoints, NoMoney, RequestFault, Shape, TaskFault, Telling, Twist, Wrong,
};
use super::named::NAMED;
use super::scenario::Scenario;
use super::scenario_values::{Dollars, Part, Share, Span};
use super::video_faults::VideoFaults;
use super::window::{Beat, Window};
use crate::job::Stamp;

/// How long a task that never ends keeps its slot, unless the scenario says otherwise: the vendor's
/// code `PROCESSING_TIMEOUT` says that the service gives up some day, and no page says when.
const HOLDS: Duration = Duration::from_mins(30);

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The word names none.
    #[error("`{0}` is neither a file nor a scenario; the scenarios are {names}", names = names())]
    Unknown(String),
    /// The file cannot be read.
    #[error("scenario {path}: {error}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The text is no scenario.
    #[error("scenario {origin}, line {line}: {problem}")]
    Wrong {
        /// The file or the name.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

fn names() -> String {
    NAMED.iter().map(|named| named.name).collect::<Vec<_>>().join(", ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    about: String,
    #[serde(default)]
    fault: Vec<Spanned<Fields>>,
    #[serde(default)]
    videos: VideoFaults,
}

/// Every field a fault can have; which ones it may have hangs on `what`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    what: What,
    #[serde(rename = "where")]
    places: Option<Places>,
    share: Option<Share>,
    from: Option<Span>,
    until: Option<Span>,
    every: Option<Span>,
    #[serde(rename = "for")]
    lasts: Option<Span>,
    status: Option<u16>,
    code: Option<u16>,
    message: Option<String>,
    body: Option<Shape>,
    retry_after: Option<Span>,
    accepted: Option<Share>,
    when: Option<Moment>,
    by: Option<Span>,
    first: Option<Span>,
    state: Option<String>,
    codes: Option<Codes>,
    holds: Option<Span>,
    lost: Option<bool>,
    twice: Option<bool>,
    late: Option<Span>,
    early: Option<bool>,
    requests: Option<Part>,
    tasks: Option<Part>,
    balance: Option<Dollars>,
    told: Option<NoMoney>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Answer,
    Cut,
    Drop,
    Slow,
    NoConnection,
    Unknown,
    State,
    Fail,
    NeverEnds,
    NoUrl,
    ResultObject,
    Callback,
    Limits,
    Money,
}

impl What {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Cut => "cut",
            Self::Drop => "drop",
            Self::Slow => "slow",
            Self::NoConnection => "no_connection",
            Self::Unknown => "unknown",
            Self::State => "state",
            Self::Fail => "fail",
            Self::NeverEnds => "never_ends",
            Self::NoUrl => "no_url",
            Self::ResultObject => "result_object",
            Self::Callback => "callback",
            Self::Limits => "limits",
            Self::Money => "money",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Moment {
    Before,
    After,
}

/// Where a fault of requests strikes: one place or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`where` is submit, status, balance or any, or a list of these")]
enum Places {
    One(Place),
    Several(Vec<Place>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Submit,
    Status,
    Balance,
    Any,
}

/// All codes, or these.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`codes` is \"all\" or a list such as [\"GENERATION_FAILED\"]")]
enum Codes {
    Word(String),
    List(Vec<String>),
}

/// Reads a scenario.
///
/// # Errors
///
/// The first line that is wrong.
pub(super) fn read(origin: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let wrong = |at: usize, problem: String| ScenarioError::Wrong {
        origin: origin.to_owned(),
        line: text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1,
        problem,
    };
    let whole: Text = toml::from_str(text).map_err(|error: toml::de::Error| {
        wrong(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    let mut scenario = Scenario { about: whole.about, videos: whole.videos, ..Scenario::default() };
    for fault in whole.fault {
        let at = fault.span().start;
        fault.into_inner().put(&mut scenario).map_err(|problem| wrong(at, problem))?;
    }
    Ok(scenario)
}

impl Fields {
    /// Adds the fault to the scenario's.
    fn put(mut self, scenario: &mut Scenario) -> Result<(), String> {
        let what = self.what;
        let is_account = matches!(what, What::Limits | What::Money);
        // Money has no window: it runs out when it is spent.
        let window = if what == What::Money { Window::default() } else { self.window()? };
        let share = if is_account { 1.0 } else { self.share.take().map_or(1.0, |Share(share)| share) };
        if let Some(twist) = self.twist()? {
            self.left_over()?;
            scenario.tasks.push(TaskFault { share, window, twist });
        } else if let Some(fault) = self.account(window)? {
            self.left_over()?;
            scenario.account.push(fault);
        } else {
            let endpoints = self.endpoints();
            let deed = self.deed()?;
            self.left_over()?;
            scenario.requests.push(RequestFault { endpoints, share, window, deed });
        }
        Ok(())
    }

    fn window(&mut self) -> Result<Window, String> {
        let from = self.from.take().map_or(Stamp::BIRTH, |Span(from)| from.into());
        let until = self.until.take().map(|Span(until)| Stamp::from(until));
        if until.is_some_and(|until| until <= from) {
            return Err("`until` is not after `from`: both count from the simulation's beginning".into());
        }
        let beat = match (self.every.take(), self.lasts.take()) {
            (None, None) => None,
            (Some(Span(every)), Some(Span(lasts))) if !lasts.is_zero() && lasts < every => {
                Some(Beat { every, lasts })
            }
            (Some(_), Some(_)) => return Err("`for` must be more than nothing and less than `every`".into()),
            (Some(_), None) => return Err("`every` needs `for`: how long it lasts each time".into()),
            (None, Some(_)) => return Err("`for` needs `every`: how often it comes".into()),
        };
        Ok(Window { from, until, beat })
    }

    fn endpoints(&mut self) -> Endpoints {
        let places = match self.places.take() {
            None => return Endpoints::ALL,
            Some(Places::One(place)) => vec![place],
            Some(Places::Several(places)) => places,
        };
        places.into_iter().fold(Endpoints::default(), |mut endpoints, place| {
            match place {
                Place::Submit => endpoints.submit = true,
                Place::Status => endpoints.status = true,
                Place::Balance => endpoints.balance = true,
                Place::Any => endpoints = Endpoints::ALL,
            }
            endpoints
        })
    }

    fn accepted(&mut self, usual: f64) -> f64 {
        self.accepted.take().map_or(usual, |Share(share)| share)
    }

    fn deed(&mut self) -> Result<Deed, String> {
        Ok(match self.what {
            What::Answer => Deed::Answer(self.wrong()?),
            What::Cut => Deed::Cut { accepted: self.accepted(0.5) },
            What::Drop => match self.when.take() {
                Some(Moment::Before) => Deed::DropBefore,
                Some(Moment::After) => Deed::DropAfter,
                None => return Err("`when` is missing: \"before\" or \"after\" the request is read".into()),
            },
            What::Slow => {
                let Span(by) = self.by.take().ok_or("`by` is missing: how much later, such as \"90s\"")?;
                Deed::Slow { by, accepted: self.accepted(0.5) }
            }
            What::NoConnection => {
                Deed::NoConnection { after: self.by.take().map_or(Duration::ZERO, |Span(by)| by) }
            }
            What::Unknown
            | What::State
            | What::Fail
            | What::NeverEnds
            | What::NoUrl
            | What::ResultObject
            | What::Callback
            | What::Limits
            | What::Money => {
                return Err(format!("what = \"{}\" is no fault of a request", self.what.as_str()));
            }
        })
    }

    fn wrong(&mut self) -> Result<Wrong, String> {
        let status = self.status.take().ok_or("`status` is missing: the HTTP status of the answer")?;
        if !(200..=599).contains(&status) {
            return Err(format!("status = {status}: an HTTP status from 200 to 599 is wanted"));
        }
        let code = self.code.take().unwrap_or(status);
        let refused = Wrong::refuses(status) || Wrong::refuses(code);
        let message = self.message.take().unwrap_or_else(|| usual_message(code).to_owned());
        Ok(Wrong {
            status,
            code,
            message,
            shape: self.body.take().unwrap_or(Shape::Json),
            retry_after: self.retry_after.take().map(|Span(wait)| wait),
            accepted: self.accepted(if refused { 0.0 } else { 0.5 }),
        })
    }

    fn twist(&mut self) -> Result<Option<Twist>, String> {
        Ok(Some(match self.what {
            What::Unknown => Twist::Unknown { first: self.first.take().map(|Span(first)| first) },
            What::State => {
                let state = self.state.take().filter(|state| !state.trim().is_empty());
                Twist::State(state.ok_or("`state` is missing: a word such as \"processing_r2\"")?)
            }
            What::Fail => Twist::Fail(self.codes()?),
            What::NeverEnds => {
                Twist::NeverEnds { holds: self.holds.take().map_or(HOLDS, |Span(holds)| holds) }
            }
            What::NoUrl => Twist::NoUrl,
            What::ResultObject => Twist::ResultObject,
            What::Callback => Twist::Callback(self.telling()?),
            What::Answer
            | What::Cut
            | What::Drop
            | What::Slow
            | What::NoConnection
            | What::Limits
            | What::Money => return Ok(None),
        }))
    }

    fn telling(&mut self) -> Result<Telling, String> {
        let mut is = |field: fn(&mut Self) -> &mut Option<bool>| field(self).take().unwrap_or(false);
        let lost = is(|fields| &mut fields.lost);
        let twice = is(|fields| &mut fields.twice);
        let early = is(|fields| &mut fields.early);
        let late = self.late.take().map(|Span(late)| late);
        match (lost, twice || early || late.is_some()) {
            (true, true) => Err("`lost = true` says it all: it is sent neither twice, late nor early".into()),
            (false, false) => {
                Err("`lost = true`, `twice = true`, `late = \"5m\"` or `early = true` is missing".into())
            }
            (true, false) | (false, true) if early && late.is_some() => {
                Err("`early` and `late` are two things: give each a fault of its own".into())
            }
            (true, false) | (false, true) => Ok(Telling { lost, twice, late, early }),
        }
    }

    fn codes(&mut self) -> Result<Vec<FailCode>, String> {
        let names = match self.codes.take() {
            Some(Codes::Word(word)) if word == "all" => {
                FailCode::ALL.iter().map(|(name, _)| (*name).to_owned()).collect()
            }
            Some(Codes::Word(word)) => vec![word],
            Some(Codes::List(names)) => names,
            None => Vec::new(),
        };
        if names.is_empty() {
            return Err("`codes` is missing: \"all\", or a list such as [\"GENERATION_FAILED\"]".into());
        }
        names
            .iter()
            .map(|name| {
                FailCode::named(name).ok_or_else(|| {
                    let known: Vec<&str> = FailCode::ALL.iter().map(|(name, _)| *name).collect();
                    format!("`{name}` is no fail code: use {}", known.join(", "))
                })
            })
            .collect()
    }

    fn account(&mut self, window: Window) -> Result<Option<AccountFault>, String> {
        match self.what {
            What::Limits => {
                let (requests, tasks) = (self.requests.take(), self.tasks.take());
                if requests.is_none() && tasks.is_none() {
                    return Err("`requests` or `tasks` is missing: what is allowed, such as \"50%\"".into());
                }
                let (requests, tasks) = (requests.map(Amount::from), tasks.map(Amount::from));
                Ok(Some(AccountFault::Limits { window, requests, tasks }))
            }
            What::Money => {
                let balance = self.balance.take().map(|Dollars(balance)| balance);
                Ok(Some(AccountFault::Money { balance, told: self.told.take().unwrap_or_default() }))
            }
            What::Answer
            | What::Cut
            | What::Drop
            | What::Slow
            | What::NoConnection
            | What::Unknown
            | What::State
            | What::Fail
            | What::NeverEnds
            | What::NoUrl
            | What::ResultObject
            | What::Callback => Ok(None),
        }
    }

    /// What nobody has taken does not belong.
    fn left_over(&self) -> Result<(), String> {
        let fields = [
            ("where", self.places.is_some()),
            ("share", self.share.is_some()),
            ("from", self.from.is_some()),
            ("until", self.until.is_some()),
            ("every", self.every.is_some()),
            ("for", self.lasts.is_some()),
            ("status", self.status.is_some()),
            ("code", self.code.is_some()),
            ("message", self.message.is_some()),
            ("body", self.body.is_some()),
            ("retry_after", self.retry_after.is_some()),
            ("accepted", self.accepted.is_some()),
            ("when", self.when.is_some()),
            ("by", self.by.is_some()),
            ("first", self.first.is_some()),
            ("state", self.state.is_some()),
            ("codes", self.codes.is_some()),
            ("holds", self.holds.is_some()),
            ("lost", self.lost.is_some()),
            ("twice", self.twice.is_some()),
            ("late", self.late.is_some()),
            ("early", self.early.is_some()),
            ("requests", self.requests.is_some()),
            ("tasks", self.tasks.is_some()),
            ("balance", self.balance.is_some()),
            ("told", self.told.is_some()),
        ];
        match fields.into_iter().find(|(_, left)| *left) {
            Some((name, _)) => {
                Err(format!("`{name}` says nothing for what = \"{}\": leave it out", self.what.as_str()))
            }
            None => Ok(()),
        }
    }
}

/// What services say with a number.
const fn usual_message(code: u16) -> &'static str {
    match code {
        200 => "success",
        400 => "Invalid request",
        401 => "Invalid or missing API key",
        402 => "Insufficient balance",
        403 => "Forbidden",
        404 => "Not found",
        408 => "Request timeout",
        429 => "Too many requests",
        502 => "Bad gateway",
        503 => "Service temporarily unavailable",
        504 => "Gateway timeout",
        300..=399 => "Moved",
        _ => "Internal server error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_reading_or_looking_at_the_clock_panic(
            head in prop_oneof![Just(""), Just("[[fault]]\nwhat = 'no_connection'\n"), Just("[[fault]]\nwhat = 'limits'\n")],
            lines in proptest::collection::vec(prop_oneof![
                Just("[[fault]]".to_owned()),
                "(what = '(cut|no_connection|limits|fail|never_ends)')",
                "(from|until|every|for|by|first|holds) = '([0-9]{1,20}(ns|s|m|y))'",
                "(share|accepted|balance) = (-?[0-9]{1,9}|nan|inf|0\\.5)",
                "(requests|tasks) = ('[0-9]{1,12}%'|[0-9]{1,12})",
                "\\PC{0,20}",
            ], 0..5),
            now: u64,
        ) {
            let Ok(scenario) = read("any", &(head.to_owned() + &lines.join("\n"))) else { return Ok(()) };
            let now = Stamp::from_nanos(now);
            scenario.is_closed(now);
            prop_assert!(scenario.next_closure_edge(now).is_none_or(|edge| edge >= now));
        }
    }
}
