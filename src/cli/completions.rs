//! `completions`: what a shell needs to complete our commands and options.

use std::io::{self, Write};

use clap_complete::Shell;

/// Writes completions for a shell to standard output.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo completions bash > ~/.bash_completion.d/batchveo
  batchveo completions zsh > ~/.zfunc/_batchveo
  batchveo completions fish > ~/.config/fish/completions/batchveo.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Writes them to `output`.
///
/// # Errors
///
/// The output could not be written.
pub fn write(args: &CompletionsArgs, output: &mut dyn Write) -> io::Result<()> {
    // The generator panics when its output fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "batchveo", &mut script);
    output.write_all(&script)
}
