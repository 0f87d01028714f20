//! Money: sums that are exact.

use std::fmt;
use std::ops::Add;

use serde::Serialize;

/// An amount of US dollars in millionths, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(u64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From millionths of a dollar.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From whole cents.
    #[must_use]
    pub const fn from_cents(cents: u64) -> Self {
        Self(cents * 10_000)
    }

    /// From a decimal number of dollars; `None` when negative, not finite, or above a trillion.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked just before")]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        (dollars.is_finite() && (0.0..=1e12).contains(&dollars)).then(|| Self((dollars * 1e6).round() as u64))
    }

    /// Millionths of a dollar.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// This much, `count` times.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// This much less `less`, and nothing where that is more.
    #[must_use]
    pub const fn minus(self, less: Self) -> Self {
        Self(self.0.saturating_sub(less.0))
    }

    /// Dollars as a number, for JSON.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below nine billion dollars")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add for Usd {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }
}

impl fmt::Display for Usd {
    /// `1234.50`: two decimals, up to six where they are needed; no sign, no separators.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let mut fraction = format!("{micros:06}");
        while fraction.len() > 2 && fraction.ends_with('0') {
            fraction.pop();
        }
        write!(f, "{whole}.{fraction}")
    }
}

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_like_money() {
        for (micros, text) in [(0, "0.00"), (200_000, "0.20"), (1_500_000, "1.50"), (1_234_567, "1.234567")] {
            assert_eq!(Usd::from_micros(micros).to_string(), text);
        }
        assert_eq!(Usd::from_dollars(0.2), Some(Usd::from_cents(20)));
        assert_eq!(Usd::from_dollars(-0.1), None);
        assert_eq!(Usd::from_dollars(f64::NAN), None);
    }
}
