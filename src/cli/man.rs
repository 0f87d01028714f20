//! `man`: a manual page for each command.
//!
//! The pages are made from the same texts as the help. What stands after the options, examples and
//! exit codes in columns, is set as it is rather than filled into paragraphs.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

use crate::harmless::Harmless;

/// Writes manual pages, one for each command.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo man ~/.local/share/man/man1     then: man batchveo-run
  batchveo man | man -l -                  read the first of them

Exit codes:
  0 written, 2 usage, or the folder cannot be written")]
pub struct ManArgs {
    /// The folder, made if there is none; without one, the page of batchveo itself is printed
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// Writes them.
///
/// # Errors
///
/// The folder or the output cannot be written.
pub fn write(args: &ManArgs, stdout: &mut dyn Write) -> anyhow::Result<()> {
    let mut whole = super::command().disable_help_subcommand(true);
    whole.build();
    let Some(folder) = &args.folder else {
        return Ok(stdout.write_all(&page(&whole)?)?);
    };
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut count = 0;
    let mut left = vec![whole];
    while let Some(command) = left.pop() {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page(&command)?).with_context(|| path.display().to_string())?;
        count += 1;
        left.extend(command.get_subcommands().cloned());
    }
    writeln!(Harmless(stdout), "{count} pages in {}", folder.display())?;
    Ok(())
}

/// The page of one command, in roff.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut roff = Vec::new();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone().after_help("")).manual("batchveo");
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    man.render_options_section(&mut roff)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    write_as_it_is(&after, &mut roff)?;
    Ok(in_ascii(&String::from_utf8_lossy(&roff)).into_bytes())
}

/// `roff` with every other character by its number: not each formatter reads UTF-8.
fn in_ascii(roff: &str) -> String {
    let shown = |c: char| if c.is_ascii() { c.into() } else { format!("\\[u{:04X}]", u32::from(c)) };
    roff.chars().map(shown).collect()
}

/// `text` in its own lines; one that ends in a colon at the margin is a heading.
fn write_as_it_is(text: &str, roff: &mut Vec<u8>) -> io::Result<()> {
    let mut open = false;
    for line in text.lines() {
        let heading = line.strip_suffix(':').filter(|words| !words.starts_with(' '));
        if let Some(words) = heading {
            if open {
                roff.write_all(b".fi\n")?;
            }
            writeln!(roff, ".SH {}\n.nf", escaped(&words.to_uppercase()))?;
            open = true;
        } else if line.is_empty() || open {
            writeln!(roff, "{}", escaped(line))?;
        } else {
            writeln!(roff, ".PP\n.nf\n{}", escaped(line))?;
            open = true;
        }
    }
    if open {
        roff.write_all(b".fi\n")?;
    }
    Ok(())
}

/// A line of text that roff sets letter by letter.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options_and_examples() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        let mut told = Vec::new();
        write(&ManArgs { folder: Some(pages.clone()) }, &mut told).unwrap();
        let mut whole = crate::cli::command();
        whole.build();
        let names = whole.get_subcommands().map(Command::get_name).filter(|name| *name != "help");
        let mut count = 1;
        for name in names {
            let page = fs::read_to_string(pages.join(format!("batchveo-{name}.1"))).unwrap();
            assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{page}");
            assert!(
                page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS") || name == "config",
                "{page}"
            );
            assert!(page.is_ascii(), "{name}");
            assert!(page.contains(".SH EXAMPLES\n.nf\n  batchveo"), "{name}\n{page}");
            count += 1;
        }
        let run = fs::read_to_string(pages.join("batchveo-run.1")).unwrap();
        assert!(run.contains("max\\-cost") && run.contains("\n.SH EXIT CODES\n.nf\n  0 "), "{run}");
        assert!(pages.join("batchveo-config-show.1").is_file());
        assert_eq!(fs::read_dir(&pages).unwrap().count(), count + 2, "and config show, config init");
    }

    #[test]
    fn nothing_in_a_line_is_a_request_to_roff() {
        assert_eq!(escaped(".x 'a' \\n -- `b`"), "\\&.x \\(aqa\\(aq \\en \\-\\- \\(gab\\(ga");
        assert_eq!(in_ascii("a … b"), "a \\[u2026] b");
    }
}
