//! What a request costs over HTTP: processor time of the whole program, beside a bare reqwest loop.
//!
//! `cargo bench --bench http`. The real `batchveo run` buys [`ROWS`] videos from the real `batchveo
//! simulate` on loopback, ten times as fast as life; what it costs is the processor time of its whole
//! process (start, import, decisions, state file, results) by its requests. Then a process that does
//! nothing but send as many submissions and looks with reqwest, and read the answers as JSON, does so
//! against another such server. The last line is the ratio. The server's own time is in neither.
//!
//! Processor time is read from /proc, so that elsewhere than on Linux this says so and ends.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod bare;
mod process;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use process::{Server, cpu_of};

/// Rows, all of which are alive at once.
const ROWS: usize = 1_500;

/// What the account allows here: more than is used, so that nobody waits.
const LIMITS: &str = "--rpm 1000000 --concurrency 2000 --time-scale 10";

/// Requests, and microseconds of processor time each.
#[derive(Debug, Clone, Copy)]
struct Cost {
    requests: u64,
    micros: f64,
}

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    fn new(requests: u64, micros: u64) -> Self {
        Self { requests, micros: micros as f64 / requests as f64 }
    }
}

/// A run of the whole program.
fn whole_program() -> Cost {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sheet = String::from("id,prompt,mode\n");
    for row in 0..ROWS {
        let _ = writeln!(sheet, "row-{row},\"{}\",fast", prompt(row));
    }
    fs::write(folder.path().join("p.csv"), sheet).expect("a sheet");
    let server = Server::start(folder.path(), LIMITS);
    let line = format!("run p.csv --yes --poll fixed:30s,4s --progress none --summary s.json {LIMITS}");
    let mut command = process::batchveo(folder.path(), &line);
    command.env("BATCHVEO_API_KEY", "any").env("BATCHVEO_BASE_URL", server.url());
    let micros = cpu_of(&mut command);
    let summary = fs::read_to_string(folder.path().join("s.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["counts"]["succeeded"], ROWS, "{summary}");
    Cost::new(summary["requests"].as_u64().expect("a count"), micros)
}

/// As many requests without the program.
fn bare(requests: u64) -> Cost {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path(), LIMITS);
    let mut command = Command::new(std::env::current_exe().expect("this bench"));
    command.args([bare::WORD, &server.url(), &requests.to_string()]);
    Cost::new(requests, cpu_of(&mut command))
}

/// The prompt of a row, which no other row has.
fn prompt(row: usize) -> String {
    format!("A quiet harbour at dawn, variant {row}, gulls over wet cobbles, a slow dolly along the quay")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, url, requests] = arguments.as_slice()
        && word == bare::WORD
    {
        return bare::run(url, requests.parse().expect("a number"));
    }
    // `cargo test --benches` only tries whether benches run.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    if !Path::new("/proc/self/stat").exists() {
        println!("processor time is read from /proc, which this system does not have: nothing measured");
        return;
    }
    let program = whole_program();
    let bare = bare(program.requests);
    println!(
        "batchveo run:      {:.1} µs of processor time a request, of {}",
        program.micros, program.requests
    );
    println!("bare reqwest loop: {:.1} µs of processor time a request, of {}", bare.micros, bare.requests);
    println!("whole program: {:.2} times the processor time of a bare loop", program.micros / bare.micros);
}
