//! Videos from their links to a place, beside a run or after it.
//!
//! [`Place`] is where they go.

mod folder;
mod place;

pub use folder::Folder;
pub use place::{Content, Draft, DraftId, Found, Origin, Place, PlaceError};
