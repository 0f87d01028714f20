//! Which column of a sheet gives which field.
//!
//! A column is bound by `--map` or else by its own name; what is bound to nothing passes through.
//! A mapped field is bound by its mapping alone. Columns of a header are all there at once, those
//! of JSON objects come one by one, so binding happens as a column is added.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::options::Mapping;
use super::problem::ManifestError;

/// Most columns of a sheet. They are kept in memory, and JSON objects may have ever new keys.
pub(super) const MOST_COLUMNS: usize = 10_000;

/// What a column can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// What the video shows; the one field that every sheet has.
    Prompt,
    /// The user's own key of the row.
    Id,
    /// How many videos of it, 1 to 1,000.
    Samples,
    /// What the video is made from.
    Type,
    /// Speed against quality.
    Mode,
    /// Shape.
    AspectRatio,
    /// Images, several in one cell or in several columns.
    ImageUrls,
    /// The image a video begins with.
    FirstFrame,
    /// The image a video ends with.
    LastFrame,
    /// For repeatable results.
    Seed,
    /// Text drawn into the video.
    Watermark,
    /// Routing.
    Provider,
}

impl Field {
    /// Every field, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::Prompt,
        Self::Id,
        Self::Samples,
        Self::Type,
        Self::Mode,
        Self::AspectRatio,
        Self::ImageUrls,
        Self::FirstFrame,
        Self::LastFrame,
        Self::Seed,
        Self::Watermark,
        Self::Provider,
    ];

    /// The name of its column in a sheet, and in `--map`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Id => "id",
            Self::Samples => "samples",
            Self::Type => "type",
            Self::Mode => "mode",
            Self::AspectRatio => "aspect_ratio",
            Self::ImageUrls => "image_urls",
            Self::FirstFrame => "first_frame",
            Self::LastFrame => "last_frame",
            Self::Seed => "seed",
            Self::Watermark => "watermark",
            Self::Provider => "provider",
        }
    }

    /// The field a column called `name` gives. Case, white space, `_` and `-` make no difference;
    /// `generation_type` is another name of `type`, `image_url` of `image_urls`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let bare = |text: &str| {
            let letters = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-'));
            letters.flat_map(char::to_lowercase).collect::<String>()
        };
        match bare(name).as_str() {
            "generationtype" => Some(Self::Type),
            "imageurl" => Some(Self::ImageUrls),
            name => Self::ALL.into_iter().find(|field| bare(field.as_str()) == name),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::named(text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("`{}` is not a field: use {names}", text.trim())
        })
    }
}

/// A column that gives a field.
#[derive(Debug, Clone, Copy)]
struct Binding {
    field: Field,
    /// Its place in the mapping, for fields that several columns give.
    place: usize,
    column: usize,
}

/// The columns of one sheet and what they give.
pub(super) struct Columns {
    names: Vec<String>,
    places: HashMap<String, usize>,
    map: Vec<Mapping>,
    bindings: Vec<Binding>,
}

impl Columns {
    /// No columns yet.
    pub(super) fn new(map: &[Mapping]) -> Result<Self, ManifestError> {
        for (index, mapping) in map.iter().enumerate() {
            if map[..index].iter().any(|earlier| earlier.field == mapping.field) {
                return Err(ManifestError::MappedTwice { field: mapping.field.as_str() });
            }
        }
        Ok(Self { names: Vec::new(), places: HashMap::new(), map: map.to_vec(), bindings: Vec::new() })
    }

