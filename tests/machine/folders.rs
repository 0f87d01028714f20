//! Folders that cannot be written: told before anything is bought.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Folder, Server};
use super::{KEYED, against, skipped};

/// A folder that takes no files, and may be removed again when it is dropped.
struct ReadOnly {
    path: PathBuf,
    mounted: bool,
}

impl ReadOnly {
    /// By its permissions or, for a user whom they do not hold, by a file system of its own; `None`,
    /// loudly, where neither can be had.
    fn new(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
        if is_read_only(&path) {
            return Some(Self { path, mounted: false });
        }
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "tmpfs"]).arg(&path).output();
        let folder = Self { path, mounted: mounted.is_ok_and(|mounted| mounted.status.success()) };
        if is_read_only(&folder.path) {
            return Some(folder);
        }
        skipped("no folder here can be made read-only for this user");
        None
    }
}

fn is_read_only(path: &Path) -> bool {
    fs::write(path.join("probe"), "").is_err()
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
        let _ = fs::set_permissions(&self.path, Permissions::from_mode(0o755));
    }
}

#[test]
fn folders_that_cannot_be_written_are_told_before_anything_is_bought() {
    let folder = Folder::new();
    let Some(_read_only) = ReadOnly::new(folder.path("ro")) else { return };
    folder.write_sheet("p.csv", 3);
    let server = Server::start(&folder, "--time-scale 400");
    let home = folder.path("ro").display().to_string();
    let homeless = [KEYED[0], ("XDG_STATE_HOME", home.as_str())];
    for (rest, variables, words) in [
        ("--state ro/p.db", &KEYED[..], &["ro/p.db", "--state"][..]),
        ("--state a.db -o ro/r.csv", &KEYED, &["ro/r.csv"]),
        ("--state b.db --events ro/e.ndjson", &KEYED, &["--events ro/e.ndjson"]),
        ("--state c.db --summary ro/s.json", &KEYED, &["--summary ro/s.json"]),
        ("--state e.db --download=ro", &KEYED, &["ro"]),
        ("--state f.db --download=ro/films", &KEYED, &["ro/films"]),
        ("--state d.db", &homeless, &["ro/batchveo", "XDG_STATE_HOME"]),
    ] {
        let run = folder.run(&against(&server, 400, rest), variables);
        assert_eq!(run.code(), Some(2), "{rest}: {}", run.stderr());
        for word in words {
            assert!(run.stderr().contains(word), "{rest}: no {word} in {}", run.stderr());
        }
        assert_eq!(server.judge()["submissions"], 0, "{rest}");
    }
}

#[test]
fn a_rehearsal_needs_no_home() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 3);
    let mut run = folder.command("run p.csv --simulate --time-scale max", &[]);
    let ended = run.env_remove("HOME").output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}
