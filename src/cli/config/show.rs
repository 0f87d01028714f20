//! `config`: every setting and where it comes from; a file to start from.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::file::plainly;
use super::keys::{KEY_FILE, Key, Keys};
use super::layers::{Given, Looked, Origin, Settings, resolve};
use crate::cli::exit::Exit;
use crate::cli::{Environment, command};
use crate::harmless::{self, Harmless};

/// Shows settings and where they come from, or writes a file to start from.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Settings have the names of the long options. From the strongest: the option; its
variable; batchveo.toml in the sheet's folder; yours, in ~/.config/batchveo; the
default. The file beside a sheet may come from anywhere, so it may set neither
keys nor addresses nor prices, and may name no file outside its folder.

Examples:
  batchveo config show                    every setting, and who set it
  batchveo config show prompts.csv        with the file beside this sheet
  batchveo config show --account acme     as this account of yours
  batchveo config init                    write ./batchveo.toml to start from
  batchveo config init ~/.config/batchveo/batchveo.toml

Exit codes:
  0 done, 2 usage, or a file or variable is wrong")]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with settings.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigCommand {
    /// Show every setting, its value, and where it comes from
    Show(ShowArgs),
    /// Write a file to start from, every line a comment
    Init(InitArgs),
}

/// Of which run.
#[derive(Debug, Clone, clap::Args)]
pub struct ShowArgs {
    /// A sheet, whose folder may hold a file [default: the current folder]
    #[arg(value_name = "MANIFEST")]
    pub manifest: Option<PathBuf>,
    /// As this account of your batchveo.toml
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where to.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// The file, which must not be there yet; - for standard output
    #[arg(value_name = "FILE", default_value = "batchveo.toml")]
    pub file: PathBuf,
}

/// A file to start from. Every setting in it is a comment, and a test takes the comments off.
const SAMPLE: &str = include_str!("sample.toml");

/// All that is told.
#[derive(Debug, Serialize)]
struct Told {
    project_file: Option<Found>,
    user_file: Option<Found>,
    /// Where the API key comes from; never the key.
    api_key: String,
    /// An account that a file chose and that does not hold, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    account_aside: Option<String>,
    settings: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Found {
    path: PathBuf,
    found: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// None where it is not set and has no default.
    value: Option<String>,
    from: String,
}

/// Does it.
///
/// # Errors
///
/// A file or variable is wrong, or the output cannot be written.
pub fn perform(
    args: &ConfigArgs,
    files: &super::FileArgs,
    environment: Environment<'_>,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let args = match &args.command {
        ConfigCommand::Init(args) => return init(args, stdout),
        ConfigCommand::Show(args) => args,
    };
    let given = Given {
        config: files.config.clone(),
        no_config: files.no_config,
        account: args.account.clone(),
        sheet: args.manifest.clone(),
    };
    let mut whole = command();
    whole.build();
    let keys = Keys::of(&whole);
    let told = told(&keys, resolve(&keys, &given, environment)?);
    if args.json {
        writeln!(stdout, "{}", harmless::json(&told)?)?;
    } else {
        tell(&told, &mut Harmless(stdout))?;
    }
    Ok(Exit::Succeeded)
}

fn told(keys: &Keys, settings: Settings) -> Told {
    let line = |name: &str| {
        let setting = settings.values.get(name);
        let defaults = || keys.get(name).map(Key::defaults).unwrap_or_default();
        let words = setting.map_or_else(defaults, |setting| setting.words.clone());
        // Set without a value, it is just on or off.
        let is_bare = setting.is_some() && keys.get(name).is_some_and(Key::goes_without_value);
        let words =
            if is_bare && words.concat().is_empty() { vec![(!words.is_empty()).to_string()] } else { words };
        // A switch that is off has the default `false` once the command line is built.
        let value = Some(words.join(" ")).filter(|text| !text.is_empty());
        let from = setting.map_or("default".into(), |setting| setting.origin.to_string());
        let from = match settings.refused.get(name) {
            Some(place) if !matches!(setting.map(|set| &set.origin), Some(Origin::Environment(_))) => {
                format!("{from}, which {place} may not raise")
            }
            Some(_) | None => from,
        };
        Line { name: name.to_owned(), value, from }
    };
    let found = |looked: Option<Looked>| {
        looked.map(|Looked { file, found }| Found { path: plainly(&file).into_owned(), found })
    };
    let api_key = match (settings.key, settings.values.get(KEY_FILE)) {
        (Some(variable), _) => format!("in the environment, {variable}"),
        (None, Some(setting)) => format!("in the file {}", setting.words.concat()),
        (None, None) => "none".into(),
    };
    let account_aside = settings.aside.as_ref().map(|aside| {
        let variable = settings.key.unwrap_or("BATCHVEO_API_KEY_FILE");
        format!("{} of {}: {variable} takes its place", aside.words.concat(), aside.origin)
    });
    let settings_lines = keys.names().map(line).collect();
    Told {
        project_file: found(settings.project),
        user_file: found(settings.user),
        api_key,
        account_aside,
        settings: settings_lines,
    }
}

fn tell(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    for (what, file) in [("This folder's", &told.project_file), ("Your own", &told.user_file)] {
        if let Some(Found { path, found }) = file {
            let absent = if *found { "" } else { " (there is none)" };
            writeln!(out, "{what:<14} {}{absent}", path.display())?;
        }
    }
    writeln!(out, "{:<14} {}", "API key", told.api_key)?;
    if let Some(aside) = &told.account_aside {
        writeln!(out, "{:<14} {aside}", "Put aside")?;
    }
    writeln!(out)?;
    let width = |text: fn(&Line) -> &str, least: usize| {
        told.settings.iter().map(|line| text(line).chars().count()).fold(least, usize::max)
    };
    let (names, values) = (width(|line| &line.name, 7), width(shown, 5).min(30));
    for line in &told.settings {
        writeln!(out, "{:<names$}  {:<values$}  {}", line.name, shown(line), line.from)?;
    }
    Ok(())
}

fn shown(line: &Line) -> &str {
    line.value.as_deref().unwrap_or("-")
}

fn init(args: &InitArgs, stdout: &mut dyn Write) -> anyhow::Result<Exit> {
    if args.file.as_os_str() == "-" {
        stdout.write_all(SAMPLE.as_bytes())?;
        return Ok(Exit::Succeeded);
    }
    let shown = || args.file.display().to_string();
    if let Some(folder) = args.file.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&args.file).with_context(shown)?;
    file.write_all(SAMPLE.as_bytes()).with_context(shown)?;
    writeln!(
        Harmless(stdout),
        "{}: every line is a comment; take the # away from what you want to set",
        shown()
    )?;
    Ok(Exit::Succeeded)
}
