//! What the user says about a sheet beside the sheet: its format, its columns, its defaults.

use std::num::NonZeroU32;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Value, json};

use super::columns::Field;
use super::format::Format;
use super::problem::ManifestError;
use crate::generation::{AspectRatio, GenerationType, Mode, Provider};

/// Which columns give a field: `--map field=column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Our field.
    pub field: Field,
    /// The sheet's columns, at least one; several only for [`Field::ImageUrls`].
    pub columns: Vec<String>,
}

impl FromStr for Mapping {
    type Err = String;

    /// `prompt=caption`, or `image_urls=img1,img2`. Only images are split at commas: a column of
    /// any other field may have a comma in its name.
    fn from_str(text: &str) -> Result<Self, String> {
        let (field, columns) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not field=column, such as prompt=caption"))?;
        let field = field.parse()?;
        let columns: Vec<String> = match field {
            Field::ImageUrls => columns.split(',').map(|column| column.trim().to_owned()).collect(),
            Field::Prompt
            | Field::Id
            | Field::Samples
            | Field::Type
            | Field::Mode
            | Field::AspectRatio
            | Field::FirstFrame
            | Field::LastFrame
            | Field::Seed
            | Field::Watermark
            | Field::Provider => vec![columns.trim().to_owned()],
        };
        if columns.iter().any(String::is_empty) {
            return Err(format!("`{text}` names no column: write field=column, such as prompt=caption"));
        }
        Ok(Self { field, columns })
    }
}

/// What a blank cell means. Without a default of the user's: quality, text, 16:9, the account's
/// own routing, one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Defaults {
    /// Speed against quality.
    pub mode: Option<Mode>,
    /// What from.
    pub generation_type: Option<GenerationType>,
    /// Shape.
    pub aspect_ratio: Option<AspectRatio>,
    /// Routing.
    pub provider: Option<Provider>,
    /// Videos of each row.
    pub samples: Option<NonZeroU32>,
}

/// How to read a sheet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The format, when the file's name does not say it.
    pub format: Option<Format>,
    /// The worksheet of a workbook, by its name or its number from 1; the first that can be seen if
    /// none is given.
    pub worksheet: Option<String>,
    /// Renamed columns; each field at most once.
    pub map: Vec<Mapping>,
    /// What blank cells mean.
    pub defaults: Defaults,
}

impl Options {
    /// The format of the sheet at `path`, which may be `-` for standard input.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Format`] when neither the options nor the name say it.
    pub fn format_of(&self, path: &Path) -> Result<Format, ManifestError> {
        Format::choose(self.format, path)
    }

    /// The hash of everything that decides what a sheet's rows are: its bytes, these options, and
    /// the rules of this module. Two readings with the same hash yield the same records.
    pub(super) fn fingerprint(&self, format: Format, bytes: blake3::Hash) -> [u8; 32] {
        /// To be raised when the same bytes and options come to mean other rows.
        const RULES: u32 = 2;
        let map: Vec<_> = self.map.iter().map(|map| (map.field.as_str(), &map.columns)).collect();
        let mut said = vec![
            json!(RULES),
            json!(bytes.to_hex().as_str()),
            json!(format.as_str()),
            json!(map),
            json!(self.defaults.mode.map(Mode::as_str)),
            json!(self.defaults.generation_type.map(GenerationType::as_str)),
            json!(self.defaults.aspect_ratio.map(AspectRatio::as_str)),
            json!(self.defaults.provider.map(Provider::as_str)),
            json!(self.defaults.samples),
        ];
        said.extend(self.worksheet.as_ref().map(|worksheet| json!(worksheet)));
        let said = Value::from(said);
        *blake3::hash(said.to_string().as_bytes()).as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings() {
        for (text, field, columns) in [
            ("prompt=name", Field::Prompt, &["name"][..]),
            (" Prompt = my, column ", Field::Prompt, &["my, column"]),
            ("generationType=kind=of", Field::Type, &["kind=of"]),
            ("image_urls=img1, img2", Field::ImageUrls, &["img1", "img2"]),
        ] {
            let mapping: Mapping = text.parse().unwrap();
            assert_eq!(mapping.field, field, "{text}");
            assert_eq!(mapping.columns, columns, "{text}");
        }
        for (text, wanted) in [
            ("prompt", "is not field=column"),
            ("prompt=", "names no column"),
            ("image_urls=a,,b", "names no column"),
            ("colour=red", "`colour` is not a field: use prompt, id,"),
        ] {
            let message = text.parse::<Mapping>().unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }

    #[test]
    fn every_option_changes_the_fingerprint() {
        let bytes = blake3::hash(b"sheet");
        let with = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.fingerprint(Format::Csv, bytes)
        };
        let all = [
            with(|_| {}),
            with(|options| options.map.push("prompt=a".parse().unwrap())),
            with(|options| options.map.push("id=a".parse().unwrap())),
            with(|options| options.map.push("image_urls=a,b".parse().unwrap())),
            with(|options| options.defaults.mode = Some(Mode::Fast)),
            with(|options| options.defaults.generation_type = Some(GenerationType::Text)),
            with(|options| options.defaults.aspect_ratio = Some(AspectRatio::Auto)),
            with(|options| options.defaults.provider = Some(Provider::Auto)),
            with(|options| options.defaults.samples = NonZeroU32::new(2)),
            with(|options| options.worksheet = Some("2".to_owned())),
            Options::default().fingerprint(Format::Tsv, bytes),
            Options::default().fingerprint(Format::Csv, blake3::hash(b"Sheet")),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        // The format that the name says and the same one said by `--format` read the same rows.
        assert_eq!(with(|options| options.format = Some(Format::Csv)), all[0]);
    }
}
