//! The same requests without the program: reqwest, a loop, and nothing that remembers.

use futures::stream::{self, StreamExt as _};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::{ROWS, prompt};

/// What makes this bench the loop.
pub(crate) const WORD: &str = "bare-loop";

/// Requests under way at once, about as many as the program has.
const AT_ONCE: usize = 32;

/// Submits all rows, and looks at the tasks in turn until so many requests have been sent.
pub(crate) fn run(url: &str, requests: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::builder().no_proxy().build().expect("a client");
        let submissions = stream::iter(0..ROWS).map(|row| {
            let input = json!({
                "mode": "fast",
                "prompt": prompt(row),
                "generationType": "TEXT_2_VIDEO",
                "aspect_ratio": "16:9",
            });
            let body = json!({ "request_type": "async", "input": input }).to_string();
            let request = client.post(format!("{url}/api/v1/generateTask/veo-3-1"));
            answer(request.header("content-type", "application/json").body(body))
        });
        let task = |answer: Value| answer["data"]["taskId"].as_str().expect("a task").to_owned();
        let tasks: Vec<String> = submissions.buffer_unordered(AT_ONCE).map(task).collect().await;
        let looks = stream::iter(tasks.iter().cycle().take(requests - ROWS))
            .map(|task| answer(client.get(format!("{url}/api/v1/statusTask/veo-3-1?taskId={task}"))));
        let told = looks.buffer_unordered(AT_ONCE).filter(|answer| {
            let told = answer["data"]["state"].is_string();
            async move { told }
        });
        assert_eq!(told.count().await, requests - ROWS);
    });
}

async fn answer(request: RequestBuilder) -> Value {
    let response = request.bearer_auth("any").send().await.expect("an answer");
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}
