//! Refusals and silences that are about everyone, not about a sample: pauses, pace, slots, outage.
//!
//! - **503, no connection**: everyone waits, as long as asked or with jitter. Ten such answers or
//!   doubts in a row are an *outage*: buying stops until the balance endpoint answers, and then one
//!   trial submission at a time finds out whether it is over.
//! - **429** proves that the service is there. What there were too many of is told by its words, and
//!   otherwise by the looks: a refused look means requests, so that everyone waits and the pace falls;
//!   looks that pass while submissions are refused mean tasks, so that fewer are kept alive. Until
//!   that is known submissions wait and looks go on, as the test.

use std::time::Duration;

use super::retry::FullJitter;
use super::{Halt, LOOKS_THAT_TELL, OUTAGE_STREAK, REFUSALS_THAT_TELL, SLOW_START, Schedule};
use crate::api::{Balance, Refusal, RefusalCause};
use crate::job::{Failure, FailureKind, Stamp};

/// Time between two looks at the balance during an outage.
const PROBE_EVERY: Duration = Duration::from_secs(15);

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
    /// It is under way.
    Sent,
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
    pub(super) fn told(&self) -> Option<(Stamp, &Failure)> {
        self.failure.as_ref().map(|failure| (self.until, failure))
    }

    pub(super) fn expire(&mut self, now: Stamp) {
        if now >= self.until {
            self.failure = None;
        }
    }

    /// Begins, or goes on, because a request sent at `sent` was refused. Only a wait that the API
    /// asked for makes one longer that goes on already.
    fn because_of(&mut self, refusal: &Refusal, sent: Stamp, now: Stamp) {
        let part_of_it = sent < self.began;
        let wait = match refusal.retry_after {
            Some(wait) => wait,
            None if part_of_it => return,
            None => self.waits.next_wait(),
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

    /// A look, sent at `sent`, was refused because there were too many requests.
    pub(super) fn too_many_requests(&mut self, refusal: &Refusal, sent: Stamp, now: Stamp) {
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

    /// A look that was sent at `looked` told something about its task.
    pub(super) fn look_tells(&mut self, looked: Stamp, now: Stamp) {
        self.key_refusals = 0;
        self.refused_looks = 0;
        if std::mem::take(&mut self.unclear_looks) >= OUTAGE_STREAK {
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
        self.refusals = 0;
        self.suspicion = None;
        self.throttled = None;
        self.pause.waits.recover();
        self.hold.waits.recover();
    }

    /// One more answer in a row that speaks of a service in trouble.
    pub(super) fn in_trouble(&mut self, failure: &Failure, now: Stamp) {
        self.trouble += 1;
        match &mut self.outage {
            Some(outage) if outage.trial == Trial::Sent => {
                outage.trial = Trial::Barred;
                let in_doubt = failure.kind == FailureKind::Doubt;
                outage.next_probe = now + if in_doubt { outage.wait } else { PROBE_EVERY };
                if in_doubt {
                    outage.wait = outage.wait.saturating_mul(2).min(LONGEST_TRIAL_WAIT);
                }
            }
            None if self.trouble >= OUTAGE_STREAK && self.halt.is_none() => {
                self.outage = Some(Outage {
                    since: now,
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

    /// Stops buying once the service has been away, or refusing everything, for too long.
    pub(super) fn give_up_on_an_outage(&mut self, now: Stamp) {
        let away = self.outage.as_ref().map(|outage| (outage.since, &outage.failure));
        let throttled = self.throttled.as_ref().map(|(since, failure)| (*since, failure));
        let given_up = [away, throttled]
            .into_iter()
            .flatten()
            .find(|(since, _)| now.since(*since) >= self.config.outage_timeout);
        if let Some((_, failure)) = given_up
            && self.halt.is_none()
        {
            let halt = Halt::Outage(failure.clone());
            self.stop_buying(halt);
        }
    }

    /// The trial of an outage was not sent, or only told to come later: it may go again.
    pub(super) fn trial_may_go_again(&mut self) {
        if let Some(outage) = self.outage.as_mut().filter(|outage| outage.trial == Trial::Sent) {
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
