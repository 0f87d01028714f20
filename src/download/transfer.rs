//! One video from its link into a draft: one request, and what came of it.
//!
//! Goes on with a draft only where that is safe: the server must hold the same bytes as before, by its
//! own word where it gives one (`If-Range`), and otherwise at least under the same link and with the
//! same length. What comes must look like a video and be as long as it was said to be. The hash is of
//! all bytes of the draft, those of earlier attempts included, as they were read back.

use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED,
    RANGE, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Response, StatusCode, Url};
use sha2::{Digest, Sha256};

use super::boxes::{Boxes, Walked};
use super::place::{Content, Draft, Origin, PlaceError};
use crate::clock::Clock;
use crate::hosts::{Client, HostRefused};

/// Bytes that tell a video from a page.
const HEAD: usize = 12;

/// Longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);

/// Least that is waited for: so many bytes in each span. A server that sends less holds a place that
/// another video could use, and perhaps for ever.
const LEAST: u64 = 60_000;
const LEAST_OVER: Duration = Duration::from_mins(1);

/// Why a video is not whole in its draft yet.
#[derive(Debug)]
pub(super) enum Broken {
    /// The link leads nowhere any longer, or to something that is no video.
    Dead(String),
    /// The same may succeed later; what has come stays.
    Later {
        /// Why.
        why: String,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// It is not asked for at all.
    Refused(String),
    /// The place does not take it.
    Place(PlaceError),
}

impl From<PlaceError> for Broken {
    fn from(error: PlaceError) -> Self {
        Self::Place(error)
    }
}

impl Broken {
    fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), retry_after: None }
    }
}

/// A video that is whole in its draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) content: Content,
    /// The extension of its name.
    pub(super) extension: &'static str,
}

/// Gets what is missing of the video at `link` into `draft`, and tells `received` of each piece.
pub(super) async fn fetch(
    (client, clock): (&Client, &Clock),
    link: &str,
    draft: &mut Draft,
    mut received: impl FnMut(u64),
) -> Result<Whole, Broken> {
    let url = Url::parse(link).map_err(|error| Broken::Dead(format!("the link is none: {error}")))?;
    let link = blake3::hash(link.as_bytes()).to_hex()[..16].to_owned();
    let known = draft.origin().filter(|origin| origin.link == link || origin.has_tag()).cloned();
    let known =
        known.filter(|origin| draft.have() > 0 && origin.total.is_some_and(|all| draft.have() <= all));
    // All of it came, and nobody was there to see it.
    let is_whole = known.as_ref().is_some_and(|origin| origin.total == Some(draft.have()));
    if let Some(total) =
        known.as_ref().filter(|_| is_whole && known_link(draft, &link)).and_then(|origin| origin.total)
    {
        let hash = draft.hash().await?;
        let end = End::At(total);
        return check(draft, hash, end, extension(&url, None)).await;
    }
    let mut request = client.get(url.clone()).map_err(|refused| Broken::Refused(refused.to_string()))?;
    request = request.header(ACCEPT_ENCODING, "identity");
    if let Some(origin) = &known {
        request = request.header(RANGE, format!("bytes={}-", draft.have()));
        if let Some(validator) = &origin.validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let response = request.send().await.map_err(|error| failed(&error))?;
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && known.is_some() {
        draft.restart(Origin { link, validator: None, total: None }).await?;
        return Err(Broken::later("the video is shorter than what is there of it"));
    }
    let (mut response, offer) = read_offer(response, &url)?;
    let goes_on = known.as_ref().is_some_and(|origin| offer.goes_on_with(origin, &link, draft.have()));
    if !goes_on && offer.from > 0 {
        // A piece of something else: from the start, next time.
        draft.restart(Origin { link, validator: None, total: None }).await?;
        return Err(Broken::later("the video changed while it was fetched"));
    }
    let mut hash = if goes_on { draft.hash().await? } else { Sha256::new() };
    if !goes_on {
        draft.restart(Origin { link, validator: offer.validator.clone(), total: offer.total }).await?;
    }
    let mut looked = draft.have() >= HEAD as u64;
    let (mut boxes, mut pace) = (Boxes::default(), Pace::default());
    loop {
        let asked = clock.now();
        let piece = match response.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => return Err(failed(&error)),
        };
        let length = piece.len() as u64;
        let too_slow = pace.is_too_slow(length, clock.now().since(asked));
        hash.update(&piece);
        boxes.pass(&piece);
        draft.write(piece).await?;
        received(length);
        if too_slow {
            return Err(Broken::later("less than 1 kB/s came for a minute"));
        }
        if !looked && draft.have() >= HEAD as u64 {
            looked = true;
            look_like_a_video(draft).await?;
        }
    }
    let end = match offer.total {
        Some(total) => End::At(total),
        None if offer.ends_with_a_word => End::Said(boxes.end()),
        None => End::OfTheConnection(boxes.end()),
    };
    check(draft, hash, end, offer.extension).await
}

