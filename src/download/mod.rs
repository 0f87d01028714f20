//! Videos from their links to a place, beside a run or after it.
//!
//! [`Place`] is where they go.

#[cfg(feature = "bucket")]
mod bucket;
#[cfg(feature = "bucket")]
mod bucket_draft;
mod folder;
mod listing;
mod place;
#[cfg(feature = "bucket")]
mod s3_words;
mod sums;
mod verify;

#[cfg(feature = "bucket")]
pub use bucket::{Bucket, Object};
pub use folder::Folder;
pub use listing::ListingError;
pub use place::{Content, Draft, DraftId, Found, Origin, Place, PlaceError};
pub use sums::{SUMS, Sum};
pub use verify::{Finding, Verified, verify};
