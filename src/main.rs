//! The `batchveo` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    batchveo::cli::main(&batchveo::cli::Cli::parse())
}
