//! What an answer means: the one table.
//!
//! Owns every judgement on a status, an envelope code, a word or a fail code. It is exhaustive and
//! tested as a snapshot, because a wrong line here either buys a video twice or loses a paid one:
//! *a refusal needs evidence, whatever has none is in doubt.* Nothing here parses or sends.
//!
//! The vendor's pages contradict each other on several lines (402 or 400 for "no money", 403 for
//! the key or for the content, two generations of fail codes), so both readings are understood.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::api::{Balance, Polled, Refusal, RefusalCause, Submitted, Verdict};
use crate::job::{Failure, FailureKind};

/// What a number says about the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// Taken and answered.
    Well,
    /// Refused for want of money.
    NoMoney,
    /// Refused: the key is not known.
    Key,
    /// Refused: documented both as "the key may not" and as "the content may not".
    Forbidden,
    /// Refused: no such model, or no such task.
    NotFound,
    /// Refused: too many requests, or too many tasks.
    Throttled,
    /// Refused: the service is away.
    Unavailable,
    /// Refused for what the request says.
    Refused,
    /// No evidence of anything.
    Unclear,
}

/// Statuses and what they say; the first line that holds the status counts, and a status on no
/// line is [`Sense::Unclear`]. Envelope codes are documented to mirror statuses, so they are read
/// by the same lines.
///
/// Not here on purpose: 408, 500, 502, 504 and 52x, which a proxy writes after it has passed the
/// request on, and 3xx, which is not followed. 503 is documented as "temporarily unavailable,
/// retry later", 429 as "excess is refused".
static BY_STATUS: [(RangeInclusive<u16>, Sense); 10] = [
    (200..=299, Sense::Well),
    (401..=401, Sense::Key),
    (402..=402, Sense::NoMoney),
    (403..=403, Sense::Forbidden),
    (404..=404, Sense::NotFound),
    (408..=408, Sense::Unclear),
    (429..=429, Sense::Throttled),
    (400..=499, Sense::Refused),
    (503..=503, Sense::Unavailable),
    (0..=u16::MAX, Sense::Unclear),
];

/// Fail codes as the vendor's pages spell them, old (`UPPER_SNAKE`) and new (`PascalCase`). They
/// are compared in lower case without underscores.
static FAIL_CODES: [(&str, FailureKind, Verdict); 21] = [
    ("CONTENT_VIOLATION", FailureKind::Content, Verdict::Final),
    ("NSFW_DETECTED", FailureKind::Content, Verdict::Final),
    ("NSFW", FailureKind::Content, Verdict::Final),
    ("SensitiveContent", FailureKind::Content, Verdict::Final),
    ("SensitiveContentDetected", FailureKind::Content, Verdict::Final),
    ("ProhibitedContentDetected", FailureKind::Content, Verdict::Final),
    ("InputImageSensitiveContentDetected", FailureKind::Content, Verdict::Final),
    ("InputOutputSensitiveContentDetected", FailureKind::Content, Verdict::Final),
    ("PROMPT_TOO_LONG", FailureKind::Input, Verdict::Final),
    ("PromptLengthExceeded", FailureKind::Input, Verdict::Final),
    ("INVALID_PROMPT", FailureKind::Input, Verdict::Final),
    ("INVALID_IMAGE_URL", FailureKind::Image, Verdict::Final),
    ("IMAGE_TOO_LARGE", FailureKind::Image, Verdict::Final),
    ("UNSUPPORTED_FORMAT", FailureKind::Image, Verdict::Final),
    // The image's host may have hiccupped.
    ("IMAGE_DOWNLOAD_FAILED", FailureKind::Image, Verdict::MayRetry),
    ("PROCESSING_TIMEOUT", FailureKind::Transient, Verdict::MayRetry),
    ("MODEL_UNAVAILABLE", FailureKind::Transient, Verdict::MayRetry),
    ("GENERATION_FAILED", FailureKind::Transient, Verdict::MayRetry),
    ("INSUFFICIENT_CREDITS", FailureKind::Money, Verdict::NoMoney),
    ("INVALID_LORA_URL", FailureKind::Input, Verdict::Final),
    (UNKNOWN_TASK, FailureKind::Input, Verdict::Final),
];

/// The fail code for a task id that is bad, expired or another account's.
const UNKNOWN_TASK: &str = "TASKID_ERROR";

