//! Links to videos that have to be asked for again, because a download found them dead.
//!
//! A look at such a task is a request like any other and passes the gate, after whatever buys or
//! watches: a video that is made and paid for can wait, a slot that is free or could be cannot. Its
//! answer changes no sample; it teaches what every look teaches, and the shell passes it on.

use std::collections::{BTreeMap, VecDeque};

use super::{Action, Admission, IllegalEvent, Schedule};
use crate::api::Polled;
use crate::job::{SampleId, Stamp, TaskId};

/// Links wanted, one a sample.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Next first.
    waiting: VecDeque<(SampleId, TaskId)>,
    /// Those being looked at, since when.
    looking: BTreeMap<SampleId, Stamp>,
}

impl Links {
    /// Whether nobody waits for a link.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.looking.is_empty()
    }

    pub(super) fn check_invariants(&self) {
        let twice = self.waiting.iter().any(|(sample, _)| self.looking.contains_key(sample));
        assert!(!twice, "a link that is looked at is waited for");
    }
}

impl Schedule {
    pub(super) fn link_wanted(&mut self, sample: SampleId, task: TaskId) -> Result<(), IllegalEvent> {
        let illegal = |state| IllegalEvent { sample, event: "link wanted", state };
        if self.links.looking.contains_key(&sample) {
            return Err(illegal("having its link looked at"));
        }
        if self.links.waiting.iter().any(|(waiting, _)| *waiting == sample) {
            return Err(illegal("waiting for its link"));
        }
        self.links.waiting.push_back((sample, task));
        Ok(())
    }

    pub(super) fn link_seen(
        &mut self,
        sample: SampleId,
        answer: &Polled,
        now: Stamp,
    ) -> Result<(), IllegalEvent> {
        let illegal = || IllegalEvent { sample, event: "link seen", state: "not having its link looked at" };
        let looked = self.links.looking.remove(&sample).ok_or_else(illegal)?;
        self.service_seen(answer, looked, now);
        Ok(())
    }

    /// What is to be done about links now, or when. Nobody is asked any longer once tasks are no
    /// longer watched.
    pub(super) fn next_link_action(&mut self, now: Stamp) -> Option<Result<Action, Stamp>> {
        let (sample, task) = self.links.waiting.front()?.clone();
        if !self.watching {
            self.links.waiting.pop_front();
            return Some(Ok(Action::ForgetLink { sample }));
        }
        Some(match self.gate.admit(now) {
            Admission::Granted => {
                self.lookout.other_request();
                self.links.waiting.pop_front();
                self.links.looking.insert(sample, now);
                Ok(Action::LookAtLink { sample, task })
            }
            Admission::NotBefore(at) => Err(at),
        })
    }
}
