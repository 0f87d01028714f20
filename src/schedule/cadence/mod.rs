//! When a task is worth asking about.
//!
//! Only a task's age, and the stage it was last seen in, tell whether it may have ended, so looks are a
//! budget to spend where ends are likely. The learned cadence keeps account of how tasks end
//! (`hazard`), makes a plan of the ages at which a look is worth its price (`inspection`), and
//! moves the price until looks are wanted as fast as the gate has requests for them (`price`). The
//! fixed schedule is the vendor's advice: first after 90 s, then every 5 s.
//!
//! Nothing here scans the tasks: each has one place in a heap, by when its next look is due. A task
//! that comes back from the state file is asked about as soon as its schedule says so, which for an
//! old one is at once.

mod ages;
mod allotment;
mod hazard;
mod inspection;
mod learning;
mod lookout;
mod price;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use learning::Learned;
pub(super) use lookout::{Lookout, Sight, Told};

use crate::job::Stamp;

/// The least time between two looks at one task.
pub const FLOOR: Duration = Duration::from_secs(1);

/// A polling schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cadence {
    /// From how long tasks take, as they are seen to end.
    #[default]
    Learned,
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
}

/// When a fixed schedule looks next at a task accepted at `accepted`.
fn next_fixed(first: Duration, every: Duration, accepted: Stamp, last_look: Option<Stamp>) -> Stamp {
    match last_look {
        None => accepted + first,
        Some(last) => (accepted + first).max(last + every),
    }
}

impl fmt::Display for Cadence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Learned => f.write_str("learned"),
            Self::Fixed { first, every } => {
                let spans = [first, every].map(|span| humantime::format_duration(*span).to_string());
                write!(f, "fixed:{},{}", spans[0], spans[1])
            }
        }
    }
}

impl FromStr for Cadence {
    type Err = String;

    /// `learned`, or `fixed:90s,5s`: the age at the first look and the time between looks, at least
    /// 1 s each.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "learned" {
            return Ok(Self::Learned);
        }
        let spans = text.strip_prefix("fixed:").and_then(|spans| spans.split_once(',')).ok_or_else(|| {
            format!(
                "`{text}` is not a polling schedule: write learned, or fixed:FIRST,EVERY such as fixed:90s,5s"
            )
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
        let Cadence::Fixed { first, every } = Cadence::VENDOR else { panic!("fixed") };
        let next = |last| next_fixed(first, every, Stamp::from_millis(1_000), last).as_millis();
        assert_eq!(next(None), 91_000);
        assert_eq!(next(Some(Stamp::from_millis(91_100))), 96_100);
        // A task from the state file was last looked at by nobody, or long ago.
        assert_eq!(next(Some(Stamp::from_millis(2_000))), 91_000);
    }

    #[test]
    fn schedules_are_read_and_refused() {
        assert_eq!("learned".parse(), Ok(Cadence::Learned));
        assert_eq!("fixed:90s,5s".parse(), Ok(Cadence::VENDOR));
        let odd = Cadence::Fixed { first: Duration::from_secs(90), every: Duration::from_millis(2_500) };
        assert_eq!("fixed:1m 30s, 2500ms".parse(), Ok(odd));
        for cadence in [Cadence::Learned, Cadence::VENDOR, odd] {
            assert_eq!(cadence.to_string().parse(), Ok(cadence));
        }
        for bad in ["", "90s,5s", "fixed:90s", "fixed:90s,0s", "fixed:x,5s", "Learned"] {
            assert!(bad.parse::<Cadence>().is_err(), "{bad}");
        }
    }
}
