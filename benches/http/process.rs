//! Processes on loopback, and what they cost.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Microseconds in a tick of /proc, which on Linux is a hundredth of a second.
const TICK: u64 = 10_000;

/// `batchveo` with these words, in this folder and nobody else's surroundings.
pub(crate) fn batchveo(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchveo"));
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("HOME", folder);
    command
}

/// Runs it to its end; gives the microseconds of processor time it took, the system's included.
pub(crate) fn cpu_of(command: &mut Command) -> u64 {
    let before = children();
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (children() - before) * TICK
}

/// Ticks of all children that have been waited for.
fn children() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name before it may hold anything; the state after it is field 3, these are 16 and 17.
    let fields = stat.rsplit(')').next().expect("a name").split_whitespace();
    fields.skip(13).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The simulator over HTTP, on a port of its own, ended when it is dropped.
pub(crate) struct Server {
    url: String,
    process: Child,
}

impl Server {
    pub(crate) fn start(folder: &Path, line: &str) -> Self {
        let line = format!("simulate --listen 127.0.0.1:0 {line}");
        let mut process = batchveo(folder, &line).stderr(Stdio::piped()).spawn().expect("starts");
        let mut first = String::new();
        let mut lines = BufReader::new(process.stderr.take().expect("piped"));
        lines.read_line(&mut first).expect("a line");
        let url = first.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
        Self { url: url.trim_end_matches(';').to_owned(), process }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
