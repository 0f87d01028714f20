//! PURE.
mod protocol;
pub use protocol::*;
