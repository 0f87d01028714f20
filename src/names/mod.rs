//! What a video is called: from a template and a row to a path that can be written.
//!
//! A name is a relative path with `/` between folders and without an extension, which comes once
//! the kind of the video is known. Only the `/` of the template makes folders: what a row holds
//! never leads anywhere. Under [`Style::Portable`] any row gets a name that every file system takes;
//! under [`Style::Exact`] no letter is altered, and what cannot be is refused before it is bought.
//! That no two samples have one name is for whoever has them all ([`crate::store`]); what counts as
//! one name is [`fold`]'s. Nothing here does input or output but [`FileSystem::probe`].
//!
//! ```
//! use batchveo::names::{FileSystem, NameRule, Style, Subject};
//!
//! let columns = ["prompt", "campaign"].map(str::to_owned);
//! let cells = ["A cat: asleep", "Spring/2026"].map(str::to_owned);
//! let subject = Subject {
//!     id: None,
//!     row: 7,
//!     sample: 0,
//!     samples: 1,
//!     prompt: "A cat: asleep",
//!     key: "0f3a52c7d1e84b6690a1b2c3d4e5f607",
//!     cells: &cells,
//! };
//! let rule = NameRule { template: Some("{campaign}/{prompt:.180}".parse()?), style: Style::Portable };
//! let namer = rule.bind(&columns, false)?;
//! assert_eq!(namer.portable(&subject, 0), "Spring_2026/A cat_ asleep");
//! let unfit = namer.exact(&subject, &FileSystem::bucket("")).unwrap_err();
//! assert_eq!(unfit.what, "its name would hold a `/` that is not the template's: `Spring/2026`");
//! # Ok::<(), batchveo::names::TemplateError>(())
//! ```

mod exact;
mod file_system;
mod fold;
mod portable;
mod slug;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use exact::{DRAFTS, Unfit};
pub use file_system::{FileSystem, Longest, nearest_folder};
pub use fold::{Fold, Folding, fold};
pub use template::{Template, TemplateError};

use template::{Part, Word};

/// Room for the extension of a video, in bytes: the longest are `.webm` and `.jpeg`.
pub const EXTENSION: usize = 5;

/// Whether a name may be altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Style {
    /// It is, so that every file system takes it.
    #[default]
    Portable,
    /// It is not: names are looked up letter by letter.
    Exact,
}

impl Style {
    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Exact => "exact",
        }
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Portable, Self::Exact]
            .into_iter()
            .find(|style| style.as_str() == text)
            .ok_or_else(|| "use portable (safe on every file system) or exact (never altered)".to_owned())
    }
}

/// How videos are named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameRule {
    /// The template. Without one, rows that have an id are named `{id}` and others
    /// `{slug:.60}-{key:.8}`, followed by `-{sample}` where any row of the sheet asks for more than
    /// one sample.
    pub template: Option<Template>,
    /// Whether names may be altered.
    pub style: Style,
}

impl fmt::Display for NameRule {
    /// `portable {id}-{sample}`, or without a template `portable`; parsed, it is the same rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.template {
            Some(template) => write!(f, "{} {template}", self.style),
            None => write!(f, "{}", self.style),
        }
    }
}

impl FromStr for NameRule {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let (style, template) = match text.split_once(' ') {
            Some((style, template)) => (style, Some(template.parse()?)),
            None => (text, None),
        };
        let style = style.parse().map_err(|what| TemplateError { at: 1, what })?;
        Ok(Self { template, style })
    }
}

impl NameRule {
    /// The rule for a sheet with these columns.
    ///
    /// # Errors
    ///
    /// The template names a column that the sheet has not.
    pub fn bind(&self, columns: &[String], uses_samples: bool) -> Result<Namer, TemplateError> {
        if let Some(template) = &self.template {
            return Ok(Namer { with_id: template.bind(columns)?, without_id: None });
        }
        let sample = if uses_samples { "-{sample}" } else { "" };
        let default = |base: &str| format!("{base}{sample}").parse::<Template>()?.bind(columns);
        let (with_id, without_id) = (default("{id}")?, Some(default("{slug:.60}-{key:.8}")?));
        Ok(Namer { with_id, without_id })
    }
}

/// A sample to be named.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The row's id, if it has one.
    pub id: Option<&'a str>,
    /// The row's number in the sheet, from 1, blank rows not counted. It moves when rows are inserted
    /// before it; what is bought keeps its name all the same.
    pub row: u64,
    /// Which sample of the row, from 0. Rows that ask for the very same count on: of two such rows
    /// with five samples each, the second one's are 5 to 9.
    pub sample: u32,
    /// How many there are of it, counted in the same way.
    pub samples: u32,
    /// The prompt.
    pub prompt: &'a str,
    /// The row's key: 32 hexadecimal digits that no other row has.
    pub key: &'a str,
    /// The row's cells, in the order of the sheet's columns; the last ones may be missing.
    pub cells: &'a [String],
}

