//! Who holds the account's slots: samples here, and the semaphore that lends the rest to the queue.
//!
//! The core owns the count. A slot is held from the moment a row leaves the queue until its task has
//! ended, and by a submission in doubt for as long as its task could be alive; a sample that waits
//! for long gives its slot up.

use std::time::Duration;

use super::allowance::Manner;
use super::{ACCEPTED_WITHIN, Action, Schedule};

/// How the slots in use fall and climb. One hundredth is left free for tasks whose end nobody has
/// noticed yet; a hundredth is always tried; and a climb, whose slots fill at once, is borne when a
/// minute later none was refused. What is alive at a refusal is what is allowed, so nothing more is
/// given up when there is another.
pub(super) const MANNER: Manner =
    Manner { margin: 10, again: 1_000, floor: 10, patience: Duration::from_secs(60) };

impl Schedule {
    /// Slots to give to the semaphore, or to take back from it for samples that gave theirs up.
    pub(super) fn next_slot_action(&mut self) -> Option<Action> {
        if self.halt.is_some() {
            return None;
        }
        let capacity = self.config.limits.concurrent_tasks.get();
        let mut spare = capacity.saturating_sub(self.held + self.lent);
        while spare > 0
            && let Some(id) = self.slotless.pop_front()
        {
            if let Some(sample) = self.samples.get_mut(&id) {
                sample.holds_slot = true;
                self.held += 1;
                spare -= 1;
                self.ready.push_back(id);
            }
        }
        if !self.slotless.is_empty() {
            if self.lent > 0 && !self.reclaiming {
                self.reclaiming = true;
                let wanted = u32::try_from(self.slotless.len()).unwrap_or(u32::MAX);
                return Some(Action::ReclaimSlots(wanted.min(self.lent)));
            }
            return None;
        }
        if spare > 0 && !self.queue_ended {
            self.lent += spare;
            return Some(Action::FreeSlots(spare));
        }
        None
    }

    /// From a submission in doubt to the moment when its task cannot be alive.
    pub(super) fn doubts_last(&self) -> Duration {
        ACCEPTED_WITHIN + self.lifetimes.could_last(self.config.task_timeout)
    }

    /// Tasks that are or could be alive, submissions without an answer included.
    pub(super) fn alive(&self) -> u32 {
        let doubts = u32::try_from(self.doubts.len()).unwrap_or(u32::MAX);
        self.submitting + (self.running - self.running_without_slot) + doubts
    }
}
