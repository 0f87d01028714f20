//! The binary in a folder of its own, and a simulator beside it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder where `batchveo` runs.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A sheet of `rows` rows with an id, a column of its own, and prompts that all differ.
    pub(crate) fn write_sheet(&self, name: &str, rows: usize) {
        let mut sheet = String::from("id,prompt,campaign\n");
        for row in 0..rows {
            writeln!(sheet, "row-{row},\"A harbour at dawn, take {row}\",spring").unwrap();
        }
        self.write(name, sheet);
    }

    /// `batchveo` with these words; the key `variables` holds, if any, is the only one.
    pub(crate) fn command(&self, line: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchveo"));
        command.args(line.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", self.0.path()).envs(variables.iter().copied());
        command
    }

    pub(crate) fn run(&self, line: &str, variables: &[(&str, &str)]) -> Ended {
        Ended(self.command(line, variables).output().unwrap())
    }

    /// Starts `batchveo` and leaves it running.
    pub(crate) fn start(&self, line: &str, variables: &[(&str, &str)]) -> Running {
        let child = self.command(line, variables).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Running(child.unwrap())
    }

    /// The rows of a results file, by column name.
    pub(crate) fn results(&self, name: &str) -> Vec<std::collections::HashMap<String, String>> {
        let mut reader = csv::Reader::from_path(self.path(name)).unwrap();
        reader.deserialize().map(Result::unwrap).collect()
    }

    /// Waits until the file called `name` holds `text`.
    pub(crate) fn wait_for_text(&self, name: &str, text: &str) {
        for _ in 0..2_000 {
            if fs::read_to_string(self.path(name)).is_ok_and(|found| found.contains(text)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{name} never holds {text}");
    }

    /// Whether any file here holds `text`.
    pub(crate) fn holds(&self, text: &str) -> Option<PathBuf> {
        holding(self.0.path(), text.as_bytes())
    }
}

fn holding(folder: &Path, text: &[u8]) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = if path.is_dir() {
            holding(&path, text)
        } else {
            let bytes = fs::read(&path).unwrap();
            bytes.windows(text.len()).any(|window| window == text).then_some(path)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// What a command that has ended printed, and how it ended.
pub(crate) struct Ended(Output);

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// A process of ours, killed when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The simulator over HTTP, on a port of its own.
pub(crate) struct Server {
    address: String,
    _process: Running,
}

impl Server {
    pub(crate) fn start(folder: &Folder, line: &str) -> Self {
        let line = format!("simulate --listen 127.0.0.1:0 {line}");
        let mut child = folder.command(&line, &[]).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut first).unwrap();
        let address = first.split("http://").nth(1).and_then(|rest| rest.split(';').next());
        Self { address: address.unwrap_or_else(|| panic!("{first}")).to_owned(), _process: Running(child) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the judge says.
    pub(crate) fn judge(&self) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET /judge HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }

    /// Waits until the judge has seen `count` of something; the process under test goes on meanwhile.
    pub(crate) fn wait_for(&self, what: &str, count: u64) {
        for _ in 0..2_000 {
            if self.judge()[what].as_u64().unwrap() >= count {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{what} stays below {count}: {}", self.judge());
    }
}