/// What comes, and how long it was waited for: what a place takes to store it does not count.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// Takes the next bytes in.
    fn is_too_slow(&mut self, bytes: u64, waited: Duration) -> bool {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < LEAST_OVER {
            return false;
        }
        std::mem::take(self).bytes < LEAST
    }
}

/// Whether the draft is of this very link.
fn known_link(draft: &Draft, link: &str) -> bool {
    draft.origin().is_some_and(|origin| origin.link == link)
}

/// That the draft is a whole video, now that nothing more comes.
async fn check(draft: &mut Draft, hash: Sha256, end: End, extension: &'static str) -> Result<Whole, Broken> {
    let bytes = draft.have();
    look_like_a_video(draft).await?;
    match end {
        End::At(total) if total != bytes => {
            return Err(Broken::later(format!("{bytes} bytes came and {total} were announced")));
        }
        End::Said(Walked::Cut) | End::OfTheConnection(Walked::Cut) => {
            return Err(Broken::later(format!("{bytes} bytes came and are not all of the video")));
        }
        End::OfTheConnection(Walked::Untold) => {
            let why = "neither the server nor the video says how long it is: it may be cut";
            return Err(Broken::later(why));
        }
        End::At(_) | End::Said(Walked::Whole | Walked::Untold) | End::OfTheConnection(Walked::Whole) => {}
    }
    Ok(Whole { content: Content { bytes, sha256: hash.finalize().into() }, extension })
}

/// What tells that nothing more of a video is to come.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Its length, which was announced.
    At(u64),
    /// The server's word after the last piece, and the boxes.
    Said(Walked),
    /// Only that the connection ended, as a broken one does; and the boxes.
    OfTheConnection(Walked),
}

/// That the draft begins as MP4, MOV or `WebM` do; if not, it is emptied.
async fn look_like_a_video(draft: &mut Draft) -> Result<(), Broken> {
    let head = draft.head(HEAD).await?;
    let is_video = head.get(4..8) == Some(b"ftyp") || head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]);
    if is_video {
        return Ok(());
    }
    draft.restart(Origin { link: String::new(), validator: None, total: None }).await?;
    Err(Broken::Dead("what the link leads to is no MP4, MOV or WebM".to_owned()))
}

/// What a server is about to send.
#[derive(Debug)]
struct Offer {
    /// Where in the whole it begins.
    from: u64,
    /// How long the whole is.
    total: Option<u64>,
    /// Whether the server says so when it has sent the last piece.
    ends_with_a_word: bool,
    validator: Option<String>,
    extension: &'static str,
}

impl Offer {
    /// Whether it is the rest, at `link`, of a draft of `origin` with so many bytes.
    fn goes_on_with(&self, origin: &Origin, link: &str, have: u64) -> bool {
        // A server that knows no If-Range sends a piece of whatever it has now, and says of what.
        let same = match &origin.validator {
            Some(_) => self.validator == origin.validator && (origin.link == link || origin.has_tag()),
            None => origin.link == link,
        };
        self.from > 0 && self.from == have && self.total == origin.total && same
    }
}

/// Reads the head of an answer.
fn read_offer(response: Response, asked: &Url) -> Result<(Response, Offer), Broken> {
    let status = response.status();
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<u64>().ok();
    if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Err(refusal(status, headers));
    }
    let kind = text(CONTENT_TYPE).map(str::to_ascii_lowercase);
    if kind.as_deref().is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(Broken::Dead("the link leads to a web page".to_owned()));
    }
    let (from, total) = if status == StatusCode::PARTIAL_CONTENT {
        let range = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
        let range = range.and_then(|range| {
            let (span, total) = range.split_once('/')?;
            let (from, _) = span.split_once('-')?;
            Some((number(from)?, number(total)))
        });
        range.ok_or_else(|| Broken::later("the server answered a part and did not say which"))?
    } else {
        (0, text(CONTENT_LENGTH).and_then(number))
    };
    let strong = text(ETAG).filter(|tag| !tag.starts_with("W/"));
    let validator = strong.or_else(|| text(LAST_MODIFIED)).map(str::to_owned);
    let extension = extension(asked, kind.as_deref());
    let ends_with_a_word = text(TRANSFER_ENCODING).is_some();
    Ok((response, Offer { from, total, ends_with_a_word, validator, extension }))
}

