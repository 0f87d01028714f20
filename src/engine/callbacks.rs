//! The engine's side of callbacks: what arrives goes to the core, and who brought it is told when what
//! it says is durable.
//!
//! One rule for the receipts: an arrival is settled when everything that happened up to it is in the
//! state file. So the API brings it again if this process dies before that, also where it was brought
//! twice, and one that comes before the answer to its submission is settled with that.

use std::collections::HashMap;
use std::fmt;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Answer, Engine, EngineError};
use crate::api::{CallbackUrl, Polled, VideoApi};
use crate::callback::{Addresses, Arrival, Receipt, Refusals};
use crate::event::{self, EventSink, RunEvent};
use crate::job::{Attempt, SampleId, Stamp};
use crate::schedule::Heard;

/// Ends found by looks, and no callback ever, after which that is told: by chance, or because a callback
/// takes a moment longer, a look may find some.
const UNCALLED_WORTH_TELLING: u64 = 20;

/// How a run is called back.
pub struct Callbacks {
    /// Where.
    pub addresses: Addresses,
    /// What arrives there; `None` where somebody else listens.
    pub arrivals: Option<BoxStream<'static, Arrival>>,
    /// Counts what is turned away before it is an arrival.
    pub refusals: Refusals,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// What the engine keeps of callbacks.
pub(super) struct Ear {
    callbacks: Option<Callbacks>,
    /// Of arrivals that came before the answers to their submissions.
    early: HashMap<SampleId, Vec<Receipt>>,
    /// To be settled with the next commit, and with the one under way.
    waiting: Vec<Receipt>,
    committing: Vec<Receipt>,
    counts: event::Callbacks,
}

impl Ear {
    pub(super) fn new(callbacks: Option<Callbacks>) -> Self {
        Self {
            callbacks,
            early: HashMap::new(),
            waiting: Vec::new(),
            committing: Vec::new(),
            counts: event::Callbacks::default(),
        }
    }

    /// The next arrival; never, where nobody listens or nothing will come any more.
    pub(super) async fn next(&mut self) -> Arrival {
        if let Some(Callbacks { arrivals: Some(arrivals), .. }) = &mut self.callbacks
            && let Some(arrival) = arrivals.next().await
        {
            return arrival;
        }
        std::future::pending().await
    }

    /// Where this attempt is to be called back, if it is to be.
    pub(super) fn address(&self, sample: SampleId, attempt: Attempt) -> Option<CallbackUrl> {
        Some(self.callbacks.as_ref()?.addresses.of(sample, attempt))
    }

    /// How callbacks stand, where they are listened for.
    pub(super) fn standing(&self) -> Option<event::Callbacks> {
        let callbacks = self.callbacks.as_ref().filter(|callbacks| callbacks.arrivals.is_some())?;
        Some(event::Callbacks { refused: callbacks.refusals.count(), ..self.counts })
    }

    /// A commit of everything so far begins; or nothing is left to commit, and nothing to wait for.
    pub(super) fn commit(&mut self, begins: bool) {
        let waiting = std::mem::take(&mut self.waiting);
        if begins {
            self.committing = waiting;
        } else {
            waiting.into_iter().for_each(Receipt::settle);
        }
    }

    /// That commit is durable.
    pub(super) fn committed(&mut self) {
        self.committing.drain(..).for_each(Receipt::settle);
    }

    /// A submission was answered.
    pub(super) fn answered(&mut self, sample: SampleId) {
        self.waiting.extend(self.early.remove(&sample).into_iter().flatten());
    }
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    /// Takes an arrival to the core.
    pub(super) fn called_back(&mut self, arrival: Arrival, now: Stamp) -> Result<(), EngineError> {
        let Arrival { sample, attempt, task, answer, receipt } = arrival;
        let heard = self.schedule.hear(sample, attempt, task, answer, now);
        self.ear.counts.count(heard);
        if heard == Heard::Kept {
            self.ear.early.entry(sample).or_default().push(receipt);
        } else {
            self.ear.waiting.push(receipt);
        }
        self.tell(&RunEvent::CalledBack { sample, attempt, heard });
        Ok(())
    }

    /// Counts an end that a look found although a callback was to tell of it.
    pub(super) fn count_uncalled(&mut self, answer: &Answer) {
        if let Answer::Polled(sample, Polled::Succeeded(_) | Polled::Failed(_)) = answer
            && self.schedule.awaits_callback(*sample)
        {
            self.ear.counts.uncalled += 1;
            let Some(standing) = self.ear.standing() else { return };
            if standing.received() == 0 && standing.uncalled == UNCALLED_WORTH_TELLING {
                self.tell(&RunEvent::Uncalled { ends: standing.uncalled });
            }
        }
    }
}
