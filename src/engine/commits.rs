//! The engine's side of commits: what goes into the next one, and what is done when it is durable.
//!
//! At most one is under way. A submission is sent when the commit with its intent ends, unless its permit
//! has grown stale meanwhile.
//!
//! In virtual time nothing is paid for, and no disk takes so long that a batch would gather. There a change
//! that nothing waits for, an acceptance say, goes with the next intent: a row costs one commit, not two.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::{Answer, Decided, Engine, EngineError};
use crate::api::VideoApi;
use crate::event::{EventSink, RunEvent};
use crate::job::{Attempt, SampleId, Stamp};
use crate::schedule::gate::STALE_PERMIT;
use crate::schedule::{Change, Event, Transition};
use crate::store::{Committed, WriterError, tell_what_is_lost};

/// Submissions in a row that waited too long for the disk to be sent, after which that is told.
const STALE_WORTH_TELLING: u32 = 100;

/// Requests too many that are kept, before it is looked which.
const REQUESTS_WORTH_FORGETTING: usize = 1_024;
/// As many changes as wait in virtual time for a commit that something waits for: a few rows' worth.
const LONGEST_BATCH: usize = 64;
/// As long as they wait for it, on the clock of the run.
const LONGEST_LAG: Duration = Duration::from_secs(1);

pub(super) type Commit = Pin<Box<dyn Future<Output = Result<Committed, WriterError>> + Send>>;

/// A submission that waits for its intent to be durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Intent {
    pub(super) sample: SampleId,
    pub(super) attempt: Attempt,
    pub(super) permit: Stamp,
}

/// What the engine keeps of commits.
#[derive(Default)]
pub(super) struct Commits {
    /// Changes for the next one, and the submissions that wait for it.
    pub(super) batch: Vec<Change>,
    pub(super) intents: Vec<Intent>,
    pub(super) under_way: Option<Commit>,
    /// The submissions that wait for the one under way.
    awaiting: Vec<Intent>,
    /// Submissions in a row that waited too long for the disk to be sent.
    stale: u32,
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    /// Whether what has gathered is to be made durable now.
    pub(super) fn commit_is_due(&self, decided: Decided) -> bool {
        let Some(by) = self.commit_by() else {
            return !self.commits.batch.is_empty() || self.ear.is_waited_for();
        };
        !self.commits.intents.is_empty()
            || self.ear.is_waited_for()
            || self.commits.batch.len() >= LONGEST_BATCH
            || decided == Decided::Finished
            || by <= self.clock.now()
    }

    /// When what has gathered is made durable at the latest, where that may wait: not where downloads
    /// begin by what they are told.
    pub(super) fn commit_by(&self) -> Option<Stamp> {
        let may_wait = self.clock.is_virtual() && !self.desk.is_open();
        self.commits.batch.first().filter(|_| may_wait).map(|oldest| oldest.at + LONGEST_LAG)
    }

    /// Starts a commit of what has gathered, unless one is under way.
    pub(super) fn start_commit(&mut self) {
        if self.commits.under_way.is_some() {
            return;
        }
        let look_up = self.ear.commit(!self.commits.batch.is_empty());
        if !self.commits.batch.is_empty() || look_up.is_some() {
            if let Some(learned) = self.schedule.learned_to_keep(self.clock.now()) {
                self.writer.remember(learned);
            }
            let batch = std::mem::take(&mut self.commits.batch);
            self.commits.awaiting = std::mem::take(&mut self.commits.intents);
            self.commits.under_way = Some(Box::pin(self.writer.commit_and_look_up(batch, look_up)));
        }
    }

    /// Names on the log the tasks that were bought after the last commit, when there will be no other.
    pub(super) fn tell_unwritten(&mut self) {
        self.schedule.take_changes(&mut self.commits.batch);
        tell_what_is_lost(&self.commits.batch);
    }

    /// What is durable now: tells it.
    pub(super) fn committed(&mut self, changes: &[Change]) {
        self.ear.committed();
        for change in changes {
            self.books.changed(change);
            // A doubt ends its sample and stays in the core: a callback may have it bought again.
            if matches!(change.transition, Transition::Ended { .. }) && !self.schedule.knows(change.sample) {
                self.generations.remove(&change.sample);
            }
            self.tell(&RunEvent::Changed(change));
        }
        self.forget_requests();
    }

    /// Sends the submissions that waited for the commit that has ended.
    pub(super) fn send_what_waited(&mut self) -> Result<(), EngineError> {
        for intent in std::mem::take(&mut self.commits.awaiting) {
            self.send(intent)?;
        }
        Ok(())
    }

    /// Takes back the intent to submit this sample again, if it has not been sent.
    pub(super) fn take_back(&mut self, sample: SampleId, now: Stamp) -> Result<(), EngineError> {
        let Commits { intents, awaiting, .. } = &mut self.commits;
        let unsent = [intents, awaiting].into_iter();
        let taken = unsent.flat_map(|unsent| unsent.extract_if(.., |intent| intent.sample == sample));
        for Intent { sample, attempt, .. } in taken.collect::<Vec<_>>() {
            self.ear.answered(sample);
            self.schedule.handle(Event::NotSent { sample, attempt }, now)?;
        }
        Ok(())
    }

    /// Doubts leave the core without a word. What they asked for goes once it is most of what is kept.
    fn forget_requests(&mut self) {
        if self.generations.len() > 2 * self.schedule.in_flight() + REQUESTS_WORTH_FORGETTING {
            self.generations.retain(|sample, _| self.schedule.knows(*sample));
        }
    }

    fn send(&mut self, intent: Intent) -> Result<(), EngineError> {
        let Intent { sample, attempt, permit } = intent;
        let now = self.clock.now();
        let stale = now.since(permit) > STALE_PERMIT;
        self.commits.stale = if stale { self.commits.stale.saturating_add(1) } else { 0 };
        if self.commits.stale == STALE_WORTH_TELLING {
            tracing::warn!(
                "commits to the state file take so long that permits to send grow stale: is its disk slow?"
            );
        }
        if stale || !self.schedule.may_send(sample) {
            self.ear.answered(sample);
            self.schedule.handle(Event::NotSent { sample, attempt }, now)?;
            return Ok(());
        }
        let generation = self.generations.get(&sample).cloned().ok_or(EngineError::NoRequest(sample))?;
        self.books.request(now);
        let submission = self.api.submit(generation, self.ear.address(sample, attempt));
        self.calls.push(Box::pin(async move { Answer::Submitted(sample, attempt, submission.await) }));
        Ok(())
    }
}
