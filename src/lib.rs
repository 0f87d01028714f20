//! Rate-limited batch generation of Veo 3.1 videos: never over a limit, never paying twice, never
//! losing a row.
//!
//! A sheet of prompts goes in, every wanted video comes out as one result. [`batch::Batch`] is where
//! a program begins: it opens a state file, takes a sheet in, and runs it against anything that is a
//! [`api::VideoApi`]. `examples/library.rs` does so in a page.
//!
//! The map, from the top; each module may use those below it:
//!
//! | module | owns |
//! |---|---|
//! | [`batch`] | one sheet's way from its state file to its results |
//! | [`download`] | videos from their links to a folder or a bucket |
//! | [`engine`] | the loop: events in, decisions by the core, commits, deeds |
//! | [`report`] | what a person or a program sees of a run |
//! | [`results`] | results as a projection of the state |
//! | [`store`] | the state file: import, queue, commits, restore, queries |
//! | [`names`] | what a video is called: templates, and what file systems take |
//! | [`manifest`] | rows out of sheets; a bad row is data with a position |
//! | [`simulator`] | a model of the API with a strict judge, in memory and over HTTP |
//! | [`callback`] | the addresses at which the API tells that a task has ended, and what it says there |
//! | [`images`] | images, looked at once before money is spent on them |
//! | [`hosts`] | which hosts may be called for videos and images |
//! | [`veo`] | the API over HTTP; what an answer means, in one table |
//! | [`event`] | what a run tells whoever listens |
//! | [`schedule`] | every decision, and no I/O: the pure core |
//! | [`api`] | what the engine asks of a video API, and what is safe to repeat |
//! | [`clock`] | real, scaled or virtual time |
//! | [`generation`] | a request that cannot break a rule of the API |
//! | [`job`] | the vocabulary |
//! | [`harmless`] | text from outside, so that a terminal only shows it |

pub mod api;
pub mod batch;
pub mod callback;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod download;
pub mod engine;
pub mod event;
pub mod generation;
pub mod harmless;
pub mod hosts;
pub mod images;
pub mod job;
pub mod manifest;
pub mod names;
pub mod report;
pub mod results;
pub mod schedule;
pub mod simulator;
pub mod store;
pub mod veo;
