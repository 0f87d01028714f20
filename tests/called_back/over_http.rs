//! The binary against the simulator's server, over loopback.
//!
//! Between them stands a proxy of the test's own, so that what is on its way can be read, kept and forged.

use std::collections::HashSet;
use std::fs;

use serde_json::{Value, json};

use super::proxy::{Call, Proxy};
use super::support::{Folder, Server};
use super::{all_succeeded, is_of, sheet};

const KEYED: [(&str, &str); 1] = [("BATCHVEO_API_KEY", "any")];

/// A run against `server` at the pace of `scale`, called back through `proxy`.
fn called_back(server: &Server, proxy: &Proxy, scale: u32, rest: &str) -> String {
    let (url, Proxy { address, behind, .. }) = (server.url(), proxy);
    format!(
        "run p.csv --mode fast --base-url {url} --time-scale {scale} --progress none \
         --callback-url http://{address}/hook?of=us --callback-listen {behind} {rest}"
    )
}

#[test]
fn with_a_fifth_lost_and_a_fifth_twice_every_sample_is_right_and_bought_once() {
    let folder = Folder::new();
    let prompts = sheet(&folder);
    let rows = prompts.len();
    let server = Server::start(&folder, "--time-scale 100 --scenario callbacks-lossy");
    let proxy = Proxy::start(|_| true);
    let run = folder.run(
        &called_back(&server, &proxy, 100, "--map prompt=name --map id=videoid --summary s.json"),
        &KEYED,
    );
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    for row in all_succeeded(&folder, rows) {
        assert!(is_of(&row["task_id"], &prompts[&row["videoid"]]), "{row:?}");
    }
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&rows.into(), &0.into()), "{judge}");
    let count = |count: &Value| usize::try_from(count.as_u64().unwrap()).unwrap();
    let lost = count(&judge["callbacks"]["lost"]);
    assert!((rows * 3..rows * 5).contains(&(lost * 20)), "a fifth, nearly: {judge}");
    assert!(count(&judge["callbacks"]["repeated"]) * 10 > rows, "{judge}");
    // A task that is polled as the vendor advises takes more than eight.
    assert!(count(&judge["polls"]) < 7 * rows, "{judge}");
}

/// Sample and task of everything that is known to be accepted, in a log of events.
fn accepted(folder: &Folder) -> Vec<(i64, String)> {
    let log = fs::read_to_string(folder.path("e.ndjson")).unwrap_or_default();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let accepted = events.filter(|event| event["event"] == "accepted");
    accepted
        .map(|event| (event["sample"].as_i64().unwrap(), event["task_id"].as_str().unwrap().to_owned()))
        .collect()
}

/// A success of `task`, with a link of somebody else's.
fn forged(task: &str) -> String {
    let result = json!({ "resultUrls": ["https://forger.example/mine.mp4"] }).to_string();
    let data = json!({ "taskId": task, "state": "success", "resultJson": result, "createTime": 1, "completeTime": 2 });
    json!({ "code": 200, "message": "success", "data": data }).to_string()
}

#[test]
fn a_thousand_forged_callbacks_change_nothing() {
    const ROWS: usize = 60;
    const KEPT: usize = 5;
    let folder = Folder::new();
    folder.write_sheet("p.csv", ROWS);
    let server = Server::start(&folder, "--time-scale 20");
    // The first addresses become known to the forger, and what was sent to them never arrives.
    let kept = std::sync::Mutex::new(HashSet::new());
    let proxy = Proxy::start(move |call| {
        let mut kept = kept.lock().unwrap();
        if kept.len() < KEPT {
            kept.insert(call.target.clone());
        }
        !kept.contains(&call.target)
    });
    let mut run = folder.start(&called_back(&server, &proxy, 20, "--events e.ndjson"), &KEYED);
    let leaked = proxy.wait_for(KEPT);
    let alive = accepted(&folder);
    assert_eq!(alive.len(), ROWS);
    let address = |call: &Call| {
        let (before, signed) = call.target.split_once("batchveo=").unwrap();
        let parts: Vec<String> = signed.split('.').map(str::to_owned).collect();
        (before.to_owned(), parts)
    };
    let (before, parts) = address(&leaked[0]);
    let [numbering, _, attempt, mac] = <[String; 4]>::try_from(parts).unwrap();
    let mut sent = 0;
    // An address that is known speaks for its own task alone.
    for (call, (_, task)) in leaked.iter().take(KEPT).zip(alive.iter().rev()) {
        assert_eq!(proxy.send(&call.target, &forged(task)), 200);
        sent += 1;
    }
    for number in sent..1_000 {
        let (sample, task) = &alive[number % ROWS];
        let wrong = format!("{number:08x}").repeat(8);
        let target = match number % 4 {
            // The HMAC of another sample, none, any, and none that is one.
            0 => format!("{before}batchveo={numbering}.{}.{attempt}.{mac}", sample + 1_000),
            1 => before.clone(),
            2 => format!("{before}batchveo={numbering}.{sample}.{attempt}.{wrong}"),
            _ => format!("{before}batchveo={numbering}.{sample}.{attempt}.{}", &mac[1..]),
        };
        assert_eq!(proxy.send(&target, &forged(task)), 404, "{target}");
    }
    // What was kept is brought again, but this time looks are sooner.
    assert_eq!(run.wait(), Some(0));
    all_succeeded(&folder, ROWS);
    assert_eq!(folder.holds("forger.example"), None);
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&ROWS.into(), &0.into()), "{judge}");
}

#[test]
fn a_submission_in_doubt_is_settled_by_its_callback() {
    const ROWS: usize = 60;
    let folder = Folder::new();
    folder.write_sheet("p.csv", ROWS);
    let fault = "[[fault]]\nwhat = \"drop\"\nwhere = \"submit\"\nshare = 0.2\nwhen = \"after\"\n";
    folder.write("doubts.toml", fault);
    let server = Server::start(&folder, "--time-scale 60 --scenario doubts.toml");
    let proxy = Proxy::start(|_| true);
    let run = folder.run(&called_back(&server, &proxy, 60, ""), &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    all_succeeded(&folder, ROWS);
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&ROWS.into(), &0.into()), "{judge}");
    assert!(judge["injected"]["dropped"].as_u64().unwrap() > 3, "nothing was in doubt: {judge}");
}

#[test]
fn what_a_killed_run_was_owed_is_told_to_the_next() {
    const ROWS: usize = 40;
    let folder = Folder::new();
    folder.write_sheet("p.csv", ROWS);
    // Nothing of the first half minute is answered, and all of it is accepted.
    let fault =
        "[[fault]]\nwhat = \"slow\"\nwhere = \"submit\"\nuntil = \"30s\"\nby = \"1h\"\naccepted = 1\n";
    folder.write("silent.toml", fault);
    let server = Server::start(&folder, "--time-scale 40 --scenario silent.toml");
    let proxy = Proxy::start(|_| true);
    let line = called_back(&server, &proxy, 40, "");
    let mut run = folder.start(&line, &KEYED);
    server.wait_for("accepted", 4);
    run.kill();
    // Nobody listens: they are refused, and sent again.
    proxy.wait_for(1);
    let run = folder.run(&line, &KEYED);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
    all_succeeded(&folder, ROWS);
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["bought_twice"]), (&ROWS.into(), &0.into()), "{judge}");
    assert!(judge["callbacks"]["retried"].as_u64().unwrap() > 0, "{judge}");
}
