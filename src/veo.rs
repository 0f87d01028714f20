//! The wire of the Veo 3.1 task API.

use std::time::Duration;

/// An HTTP answer, as far as anything reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// How long the server asks us to wait.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}
