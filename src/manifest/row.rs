//! Cells to an [`Entry`], or to everything that is wrong with them.
//!
//! Each field is read on its own and every problem is kept, so that a sheet is mended in one go.
//! What could not be read counts as neither given nor blank: no rule is held against it, because
//! one mistake should be told once. The rules themselves are [`Draft::check`]'s; here they get the
//! sheet's own column names.

use std::num::NonZeroU32;

use super::columns::{Columns, Field};
use super::options::Defaults;
use super::problem::{LONGEST_NAME, Place, Problem, shown};
use super::words::{
    UnknownWord, parse_aspect_ratio, parse_generation_type, parse_mode, parse_provider, parse_whole,
};
use super::{Adjusted, Entry};
use crate::generation::{self, AspectRatio, Draft, GenerationType, Mode, Violation, check_image_url};
use crate::harmless::one_line;

/// Most samples of one row: more is more likely a seed in the wrong column than a wish.
const MOST_SAMPLES: u32 = 1_000;
/// Most images of one row that are looked at: several times what the API takes, and far from what a
/// cell of prose would be split into.
const MOST_IMAGES: usize = 16;
/// Longest id, in characters.
pub const LONGEST_ID: usize = 512;

/// The cells of one record.
pub(super) struct Row {
    /// The record's first line.
    pub(super) line: u64,
    /// How its place is told.
    pub(super) place: Place,
    /// One text a column; missing ones are blank.
    pub(super) fields: Vec<String>,
    /// Columns whose cell is a JSON array or object.
    pub(super) nested: Vec<usize>,
    /// Columns whose cell cannot be read, and why.
    pub(super) damaged: Vec<(usize, Damage)>,
    /// Why the cells cannot be told apart, if so; nothing more is then asked of them.
    pub(super) broken: Option<Problem>,
}

/// Why a cell cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Damage {
    /// This byte, from 1, is the first that is not UTF-8.
    NotUtf8(usize),
    /// A formula came to this error.
    Formula(String),
    /// A formula's value was not saved.
    Uncalculated,
}

impl Row {
    pub(super) const fn new(line: u64, place: Place, fields: Vec<String>) -> Self {
        Self { line, place, fields, nested: Vec::new(), damaged: Vec::new(), broken: None }
    }

    /// The same row without cells that can be told apart.
    pub(super) fn broken(self, what: impl Into<String>, mend: impl Into<String>) -> Self {
        let place = self.place.of(self.line, None);
        let problem = Problem { line: self.line, place, column: None, what: what.into(), mend: mend.into() };
        Self { broken: Some(problem), ..self }
    }
}

/// What a row says in one field.
#[derive(Clone, Copy)]
enum Cell<T> {
    Blank,
    Given(T),
    /// A problem has been told.
    Wrong,
}

impl<T> Cell<T> {
    fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Blank | Self::Wrong => None,
        }
    }
}

/// Reads one row.
pub(super) fn read(
    row: &Row,
    columns: &Columns,
    defaults: Defaults,
) -> (Result<Entry, Vec<Problem>>, Adjusted) {
    if let Some(problem) = &row.broken {
        return (Err(vec![problem.clone()]), Adjusted::default());
    }
    let mut reading = Reading { row, columns, problems: Vec::new(), told: Vec::new() };
    reading.report_damage();
    reading.entry(defaults)
}

struct Reading<'a> {
    row: &'a Row,
    columns: &'a Columns,
    problems: Vec<Problem>,
    /// Fields with a problem of their own.
    told: Vec<Field>,
}

/// The images of a row and how they came.
struct Images {
    /// Address and column, in the order they are sent.
    urls: Vec<(String, usize)>,
    /// The first of the two frame fields that is given, if one is.
    frames: Option<Field>,
}

