//! The engine's side of downloads: it passes on what they tell, and asks for links on their behalf.
//!
//! Downloads run on a thread of their own and never hold the loop up: what they want comes through
//! a bounded channel, one `select!` branch among others, and costs what any event costs. As long as
//! the channel is open the run has not ended, so that a request for a dead link passes the same gate
//! as everything else to the very last.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};

use super::{Engine, EngineError};
use crate::api::{Polled, VideoApi};
use crate::event::{DownloadEvent, Downloads, EventSink, RunEvent};
use crate::job::{SampleId, Stamp, TaskId};
use crate::schedule::Event;

/// Messages on their way to the loop. A download tells a few things a file, and each is taken in
/// microseconds; a download that has to wait here waits for nothing that matters.
pub const MESSAGES_WAITING: usize = 256;

/// What downloads have to say to the engine.
#[derive(Debug)]
pub enum FromDownloads {
    /// A link is dead: ask the API for the task's state again, when the gate lets that through.
    LinkWanted {
        /// Whose video.
        sample: SampleId,
        /// The task that made it.
        task: TaskId,
        /// Where the answer goes; dropped when nobody is asked any longer.
        answer: oneshot::Sender<Polled>,
    },
    /// Something worth telling, and how downloads stand after it.
    Told(DownloadEvent, Downloads),
    /// How downloads stand, now and then.
    Standing(Downloads),
}

/// What the engine keeps of downloads.
#[derive(Debug)]
pub(super) struct Desk {
    /// Closed when downloads have nothing more to say; `None` then, or when there are none.
    inbox: Option<mpsc::Receiver<FromDownloads>>,
    /// Who waits for which link.
    waiting: HashMap<SampleId, Vec<oneshot::Sender<Polled>>>,
    /// Whether it was told that generation is over.
    told_over: bool,
}

impl Desk {
    pub(super) fn new(inbox: Option<mpsc::Receiver<FromDownloads>>) -> Self {
        Self { inbox, waiting: HashMap::new(), told_over: false }
    }

    /// Whether there are downloads that may have something to say.
    pub(super) const fn is_open(&self) -> bool {
        self.inbox.is_some()
    }

    /// The next message; never, when there are no downloads. `None` when they have ended.
    pub(super) async fn next(&mut self) -> Option<FromDownloads> {
        match &mut self.inbox {
            Some(inbox) => inbox.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Somebody waits for a link; answers whether nobody did so far.
    pub(super) fn wait(&mut self, sample: SampleId, answer: oneshot::Sender<Polled>) -> bool {
        let waiting = self.waiting.entry(sample).or_default();
        waiting.push(answer);
        waiting.len() == 1
    }

    /// Answers all who wait for this link.
    pub(super) fn answer(&mut self, sample: SampleId, answer: &Polled) {
        for waiting in self.waiting.remove(&sample).into_iter().flatten() {
            // A download that was stopped meanwhile wants no answer.
            let _ = waiting.send(answer.clone());
        }
    }

    /// Nobody will be asked for this link.
    pub(super) fn forget(&mut self, sample: SampleId) {
        self.waiting.remove(&sample);
    }
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    /// Whether nothing is left to wait for, now that nothing is left to make: downloads have ended, or
    /// somebody waits for the end and the grace is over. Tells once that only downloads are left.
    pub(super) fn is_over(&mut self, interrupted_until: Option<Stamp>) -> bool {
        let out_of_patience = interrupted_until.is_some_and(|until| self.clock.now() >= until);
        if self.desk.inbox.is_none() || out_of_patience {
            return true;
        }
        if !self.desk.told_over {
            self.desk.told_over = true;
            self.tell(&RunEvent::GenerationOver);
        }
        false
    }

    /// Takes a message of downloads; `None` is their end.
    pub(super) fn downloads_say(
        &mut self,
        told: Option<FromDownloads>,
        now: Stamp,
    ) -> Result<(), EngineError> {
        match told {
            None => self.desk.inbox = None,
            Some(FromDownloads::LinkWanted { sample, task, answer }) => {
                if self.desk.wait(sample, answer) {
                    self.schedule.handle(Event::LinkWanted { sample, task }, now)?;
                }
            }
            Some(FromDownloads::Told(event, standing)) => {
                self.books.downloads(standing);
                self.tell(&RunEvent::Download(&event));
            }
            Some(FromDownloads::Standing(standing)) => self.books.downloads(standing),
        }
        Ok(())
    }
}
