//! A request for one video that cannot break a rule of the API.
//!
//! A [`Draft`] is what a row says; [`Draft::check`] turns it into a [`Generation`] or into every
//! rule it breaks, each with its mend. Nothing behind this module checks a request again. The
//! rules are those of the vendor's Veo 3.1 page.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::harmless::one_line;
use crate::job::Usd;

/// Longest prompt the API takes, in characters.
pub const LONGEST_PROMPT: usize = 10_000;
/// Most images of a first-and-last-frames request.
pub const MOST_FRAMES: usize = 2;
/// Most images of a reference request.
pub const MOST_REFERENCES: usize = 3;

/// Speed against quality; the price depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Best quality.
    Quality,
    /// Faster and cheaper.
    Fast,
}

impl Mode {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Fast => "fast",
        }
    }
}

/// What one accepted submission costs, by mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceList {
    /// In quality mode.
    pub quality: Usd,
    /// In fast mode.
    pub fast: Usd,
}

impl PriceList {
    /// The vendor's list prices: $1.50 and $0.20 a video.
    pub const VENDOR: Self = Self { quality: Usd::from_cents(150), fast: Usd::from_cents(20) };

    /// The price in `mode`.
    #[must_use]
    pub const fn of(self, mode: Mode) -> Usd {
        match mode {
            Mode::Quality => self.quality,
            Mode::Fast => self.fast,
        }
    }
}

impl FromStr for PriceList {
    type Err = String;

    /// `quality=1.50,fast=0.20`; what is left out keeps the vendor's price.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut prices = Self::VENDOR;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (mode, dollars) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not mode=dollars, such as fast=0.20"))?;
            let price = dollars.trim().trim_start_matches('$').parse().ok().and_then(Usd::from_dollars);
            let price = price.ok_or_else(|| format!("`{dollars}` is not an amount of dollars"))?;
            match mode.trim() {
                "quality" => prices.quality = price,
                "fast" => prices.fast = price,
                other => return Err(format!("`{other}` is not a mode: use quality or fast")),
            }
        }
        Ok(prices)
    }
}

/// The shape of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AspectRatio {
    /// 16:9.
    #[serde(rename = "16:9")]
    Landscape,
    /// 9:16.
    #[serde(rename = "9:16")]
    Portrait,
    /// The API decides.
    #[serde(rename = "auto")]
    Auto,
}

impl AspectRatio {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Landscape => "16:9",
            Self::Portrait => "9:16",
            Self::Auto => "auto",
        }
    }
}

/// How the API routes a request to its suppliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The cheapest that is healthy.
    Auto,
    /// The cheapest.
    Value,
    /// The official one.
    Official,
}

impl Provider {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Value => "value",
            Self::Official => "official",
        }
    }
}

/// What the video is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GenerationType {
    /// The prompt alone.
    #[serde(rename = "TEXT_2_VIDEO")]
    Text,
    /// A first and perhaps a last frame.
    #[serde(rename = "FIRST_AND_LAST_FRAMES_2_VIDEO")]
    Frames,
    /// One to three reference images.
    #[serde(rename = "REFERENCE_2_VIDEO")]
    Reference,
}

/// What decides how long a request takes to make, as far as it can be told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Speed against quality.
    pub mode: Mode,
    /// What the video is made from.
    pub generation_type: GenerationType,
}

impl GenerationType {
    /// The API's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "TEXT_2_VIDEO",
            Self::Frames => "FIRST_AND_LAST_FRAMES_2_VIDEO",
            Self::Reference => "REFERENCE_2_VIDEO",
        }
    }
}

/// What a row asks for, before it is checked. Every choice is made: defaults are in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Draft {
    /// What to show.
    pub prompt: String,
    /// What from.
    #[serde(rename = "type")]
    pub generation_type: GenerationType,
    /// Speed against quality.
    pub mode: Mode,
    /// Shape.
    pub aspect_ratio: AspectRatio,
    /// Public URLs of JPG, PNG or WebP images, each at most 10 MB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_urls: Vec<String>,
    /// For repeatable results; any whole number from 0 (the API names no range).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Text drawn into the video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// Routing; the account's own setting when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// The part of a request that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The prompt.
    Prompt,
    /// The images.
    ImageUrls,
    /// The mode.
    Mode,
    /// The aspect ratio.
    AspectRatio,
}

