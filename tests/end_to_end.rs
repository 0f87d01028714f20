//! The binary, whole: rehearsed, against the simulator over HTTP, killed and resumed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fmt::Write as _;
use std::io::Write as _;

use support::{Folder, Server};

const KEY: &str = "recognisable-key-0123456789";
const KEYED: [(&str, &str); 1] = [("BATCHVEO_API_KEY", KEY)];

/// A run against `server` at its pace.
fn against(server: &Server, rest: &str) -> String {
    format!("run p.csv --mode fast --base-url {} --time-scale 400 --progress none {rest}", server.url())
}

#[test]
fn a_rehearsal_makes_every_sample_and_again_makes_none() {
    let folder = Folder::new();
    folder.write("p.csv", "note,prompt,samples\na,one,2\nb,two,\nc,one,2\n");
    let line = "run p.csv --simulate --time-scale max --summary s.json --events e.ndjson";
    let run = folder.run(line, &[]);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("judge: every limit held"), "{}", run.stderr());
    let rows = folder.results("p.simulated.results.csv");
    let seen: Vec<_> = rows.iter().map(|row| (row["note"].as_str(), row["sample"].as_str())).collect();
    assert_eq!(seen, [("a", "0"), ("a", "1"), ("b", "0"), ("c", "0"), ("c", "1")]);
    assert!(rows.iter().all(|row| row["status"] == "succeeded"));
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path("s.json")).unwrap()).unwrap();
    assert_eq!(summary["counts"]["succeeded"], 5);
    let dollars = |name: &str| summary[name].as_f64().unwrap();
    let fell = dollars("balance_before_usd") - dollars("balance_after_usd");
    assert!((fell - dollars("cost_usd")).abs() < 0.005, "{summary}");
    assert!(std::fs::read_to_string(folder.path("e.ndjson")).unwrap().lines().count() > 15);

    let again = folder.run(line, &[]);
    assert_eq!(again.code(), Some(0));
    assert!(again.stderr().contains("accepted: 5,"), "{}", again.stderr());
    assert_eq!(folder.results("p.simulated.results.csv"), rows);
    let status = folder.run("status p.csv.simulated.batchveo.db --json", &[]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout()).unwrap();
    assert_eq!(status["succeeded"], 5);
    let export = folder.run("export p.csv.simulated.batchveo.db -o - --status failed", &[]);
    assert_eq!(export.stdout().lines().count(), 1, "{}", export.stdout());
}

#[test]
fn over_http_every_sample_is_bought_once_and_no_limit_is_met() {
    let folder = Folder::new();
    let mut sheet = String::from("id,prompt,samples,campaign\n");
    for row in 0..30 {
        let samples = if row % 3 == 0 { "2" } else { "" };
        writeln!(sheet, "row-{row},\"A harbour at dawn, take {row}\",{samples},spring").unwrap();
    }
    folder.write("p.csv", sheet);
    let server = Server::start(&folder, "--time-scale 400");
    // The second time there is nothing left to buy.
    for _ in 0..2 {
        let run = folder.run(&against(&server, ""), &KEYED);
        assert_eq!(run.code(), Some(0), "{}", run.stderr());
        let judge = server.judge();
        assert_eq!(judge["accepted"], 40, "{judge}");
        assert_eq!(judge["submissions"], 40, "{judge}");
        assert_eq!(judge["throttled_429"], 0, "{judge}");
    }
    let rows = folder.results("p.results.csv");
    let seen: Vec<_> = rows.iter().map(|row| (row["id"].clone(), row["sample"].clone())).collect();
    let asked = (0..30).flat_map(|row| {
        (0..if row % 3 == 0 { 2 } else { 1 }).map(move |sample| (format!("row-{row}"), sample.to_string()))
    });
    assert_eq!(seen, asked.collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row["status"] == "succeeded" && row["campaign"] == "spring"));
}

