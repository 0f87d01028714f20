//! Rate-limited batch generation of Veo 3.1 videos.
pub mod api;
pub mod batch;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod engine;
pub mod event;
pub mod generation;
pub mod job;
pub mod manifest;
pub mod report;
pub mod results;
pub mod schedule;
pub mod simulator;
pub mod store;
pub mod veo;
