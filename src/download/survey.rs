//! Whether what counts as saved at a place is still there, before anything is downloaded.
//!
//! What is gone, or shorter or longer than it was, no longer counts as saved and is fetched again. By
//! length that costs a look at each name, or a list of a bucket; by hash, a reading of everything in a
//! folder. What is in a folder and not whole makes way for what will be, and is kept.

#[cfg(feature = "bucket")]
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

#[cfg(feature = "bucket")]
use futures::TryStreamExt as _;

use super::DownloadError;
use super::folder::Folder;
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
                Look::Lengths => inventory.find(&video.file),
                Look::Hashes => {
                    let SavedFile { path, bytes, sha256 } = &video.file;
                    place.find(path, Content { bytes: *bytes, sha256: *sha256 }).await?
                }
            };
            match found {
                Found::Same if sidecars && !inventory.has(&sidecar_path(&video.file.path)) => {
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

/// What there is at a place: asked one by one in a folder, listed of a bucket, sixteen bytes for each
/// object.
#[derive(Debug)]
enum Inventory<'a> {
    Folder(&'a Folder),
    #[cfg(feature = "bucket")]
    Bucket {
        names: HashSet<u64>,
        lengths: HashSet<u64>,
    },
}

impl<'a> Inventory<'a> {
    #[cfg_attr(
        not(feature = "bucket"),
        expect(clippy::unused_async, reason = "a bucket is asked for its list")
    )]
    async fn of(place: &'a Place) -> Result<Self, PlaceError> {
        match place {
            Place::Folder(folder) => Ok(Self::Folder(folder)),
            #[cfg(feature = "bucket")]
            Place::Bucket(bucket) => {
                let (mut names, mut lengths) = (HashSet::new(), HashSet::new());
                let mut objects = std::pin::pin!(bucket.objects());
                while let Some(object) = objects.try_next().await? {
                    names.insert(short(&object.path, None));
                    lengths.insert(short(&object.path, Some(object.bytes)));
                }
                Ok(Self::Bucket { names, lengths })
            }
        }
    }

    /// A file of the same name and length is taken for the same.
    fn find(&self, file: &SavedFile) -> Found {
        match self {
            Self::Folder(folder) => match fs::metadata(Path::new(folder.address()).join(&file.path)) {
                Ok(found) if found.is_file() && found.len() == file.bytes => Found::Same,
                Ok(_) => Found::Other,
                Err(error) if is_absence(&error) => Found::Nothing,
                // It is not fetched again because nobody may look at it.
                Err(_) => Found::Same,
            },
            #[cfg(feature = "bucket")]
            Self::Bucket { lengths, .. } if lengths.contains(&short(&file.path, Some(file.bytes))) => {
                Found::Same
            }
            #[cfg(feature = "bucket")]
            Self::Bucket { .. } if self.has(&file.path) => Found::Other,
            #[cfg(feature = "bucket")]
            Self::Bucket { .. } => Found::Nothing,
        }
    }

    fn has(&self, path: &str) -> bool {
        match self {
            Self::Folder(folder) => {
                let found = Path::new(folder.address()).join(path).symlink_metadata();
                !found.is_err_and(|error| is_absence(&error))
            }
            #[cfg(feature = "bucket")]
            Self::Bucket { names, .. } => names.contains(&short(path, None)),
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
