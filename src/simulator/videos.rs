//! The videos that simulated tasks make: bytes that say themselves whether they are whole.
//!
//! A video is its name, and its bytes follow from that: they begin as an MP4 does, then say whose they
//! are and how many, then come from a generator that can begin anywhere. Nothing is stored, any range
//! costs what its bytes cost, and whoever holds a file can tell without the server that nothing of it
//! is missing, altered or another's.

use std::fmt;
use std::io::{self, Read};
use std::ops::RangeInclusive;

use super::fate::{mix, unit};
use super::request::RequestHash;

/// `ftyp`, with the brands that encoders of MP4 write; then `mdat`, to the end of the file.
const HEAD: &[u8; 40] = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\0\0\0\0mdat";
/// After [`HEAD`]: request (8 bytes), which of the same request (4), part (4), length (8).
const PREAMBLE: usize = HEAD.len() + 24;
/// What keeps the draw of a video's length apart from other draws about its task.
const LENGTH: u64 = 0x71de;

/// Which video: of all that a service makes, no two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VideoId {
    /// What was asked for.
    pub request: RequestHash,
    /// How many tasks of the same request came before.
    pub nth: u32,
    /// Which of the task's videos, counted from 1.
    pub part: u32,
}

impl fmt::Display for VideoId {
    /// Such as `0123456789abcdef-0`, and `0123456789abcdef-0.2` for a second part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, nth, part } = self;
        write!(f, "{request}-{nth}")?;
        if *part > 1 { write!(f, ".{part}") } else { Ok(()) }
    }
}

/// A video and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Video {
    pub(super) id: VideoId,
    /// In bytes; never less than [`Video::SHORTEST`].
    pub(super) length: u64,
}

impl Video {
    /// In bytes: what is known of a video, and nothing of its picture.
    pub(super) const SHORTEST: u64 = PREAMBLE as u64;

    /// The video of this name in a service of this `seed` whose videos are this long.
    pub(super) fn of(seed: u64, id: VideoId, lengths: &RangeInclusive<u64>) -> Self {
        let VideoId { request, nth, part } = id;
        let (least, most) = (*lengths.start(), *lengths.end());
        let draw = mix(&[seed, LENGTH, request.0, u64::from(nth), u64::from(part)]);
        Self { id, length: between(draw, least, most).max(Self::SHORTEST) }
    }

    /// What the bytes after the preamble hang on.
    fn stream(self) -> u64 {
        let VideoId { request, nth, part } = self.id;
        mix(&[request.0, u64::from(nth), u64::from(part), self.length])
    }

    /// A strong entity tag, with its quotes.
    pub(super) fn etag(self) -> String {
        format!("\"{:016x}\"", self.stream())
    }

    /// Writes the bytes from `offset` on into all of `bytes`, which must not reach beyond the end.
    pub(super) fn write(self, offset: u64, bytes: &mut [u8]) {
        let (stream, preamble) = (self.stream(), self.preamble());
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let word;
            let from = match usize::try_from(at).ok().and_then(|at| preamble.get(at..)) {
                Some(known) if !known.is_empty() => known,
                _ => {
                    word = mix(&[stream, at / 8]).to_le_bytes();
                    &word[(at % 8) as usize..]
                }
            };
            let count = from.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&from[..count]);
            rest = later;
            at += count as u64;
        }
    }

    fn preamble(self) -> [u8; PREAMBLE] {
        let mut bytes = [0; PREAMBLE];
        let VideoId { request, nth, part } = self.id;
        let parts: [&[u8]; 5] = [
            HEAD,
            &request.0.to_be_bytes(),
            &nth.to_be_bytes(),
            &part.to_be_bytes(),
            &self.length.to_be_bytes(),
        ];
        let mut at = 0;
        for part in parts {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        bytes
    }

    /// Whose bytes these say they are.
    fn named_by(preamble: &[u8; PREAMBLE]) -> Option<Self> {
        let rest = preamble.strip_prefix(HEAD)?;
        let (request, rest) = rest.split_first_chunk()?;
        let (nth, rest) = rest.split_first_chunk()?;
        let (part, rest) = rest.split_first_chunk()?;
        let (length, _) = rest.split_first_chunk()?;
        let id = VideoId {
            request: RequestHash(u64::from_be_bytes(*request)),
            nth: u32::from_be_bytes(*nth),
            part: u32::from_be_bytes(*part),
        };
        Some(Self { id, length: u64::from_be_bytes(*length) })
    }
}

