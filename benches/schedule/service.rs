//! The service that both sides ask: what it answers, and how long that takes.
//!
//! A task is done at a look whose number goes by its row, from the first to the thirteenth: about
//! two minutes by the vendor's schedule. So however a limiter shifts the looks, the requests are the same.

use std::time::Duration;

use batchveo::api::{Polled, Stage, Submitted};
use batchveo::job::{SampleId, TaskId, Video};

/// Looks at the task of `row`, the one that finds it done included.
fn looks(row: SampleId) -> u64 {
    let z = row.0.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) % 13 + 1
}

/// From a request to its answer, whatever is asked: so answers come in the order of their requests, one by
/// one as the limiter let those through.
pub(crate) const LATENCY: Duration = Duration::from_millis(140);

/// Answers a submission.
pub(crate) fn submit() -> Submitted {
    Submitted::Accepted(TaskId::new("task_0123456789abcdef").expect("an id"))
}

/// Answers a look, counted from 1.
pub(crate) fn look(row: SampleId, look: u64) -> Polled {
    if look < looks(row) {
        return Polled::Alive(Stage::Processing);
    }
    let urls = vec!["https://video.example/0123456789.mp4".to_owned()];
    Polled::Succeeded(Video { urls, created: None, completed: None })
}
