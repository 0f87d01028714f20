//! The command line as a whole: what parses, what does not, and what help says.

use clap::Parser;
use clap::error::ErrorKind;

use super::exit::Exit;
use super::rehearsal::TimeScale;
use super::run::{Destination, RunArgs, RunPlan};
use super::sheet::Source;
use super::*;
use crate::generation::PriceList;
use crate::job::{Limits, Status, Usd};
use crate::schedule::cadence::Cadence;
use crate::simulator::Scenario;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(std::iter::once("batchveo").chain(line.split_whitespace())).map(|whole| whole.command)
}

fn run_args(line: &str) -> RunArgs {
    match parse(&format!("run {line}")) {
        Ok(Command::Run(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

fn plan(line: &str, variables: &[(&str, &str)]) -> Result<RunPlan, String> {
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    RunPlan::resolve(&run_args(line), &environment).map_err(|error| error.to_string())
}

#[test]
fn the_definitions_are_consistent() {
    command().debug_assert();
}

#[test]
fn every_subcommand_teaches_by_example_and_says_what_every_option_does() {
    let mut whole = command();
    whole.build();
    for command in whole.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        let help = command.clone().render_help().to_string();
        assert!(help.contains("Examples:") && help.contains(&format!("batchveo {name}")), "{help}");
        assert!(command.get_about().is_some(), "{name}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
        }
    }
}

#[test]
fn help_fits_80_columns_as_it_is_written() {
    fn every(command: &clap::Command, all: &mut Vec<clap::Command>) {
        all.push(command.clone());
        command.get_subcommands().for_each(|below| every(below, all));
    }
    let mut whole = command().term_width(80);
    whole.build();
    let mut all = Vec::new();
    every(&whole, &mut all);
    for mut command in all {
        let help = command.render_long_help().to_string();
        // What stands in columns would be broken out of them.
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let long: Vec<_> =
            help.lines().chain(after.lines()).filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{}: {long:#?}", command.get_name());
    }
}

#[test]
fn help_lists_every_exit_code() {
    let help = command().render_help().to_string();
    for exit in Exit::ALL {
        assert!(help.contains(&format!("\n  {:<5}", exit.code())), "{exit:?}\n{help}");
    }
}

#[test]
fn the_examples_in_help_parse() {
    let mut whole = command();
    whole.build();
    let mut seen = 0;
    for command in whole.get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().take_while(|line| !line.starts_with("Exit codes")) {
            let Some((_, call)) = line.split_once("batchveo ") else { continue };
            // The call ends where the explanation, a pipe, a redirection or a job begins.
            let end = ["  ", " |", " >", " &"].iter().filter_map(|mark| call.find(mark)).min();
            let call = &call[..end.unwrap_or(call.len())];
            assert!(parse(call).is_ok(), "{call}: {:?}", parse(call).err());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn defaults_are_the_documented_ones() {
    let args = run_args("prompts.csv");
    assert_eq!(Limits::from(args.limits), Limits::DOCUMENTED);
    assert_eq!(args.price.list, PriceList::VENDOR);
    assert_eq!((args.bounds.paid_retries, args.poll), (1, Cadence::Learned));
    let spans = [args.task_timeout, args.outage_timeout, args.grace].map(|span| span.as_secs());
    assert_eq!(spans, [1_800, 3_600, 20]);
}

#[test]
fn wrong_words_are_usage_errors() {
    for line in [
        "run",
        "run a.csv --rpm 0",
        "run a.csv --concurrency -1",
        "run a.csv --retry pending",
        "run a.csv --retry succeeded",
        "run a.csv --price slow=1",
        "run a.csv --where campaign",
        "run a.csv --max-failures 101%",
        "run a.csv --task-timeout soon",
        "run a.csv --samples 0",
        "run a.csv --mode slow",
        "run a.csv --progress loud",
        "run a.csv --simulate --base-url https://example.com",
        "run a.csv --simulate --api-key-file key",
        "run a.csv --sim-seed 1",
        "run a.csv --sim-fail-rate 0.5",
        "run a.csv --sim-balance 5",
        "run a.csv --scenario mixed",
        "simulate --list-scenarios --scenario mixed",
        "run a.csv --simulate --sim-fail-rate 2",
        "run a.csv --api-key secret",
        "simulate --time-scale max",
        "simulate --listen here",
        "export a.csv",
        "export a.csv -o - --status done",
        "completions tcl",
        "check a.csv --log-format xml",
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
        assert_eq!(error.exit_code(), i32::from(Exit::Refused.code()), "{line}");
        assert!(!matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
    }
}

#[test]
fn lists_are_split_and_repeated() {
    let args = run_args("a.csv --retry failed,lost --where a=1 --where b=2 --map prompt=x --map id=y -vv");
    assert_eq!(args.retry, [Status::Failed, Status::Lost]);
    assert_eq!(args.filters.len(), 2);
    assert_eq!(args.sheet.mappings, ["prompt=x", "id=y"].map(|mapping| mapping.parse().unwrap()));
}

#[test]
fn a_run_without_a_key_says_what_to_do() {
    assert_eq!(plan("a.csv", &[]).unwrap_err(), "set BATCHVEO_API_KEY, or try --simulate");
}

#[test]
fn a_rehearsal_needs_no_key_and_has_files_of_its_own() {
    let plan =
        plan("a.csv --simulate --sim-seed 7", &[("BATCHVEO_BASE_URL", "https://example.com")]).unwrap();
    assert!(matches!(plan.destination, Destination::Simulator { seed: 7, .. }));
    assert_eq!(plan.paths.state.to_str(), Some("a.csv.simulated.batchveo.db"));
    assert_eq!(plan.paths.results.to_str(), Some("a.simulated.results.csv"));
}

#[test]
fn scenarios_add_up_and_say_what_money_there_is_unless_the_user_does() {
    let destination = |line: &str| match plan(&format!("a.csv --simulate {line}"), &[]).unwrap().destination {
        Destination::Simulator { scenario, balance, .. } => (scenario, balance),
        Destination::Api { .. } => panic!("{line}: not simulated"),
    };
    let (scenario, balance) = destination("--scenario cut,no-url --scenario money-402");
    let wanted = ["cut", "no-url", "money-402"].map(|name| Scenario::load(name).unwrap());
    assert_eq!(scenario, wanted.into_iter().fold(Scenario::default(), Scenario::and));
    assert_eq!(balance, Some(Usd::from_cents(10_000)));
    assert_eq!(destination("--scenario money-402 --sim-balance 500").1, Some(Usd::from_cents(50_000)));
    assert_eq!(destination("--scenario cut").1, None);
    let wrong = plan("a.csv --simulate --scenario nonesuch", &[]).unwrap_err();
    assert!(wrong.starts_with("--scenario: `nonesuch` is neither a file nor a scenario"), "{wrong}");
}

#[test]
fn every_scenario_is_listed_and_shown() {
    let printed = |line: &str| {
        let cli = Cli::try_parse_from(format!("batchveo simulate {line}").split_whitespace()).unwrap();
        let mut stdout = Vec::new();
        perform_for_test(&cli, &mut stdout).map(|exit| (exit, String::from_utf8(stdout).unwrap()))
    };
    let (exit, list) = printed("--list-scenarios").unwrap();
    assert_eq!((exit, list.lines().count()), (Exit::Succeeded, Scenario::NAMED.len()));
    for (line, named) in list.lines().zip(Scenario::NAMED) {
        assert!(line.starts_with(&format!("{} ", named.name)), "{line}");
        let (_, text) = printed(&format!("--show-scenario {}", named.name)).unwrap();
        assert_eq!(Scenario::parse("shown", &text).unwrap(), Scenario::load(named.name).unwrap());
    }
    assert_eq!(Exit::of(&printed("--show-scenario nonesuch").unwrap_err()), Exit::Refused);
}

#[test]
fn a_run_takes_key_and_address_from_the_environment_and_hides_the_key() {
    let variables = [("BATCHVEO_API_KEY", " recognisable\n"), ("APIXO_BASE_URL", "https://example.com")];
    let plan = plan("a.csv", &variables).unwrap();
    assert!(!format!("{plan:?}").contains("recognisable"));
    let Destination::Api { base_url, key } = plan.destination else { panic!("simulated") };
    assert_eq!((base_url.to_string().as_str(), key.expose()), ("https://example.com", "recognisable"));
}

#[test]
fn standard_input_needs_state_and_format() {
    let key = [("BATCHVEO_API_KEY", "k")];
    assert!(plan("-", &key).unwrap_err().contains("--format"));
    assert!(plan("- --format txt", &key).unwrap_err().contains("--state"));
    assert_eq!(plan("- --format txt --state s.db", &key).unwrap().source, Source::Stdin);
}

fn perform_for_test(cli: &Cli, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    perform(cli, &|_| None, &Screen::stderr(), stdout)
}

#[test]
fn time_runs_faster_only_in_a_rehearsal_or_on_this_machine() {
    let key = [("BATCHVEO_API_KEY", "k")];
    assert!(plan("a.csv --time-scale 60", &key).unwrap_err().contains("--simulate"));
    assert!(plan("a.csv --time-scale 60 --base-url http://127.0.0.1:8787", &key).is_ok());
    assert!(plan("a.csv --time-scale max --base-url http://127.0.0.1:8787", &key).is_err());
    assert_eq!(plan("a.csv --time-scale max --simulate", &[]).unwrap().time_scale, TimeScale::Max);
}

#[test]
fn completions_name_our_options_and_survive_a_closed_pipe() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let cli = Cli::try_parse_from(["batchveo", "completions", shell]).unwrap();
        let mut script = Vec::new();
        assert_eq!(perform_for_test(&cli, &mut script).unwrap(), Exit::Succeeded);
        assert!(String::from_utf8(script).unwrap().contains("log-format"), "{shell}");
        assert!(exit::is_broken_pipe(&perform_for_test(&cli, &mut Closed).unwrap_err()), "{shell}");
    }
}
