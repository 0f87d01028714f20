//! `--name` and `--names`: what videos are called, shared by the commands that name them.

use std::fmt;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::UsageError;
use super::run::write_problems;
use super::sheet::Source;
use crate::batch::Batch;
use crate::download::{Destination, PlaceError};
use crate::names::{EXTENSION, FileSystem, NameRule, Style, Template};
use crate::report::Screen;
use crate::report::wording::{Of, command_line};
use crate::store::Naming;

/// What videos are called.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Videos")]
pub struct NameArgs {
    /// What each video is called: {id}, {row}, {sample}, {prompt}, {slug}, {key} or {any column}, / for folders,
    /// {prompt:.180} for its first characters [default: {id}, or {slug:.60}-{key:.8}]
    #[arg(long, value_name = "TEMPLATE")]
    pub name: Option<Template>,
    /// portable: altered where some file system would not take it; exact: to the letter, or refused before anything
    /// is bought [default: portable]
    #[arg(long, value_name = "STYLE")]
    pub names: Option<Style>,
}

impl NameArgs {
    /// Whether anything was said about names.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        self.name.is_some() || self.names.is_some()
    }

    /// The rule: each part as said, else as in the state file, else the default.
    #[must_use]
    pub fn rule(&self, stored: Option<NameRule>) -> NameRule {
        let stored = stored.unwrap_or_default();
        NameRule {
            template: self.name.clone().or(stored.template),
            style: self.names.unwrap_or(stored.style),
        }
    }
}

/// What `destination`, a folder or `s3://bucket/prefix`, takes for a name. It is tried only where that
/// matters.
///
/// # Errors
///
/// Nothing can be written there.
pub fn takes(style: Style, destination: &Path) -> anyhow::Result<FileSystem> {
    let named = destination.to_str().map(str::parse).transpose();
    if let Some(Destination::Bucket { prefix }) =
        named.map_err(|error: PlaceError| UsageError(error.to_string()))?
    {
        return Ok(FileSystem::bucket(&prefix));
    }
    match style {
        Style::Portable => Ok(FileSystem::bucket("")),
        Style::Exact => FileSystem::probe(destination)
            .with_context(|| format!("cannot try what {} takes for a name", destination.display())),
    }
}

/// That what is in front of names at `destination` leaves room for the longest of them.
///
/// # Errors
///
/// It does not: nothing can be done about that once they are bought.
pub fn check_room(naming: &Naming, place: &FileSystem, destination: &Path) -> Result<(), UsageError> {
    let longest = naming.longest.as_ref().map_or(0, |name| name.len() + EXTENSION);
    if longest <= place.longest_path {
        return Ok(());
    }
    Err(UsageError(format!(
        "{} leaves {} bytes for a name, and the longest has {longest}: shorten the prefix, or cut names in --name, such \
         as {{prompt:.180}}",
        destination.display(),
        place.longest_path
    )))
}

/// Names the samples of `batch` for `destination`; `false` if they cannot be named, for reasons that
/// have been told.
///
/// # Errors
///
/// A template that does not fit the sheet; a state file that fails; a destination that cannot be
/// written.
pub fn assign(
    args: &NameArgs,
    source: &Source,
    batch: &mut Batch,
    destination: &Path,
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let rule = args.rule(batch.store().name_rule()?);
    let place = takes(rule.style, destination)?;
    let naming = batch.assign_names(&rule, &place)?;
    check_room(&naming, &place, destination)?;
    if naming.problem_count > 0 {
        write_problems(source, &naming.problems, naming.problem_count, screen)?;
        return Ok(false);
    }
    if let Some(other) = naming.other_rule {
        let kept = Of(naming.kept, "video");
        let others = if naming.samples > naming.kept { "; the others get new ones" } else { "" };
        writeln!(screen, "{kept} bought under {} keep their names{others}.", Flags(&other))?;
    }
    Ok(true)
}

/// A rule as it is typed.
pub struct Flags<'a>(pub &'a NameRule);

impl fmt::Display for Flags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.0.style.as_str();
        let words = match &self.0.template {
            Some(template) => {
                vec!["--name".to_owned(), template.to_string(), "--names".to_owned(), style.to_owned()]
            }
            None => vec!["--names".to_owned(), style.to_owned()],
        };
        f.write_str(&command_line(&words))
    }
}
