//! The room that the videos of a sheet need, beside what is free.

use std::path::Path;

use serde::Serialize;

use crate::download::Destination;
use crate::generation::Mode;
use crate::names::nearest_folder;
use crate::store::PlanLine;

/// Bytes of a video in quality mode, as assumed: the vendor does not say, and 8 seconds in 1080p have
/// some 10 Mbit/s.
const QUALITY: u64 = 12_000_000;
/// The same in fast mode.
const FAST: u64 = 6_000_000;

/// Room, needed and free.
#[derive(Debug, Serialize)]
pub(super) struct Disk {
    pub(super) destination: String,
    pub(super) needed_bytes: u64,
    /// What a video was taken for, by mode.
    pub(super) bytes_per_video: BytesPerVideo,
    /// What is free at the destination; not known of a bucket.
    pub(super) free_bytes: Option<u64>,
}

/// Assumed sizes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct BytesPerVideo {
    pub(super) quality: u64,
    pub(super) fast: u64,
    /// Whether nobody knows: these are not the sizes of videos that were saved.
    pub(super) assumed: bool,
}

impl Disk {
    /// What the samples of a plan need at `destination`, if videos have the size `saved` in the mean.
    pub(super) fn of(lines: &[PlanLine], destination: &Path, saved: Option<u64>) -> Self {
        let bytes_per_video =
            saved.map_or(BytesPerVideo { quality: QUALITY, fast: FAST, assumed: true }, |mean| {
                BytesPerVideo { quality: mean, fast: mean, assumed: false }
            });
        let size = |mode| match mode {
            Mode::Quality => bytes_per_video.quality,
            Mode::Fast => bytes_per_video.fast,
        };
        let needed = lines.iter().map(|line| line.samples.saturating_mul(size(line.mode)));
        let named = destination.to_str().map(str::parse::<Destination>);
        let is_bucket = matches!(named, Some(Ok(Destination::Bucket { .. })));
        let free = || fs4::available_space(nearest_folder(destination).ok()?).ok();
        Self {
            destination: destination.display().to_string(),
            needed_bytes: needed.fold(0, u64::saturating_add),
            bytes_per_video,
            free_bytes: if is_bucket { None } else { free() },
        }
    }

    /// Whether less is free than is needed.
    pub(super) fn is_short(&self) -> bool {
        self.free_bytes.is_some_and(|free| free < self.needed_bytes)
    }
}
