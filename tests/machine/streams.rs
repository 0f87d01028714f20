//! Readers that go away, and streams that are closed or full: how a run ends depends on none.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::support::Folder;

/// A rehearsal of three rows, one of which fails: it ends with 1, and with nothing else.
fn sheet() -> Folder {
    let folder = Folder::new();
    folder.write("p.csv", "prompt\na cat\n[[fail:CONTENT_VIOLATION]] a dog\na cow\n");
    folder
}

const RUN: &str = "run p.csv --simulate --time-scale max --progress plain -v";

fn statuses(folder: &Folder) -> Vec<String> {
    folder.results("p.simulated.results.csv").iter().map(|row| row["status"].clone()).collect()
}

#[test]
fn a_reader_of_events_who_has_had_enough_ends_no_run() {
    let folder = sheet();
    let mut command = folder.command(&format!("{RUN} --events -"), &[]);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains(r#""event":"started""#), "{first}");
    assert_eq!(run.wait().unwrap().code(), Some(1));
    assert_eq!(statuses(&folder), ["succeeded", "failed", "succeeded"]);
}

#[test]
fn streams_that_nobody_reads_end_no_run() {
    for (stdout, stderr) in [(true, false), (false, true), (true, true)] {
        let folder = sheet();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let broken = |is: bool| if is { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::null() };
        let mut command = folder.command(&format!("{RUN} --events -"), &[]);
        let ended = command.stdout(broken(stdout)).stderr(broken(stderr)).status().unwrap();
        assert_eq!(ended.code(), Some(1), "{stdout} {stderr}");
        assert_eq!(statuses(&folder), ["succeeded", "failed", "succeeded"]);
    }
}

#[test]
fn closed_streams_end_no_run_and_no_file_is_taken_for_one() {
    let folder = sheet();
    let binary = env!("CARGO_BIN_EXE_batchveo");
    let line = format!("exec {binary} {RUN} --events - <&- >&- 2>&-");
    let ended = Command::new("sh").args(["-c", &line]).current_dir(folder.path("")).env_clear().status();
    assert_eq!(ended.unwrap().code(), Some(1));
    assert_eq!(statuses(&folder), ["succeeded", "failed", "succeeded"]);
}

#[cfg(target_os = "linux")]
#[test]
fn full_event_files_summaries_and_logs_end_no_run() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let folder = sheet();
    let everywhere = format!("{RUN} --events /dev/full --summary /dev/full");
    let ended = folder.command(&everywhere, &[]).stderr(full()).status().unwrap();
    assert_eq!(ended.code(), Some(1));
    assert_eq!(statuses(&folder), ["succeeded", "failed", "succeeded"]);
    // Where somebody reads, each is said once.
    let folder = sheet();
    let told = folder.run(&everywhere, &[]);
    assert_eq!(told.code(), Some(1));
    assert_eq!(told.stderr().matches("the event log cannot be written").count(), 1, "{}", told.stderr());
    assert_eq!(told.stderr().matches("--summary /dev/full: ").count(), 1, "{}", told.stderr());
    let folder = sheet();
    let ended = folder.command(&format!("{RUN} --events -"), &[]).stdout(full()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    // A reader of nothing but the plan is told of a full disk all the same.
    let dry = folder.command("run p.csv --dry-run", &[]).stdout(full()).output().unwrap();
    assert_eq!(dry.status.code(), Some(2));
}
