//! What a summary needs to remember of a run's events.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::event::{EventSink, Progress, RunEvent};
use crate::job::{Stamp, Status, Tally, Usd};
use crate::schedule::Halt;

/// A sink that keeps what the end of a run is told from; its size does not grow with the run.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    /// The figures of the last event.
    pub last: Progress,
    /// Samples by status when the run began.
    pub before: Tally,
    /// The first balance that was read.
    pub first_balance: Option<Usd>,
    /// The last balance that was read, if more than one was.
    pub last_balance: Option<Usd>,
    /// What had been bought by this process when that was read, as [`Progress::bought_now`].
    pub bought_by_then: Usd,
    /// The last reason why buying stopped.
    pub halt: Option<Halt>,
    /// Until when doubts were to be waited for, if they were.
    pub awaited_until: Option<Stamp>,
}

impl Digest {
    /// Videos made by this process.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.last.tally.count(Status::Succeeded).saturating_sub(self.before.count(Status::Succeeded))
    }
}

impl EventSink for Digest {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        self.last = *progress;
        match event {
            RunEvent::Started { .. } => self.before = progress.tally,
            RunEvent::Balance(left) if self.first_balance.is_none() => self.first_balance = Some(*left),
            RunEvent::Balance(left) => {
                self.last_balance = Some(*left);
                self.bought_by_then = progress.bought_now;
            }
            RunEvent::DoubtsAwaited(awaited) => self.awaited_until = Some(awaited.until),
            RunEvent::BuyingStopped(halt) => self.halt = Some((*halt).clone()),
            RunEvent::Changed(_)
            | RunEvent::Paused { .. }
            | RunEvent::Allowed { .. }
            | RunEvent::PollFailed { .. }
            | RunEvent::CalledBack { .. }
            | RunEvent::Uncalled { .. }
            | RunEvent::Heartbeat
            | RunEvent::Download(_)
            | RunEvent::GenerationOver
            | RunEvent::Finished => {}
        }
    }
}

/// A tally as a JSON object with every status, in the order summaries print them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts(pub Tally);

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Status::ALL.len()))?;
        for status in Status::ALL {
            map.serialize_entry(&status, &self.0.count(status))?;
        }
        map.end()
    }
}
