//! Videos from their links to a place, beside a run or after it.
//!
//! [`Place`] is where they go.

#[cfg(feature = "bucket")]
mod bucket;
#[cfg(feature = "bucket")]
mod bucket_draft;
mod folder;
mod place;
#[cfg(feature = "bucket")]
mod s3_words;

#[cfg(feature = "bucket")]
pub use bucket::{Bucket, Object};
pub use folder::Folder;
pub use place::{Content, Draft, DraftId, Found, Origin, Place, PlaceError};