#[test]
fn a_rehearsal_leaves_no_trace_in_the_run_that_follows() {
    let rehearsed = Folder::new();
    let straight = Folder::new();
    for folder in [&rehearsed, &straight] {
        folder.write_sheet("p.csv", 30);
    }
    let rehearsal = rehearsed.run("run p.csv --mode fast --simulate --time-scale max", &[]);
    assert_eq!(rehearsal.code(), Some(0), "{}", rehearsal.stderr());
    assert!(!rehearsed.path("p.results.csv").exists());
    assert!(!rehearsed.path("p.csv.batchveo.db").exists());
    let rehearsal_results = std::fs::read(rehearsed.path("p.simulated.results.csv")).unwrap();
    // A service each, so that what one sold says nothing of the other.
    let bought = [&rehearsed, &straight].map(|folder| {
        let server = Server::start(folder, "--time-scale 400");
        let run = folder.run(&against(&server, ""), &KEYED);
        assert_eq!(run.code(), Some(0), "{}", run.stderr());
        let status = folder.run("status p.csv --json", &[]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout()).unwrap();
        let rows = folder.results("p.results.csv");
        let told: Vec<_> = rows.iter().map(|row| (row["id"].clone(), row["status"].clone())).collect();
        (server.judge()["accepted"].clone(), status["succeeded"].clone(), status["cost_usd"].clone(), told)
    });
    assert_eq!(bought[0], bought[1]);
    assert_eq!(bought[0].0, 30);
    assert_eq!(std::fs::read(rehearsed.path("p.simulated.results.csv")).unwrap(), rehearsal_results);
}

/// How often the run is killed.
const KILLS: u64 = 25;

/// Rows enough that the run is not over before it has been killed so often.
const KILLED_ROWS: usize = 1_500;

#[test]
fn killed_again_and_again_a_run_loses_no_row_and_buys_nothing_twice() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", KILLED_ROWS);
    let server = Server::start(&folder, "--time-scale 400");
    // Sixty at once, so that each run both buys and waits; and slower than the service allows, so
    // that what is counted here is not what this machine's load does to the clock.
    let line = against(&server, "--concurrency 60 --rpm 100");
    for round in 0..KILLS {
        let random = |most: u64, purpose: u64| 1 + splitmix(round * 8 + purpose) % most;
        let (what, count) =
            if random(2, 0) == 1 { ("accepted", random(40, 1)) } else { ("polls", random(80, 2)) };
        // More than before, not in all: each run alone must get this far, however long the others took.
        let before = server.judge()[what].as_u64().unwrap();
        let mut run = folder.start(&line, &KEYED);
        server.wait_for(what, before + count);
        std::thread::sleep(std::time::Duration::from_millis(random(30, 3)));
        run.kill();
        assert_eq!(run.wait(), None, "run {round} ended before it was killed: {}", server.judge());
        // What a killed run leaves can be read, and no row of it is gone.
        let status = folder.run("status p.csv --json", &[]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout()).unwrap();
        assert_eq!(status["samples"], KILLED_ROWS, "{status}");
    }
    let by_then = server.judge()["accepted"].clone();
    let last = folder.run(&line, &KEYED);
    let rows = folder.results("p.results.csv");
    let ids: Vec<_> = rows.iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, (0..KILLED_ROWS).map(|row| format!("row-{row}")).collect::<Vec<_>>());
    // Submissions on their way when a run was killed are in doubt, and stay so.
    let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert_eq!(count("succeeded") + count("unknown"), KILLED_ROWS, "{}", last.stderr());
    assert_eq!(last.code(), Some(i32::from(count("unknown") > 0)), "{}", last.stderr());
    let judge = server.judge();
    assert_eq!(judge["bought_twice"], 0, "{judge}");
    assert_eq!(judge["throttled_429"], 0, "{judge}");
    let accepted = judge["accepted"].as_u64().unwrap();
    assert!((count("succeeded") as u64..=KILLED_ROWS as u64).contains(&accepted), "{judge}");
    let _ = writeln!(
        std::io::stderr(),
        "{KILLS} kills: {KILLED_ROWS} rows, {accepted} accepted ({by_then} by the last kill), {} succeeded, {} unknown, 0 bought twice",
        count("succeeded"),
        count("unknown")
    );
}

/// The `SplitMix64` generator's draw number `n`.
const fn splitmix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn a_wrong_key_buys_nothing_and_locks_nobody_out() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 20);
    let server = Server::start(&folder, &format!("--time-scale 400 --key {KEY}"));
    let wrong = folder.run(&against(&server, ""), &[("BATCHVEO_API_KEY", "another-key")]);
    assert_eq!(wrong.code(), Some(3), "{}", wrong.stderr());
    assert!(wrong.stderr().contains("refused the API key"), "{}", wrong.stderr());
    assert_eq!(server.judge()["submissions"], 0);
    let right = folder.run(&against(&server, ""), &KEYED);
    assert_eq!(right.code(), Some(0), "{}", right.stderr());
    // From now on the state is this key's.
    let other = folder.run(&against(&server, ""), &[("BATCHVEO_API_KEY", "another-key")]);
    assert_eq!(other.code(), Some(2));
    assert!(other.stderr().contains("belongs to another key"), "{}", other.stderr());
}

