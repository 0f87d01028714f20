//! Images, looked at once before money is spent on them.
//!
//! The API fetches the images of a request itself, and a task that fails of them may be paid for. So
//! each distinct address is asked for its beginning: whether it is there, whether its bytes are JPG, PNG
//! or WebP (its name and its declared type promise nothing), and how long the whole is. The simulator
//! looks with the same eyes and fails tasks by the same code.
//!
//! [`look`] looks at one image; [`survey`] at many, politely.

mod kinds;
mod manners;
mod survey;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

pub use kinds::Kind;
pub use survey::survey;

use crate::harmless::one_line;
use crate::hosts::{Client, HostRefused};

/// Largest image, in bytes. The API's page says "10 MB" without saying which; this is the smaller.
pub const LARGEST: u64 = 10_000_000;

/// As much of an image is asked for: enough for every mark of a kind, and for text before a tag.
const BEGINNING: u64 = 4096;

/// For one look, from the first byte sent to the last that is needed, in real time. Of a server that
/// does not tell a length, 10 MB must come through in it.
const LONGEST_LOOK: Duration = Duration::from_mins(1);

/// Longest wait that a `Retry-After` can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// An image as the API wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// How long it is.
    pub bytes: u64,
}

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Not an address that can be called.
    Address(String),
    /// A host that is not called.
    Host(HostRefused),
    /// No answer, or none to the end.
    Unreachable(String),
    /// An answer that is no image: its status.
    Status(u16),
    /// Bytes of another kind, in words.
    Kind(&'static str),
    /// More than [`LARGEST`] bytes: how many, if that is known.
    TooLarge(Option<u64>),
}

impl Flaw {
    /// The code a task fails with that asks for such an image.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::Host(_) => "INVALID_IMAGE_URL",
            Self::Unreachable(_) | Self::Status(_) => "IMAGE_DOWNLOAD_FAILED",
            Self::Kind(_) => "UNSUPPORTED_FORMAT",
            Self::TooLarge(_) => "IMAGE_TOO_LARGE",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn mend(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::Host(_) => "give a public https address",
            Self::Unreachable(_) => "is the address right, and open to everybody?",
            Self::Status(401 | 403) => "make it public, or give a signed address that has not expired",
            Self::Status(404 | 410) => "correct the address, or upload the image again",
            Self::Status(_) => "look at the address in a browser that is not logged in",
            Self::Kind(_) => "give the address of a JPG, PNG or WebP file itself",
            Self::TooLarge(_) => "make it smaller: the API takes at most 10 MB",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) | Self::Unreachable(why) => f.write_str(why),
            Self::Host(refused) => refused.fmt(f),
            Self::Status(status) => {
                let reason = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
                write!(f, "the answer is {status} {}", reason.unwrap_or_default())
            }
            Self::Kind(what) => write!(f, "{what}, and not JPG, PNG or WebP"),
            Self::TooLarge(Some(bytes)) => write!(f, "{:.1} MB, more than 10 MB", megabytes(*bytes)),
            Self::TooLarge(None) => f.write_str("more than 10 MB"),
        }
    }
}

/// Rounded up to a tenth, so that what is too large never looks as if it were not.
fn megabytes(bytes: u64) -> f64 {
    let tenths = u32::try_from(bytes.div_ceil(100_000)).unwrap_or(u32::MAX);
    f64::from(tenths) / 10.0
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// An image as the API wants it.
    Sound(Seen),
    /// One that the API would not take.
    Flawed(Flaw),
    /// What may be otherwise in a moment: the flaw if it stays, and how long to wait if that was said.
    Unclear(Flaw, Option<Duration>),
}

/// Looks at the image at `address`, in real time and with one request, or two where a server answers
/// for a part without telling the length of the whole.
pub async fn look(client: &Client, address: &str) -> Look {
    let timed = tokio::time::timeout(LONGEST_LOOK, look_at(client, address)).await;
    timed.unwrap_or_else(|_| {
        let what = format!("nothing to be seen within {} s", LONGEST_LOOK.as_secs());
        Look::Unclear(Flaw::Unreachable(what), None)
    })
}

async fn look_at(client: &Client, address: &str) -> Look {
    let url: Url = match address.parse() {
        Ok(url) => url,
        Err(error) => return Look::Flawed(Flaw::Address(format!("not an address ({error})"))),
    };
    let part = match ask(client, url.clone(), true).await {
        Ok(part) => part,
        Err(look) => return look,
    };
    let told = match part.status() {
        StatusCode::PARTIAL_CONTENT => whole_of_range(&part),
        _ => part.content_length(),
    };
    let is_whole = part.status() != StatusCode::PARTIAL_CONTENT;
    let (mut answer, told) = match told {
        Some(bytes) => (part, Some(bytes)),
        None if is_whole => (part, None),
        None => match ask(client, url, false).await {
            Ok(whole) => {
                let told = whole.content_length();
                (whole, told)
            }
            Err(look) => return look,
        },
    };
    read(&mut answer, told).await
}

/// The answer of a server that has something.
async fn ask(client: &Client, url: Url, part: bool) -> Result<Response, Look> {
    let request = client.get(url).map_err(|refused| Look::Flawed(Flaw::Host(refused)))?;
    let request = request.header(ACCEPT, "image/jpeg, image/png, image/webp, */*;q=0.1");
    let request = if part { request.header(RANGE, format!("bytes=0-{}", BEGINNING - 1)) } else { request };
    let answer = request.send().await.map_err(|error| unanswered(&error))?;
    let status = answer.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Ok(answer);
    }
    if status == StatusCode::RANGE_NOT_SATISFIABLE && part {
        return Err(Look::Flawed(Flaw::Kind(kinds::EMPTY)));
    }
    let flaw = Flaw::Status(status.as_u16());
    let later = status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status.is_server_error();
    Err(if later { Look::Unclear(flaw, wait_of(&answer)) } else { Look::Flawed(flaw) })
}

fn unanswered(error: &reqwest::Error) -> Look {
    if let Some(refused) = HostRefused::within(error) {
        return Look::Flawed(Flaw::Host(refused.clone()));
    }
    Look::Unclear(Flaw::Unreachable(words(error)), None)
}

/// Why there is no answer, without the address, which is shown beside it.
fn words(error: &reqwest::Error) -> String {
    let what = if error.is_connect() { "no connection" } else { "no answer" };
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    format!("{what} ({})", one_line(&last.to_string(), 100))
}

/// The length of the whole, of which a part has come: `bytes 0-4095/123456`.
fn whole_of_range(answer: &Response) -> Option<u64> {
    answer.headers().get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.trim().parse().ok()
}

fn wait_of(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// Reads as much as is needed to say what it is and, where no length was told, how long it is.
async fn read(answer: &mut Response, told: Option<u64>) -> Look {
    let (mut beginning, mut length) = (Vec::new(), 0_u64);
    loop {
        let enough = beginning.len() as u64 >= BEGINNING;
        let too_long = length > LARGEST;
        if enough && (told.is_some() || too_long) {
            break;
        }
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                let room = usize::try_from(BEGINNING).unwrap_or(usize::MAX) - beginning.len();
                beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
                length += bytes.len() as u64;
            }
            Ok(None) => break,
            Err(error) => return unanswered(&error),
        }
    }
    let bytes = told.unwrap_or(length);
    match kinds::kind_of(&beginning) {
        Err(what) => Look::Flawed(Flaw::Kind(what)),
        Ok(_) if bytes > LARGEST => Look::Flawed(Flaw::TooLarge(told)),
        Ok(kind) => Look::Sound(Seen { kind, bytes }),
    }
}
