//! What a video is, in a JSON file beside it: what was asked for, and what came of it.
//!
//! It follows from the state file alone and says nothing of when it was written, so that written again
//! it is the same file.

use serde::Serialize;

use crate::generation::{Draft, Generation};
use crate::harmless;
use crate::job::{UnixMillis, Usd};
use crate::report::wording::hex;
use crate::store::{Particulars, SavedFile};

/// What is told of a video.
#[derive(Debug, Serialize)]
struct Sidecar<'a> {
    file: &'a str,
    bytes: u64,
    sha256: String,
    url: &'a str,
    request: Option<&'a Draft>,
    id: Option<&'a str>,
    /// The row's line in its sheet.
    line: u64,
    sample: u32,
    task_id: Option<&'a str>,
    submitted_at: Option<String>,
    completed_at: Option<String>,
    generation_seconds: Option<f64>,
    attempts: u32,
    /// What all attempts at the sample cost.
    cost_usd: Usd,
    batchveo: &'static str,
}

/// The name of the sidecar of the video at `path`: the same with `.json` for its extension.
#[must_use]
pub fn sidecar_path(path: &str) -> String {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    format!("{stem}.json")
}

/// The text of the sidecar of `file`, a video of that sample from `url`.
///
/// # Errors
///
/// When it cannot be serialised.
pub fn sidecar(sample: &Particulars, url: &str, file: &SavedFile) -> serde_json::Result<String> {
    let Particulars { id, generation, result } = sample;
    let told = Sidecar {
        file: file.path.rsplit('/').next().unwrap_or(&file.path),
        bytes: file.bytes,
        sha256: hex(&file.sha256),
        url,
        request: generation.as_ref().map(Generation::draft),
        id: id.as_deref(),
        line: result.line,
        sample: result.index,
        task_id: result.task.as_deref(),
        submitted_at: result.submitted.map(UnixMillis::to_rfc3339),
        completed_at: result.completed.map(UnixMillis::to_rfc3339),
        generation_seconds: result.generation_time.map(|span| span.as_secs_f64()),
        attempts: result.attempts,
        cost_usd: result.cost,
        batchveo: env!("CARGO_PKG_VERSION"),
    };
    let mut text = harmless::json(&told)?;
    text.push('\n');
    Ok(text)
}

/// Whether `text` is a sidecar of a video of `task`.
#[must_use]
pub(super) fn is_of(text: &[u8], task: &str) -> bool {
    let told: Option<serde_json::Value> = serde_json::from_slice(text).ok();
    told.is_some_and(|told| told["task_id"] == task && told["batchveo"].is_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{AspectRatio, GenerationType, Mode};
    use crate::job::{SampleId, Status};
    use crate::store::ResultRow;
    use std::time::Duration;

    #[test]
    fn a_sidecar_tells_all() {
        let draft = Draft {
            prompt: "A cat\u{202e}, asleep".to_owned(),
            generation_type: GenerationType::Text,
            mode: Mode::Fast,
            aspect_ratio: AspectRatio::Landscape,
            image_urls: Vec::new(),
            seed: Some(7),
            watermark: None,
            provider: None,
        };
        let result = ResultRow {
            sample: SampleId(4),
            line: 12,
            index: 1,
            fields: Vec::new(),
            removed: false,
            status: Status::Succeeded,
            task: Some("task_1".to_owned()),
            urls: vec!["https://v.example/1.mp4".to_owned()],
            files: Vec::new(),
            failure: None,
            attempts: 2,
            cost: Usd::from_cents(40),
            submitted: Some(UnixMillis(1_700_000_000_000)),
            completed: Some(UnixMillis(1_700_000_093_500)),
            generation_time: Some(Duration::from_millis(93_500)),
        };
        let sample =
            Particulars { id: Some("c-1".to_owned()), generation: Some(draft.check().unwrap()), result };
        let file = SavedFile { path: "cats/c-1.mp4".to_owned(), bytes: 5, sha256: [0xab; 32] };
        let text = sidecar(&sample, "https://v.example/1.mp4", &file).unwrap();
        assert!(is_of(text.as_bytes(), "task_1") && !is_of(text.as_bytes(), "task_2"), "{text}");
        assert!(!is_of(b"{\"task_id\": \"task_1\"}", "task_1") && !is_of(b"mine", "task_1"));
        insta::assert_snapshot!(text);
        assert_eq!(sidecar_path("cats.v2/c-1.mp4"), "cats.v2/c-1.json");
        assert_eq!(sidecar_path("c-1.2.webm"), "c-1.2.json");
    }
}
