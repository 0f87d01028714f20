//! What a person sees of a run.
//!
//! Everything here reads the run's one stream of events ([`crate::event`]) and changes nothing:
//!
//! - [`Bar`] on a terminal, [`Plain`] lines elsewhere, both in the words of one module;
//! - [`EventLog`] for programs (`--events`), [`LoggedEvents`] for the log (`-v`);
//! - [`Metrics`] for Prometheus (`--metrics`, `--metrics-file`);
//! - [`Digest`] for the [`Summary`] at the end (`--summary`);
//! - [`Fan`] gives each event to several of them.
//!
//! Standard error belongs to the [`Screen`], so that log lines never break the bar.

mod bar;
mod digest;
mod doubts;
mod estimate;
mod event_log;
mod fetching;
mod logs;
mod meter;
mod metrics;
mod next_steps;
mod plain;
mod screen;
#[cfg(test)]
mod script;
mod standing;
mod summary;
pub mod wording;

use std::str::FromStr;

pub use bar::Bar;
pub use digest::{Counts, Digest};
pub use doubts::DOUBTS_SHOWN;
pub use estimate::{Outlook, Pace, Work, estimate};
pub use event_log::{EventLog, WhenFull};
pub use fetching::Fetching;
pub use logs::{LogError, LogFormat, LoggedEvents, init_logging};
pub use meter::Meter;
pub use metrics::{Health, Metrics};
pub use plain::{Interval, Plain};
pub use screen::Screen;
pub use summary::{Delivered, Facts, NextStep, Stop, Summary};

use crate::event::{EventSink, Progress, RunEvent};

/// How progress is shown (`--progress`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProgressStyle {
    /// A bar where one can be seen, else plain lines.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// A line now and then.
    Plain,
    /// Nothing.
    None,
}

impl ProgressStyle {
    /// The style for a screen that shows bars or does not; never [`ProgressStyle::Auto`].
    #[must_use]
    pub const fn on(self, shows_bars: bool) -> Self {
        match self {
            Self::Auto if shows_bars => Self::Bar,
            Self::Auto => Self::Plain,
            Self::Bar | Self::Plain | Self::None => self,
        }
    }
}

impl FromStr for ProgressStyle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "bar" => Ok(Self::Bar),
            "plain" => Ok(Self::Plain),
            "none" => Ok(Self::None),
            other => Err(format!("`{other}` is not a way to show progress: use auto, bar, plain or none")),
        }
    }
}

/// A sink that hands each event to several, in order. They stay their owner's, who can ask them
/// about the run when it is over.
#[derive(Default)]
pub struct Fan<'a>(Vec<&'a mut (dyn EventSink + Send)>);

impl<'a> Fan<'a> {
    /// A fan without sinks.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The same, and `sink` after the others.
    #[must_use]
    pub fn and(mut self, sink: &'a mut (dyn EventSink + Send)) -> Self {
        self.0.push(sink);
        self
    }
}

impl EventSink for Fan<'_> {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        for sink in &mut self.0 {
            sink.notice(event, progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_styles() {
        for (text, seen, unseen) in [
            ("auto", ProgressStyle::Bar, ProgressStyle::Plain),
            ("bar", ProgressStyle::Bar, ProgressStyle::Bar),
            ("plain", ProgressStyle::Plain, ProgressStyle::Plain),
            ("none", ProgressStyle::None, ProgressStyle::None),
        ] {
            let style: ProgressStyle = text.parse().unwrap();
            assert_eq!((style.on(true), style.on(false)), (seen, unseen), "{text}");
        }
        assert!("fancy".parse::<ProgressStyle>().is_err());
    }

    #[test]
    fn a_fan_hands_every_event_to_every_sink() {
        let (mut first, mut second) = (Digest::default(), 0_u32);
        let mut count = |_: &RunEvent<'_>, _: &Progress| second += 1;
        let last = script::play(&mut Fan::new().and(&mut first).and(&mut count));
        assert_eq!((first.last, first.made()), (last, 3));
        assert!(second > 300, "{second}");
    }
}
