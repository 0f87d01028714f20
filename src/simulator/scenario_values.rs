//! Values in a scenario that cannot be wrong once they are read: shares, spans, limits, dollars.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::fault::Amount;
use crate::job::Usd;

/// 0 to 1.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Share(pub(super) f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(format!("{share} is no share: use a number from 0 to 1, such as 0.05"))
        }
    }
}

/// A span of time in words, or in whole seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl de::Visitor<'_> for Words {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as \"90s\" or \"10m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text)
                    .map(Span)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Words)
    }
}

/// A limit: a number, or a share of the documented one.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a limit is a number from 1, or a share such as \"50%\"")]
pub(super) enum Part {
    Count(NonZeroU32),
    Percent(Percent),
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Percent(u32);

impl TryFrom<String> for Percent {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        percent.filter(|percent| (1..=100).contains(percent)).map(Self).ok_or("not 1% to 100%")
    }
}

impl From<Part> for Amount {
    fn from(part: Part) -> Self {
        match part {
            Part::Count(count) => Self::Count(count),
            Part::Percent(Percent(percent)) => Self::Percent(percent),
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Dollars(pub(super) Usd);

impl TryFrom<f64> for Dollars {
    type Error = String;

    fn try_from(dollars: f64) -> Result<Self, String> {
        Usd::from_dollars(dollars).map(Self).ok_or_else(|| format!("{dollars} is no amount of dollars"))
    }
}
