//! Full disks: a small one of our own, filled while a run goes on.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Folder, Server};
use super::{KEYED, Noted, against, skipped, status};

/// A file system in memory, gone when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// One of this size at `path`; `None`, loudly, where this user may not mount one.
    fn mount(path: PathBuf, mebibytes: u32) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            skipped("a small file system cannot be mounted here; run this test as root");
            return None;
        }
        Some(Self(path))
    }

    /// Takes all the room there is, and says where to give it back.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        fill(&path);
        path
    }
}

/// Writes to `path` until no page is free.
fn fill(path: &Path) {
    let mut filler = File::options().create(true).append(true).open(path).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Enough that buying goes on for seconds.
const ROWS: usize = 400;

const FILES: &str = "--state disk/p.db -o disk/r.csv --events disk/e.ndjson --concurrency 40";

fn succeeded(folder: &Folder) -> u64 {
    status(folder, "disk/p.db")["succeeded"].as_u64().unwrap()
}

#[test]
fn on_a_full_disk_nothing_more_is_bought_and_nothing_bought_is_lost() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(folder.path("disk"), 32) else { return };
    folder.write_sheet("p.csv", ROWS);
    let server = Server::start(&folder, "--time-scale 400");
    let line = against(&server, 400, FILES);
    let run = Noted::start(&folder, &line);
    server.wait_for("accepted", 60);
    assert!(folder.path("disk/p.db.reserve").exists());
    let filler = disk.fill();
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("free the disk, then go on"), "{told}");
    assert!(!folder.path("disk/p.db.reserve").exists());
    let bought = server.judge()["accepted"].as_u64().unwrap();
    assert!(bought < 350, "the disk was not full in time: {bought}");
    // Each of them was seen to its end and written down.
    assert_eq!(succeeded(&folder), bought, "{told}");

    fs::remove_file(filler).unwrap();
    let again = folder.run(&line, &KEYED);
    assert_eq!(again.code(), Some(0), "{}", again.stderr());
    let rows = folder.results("disk/r.csv");
    assert!(rows.len() == ROWS && rows.iter().all(|row| row["status"] == "succeeded"));
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&ROWS.into(), &0.into()), "{judge}");
    assert!(folder.path("disk/p.db.reserve").exists(), "the next run sets nothing aside");
    // A line that was cut short spoils no other.
    let events = fs::read_to_string(folder.path("disk/e.ndjson")).unwrap();
    let torn = events.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err()).count();
    assert!(torn <= 1, "{torn} lines cannot be read");
    assert!(events.lines().last().unwrap().contains(r#""event":"finished""#));
}

#[test]
fn on_a_full_disk_no_callback_is_acknowledged_that_is_not_written_down() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(folder.path("disk"), 32) else { return };
    folder.write_sheet("p.csv", ROWS);
    let server = Server::start(&folder, "--time-scale 400");
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let called = format!("{FILES} --callback-url http://{listen}/veo --callback-listen {listen}");
    let run = Noted::start(&folder, &against(&server, 400, &called));
    server.wait_for("accepted", 100);
    // Nobody gives the room that was set aside back any more: there is none.
    let filler = disk.fill();
    fs::remove_file(folder.path("disk/p.db.reserve")).unwrap();
    fill(&filler);
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("takes no more"), "{told}");
    fs::remove_file(filler).unwrap();
    let callbacks = &server.judge()["callbacks"];
    let acknowledged = callbacks["acknowledged"].as_u64().unwrap();
    assert!(acknowledged > 0 && acknowledged <= succeeded(&folder), "{callbacks} {}", succeeded(&folder));
}

#[test]
fn a_disk_that_stays_full_ends_the_run_and_the_next_finds_what_is_in_flight() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(folder.path("disk"), 32) else { return };
    folder.write_sheet("p.csv", ROWS);
    let server = Server::start(&folder, "--time-scale 400");
    let line = against(&server, 400, FILES);
    let mut run = Noted::start(&folder, &line);
    server.wait_for("accepted", 60);
    // Somebody else takes all that is given back.
    let filler = disk.0.join("filler");
    while run.0.try_wait().unwrap().is_none() {
        fill(&filler);
    }
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("free"), "{told}");

    fs::remove_file(filler).unwrap();
    let again = folder.run(&line, &KEYED);
    let count =
        |status: &str| folder.results("disk/r.csv").iter().filter(|row| row["status"] == status).count();
    let (made, doubtful) = (count("succeeded"), count("unknown"));
    assert_eq!(made + doubtful, ROWS, "{}", again.stderr());
    assert_eq!(again.code(), Some(i32::from(doubtful > 0)), "{}", again.stderr());
    let judge = server.judge();
    assert_eq!(judge["bought_twice"], 0, "{judge}");
}

