//! What videos are called, from a sheet to its state file, as a shell sees it.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use batchveo::job::SampleId;
use batchveo::store::Store;
use serde_json::Value;

fn batchveo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batchveo"));
    for name in ["BATCHVEO_API_KEY", "APIXO_API_KEY", "BATCHVEO_BASE_URL", "APIXO_BASE_URL"] {
        command.env_remove(name);
    }
    command.current_dir(folder);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `check` says of `sheet` in `folder`, as JSON, and its exit code.
fn check(folder: &Path, sheet: &str, args: &[&str]) -> (Value, i32) {
    let run = batchveo(folder).args(["check", sheet, "--json"]).args(args).output().unwrap();
    let plan = serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{}", text(&run.stderr)));
    (plan, run.status.code().unwrap())
}

/// The names in the state file of the rehearsal of `sheet`.
fn names(folder: &Path, sheet: &str, samples: i64) -> Vec<String> {
    let store = Store::read_only(&folder.join(format!("{sheet}.simulated.batchveo.db"))).unwrap();
    (1..=samples).map(|sample| store.name_of(SampleId(sample)).unwrap().unwrap_or_default()).collect()
}

const REHEARSE: [&str; 5] = ["--simulate", "--time-scale", "max", "--progress", "none"];

#[test]
fn names_that_cannot_be_are_found_before_anything_is_bought() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(300);
    fs::write(folder.path().join("p.csv"), format!("id,prompt\na,same\nb,same\nc,{long}\n")).unwrap();
    let exact = ["--names", "exact", "--name", "{prompt}"];
    let (plan, code) = check(folder.path(), "p.csv", &exact);
    assert_eq!((code, plan["problem_count"].as_u64()), (2, Some(2)));
    let told = plan["problems"].to_string();
    assert!(told.contains("`same` is also that of line 2") && told.contains("300 bytes"), "{told}");
    let lines = plan["problems"].as_array().unwrap().iter().map(|problem| problem["line"].as_u64().unwrap());
    assert_eq!(lines.collect::<Vec<_>>(), [3, 4]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "check leaves nothing behind");

    let run = batchveo(folder.path()).args(["run", "p.csv"]).args(REHEARSE).args(exact).assert().code(2);
    let told = text(&run.get_output().stderr);
    assert!(told.contains("p.csv: line 3: its name `same`") && told.contains("Nothing was bought"), "{told}");
    let status = batchveo(folder.path()).args(["status", "p.csv.simulated.batchveo.db", "--json"]).output();
    let status: Value = serde_json::from_slice(&status.unwrap().stdout).unwrap();
    assert_eq!((status["cost_usd"].as_f64(), status["pending"].as_u64()), (Some(0.0), Some(3)), "{status}");
}

#[test]
fn a_run_fixes_names_and_says_when_others_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let sheet = folder.path().join("p.csv");
    let run = |args: &[&str]| {
        let run = batchveo(folder.path()).args(["run", "p.csv"]).args(REHEARSE).args(args).assert().code(0);
        text(&run.get_output().stderr)
    };
    fs::write(&sheet, "id,prompt\na,one\nb,two\n").unwrap();
    run(&["--name", "{row}-{id}"]);
    assert_eq!(names(folder.path(), "p.csv", 2), ["1-a", "2-b"]);
    // As before, without being told again.
    fs::write(&sheet, "id,prompt\nz,zero\na,one\nb,two\nc,three\n").unwrap();
    run(&[]);
    assert_eq!(names(folder.path(), "p.csv", 4), ["1-z", "1-a", "2-b", "4-c"]);
    let told = run(&["--name", "{id}"]);
    let kept = "4 videos bought under --name '{row}-{id}' --names portable keep their names";
    assert!(told.contains(kept), "{told}");
    assert!(!run(&["--name", "{id}"]).contains("keep their names"), "once");
    assert_eq!(names(folder.path(), "p.csv", 4), ["1-z", "1-a", "2-b", "4-c"]);
}

