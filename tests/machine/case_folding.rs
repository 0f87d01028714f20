//! A file system on which `A` and `a` are one name and many characters none: vFAT in an image, or exFAT
//! where the kernel knows no vFAT, with names as particular.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use batchveo::simulator::read_video;

use super::support::{Folder, Server};
use super::{KEYED, Noted, against, skipped};

/// A file system in an image, gone when it is dropped.
struct CaseFolding {
    path: PathBuf,
    /// Of the kernel, if the image is attached to one.
    device: Option<String>,
}

impl CaseFolding {
    /// One of this size at `path`; `None`, loudly, where this user may not mount one.
    fn mount(path: PathBuf, mebibytes: u64) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let image = path.with_extension("img");
        File::create(&image).unwrap().set_len(mebibytes * 1024 * 1024).unwrap();
        let mut mounted = Self { path, device: None };
        if succeeds(Command::new("mkfs.vfat").arg(&image))
            && succeeds(Command::new("mount").args(["-o", "loop,utf8"]).arg(&image).arg(&mounted.path))
        {
            return Some(mounted);
        }
        let attached = Command::new("losetup").args(["-f", "--show"]).arg(&image).output();
        if let Some(device) = attached.ok().filter(|attached| attached.status.success()) {
            let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
            mounted.device = Some(device.clone());
            if succeeds(Command::new("mkfs.exfat").arg(&device))
                && succeeds(Command::new("mount.exfat-fuse").arg(&device).arg(&mounted.path))
            {
                return Some(mounted);
            }
        }
        skipped("no vFAT or exFAT image can be mounted here; run this test as root, with exfat-fuse");
        None
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Drop for CaseFolding {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").arg("-d").arg(device).output();
        }
    }
}

/// Every whole video below `folder`, wherever it is; nothing else is there.
fn whole_videos(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(whole_videos(&path));
        } else if !path.ends_with("SHA256SUMS") {
            let video = read_video(File::open(&path).unwrap()).unwrap();
            assert!(video.is_some(), "{} is not whole", path.display());
            found.push(path);
        }
    }
    found
}

/// A sheet whose ids are as bad as ids can be, a row each.
fn write_ids(folder: &Folder, ids: &[String]) {
    let mut sheet = csv::Writer::from_writer(Vec::new());
    sheet.write_record(["id", "prompt"]).unwrap();
    for id in ids {
        sheet.write_record([id.as_str(), &format!("a harbour at dawn, called {}", id.len())]).unwrap();
    }
    folder.write("p.csv", sheet.into_inner().unwrap());
}

#[test]
fn names_that_differ_by_case_alone_and_names_that_cannot_be_all_land() {
    let folder = Folder::new();
    let Some(_disk) = CaseFolding::mount(folder.path("fat"), 40) else { return };
    let ids = [
        "Harbour", "harbour", "HARBOUR", "hárbour", "HÁRBOUR", "a:b", "a?b", "con", "NUL.mp4", "dot.", "sp ",
        "..", "../up", "/abs", "x/y", "X/Y", "a\\b", "\u{732b}", "e\u{301}", "\u{e9}",
    ];
    let long = ["n".repeat(300), "N".repeat(300), "\u{e4}".repeat(300)];
    let ids: Vec<String> = ids.into_iter().map(str::to_owned).chain(long).collect();
    write_ids(&folder, &ids);
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 20000..90000 --scenario videos-cut");
    let run = folder.run(&against(&server, 400, "--download=fat/v"), &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    let videos = whole_videos(&folder.path("fat/v"));
    assert_eq!(videos.len(), ids.len(), "{videos:?}");
    let distinct: HashSet<_> = videos.iter().map(|path| path.to_string_lossy().to_lowercase()).collect();
    assert_eq!(distinct.len(), ids.len());
    let files: HashSet<_> =
        folder.results("p.results.csv").into_iter().map(|row| row["file"].clone()).collect();
    assert_eq!(files.len(), ids.len());
    assert!(files.iter().all(|file| Path::new(file).is_file()), "{files:?}");
    assert!(!run.stderr().contains('\u{1b}'), "{:?}", run.stderr());
    let verified = folder.run("verify fat/v", &[]);
    assert_eq!(verified.code(), Some(0), "{}{}", verified.stdout(), verified.stderr());
    let mut theirs = Command::new("sha256sum");
    theirs.args(["-c", "--strict", "--quiet", "SHA256SUMS"]).current_dir(folder.path("fat/v"));
    assert!(theirs.status().unwrap().success());
}

#[test]
fn a_name_that_is_there_in_another_case_is_not_replaced() {
    let folder = Folder::new();
    let Some(_disk) = CaseFolding::mount(folder.path("fat"), 40) else { return };
    folder.write_sheet("p.csv", 2);
    fs::create_dir(folder.path("fat/v")).unwrap();
    folder.write("fat/v/ROW-1.MP4", "mine");
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 20000..90000");
    let run = folder.run(&against(&server, 400, "--download=fat/v --events e.ndjson"), &KEYED);
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    assert_eq!(fs::read_to_string(folder.path("fat/v/row-1.mp4")).unwrap(), "mine");
    let events = fs::read_to_string(folder.path("e.ndjson")).unwrap();
    assert!(events.contains("row-1.mp4 is there already"), "{events}");
}

#[test]
fn when_it_is_full_downloads_wait_and_generation_goes_on() {
    let folder = Folder::new();
    let Some(_disk) = CaseFolding::mount(folder.path("fat"), 12) else { return };
    folder.write_sheet("p.csv", 40);
    let filler = File::create(folder.path("fat/filler")).unwrap();
    // Room for a few videos, not for all.
    std::io::copy(&mut std::io::Read::take(std::io::repeat(1), 9_000_000), &mut &filler).unwrap();
    let server = Server::start(&folder, "--time-scale 400 --video-bytes 200000..200000");
    let line = against(&server, 400, "--download=fat/v --events e.ndjson");
    let run = Noted::start(&folder, &line);
    folder.wait_for_text("e.ndjson", "no room is left");
    server.wait_for("delivered", 40);
    drop(filler);
    fs::remove_file(folder.path("fat/filler")).unwrap();
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(whole_videos(&folder.path("fat/v")).len(), 40);
}
