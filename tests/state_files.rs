//! State files that are not ours, not whole, or not where they can be used: each is told by name and
//! with its mend before anything is bought, and stays as it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "not every part of it is needed here")]
mod support;

use std::fs;
use std::path::PathBuf;

use support::{Ended, Folder, Server};

const STATE: &str = "p.csv.batchveo.db";
const KEYED: [(&str, &str); 1] = [("BATCHVEO_API_KEY", "a-key")];

/// A folder with a sheet of 60 rows, three of them bought from a server of its own.
struct Bought {
    folder: Folder,
    server: Server,
}

impl Bought {
    fn new() -> Self {
        let folder = Folder::new();
        folder.write_sheet("p.csv", 60);
        let server = Server::start(&folder, "--time-scale 400");
        let bought = Self { folder, server };
        let run = bought.run("--limit 3");
        assert_eq!(run.code(), Some(0), "{}", run.stderr());
        bought
    }

    fn line(&self, rest: &str) -> String {
        format!(
            "run p.csv --base-url {} --mode fast --time-scale 400 --progress none {rest}",
            self.server.url()
        )
    }

    fn run(&self, rest: &str) -> Ended {
        self.folder.run(&self.line(rest), &KEYED)
    }

    fn state(&self) -> PathBuf {
        self.folder.path(STATE)
    }

    fn submissions(&self) -> u64 {
        self.server.judge()["submissions"].as_u64().unwrap()
    }

