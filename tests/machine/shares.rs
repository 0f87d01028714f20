//! Several runs of one account.

use batchveo::batch::Batch;
use batchveo::job::UnixMillis;
use batchveo::store::{Durability, Owner};

use super::support::{Folder, Server};
use super::{KEYED, against};

#[test]
fn two_halves_of_an_account_keep_its_limits_and_a_third_is_refused() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 200);
    folder.write("q.csv", std::fs::read_to_string(folder.path("p.csv")).unwrap().replace("take", "again"));
    let server = Server::start(&folder, "--time-scale 100 --concurrency 100 --rpm 4000");
    let line = |sheet: &str, share: &str| {
        let rest = format!("--concurrency 100 --rpm 4000 {share}");
        against(&server, 100, &rest).replace("p.csv", sheet)
    };
    let mut first = folder.start(&line("p.csv", "--share 50%"), &KEYED);
    server.wait_for("accepted", 10);
    let mut second = folder.start(&line("q.csv", "--share 50%"), &KEYED);
    server.wait_for("accepted", 80);
    folder.write_sheet("r.csv", 1);
    for share in ["", "--share 1%"] {
        let third = folder.run(&line("r.csv", share), &KEYED);
        assert_eq!(third.code(), Some(4), "{}", third.stderr());
        for holder in ["(p.csv) with 50%", "(q.csv) with 50%", "--share"] {
            assert!(third.stderr().contains(holder), "{}", third.stderr());
        }
    }
    assert_eq!([first.wait(), second.wait()], [Some(0); 2]);
    let judge = server.judge();
    assert_eq!((&judge["accepted"], &judge["throttled_429"]), (&400.into(), &0.into()), "{judge}");
    assert_eq!(judge["bought_twice"], 0, "{judge}");
    assert!(judge["most_alive"].as_u64().unwrap() <= 100, "{judge}");
    // Both are over: the account is whole again.
    let last = folder.run(&line("r.csv", ""), &KEYED);
    assert_eq!(last.code(), Some(0), "{}", last.stderr());
}

#[test]
fn a_second_run_leaves_the_figures_of_the_first() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    folder.write("m.prom", "# HELP batchveo_of_the_first x\n");
    let owner = Owner::Simulator { seed: 0 };
    let state = folder.path("s.db");
    let first = Batch::open(&state, "the first", &owner, Durability::Rehearsal, UnixMillis(0)).unwrap();
    let line = "run p.csv --simulate --sim-seed 0 --time-scale max --state s.db --metrics-file m.prom";
    let second = folder.run(line, &[]);
    assert_eq!(second.code(), Some(4), "{}", second.stderr());
    let figures = || std::fs::read_to_string(folder.path("m.prom")).unwrap();
    assert_eq!(figures(), "# HELP batchveo_of_the_first x\n");
    drop(first);
    assert_eq!(folder.run(line, &[]).code(), Some(0));
    assert!(figures().contains("batchveo_samples"), "{}", figures());
}

#[test]
fn a_share_of_which_nothing_is_left_and_one_that_is_none_are_usage_errors() {
    let folder = Folder::new();
    folder.write_sheet("p.csv", 1);
    for (rest, words) in [
        ("--share 1% --rpm 50", "1% of 50 requests a minute"),
        ("--share 1% --concurrency 50", "1% of 50 concurrent tasks"),
        ("--share 0%", "not a part of the account"),
        ("--share 30", "such as 30%"),
    ] {
        let run = folder.run(&format!("run p.csv --simulate --time-scale max {rest}"), &[]);
        assert_eq!(run.code(), Some(2), "{rest}: {}", run.stderr());
        assert!(run.stderr().contains(words), "{rest}: {}", run.stderr());
    }
    let run = folder.run("run p.csv --simulate --time-scale max --share 0.1%", &[]);
    assert_eq!(run.code(), Some(0), "{}", run.stderr());
}
