//! What goes wrong with videos, as values, and which answer of the server each of it strikes.
//!
//! The same seed tells the same story here too: a fault is drawn from (seed, video, how often it had
//! been asked for), so that what is broken off once comes through later.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

use super::fate::{mix, unit};
use super::scenario_values::{Share, Span};
use super::videos::{VideoId, between, video_bytes};

/// How the videos are, and what goes wrong with them. The default is: as [`super::Settings`] says, and
/// nothing. Shares are of the answers that would have been bodies.
#[derive(Debug, Clone, PartialEq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct VideoFaults {
    /// How long videos are, in bytes.
    #[serde(deserialize_with = "lengths")]
    pub(super) bytes: Option<RangeInclusive<u64>>,
    /// Links of a task.
    #[serde(deserialize_with = "links")]
    pub(super) links: Option<NonZeroU32>,
    /// Share of bodies in which the connection breaks.
    #[serde(deserialize_with = "share")]
    pub(super) cut: f64,
    /// Share of bodies that are announced longer than they are.
    #[serde(deserialize_with = "share")]
    pub(super) wrong_length: f64,
    /// Share of bodies that stop in the middle, while the connection stays.
    #[serde(deserialize_with = "share")]
    pub(super) stall: f64,
    /// Share of answers that are a page, told as a success.
    #[serde(deserialize_with = "share")]
    pub(super) not_video: f64,
    /// Ranges are not served.
    pub(super) no_range: bool,
    /// Bytes a second of one connection, on the simulation's clock.
    pub(super) rate: Option<NonZeroU64>,
    /// Bytes a second of all connections together.
    pub(super) rate_in_all: Option<NonZeroU64>,
    /// How long a link lives.
    #[serde(deserialize_with = "span")]
    pub(super) expire: Option<Duration>,
}

/// Most links a task may be given.
const MOST_LINKS: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

fn lengths<'de, D: Deserializer<'de>>(text: D) -> Result<Option<RangeInclusive<u64>>, D::Error> {
    let text = String::deserialize(text)?;
    video_bytes(&text).map(Some).map_err(D::Error::custom)
}

fn links<'de, D: Deserializer<'de>>(number: D) -> Result<Option<NonZeroU32>, D::Error> {
    let links = NonZeroU32::deserialize(number)?;
    let told = || D::Error::invalid_value(Unexpected::Unsigned(links.get().into()), &"1 to 20 links");
    if links <= MOST_LINKS { Ok(Some(links)) } else { Err(told()) }
}

fn share<'de, D: Deserializer<'de>>(number: D) -> Result<f64, D::Error> {
    Share::deserialize(number).map(|Share(share)| share)
}

fn span<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Duration>, D::Error> {
    Span::deserialize(text).map(|Span(span)| Some(span))
}

/// What happens to one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// The connection breaks after so many bytes of the body.
    Cut { after: u64 },
    /// The body is announced with so many bytes more than it has.
    TooLong { by: u64 },
    /// Nothing comes after so many bytes, and the connection stays.
    Stall { after: u64 },
    /// A page comes instead.
    Page,
}

/// What a draw is for: apart from those of `fate` and of scenarios.
#[derive(Debug, Clone, Copy)]
enum Draw {
    Cut = 0xf11e,
    WrongLength,
    Stall,
    Page,
    Place,
    Gone,
}

impl VideoFaults {
    /// What both say; where both say it, what `self` says.
    pub(super) fn and(self, more: Self) -> Self {
        let share = |own: f64, other: f64| if own > 0.0 { own } else { other };
        Self {
            bytes: self.bytes.or(more.bytes),
            links: self.links.or(more.links),
            cut: share(self.cut, more.cut),
            wrong_length: share(self.wrong_length, more.wrong_length),
            stall: share(self.stall, more.stall),
            not_video: share(self.not_video, more.not_video),
            no_range: self.no_range || more.no_range,
            rate: self.rate.or(more.rate),
            rate_in_all: self.rate_in_all.or(more.rate_in_all),
            expire: self.expire.or(more.expire),
        }
    }

    /// What strikes the answer to the `nth` request for a video, whose body would be `length` long.
    pub(super) fn mishap(&self, seed: u64, id: VideoId, nth: u32, length: u64) -> Option<Mishap> {
        let draw = |draw: Draw| {
            let VideoId { request, nth: task, part } = id;
            mix(&[seed, draw as u64, request.0, u64::from(task), u64::from(part), u64::from(nth)])
        };
        let struck = |share: f64, what: Draw| share > 0.0 && unit(draw(what)) <= share;
        // The last byte never comes of a body that is broken off.
        let place = || between(draw(Draw::Place), 0, length.saturating_sub(1));
        if struck(self.not_video, Draw::Page) {
            Some(Mishap::Page)
        } else if struck(self.cut, Draw::Cut) {
            Some(Mishap::Cut { after: place() })
        } else if struck(self.stall, Draw::Stall) {
            Some(Mishap::Stall { after: place() })
        } else if struck(self.wrong_length, Draw::WrongLength) {
            Some(Mishap::TooLong { by: 1 + draw(Draw::Place) % 1_000 })
        } else {
            None
        }
    }

    /// How a link of this video that has died is told: services differ.
    pub(super) fn gone(seed: u64, id: VideoId) -> u16 {
        let draw = mix(&[seed, Draw::Gone as u64, id.request.0, u64::from(id.nth), u64::from(id.part)]);
        if draw.is_multiple_of(2) { 403 } else { 404 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::request::RequestHash;

    #[test]
    fn shares_are_kept_and_what_is_struck_once_comes_through_later() {
        let faults = VideoFaults { cut: 0.05, not_video: 0.02, ..VideoFaults::default() };
        let id = |request| VideoId { request: RequestHash(mix(&[request])), nth: 0, part: 1 };
        let (mut cut, mut pages, mut again) = (0, 0, 0);
        for request in 0..10_000 {
            match faults.mishap(3, id(request), 0, 500) {
                Some(Mishap::Cut { after }) => {
                    assert!(after < 500);
                    cut += 1;
                    again += u32::from(faults.mishap(3, id(request), 1, 500).is_some());
                }
                Some(Mishap::Page) => pages += 1,
                Some(mishap) => panic!("{mishap:?}"),
                None => {}
            }
        }
        // Five standard deviations each.
        assert!((380..600).contains(&cut) && (130..270).contains(&pages), "{cut} {pages}");
        assert!((5..80).contains(&again), "{again}");
        assert_eq!(VideoFaults::default().mishap(3, id(0), 0, 500), None);
    }

    #[test]
    fn of_two_scenarios_the_first_to_say_something_is_heard() {
        let slow = VideoFaults { rate: NonZeroU64::new(9), cut: 0.5, ..VideoFaults::default() };
        let other = VideoFaults { rate: NonZeroU64::new(1), no_range: true, ..VideoFaults::default() };
        let both = slow.clone().and(other);
        assert_eq!(both, VideoFaults { no_range: true, ..slow });
    }
}