impl<'a> Reading<'a> {
    fn entry(mut self, defaults: Defaults) -> (Result<Entry, Vec<Problem>>, Adjusted) {
        let prompt = self.text(Field::Prompt).given().unwrap_or_default().to_owned();
        let id = self.id();
        let samples = self.samples().or(defaults.samples).unwrap_or(NonZeroU32::MIN);
        let said_type = self.word(Field::Type, parse_generation_type);
        let images = self.images();
        let generation_type = self.generation_type(said_type, &images, defaults);

        // Nothing is held against a mode or ratio of a row whose type is not known.
        let reference = generation_type.is_none_or(|known| known == GenerationType::Reference);
        let mut adjusted = Adjusted::default();
        let mode = match self.word(Field::Mode, parse_mode) {
            Cell::Given(mode) => mode,
            Cell::Blank | Cell::Wrong if reference => {
                adjusted.mode = defaults.mode != Some(Mode::Fast);
                Mode::Fast
            }
            Cell::Blank | Cell::Wrong => defaults.mode.unwrap_or(Mode::Quality),
        };
        let aspect_ratio = match self.word(Field::AspectRatio, parse_aspect_ratio) {
            Cell::Given(ratio) => ratio,
            Cell::Blank | Cell::Wrong if reference => {
                let usual = defaults.aspect_ratio.unwrap_or(AspectRatio::Landscape);
                adjusted.aspect_ratio = usual != AspectRatio::Landscape;
                AspectRatio::Landscape
            }
            Cell::Blank | Cell::Wrong => defaults.aspect_ratio.unwrap_or(AspectRatio::Landscape),
        };
        let seed = self.seed();
        let watermark = self.text(Field::Watermark).given().map(str::to_owned);
        let provider = self.word(Field::Provider, parse_provider).given().or(defaults.provider);

        let addresses = self.check_addresses(&images);
        let urls = images.urls.into_iter().map(|(url, _)| url);
        let draft = Draft {
            prompt,
            generation_type: generation_type.unwrap_or(GenerationType::Text),
            mode,
            aspect_ratio,
            // Without a type, no count of images is wrong.
            image_urls: urls.filter(|_| generation_type.is_some()).collect(),
            seed,
            watermark,
            provider,
        };
        let generation = draft.check().map_err(|broken| self.report(broken, &addresses)).ok();
        match generation {
            Some(generation) if self.problems.is_empty() => (Ok(Entry { id, samples, generation }), adjusted),
            Some(_) | None => (Err(self.problems), Adjusted::default()),
        }
    }