/// How to guess at a fail code on no page, by a piece of it in lower case without underscores; the
/// first line with a hit counts. A guess of `Final` errs towards not paying again.
static GUESSES: [(&[&str], FailureKind, Verdict); 5] = [
    (&["sensitive", "nsfw", "prohibited", "violation", "policy"], FailureKind::Content, Verdict::Final),
    (&["credit", "balance"], FailureKind::Money, Verdict::NoMoney),
    (
        &["timeout", "timedout", "unavailable", "busy", "overload", "internal"],
        FailureKind::Transient,
        Verdict::MayRetry,
    ),
    (&["image"], FailureKind::Image, Verdict::Final),
    (&["prompt", "format", "url", "size"], FailureKind::Input, Verdict::Final),
];

/// "Insufficient credits" was seen under a 400; a batch without money must stop, not fail row by
/// row, so these count under any status. Compared without case, spaces and punctuation.
const NO_MONEY: [&str; 2] = ["insufficientcredit", "insufficientbalance"];
/// Words of a 429 that is about tasks alive and not about requests per minute.
const TOO_MANY_TASKS: [&str; 4] = ["concurren", "inprogress", "toomanytasks", "activetasks"];
/// Words of a 403 that is about what is to be shown.
const ABOUT_CONTENT: [&str; 7] =
    ["content", "policy", "sensitive", "nsfw", "prohibited", "violat", "moderation"];
/// Words of a 403 that is about the key after all, such as "not allowed by the key's access policy".
const ABOUT_KEY: [&str; 5] = ["permission", "apikey", "ipaddress", "allowlist", "whitelist"];

/// The `code` of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// None, or null.
    Absent,
    /// A number, or one in quotes.
    Number(i64),
    /// Something else.
    Unreadable,
}

impl Code {
    /// Whether it does not contradict a success.
    pub(super) const fn is_well(self) -> bool {
        matches!(self, Self::Absent | Self::Number(200))
    }

    fn sense(self) -> Sense {
        match self {
            Self::Absent | Self::Number(200) => Sense::Well,
            // No other number below 300 is documented to mean anything.
            Self::Number(number) => match u16::try_from(number) {
                Ok(status @ 300..) => by_status(status),
                Ok(_) | Err(_) => Sense::Unclear,
            },
            Self::Unreadable => Sense::Unclear,
        }
    }
}

fn by_status(status: u16) -> Sense {
    BY_STATUS
        .iter()
        .find(|(statuses, _)| statuses.contains(&status))
        .map_or(Sense::Unclear, |(_, sense)| *sense)
}

/// An answer that brings neither a task nor a state: a number or two and some words.
#[derive(Debug, Clone)]
pub(super) struct Answer<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// The envelope's code.
    pub(super) code: Code,
    /// The field that holds a fail code, if there is one.
    pub(super) fail_code: Option<&'a str>,
    /// Everything it says in words, the most general first.
    pub(super) words: Vec<&'a str>,
}

/// What an [`Answer`] comes to, before it is known what was asked.
struct Reading {
    sense: Sense,
    /// A fail code of the API, or `http_` and the number that decided; `code_` and the number where
    /// it is no status.
    code: String,
    /// What the fail code is about, if there is one.
    kind: Option<FailureKind>,
    message: String,
    /// All words, as [`plain`] makes them.
    plain: String,
}

impl Answer<'_> {
    fn read(&self) -> Reading {
        let plain = self.words.iter().copied().chain(self.fail_code).map(plain).collect::<Vec<_>>().join(" ");
        let (sense, number) = self.decide(&plain);
        let known = self.fail_code.into_iter().chain(self.words.iter().copied()).find_map(known_code_in);
        let (code, kind) = match (known, self.fail_code) {
            (Some((code, kind, _)), _) => (code.to_owned(), Some(kind)),
            (None, Some(code)) => (code.to_owned(), guess(code).map(|(kind, _)| kind)),
            (None, None) if (100..=599).contains(&number) => (format!("http_{number}"), None),
            (None, None) => (format!("code_{number}"), None),
        };
        Reading { sense, code, kind, message: self.message(), plain }
    }

    /// What the answer says, and the number that says it. A refusal by either number counts; of
    /// two, the envelope's, because the status may be a proxy's.
    fn decide(&self, plain: &str) -> (Sense, i64) {
        let status = i64::from(self.status);
        let heard = [(self.code.sense(), self.code), (by_status(self.status), Code::Number(status))];
        let number = |code| if let Code::Number(number) = code { number } else { status };
        let decided = heard
            .into_iter()
            .find(|(sense, _)| !matches!(sense, Sense::Well | Sense::Unclear))
            .or_else(|| heard.into_iter().rfind(|(sense, _)| *sense == Sense::Unclear))
            .map_or((Sense::Well, status), |(sense, code)| (sense, number(code)));
        if holds_any(plain, &NO_MONEY) { (Sense::NoMoney, decided.1) } else { decided }
    }

    fn message(&self) -> String {
        let mut parts = vec![match self.code {
            Code::Number(code) if code != i64::from(self.status) => {
                format!("HTTP {} with code {code}", self.status)
            }
            Code::Absent | Code::Number(_) | Code::Unreadable => format!("HTTP {}", self.status),
        }];
        parts.extend(self.words.iter().map(ToString::to_string));
        if self.words.is_empty() {
            parts.push("no message".into());
        }
        parts.join(": ")
    }
}