    /// That a run refuses the state file, says `words` of it, buys nothing, and leaves all as it is.
    fn refuses(&self, words: &[&str]) {
        let files = || {
            let mut files: Vec<_> =
                fs::read_dir(self.folder.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
            // Who has it, and the memory that readers of a log share: nothing of the state is in these.
            files.retain(|path| !path.extension().is_some_and(|end| end == "lock" || end == "db-shm"));
            files.sort();
            files.into_iter().map(|path| (fs::read(&path).ok(), path)).collect::<Vec<_>>()
        };
        let (before, submissions) = (files(), self.submissions());
        for _ in 0..2 {
            let run = self.run("");
            let told = run.stderr();
            assert_eq!(run.code(), Some(2), "{told}");
            assert!(told.contains(STATE), "{told}");
            for words in words {
                assert!(told.contains(words), "no `{words}` in: {told}");
            }
        }
        assert_eq!(self.submissions(), submissions);
        let changed: Vec<_> =
            files().into_iter().filter(|file| !before.contains(file)).map(|(_, path)| path).collect();
        assert!(changed.is_empty() && files().len() == before.len(), "{changed:?}");
    }
}

#[test]
fn of_another_api_key_manifest_or_version() {
    let bought = Bought::new();
    let other = Server::start(&bought.folder, "--time-scale 400");
    let (url, other_url) = (bought.server.url(), other.url());
    let before = fs::read(bought.state()).unwrap();
    for (line, key, words) in [
        (bought.line("").replace(&url, &other_url), "a-key", format!("belongs to {url}, not to {other_url}")),
        (bought.line(""), "another", format!("belongs to another key of {url}")),
        (
            format!("run p.csv --simulate --state {STATE}"),
            "",
            format!("belongs to {url}, not to the simulator"),
        ),
    ] {
        let run = bought.folder.run(&line, &[("BATCHVEO_API_KEY", key)]);
        assert_eq!(run.code(), Some(2), "{}", run.stderr());
        assert!(run.stderr().contains(&words) && run.stderr().contains("--state"), "{}", run.stderr());
        assert_eq!(fs::read(bought.state()).unwrap(), before, "{line}");
    }
    // Another sheet: what was bought is not in it.
    bought.folder.write("q.csv", "prompt\nsomething else\n");
    let run = bought
        .folder
        .run(&bought.line(&format!("--state {STATE}")).replace("p.csv --base", "q.csv --base"), &KEYED);
    assert_eq!(run.code(), Some(2), "{}", run.stderr());
    assert!(
        run.stderr().contains("3 videos, $0.60") && run.stderr().contains("--accept-changes"),
        "{}",
        run.stderr()
    );
    assert_eq!((bought.submissions(), other.judge()["submissions"].as_u64()), (3, Some(0)));

    let mut newer = fs::read(bought.state()).unwrap();
    newer[60..64].copy_from_slice(&7_u32.to_be_bytes());
    fs::write(bought.state(), newer).unwrap();
    bought.refuses(&["schema version 7", "use the batchveo that wrote it"]);
}

#[test]
fn damaged() {
    let bought = Bought::new();
    let whole = fs::read(bought.state()).unwrap();
    let page = usize::from(u16::from_be_bytes([whole[16], whole[17]]));
    let pages = whole.len() / page;
    let put = |bytes: &[u8]| fs::write(bought.state(), bytes).unwrap();
    let damaged = ["is damaged", "put a copy of it back"];
    // Each page in turn, also those that no query reads before the last row is bought; but for those
    // that hold nothing, whose numbers the file lists.
    let word =
        |at: usize| usize::try_from(u32::from_be_bytes(whole[at..at + 4].try_into().unwrap())).unwrap();
    let mut empty = Vec::new();
    let mut list = word(32);
    while list != 0 {
        let at = (list - 1) * page;
        empty.extend((0..word(at + 4)).map(|nth| word(at + 8 + 4 * nth) - 1));
        list = word(at);
    }
    assert!(pages > empty.len() + 6, "{pages} pages");
    for number in (1..pages).filter(|number| !empty.contains(number)) {
        let at = number * page;
        let mut flipped = whole.clone();
        flipped[at..at + 64].iter_mut().for_each(|byte| *byte = !*byte);
        put(&flipped);
        bought.refuses(&damaged);
    }
    let mut zeroed = whole.clone();
    zeroed[2 * page..].fill(0);
    put(&zeroed);
    bought.refuses(&damaged);
    for length in [whole.len() - page, whole.len() / 2, page, page / 2, 100] {
        put(&whole[..length]);
        bought.refuses(&damaged);
    }
    for (bytes, words) in
        [(&whole[..60], "is not a batchveo state file"), (b"", "is not a batchveo state file")]
    {
        put(bytes);
        bought.refuses(&[words, "--state"]);
    }
    put(b"id,prompt\n1,a cat\n");
    bought.refuses(&["is not a batchveo state file", "--state"]);
    fs::remove_file(bought.state()).unwrap();
    fs::create_dir(bought.state()).unwrap();
    bought.refuses(&["is a folder", "--state"]);
    fs::remove_dir(bought.state()).unwrap();

    put(&whole);
    let run = bought.run("");
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert_eq!(bought.submissions(), 60);
}

#[test]
fn without_the_log_that_a_killed_run_left() {
    let bought = Bought::new();
    let mut run = bought.folder.start(&bought.line("--concurrency 8"), &KEYED);
    bought.server.wait_for("accepted", 20);
    run.kill();
    // Looking at it changes nothing.
    for line in ["status p.csv", "export p.csv -o -"] {
        assert_eq!(bought.folder.run(line, &KEYED).code(), Some(0));
    }
    let log = bought.folder.path(&format!("{STATE}-wal"));
    let elsewhere = bought.folder.path("kept");
    fs::rename(&log, &elsewhere).unwrap();
    let words = ["-wal", "is missing", "put it back"];
    bought.refuses(&words);
    let status = bought.folder.run("status p.csv", &[]);
    assert_eq!(status.code(), Some(2));
    assert!(words.iter().all(|words| status.stderr().contains(words)), "{}", status.stderr());
    assert!(!log.exists());

    fs::rename(&elsewhere, &log).unwrap();
    let run = bought.run("");
    assert!(matches!(run.code(), Some(0 | 1)), "{}", run.stderr());
    let judge = bought.server.judge();
    assert_eq!(judge["bought_twice"], 0, "{judge}");
    // Ended in order: whole without a log.
    assert!(!log.exists());
    let run = bought.run("");
    assert!(matches!(run.code(), Some(0 | 1)), "{}", run.stderr());
}

#[test]
fn killed_at_once_it_is_whole_with_its_empty_log() {
    let bought = Bought::new();
    let log = bought.folder.path(&format!("{STATE}-wal"));
    // The log of a run that was killed before its first commit.
    let mut bytes = fs::read(bought.state()).unwrap();
    bytes[60..64].copy_from_slice(&(1_u32 << 16 | 1).to_be_bytes());
    fs::write(bought.state(), bytes).unwrap();
    bought.refuses(&["is missing"]);
    fs::write(&log, "").unwrap();
    for line in ["status p.csv", "export p.csv -o -"] {
        assert_eq!(bought.folder.run(line, &KEYED).code(), Some(0));
    }
    assert!(log.exists(), "a reader leaves the log to the next writer");
    assert_eq!(bought.run("").code(), Some(0));
    assert!(!log.exists());
}

/// Makes shared memory for the log impossible, as some network and shared file systems do.
#[cfg(unix)]
fn forbid_log(folder: &Folder, state: &str) {
    std::os::unix::fs::symlink("/nowhere/to/be/found", folder.path(&format!("{state}-shm"))).unwrap();
}

/// Whether the header of the file says that it is written with a log.
fn uses_log(folder: &Folder, state: &str) -> bool {
    fs::read(folder.path(state)).unwrap()[18..20] == [2, 2]
}

#[cfg(unix)]
#[test]
fn where_no_log_can_be_written() {
    let state = "p.csv.simulated.batchveo.db";
    let line = "run p.csv --simulate --time-scale max --progress none";
    // A new file, then one that comes from where there is a log.
    for from_elsewhere in [false, true] {
        let folder = Folder::new();
        folder.write_sheet("p.csv", 60);
        let first = format!("{line} --limit 20");
        if from_elsewhere {
            assert_eq!(folder.run(&first, &[]).code(), Some(0));
            assert!(uses_log(&folder, state));
        }
        forbid_log(&folder, state);
        for (line, made) in [(first.as_str(), 20), (line, 60)] {
            let run = folder.run(line, &[]);
            assert_eq!(run.code(), Some(0), "{}", run.stderr());
            assert!(run.stderr().contains("judge: every limit held"), "{}", run.stderr());
            assert!(!uses_log(&folder, state));
            let status = folder.run(&format!("status {state} --json"), &[]);
            let status: serde_json::Value = serde_json::from_str(&status.stdout()).unwrap();
            assert_eq!(status["succeeded"], made, "{}", run.stderr());
        }
    }
}

#[cfg(unix)]
#[test]
fn killed_without_a_log_it_resumes() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 60);
    forbid_log(&folder, STATE);
    let server = Server::start(&folder, "--time-scale 400");
    let line = format!("run p.csv --mode fast --base-url {} --time-scale 400 --progress none", server.url());
    let mut run = folder.start(&line, &KEYED);
    server.wait_for("accepted", 30);
    let status = folder.run("status p.csv", &[]);
    assert_eq!(status.code(), Some(0), "{}", status.stderr());
    run.kill();
    let run = folder.run(&line, &KEYED);
    assert!(matches!(run.code(), Some(0 | 1)), "{}", run.stderr());
    assert!(!uses_log(&folder, STATE));
    let judge = server.judge();
    assert_eq!(judge["bought_twice"], 0, "{judge}");
    assert_eq!(folder.results("p.results.csv").len(), 60);
}

