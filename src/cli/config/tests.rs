use std::fs;

use super::super::run::RunArgs;
use super::super::{Command as Chosen, perform as perform_cli};
use super::*;
use crate::report::Screen;

fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Cli, Unparsed> {
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let words = std::iter::once("batchveo").chain(line.split_whitespace()).map(OsString::from);
    parse(words, &environment)
}

fn run_args(line: &str, variables: &[(&str, &str)]) -> RunArgs {
    let Chosen::Run(args) = parsed(line, variables).unwrap().command else {
        panic!("{line}: another command")
    };
    *args
}

#[test]
fn a_setting_is_a_default_and_an_option_wins() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "rpm = 50\nskip-invalid = true\nmap = {prompt = 'a', id = 'b'}\nsamples = 3\nlog-format = 'json'\n";
    fs::write(folder.path().join("batchveo.toml"), text).unwrap();
    let sheet = folder.path().join("p.csv").display().to_string();
    let config = [("BATCHVEO_CONCURRENCY", "7")];

    let args = run_args(&format!("run {sheet}"), &config);
    assert_eq!((args.limits.rpm.get(), args.limits.concurrency.get()), (50, 7));
    assert_eq!((args.skip_invalid, args.sheet.mappings.len()), (true, 2));
    assert_eq!(args.sheet.samples.map(std::num::NonZeroU32::get), Some(3));

    let args = run_args(&format!("run {sheet} --rpm 9 --concurrency 8 --map prompt=x"), &config);
    assert_eq!((args.limits.rpm.get(), args.limits.concurrency.get()), (9, 8));
    assert_eq!(args.sheet.mappings.len(), 1);

    let args = run_args(&format!("run {sheet} --no-config"), &config);
    assert_eq!((args.limits.rpm.get(), args.skip_invalid), (10_000, false));

    let cli = parsed(&format!("check {sheet}"), &config).unwrap();
    assert_eq!(cli.log.log_format, crate::report::LogFormat::Json);
}

#[test]
fn a_rehearsal_goes_with_settings_that_name_an_api() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("mine.toml");
    fs::write(&mine, "base-url = 'https://example.com'\napi-key-file = 'k'\n").unwrap();
    let args = run_args(&format!("run p.csv --simulate --config {}", mine.display()), &[]);
    assert!(args.rehearsal.simulate && args.connection.base_url.is_some());
}

#[test]
fn a_wrong_file_stops_what_reads_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("batchveo.toml"), "rmp = 5\n").unwrap();
    let sheet = folder.path().join("p.csv").display().to_string();
    for line in [format!("run {sheet}"), format!("check {sheet}")] {
        let Unparsed::Settings(error) = parsed(&line, &[]).unwrap_err() else { panic!("{line}") };
        assert!(
            error.to_string().ends_with("batchveo.toml:1: `rmp` is no setting: did you mean `rpm`?"),
            "{error}"
        );
    }
    assert!(parsed(&format!("status {sheet}"), &[("BATCHVEO_RPM", "x")]).is_ok());
    assert!(parsed(&format!("run {sheet} --no-config"), &[]).is_ok());
}

#[test]
fn help_names_the_variables() {
    let mut whole = command();
    whole.build();
    let help = whole.find_subcommand_mut("run").unwrap().render_help().to_string();
    for variable in ["BATCHVEO_RPM", "BATCHVEO_BASE_URL, APIXO_BASE_URL", "BATCHVEO_ACCOUNT"] {
        let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(variable), "{variable}\n{help}");
    }
}