impl Reading {
    fn failure(&self, kind: FailureKind) -> Failure {
        Failure::new(kind, Some(&self.code), &self.message)
    }

    fn refusal(&self, cause: RefusalCause, retry_after: Option<Duration>) -> Refusal {
        Refusal { cause, retry_after, failure: self.failure(FailureKind::Transient) }
    }

    /// What a 429 is about.
    fn throttle(&self) -> RefusalCause {
        if holds_any(&self.plain, &TOO_MANY_TASKS) { RefusalCause::Concurrency } else { RefusalCause::Rate }
    }

    /// Whether a 403 is about the content.
    fn is_about_content(&self) -> bool {
        match self.kind {
            Some(kind) => kind == FailureKind::Content,
            None => holds_any(&self.plain, &ABOUT_CONTENT) && !holds_any(&self.plain, &ABOUT_KEY),
        }
    }
}

/// A submission whose answer brings no task.
pub(super) fn submission(answer: &Answer<'_>, retry_after: Option<Duration>) -> Submitted {
    let reading = answer.read();
    match reading.sense {
        Sense::Well => Submitted::InDoubt(Failure::new(
            FailureKind::Doubt,
            Some(&reading.code),
            &format!("no task id in the answer; {}", reading.message),
        )),
        Sense::Unclear => Submitted::InDoubt(reading.failure(FailureKind::Doubt)),
        Sense::NoMoney => Submitted::NoMoney(reading.failure(FailureKind::Money)),
        Sense::Forbidden if reading.is_about_content() => {
            Submitted::Rejected(reading.failure(FailureKind::Content))
        }
        Sense::Key | Sense::Forbidden => Submitted::KeyRefused(reading.failure(FailureKind::Key)),
        Sense::Throttled => Submitted::NotAccepted(reading.refusal(reading.throttle(), retry_after)),
        Sense::Unavailable => Submitted::NotAccepted(reading.refusal(RefusalCause::Unavailable, retry_after)),
        // A code on no page that seems to be about money stops the buying as a known one does: else
        // every row would be refused for it.
        Sense::NotFound | Sense::Refused if reading.kind == Some(FailureKind::Money) => {
            Submitted::NoMoney(reading.failure(FailureKind::Money))
        }
        Sense::NotFound | Sense::Refused => {
            Submitted::Rejected(reading.failure(reading.kind.unwrap_or(FailureKind::Input)))
        }
    }
}

/// A look at a task whose answer brings no state.
pub(super) fn look(answer: &Answer<'_>, retry_after: Option<Duration>) -> Polled {
    let reading = answer.read();
    // The service is at fault when a task it has accepted is gone.
    if reading.code == UNKNOWN_TASK {
        return Polled::NotFound(reading.failure(FailureKind::Transient));
    }
    match reading.sense {
        Sense::Well | Sense::Unclear => Polled::Unclear(reading.failure(FailureKind::Transient)),
        Sense::NoMoney => Polled::Unclear(reading.failure(FailureKind::Money)),
        Sense::Refused => Polled::Unclear(reading.failure(reading.kind.unwrap_or(FailureKind::Input))),
        Sense::Key | Sense::Forbidden => Polled::KeyRefused(reading.failure(FailureKind::Key)),
        Sense::NotFound => Polled::NotFound(reading.failure(FailureKind::Transient)),
        Sense::Throttled => Polled::NotAnswered(reading.refusal(reading.throttle(), retry_after)),
        Sense::Unavailable => Polled::NotAnswered(reading.refusal(RefusalCause::Unavailable, retry_after)),
    }
}

