//! What a person sees of a run.

mod estimate;
pub mod wording;

pub use estimate::{Outlook, Pace, Work, estimate};
