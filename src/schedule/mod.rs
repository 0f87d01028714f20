//! PURE.
pub mod cadence;
pub mod gate;
mod protocol;
pub mod retry;
mod timers;
pub use protocol::*;
