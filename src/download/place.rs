//! A place for videos: what every kind of place must do, and the errors they share.
//!
//! A video comes in as a *draft*: begun or found begun, written piece by piece, and finished under
//! its name, whole or not at all. What is in the way of a name is never replaced. Matching on the
//! kind of place happens here and nowhere else.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

#[cfg(feature = "bucket")]
use super::bucket::Bucket;
#[cfg(feature = "bucket")]
use super::bucket_draft;
use super::destination::Destination;
use super::folder::{self, Folder};

/// Bytes that are put and removed again to see whether there is room.
pub(super) const SOME_ROOM: &[u8] = &[0; 4096];

/// A longer file is no small one of ours, in bytes.
pub(super) const LONGEST_SMALL: usize = 1 << 20;

/// A place for videos.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder of this machine.
    Folder(Folder),
    /// A bucket of an S3-compatible service, or a part of one.
    #[cfg(feature = "bucket")]
    Bucket(Bucket),
}

/// What a draft is of. No two videos of any state file share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DraftId(String);

impl DraftId {
    /// The draft of one video of a task.
    #[must_use]
    pub fn new(state: &str, task: &str, part: u32) -> Self {
        let task = blake3::hash(task.as_bytes()).to_hex();
        Self(format!("{state}-{}-{part}", &task[..16]))
    }

    /// The id as the name of a file: letters, digits and hyphens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where the bytes of a draft come from. Kept with it, so that it is known later whether the rest may
/// be added to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A hash of the link, which may itself be a secret.
    pub link: String,
    /// The strong validator that the server gave: an entity tag, or the time of the last change.
    pub validator: Option<String>,
    /// How long the whole is, if the server said so.
    pub total: Option<u64>,
}

impl Origin {
    /// Whether the server gave a strong entity tag, which stands for these very bytes under any link; a
    /// time does not.
    pub(super) fn has_tag(&self) -> bool {
        self.validator.as_ref().is_some_and(|validator| validator.starts_with('"'))
    }
}

/// What a video is, to the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// The very video.
    Same,
    /// Something else.
    Other,
}

/// Why a place does not take a video.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is no room left: free some, and it goes on.
    #[error("no room is left in {place}: {error}")]
    Full {
        /// The place.
        place: String,
        /// What the system says.
        error: io::Error,
    },
    /// Something else is under the name.
    #[error("{path} is there already and is another file: move it away, or name another place with --to")]
    Taken {
        /// The file.
        path: String,
    },
    /// No video can be called so there.
    #[error("`{path}` cannot be the name of a file in {place}: name another place with --to")]
    NoName {
        /// The name.
        path: String,
        /// The place.
        place: String,
    },
    /// A link leads out of the place.
    #[error("{path} would lie outside of {place}: remove the link that leads there")]
    Outside {
        /// The name.
        path: String,
        /// The place.
        place: String,
    },
    /// What was named is no place for videos.
    #[error("{place} cannot be used: {why}")]
    Unusable {
        /// What was named.
        place: String,
        /// Why, and what to do.
        why: String,
    },
    /// Another process writes this very draft.
    #[error("{path} is being written by another process: wait for it to end")]
    InUse {
        /// The draft.
        path: String,
    },
    /// It failed in another way.
    #[error("{path}: {error}")]
    Io {
        /// What was being read or written.
        path: String,
        /// Why it failed.
        error: io::Error,
    },
}

impl PlaceError {
    /// Whether nothing can be kept before somebody makes room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Whether the same may well succeed a little later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::InUse { .. } => true,
            Self::Taken { .. } | Self::NoName { .. } | Self::Outside { .. } | Self::Unusable { .. } => false,
        }
    }
}

impl Place {
    /// The place that `destination` names: a folder, which is made if need be, or `s3://bucket/prefix`.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Unusable`] says why it is none.
    pub fn open(destination: &str) -> Result<Self, PlaceError> {
        match destination.parse()? {
            Destination::Folder(folder) => Folder::open(&folder).map(Self::Folder),
            #[cfg(feature = "bucket")]
            Destination::Bucket { .. } => Bucket::open(destination).map(Self::Bucket),
            #[cfg(not(feature = "bucket"))]
            Destination::Bucket { .. } => {
                let why =
                    "this program was built without buckets: build it with the feature `bucket`".to_owned();
                Err(PlaceError::Unusable { place: destination.to_owned(), why })
            }
        }
    }