/// The whole number between `least` and `most` that `bits` choose.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths of files are far below 2^53, and a share of them is one"
)]
pub(super) fn between(bits: u64, least: u64, most: u64) -> u64 {
    let room = most.saturating_sub(least).saturating_add(1);
    least + ((unit(bits) * room as f64) as u64).min(room - 1)
}

/// Lengths of videos: `200000..2000000` bytes, both included, or one number for all.
///
/// # Errors
///
/// What is wrong, in words.
pub fn video_bytes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|bytes| *bytes >= Video::SHORTEST);
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    number(least).zip(number(most)).filter(|(least, most)| least <= most).map_or_else(
        || {
            let shortest = Video::SHORTEST;
            Err(format!("`{text}` is no length: use bytes, such as 200000..2000000, from {shortest}"))
        },
        |(least, most)| Ok(least..=most),
    )
}

/// Which simulated video `file` holds: `None` unless it holds all of one and nothing else.
///
/// # Errors
///
/// The file cannot be read.
pub fn read_video(mut file: impl Read) -> io::Result<Option<VideoId>> {
    let mut preamble = [0; PREAMBLE];
    if let Err(error) = file.read_exact(&mut preamble) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let Some(video) = Video::named_by(&preamble) else { return Ok(None) };
    let (mut found, mut wanted) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut at = Video::SHORTEST;
    loop {
        let count = file.read(&mut found)?;
        if count == 0 {
            return Ok((at == video.length).then_some(video.id));
        }
        if count as u64 > video.length.saturating_sub(at) {
            return Ok(None);
        }
        video.write(at, &mut wanted[..count]);
        if found[..count] != wanted[..count] {
            return Ok(None);
        }
        at += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(video: Video) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(video.length).unwrap()];
        video.write(0, &mut bytes);
        bytes
    }

    fn video(request: u64, lengths: RangeInclusive<u64>) -> Video {
        Video::of(7, VideoId { request: RequestHash(request), nth: 1, part: 2 }, &lengths)
    }

    #[test]
    fn a_video_begins_as_an_mp4_does() {
        let bytes = whole(video(1, 1_000..=1_000));
        assert_eq!((bytes.len(), &bytes[4..12]), (1_000, &b"ftypisom"[..]));
        assert_eq!(bytes[36..40], *b"mdat");
        assert_eq!(video(1, 0..=0).length, Video::SHORTEST);
        assert_eq!(video(1, 5..=9).id.to_string(), "0000000000000001-1.2");
    }

    #[test]
    fn lengths_in_words() {
        for (text, lengths) in [("64", 64..=64), ("100..200", 100..=200), (" 70 .. 70 ", 70..=70)] {
            assert_eq!(video_bytes(text), Ok(lengths), "{text}");
        }
        for wrong in ["", "63", "200..100", "1..100", "a..b", "100..", "-5", "100..=200", "1e6"] {
            assert!(video_bytes(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_part_is_that_part_of_the_whole(request: u64, from in 0u64..900, length in 0usize..100) {
            let video = video(request, 1_000..=2_000);
            prop_assert!((1_000..=2_000).contains(&video.length));
            let mut part = vec![0; length];
            video.write(from, &mut part);
            let from = usize::try_from(from).unwrap();
            prop_assert_eq!(&part, &whole(video)[from..from + length]);
        }

        #[test]
        fn only_the_whole_is_whole(request: u64, place in 0usize..1_000, other: u8) {
            let video = video(request, 1_000..=1_000);
            let bytes = whole(video);
            prop_assert_eq!(read_video(&bytes[..]).unwrap(), Some(video.id));
            prop_assert_eq!(read_video(&bytes[..place]).unwrap(), None);
            prop_assert_eq!(read_video(&[&bytes[..], &[other]].concat()[..]).unwrap(), None);
            let mut altered = bytes.clone();
            altered[place] = other;
            prop_assert_eq!(read_video(&altered[..]).unwrap().is_some(), altered == bytes);
        }
    }
}
