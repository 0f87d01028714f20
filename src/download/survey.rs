//! Whether what counts as saved at a place is still there, before anything is downloaded.
//!
//! What is gone, or shorter or longer than it was, no longer counts as saved and is fetched again. By
//! length that costs a look at each name, or a list of a bucket; by hash, a reading of everything in a
//! folder. What is in a folder and not whole makes way for what will be, and is kept.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

#[cfg(feature = "bucket")]
use futures::TryStreamExt as _;

use super::DownloadError;
use super::place::{Content, Found, Place, PlaceError};
use super::sidecar::sidecar_path;
use crate::store::{Files, PutBack, SavedFile};

/// Videos looked at between two writes to the state file.
const PAGE: usize = 512;

/// How closely saved videos are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// That they are there and as long as they were.
    #[default]
    Lengths,
    /// That they hold what they held.
    Hashes,
}

/// Looks at what counts as saved at `place`, and puts back what is not there or not whole, and, where
/// `sidecars` are wanted, what has none. Answers how many videos were lost.
///
/// # Errors
///
/// The place or the state file cannot be read, or what is in the way not be moved.
pub(super) async fn survey(
    place: &Place,
    files: &mut Files,
    look: Look,
    sidecars: bool,
) -> Result<u64, DownloadError> {
    let (mut lost, mut end) = (0, None);
    let mut inventory = None;
    loop {
        let saved = files.saved_after(end.as_ref(), PAGE)?;
        let Some(newest) = saved.last() else { return Ok(lost) };
        end = Some(newest.clone());
        let inventory = match &inventory {
            Some(inventory) => inventory,
            None => inventory.insert(Inventory::of(place).await?),
        };
        let mut back = Vec::new();
        for video in saved {
            let found = match look {
                Look::Lengths => inventory.find(place, &video.file),
                Look::Hashes => {
                    let SavedFile { path, bytes, sha256 } = &video.file;
                    place.find(path, Content { bytes: *bytes, sha256: *sha256 }).await?
                }
            };
            match found {
                Found::Same if sidecars && !inventory.has(place, &sidecar_path(&video.file.path)) => {
                    back.push((video, PutBack::Undescribed));
                }
                Found::Same => {}
                Found::Nothing | Found::Other => {
                    if let (Found::Other, Place::Folder(folder)) = (found, place) {
                        folder.set_aside(&video.file.path)?;
                    }
                    lost += 1;
                    back.push((video, PutBack::Lost));
                }
            }
        }
        files.put_back(&back)?;
        // Whoever wants it to stop is heard between two pages.
        tokio::task::yield_now().await;
    }
}

/// What there is at a place, as far as that is not asked one by one: sixteen bytes for each object of a
/// bucket.
#[derive(Debug, Default)]
struct Inventory {
    names: HashSet<u64>,
    lengths: HashSet<u64>,
}

impl Inventory {
    async fn of(place: &Place) -> Result<Self, PlaceError> {
        match place {
            Place::Folder(_) => Ok(Self::default()),
            #[cfg(feature = "bucket")]
            Place::Bucket(bucket) => {
                let mut inventory = Self::default();
                let mut objects = std::pin::pin!(bucket.objects());
                while let Some(object) = objects.try_next().await? {
                    inventory.names.insert(short(&object.path, None));
                    inventory.lengths.insert(short(&object.path, Some(object.bytes)));
                }
                Ok(inventory)
            }
        }
    }

    /// A file of the same name and length is taken for the same.
    fn find(&self, place: &Place, file: &SavedFile) -> Found {
        match place {
            Place::Folder(folder) => match fs::metadata(Path::new(folder.address()).join(&file.path)) {
                Ok(found) if found.is_file() && found.len() == file.bytes => Found::Same,
                Ok(_) => Found::Other,
                Err(error) if is_absence(&error) => Found::Nothing,
                // It is not fetched again because nobody may look at it.
                Err(_) => Found::Same,
            },
            #[cfg(feature = "bucket")]
            Place::Bucket(_) if self.lengths.contains(&short(&file.path, Some(file.bytes))) => Found::Same,
            #[cfg(feature = "bucket")]
            Place::Bucket(_) if self.has(place, &file.path) => Found::Other,
            #[cfg(feature = "bucket")]
            Place::Bucket(_) => Found::Nothing,
        }
    }

    fn has(&self, place: &Place, path: &str) -> bool {
        match place {
            Place::Folder(folder) => {
                let found = Path::new(folder.address()).join(path).symlink_metadata();
                !found.is_err_and(|error| is_absence(&error))
            }
            #[cfg(feature = "bucket")]
            Place::Bucket(_) => self.names.contains(&short(path, None)),
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Enough of a hash to tell names apart, or names with their lengths.
#[cfg(feature = "bucket")]
fn short(path: &str, length: Option<u64>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_bytes());
    if let Some(length) = length {
        hasher.update(&[0]).update(&length.to_le_bytes());
    }
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