/// What an answer without a video means.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Broken {
    let why = format!("the link answers {status}");
    match status.as_u16() {
        408 | 425 | 429 | 500.. => {
            let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let seconds = asked.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            Broken::Later { why, retry_after: seconds.map(|wait| wait.min(LONGEST_RETRY_AFTER)) }
        }
        _ => Broken::Dead(why),
    }
}

/// What a request that failed on its way means.
fn failed(error: &reqwest::Error) -> Broken {
    if let Some(refused) = HostRefused::within(error) {
        return Broken::Refused(refused.to_string());
    }
    let why = if error.is_timeout() {
        "nothing came for too long"
    } else if error.is_connect() {
        "no connection was made"
    } else {
        "the connection broke"
    };
    let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
    Broken::later(cause.map_or_else(|| why.to_owned(), |cause| format!("{why}: {cause}")))
}

/// The extension of a video's name: that of the path of its link, else that of its type, else MP4's.
pub(super) fn extension(url: &Url, kind: Option<&str>) -> &'static str {
    let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let of_path = last.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match of_path.as_deref() {
        Some("mp4") => return ".mp4",
        Some("mov") => return ".mov",
        Some("webm") => return ".webm",
        Some("m4v") => return ".m4v",
        Some(_) | None => {}
    }
    match kind.map(|kind| kind.split(';').next().unwrap_or_default().trim()) {
        Some("video/quicktime") => ".mov",
        Some("video/webm") => ".webm",
        Some(_) | None => ".mp4",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions() {
        for (url, kind, extension) in [
            ("https://v.example/a/b.MP4?x=1.mov", None, ".mp4"),
            ("https://v.example/a.mov", Some("video/mp4"), ".mov"),
            ("https://v.example/a", Some("video/webm; codecs=vp9"), ".webm"),
            ("https://v.example/a.php", Some("video/quicktime"), ".mov"),
            ("https://v.example/", Some("application/octet-stream"), ".mp4"),
        ] {
            assert_eq!(super::extension(&url.parse().unwrap(), kind), extension, "{url}");
        }
    }

    #[test]
    fn a_trickle_is_not_waited_for() {
        let pace = |bytes, seconds| {
            let mut pace = Pace::default();
            (1..=1_000).find(|_| pace.is_too_slow(bytes, Duration::from_secs(seconds)))
        };
        assert_eq!(pace(1, 3), Some(20));
        assert_eq!(pace(29_999, 30), Some(2));
        assert_eq!(pace(30_000, 30), None);
        assert_eq!(pace(1_000_000, 0), None);
    }

    #[test]
    fn what_each_status_means() {
        let meant = |status: u16| match refusal(StatusCode::from_u16(status).unwrap(), &HeaderMap::new()) {
            Broken::Dead(_) => "dead",
            Broken::Later { .. } => "later",
            Broken::Refused(_) | Broken::Place(_) => "never",
        };
        for dead in [204, 302, 400, 401, 403, 404, 410, 416, 451] {
            assert_eq!(meant(dead), "dead", "{dead}");
        }
        for later in [408, 425, 429, 500, 502, 503, 504, 522] {
            assert_eq!(meant(later), "later", "{later}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let Broken::Later { retry_after, .. } = refusal(StatusCode::SERVICE_UNAVAILABLE, &headers) else {
            panic!("503 is no end");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_is_gone_on_with() {
        let origin = |validator: Option<&str>, total| Origin {
            link: "l".into(),
            validator: validator.map(Into::into),
            total,
        };
        let offer = |from, total, validator: Option<&str>| Offer {
            from,
            total,
            ends_with_a_word: false,
            validator: validator.map(Into::into),
            extension: ".mp4",
        };
        let (a, b, date) = (Some("\"a\""), Some("\"b\""), Some("Thu, 26 Nov 2026 02:00:00 GMT"));
        for (offer, origin, same_link, other_link) in [
            (offer(5, Some(9), a), origin(a, Some(9)), true, true),
            (offer(5, Some(9), None), origin(None, Some(9)), true, false),
            (offer(5, Some(9), a), origin(None, Some(9)), true, false),
            (offer(5, Some(9), date), origin(date, Some(9)), true, false),
            (offer(5, Some(9), None), origin(a, Some(9)), false, false),
            (offer(5, Some(9), None), origin(date, Some(9)), false, false),
            (offer(5, Some(9), b), origin(a, Some(9)), false, false),
            (offer(5, Some(8), a), origin(a, Some(9)), false, false),
            (offer(4, Some(9), a), origin(a, Some(9)), false, false),
            (offer(0, Some(9), a), origin(a, Some(9)), false, false),
        ] {
            assert_eq!(offer.goes_on_with(&origin, "l", 5), same_link, "{offer:?} {origin:?}");
            assert_eq!(offer.goes_on_with(&origin, "m", 5), other_link, "{offer:?} {origin:?}");
        }
    }
}