#[test]
fn the_key_is_written_nowhere() {
    let folder = Folder::new();
    folder
        .write("p.csv", "prompt\na cat\n[[fail:CONTENT_VIOLATION]] a dog\n[[refuse:INVALID_PROMPT]] a cow\n");
    let loud = [("BATCHVEO_API_KEY", KEY), ("RUST_LOG", "trace")];
    // One server takes the key and one refuses it; both repeat the headers they got.
    for (name, server_key) in [("right", KEY), ("wrong", "quite-another")] {
        let elsewhere = Folder::new();
        let server =
            Server::start(&elsewhere, &format!("--time-scale 400 --echo-headers --key {server_key}"));
        let rest =
            format!("--state {name}.db -o {name}.csv --summary {name}.json --events {name}.ndjson -vvv");
        let run = folder.run(&against(&server, &rest), &loud);
        assert_eq!(run.code(), Some(if name == "right" { 1 } else { 3 }), "{}", run.stderr());
        for text in [run.stderr(), run.stdout()] {
            assert!(!text.contains(KEY), "{name}: {text}");
        }
        assert!(run.stderr().contains("[key]"), "nothing was echoed: {}", run.stderr());
    }
    assert_eq!(folder.holds(KEY), None);
    let statuses: Vec<_> = folder.results("right.csv").iter().map(|row| row["status"].clone()).collect();
    assert_eq!(statuses, ["succeeded", "failed", "rejected"]);
}

#[test]
fn one_of_each_mistake_is_named_and_nothing_is_sent() {
    let folder = Folder::new();
    let image = "https://e.example/1.png";
    let mut sheet = String::from("id,prompt,type,mode,aspect_ratio,image_urls,seed\n");
    for row in [
        "good,a row,text,fast,,,1".to_owned(),
        "a,x,movie,fast,,,".to_owned(),
        format!("b,x,frames,fast,,{image}|{image}|{image},"),
        format!("c,x,reference,quality,,{image},"),
        format!("d,x,reference,fast,9:16,{image},"),
        "e,,text,fast,,,".to_owned(),
        format!("f,{},text,fast,,,", "x".repeat(10_001)),
        "g,x,frames,fast,,https://,".to_owned(),
        "h,x,frames,fast,,images/a.png,".to_owned(),
        "i,x,text,fast,,,12x".to_owned(),
        "good,x,text,fast,,,".to_owned(),
        "j,x,text".to_owned(),
    ] {
        sheet.push_str(&row);
        sheet.push('\n');
    }
    let mut bytes = sheet.into_bytes();
    bytes.extend_from_slice(b"k,\xff,text,fast,,,\n");
    folder.write("p.csv", bytes);
    let check = folder.run("check p.csv", &[]);
    assert_eq!(check.code(), Some(2));
    for place in [
        "line 3, column type",
        "line 4, column image_urls",
        "line 5, column mode",
        "line 6, column aspect_ratio",
        "line 7, column prompt",
        "line 8, column prompt",
        "line 9, column image_urls",
        "line 10, column image_urls",
        "line 11, column seed",
        "line 12, column id: `good` is also the id of line 2",
        "line 13: 3 fields, and the header has 7",
        "line 14, column prompt",
    ] {
        assert!(check.stdout().contains(&format!("p.csv: {place}")), "{place}\n{}", check.stdout());
    }
    let run = folder.run("run p.csv --simulate --time-scale max", &[]);
    assert_eq!(run.code(), Some(2));
    assert!(!folder.path("p.simulated.results.csv").exists());
    let run = folder.run("run p.csv --simulate --time-scale max --skip-invalid", &[]);
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    let rows = folder.results("p.simulated.results.csv");
    let count = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert_eq!((rows.len(), count("succeeded"), count("invalid")), (13, 1, 12));
}