    /// What the place is called in the state file: always the same for the same place.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Folder(folder) => folder.address(),
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.address(),
        }
    }

    /// Tries whether the place can be written, for the state file called `state`; nothing of it stays.
    ///
    /// # Errors
    ///
    /// Why not.
    pub async fn probe(&self, state: &str) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let _ = state;
                folder.probe().await
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.probe(state).await,
        }
    }

    /// Makes ready for downloads of the state file called `state` (the first part of its
    /// [`DraftId`]s), before the first draft is begun: what an earlier process left and no draft can
    /// go on with is cleared away.
    ///
    /// # Errors
    ///
    /// When the place cannot be written.
    pub async fn prepare(&self, state: &str) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let _ = state;
                folder.prepare().await
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.prepare(state).await,
        }
    }

    /// Begins a draft, or goes on with it.
    ///
    /// # Errors
    ///
    /// When the place cannot be written.
    pub async fn begin(&self, id: &DraftId) -> Result<Draft, PlaceError> {
        match self {
            Self::Folder(folder) => folder.begin(id).await.map(Draft::Folder),
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.begin(id).await.map(|draft| Draft::Bucket(Box::new(draft))),
        }
    }

    /// Looks whether there is room at all, with a few bytes that do not stay.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Full`], or when the place cannot be written.
    pub async fn look_for_room(&self, id: &DraftId) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let _ = id;
                folder.look_for_room().await
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.look_for_room(id).await,
        }
    }

    /// What is under `path`, a name with `/` between folders: `content`, or something else.
    ///
    /// # Errors
    ///
    /// When the place cannot be read; a name that leads out of it.
    pub async fn find(&self, path: &str, content: Content) -> Result<Found, PlaceError> {
        match self {
            Self::Folder(folder) => folder.find(path, content).await,
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.find(path, content).await,
        }
    }

    /// Puts a small file beside the videos, as [`Place::put`], also in place of one that `is_ours`.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Taken`] if something else is there; when the place cannot be written.
    pub async fn put_over(
        &self,
        path: &str,
        text: Bytes,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Result<(), PlaceError> {
        let put = self.put(path, text.clone()).await;
        if !matches!(put, Err(PlaceError::Taken { .. })) {
            return put;
        }
        match self {
            Self::Folder(folder) => folder.replace_ours(path, text, is_ours).await,
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => {
                let mut old = Vec::new();
                let read = bucket.read(path, |piece| {
                    old.extend_from_slice(piece);
                    if old.len() > LONGEST_SMALL { Err(io::Error::other("too long")) } else { Ok(()) }
                });
                if !matches!(read.await, Ok(true)) || !is_ours(&old) {
                    return put;
                }
                bucket.replace(path, &mut &text[..]).await
            }
        }
    }

    /// Puts a small file beside the videos, whole and durable.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Taken`] if something else is there; when the place cannot be written.
    pub async fn put(&self, path: &str, text: Bytes) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => folder.put(path, text).await,
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => bucket.put(path, text).await,
        }
    }
}

/// A video on its way into a place. Dropped without a word it stays as it is, as after a crash.
#[derive(Debug)]
pub enum Draft {
    /// In a folder.
    Folder(folder::Draft),
    /// In a bucket.
    #[cfg(feature = "bucket")]
    Bucket(Box<bucket_draft::Draft>),
}

impl Draft {
    /// How many bytes are there already.
    #[must_use]
    pub fn have(&self) -> u64 {
        match self {
            Self::Folder(draft) => draft.have(),
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.have(),
        }
    }

    /// Where they come from; `None` if there are none.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Folder(draft) => draft.origin(),
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.origin(),
        }
    }

    /// A hash of the bytes that are there, to be gone on with.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn hash(&mut self) -> Result<Sha256, PlaceError> {
        match self {
            Self::Folder(draft) => draft.hash().await,
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => Ok(draft.hash()),
        }
    }

    /// The first bytes of the draft, at most `length` of them.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub async fn head(&mut self, length: usize) -> Result<Vec<u8>, PlaceError> {
        match self {
            Self::Folder(draft) => draft.head(length).await,
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => Ok(draft.head(length)),
        }
    }

    /// Begins anew with nothing, from `origin`.
    ///
    /// # Errors
    ///
    /// When the place cannot be written.
    pub async fn restart(&mut self, origin: Origin) -> Result<(), PlaceError> {
        match self {
            Self::Folder(draft) => draft.restart(origin).await,
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.restart(origin).await,
        }
    }

    /// Adds to its end.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Full`], or when the place cannot be written.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), PlaceError> {
        match self {
            Self::Folder(draft) => draft.write(&bytes).await,
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.write(bytes).await,
        }
    }

    /// Makes what is there durable, so that only [`Draft::finish`] is left to do.
    ///
    /// # Errors
    ///
    /// When the place cannot be written.
    pub async fn sync(&mut self) -> Result<(), PlaceError> {
        match self {
            Self::Folder(draft) => draft.sync().await,
            #[cfg(feature = "bucket")]
            Self::Bucket(_) => Ok(()),
        }
    }

    /// Gives it its name, whole and durable. It holds `content`.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Taken`] if something is there; when the place cannot be written. The draft then
    /// stays, where the place can keep one.
    pub async fn finish(self, path: &str, content: Content) -> Result<(), PlaceError> {
        match self {
            Self::Folder(draft) => {
                let _ = content;
                draft.finish(path).await
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.finish(path, content).await,
        }
    }

    /// Leaves it to be gone on with later, where the place can keep it; else it is gone.
    ///
    /// # Errors
    ///
    /// When the place cannot be written.
    pub async fn suspend(self) -> Result<(), PlaceError> {
        match self {
            Self::Folder(draft) => draft.suspend().await,
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.abandon().await,
        }
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// When the place cannot be written.
    pub async fn abandon(self) -> Result<(), PlaceError> {
        match self {
            Self::Folder(draft) => draft.abandon().await,
            #[cfg(feature = "bucket")]
            Self::Bucket(draft) => draft.abandon().await,
        }
    }
}
