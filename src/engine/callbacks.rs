//! The engine's side of callbacks: what arrives goes to the core, and who brought it is told when what
//! it says is durable.
//!
//! One rule for the receipts: an arrival is settled when everything that happened up to it is in the
//! state file. So the API brings it again if this process dies before that, also where it was brought
//! twice, and one that comes before the answer to its submission is settled with that.

use std::collections::{HashMap, HashSet};
use std::fmt;

use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Answer, Engine, EngineError};
use crate::api::{CallbackUrl, Polled, Submitted, VideoApi};
use crate::callback::{Addresses, Arrival, Receipt, Refusals};
use crate::event::{self, EventSink, RunEvent};
use crate::generation::PriceList;
use crate::job::{Attempt, SampleId, Stamp, TaskId};
use crate::schedule::{Entry, Event, Halt, Heard, Restored, Stored};
use crate::store::{GivenUp, LookUp, StoreError, TakenFor, Unsettled};

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
    /// Of samples that the core does not know: to be looked up after the next commit, and after the one
    /// under way.
    elsewhere: Vec<Arrival>,
    looked_up: Vec<Arrival>,
    prices: PriceList,
    counts: event::Callbacks,
}

impl Ear {
    pub(super) fn new(callbacks: Option<Callbacks>, prices: PriceList) -> Self {
        let fused = |callbacks: Callbacks| {
            let arrivals = callbacks.arrivals.map(|arrivals| arrivals.fuse().boxed());
            Callbacks { arrivals, ..callbacks }
        };
        Self {
            callbacks: callbacks.map(fused),
            early: HashMap::new(),
            waiting: Vec::new(),
            committing: Vec::new(),
            elsewhere: Vec::new(),
            looked_up: Vec::new(),
            prices,
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

    /// Whether somebody waits for [`Ear::commit`], be there anything to commit or not.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty() || !self.elsewhere.is_empty()
    }

    /// A commit of everything so far begins, or nothing is left to commit and nothing to wait for. What
    /// is to be looked up goes with it, because it must see all of that.
    pub(super) fn commit(&mut self, begins: bool) -> Option<LookUp> {
        let waiting = std::mem::take(&mut self.waiting);
        if begins {
            self.committing = waiting;
        } else {
            waiting.into_iter().for_each(Receipt::settle);
        }
        if self.elsewhere.is_empty() {
            return None;
        }
        self.looked_up = std::mem::take(&mut self.elsewhere);
        let wanted = self.looked_up.iter().map(|arrival| (arrival.sample, arrival.attempt)).collect();
        Some(LookUp { wanted, prices: self.prices })
    }

    /// That commit is durable.
    pub(super) fn committed(&mut self) {
        self.committing.drain(..).for_each(Receipt::settle);
    }

    /// A submission was answered, or is not sent.
    pub(super) fn answered(&mut self, sample: SampleId) {
        self.waiting.extend(self.early.remove(&sample).into_iter().flatten());
    }
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    /// Takes an arrival to the core.
    pub(super) fn called_back(&mut self, arrival: Arrival, now: Stamp) {
        let Arrival { sample, attempt, task, answer, .. } = &arrival;
        if let (Some(task), Some(ours)) = (task, self.schedule.task_of(*sample))
            && task != ours
        {
            tell_a_second_task(*sample, *attempt, task);
        }
        match self.schedule.hear(*sample, *attempt, task.clone(), answer.clone(), now) {
            Heard::Elsewhere => self.ear.elsewhere.push(arrival),
            heard @ (Heard::Ended | Heard::Settled | Heard::Kept | Heard::Odd | Heard::Nothing) => {
                self.heard(arrival, heard);
            }
        }
    }

    fn heard(&mut self, arrival: Arrival, heard: Heard) {
        let Arrival { sample, attempt, receipt, .. } = arrival;
        self.ear.counts.count(heard);
        if heard == Heard::Kept {
            self.ear.early.entry(sample).or_default().push(receipt);
        } else {
            self.ear.waiting.push(receipt);
        }
        self.tell(&RunEvent::CalledBack { sample, attempt, heard });
    }

    /// What the state file says of samples that the core did not know when they were called.
    pub(super) fn looked_up(
        &mut self,
        found: Vec<Result<Option<Unsettled>, StoreError>>,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let arrivals = std::mem::take(&mut self.ear.looked_up);
        let mut settled = HashSet::new();
        for (arrival, unsettled) in arrivals.into_iter().zip(found) {
            let Arrival { sample, attempt, task, answer, .. } = &arrival;
            // What was looked up is as it was before the first callback of several.
            if settled.contains(sample) {
                self.called_back(arrival, now);
                continue;
            }
            let unsettled = match unsettled {
                Ok(unsettled) => unsettled,
                // The receipt is dropped: the API calls again.
                Err(error @ StoreError::Text(_)) => {
                    tracing::warn!(%sample, %error, "what a callback is about cannot be read");
                    continue;
                }
                Err(error) => {
                    let halt = Halt::Disk(format!("what callbacks are about cannot be read: {error}"));
                    self.schedule.handle(Event::StopBuying(halt), now)?;
                    continue;
                }
            };
            let (Some(unsettled), Some(task)) = (unsettled, task) else {
                self.heard(arrival, Heard::Nothing);
                continue;
            };
            let Unsettled { entry, generation, taken_for } = unsettled;
            settled.insert(*sample);
            let task = task.clone();
            let put_back = match taken_for {
                TakenFor::GivenUp(given_up) => {
                    self.made_after_all(arrival, entry, given_up, now)?;
                    continue;
                }
                TakenFor::Refused => {
                    self.generations.entry(*sample).or_insert(generation);
                    let heard = self.schedule.hear_refused(entry, task, answer.clone(), now);
                    self.heard(arrival, heard);
                    continue;
                }
                TakenFor::PutBack => {
                    self.take_back(*sample, now)?;
                    true
                }
                TakenFor::Doubt => false,
            };
            let running = self.schedule.running();
            self.schedule.handle(Event::TaskFound { entry, task: task.clone(), put_back }, now)?;
            // Not if it is being bought again already.
            if self.schedule.running() == running {
                self.heard(arrival, Heard::Nothing);
                continue;
            }
            self.generations.entry(*sample).or_insert(generation);
            self.schedule.hear(*sample, *attempt, Some(task), answer.clone(), now);
            self.heard(arrival, Heard::Settled);
        }
        Ok(())
    }

    /// A callback names a task that was given up on. Only its video counts: any other end, and any other
    /// task, leaves the sample as it is.
    fn made_after_all(
        &mut self,
        arrival: Arrival,
        entry: Entry,
        given_up: GivenUp,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let GivenUp { status, task, accepted } = given_up;
        let made = matches!(arrival.answer, Polled::Succeeded(_)) && arrival.task.as_ref() == Some(&task);
        if !made || self.schedule.knows(entry.sample) {
            self.heard(arrival, Heard::Nothing);
            return Ok(());
        }
        self.books.gave_up(entry.sample, status);
        let stored = Stored::TimedOut { task, accepted };
        self.schedule.handle(Event::Restored(Restored { entry, stored }), now)?;
        self.called_back(arrival, now);
        Ok(())
    }

    /// Says so if this sample's submission was answered with another task than has called back for it.
    pub(super) fn compare_with_early(&self, sample: SampleId, attempt: Attempt, answer: &Submitted) {
        if let (Submitted::Accepted(ours), Some(early)) = (answer, self.schedule.task_of(sample))
            && ours != early
        {
            tell_a_second_task(sample, attempt, early);
        }
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

/// Names on the log a task that calls back where another is watched: of a submission that was answered
/// with a refusal and repeated, say. It is all that is left of what was paid for it.
fn tell_a_second_task(sample: SampleId, attempt: Attempt, task: &TaskId) {
    let attempt = attempt.0;
    tracing::warn!(%sample, attempt, %task, "another task than the one watched calls back: perhaps bought twice");
}
