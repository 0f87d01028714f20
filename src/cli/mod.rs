//! From arguments to validated configuration, and from there to an exit code.
//!
//! One file per subcommand. The argument structs hold what was typed, one word each; what a wrong
//! combination would break (a key, a file, a pace of time) becomes a value that cannot be wrong
//! before anything is opened or sent. Data goes to standard output; progress, logs and errors go to
//! standard error. The environment is passed in, so that tests need no process of their own.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod callbacks;
pub mod check;
pub mod completions;
pub mod config;
pub mod confirm;
pub mod connection;
pub mod download;
pub mod downloads;
pub mod example;
pub mod exit;
pub mod export;
pub mod man;
pub mod metrics;
pub mod names;
pub mod paths;
pub mod rehearsal;
pub mod run;
pub mod sheet;
mod signals;
pub mod simulate;
pub mod status;
pub mod values;
pub mod verify;

use crate::report::{LogFormat, Screen, init_logging};
use exit::Exit;

/// What the arguments, the environment and the files they name do not allow together. Nothing was
/// opened for writing and nothing was sent. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Looks up a variable of the environment; blank ones count as absent where it is used.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Turns a sheet of prompts into videos through the Veo 3.1 task API.
///
/// As fast as the account allows, never over its limits, never paying twice, never losing a row.
#[derive(Debug, Parser)]
#[command(name = "batchveo", version, max_term_width = 100, after_help = HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much to log.
    #[command(flatten)]
    pub log: LogArgs,
    /// Which files of settings are read.
    #[command(flatten)]
    pub files: config::FileArgs,
}

const HELP: &str = "\
Start here:
  batchveo example prompts.csv           write a sample sheet
  batchveo check prompts.csv             its mistakes and price; sends nothing
  batchveo run prompts.csv --simulate    rehearse: no key, no network, no cost
  export BATCHVEO_API_KEY=…
  batchveo run prompts.csv               buy the videos; run it again to resume

Exit codes:
  0    every sample succeeded, or no more failed than --max-failures allows
  1    finished, but some samples did not succeed
  2    usage, sheet or configuration is wrong; nothing was bought
  3    stopped and resumable: key, money, cap, outage, disk, time
  4    another process holds the state file or the account
  130  interrupted (Ctrl-C), resumable
  143  terminated (SIGTERM, or its terminal was closed), resumable";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Turn a sheet into videos; run it again to resume.
    Run(Box<run::RunArgs>),
    /// Find a sheet's mistakes, and what it would cost and take; sends nothing.
    Check(Box<check::CheckArgs>),
    /// Download what a run has made, later or to another place.
    Download(Box<download::DownloadCommand>),
    /// Tell how a run stands, also while it goes on.
    Status(status::StatusArgs),
    /// Write the results again, or some of them.
    Export(export::ExportArgs),
    /// Hash downloaded videos again, and say which are not whole.
    Verify(verify::VerifyArgs),
    /// Serve a model of the API over HTTP, with a judge.
    Simulate(Box<simulate::SimulateArgs>),
    /// Write a sample sheet.
    Example(example::ExampleArgs),
    /// Show settings and where they come from.
    Config(config::ConfigArgs),
    /// Write manual pages.
    Man(man::ManArgs),
    /// Write completions for a shell.
    Completions(completions::CompletionsArgs),
}

/// How much to log to standard error, and how.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// Log more: -v what happens, -vv each request, -vvv everything; RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Logs")]
    pub verbose: u8,
    /// Tell only problems: no progress, no notes, no summary
    #[arg(short, long, global = true, help_heading = "Logs")]
    pub quiet: bool,
    /// How log lines are written: text or json
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Logs")]
    pub log_format: LogFormat,
}

/// The whole command line, with the variables in its help.
#[must_use]
pub fn command() -> clap::Command {
    config::with_variables_told(Cli::command())
}

/// The arguments and settings, or how the process ends without them: what is wrong is told, or help
/// shown.
///
/// # Errors
///
/// The exit code, when there is nothing to be done.
pub fn parse() -> Result<Cli, ExitCode> {
    let environment = |name: &str| std::env::var(name).ok();
    config::parse(std::env::args_os(), &environment).map_err(|unparsed| match unparsed {
        config::Unparsed::Arguments(error) => {
            // What was typed may come from a script with a hostile file name in it.
            let told = if error.use_stderr() {
                write!(Screen::stderr(), "{}", error.render())
            } else {
                error.print()
            };
            // If nobody reads it, nobody is left to tell.
            drop(told);
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        config::Unparsed::Settings(error) => {
            let _ = writeln!(Screen::stderr(), "batchveo: {error}");
            Exit::Refused.into()
        }
    })
}

/// Does what the arguments say and answers how it went. A reader of our output who has had enough
/// is not an error.
#[must_use]
pub fn main(cli: &Cli) -> ExitCode {
    let screen = Screen::stderr().quietly(cli.log.quiet);
    let environment = |name: &str| std::env::var(name).ok();
    let logged =
        init_logging(cli.log.verbose, cli.log.log_format, screen.clone()).map_err(anyhow::Error::from);
    let exit = logged.and_then(|()| perform(cli, &environment, &screen, &mut io::stdout())).unwrap_or_else(
        |error| {
            if exit::is_broken_pipe(&error) {
                return Exit::Succeeded;
            }
            // If standard error is gone too, nobody is left to tell.
            let _ = writeln!(screen.clone(), "batchveo: {error:#}");
            if exit::is_for_want_of_room(&error) {
                let _ = writeln!(screen.clone(), "Free some space there, then give the same command again.");
            }
            Exit::of(&error)
        },
    );
    exit.into()
}

/// Performs one subcommand, with its data going to `stdout` and what is for people to `screen`.
fn perform(
    cli: &Cli,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let exit = match &cli.command {
        // How a run ends does not depend on who reads its events.
        Command::Run(args) => return run::perform(args, environment, screen, stdout),
        Command::Check(args) => check::perform(args, environment, screen, stdout)?,
        Command::Download(args) => download::perform(args, environment, screen, stdout)?,
        Command::Status(args) => status::perform(args, stdout)?,
        Command::Export(args) => export::perform(args, &mut screen.clone(), stdout)?,
        Command::Verify(args) => verify::perform(args, screen, stdout)?,
        Command::Simulate(args) => simulate::perform(args, screen, stdout)?,
        Command::Example(args) => example::write(args, stdout).map(|()| Exit::Succeeded)?,
        Command::Config(args) => config::perform(args, &cli.files, environment, stdout)?,
        Command::Man(args) => man::write(args, stdout).map(|()| Exit::Succeeded)?,
        Command::Completions(args) => completions::write(args, stdout).map(|()| Exit::Succeeded)?,
    };
    stdout.flush()?;
    Ok(exit)
}

#[cfg(test)]
mod tests;
