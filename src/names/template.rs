//! Templates of names: `{campaign}/{id}-{sample}`.
//!
//! Parsed once from the command line, and bound to a sheet once its columns are known. An error
//! points at the place, counted in characters, and says what would do.

use std::fmt;
use std::str::FromStr;

use crate::harmless::one_line;

/// Most folders and file of a name: with 900 bytes for all of them, each has room for a key.
const MOST_PARTS: usize = 8;
/// Longest text of a folder or file in the template itself, in bytes.
const LONGEST_TEXT: usize = 100;
/// Characters of a column's name that a message shows.
const SHOWN: usize = 40;
/// How alike a column must be to be what was meant, from 0 to 1.
const ALIKE: f64 = 0.7;

/// The words that are not columns, with what they stand for.
const WORDS: [(&str, Word); 6] = [
    ("id", Word::Id),
    ("row", Word::Row),
    ("sample", Word::Sample),
    ("prompt", Word::Prompt),
    ("slug", Word::Slug),
    ("key", Word::Key),
];

/// What a template is made of, once the columns are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text that stands for itself.
    Text(String),
    /// What the row gives, and how many characters of it at most.
    Value { word: Word, cut: Option<usize> },
}

impl Part {
    pub(super) const fn is_sample(&self) -> bool {
        matches!(self, Self::Value { word: Word::Sample, .. })
    }
}

/// A word between braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Id,
    Row,
    Sample,
    Prompt,
    Slug,
    Key,
    /// The column of this place in the sheet.
    Column(usize),
}

/// A template of names, not yet bound to a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Vec<Unbound>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unbound {
    Text(String),
    Value {
        name: String,
        cut: Option<usize>,
        /// The place of its brace, in characters from 1.
        at: usize,
    },
}

/// What is wrong with a template, where, and what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--name, character {at}: {what}")]
pub struct TemplateError {
    /// The place, in characters from 1.
    pub at: usize,
    /// What is wrong and what to do.
    pub what: String,
}

fn wrong<T>(at: usize, what: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError { at, what: what.into() })
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = vec![Vec::new()];
        let mut literal = String::new();
        let mut starts = 1;
        let mut chars = text.chars().zip(1..).peekable();
        while let Some((c, at)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|(next, _)| *next == c).is_some() => literal.push(c),
                '{' => {
                    push_text(&mut parts, &mut literal);
                    let inside: String = chars.by_ref().map(|(c, _)| c).take_while(|c| *c != '}').collect();
                    // Characters are counted, so that a brace that is never closed shows.
                    let end = at + inside.chars().count() + 1;
                    if text.chars().nth(end - 1) != Some('}') {
                        return wrong(
                            at,
                            "this brace is not closed: write } behind the word, or {{ for a brace",
                        );
                    }
                    let (name, cut) = word(&inside, at)?;
                    last(&mut parts).push(Unbound::Value { name, cut, at });
                }
                '}' => return wrong(at, "this brace closes nothing: write }} for a brace"),
                '/' => {
                    push_text(&mut parts, &mut literal);
                    check_part(last(&mut parts), starts)?;
                    parts.push(Vec::new());
                    starts = at + 1;
                }
                '\\' => return wrong(at, "\\ makes no folder: write /"),
                c if c.is_control() => return wrong(at, "control characters are not for names"),
                c => literal.push(c),
            }
        }
        push_text(&mut parts, &mut literal);
        check_part(last(&mut parts), starts)?;
        if parts.len() > MOST_PARTS {
            return wrong(1, format!("more than {} folders", MOST_PARTS - 1));
        }
        if !parts.iter().flatten().any(|part| matches!(part, Unbound::Value { .. })) {
            return wrong(1, "all videos would have one name: use {id}, {prompt}, {slug}, {key} or {row}");
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

fn last(parts: &mut [Vec<Unbound>]) -> &mut Vec<Unbound> {
    parts.last_mut().expect("there is one from the start")
}

fn push_text(parts: &mut [Vec<Unbound>], literal: &mut String) {
    if !literal.is_empty() {
        last(parts).push(Unbound::Text(std::mem::take(literal)));
    }
}

/// That a folder or file can have a name at all.
fn check_part(part: &[Unbound], at: usize) -> Result<(), TemplateError> {
    match part {
        [] => wrong(at, "a folder or file without a name: no / at either end, and not two in a row"),
        [Unbound::Text(text)] if text == "." || text == ".." => {
            wrong(at, format!("{text} leads out of the folder: write a name"))
        }
        parts => {
            let own = parts.iter().map(|part| match part {
                Unbound::Text(text) => text.len(),
                Unbound::Value { .. } => 0,
            });
            if own.sum::<usize>() > LONGEST_TEXT {
                return wrong(at, format!("more than {LONGEST_TEXT} bytes of the same text in every name"));
            }
            Ok(())
        }
    }
}

/// What stands between two braces: a word, and behind `:.` how many characters of it.
fn word(inside: &str, at: usize) -> Result<(String, Option<usize>), TemplateError> {
    let (name, cut) = match inside.rsplit_once(":.") {
        Some((name, digits)) => match digits.parse() {
            Ok(cut) if cut > 0 => (name, Some(cut)),
            Ok(_) | Err(_) => {
                let name = one_line(name, SHOWN);
                return wrong(at, format!("a cut is a number of characters, such as {{{name}:.60}}"));
            }
        },
        None => (inside, None),
    };
    match name.trim() {
        "" => wrong(at, "nothing between the braces: write {id}, or {{ and }} for braces"),
        name => Ok((name.to_owned(), cut)),
    }
}

impl Template {
    /// The template for a sheet with these columns.
    pub(super) fn bind(&self, columns: &[String]) -> Result<Vec<Vec<Part>>, TemplateError> {
        let bound = |part: &Unbound| match part {
            Unbound::Text(text) => Ok(Part::Text(text.clone())),
            Unbound::Value { name, cut, at } => match find(name, columns) {
                Some(word) => Ok(Part::Value { word, cut: *cut }),
                None => wrong(*at, unknown(name, columns)),
            },
        };
        self.parts.iter().map(|parts| parts.iter().map(bound).collect()).collect()
    }
}

/// The word called `name`: exactly one of ours or a column, or else in any case.
fn find(name: &str, columns: &[String]) -> Option<Word> {
    let among = |same: &dyn Fn(&str) -> bool| {
        let ours = WORDS.into_iter().find(|(ours, _)| same(ours)).map(|(_, word)| word);
        ours.or_else(|| columns.iter().position(|column| same(column.trim())).map(Word::Column))
    };
    among(&|word| word == name).or_else(|| among(&|word| word.eq_ignore_ascii_case(name)))
}

/// What to say of a word that is nothing.
fn unknown(name: &str, columns: &[String]) -> String {
    let is_ours = |column: &&str| WORDS.iter().any(|(word, _)| word == column);
    let columns = columns.iter().map(String::as_str).filter(|column| !is_ours(column));
    let known = || WORDS.iter().map(|(word, _)| *word).chain(columns.clone());
    let lower = name.to_lowercase();
    let nearest = known()
        .map(|word| (strsim::jaro_winkler(&word.to_lowercase(), &lower), word))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let shown = one_line(name, SHOWN);
    if let Some((_, word)) = nearest {
        return format!("the sheet has no column `{shown}`: is {{{}}} meant?", one_line(word, SHOWN));
    }
    let all: Vec<_> = known().map(|word| format!("{{{}}}", one_line(word, SHOWN))).collect();
    format!("the sheet has no column `{shown}`: there are {}", all.join(" "))
}
