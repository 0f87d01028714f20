//! Whatever a sheet, an answer, a file name or an argument holds: nothing of it moves a cursor,
//! colours a line or turns the direction of text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "answers come from a hostile service here")]
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use support::{Ended, Folder};

/// An escape sequence, the bell, a one-byte sequence, DEL, and what turns text around.
const HOSTILE: &str = "\u{1b}[31m\u{7}\u{9b}2J\u{7f}\u{202e}\u{202a}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}";

/// What a terminal would act on in `text`.
fn acting(text: &str) -> Vec<char> {
    let direction = |c| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    let mark = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}');
    text.chars().filter(|&c| c != '\n' && (c.is_control() || direction(c) || mark(c))).collect()
}

fn told_harmlessly(ended: &Ended) -> String {
    let all = ended.stdout() + &ended.stderr();
    assert!(acting(&all).is_empty(), "{:?} in {all:?}", acting(&all));
    all
}

#[test]
fn hostile_sheets_names_and_arguments() {
    let folder = Folder::new();
    let sheet = format!("p{HOSTILE}.csv");
    let column = format!("note{HOSTILE}");
    let cell = format!("x{HOSTILE}");
    // Every cell that a message may repeat, and a header that is repeated when a column is missing.
    let mut text =
        format!("prompt,id,type,mode,aspect_ratio,image_urls,seed,samples,provider,\"{column}\"\n");
    for place in 1..9 {
        let cells: Vec<_> = (0..10).map(|at| if at == place { cell.as_str() } else { "" }).collect();
        text.push_str("a cat");
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text.push_str("a cat,same\u{202e},,,,,,,,\na cat,same\u{202e},,,,,,,,\na dog,two\nlines\n");
    folder.write(&sheet, &text);
    let check = folder.run(&format!("check {sheet}"), &[]);
    assert_eq!(check.code(), Some(2));
    let told = told_harmlessly(&check);
    assert!(told.contains("column mode: `x [31m 2J`") && told.contains("is also the id of"), "{told}");
    let json = folder.run(&format!("check {sheet} --json"), &[]);
    serde_json::from_str::<serde_json::Value>(&json.stdout()).unwrap();
    told_harmlessly(&json);

    let rehearse = format!("run {sheet} --simulate --time-scale max --skip-invalid -vvv");
    for (line, code, words) in [
        (rehearse.clone(), 0, "reported as invalid"),
        (format!("run {sheet} --simulate"), 2, "Nothing was bought"),
        (format!("run {sheet} --simulate --skip-invalid --where {cell}=1"), 2, "no column"),
        (format!("run {sheet} --simulate --where {cell}"), 2, "is not column=value"),
        (format!("run {sheet} --simulate --mode {cell}"), 2, "invalid value"),
        (format!("run {sheet} --{cell}"), 2, "unexpected argument"),
        (cell.clone(), 2, "unrecognized subcommand"),
        (format!("check {sheet} --map prompt={cell}"), 2, "no such column"),
        (format!("check {sheet} --map {cell}=prompt"), 2, "is not a field"),
        (format!("check {cell}.csv"), 2, "No such file"),
        (format!("check {cell}.xyz"), 2, "--format"),
        (format!("status {cell}.csv"), 2, "has not been run"),
        (format!("status {sheet}"), 2, "only been rehearsed"),
        (format!("status {sheet}.simulated.batchveo.db"), 0, "sample"),
        (format!("status {sheet}.simulated.batchveo.db --json"), 0, "samples"),
        (format!("export {sheet}.simulated.batchveo.db -o {cell}.out.csv"), 0, "Wrote"),
        (format!("export {sheet}.simulated.batchveo.db -o {cell}.out.csv"), 2, "exists"),
        (format!("export {sheet}.simulated.batchveo.db -o {cell}.as.csv --as-manifest"), 0, "Wrote"),
        (format!("example {cell}.csv"), 0, "Wrote"),
        (format!("run {sheet} --api-key-file {cell}"), 2, "No such file"),
    ] {
        let ended = folder.run(&line, &[]);
        let told = told_harmlessly(&ended);
        assert!(ended.code() == Some(code) || (code == 0 && ended.code() == Some(1)), "{line:?}: {told}");
        assert!(told.contains(words), "{line:?}: {told}");
    }
    // Data is what it is.
    let data = folder.run(&format!("export {sheet}.simulated.batchveo.db -o -"), &[]);
    assert!(data.stdout().contains(&cell) && data.stderr().is_empty(), "{}", data.stderr());
}

/// Answers every request of one run, in JSON with hostile texts.
fn hostile_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut submissions = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 16 * 1024];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let (status, body) = if request.starts_with("POST") {
                submissions += 1;
                match submissions {
                    1 => (200, serde_json::json!({"code": 200, "data": {"taskId": "task\u{202e}\u{2066}1"}})),
                    2 => (
                        400,
                        serde_json::json!({"code": 400, "message": format!("prompt {HOSTILE} refused")}),
                    ),
                    _ => {
                        (500, serde_json::json!({"code": 500, "message": format!("broken {HOSTILE}\r\n\t")}))
                    }
                }
            } else if request.contains("statusTask") {
                let failed = serde_json::json!({
                    "state": "failed", "failCode": format!("CONTENT_VIOLATION{HOSTILE}"), "failMsg": format!("no {HOSTILE}"),
                });
                (200, serde_json::json!({"code": 200, "data": failed}))
            } else {
                (200, serde_json::json!({"code": 200, "data": 100}))
            };
            let body = body.to_string();
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
            // The client may be gone.
            let _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    url
}

#[test]
fn hostile_answers() {
    for progress in ["plain", "bar"] {
        let folder = Folder::new();
        folder.write("p.csv", "prompt\na\nb\nc\n");
        let line = format!(
            "run p.csv --base-url {} --time-scale 400 --paid-retries 0 -vvv --progress {progress} --summary s.json",
            hostile_service()
        );
        let run = folder.run(&line, &[("BATCHVEO_API_KEY", "k")]);
        assert_eq!(run.code(), Some(1), "{}", run.stderr());
        let told = told_harmlessly(&run);
        assert!(told.contains("no [31m 2J") && told.contains("broken [31m"), "{told}");
        let status = folder.run("status p.csv", &[]);
        assert!(told_harmlessly(&status).contains("in doubt"), "{}", status.stdout());
        let results = std::fs::read_to_string(folder.path("p.results.csv")).unwrap();
        assert!(results.contains("refused") && results.contains("broken"), "{results}");
        assert!(acting(&results.replace("task\u{202e}\u{2066}1", "")).is_empty(), "{results:?}");
        let summary = std::fs::read_to_string(folder.path("s.json")).unwrap();
        assert!(acting(&summary).is_empty(), "{summary:?}");
    }
}