#[test]
fn check_knows_what_is_bought() {
    let folder = tempfile::tempdir().unwrap();
    let sheet = folder.path().join("p.csv");
    fs::write(&sheet, "id,prompt\na,one\nb,two\n").unwrap();
    let exact = ["--names", "exact", "--name", "{prompt}-{id}"];
    let run = [&["run", "p.csv", "--state", "s.batchveo.db"], &REHEARSE[..]].concat();
    batchveo(folder.path()).args(&run).args(["--limit", "1"]).args(exact).assert().code(0);
    // The name of what was bought for `one` in row a stays its own, and row c would have it now.
    fs::write(&sheet, "id,prompt\nb,two\nc,one-a\nd,four\n").unwrap();
    let dry = |args: &[&str]| {
        let dry = batchveo(folder.path()).args(&run).args(["-n"]).args(args).output().unwrap();
        (text(&dry.stdout) + &text(&dry.stderr), dry.status.code())
    };
    let (told, code) = dry(&["--names", "exact", "--name", "{prompt}"]);
    assert!(told.contains("line 3: its name `one-a` is also that of line 2"), "{told}");
    assert_eq!(code, Some(2), "{told}");
    let real = [&run[..], &["--accept-changes", "--names", "exact", "--name", "{prompt}"]].concat();
    let real = batchveo(folder.path()).args(real).assert().code(2);
    let real = text(&real.get_output().stderr);
    assert!(real.contains("line 3: its name `one-a` is also that of line 2"), "{real}");
    // Otherwise the plan is of the whole sheet, by the rule of the state file, and beside the sheet.
    let (told, code) = dry(&[]);
    assert_eq!(code, Some(0), "{told}");
    for words in
        ["3 videos for $4.50", "p.simulated.videos", "--name '{prompt}-{id}' --names exact", "two-b.mp4"]
    {
        assert!(told.contains(words), "no {words} in {told}");
    }
    // Half a rule leaves the other half as it was.
    let (told, _) = dry(&["--names", "portable"]);
    assert!(told.contains("--name '{prompt}-{id}' --names portable"), "{told}");
    // A sheet from standard input has its videos beside its state file.
    let piped = ["run", "-", "--format", "csv", "--state", "t.batchveo.db", "-n"];
    let piped = batchveo(folder.path()).args(piped).write_stdin("prompt\na\n").assert().code(0);
    let told = text(&piped.get_output().stdout);
    assert!(told.contains("Videos in t.videos"), "{told}");
    let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = left.filter(|name| !name.starts_with("s.") && !name.starts_with("p.")).collect();
    assert_eq!(left, [""; 0], "nothing is left behind");
}

#[test]
fn a_prefix_and_a_name_fit_into_a_key_together() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.csv"), format!("prompt\n{}\n", "x ".repeat(100))).unwrap();
    let to = |length: usize| {
        let prefix = "p".repeat(length);
        let args = ["check", "p.csv", "--name", "{prompt}", &format!("--download=s3://b/{prefix}")];
        batchveo(folder.path()).args(args).output().unwrap()
    };
    assert_eq!(to(700).status.code(), Some(0));
    let told = to(900);
    assert_eq!(told.status.code(), Some(2));
    assert!(text(&told.stderr).contains("leaves 123 bytes for a name"), "{}", text(&told.stderr));
}

#[test]
fn a_balance_that_is_not_told_leaves_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("p.csv"), "prompt\na\n").unwrap();
    // A port where nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    let run = |args: &[&str]| {
        let mut run = batchveo(folder.path());
        let whole = ["check", "p.csv", "--balance", "--base-url", &url];
        run.env("BATCHVEO_API_KEY", "any").args(whole).args(args).assert().code(3).get_output().clone()
    };
    let plan: Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    assert_eq!((&plan["balance_usd"], plan["samples"].as_u64()), (&Value::Null, Some(1)));
    assert!(plan["warnings"].to_string().contains("the balance could not be asked"), "{plan}");
    assert!(text(&run(&[]).stdout).contains("Note: the balance could not be asked"));
    let quiet = run(&["--quiet"]);
    assert!(quiet.stdout.is_empty() && text(&quiet.stderr).contains("the balance could not be asked"));
}