#[test]
fn two_at_once_is_one_too_many() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 50);
    folder.write_sheet("q.csv", 1);
    let server = Server::start(&folder, "--time-scale 50");
    let slow = against(&server, "").replace("400", "50");
    let mut first = folder.start(&slow, &KEYED);
    server.wait_for("accepted", 10);
    let same_state = folder.run(&slow, &KEYED);
    assert_eq!(same_state.code(), Some(4), "{}", same_state.stderr());
    assert!(same_state.stderr().contains("(p.csv)"), "{}", same_state.stderr());
    let same_account = folder.run(&slow.replace("p.csv", "q.csv"), &KEYED);
    assert_eq!(same_account.code(), Some(4), "{}", same_account.stderr());
    assert!(same_account.stderr().contains("(p.csv)"), "{}", same_account.stderr());
    first.kill();
}

#[cfg(unix)]
#[test]
fn interrupted_a_run_says_so_and_resumes() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 100);
    let server = Server::start(&folder, "--time-scale 200");
    let line = against(&server, "").replace("400", "200");
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let before = server.judge()["polls"].as_u64().unwrap();
        let mut run = folder.start(&line, &KEYED);
        server.wait_for("polls", before + 20);
        run.signal(signal);
        assert_eq!(run.wait(), Some(code));
    }
    let last = folder.run(&line, &KEYED);
    assert_eq!(last.code(), Some(0), "{}", last.stderr());
    assert_eq!(server.judge()["accepted"], 100);
}

#[test]
fn files_of_others_and_missing_keys_are_told() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    let no_key = folder.run("run p.csv", &[]);
    assert_eq!(
        (no_key.code(), no_key.stderr().trim()),
        (Some(2), "batchveo: set BATCHVEO_API_KEY, or try --simulate")
    );
    folder.write("p.simulated.results.csv", "mine\n");
    let foreign = folder.run("run p.csv --simulate --time-scale max", &[]);
    assert_eq!(foreign.code(), Some(2), "{}", foreign.stderr());
    assert_eq!(std::fs::read(folder.path("p.simulated.results.csv")).unwrap(), b"mine\n");
    let sheet = std::fs::read(folder.path("p.csv")).unwrap();
    std::fs::remove_file(folder.path("p.simulated.results.csv")).unwrap();
    for (line, words) in [
        ("run p.csv --simulate --summary p.csv", "both the sheet and --summary"),
        ("run p.csv --simulate --events ./p.csv", "both the sheet and --events"),
        ("run p.csv --simulate -o r.csv --summary r.csv", "both -o and --summary"),
        ("run p.csv --simulate --state s.db --events s.db", "both --state and --events"),
        ("run p.csv --simulate --time-scale max --where campaign=autumn", "No row of p.csv is chosen"),
        ("run absent.csv --simulate", "absent.csv"),
        ("check p.csv --map prompt=caption", "caption"),
    ] {
        let told = folder.run(line, &[]);
        assert_eq!(told.code(), Some(2), "{line}: {}", told.stderr());
        assert!(told.stderr().contains(words), "{line}: {}", told.stderr());
    }
    assert!(!folder.path("absent.csv.simulated.batchveo.db").exists(), "a name mistyped leaves a state file");
    assert_eq!(std::fs::read(folder.path("p.csv")).unwrap(), sheet);
}

#[test]
fn a_stop_at_the_first_decision_says_why() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 9);
    let line = "run p.csv --simulate --time-scale max --progress none --mode fast --max-cost 0.50";
    for _ in 0..2 {
        let run = folder.run(line, &[]);
        assert_eq!(run.code(), Some(3), "{}", run.stderr());
        assert!(run.stderr().contains("Stopped: the next video would cost more than --max-cost $0.50"));
        assert!(
            run.stderr().contains("raise --max-cost, then go on with the 7 samples left"),
            "{}",
            run.stderr()
        );
    }
}

#[cfg(unix)]
#[test]
fn virtual_time_hears_signals() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 3);
    // The service is gone for good, and the run would wait for it for a thousand years.
    folder.write("gone.toml", "[[fault]]\nwhat = \"no_connection\"\nwhere = \"any\"\nfrom = \"100s\"\n");
    let line = "run p.csv --simulate --time-scale max --scenario gone.toml --outage-timeout 1000years --events e.ndjson \
                --progress none";
    let mut run = folder.start(line, &[]);
    folder.wait_for_text("e.ndjson", "\"paused\"");
    run.signal("-INT");
    assert_eq!(run.wait(), Some(130));
    let over = folder.run(&line.replace("1000years", "2m"), &[]);
    assert_eq!(over.code(), Some(3), "{}", over.stderr());
    assert!(over.stderr().contains("Stopped: the service has been away too long"), "{}", over.stderr());
}
