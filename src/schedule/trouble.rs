//! Refusals and silences that are about everyone, not about a sample: pauses, pace, slots, outage.
//!
//! - **503, no connection**: everyone waits, as long as asked or with jitter. Ten such answers or
//!   doubts in a row are an *outage*: buying stops until the balance endpoint answers, and then one
//!   trial submission at a time finds out whether it is over.
//! - **429** proves that the service is there. What there were too many of is told by its words, and
//!   otherwise by the looks: refused looks mean requests, so that everyone waits and the pace falls;
//!   looks that pass while submissions are refused mean tasks, so that fewer are kept alive. One
//!   refusal is believed where about as much was in use as is allowed, elsewhere it takes three in a
//!   row. Until that is known submissions wait and looks go on, as the test.

use std::time::Duration;

use super::retry::FullJitter;
use super::{Halt, LOOKS_THAT_TELL, OUTAGE_STREAK, REFUSALS_THAT_TELL, SLOW_START, Schedule};
use crate::api::{Balance, Polled, Refusal, RefusalCause};
use crate::job::{Failure, FailureKind, Stamp};

/// Time between two looks at the balance during an outage.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// A wait that the service asks for only when it is away.
const LONG_WAIT: Duration = Duration::from_mins(1);

/// Longest wait after a trial that ended in doubt. With waits that double up to this, an outage of
/// an hour costs about ten doubts.
const LONGEST_TRIAL_WAIT: Duration = Duration::from_mins(10);

/// A service that is away, until a submission is answered well: a balance that answers says only
/// that the service can be reached.
#[derive(Debug, Clone)]
pub(super) struct Outage {
    pub(super) since: Stamp,
    pub(super) next_probe: Stamp,
    /// From a trial that ends in doubt to the next probe; each such trial may cost a video.
    wait: Duration,
    pub(super) trial: Trial,
    failure: Failure,
}

/// The one submission that may find out whether an outage is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// Not before the balance endpoint answers.
    Barred,
    /// The next submission is it.
    Allowed,
    /// It is under way, with a permit of this stamp, which tells it from those before it.
    Sent(Stamp),
}

/// A wait of everyone, or of submissions.
#[derive(Debug)]
pub(super) struct Holding {
    waits: FullJitter,
    until: Stamp,
    /// When it began: refusals of what was sent before are part of what it is for.
    began: Stamp,
    failure: Option<Failure>,
}

impl Holding {
    pub(super) const fn new(waits: FullJitter) -> Self {
        Self { waits, until: Stamp::BIRTH, began: Stamp::BIRTH, failure: None }
    }

    pub(super) const fn until(&self) -> Stamp {
        self.until
    }

    /// Until when, and why, while it lasts.
    pub(super) fn told(&self, now: Stamp) -> Option<(Stamp, &Failure)> {
        self.failure.as_ref().filter(|_| now < self.until).map(|failure| (self.until, failure))
    }

    /// Begins, or goes on, because a request sent at `sent` was refused. Only a wait that the API
    /// asked for makes one longer that goes on already.
    fn because_of(&mut self, refusal: &Refusal, sent: Stamp, now: Stamp) {
        let part_of_it = sent < self.began;
        let wait = match refusal.retry_after {
            Some(asked) if part_of_it => asked,
            None if part_of_it => return,
            // An answer that asks for no wait at all does not switch the backoff off.
            asked => self.waits.next_wait().max(asked.unwrap_or_default()),
        };
        if !part_of_it {
            self.began = now;
        }
        self.until = self.until.max(now + wait);
        self.failure = Some(refusal.failure.clone());
    }
}

impl Schedule {
    /// Everyone waits.
    pub(super) fn everyone_waits(&mut self, refusal: &Refusal, sent: Stamp, now: Stamp) {
        self.pause.because_of(refusal, sent, now);
        self.gate.pause_until(self.pause.until());
    }

    /// A look that was sent at `looked` got no answer, or only that everyone has to wait.
    pub(super) fn look_refused(&mut self, refusal: &Refusal, looked: Stamp, now: Stamp) {
        self.silent.get_or_insert_with(|| (now, refusal.failure.clone()));
        match refusal.cause {
            RefusalCause::Rate | RefusalCause::Concurrency => self.too_many_requests(refusal, looked, now),
            RefusalCause::Unavailable | RefusalCause::Connect => self.everyone_waits(refusal, looked, now),
        }
    }