/// A rule that knows the sheet's columns.
#[derive(Debug, Clone)]
pub struct Namer {
    /// The folders and the file of the name.
    with_id: Vec<Vec<Part>>,
    /// The same for rows without an id, where they are named otherwise.
    without_id: Option<Vec<Vec<Part>>>,
}

impl Namer {
    /// The name of `subject` for which every file system has room, altered where it must be. If it is
    /// taken, ask with the next `attempt`: from 1 on it carries more and more of the row's key.
    #[must_use]
    pub fn portable(&self, subject: &Subject<'_>, attempt: u32) -> String {
        let recipe = self.recipe(subject);
        let sample = subject.sample;
        let says_sample = recipe.iter().flatten().any(Part::is_sample);
        let own = if subject.samples > 1 && !says_sample { format!("-{sample}") } else { String::new() };
        let key = |digits: usize| subject.key.get(..digits).unwrap_or(subject.key);
        let suffix = match attempt {
            0 => own,
            1 => format!("{own}-{}", key(8)),
            2 => format!("{own}-{}-{sample}", key(8)),
            3 => format!("{own}-{}-{sample}", key(32)),
            more => format!("{own}-{}-{sample}-{more}", key(32)),
        };
        portable::path(&filled(recipe, subject), subject.key, &suffix)
    }

    /// The name of `subject` to the letter, if it can be at `place`.
    ///
    /// # Errors
    ///
    /// Why it cannot, and what to do about it.
    pub fn exact(&self, subject: &Subject<'_>, place: &FileSystem) -> Result<String, Unfit> {
        let parts: Vec<String> = filled(self.recipe(subject), subject)
            .iter()
            .map(|pieces| pieces.iter().map(|piece| piece.text.as_str()).collect())
            .collect();
        place.check_parts(parts.iter().map(String::as_str))?;
        Ok(parts.join("/"))
    }

    /// Whether names depend on [`Subject::prompt`].
    #[must_use]
    pub fn needs_prompt(&self) -> bool {
        self.has(|word| matches!(word, Word::Prompt | Word::Slug))
    }

    /// Whether names depend on [`Subject::cells`].
    #[must_use]
    pub fn needs_cells(&self) -> bool {
        self.has(|word| matches!(word, Word::Column(_)))
    }

    fn has(&self, is: impl Fn(Word) -> bool) -> bool {
        let recipes = [Some(&self.with_id), self.without_id.as_ref()];
        recipes.into_iter().flatten().flatten().flatten().any(|part| match part {
            Part::Text(_) => false,
            Part::Value { word, .. } => is(*word),
        })
    }

    fn recipe(&self, subject: &Subject<'_>) -> &[Vec<Part>] {
        match (&self.without_id, subject.id) {
            (Some(recipe), None) => recipe,
            (Some(_) | None, _) => &self.with_id,
        }
    }
}

/// A part of a name on its way.
#[derive(Debug, Clone)]
struct Piece {
    text: String,
    /// Whether a row gave it, so that it may be cut where there is not enough room.
    is_value: bool,
}

/// The folders and the file of a name, as the row gives them.
fn filled(recipe: &[Vec<Part>], subject: &Subject<'_>) -> Vec<Vec<Piece>> {
    let piece = |part: &Part| match part {
        Part::Text(text) => Piece { text: text.clone(), is_value: false },
        Part::Value { word, cut } => {
            Piece { text: value(*word, *cut, subject), is_value: *word != Word::Sample }
        }
    };
    recipe.iter().map(|parts| parts.iter().map(piece).collect()).collect()
}

/// What a word of the template stands for, at most `cut` characters of it.
fn value(word: Word, cut: Option<usize>, subject: &Subject<'_>) -> String {
    let text = match word {
        Word::Id => subject.id.unwrap_or_default(),
        Word::Prompt => subject.prompt,
        Word::Key => subject.key,
        Word::Column(place) => subject.cells.get(place).map_or("", String::as_str),
        Word::Slug => return slug::slug(subject.prompt, cut.unwrap_or(usize::MAX)),
        Word::Row => &subject.row.to_string(),
        Word::Sample => &subject.sample.to_string(),
    };
    match cut.and_then(|cut| text.char_indices().nth(cut)) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
