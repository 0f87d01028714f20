//! What the command tells fits 80 columns, has no colour where none is wanted, and is only problems
//! where that is asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "nothing is served or killed here")]
mod support;

use support::Folder;

/// Lines over 80 columns that could be broken: not those whose length is a path, an address or a
/// command, nor those that repeat what somebody else said, nor those of a log, which is for files.
fn too_long(text: &str) -> Vec<String> {
    let is_one_word = |line: &str| line.split(' ').any(|word| word.len() > 40);
    let is_log = |line: &str| line.starts_with('[');
    let is_command = |line: &str| line.trim_start().starts_with("batchveo");
    let repeats = |line: &str| line.contains("Z line ");
    let may = |line: &str| is_one_word(line) || is_log(line) || is_command(line) || repeats(line);
    let long = |line: &&str| line.chars().count() > 80 && !may(line);
    text.lines().filter(long).map(str::to_owned).collect()
}

#[test]
fn what_a_newcomer_sees_fits_80_columns() {
    let folder = Folder::new();
    folder.write("batchveo.toml", "rpm = 5000\n");
    let mut told = Vec::new();
    for line in [
        "example prompts.csv",
        "check prompts.csv",
        "run prompts.csv --simulate --time-scale max --scenario mixed",
        "status prompts.csv.simulated.batchveo.db",
        "status prompts.csv",
        "config show prompts.csv",
        "run prompts.csv",
        "run",
    ] {
        told.push(folder.run(line, &[("COLUMNS", "80")]));
    }
    let all: String = told.iter().map(|ended| ended.stdout() + &ended.stderr()).collect();
    assert!(all.contains("The sheet is sound") && all.contains("of 14 videos simulated"), "{all}");
    assert_eq!(too_long(&all), Vec::<String>::new());
}

#[test]
fn no_colour_where_none_is_wanted() {
    let folder = Folder::new();
    for line in ["--help", "run --help", "run --rmp 5", "check absent.csv -v"] {
        let forced = folder.run(line, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
        let told = forced.stdout() + &forced.stderr();
        assert!(!told.is_empty() && !told.contains('\u{1b}'), "{line}\n{told}");
    }
    let coloured = folder.run("--help", &[("CLICOLOR_FORCE", "1")]).stdout();
    assert!(coloured.contains('\u{1b}'), "there is a colour to be left out\n{coloured}");
}

#[test]
fn quiet_tells_only_problems() {
    let folder = Folder::new();
    folder.write_sheet("prompts.csv", 5);
    let said = |line: &str, code: i32| {
        let ended = folder.run(line, &[]);
        let told = ended.stdout() + &ended.stderr();
        assert_eq!(ended.code(), Some(code), "{line}\n{told}");
        told
    };
    assert_eq!(said("check -q prompts.csv", 0), "");
    assert_eq!(said("run -q --dry-run prompts.csv", 0), "");
    assert_eq!(said("run prompts.csv --simulate --time-scale max --quiet", 0), "");
    let failed =
        said("run prompts.csv --simulate --time-scale max -q --state f.db -o f.csv --sim-fail-rate 1", 1);
    assert_eq!(failed, "batchveo: 5 samples without a video: f.csv says why\n");
    let stopped =
        said("run prompts.csv --simulate --time-scale max -q --state m.db -o m.csv --sim-balance 2", 3);
    assert!(stopped.starts_with("batchveo: stopped: the account has no money"), "{stopped}");
    folder.write("bad.csv", "prompt,mode\na cat,slow\n");
    let wrong = said("check -q bad.csv", 2);
    assert!(wrong.contains("line 2") && wrong.lines().count() == 1, "{wrong}");
}
