//! What ties stamps to the machine's clocks, from one process to the next.
//!
//! A file that is opened for writing keeps the moment and the stamp it had; the next process starts
//! as long after that stamp as that moment is ago. Within a process stamps go on by themselves, so a
//! moment a process is enough, and one that is killed leaves its moment all the same. Where the
//! machine tells how long it has been up, a wall clock that jumps neither ages nor rejuvenates a
//! task; where it does not, or across a restart of the machine, the wall clock is believed, but never
//! before a stamp that was stored.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, meta, set_meta};
use crate::clock::Moment;
use crate::job::Stamp;

/// A moment, and the stamp it had in this file.
#[derive(Debug, Serialize, Deserialize)]
struct Anchor {
    /// In milliseconds since birth.
    stamp: u64,
    moment: Moment,
}

impl Store {
    /// The stamp at which a process starts at this moment: never before one that was stored.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn stamp_at(&self, moment: &Moment) -> Result<Stamp, StoreError> {
        let anchor: Option<String> = meta(&self.connection, "anchor")?;
        let anchor = match anchor {
            Some(json) => serde_json::from_str(&json)?,
            None => Anchor { stamp: 0, moment: self.birth.into() },
        };
        let passed = moment.since(&anchor.moment);
        Ok(self.last_stamp()?.max(Stamp::from_millis(anchor.stamp) + passed))
    }

    /// Ties stamps to this moment, if more than the wall clock is known of it: otherwise the older
    /// tie is as good, and has seen fewer jumps.
    pub(super) fn tie_to(&self, moment: &Moment) -> Result<(), StoreError> {
        if moment.boot.is_none() {
            return Ok(());
        }
        let stamp = self.stamp_at(moment)?;
        // A wall clock behind what this file knows of the date is not believed at the next start.
        let wall = moment.wall.max(self.birth.at(stamp));
        let anchor = Anchor { stamp: stamp.as_millis(), moment: Moment { wall, ..moment.clone() } };
        set_meta(&self.connection, "anchor", serde_json::to_string(&anchor)?)?;
        Ok(())
    }
}