    /// A look, sent at `sent`, was refused because there were too many requests.
    fn too_many_requests(&mut self, refusal: &Refusal, sent: Stamp, now: Stamp) {
        self.suspicion = None;
        self.refused_looks += 1;
        self.gate.refused(sent, self.refused_looks >= REFUSALS_THAT_TELL, now);
        self.everyone_waits(refusal, sent, now);
    }

    /// A submission was refused because there were too many of something. One goes at a time until
    /// one is accepted.
    pub(super) fn submission_throttled(
        &mut self,
        refusal: &Refusal,
        sent: Stamp,
        now: Stamp,
        says_tasks: bool,
    ) {
        let news = sent >= self.hold.began;
        self.hold.because_of(refusal, sent, now);
        self.window = 1;
        self.throttled.get_or_insert_with(|| (now, refusal.failure.clone()));
        self.refusals += u32::from(news);
        if !says_tasks {
            self.suspicion.get_or_insert((now, 0));
        }
        let looks_pass = self.suspicion.is_none_or(|(_, looks)| looks >= LOOKS_THAT_TELL);
        if news && looks_pass {
            self.perhaps_too_many_tasks(now);
        }
    }

    /// What the answer to a look says of the service and the key, whatever it says of the task.
    pub(super) fn service_seen(&mut self, answer: &Polled, looked: Stamp, now: Stamp) {
        match answer {
            Polled::Alive(_)
            | Polled::Succeeded(_)
            | Polled::SucceededWithoutUrl
            | Polled::Failed(_)
            | Polled::NotFound(_) => self.look_tells(looked, now),
            Polled::NotAnswered(refusal) => self.look_refused(refusal, looked, now),
            Polled::KeyRefused(failure) => self.look_refused_the_key(failure.clone()),
            Polled::Unclear(failure) => self.look_unclear(failure, looked, now),
        }
    }

    /// A look that was sent at `looked` told something about its task.
    pub(super) fn look_tells(&mut self, looked: Stamp, now: Stamp) {
        self.key_refusals = 0;
        self.refused_looks = 0;
        self.unclear_looks = 0;
        self.silent = None;
        if looked >= self.pause.began {
            self.pause.waits.recover();
        }
        if let Some((_, looks)) = self.suspicion.as_mut().filter(|(since, _)| looked >= *since) {
            *looks += 1;
            if *looks == LOOKS_THAT_TELL {
                self.perhaps_too_many_tasks(now);
            }
        }
    }

    /// No more tasks than are alive now, those unanswered left out, unless that is so much of a surprise
    /// that it takes more refusals to believe it.
    fn perhaps_too_many_tasks(&mut self, now: Stamp) {
        let alive = self.alive() - self.submitting;
        let expected = self.slots_allowed.is_lowered() && alive * 10 >= self.slots_allowed.allowed() * 9;
        if expected || self.refusals >= REFUSALS_THAT_TELL {
            self.suspicion = None;
            self.slots_allowed.refused(alive, now);
        }
    }

    /// A look that was sent at `looked` told nothing. One is an accident, many in a row are a service
    /// that is away, and everyone waits.
    pub(super) fn look_unclear(&mut self, failure: &Failure, looked: Stamp, now: Stamp) {
        self.unclear_looks += 1;
        self.silent.get_or_insert_with(|| (now, failure.clone()));
        if self.unclear_looks >= OUTAGE_STREAK {
            let cause = RefusalCause::Unavailable;
            let refusal = Refusal { cause, retry_after: None, failure: failure.clone() };
            self.everyone_waits(&refusal, looked, now);
        }
    }

    /// A submission was answered as it should be.
    pub(super) fn all_is_well(&mut self) {
        if self.outage.take().is_some() {
            self.window = SLOW_START;
        }
        self.trouble = 0;
        self.troubled_since = None;
        self.silent = None;
        self.refusals = 0;
        self.suspicion = None;
        self.throttled = None;
        self.pause.waits.recover();
        self.hold.waits.recover();
    }