    /// A cell's text without the white space around it.
    fn text(&mut self, field: Field) -> Cell<&'a str> {
        let (row, columns) = (self.row, self.columns);
        let mut given = columns.giving(field).filter_map(|column| {
            let text = row.fields.get(column)?.trim();
            (!text.is_empty()).then_some((column, text))
        });
        let Some((column, text)) = given.next() else { return Cell::Blank };
        if let Some((second, _)) = given.next() {
            let second = one_line(&columns.names()[second], LONGEST_NAME);
            let what = format!("{second} gives the {field} as well");
            return self.wrong(field, Some(column), what, "keep one of them");
        }
        if row.damaged.iter().any(|(damaged, _)| *damaged == column) {
            self.told.push(field);
            return Cell::Wrong;
        }
        if row.nested.contains(&column) {
            let what = format!("`{}` where one value is wanted", shown(text));
            return self.wrong(field, Some(column), what, "write a text or a number");
        }
        Cell::Given(text)
    }

    fn word<T>(&mut self, field: Field, parse: fn(&str) -> Result<T, UnknownWord>) -> Cell<T> {
        match self.text(field) {
            Cell::Blank => Cell::Blank,
            Cell::Wrong => Cell::Wrong,
            Cell::Given(text) => match parse(text) {
                Ok(value) => Cell::Given(value),
                Err(UnknownWord { what, mend }) => self.wrong(field, None, what, mend),
            },
        }
    }

    fn id(&mut self) -> Option<String> {
        let id = self.text(Field::Id).given()?;
        let characters = id.chars().count();
        if characters > LONGEST_ID {
            let mend = format!("at most {LONGEST_ID} are kept: shorten it");
            return self.wrong(Field::Id, None, format!("an id of {characters} characters"), mend).given();
        }
        if id.chars().any(char::is_control) {
            let what = format!("`{}` has a line break or another control character", shown(id));
            return self.wrong(Field::Id, None, what, "write the id on one line").given();
        }
        Some(id.to_owned())
    }

    fn samples(&mut self) -> Option<NonZeroU32> {
        let text = self.text(Field::Samples).given()?;
        let number = parse_whole(text).and_then(|number| u32::try_from(number).ok());
        let samples = number.filter(|&number| number <= MOST_SAMPLES).and_then(NonZeroU32::new);
        samples.or_else(|| {
            let what = format!("`{}` is not a number of samples", shown(text));
            let mend = format!("write a whole number from 1 to {MOST_SAMPLES}");
            self.wrong(Field::Samples, None, what, mend).given()
        })
    }

    fn seed(&mut self) -> Option<u64> {
        let text = self.text(Field::Seed).given()?;
        parse_whole(text).or_else(|| {
            let what = format!("`{}` is not a seed", shown(text));
            self.wrong(Field::Seed, None, what, "write a whole number from 0, such as 1234").given()
        })
    }

    /// All images, from the one way of giving them that the row uses.
    fn images(&mut self) -> Images {
        let listed = self.listed_images();
        let first = self.frame(Field::FirstFrame);
        let last = self.frame(Field::LastFrame);
        if matches!(first, Cell::Blank) && !matches!(last, Cell::Blank) {
            let what = "a last frame without a first one";
            self.wrong::<()>(Field::LastFrame, None, what, "give a first_frame too");
            self.told.push(Field::ImageUrls);
        }
        if matches!((&first, &last), (Cell::Wrong, _) | (_, Cell::Wrong)) {
            self.told.push(Field::ImageUrls);
        }
        let frames = match (&first, &last) {
            (Cell::Given(_) | Cell::Wrong, _) => Some(Field::FirstFrame),
            (Cell::Blank, Cell::Given(_) | Cell::Wrong) => Some(Field::LastFrame),
            (Cell::Blank, Cell::Blank) => None,
        };
        if frames.is_some() && !listed.is_empty() {
            let what = "images and a first or last frame in one row";
            let mend = "give first_frame and last_frame, or image_urls";
            self.wrong::<()>(Field::ImageUrls, None, what, mend);
        }
        let urls = listed.into_iter().chain(first.given()).chain(last.given()).collect();
        Images { urls, frames }
    }

    fn frame(&mut self, field: Field) -> Cell<(String, usize)> {
        match self.text(field) {
            Cell::Blank => Cell::Blank,
            Cell::Wrong => Cell::Wrong,
            Cell::Given(url) => {
                self.column_of(field).map_or(Cell::Blank, |column| Cell::Given((url.to_owned(), column)))
            }
        }
    }

    /// The images of every column that lists some: a JSON array of texts, or addresses with `|` or
    /// white space between them.
    fn listed_images(&mut self) -> Vec<(String, usize)> {
        let (row, columns) = (self.row, self.columns);
        let mut urls = Vec::new();
        for column in columns.giving(Field::ImageUrls) {
            let text = row.fields.get(column).map_or("", |text| text.trim());
            if row.damaged.iter().any(|(damaged, _)| *damaged == column) {
                self.told.push(Field::ImageUrls);
            } else if text.starts_with('[') || row.nested.contains(&column) {
                if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
                    let list = list.iter().map(|url| url.trim()).filter(|url| !url.is_empty());
                    urls.extend(list.map(|url| (url.to_owned(), column)).take(MOST_IMAGES + 1));
                } else {
                    let what = format!("`{}` is not a JSON array of texts", shown(text));
                    let mend = r#"write ["https://…", "https://…"], or addresses with | between them"#;
                    self.wrong::<()>(Field::ImageUrls, Some(column), what, mend);
                }
            } else {
                let split = text.split(|c: char| c == '|' || c.is_whitespace());
                let split = split.filter(|url| !url.is_empty());
                urls.extend(split.map(|url| (url.to_owned(), column)).take(MOST_IMAGES + 1));
            }
        }
        if let Some(&(_, column)) = urls.get(MOST_IMAGES) {
            // Not one by one: a cell of 4 MiB may hold two million of them.
            let what = format!("more than {MOST_IMAGES} images");
            let mend = "the API takes at most 3: is this the column of the images?";
            self.wrong::<()>(Field::ImageUrls, Some(column), what, mend);
            urls.clear();
        }
        urls
    }

    /// The type, unless it is wrong or must be asked for.
    fn generation_type(
        &mut self,
        said: Cell<GenerationType>,
        images: &Images,
        defaults: Defaults,
    ) -> Option<GenerationType> {
        match said {
            // When the images are wrong in themselves, that is the mistake to mend first.
            Cell::Given(said) if said != GenerationType::Frames && !self.told.contains(&Field::ImageUrls) => {
                let Some(field) = images.frames else { return Some(said) };
                let what = format!("a first or last frame in a row of type {}", said.as_str());
                self.wrong(field, None, what, "set the type to frames, or remove them").given()
            }
            Cell::Given(said) => Some(said),
            Cell::Wrong => None,
            Cell::Blank if images.frames.is_some() => Some(GenerationType::Frames),
            Cell::Blank => match defaults.generation_type {
                Some(usual) => Some(usual),
                None if images.urls.is_empty() && !self.told.contains(&Field::ImageUrls) => {
                    Some(GenerationType::Text)
                }
                None if images.urls.is_empty() => None,
                None => {
                    let column = self.column_of(Field::Type).or_else(|| self.column_of(Field::ImageUrls));
                    let what = "images, and no type that says what they are";
                    let mend = "set the type to frames or reference, or give --type";
                    self.wrong(Field::Type, column, what, mend).given()
                }
            },
        }
    }

    /// Each image's address, on its own column; answers what was found.
    fn check_addresses(&mut self, images: &Images) -> Vec<Violation> {
        let mut found = Vec::new();
        for (url, column) in &images.urls {
            if let Some(violation) = check_image_url(url) {
                let (what, mend) = (violation.what.clone(), violation.mend.clone());
                self.problem(Some(*column), what, mend);
                found.push(violation);
            }
        }
        found
    }

    /// Reports the rules that a draft breaks, but those told already.
    fn report(&mut self, broken: Vec<Violation>, addresses: &[Violation]) {
        for violation in broken {
            let fields: &[Field] = match violation.field {
                generation::Field::Prompt => &[Field::Prompt],
                // A sheet without a column of images has too few of them.
                generation::Field::ImageUrls => &[Field::ImageUrls, Field::FirstFrame, Field::Type],
                generation::Field::Mode => &[Field::Mode],
                generation::Field::AspectRatio => &[Field::AspectRatio],
            };
            if self.told.contains(&fields[0]) || addresses.contains(&violation) {
                continue;
            }
            let column = fields.iter().find_map(|&field| self.column_of(field));
            self.problem(column, violation.what, violation.mend);
        }
    }

    /// The column that gives `field` in this row, or could.
    fn column_of(&self, field: Field) -> Option<usize> {
        let filled =
            |column: &usize| self.row.fields.get(*column).is_some_and(|text| !text.trim().is_empty());
        self.columns.giving(field).find(filled).or_else(|| self.columns.giving(field).next())
    }

    fn report_damage(&mut self) {
        for (column, damage) in &self.row.damaged {
            let (what, mend) = match damage {
                Damage::NotUtf8(byte) => (
                    format!("byte {byte} of the cell is not UTF-8"),
                    "save the sheet as UTF-8, or write the cell again",
                ),
                Damage::Formula(error) => {
                    (format!("the formula comes to {error}"), "mend the formula, or write its value")
                }
                Damage::Uncalculated => (
                    "the formula was never calculated".to_owned(),
                    "open the workbook in Excel or LibreOffice, and save it",
                ),
            };
            self.problem(Some(*column), what, mend);
        }
    }

    /// Tells a problem of `field`, on its own column unless another is given.
    fn wrong<T>(
        &mut self,
        field: Field,
        column: Option<usize>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> Cell<T> {
        self.told.push(field);
        let column = column.or_else(|| self.column_of(field));
        self.problem(column, what, mend);
        Cell::Wrong
    }

    fn problem(&mut self, column: Option<usize>, what: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem {
            line: self.row.line,
            place: self.row.place.of(self.row.line, column),
            column: column.map(|column| self.columns.names()[column].clone()),
            what: what.into(),
            mend: mend.into(),
        });
    }
}
