//! Rate-limited batch generation of Veo 3.1 videos.
pub mod api;
pub mod clock;
pub mod event;
pub mod generation;
pub mod job;
pub mod report;
pub mod schedule;
