//! When a task is worth asking about.
//!
//! Only its age tells whether a task has ended. The fixed schedule is the vendor's advice: first
//! after 90 s, then every 5 s. A task that comes back from the state file is asked about as soon as
//! its schedule says so, which for an old one is at once.

use std::str::FromStr;
use std::time::Duration;

use crate::job::Stamp;

/// The least time between two looks at one task.
pub const FLOOR: Duration = Duration::from_secs(1);

/// A polling schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// First look at age `first`, then one every `every`.
    Fixed {
        /// Age of the task at the first look.
        first: Duration,
        /// Time between looks.
        every: Duration,
    },
}

impl Cadence {
    /// The vendor's advice (Veo 3.1 page, "Tips"): 90 s, then every 5 s.
    pub const VENDOR: Self = Self::Fixed { first: Duration::from_secs(90), every: Duration::from_secs(5) };

    /// The same, slowly: a safety net for callbacks that were lost.
    #[must_use]
    pub fn sweep(self) -> Self {
        let Self::Fixed { first, every } = self;
        Self::Fixed { first: first * 2, every: every * 6 }
    }

    /// When to look next at a task accepted at `accepted`.
    #[must_use]
    pub fn next_look(&self, accepted: Stamp, last_look: Option<Stamp>) -> Stamp {
        let Self::Fixed { first, every } = *self;
        match last_look {
            None => accepted + first,
            Some(last) => (accepted + first).max(last + every),
        }
    }
}

impl FromStr for Cadence {
    type Err = String;

    /// `fixed:90s,5s`: the age at the first look and the time between looks, at least 1 s each.
    fn from_str(text: &str) -> Result<Self, String> {
        let spans = text.strip_prefix("fixed:").and_then(|spans| spans.split_once(',')).ok_or_else(|| {
            format!("`{text}` is not a polling schedule: write fixed:FIRST,EVERY such as fixed:90s,5s")
        })?;
        let span = |text: &str| {
            let span: Duration = humantime::parse_duration(text.trim())
                .map_err(|error| format!("`{text}` is not a time: {error}"))?;
            if span < FLOOR {
                Err(format!("`{text}` is below 1s, the least time between looks"))
            } else {
                Ok(span)
            }
        };
        Ok(Self::Fixed { first: span(spans.0)?, every: span(spans.1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_schedule() {
        let accepted = Stamp::from_millis(1_000);
        assert_eq!(Cadence::VENDOR.next_look(accepted, None), Stamp::from_millis(91_000));
        assert_eq!(
            Cadence::VENDOR.next_look(accepted, Some(Stamp::from_millis(91_100))),
            Stamp::from_millis(96_100)
        );
        // A task from the state file was last looked at by nobody, or long ago.
        assert_eq!(
            Cadence::VENDOR.next_look(accepted, Some(Stamp::from_millis(2_000))),
            Stamp::from_millis(91_000)
        );
    }

    #[test]
    fn schedules_are_read_and_refused() {
        assert_eq!("fixed:90s,5s".parse(), Ok(Cadence::VENDOR));
        assert_eq!(
            "fixed:1m 30s, 2500ms".parse(),
            Ok(Cadence::Fixed { first: Duration::from_secs(90), every: Duration::from_millis(2_500) })
        );
        for bad in ["", "90s,5s", "fixed:90s", "fixed:90s,0s", "fixed:x,5s", "learned"] {
            assert!(bad.parse::<Cadence>().is_err(), "{bad}");
        }
    }
}