    /// The columns of a header, whose names may be empty or repeated.
    pub(super) fn of_header<'a>(
        map: &[Mapping],
        names: impl Iterator<Item = &'a str>,
        sheet: &str,
    ) -> Result<Self, ManifestError> {
        let mut columns = Self::new(map)?;
        for (index, name) in names.enumerate() {
            let name = match name.trim() {
                "" => format!("column_{}", index + 1),
                name => name.to_owned(),
            };
            columns.add(name);
        }
        columns.check_ambiguity(sheet)?;
        columns.check_mapped(sheet)?;
        Ok(columns)
    }

    /// Adds a column, binds it, and answers its index.
    pub(super) fn add(&mut self, name: String) -> usize {
        let column = self.names.len();
        for mapping in &self.map {
            for (place, wanted) in mapping.columns.iter().enumerate() {
                if same_name(wanted, &name) {
                    self.bindings.push(Binding { field: mapping.field, place, column });
                }
            }
        }
        if let Some(field) = Field::named(&name)
            && !self.map.iter().any(|mapping| mapping.field == field)
        {
            self.bindings.push(Binding { field, place: 0, column });
        }
        self.bindings.sort_by_key(|binding| (binding.place, binding.column));
        self.places.insert(name.clone(), column);
        self.names.push(name);
        column
    }

    /// The index of the column called exactly `name`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// All names, in the sheet's order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns that give `field`, in the mapping's order.
    pub(super) fn giving(&self, field: Field) -> impl Iterator<Item = usize> + '_ {
        self.bindings.iter().filter(move |binding| binding.field == field).map(|binding| binding.column)
    }

    /// The name of the first column that gives `field`.
    pub(super) fn name_of(&self, field: Field) -> Option<&str> {
        self.giving(field).next().map(|column| self.names[column].as_str())
    }

    /// The columns that give a field, in the sheet's order.
    pub(super) fn bound(&self) -> Vec<usize> {
        let mut bound: Vec<_> = self.bindings.iter().map(|binding| binding.column).collect();
        bound.sort_unstable();
        bound.dedup();
        bound
    }

    /// That no field of a header is given twice: it could not be said which cell counts.
    fn check_ambiguity(&self, sheet: &str) -> Result<(), ManifestError> {
        for (index, second) in self.bindings.iter().enumerate() {
            let same = |first: &&Binding| (first.field, first.place) == (second.field, second.place);
            if let Some(first) = self.bindings[..index].iter().find(same) {
                return Err(ManifestError::Ambiguous {
                    name: sheet.to_owned(),
                    field: second.field.as_str(),
                    first: self.names[first.column].clone(),
                    second: self.names[second.column].clone(),
                });
            }
        }
        Ok(())
    }

    /// That every mapped column is there.
    pub(super) fn check_mapped(&self, sheet: &str) -> Result<(), ManifestError> {
        for mapping in &self.map {
            for (place, column) in mapping.columns.iter().enumerate() {
                let found = |binding: &Binding| (binding.field, binding.place) == (mapping.field, place);
                if !self.bindings.iter().any(found) {
                    return Err(ManifestError::NoSuchColumn {
                        name: sheet.to_owned(),
                        field: mapping.field.as_str(),
                        column: column.clone(),
                        columns: self.names.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// That there are prompts. `first` is the first record, to guess by which column holds them.
    pub(super) fn check_prompt(&self, sheet: &str, first: &[String]) -> Result<(), ManifestError> {
        if self.name_of(Field::Prompt).is_some() {
            return Ok(());
        }
        Err(ManifestError::NoPrompt {
            name: sheet.to_owned(),
            columns: self.names.clone(),
            guess: self.guess_prompt(first).to_owned(),
        })
    }

    fn guess_prompt(&self, first: &[String]) -> &str {
        const LIKELY: [&str; 6] = ["prompt_en", "text", "caption", "description", "name", "title"];
        let named = |wanted: &&str| self.names.iter().find(|name| same_name(name, wanted));
        let likely = LIKELY.iter().find_map(named);
        let about = || self.names.iter().find(|name| name.to_lowercase().contains("prompt"));
        let longest = || {
            let cells = self.names.iter().zip(first);
            cells.max_by_key(|(_, cell)| cell.len()).map(|(name, _)| name)
        };
        likely.or_else(about).or_else(longest).or(self.names.first()).map_or("", String::as_str)
    }
}

/// Whether a name written by hand means this column.
fn same_name(written: &str, column: &str) -> bool {
    written.trim().to_lowercase() == column.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &str, map: &[&str]) -> Result<Columns, String> {
        let map: Vec<Mapping> = map.iter().map(|text| text.parse().unwrap()).collect();
        Columns::of_header(&map, header.split(','), "a.csv").map_err(|error| error.to_string())
    }

    #[test]
    fn fields_by_name() {
        for (name, field) in [
            ("prompt", Some(Field::Prompt)),
            (" Prompt ", Some(Field::Prompt)),
            ("aspect_ratio", Some(Field::AspectRatio)),
            ("Aspect Ratio", Some(Field::AspectRatio)),
            ("ASPECT-RATIO", Some(Field::AspectRatio)),
            ("imageUrls", Some(Field::ImageUrls)),
            ("image_url", Some(Field::ImageUrls)),
            ("type", Some(Field::Type)),
            ("generation_type", Some(Field::Type)),
            ("generationType", Some(Field::Type)),
            ("prompts", None),
            ("", None),
        ] {
            assert_eq!(Field::named(name), field, "{name}");
        }
        for field in Field::ALL {
            assert_eq!(field.as_str().parse(), Ok(field));
        }
    }

    #[test]
    fn bindings_and_made_up_names() {
        let sheet = columns(" prompt ,,Mode,,note", &[]).unwrap();
        assert_eq!(sheet.names(), ["prompt", "column_2", "Mode", "column_4", "note"]);
        assert_eq!(sheet.giving(Field::Prompt).collect::<Vec<_>>(), [0]);
        assert_eq!(sheet.name_of(Field::Mode), Some("Mode"));
        assert_eq!(sheet.name_of(Field::Seed), None);
    }

    #[test]
    fn a_mapping_wins_over_the_fields_own_name() {
        let sheet =
            columns("prompt,Name,img2,img1,image_urls", &["prompt=name", "image_urls=img1,img2", "id=name"])
                .unwrap();
        assert_eq!(sheet.giving(Field::Prompt).collect::<Vec<_>>(), [1]);
        assert_eq!(sheet.giving(Field::Id).collect::<Vec<_>>(), [1]);
        assert_eq!(sheet.giving(Field::ImageUrls).collect::<Vec<_>>(), [3, 2], "in the mapping's order");
    }

    #[test]
    fn headers_that_cannot_be_read() {
        for (header, map, wanted) in [
            (
                "prompt,Prompt",
                &[][..],
                "a.csv: the columns prompt and Prompt both give the prompt: rename one",
            ),
            ("prompt,type,generationType", &[], "the columns type and generationType both give the type"),
            ("name,NAME", &["prompt=name"], "the columns name and NAME both give the prompt"),
            ("prompt,b", &["id=key"], "a.csv: --map id=key: no such column; the columns are prompt, b"),
            ("prompt,a", &["image_urls=a,b"], "--map image_urls=b: no such column"),
            ("prompt,a", &["id=a", "id=prompt"], "--map id=… is given twice"),
        ] {
            assert!(columns(header, map).err().unwrap_or_default().contains(wanted), "{header} {map:?}");
        }
        assert!(columns("prompt,type,generationType", &["type=type"]).is_ok(), "a mapping chooses");
        assert!(columns("prompt,note,note", &[]).is_ok(), "what passes through may repeat");
    }

    #[test]
    fn the_prompt_is_guessed_from_names_and_then_from_lengths() {
        for (header, first, guess) in [
            ("videoid,name,kind", "1,x,long", "prompt=name"),
            ("Text,name", "1,x", "prompt=Text"),
            ("a,English prompt", "xxx,y", "'prompt=English prompt'"),
            ("a,b,c", "1,long,22", "prompt=b"),
            ("a,b", "", "prompt=a"),
        ] {
            let first: Vec<String> = first.split(',').map(str::to_owned).collect();
            let error = columns(header, &[]).unwrap().check_prompt("a.csv", &first).unwrap_err().to_string();
            assert!(error.ends_with(&format!("try --map {guess}")), "{header}: {error}");
            assert!(error.contains(&header.replace(',', ", ")), "{header}: {error}");
        }
    }
}
