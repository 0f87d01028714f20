//! Signals under faults, and sleep.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::support::{Folder, Server};
use super::{KEYED, Noted, against, status};

/// A service that tells the balance, takes submissions, and never answers one.
struct Silent {
    url: String,
    submissions: Arc<AtomicU64>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let submissions = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&submissions);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, count) = (stream.unwrap(), Arc::clone(&count));
                thread::spawn(move || answer(stream, &count));
            }
        });
        Self { url, submissions }
    }

    fn wait_for_a_submission(&self) {
        for _ in 0..2_000 {
            if self.submissions.load(Ordering::Relaxed) > 0 {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing is submitted");
    }
}

fn answer(mut stream: TcpStream, submissions: &AtomicU64) {
    let mut request = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut request) {
        let request = String::from_utf8_lossy(&request[..length]);
        if request.starts_with("GET") {
            let body = r#"{"code":200,"message":"success","data":{"balance":100,"currency":"USD"}}"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
            write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        } else if request.starts_with("POST") {
            submissions.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_submission_that_is_never_answered_outlasts_the_grace_and_is_in_doubt() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let silent = Silent::start();
    let line = format!("run p.csv --mode fast --base-url {} --progress none --grace 300ms", silent.url);
    let run = Noted::start(&folder, &line);
    silent.wait_for_a_submission();
    run.signal("-INT");
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("waiting up to 300ms"), "{told}");
    let again = folder.run(&line, &KEYED);
    assert_eq!(again.code(), Some(1), "{}", again.stderr());
    assert_eq!(folder.results("p.results.csv")[0]["status"], "unknown");
    assert_eq!(silent.submissions.load(Ordering::Relaxed), 1, "bought again unasked");
}

#[test]
fn a_second_signal_leaves_at_once() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let silent = Silent::start();
    let line = format!("run p.csv --mode fast --base-url {} --progress none --grace 1h", silent.url);
    for (first, second, code) in [("-INT", "-TERM", 143), ("-HUP", "-INT", 130)] {
        folder.write_sheet("p.csv", 1);
        let state = format!("{line} --state {code}.db -o {code}.csv");
        let before = silent.submissions.load(Ordering::Relaxed);
        let run = Noted::start(&folder, &state);
        while silent.submissions.load(Ordering::Relaxed) == before {
            thread::sleep(Duration::from_millis(5));
        }
        run.signal(first);
        while !std::fs::read_to_string(folder.path("stderr.txt")).unwrap().contains("Once more to leave") {
            thread::sleep(Duration::from_millis(5));
        }
        run.signal(second);
        let (ended, told) = run.end(&folder);
        assert_eq!(ended, Some(code), "{told}");
        assert_eq!(
            status(&folder, &format!("{code}.db"))["unknown"],
            0,
            "its fate is for the next run to tell"
        );
    }
}

#[test]
fn a_closed_terminal_is_a_termination_unless_the_run_was_to_outlive_it() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 100);
    let server = Server::start(&folder, "--time-scale 200");
    let line = against(&server, 200, "");
    let run = Noted::start(&folder, &line);
    server.wait_for("polls", 20);
    run.signal("-HUP");
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(143), "{told}");

    let binary = env!("CARGO_BIN_EXE_batchveo");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' HUP; exec {binary} {line}")]).current_dir(folder.path(""));
    let notes = std::fs::File::create(folder.path("stderr.txt")).unwrap();
    let run =
        Noted(shell.env_clear().env("HOME", folder.path("")).envs(KEYED).stderr(notes).spawn().unwrap());
    let polls = server.judge()["polls"].as_u64().unwrap();
    server.wait_for("polls", polls + 20);
    run.signal("-HUP");
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(0), "{told}");
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&100.into(), &0.into()), "{judge}");
}

#[test]
fn a_run_that_was_put_to_sleep_breaks_no_window_and_buys_nothing_twice() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 200);
    let server = Server::start(&folder, "--time-scale 40 --rpm 2000");
    let run = Noted::start(&folder, &against(&server, 40, "--rpm 2000 --concurrency 150"));
    server.wait_for("polls", 20);
    run.signal("-STOP");
    thread::sleep(Duration::from_secs(4));
    run.signal("-CONT");
    let (code, told) = run.end(&folder);
    assert_eq!(code, Some(0), "{told}");
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&200.into(), &0.into()), "{judge}");
    assert_eq!(judge["throttled_429"], 0, "{judge}");
}
