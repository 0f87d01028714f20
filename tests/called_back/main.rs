//! Callbacks from end to end: in virtual time with the simulator in memory, and over loopback with the
//! binary and the simulator's server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod late;
mod over_http;
mod proxy;
mod rehearsed;
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use batchveo::generation::Draft;
use batchveo::simulator::request_hash;
use serde_json::json;
use support::Folder;

/// The 1,649 real prompts where they are, or as many of our own; and the prompts by id.
fn sheet(folder: &Folder) -> HashMap<String, String> {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/chronomagic-1649.csv");
    if let Ok(sheet) = fs::read(real) {
        folder.write("p.csv", sheet);
    } else {
        let rows = (0..1_649).map(|row| format!("{row},A harbour at dawn take {row}\n"));
        folder.write("p.csv", format!("videoid,name\n{}", rows.collect::<String>()));
    }
    let mut reader = csv::Reader::from_path(folder.path("p.csv")).unwrap();
    let rows = reader.deserialize::<HashMap<String, String>>().map(Result::unwrap);
    rows.map(|row| (row["videoid"].clone(), row["name"].trim().to_owned())).collect()
}

/// Whether `task` is one that was made of `prompt`: the simulator's ids say what they are of.
fn is_of(task: &str, prompt: &str) -> bool {
    let draft = json!({ "prompt": prompt, "type": "TEXT_2_VIDEO", "mode": "fast", "aspect_ratio": "16:9" });
    let generation = serde_json::from_value::<Draft>(draft).unwrap().check().unwrap();
    task[38..54] == request_hash(&generation).to_string()
}

fn all_succeeded(folder: &Folder, rows: usize) -> Vec<HashMap<String, String>> {
    let results = folder.results("p.results.csv");
    assert_eq!(results.len(), rows);
    let tasks: HashSet<&str> = results.iter().map(|row| row["task_id"].as_str()).collect();
    assert_eq!(tasks.len(), rows, "a task of its own for each");
    for row in &results {
        assert_eq!(row["status"], "succeeded", "{row:?}");
        let (task, url) = (&row["task_id"], &row["video_url"]);
        let rehearsed = format!("https://simulated.invalid/{}", &task[38..54]);
        assert!(url.contains(&format!("/videos/{task}.mp4")) || url.starts_with(&rehearsed), "{row:?}");
    }
    results
}