fn shown(line: &str, variables: &[(&str, &str)]) -> String {
    let cli = parsed(line, variables).unwrap();
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let mut out = Vec::new();
    perform_cli(&cli, &environment, &Screen::stderr(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn show_says_where_each_value_comes_from_and_never_the_key() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("batchveo.toml"), "# mine\nrpm = 50\npaid-retries = 9\n").unwrap();
    let mine = folder.path().join("mine.toml");
    fs::write(&mine, "yes = true\n").unwrap();
    let variables = [("BATCHVEO_API_KEY", "recognisable"), ("BATCHVEO_SHARE", "30%")];
    let line = format!("config show {}/p.csv --config {}", folder.path().display(), mine.display());
    let text = shown(&line, &variables);
    let has = |words: [&str; 3]| {
        text.lines().any(|line| {
            let mut found = line.split_whitespace();
            found.next() == Some(words[0]) && found.next() == Some(words[1]) && line.ends_with(words[2])
        })
    };
    assert!(has(["rpm", "50", "batchveo.toml:2"]), "{text}");
    assert!(has(["share", "30%", "environment BATCHVEO_SHARE"]), "{text}");
    assert!(has(["yes", "true", "mine.toml:1"]), "{text}");
    assert!(has(["concurrency", "1000", "default"]), "{text}");
    assert!(has(["paid-retries", "1", "batchveo.toml:3 may not raise"]), "{text}");
    assert!(has(["max-cost", "-", "default"]), "{text}");
    let json = shown(&format!("{line} --json"), &variables);
    for text in [&text, &json] {
        assert!(text.contains("BATCHVEO_API_KEY") && !text.contains("recognisable"), "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rpm = json["settings"].as_array().unwrap().iter().find(|line| line["name"] == "rpm").unwrap();
    assert_eq!(rpm["value"], "50");
}

#[test]
fn the_sample_is_a_configuration_when_its_comments_are_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    shown(&format!("config init {}", path.display()), &[]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')));
    let taken_off: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| line.trim_start_matches('#'))
        .collect();
    fs::write(&path, taken_off.join("\n")).unwrap();
    let text = shown(&format!("config show --config {}", path.display()), &[]);
    assert!(text.contains("account acme, ") && text.contains("fast=0.2"), "{text}");
    let again = parsed(&format!("config init {}", path.display()), &[]).unwrap();
    assert!(perform_cli(&again, &|_| None, &Screen::stderr(), &mut Vec::new()).is_err(), "never over a file");
}

#[test]
fn the_readmes_file_is_a_configuration() {
    let readme =
        fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    fs::write(&path, rest.split("```").next().unwrap()).unwrap();
    let text = shown(&format!("config show --account acme --config {}", path.display()), &[]);
    assert!(text.lines().any(|line| line.contains("max-cost") && line.contains("account acme")), "{text}");
}

#[cfg(unix)]
#[test]
fn a_sheets_folder_turns_no_downloads_on_that_a_link_leads_out_of_it() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(outside.path(), path("p.videos")).unwrap();
    let (sheet, mine) = (path("p.csv").display().to_string(), path("mine.toml"));
    fs::write(&mine, "download = true\n").unwrap();
    let line = |command: &str, rest: &str| format!("{command} {sheet} --config {} {rest}", mine.display());
    assert!(parsed(&line("run", ""), &[]).is_ok(), "turned on by the user's own file");

    fs::write(path("batchveo.toml"), "download = true\n").unwrap();
    for command in ["run", "check"] {
        let Unparsed::Settings(error) = parsed(&line(command, ""), &[]).unwrap_err() else { panic!() };
        let error = error.to_string();
        assert!(
            error.contains("batchveo.toml:1: download: ") && error.contains("add --download="),
            "{error}"
        );
    }
    for by_hand in ["--download", "--download=films", "--no-download", "--simulate"] {
        assert!(parsed(&line("run", by_hand), &[]).is_ok(), "{by_hand}");
    }
    fs::write(path("batchveo.toml"), "download = false\n").unwrap();
    assert!(parsed(&line("run", ""), &[]).is_ok());
    fs::write(path("batchveo.toml"), "download = true\n").unwrap();
    fs::remove_file(path("p.videos")).unwrap();
    assert!(parsed(&line("run", ""), &[]).is_ok());
}

#[test]
fn the_setting_download_is_where_download_downloads_to() {
    let folder = tempfile::tempdir().unwrap();
    let (sheet, mine) = (folder.path().join("p.csv"), folder.path().join("mine.toml"));
    let line = |rest: &str| format!("{rest} {} --config {}", sheet.display(), mine.display());
    let to = |rest: &str| {
        let Chosen::Download(args) = parsed(&line(rest), &[]).unwrap().command else { panic!() };
        args.to
    };
    let has = |value: &str| {
        let text = shown(&line("config show"), &[]);
        let mut lines = text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
        assert!(lines.any(|line| line == ["download", value]), "{value}: {text}");
    };
    for (setting, place, told) in [
        ("'s3://bucket/films'", Some("s3://bucket/films"), "s3://bucket/films"),
        ("true", None, "true"),
        ("false", None, "false"),
    ] {
        fs::write(&mine, format!("download = {setting}\n")).unwrap();
        assert_eq!(to("download").as_deref(), place, "{setting}");
        assert_eq!(to("download --to there").as_deref(), Some("there"), "{setting}");
        has(told);
    }
}

#[test]
fn check_plans_by_the_settings_that_run_has() {
    let folder = tempfile::tempdir().unwrap();
    let (sheet, mine) = (folder.path().join("p.csv"), folder.path().join("mine.toml"));
    fs::write(&sheet, "prompt,mode\na cat,fast\na dog,fast\na cow,fast\n").unwrap();
    fs::write(&mine, "paid-retries = 50\nshare = '10%'\nmax-cost = 0.5\n").unwrap();
    let told =
        |command: &str| shown(&format!("{command} {} --config {}", sheet.display(), mine.display()), &[]);
    let text = told("check");
    assert!(text.contains("$0.60, at worst $30.60 with paid retries"), "{text}");
    assert!(text.contains("Note: --max-cost 0.50 is less: run stops buying there"), "{text}");
    assert_eq!(text, told("run -n"));
    assert!(told("check --paid-retries 2 --max-cost 9").contains("at worst $1.80"));
    let json: serde_json::Value = serde_json::from_str(&told("check --json")).unwrap();
    let limits = &json["limits"];
    // A little less than a tenth of the pace: see `schedule::share`.
    assert_eq!((&limits["requests_per_minute"], &limits["concurrent_tasks"]), (&998.into(), &100.into()));
}
