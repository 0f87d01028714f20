//! The Veo 3.1 task API over HTTP.

mod classify;
mod wire;

pub use wire::{Reply, encode_submission, read_balance, read_status, read_submission};