/// A look at the balance that was not answered well.
pub(super) fn balance(answer: &Answer<'_>) -> Balance {
    let reading = answer.read();
    match reading.sense {
        Sense::Key | Sense::Forbidden => Balance::KeyRefused(reading.failure(FailureKind::Key)),
        Sense::NoMoney => Balance::Unclear(reading.failure(FailureKind::Money)),
        Sense::NotFound | Sense::Refused => Balance::Unclear(reading.failure(FailureKind::Input)),
        Sense::Well | Sense::Throttled | Sense::Unavailable | Sense::Unclear => {
            Balance::Unclear(reading.failure(FailureKind::Transient))
        }
    }
}

/// Why no answer came, and what that means for what was asked: the simulator in memory, which has no
/// connections to lose, says it by the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// No connection was made: not a byte of the request was sent.
    NoConnection,
    /// The time-out passed after a connection was made.
    TimedOut,
    /// The connection broke, or what came back was not HTTP.
    Broken,
}

impl Silence {
    /// What an answer is whose connection broke in the middle of its body: half a success is no
    /// evidence of one, and silence. `None` where the `status` alone says what is refused.
    #[must_use]
    pub fn of_half_an_answer(status: u16) -> Option<Self> {
        (200..=299).contains(&status).then_some(Self::Broken)
    }

    const fn code(self) -> &'static str {
        match self {
            Self::NoConnection => "connect",
            Self::TimedOut => "timeout",
            Self::Broken => "connection",
        }
    }

    fn failure(self, kind: FailureKind, detail: &str) -> Failure {
        Failure::new(kind, Some(self.code()), detail)
    }

    fn refusal(self, detail: &str) -> Refusal {
        Refusal {
            cause: RefusalCause::Connect,
            retry_after: None,
            failure: self.failure(FailureKind::Transient, detail),
        }
    }

    /// A submission that was not answered.
    #[must_use]
    pub fn submission(self, detail: &str) -> Submitted {
        match self {
            Self::NoConnection => Submitted::NotAccepted(self.refusal(detail)),
            Self::TimedOut | Self::Broken => Submitted::InDoubt(self.failure(FailureKind::Doubt, detail)),
        }
    }

    /// A look at a task that was not answered.
    #[must_use]
    pub fn look(self, detail: &str) -> Polled {
        match self {
            Self::NoConnection => Polled::NotAnswered(self.refusal(detail)),
            Self::TimedOut => Polled::Unclear(self.failure(FailureKind::Timeout, detail)),
            Self::Broken => Polled::Unclear(self.failure(FailureKind::Transient, detail)),
        }
    }

    /// A look at the balance that was not answered.
    #[must_use]
    pub fn balance(self, detail: &str) -> Balance {
        let kind = match self {
            Self::NoConnection | Self::Broken => FailureKind::Transient,
            Self::TimedOut => FailureKind::Timeout,
        };
        Balance::Unclear(self.failure(kind, detail))
    }
}

/// What a failed task's code and message say; a code on no page is guessed at, and what cannot be
/// guessed may be tried again. A code that is a bare number leaves the word to the message.
pub(super) fn task_failure(code: Option<&str>, message: &str) -> (Failure, Verdict) {
    let text = code.filter(|code| code.contains(|c: char| !c.is_ascii_digit())).unwrap_or(message);
    let (known, kind, verdict) = match (known_code_in(text), guess(text)) {
        (Some((known, kind, verdict)), _) => (Some(known), kind, verdict),
        (None, Some((kind, verdict))) => (None, kind, verdict),
        (None, None) => (None, FailureKind::Transient, Verdict::MayRetry),
    };
    let message = if message.is_empty() { "the task failed; no message" } else { message };
    (Failure::new(kind, code.or(known), message), verdict)
}

/// The first known fail code among the words of `text`, with its line of the table.
fn known_code_in(text: &str) -> Option<(&'static str, FailureKind, Verdict)> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .find_map(|word| FAIL_CODES.iter().find(|(code, ..)| letters(code).eq(letters(word))))
        .copied()
}

fn guess(code: &str) -> Option<(FailureKind, Verdict)> {
    let code = plain(code);
    let (_, kind, verdict) = GUESSES.iter().find(|(pieces, ..)| holds_any(&code, pieces))?;
    Some((*kind, *verdict))
}

/// `text` in lower case, letters and digits only, so that spellings compare equal.
fn plain(text: &str) -> String {
    letters(text).collect()
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

fn holds_any(plain: &str, pieces: &[&str]) -> bool {
    pieces.iter().any(|piece| plain.contains(piece))
}
