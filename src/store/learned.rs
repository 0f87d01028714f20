//! What a run has learned of how long tasks take, kept for the next.
//!
//! Worth having and no more than that: a file without it, or with one that cannot be read, is as good
//! as one of a first run.

use super::{Store, StoreError, meta, set_meta};
use crate::schedule::cadence::Learned;

const NAME: &str = "learned";

impl Store {
    /// What was learned last, if anything was and it can be read.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        let text: Option<String> = meta(&self.connection, NAME).ok()?;
        serde_json::from_str(&text?).ok()
    }

    /// Keeps what was learned, in the place of what was there.
    ///
    /// # Errors
    ///
    /// When the database fails. What is paid for is not touched by it.
    pub fn keep_learned(&mut self, learned: &Learned) -> Result<(), StoreError> {
        Ok(set_meta(&self.connection, NAME, serde_json::to_string(learned)?)?)
    }
}