/// A rule of the API that a draft breaks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{what}: {mend}")]
pub struct Violation {
    /// Where.
    pub field: Field,
    /// What is wrong, such as `the prompt is empty`.
    pub what: String,
    /// What to do about it, such as `write one or remove the row`.
    pub mend: String,
}

impl Violation {
    fn new(field: Field, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { field, what: what.into(), mend: mend.into() }
    }
}

impl Draft {
    /// The request, if it breaks no rule.
    ///
    /// # Errors
    ///
    /// Every rule it breaks, in the order of the fields.
    pub fn check(self) -> Result<Generation, Vec<Violation>> {
        let mut broken = Vec::new();
        self.check_prompt(&mut broken);
        self.check_image_count(&mut broken);
        broken.extend(self.image_urls.iter().filter_map(|url| check_image_url(url)));
        if self.generation_type == GenerationType::Reference {
            if self.mode != Mode::Fast {
                broken.push(Violation::new(
                    Field::Mode,
                    "a reference request in quality mode",
                    "the API makes these in fast mode only: write fast",
                ));
            }
            if self.aspect_ratio != AspectRatio::Landscape {
                broken.push(Violation::new(
                    Field::AspectRatio,
                    format!("a reference request at {}", self.aspect_ratio.as_str()),
                    "the API makes these at 16:9 only: write 16:9",
                ));
            }
        }
        if broken.is_empty() { Ok(Generation(self)) } else { Err(broken) }
    }

    fn check_prompt(&self, broken: &mut Vec<Violation>) {
        if self.prompt.trim().is_empty() {
            broken.push(Violation::new(
                Field::Prompt,
                "the prompt is empty",
                "write what the video shows, or remove the row",
            ));
        }
        let characters = self.prompt.chars().count();
        if characters > LONGEST_PROMPT {
            broken.push(Violation::new(
                Field::Prompt,
                format!("the prompt has {characters} characters"),
                format!("the API takes at most {LONGEST_PROMPT}: shorten it"),
            ));
        }
    }

    fn check_image_count(&self, broken: &mut Vec<Violation>) {
        let images = self.image_urls.len();
        let mut wrong = |what: String, mend: &str| broken.push(Violation::new(Field::ImageUrls, what, mend));
        match self.generation_type {
            GenerationType::Text if images > 0 => wrong(
                format!("{images} image(s) in a text request"),
                "set type to frames or reference, or remove them",
            ),
            GenerationType::Frames if images == 0 => {
                wrong(
                    "a frames request without an image".into(),
                    "give a first frame, and a last one if you like",
                );
            }
            GenerationType::Frames if images > MOST_FRAMES => wrong(
                format!("{images} images in a frames request"),
                "the API takes 1 or 2: the first frame and the last",
            ),
            GenerationType::Reference if images == 0 => {
                wrong("a reference request without an image".into(), "give 1 to 3 images");
            }
            GenerationType::Reference if images > MOST_REFERENCES => {
                wrong(format!("{images} images in a reference request"), "the API takes 1 to 3");
            }
            GenerationType::Text | GenerationType::Frames | GenerationType::Reference => {}
        }
    }
}

/// What is wrong with an image's address, if anything.
pub(crate) fn check_image_url(text: &str) -> Option<Violation> {
    let violation = |what: String, mend: &str| Some(Violation::new(Field::ImageUrls, what, mend));
    let shown = one_line(text, 80);
    match reqwest::Url::parse(text) {
        // The parser passes over some of these.
        Ok(_) | Err(_) if text.contains(char::is_control) => violation(
            format!("`{shown}` has a line break or another control character"),
            "write the address on one line",
        ),
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            if !url.username().is_empty() || url.password().is_some() {
                return violation("an image address with a password".into(), "use a public or signed URL");
            }
            None
        }
        Ok(url) if url.scheme() == "data" => violation(
            "an image inside the sheet (data: URL)".into(),
            "the API fetches images itself: upload it and give its https address",
        ),
        Ok(url) if url.scheme() != "file" && text.contains("://") => {
            violation(format!("`{shown}` is not an http address"), "give a public https address")
        }
        Err(_) if text.contains("://") => {
            violation(format!("`{shown}` is not a valid URL"), "give a public https address")
        }
        // `C:\frames\a.png` parses as a URL with the scheme `c`.
        Ok(_) | Err(_) => violation(
            format!("`{shown}` is a local path, not a URL"),
            "the API fetches images itself: upload it and give its https address",
        ),
    }
}

