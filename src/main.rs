//! The `batchveo` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    batchveo::cli::parse().map_or_else(|code| code, |cli| batchveo::cli::main(&cli))
}
