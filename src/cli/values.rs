//! Words on the command line that say more than a number or a name.

use std::cmp::Ordering;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::job::{Status, Usd};
use crate::schedule::share::Share;

/// How many samples may end without a video before the run stops buying, and how many a good run
/// may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxFailures {
    /// This many.
    Count(u64),
    /// This many hundredths of a percent of all samples.
    Share(u32),
}

impl MaxFailures {
    /// How many of `samples` that is, rounded down.
    #[must_use]
    pub fn of(self, samples: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => {
                u64::try_from(u128::from(samples) * u128::from(share) / 10_000).unwrap_or(u64::MAX)
            }
        }
    }
}

impl PartialOrd for MaxFailures {
    /// A number and a share compare only beside a sheet.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Count(one), Self::Count(other)) => Some(one.cmp(other)),
            (Self::Share(one), Self::Share(other)) => Some(one.cmp(other)),
            (Self::Count(_), Self::Share(_)) | (Self::Share(_), Self::Count(_)) => None,
        }
    }
}

impl FromStr for MaxFailures {
    type Err = String;

    /// `20`, or `2.5%` of all samples.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a number of samples such as 20, nor a share such as 2.5%");
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Count).map_err(|_| wrong());
        };
        let share = hundredths(percent).ok_or_else(wrong)?;
        if share > 10_000 {
            Err(format!("`{text}` is more than all samples"))
        } else {
            Ok(Self::Share(share))
        }
    }
}

/// A percentage with at most two decimals, in hundredths of a percent.
fn hundredths(percent: &str) -> Option<u32> {
    let (whole, fraction) = percent.trim().split_once('.').unwrap_or((percent.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let well_formed = !whole.is_empty() && fraction.len() <= 2 && digits(whole) && digits(fraction);
    well_formed.then(|| format!("{whole}{fraction:0<2}").parse().ok()).flatten()
}

/// A part of the account, such as `30%`.
///
/// # Errors
///
/// The text is no percentage above 0 and up to 100 with at most two decimals.
pub fn share(text: &str) -> Result<Share, String> {
    let share = text.trim().strip_suffix('%').and_then(hundredths).and_then(Share::from_hundredths);
    share.ok_or_else(|| format!("`{text}` is not a part of the account such as 30%"))
}

/// Keeps the rows whose `column` holds exactly `value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnFilter {
    /// A column of the sheet.
    pub column: String,
    /// What its cell must be.
    pub value: String,
}

impl FromStr for ColumnFilter {
    type Err = String;

    /// `column=value`; the value may be empty and may hold `=`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not column=value, such as campaign=spring"))?;
        if column.trim().is_empty() {
            return Err(format!("`{text}` names no column: write column=value"));
        }
        Ok(Self { column: column.trim().to_owned(), value: value.to_owned() })
    }
}

/// How fast the run's clock goes, as typed; whether it may is for
/// [`super::rehearsal::TimeScale::allowed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleWord {
    /// This many seconds in a real one.
    Factor(NonZeroU32),
    /// As fast as the machine can.
    Max,
}

impl FromStr for ScaleWord {
    type Err = String;

    /// A whole number from 1, or `max`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        text.parse().map(Self::Factor).map_err(|_| format!("`{text}` is not a whole number from 1, nor max"))
    }
}

/// A status that `--retry` can put back.
///
/// # Errors
///
/// The word names no status, or one whose samples have nothing to be bought again.
pub fn retryable(word: &str) -> Result<Status, String> {
    const RETRYABLE: [Status; 5] =
        [Status::Failed, Status::Rejected, Status::TimedOut, Status::Lost, Status::Unknown];
    RETRYABLE.into_iter().find(|status| status.as_str() == word).ok_or_else(|| {
        format!("`{word}` cannot be retried: use {}", RETRYABLE.map(Status::as_str).join(", "))
    })
}

