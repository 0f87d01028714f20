//! The binary as a shell sees it: exit codes and streams.

use assert_cmd::Command;

fn batchveo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchveo"));
    for name in ["BATCHVEO_API_KEY", "APIXO_API_KEY", "BATCHVEO_BASE_URL", "APIXO_BASE_URL"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["--help", "--version"] {
        let run = batchveo().arg(flag).assert().code(0);
        assert!(text(&run.get_output().stdout).contains("batchveo") && run.get_output().stderr.is_empty());
    }
}

#[test]
fn wrong_usage_is_2_and_says_so_on_standard_error() {
    for args in [&["fly"][..], &[], &["example", "a", "b"], &["completions", "tcl"]] {
        let run = batchveo().args(args).assert().code(2);
        assert!(run.get_output().stdout.is_empty() && !run.get_output().stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_sample_sheet_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let example = || batchveo().current_dir(&folder).arg("example").assert();
    example().code(0);
    let second = example().code(2);
    let message = text(&second.get_output().stderr);
    assert!(message.starts_with("batchveo: prompts.csv exists"), "{message}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_batchveo"))
        .args(["example", "-"])
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn a_reader_who_has_had_enough_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_batchveo"))
        .args(["completions", "bash"])
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .unwrap();
    assert_eq!((run.status.code(), text(&run.stderr).as_str()), (Some(0), ""));
}