#[cfg(unix)]
#[test]
fn write_protected() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let bought = Bought::new();
    let protect = |mode| fs::set_permissions(bought.state(), fs::Permissions::from_mode(mode)).unwrap();
    let before = fs::read(bought.state()).unwrap();
    protect(0o444);
    let line = bought.line("");
    let mut command = bought.folder.command(&line, &KEYED);
    // Permissions do not hold for root: run as somebody else, who may write everything but this.
    let am_root = fs::File::options().write(true).open(bought.state()).is_ok();
    if am_root {
        let binary = bought.folder.path("batchveo");
        fs::copy(command.get_program(), &binary).unwrap();
        let everyone = fs::Permissions::from_mode(0o777);
        for path in [bought.folder.path(""), binary.clone()] {
            fs::set_permissions(path, everyone.clone()).unwrap();
        }
        for entry in fs::read_dir(bought.folder.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path != bought.state() && path != binary {
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            }
        }
        command = std::process::Command::new(&binary);
        command.args(line.split_whitespace()).current_dir(bought.folder.path("")).uid(65_534).gid(65_534);
        command.env_clear().env("HOME", bought.folder.path("home")).envs(KEYED);
    }
    let run = command.output().unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{told}");
    assert!(told.contains(STATE) && told.contains("write-protected") && told.contains("--state"), "{told}");
    assert_eq!((bought.submissions(), fs::read(bought.state()).unwrap()), (3, before));
    protect(0o644);
    assert_eq!(bought.run("").code(), Some(0));
}
