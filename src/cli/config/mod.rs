//! Settings: options, environment and files, merged before anything else happens.
//!
//! Files and variables become the defaults of the options they are named after. So the same parsers
//! judge them, an option that is given wins by itself, and no command knows where a value is from.
//! `keys` says what is a setting and who may set it, `file` reads one file, `layers` knows
//! their strength, `show` tells it all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches};

use super::paths::{lies_inside, videos_of};
use super::sheet::Source;
use super::{Cli, Environment, UsageError, command};
use keys::DOWNLOAD;
use layers::{Given, Origin, Setting, Settings};

mod file;
mod keys;
mod layers;
mod show;

pub use show::{ConfigArgs, ConfigCommand, perform};

/// Which files are read.
#[expect(clippy::doc_markdown, reason = "these comments are the help, shown as they stand")]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct FileArgs {
    /// Read this file instead of your own batchveo.toml [env: BATCHVEO_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read no configuration files
    #[arg(long, global = true, conflicts_with = "config")]
    pub no_config: bool,
}

/// Why there is nothing to be done.
#[derive(Debug)]
pub enum Unparsed {
    /// The arguments are wrong, or ask for help.
    Arguments(clap::Error),
    /// A file or a variable is wrong.
    Settings(UsageError),
}

impl From<clap::Error> for Unparsed {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

impl From<UsageError> for Unparsed {
    fn from(error: UsageError) -> Self {
        Self::Settings(error)
    }
}

/// The arguments, with what `environment` and the files say about what they leave open.
///
/// # Errors
///
/// Arguments, variables or files are wrong, or help was asked for.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: Environment<'_>,
) -> Result<Cli, Unparsed> {
    let words: Vec<OsString> = words.into_iter().collect();
    let whole = command();
    let matches = whole.clone().try_get_matches_from(&words)?;
    let Some(name) = matches.subcommand_name().filter(|name| keys::CONFIGURED.contains(name)) else {
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let mut built = whole.clone();
    built.build();
    let mut settings = layers::resolve(&keys::Keys::of(&built), &given(&matches), environment)?;
    if is_rehearsal(&matches) {
        // It makes no videos: where they go is for real runs.
        settings.values.remove(DOWNLOAD);
    }
    if name == "download" {
        // It downloads anyway; the setting says where to, if it names a place.
        let place = settings.values.remove(DOWNLOAD).filter(|place| !place.words.concat().is_empty());
        settings.values.extend(place.map(|place| ("to".to_owned(), place)));
    }
    let merged = with_defaults(whole, name, &settings).try_get_matches_from(&words)?;
    stays_in_the_sheets_folder(&merged, &settings)?;
    Ok(Cli::from_arg_matches(&merged)?)
}

/// That the folder for videos beside a sheet is one, and no link to elsewhere, if a file in the
/// sheet's folder turned downloads on: then the link may have come with it.
fn stays_in_the_sheets_folder(matches: &ArgMatches, settings: &Settings) -> Result<(), UsageError> {
    let Some(Setting { words, origin: Origin::File(place) }) = settings.values.get(DOWNLOAD) else {
        return Ok(());
    };
    let Some((_, matches)) = matches.subcommand() else { return Ok(()) };
    let is_off: bool = matches.try_get_one("no_download").ok().flatten().copied().unwrap_or_default();
    let by_file = !is_off
        && matches.try_contains_id(DOWNLOAD).is_ok()
        && matches.value_source(DOWNLOAD) == Some(ValueSource::DefaultValue)
        && settings.project.as_ref().is_some_and(|project| project.file == place.file);
    // Turned on without a place; one that is named was judged when the file was read.
    let without_place = words.iter().any(String::is_empty);
    let path = |name: &str| matches.try_get_one::<PathBuf>(name).ok().flatten().cloned();
    let Some(sheet) = path("manifest").filter(|_| by_file && without_place) else { return Ok(()) };
    let source = if sheet.as_os_str() == "-" { Source::Stdin } else { Source::File(sheet) };
    let videos = videos_of(&source, path("state").as_deref(), false);
    let (folder, name) = (videos.parent().unwrap_or(Path::new("")), videos.file_name().unwrap_or_default());
    if lies_inside(folder, Path::new(name)) {
        return Ok(());
    }
    let videos = videos.display();
    Err(UsageError(format!(
        "{place}: {DOWNLOAD}: {videos} leads out of its folder, which may come from anywhere: if you mean that, \
         add --{DOWNLOAD}={videos}"
    )))
}

fn is_rehearsal(matches: &ArgMatches) -> bool {
    let simulate =
        matches.subcommand().and_then(|(_, matches)| matches.try_get_one("simulate").ok().flatten());
    simulate.copied().unwrap_or_default()
}

/// What the arguments say about where settings come from.
fn given(matches: &ArgMatches) -> Given {
    let Some((_, matches)) = matches.subcommand() else { return Given::default() };
    let path = |name: &str| matches.try_get_one::<PathBuf>(name).ok().flatten().cloned();
    Given {
        config: path("config"),
        no_config: matches.try_get_one("no_config").ok().flatten().copied().unwrap_or_default(),
        account: matches.try_get_one::<String>("account").ok().flatten().cloned(),
        sheet: path("manifest").or_else(|| path("run")),
    }
}

/// The command line whose subcommand `name`, and whose options for all, have `settings` as defaults.
fn with_defaults(whole: Command, name: &str, settings: &Settings) -> Command {
    let put = |mut command: Command| {
        for (key, setting) in &settings.values {
            let id = command
                .get_arguments()
                .find(|arg| arg.get_long() == Some(key))
                .map(|arg| arg.get_id().clone());
            if let Some(id) = id {
                command = command.mut_arg(id, |arg| arg.default_values(setting.words.clone()));
            }
        }
        command
    };
    put(whole).mut_subcommand(name, put)
}

/// Names in the help of each option the variables that set it.
pub(super) fn with_variables_told(whole: Command) -> Command {
    let tell = |mut command: Command| {
        for (key, variables) in keys::VARIABLES {
            let found = command.get_arguments().find(|arg| arg.get_long() == Some(key));
            let Some((id, help)) = found.map(|arg| (arg.get_id().clone(), arg.get_help().cloned())) else {
                continue;
            };
            let help = format!("{} [env: {}]", help.unwrap_or_default(), variables.join(", "));
            command = command.mut_arg(id, |arg| arg.help(help));
        }
        command
    };
    keys::CONFIGURED.into_iter().fold(tell(whole), |whole, name| {
        if whole.find_subcommand(name).is_some() { whole.mut_subcommand(name, tell) } else { whole }
    })
}

#[cfg(test)]
mod tests;
