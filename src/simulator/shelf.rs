//! The shelf: links to the videos that tasks have made, what is answered under each, and the books.
//!
//! Knows no socket. A link is signed, so that none can be guessed, and may die; looking at its task
//! gives another. Requests for videos are none to the API: they fill no window and are never refused
//! for a limit. The books tell whether anything was fetched twice, and whether a key ever came along.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::Serialize;

use super::Settings;
use super::fate::mix;
use super::task::Task;
use super::video_faults::{Mishap, VideoFaults};
use super::videos::{Video, VideoId};
use crate::job::{Stamp, UnixMillis};

/// What keeps signatures apart from other draws.
const SIGNED: u64 = 0x516e;
/// Where links lead when nobody serves them.
const NOWHERE: &str = "https://simulated.invalid";
const NANOS: u64 = 1_000_000_000;

/// What was asked for of the videos, in this process. None of these requests counts against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct VideoCounts {
    /// Requests for a video.
    pub requests: u64,
    /// Of them, those that carried an `Authorization` header, or the account's key anywhere. A client
    /// that sends its key to a link has given it away.
    pub with_key: u64,
    /// Of them, those whose link had died, or never was one.
    pub refused: u64,
    /// Answers spoilt by the scenario.
    pub spoilt: u64,
    /// Videos asked for, each counted once.
    pub videos: u64,
    /// The bytes that those videos have, each counted once.
    pub bytes: u64,
    /// Bytes of videos sent. More than [`VideoCounts::bytes`] when something was sent again.
    pub bytes_sent: u64,
    /// Bodies sent from the first byte of a video to its last.
    pub whole: u64,
    /// The most such bodies of one video.
    pub whole_of_one: u64,
}

impl fmt::Display for VideoCounts {
    /// A line without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, whole, whole_of_one, bytes_sent, with_key, spoilt, .. } = self;
        write!(
            f,
            "{requests} asked for, {whole} sent whole (one {whole_of_one} times at most), {bytes_sent} bytes sent"
        )?;
        if *spoilt > 0 {
            write!(f, ", {spoilt} answers spoilt by the scenario")?;
        }
        if *with_key > 0 { write!(f, ", {with_key} WITH A KEY") } else { Ok(()) }
    }
}

/// What there is to say of one video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    pub(super) length: u64,
    pub(super) asked: u32,
    pub(super) whole: u32,
    pub(super) sent: u64,
}

/// A request for a video.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked<'a> {
    /// The last part of the path.
    pub(super) name: &'a str,
    pub(super) expires: Option<i64>,
    pub(super) signature: Option<&'a str>,
    pub(super) range: Option<&'a str>,
    pub(super) if_range: Option<&'a str>,
    /// Everything else that came along, to look for a key in.
    pub(super) baggage: &'a [&'a str],
    pub(super) authorized: bool,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Showing {
    /// This status, and a line.
    Refused(u16),
    /// A page that says 200.
    Page,
    /// No byte of the range is in the video.
    OutOfRange(Video),
    /// A body.
    Body(Body),
}

/// A part of a video on its way, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) video: Video,
    /// The first byte.
    pub(super) from: u64,
    /// After the last byte.
    pub(super) to: u64,
    /// Whether it is told as a part.
    pub(super) partial: bool,
    /// Whether ranges are served.
    pub(super) ranges: bool,
    pub(super) mishap: Option<Mishap>,
    /// Bytes a second.
    pub(super) rate: Option<NonZeroU64>,
}

/// The videos of a service.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Where a server shows them, such as `http://127.0.0.1:8787`.
    address: Option<String>,
    /// By video that was asked for.
    entries: BTreeMap<VideoId, Entry>,
    counts: VideoCounts,
    /// When what all connections may send together is sent.
    busy_until: Stamp,
}

impl Shelf {
    pub(super) fn stands_at(&mut self, address: String) {
        self.address = Some(address);
    }

    pub(super) const fn counts(&self) -> VideoCounts {
        self.counts
    }

