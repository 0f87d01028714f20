//! Who listens to a run: the person, the log, the event file.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use crate::clock::Clock;
use crate::event::{EventSink, Progress, RunEvent};
use crate::job::UnixMillis;
use crate::report::{
    Bar, Digest, EventLog, Fan, Interval, LoggedEvents, Outlook, Plain, ProgressStyle, Screen, WhenFull,
};

/// All who listen to one run.
pub(super) struct Sinks {
    /// What the summary is told from.
    pub(super) digest: Digest,
    person: Box<dyn EventSink + Send>,
    log: LoggedEvents,
    events: Option<EventLog>,
}

impl Sinks {
    /// The listeners that the arguments ask for.
    ///
    /// # Errors
    ///
    /// The event file cannot be written.
    pub(super) fn new(
        style: ProgressStyle,
        events: Option<&Path>,
        screen: &Screen,
        clock: &Clock,
        birth: UnixMillis,
        outlook: Outlook,
    ) -> anyhow::Result<Self> {
        let person: Box<dyn EventSink + Send> = match style.on(screen.shows_bars()) {
            ProgressStyle::Bar => Box::new(Bar::new(screen, outlook)),
            ProgressStyle::None => Box::new(|_: &RunEvent<'_>, _: &Progress| {}),
            ProgressStyle::Auto | ProgressStyle::Plain => {
                Box::new(Plain::new(screen.clone(), Interval::for_clock(clock), outlook))
            }
        };
        let events = events.map(|path| event_log(path, birth)).transpose()?;
        Ok(Self { digest: Digest::default(), person, log: LoggedEvents, events })
    }

    /// One sink for all of them.
    pub(super) fn fan(&mut self) -> Fan<'_> {
        let fan = Fan::new().and(&mut self.digest).and(&mut *self.person).and(&mut self.log);
        match &mut self.events {
            Some(events) => fan.and(events),
            None => fan,
        }
    }
}

/// The event log at `path`, added to what is there: a resumed run goes on with its file.
fn event_log(path: &Path, birth: UnixMillis) -> anyhow::Result<EventLog> {
    let (out, when_full): (Box<dyn Write + Send>, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdout()), WhenFull::Drop)
    } else {
        let file = OpenOptions::new().create(true).append(true).open(path);
        (Box::new(file.with_context(|| format!("--events {}", path.display()))?), WhenFull::Wait)
    };
    EventLog::new(out, birth, when_full).context("starting the event log")
}
