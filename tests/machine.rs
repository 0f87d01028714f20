//! What the machine does to a run, and the run to its promises: full disks, folders that cannot be
//! written, signals, readers that go away, sleep.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod support;

#[cfg(target_os = "linux")]
#[path = "machine/case_folding.rs"]
mod case_folding;
#[cfg(target_os = "linux")]
#[path = "machine/disk.rs"]
mod disk;
#[cfg(unix)]
#[path = "machine/folders.rs"]
mod folders;
#[path = "machine/shares.rs"]
mod shares;
#[cfg(unix)]
#[path = "machine/signals.rs"]
mod signals;
#[cfg(unix)]
#[path = "machine/streams.rs"]
mod streams;

use std::io::Write;
use std::process::{Child, Command, Stdio};

use support::{Folder, Server};

const KEYED: [(&str, &str); 1] = [("BATCHVEO_API_KEY", "any")];

/// A run of `p.csv` against `server`, whose time is as fast.
fn against(server: &Server, time_scale: u32, rest: &str) -> String {
    let url = server.url();
    format!("run p.csv --mode fast --base-url {url} --time-scale {time_scale} --progress none {rest}")
}

/// Says that a test is skipped, past the harness, which shows nothing of a test that passes.
#[cfg(unix)]
#[expect(clippy::explicit_write, reason = "the harness captures what the macro prints")]
fn skipped(why: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
}

/// A process of ours, killed when it is dropped, that writes its standard error to `stderr.txt`.
struct Noted(Child);

impl Noted {
    fn start(folder: &Folder, line: &str) -> Self {
        let notes = std::fs::File::create(folder.path("stderr.txt")).unwrap();
        let child = folder.command(line, &KEYED).stdout(Stdio::null()).stderr(notes).spawn();
        Self(child.unwrap())
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// How it ended, and what it wrote.
    fn end(mut self, folder: &Folder) -> (Option<i32>, String) {
        let code = self.0.wait().unwrap().code();
        (code, std::fs::read_to_string(folder.path("stderr.txt")).unwrap())
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a state file stands.
fn status(folder: &Folder, state: &str) -> serde_json::Value {
    let status = folder.run(&format!("status {state} --json"), &[]);
    serde_json::from_str(&status.stdout()).unwrap_or_else(|_| panic!("{}", status.stderr()))
}
