//! Who listens to a run: the person, the log, the event file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context;

use crate::clock::Clock;
use crate::event::{EventSink, Progress, RunEvent};
use crate::job::UnixMillis;
use crate::report::{
    Bar, Digest, EventLog, Fan, Interval, LoggedEvents, Metrics, Outlook, Plain, ProgressStyle, Screen,
    WhenFull,
};

/// All who listen to one run.
pub(super) struct Sinks {
    /// What the summary is told from.
    pub(super) digest: Digest,
    person: Box<dyn EventSink + Send>,
    log: LoggedEvents,
    events: Option<EventLog>,
    /// Figures for Prometheus, where they are shown.
    pub(super) metrics: Option<Metrics>,
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
        let style = if screen.is_quiet() { ProgressStyle::None } else { style };
        let person: Box<dyn EventSink + Send> = match style.on(screen.shows_bars()) {
            ProgressStyle::Bar => Box::new(Bar::new(screen, outlook)),
            ProgressStyle::None => Box::new(|_: &RunEvent<'_>, _: &Progress| {}),
            ProgressStyle::Auto | ProgressStyle::Plain => {
                Box::new(Plain::new(screen.clone(), Interval::for_clock(clock), outlook))
            }
        };
        let events = events.map(|path| event_log(path, birth)).transpose()?;
        Ok(Self { digest: Digest::default(), person, log: LoggedEvents, events, metrics: None })
    }

    /// One sink for all of them.
    pub(super) fn fan(&mut self) -> Fan<'_> {
        let fan = Fan::new().and(&mut self.digest).and(&mut *self.person).and(&mut self.log);
        let fan = match &mut self.metrics {
            Some(metrics) => fan.and(metrics),
            None => fan,
        };
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
        let file = continued(path).with_context(|| format!("--events {}", path.display()))?;
        (Box::new(file), WhenFull::Wait)
    };
    EventLog::new(out, birth, when_full).context("starting the event log")
}

/// The file at `path`, to be added to. A line that a full disk or a kill cut short is ended first,
/// so that the next one can be read.
fn continued(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.is_file() {
        let mut last = [b'\n'];
        if let Ok(mut written) = File::open(path)
            && written.seek(SeekFrom::End(-1)).is_ok()
        {
            written.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Finds out, before anything is bought, whether the summary can be written; leaves nothing behind.
///
/// # Errors
///
/// It cannot.
pub(super) fn check_summary(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only a file is looked into: a pipe or a device may have no end, or nobody at the other one.
    let mut first = [0];
    let other = path.is_file()
        && std::fs::File::open(path).and_then(|mut file| file.read(&mut first)).is_ok_and(|read| read > 0)
        && first != *b"{";
    anyhow::ensure!(!other, "--summary {}: there is something else in it: name another file", path.display());
    let writable = if path.exists() {
        OpenOptions::new().append(true).open(path).map(drop)
    } else {
        tempfile::tempfile_in(folder).map(drop)
    };
    writable.with_context(|| format!("--summary {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_short_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.ndjson");
        for (found, then) in [("", "new"), ("{}\n", "{}\nnew"), ("{}\n{\"ti", "{}\n{\"ti\nnew")] {
            std::fs::write(&path, found).unwrap();
            continued(&path).unwrap().write_all(b"new").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), then);
        }
    }

    #[test]
    fn a_summary_that_cannot_be_written_is_told_at_once_and_one_that_can_is_not_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.json");
        check_summary(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "prompt\nmine\n").unwrap();
        assert!(check_summary(&path).unwrap_err().to_string().contains("something else"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "prompt\nmine\n");
        std::fs::write(&path, "{}").unwrap();
        check_summary(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}");
        let error = check_summary(&folder.path().join("absent").join("s.json")).unwrap_err();
        assert!(error.to_string().contains("--summary"), "{error}");
        assert!(check_summary(folder.path()).is_err(), "a folder");
    }
}