#[test]
fn a_hostile_sheet_gets_names_that_stay_inside_and_a_clean_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(9_900);
    let words =
        ["../../etc/passwd", "/etc/passwd", "..", "CON", "a\u{9b}2Jb", "c:\\x", "\u{202e}gpj.exe", "-rf ~"];
    let rows = words.map(|word| format!("{word},{word} {long},{word}\n")).concat();
    fs::write(folder.path().join("p.csv"), format!("title,prompt,folder\n{rows}")).unwrap();
    let acts = |c: char| c != '\n' && batchveo::harmless::acts_on_a_terminal(c);
    for style in ["portable", "exact"] {
        for template in ["{title}", "{folder}/{prompt}", "{folder}/{title}/{slug:.20}"] {
            let check = ["check", "p.csv", "--names", style, "--name", template];
            let run = batchveo(folder.path()).args(check).output().unwrap();
            let told = text(&run.stdout) + &text(&run.stderr);
            assert!(told.contains("8 rows") && !told.contains(acts), "{told:?}");
        }
    }
    let run = ["run", "p.csv", "--name", "{folder}/{title}"];
    let run = batchveo(folder.path()).args(run).args(REHEARSE).assert().code(0);
    assert!(!text(&run.get_output().stderr).contains(acts));
    let names = names(folder.path(), "p.csv", 8);
    assert_eq!(names[0], "_.._etc_passwd/_.._etc_passwd");
    for name in names {
        let parts: Vec<_> = name.split('/').collect();
        assert!(
            parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && !part.starts_with('.')),
            "{name}"
        );
    }
}

/// The folder of real sheets, where it is.
fn data() -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    data.is_dir().then_some(data)
}

#[test]
fn benchmark_suites_get_the_names_they_look_up() {
    let Some(data) = data() else { return };
    let folder = tempfile::tempdir().unwrap();
    for sheet in ["vbench-946.txt", "vbench2-1013.txt", "vbench-cn-946.txt", "chronomagic-1649.csv"] {
        fs::copy(data.join(sheet), folder.path().join(sheet)).unwrap();
    }
    let (plan, code) = check(
        folder.path(),
        "vbench-946.txt",
        &["--samples", "5", "--names", "exact", "--name", "{prompt}-{sample}"],
    );
    assert_eq!((code, plan["names"]["samples"].as_u64()), (0, Some(4_730)), "{}", plan["problems"]);
    assert_eq!(plan["names"]["first"][0], "In a still frame, a stop sign-0");
    for (sheet, map, rows) in [
        ("vbench-946.txt", &[][..], 946),
        ("vbench2-1013.txt", &[], 1_013),
        ("vbench-cn-946.txt", &[], 946),
        ("chronomagic-1649.csv", &["--map", "prompt=name"], 1_649),
    ] {
        for template in ["{prompt}", "{slug:.60}-{key:.8}"] {
            let (plan, code) = check(folder.path(), sheet, &[map, &["--name", template]].concat());
            assert_eq!((code, plan["names"]["samples"].as_u64()), (0, Some(rows)), "{sheet} {template}");
            assert!(plan["names"]["longest_bytes"].as_u64() <= Some(200));
        }
    }
    let in_a_bucket = |sheet, map: &[&str]| {
        let exact = ["--names", "exact", "--name", "{prompt:.180}-{row}", "--download=s3://b/p"];
        check(folder.path(), sheet, &[map, &exact].concat())
    };
    let (plan, code) = in_a_bucket("vbench2-1013.txt", &[]);
    assert_eq!((code, &plan["disk"]["free_bytes"]), (0, &Value::Null), "{}", plan["problems"]);
    // Some of its prompts hold a slash, which would be a folder.
    let (plan, code) = in_a_bucket("chronomagic-1649.csv", &["--map", "prompt=name"]);
    let lines: Vec<_> =
        plan["problems"].as_array().unwrap().iter().map(|problem| problem["line"].as_u64()).collect();
    assert_eq!((code, lines), (2, [445, 788, 1_141, 1_218].map(Some).to_vec()), "{}", plan["problems"]);
}