    /// One more answer in a row, to a submission sent at `sent`, that speaks of a service in trouble. One
    /// that asks for a wait of a minute speaks for ten.
    pub(super) fn in_trouble(&mut self, failure: &Failure, asked: Option<Duration>, sent: Stamp, now: Stamp) {
        // Whatever this is, it is no word of too many.
        self.throttled = None;
        let long = asked.is_some_and(|asked| asked >= LONG_WAIT);
        self.trouble += if long { OUTAGE_STREAK } else { 1 };
        let since = *self.troubled_since.get_or_insert(now);
        match &mut self.outage {
            Some(outage) if outage.trial == Trial::Sent(sent) => {
                outage.trial = Trial::Barred;
                let in_doubt = failure.kind == FailureKind::Doubt;
                outage.next_probe = now + if in_doubt { outage.wait } else { PROBE_EVERY };
                if in_doubt {
                    outage.wait = outage.wait.saturating_mul(2).min(LONGEST_TRIAL_WAIT);
                }
            }
            None if self.trouble >= OUTAGE_STREAK && self.halt.is_none() => {
                self.outage = Some(Outage {
                    since,
                    next_probe: now + PROBE_EVERY,
                    wait: PROBE_EVERY,
                    trial: Trial::Barred,
                    failure: failure.clone(),
                });
            }
            // Not yet an outage, or an answer to what was sent before it was known.
            None | Some(_) => {}
        }
    }

    /// When the balance endpoint is to be asked whether the service is back.
    pub(super) fn next_probe(&self) -> Option<Stamp> {
        let barred = |outage: &&Outage| outage.trial == Trial::Barred && self.halt.is_none() && !self.probing;
        self.outage.as_ref().filter(barred).map(|outage| outage.next_probe)
    }

    /// When the service will have been away, refusing everything or telling nothing for too long.
    pub(super) fn gives_up_at(&self) -> Stamp {
        let away = self.outage.as_ref().map(|outage| outage.since);
        let throttled = self.throttled.as_ref().map(|(since, _)| *since);
        let silent = self.silent.as_ref().filter(|_| self.watching).map(|(since, _)| *since);
        let since = [away, throttled, silent].into_iter().flatten().min();
        since.map_or(Stamp::NEVER, |since| since + self.config.outage_timeout)
    }

    /// Stops buying once the service has been away, or refusing everything, for too long, and watching
    /// once no look has told anything for as long.
    pub(super) fn give_up_on_an_outage(&mut self, now: Stamp) {
        if self.outage.is_none() && self.throttled.is_none() && self.silent.is_none() {
            return;
        }
        let too_long = |since: Stamp| now.since(since) >= self.config.outage_timeout;
        let away = self.outage.as_ref().filter(|outage| too_long(outage.since));
        let away = away.map(|outage| &outage.failure);
        let throttled = self.throttled.as_ref().filter(|(since, _)| too_long(*since)).map(|(_, why)| why);
        let silent = self.silent.as_ref().filter(|(since, _)| self.watching && too_long(*since));
        let silent = silent.map(|(_, failure)| failure.clone());
        if let Some(failure) = away.or(throttled).cloned() {
            self.stop_buying(Halt::Outage(failure));
        }
        if let Some(failure) = silent {
            self.stop_watching(Halt::Outage(failure));
        }
    }

    /// A submission of `sent` was not sent after all, or only told to come later: if it was the trial of
    /// an outage, another may go.
    pub(super) fn trial_may_go_again(&mut self, sent: Stamp) {
        if let Some(outage) = self.outage.as_mut().filter(|outage| outage.trial == Trial::Sent(sent)) {
            outage.trial = Trial::Allowed;
        }
    }

    pub(super) fn probed(&mut self, balance: Balance, now: Stamp) {
        self.probing = false;
        match balance {
            Balance::Left(_) => {
                if let Some(outage) = &mut self.outage {
                    outage.trial = Trial::Allowed;
                }
            }
            Balance::KeyRefused(failure) => self.stop_buying(Halt::KeyRefused(failure)),
            Balance::Unclear(_) => {
                if let Some(outage) = &mut self.outage {
                    outage.next_probe = now + PROBE_EVERY;
                }
            }
        }
    }
}