/// A request that breaks no rule of the API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Generation(Draft);

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Draft::deserialize(deserializer)?.check().map_err(|broken| {
            serde::de::Error::custom(broken.first().map_or_else(String::new, ToString::to_string))
        })
    }
}

impl Generation {
    /// What is asked for.
    #[must_use]
    pub const fn draft(&self) -> &Draft {
        &self.0
    }

    /// Its mode and type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind { mode: self.0.mode, generation_type: self.0.generation_type }
    }

    /// The request of sample `index`, counted from 0: its seed, if any, grows by the index so that
    /// samples differ.
    #[must_use]
    pub fn sample(mut self, index: u32) -> Self {
        self.0.seed = self.0.seed.map(|seed| seed.saturating_add(u64::from(index)));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(generation_type: GenerationType, images: &[&str]) -> Draft {
        Draft {
            prompt: "a cat".into(),
            generation_type,
            mode: Mode::Fast,
            aspect_ratio: AspectRatio::Landscape,
            image_urls: images.iter().map(ToString::to_string).collect(),
            seed: None,
            watermark: None,
            provider: None,
        }
    }

    fn broken(draft: Draft) -> Vec<String> {
        draft.check().err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn price_lists() {
        assert_eq!("fast=0.1".parse(), Ok(PriceList { fast: Usd::from_cents(10), ..PriceList::VENDOR }));
        for bad in ["fast", "slow=1", "fast=x", "fast=-1"] {
            assert!(bad.parse::<PriceList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn image_counts_by_type() {
        use GenerationType::{Frames, Reference, Text};
        let urls = ["https://a.example/1.png"; 4];
        for (generation_type, good) in [(Text, 0..=0), (Frames, 1..=2), (Reference, 1..=3)] {
            for count in 0..=4 {
                let refused = broken(draft(generation_type, &urls[..count]));
                assert_eq!(
                    refused.is_empty(),
                    good.contains(&count),
                    "{generation_type:?} {count}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn a_reference_request_is_fast_and_landscape() {
        let mut wrong = draft(GenerationType::Reference, &["https://a.example/1.png"]);
        wrong.mode = Mode::Quality;
        wrong.aspect_ratio = AspectRatio::Auto;
        assert_eq!(
            wrong.check().unwrap_err().iter().map(|v| v.field).collect::<Vec<_>>(),
            [Field::Mode, Field::AspectRatio]
        );
    }

    #[test]
    fn prompts_are_counted_in_characters() {
        let mut long = draft(GenerationType::Text, &[]);
        long.prompt = "é".repeat(LONGEST_PROMPT);
        assert!(broken(long.clone()).is_empty());
        long.prompt.push('é');
        assert_eq!(
            broken(long),
            ["the prompt has 10001 characters: the API takes at most 10000: shorten it"]
        );
        let mut blank = draft(GenerationType::Text, &[]);
        blank.prompt = " \u{a0}".into();
        assert_eq!(broken(blank).len(), 1);
    }

    #[test]
    fn image_addresses() {
        for good in ["https://a.example/1.png", "http://a.example:8080/x?y=1", "HTTPS://A.EXAMPLE/é.webp"] {
            assert_eq!(check_image_url(good), None, "{good}");
        }
        for (bad, word) in [
            ("https://a.exa\nmple/1.png", "has a line break or another control character"),
            ("https://a.example/\u{1b}[31m.png", "control character: write the address on one line"),
            ("frames/a.png", "local path"),
            ("/home/me/a.png", "local path"),
            ("C:\\a.png", "local path"),
            ("file:///a.png", "local path"),
            ("s3://bucket/a.png", "not an http address"),
            ("https://", "not a valid URL"),
            ("https://u:p@a.example/1.png", "password"),
            ("data:image/png;base64,AAAA", "inside the sheet"),
        ] {
            let violation = check_image_url(bad).map(|v| v.to_string()).unwrap_or_default();
            assert!(violation.contains(word), "{bad}: {violation}");
        }
    }

    #[test]
    fn samples_differ_by_seed_and_survive_json() {
        let mut seeded = draft(GenerationType::Text, &[]);
        seeded.seed = Some(7);
        let generation = seeded.check().unwrap();
        let json = serde_json::to_string(&generation).unwrap();
        let again: Generation = serde_json::from_str(&json).unwrap();
        assert_eq!(again, generation);
        assert_eq!(again.sample(2).draft().seed, Some(9));
        assert!(serde_json::from_str::<Generation>(&json.replace("a cat", "")).is_err());
    }
}