/// A status of a sample, as results have it.
///
/// # Errors
///
/// The word names none.
pub fn status(word: &str) -> Result<Status, String> {
    Status::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| {
        format!("`{word}` is not a status: use {}", Status::ALL.map(Status::as_str).join(", "))
    })
}

/// An amount of dollars, with or without the sign.
///
/// # Errors
///
/// The text is not a number from 0.
pub fn dollars(text: &str) -> Result<Usd, String> {
    let amount = text.trim().trim_start_matches('$').parse().ok().and_then(Usd::from_dollars);
    amount.ok_or_else(|| format!("`{text}` is not an amount of dollars such as 25 or 12.50"))
}

/// A probability.
///
/// # Errors
///
/// The text is not a number from 0 to 1.
pub fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a share from 0 to 1, such as 0.05"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn max_failures() {
        for (text, of_thousand) in
            [("0", 0), ("20", 20), ("0%", 0), ("2.5%", 25), ("0.05%", 0), ("0.1%", 1), ("100%", 1_000)]
        {
            assert_eq!(text.parse::<MaxFailures>().map(|most| most.of(1_000)), Ok(of_thousand), "{text}");
        }
        for bad in ["", "%", "-1", "1.5", "101%", "1.234%", "1e2%", "+3%", "x", "99999999999%"] {
            assert!(bad.parse::<MaxFailures>().is_err(), "{bad}");
        }
        assert_eq!(MaxFailures::Share(10_000).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn shares() {
        for (text, of) in [("30%", 3_000), ("100%", 10_000), (" 2.5 % ", 250), ("0.01%", 1)] {
            assert_eq!(share(text).map(Share::hundredths), Ok(of), "{text}");
        }
        for bad in ["30", "0%", "100.01%", "-1%", "%", "1.234%", ""] {
            assert!(share(bad).unwrap_err().contains("30%"), "{bad}");
        }
    }

    #[test]
    fn column_filters() {
        let filter =
            |column: &str, value: &str| Ok(ColumnFilter { column: column.into(), value: value.into() });
        assert_eq!("campaign=spring".parse(), filter("campaign", "spring"));
        assert_eq!(" a b =x=y ".parse(), filter("a b", "x=y "));
        assert_eq!("note=".parse(), filter("note", ""));
        for bad in ["campaign", "=x", " =x"] {
            assert!(bad.parse::<ColumnFilter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn time_scales() {
        assert_eq!("60".parse(), Ok(ScaleWord::Factor(NonZeroU32::new(60).unwrap())));
        assert_eq!("MAX".parse(), Ok(ScaleWord::Max));
        for bad in ["0", "-1", "1.5", "fast", ""] {
            assert!(bad.parse::<ScaleWord>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_delivered_or_pending_is_not_retried() {
        let allowed = Status::ALL.into_iter().filter(|status| retryable(status.as_str()).is_ok());
        assert_eq!(
            allowed.collect::<Vec<_>>(),
            [Status::Failed, Status::Rejected, Status::TimedOut, Status::Lost, Status::Unknown]
        );
        assert!(Status::ALL.into_iter().all(|each| status(each.as_str()) == Ok(each)));
        assert!(status("done").unwrap_err().contains("succeeded"));
    }

    #[test]
    fn amounts_and_probabilities() {
        assert_eq!(dollars("$12.50"), Ok(Usd::from_cents(1_250)));
        assert!(["-1", "x", "nan"].iter().all(|bad| dollars(bad).is_err()));
        assert_eq!(probability("0.05"), Ok(0.05));
        assert!(["-0.1", "1.1", "nan", "5%"].iter().all(|bad| probability(bad).is_err()));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (text.parse::<MaxFailures>(), text.parse::<ColumnFilter>(), text.parse::<ScaleWord>());
            let _ = (dollars(&text), probability(&text));
        }

        #[test]
        fn a_share_is_never_more_than_the_whole(share in 0_u32..=10_000, samples: u64) {
            prop_assert!(MaxFailures::Share(share).of(samples) <= samples);
        }
    }
}