#[test]
fn without_room_for_the_reserve_what_is_paid_for_is_collected_and_nothing_is_bought() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(folder.path("disk"), 32) else { return };
    folder.write_sheet("p.csv", 200);
    let server = Server::start(&folder, "--time-scale 400");
    let line = against(&server, 400, FILES);
    let mut first = folder.start(&line, &KEYED);
    server.wait_for("accepted", 60);
    first.kill();
    fs::remove_file(folder.path("disk/p.db.reserve")).unwrap();
    let filler = disk.fill();
    File::options()
        .write(true)
        .open(&filler)
        .and_then(|file| file.set_len(file.metadata()?.len() - 4_000_000))
        .unwrap();
    let bought = server.judge()["accepted"].clone();
    let run = folder.run(&line, &KEYED);
    assert_eq!(run.code(), Some(3), "{}", run.stderr());
    assert!(run.stderr().contains("no room to set 8 MiB aside"), "{}", run.stderr());
    assert_eq!(server.judge()["accepted"], bought);
    assert!(!folder.path("disk/p.db.reserve").exists(), "half a reserve");
    let standing = status(&folder, "disk/p.db");
    let found = standing["succeeded"].as_u64().unwrap() + standing["unknown"].as_u64().unwrap();
    assert!(found >= bought.as_u64().unwrap(), "{standing}");
    fs::remove_file(filler).unwrap();
    let again = folder.run(&line, &KEYED);
    assert!(matches!(again.code(), Some(0 | 1)), "{}", again.stderr());
    assert_eq!(server.judge()["bought_twice"], 0);
}

#[test]
fn results_that_cannot_be_written_stop_the_buying_and_are_built_anew() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(folder.path("disk"), 1) else { return };
    folder.write_sheet("p.csv", ROWS);
    let server = Server::start(&folder, "--time-scale 400");
    let line = against(&server, 400, "-o disk/r.csv --concurrency 40");
    let run = Noted::start(&folder, &line);
    server.wait_for("accepted", 60);
    let filler = disk.fill();
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(3), "{told}");
    assert_eq!(told.matches("what happens cannot be written down").count(), 1, "{told}");
    assert!(told.contains("r.csv") && told.contains("export"), "{told}");
    let bought = server.judge()["accepted"].as_u64().unwrap();
    assert!(bought < 350, "the disk was not full in time: {bought}");
    assert_eq!(status(&folder, "p.csv")["succeeded"], bought);
    fs::remove_file(filler).unwrap();
    assert_eq!(folder.run(&line, &KEYED).code(), Some(0));
    assert!(folder.results("disk/r.csv").iter().all(|row| row["status"] == "succeeded"));
    assert_eq!(server.judge()["accepted"], ROWS);
}

#[test]
fn downloads_wait_for_room_and_generation_goes_on() {
    let folder = Folder::new();
    let Some(disk) = Disk::mount(folder.path("disk"), 8) else { return };
    folder.write_sheet("p.csv", 40);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 400000..500000");
    let run = Noted::start(&folder, &against(&server, 400, "--download=disk/videos --events e.ndjson"));
    folder.wait_for_text("e.ndjson", "downloads_paused");
    folder.wait_for_text("e.ndjson", "generation_over");
    let events = fs::read_to_string(folder.path("e.ndjson")).unwrap();
    assert_eq!(events.matches(r#""status":"succeeded""#).count(), 40, "{events}");
    let more = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk.0).status();
    assert!(more.unwrap().success());
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(0), "{told}");
    let events = fs::read_to_string(folder.path("e.ndjson")).unwrap();
    assert!(events.contains("downloads_resumed"), "{events}");
    assert_eq!(events.matches(r#""event":"saved""#).count(), 40, "{events}");
    assert_eq!(folder.run("verify disk/videos", &[]).code(), Some(0));
}