    /// The books after this video, in the order of their names.
    pub(super) fn entries_after(&self, after: Option<VideoId>) -> impl Iterator<Item = (&VideoId, &Entry)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.entries.range((after.map_or(Unbounded, Excluded), Unbounded))
    }

    /// What the task's videos are to be fetched from.
    pub(super) fn links(
        &self,
        settings: &Settings,
        task: &Task,
        task_id: &str,
        now: UnixMillis,
    ) -> Vec<String> {
        let VideoFaults { links, expire, .. } = &settings.scenario.videos;
        let life = expire.map(|life| i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let expires = life.map(|life| now.0.saturating_add(life));
        let link = |part| {
            let id = VideoId { request: task.request, nth: task.nth, part };
            let Some(address) = &self.address else { return format!("{NOWHERE}/{id}.mp4") };
            let part = if part > 1 { format!(".{part}") } else { String::new() };
            let expires_at = expires.map(|at| format!("expires={at}&")).unwrap_or_default();
            let signature = signature(settings.seed, id, expires);
            format!("{address}/videos/{task_id}{part}.mp4?{expires_at}signature={signature}")
        };
        (1..=links.map_or(1, std::num::NonZeroU32::get)).map(link).collect()
    }

    /// Answers a request, and writes it down.
    pub(super) fn show(&mut self, settings: &Settings, asked: &Asked<'_>, now: UnixMillis) -> Showing {
        self.counts.requests += 1;
        let key = settings.key.as_ref().map(ExposeSecret::expose_secret).filter(|key| !key.is_empty());
        let smuggled = key.is_some_and(|key| asked.baggage.iter().any(|text| text.contains(key)));
        self.counts.with_key += u64::from(asked.authorized || smuggled);
        let video = match find(settings, asked, now) {
            Ok(video) => video,
            Err(status) => {
                self.counts.refused += 1;
                return Showing::Refused(status);
            }
        };
        let new = Entry { length: video.length, ..Entry::default() };
        let entry = self.entries.entry(video.id).or_insert(new);
        let nth = entry.asked;
        entry.asked += 1;
        if nth == 0 {
            self.counts.videos += 1;
            self.counts.bytes += video.length;
        }
        let faults = &settings.scenario.videos;
        let same = asked.if_range.is_none_or(|tag| tag == video.etag());
        let range = asked.range.filter(|_| same && !faults.no_range);
        let (from, to, partial) = match range.map(|range| read_range(range, video.length)) {
            None | Some(Range::Whole) => (0, video.length, false),
            Some(Range::Part { from, to }) => (from, to, true),
            Some(Range::None) => return Showing::OutOfRange(video),
        };
        let mishap = faults.mishap(settings.seed, video.id, nth, to - from);
        self.counts.spoilt += u64::from(mishap.is_some());
        if mishap == Some(Mishap::Page) {
            return Showing::Page;
        }
        Showing::Body(Body { video, from, to, partial, ranges: !faults.no_range, mishap, rate: faults.rate })
    }

    /// Writes down that this much of `body` was sent, up to `at`.
    pub(super) fn sent(&mut self, body: &Body, bytes: u64, at: u64) {
        let Some(entry) = self.entries.get_mut(&body.video.id) else { return };
        entry.sent += bytes;
        self.counts.bytes_sent += bytes;
        if body.from == 0 && at == body.video.length {
            entry.whole += 1;
            self.counts.whole += 1;
            self.counts.whole_of_one = self.counts.whole_of_one.max(entry.whole.into());
        }
    }

    /// When `bytes` more may be sent, for what all connections may send together.
    pub(super) fn queue(&mut self, rate: NonZeroU64, bytes: u64, now: Stamp) -> Stamp {
        self.busy_until = self.busy_until.max(now) + time_for(bytes, rate);
        self.busy_until
    }
}

/// How long `bytes` take.
pub(super) const fn time_for(bytes: u64, rate: NonZeroU64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(NANOS) / rate.get())
}

/// The video that is under the link, or the status of an answer that there is none.
fn find(settings: &Settings, asked: &Asked<'_>, now: UnixMillis) -> Result<Video, u16> {
    let name = asked.name.strip_suffix(".mp4").ok_or(404u16)?;
    let (task_id, part) = name.split_once('.').unwrap_or((name, "1"));
    let task = Task::decode(settings.seed, task_id).filter(|task| task.has_made(now)).ok_or(404u16)?;
    let id = VideoId { request: task.request, nth: task.nth, part: part.parse().map_err(|_| 404u16)? };
    if asked.signature != Some(signature(settings.seed, id, asked.expires).as_str()) {
        return Err(403);
    }
    if asked.expires.is_some_and(|expires| now.0 >= expires) {
        return Err(VideoFaults::gone(settings.seed, id));
    }
    Ok(Video::of(settings.seed, id, &settings.video_bytes))
}

fn signature(seed: u64, id: VideoId, expires: Option<i64>) -> String {
    let VideoId { request, nth, part } = id;
    let expires = expires.map_or(0, |at| u64::from_ne_bytes(at.to_ne_bytes()));
    format!("{:016x}", mix(&[seed, SIGNED, request.0, u64::from(nth), u64::from(part), expires]))
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    /// Everything: it is no range of bytes, or several.
    Whole,
    Part {
        from: u64,
        to: u64,
    },
    /// Nothing that is there.
    None,
}

fn read_range(header: &str, length: u64) -> Range {
    let Some((first, last)) = header.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(from), Ok(last)) if from <= last && from < length => {
            Range::Part { from, to: last.saturating_add(1).min(length) }
        }
        (Ok(from), Err(_)) if last.trim().is_empty() && from < length => Range::Part { from, to: length },
        (Err(_), Ok(count)) if first.trim().is_empty() && count > 0 => {
            Range::Part { from: length.saturating_sub(count), to: length }
        }
        (Ok(from), _) if from >= length => Range::None,
        (Err(_), Ok(0)) if first.trim().is_empty() => Range::None,
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |from, to| Range::Part { from, to };
        for (header, range) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 100)),
            ("bytes=40-49", part(40, 50)),
            ("bytes=99-500", part(99, 100)),
            ("bytes=-10", part(90, 100)),
            ("bytes=-500", part(0, 100)),
            ("bytes=100-", Range::None),
            ("bytes=100-200", Range::None),
            ("bytes=-0", Range::None),
            ("bytes=9-1", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("seconds=0-1", Range::Whole),
            ("bytes=", Range::Whole),
            ("bytes=a-b", Range::Whole),
        ] {
            assert_eq!(read_range(header, 100), range, "{header}");
        }
    }

    #[test]
    fn all_connections_together_send_no_faster_than_they_may() {
        let mut shelf = Shelf::default();
        let rate = NonZeroU64::new(1_000).unwrap();
        let at = |millis| Stamp::from_millis(millis);
        assert_eq!(shelf.queue(rate, 500, at(0)), at(500));
        assert_eq!(shelf.queue(rate, 500, at(0)), at(1_000));
        assert_eq!(shelf.queue(rate, 100, at(5_000)), at(5_100));
    }
}
