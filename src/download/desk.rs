//! What all downloads of a process share: how they stand, what they want written down, what they have
//! to say, and whether they are to stop.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot, watch};

use super::links::Asking;
use super::place::Place;
use crate::clock::{Clock, wall_time};
use crate::engine::FromDownloads;
use crate::event::{DownloadEvent, Downloads};
use crate::hosts::Client;
use crate::job::TaskId;
use crate::store::{Note, NoteOf};

/// Time between two looks whether there is room again.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// The same after what looked like room was none, again and again: each such look has fetched a video.
const ROOM_SELDOM: Duration = Duration::from_mins(5);

/// How long a place may take for what has begun once downloads are to stop.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What downloads are told of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Samples may yet succeed.
    Running,
    /// None will any more: end when all are saved.
    Over,
    /// End at once; what has come stays for the next time.
    Stop,
}

/// Downloads are to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) place: Place,
    pub(super) client: Client,
    pub(super) asking: Asking,
    /// The mark of the state file, in the names of drafts.
    pub(super) mark: String,
    /// Real time: what a network takes does not scale.
    pub(super) clock: Clock,
    pub(super) standing: Cell<Downloads>,
    messages: mpsc::Sender<FromDownloads>,
    signals: watch::Receiver<Signal>,
    /// Whether downloads end for a reason of their own.
    given_up: watch::Sender<bool>,
    /// To be written down, and who waits for it.
    notes: RefCell<Vec<(Note, oneshot::Sender<()>)>>,
    pub(super) noted: Notify,
    room: Room,
}

/// Who waits for room.
#[derive(Debug)]
struct Room {
    /// Tries whether there is some: one at a time.
    trying: Semaphore,
    waiting: Cell<u32>,
    /// Whether the last who tried found some.
    found: Cell<bool>,
    /// Time between two looks.
    every: Cell<Duration>,
    why: RefCell<String>,
}

/// Somebody who waits for room, until there is some or it is dropped.
#[derive(Debug)]
pub(super) struct WaitsForRoom<'a> {
    room: &'a Room,
    /// Its turn to try.
    trying: Option<SemaphorePermit<'a>>,
}

impl WaitsForRoom<'_> {
    /// A video has found room: whoever tries next need not wait.
    pub(super) fn found(mut self) {
        self.room.found.set(true);
        self.room.every.set(ROOM_EVERY);
        drop(self.trying.take());
    }
}

impl Drop for WaitsForRoom<'_> {
    fn drop(&mut self) {
        self.room.waiting.set(self.room.waiting.get().saturating_sub(1));
    }
}

impl Desk {
    pub(super) fn new(
        (place, client, asking): (Place, Client, Asking),
        mark: String,
        clock: Clock,
        messages: mpsc::Sender<FromDownloads>,
        signals: watch::Receiver<Signal>,
    ) -> Self {
        Self {
            place,
            client,
            asking,
            mark,
            clock,
            standing: Cell::default(),
            messages,
            signals,
            given_up: watch::Sender::new(false),
            notes: RefCell::default(),
            noted: Notify::new(),
            room: Room {
                trying: Semaphore::new(1),
                waiting: Cell::new(0),
                found: Cell::new(false),
                every: Cell::new(ROOM_EVERY),
                why: RefCell::default(),
            },
        }
    }

    /// What comes of `future`, unless downloads are to stop before it is ready.
    pub(super) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.stopped() => Err(Stopped),
            output = future => Ok(output),
        }
    }

    /// The same for what is better not left half done, such as giving a video its name: once downloads
    /// are to stop it has a few seconds. A service that never answers holds nobody up.
    pub(super) async fn soon<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let too_late = async {
            self.stopped().await;
            self.clock.sleep(LAST_WORDS).await;
        };
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = too_late => Err(Stopped),
        }
    }

    /// Ready when downloads are to stop.
    async fn stopped(&self) {
        let (mut signals, mut given_up) = (self.signals.clone(), self.given_up.subscribe());
        // An error says that nobody is left who could say stop.
        tokio::select! {
            _ = signals.wait_for(|signal| *signal == Signal::Stop) => {}
            _ = given_up.wait_for(|given_up| *given_up) => {}
        }
    }

    /// From now on downloads are to stop, and no note is written down.
    pub(super) fn give_up(&self) {
        self.given_up.send_replace(true);
        self.notes.borrow_mut().clear();
    }

    pub(super) async fn wait(&self, span: Duration) -> Result<(), Stopped> {
        self.unless_stopped(self.clock.sleep(span)).await
    }

    pub(super) fn stand(&self, change: impl FnOnce(&mut Downloads)) {
        let mut standing = self.standing.get();
        change(&mut standing);
        self.standing.set(standing);
    }

    pub(super) async fn say(&self, message: FromDownloads) -> Result<(), Stopped> {
        self.messages.send(message).await.map_err(|_| Stopped)
    }

    /// Tells `event`; if nobody listens, that is no reason to lose what was saved.
    pub(super) async fn tell(&self, event: DownloadEvent) {
        let _ = self.messages.send(FromDownloads::Told(event, self.standing.get())).await;
    }

    /// How downloads stand, if there is room for the message.
    pub(super) fn tell_standing(&self) {
        let _ = self.messages.try_send(FromDownloads::Standing(self.standing.get()));
    }

    /// Writes a note down, and waits until that is done.
    pub(super) async fn note(&self, task: &TaskId, part: u32, what: NoteOf) -> Result<(), Stopped> {
        if *self.given_up.borrow() {
            return Err(Stopped);
        }
        let (done, is_done) = oneshot::channel();
        let note = Note { task: task.clone(), part, at: wall_time(), what };
        self.notes.borrow_mut().push((note, done));
        self.noted.notify_one();
        is_done.await.map_err(|_| Stopped)
    }

    pub(super) fn has_notes(&self) -> bool {
        !self.notes.borrow().is_empty()
    }

    /// The notes that are to be written down.
    pub(super) fn notes(&self) -> Vec<Note> {
        self.notes.borrow().iter().map(|(note, _)| note.clone()).collect()
    }

    /// The first `count` notes are durable.
    pub(super) fn written(&self, count: usize) {
        for (_, done) in self.notes.borrow_mut().drain(..count) {
            let _ = done.send(());
        }
    }

    /// There was no room, by `why`: waits until it may be tried again. One tries at a time.
    pub(super) async fn wait_for_room<'a>(
        &'a self,
        why: String,
        before: Option<WaitsForRoom<'a>>,
    ) -> Result<WaitsForRoom<'a>, Stopped> {
        let room = &self.room;
        self.room.why.replace(why);
        room.found.set(false);
        let waits = if let Some(waits) = before {
            waits
        } else {
            room.waiting.set(room.waiting.get() + 1);
            let mut waits = WaitsForRoom { room, trying: None };
            // The semaphore is never closed.
            waits.trying = self.unless_stopped(room.trying.acquire()).await?.ok();
            waits
        };
        if !room.found.get() {
            self.wait(room.every.get()).await?;
        }
        Ok(waits)
    }

    /// What looked like room was too little for a video.
    pub(super) fn looked_like_room(&self) {
        let every = &self.room.every;
        every.set(every.get().saturating_mul(2).min(ROOM_SELDOM));
    }

    /// Why downloads wait for room, if they do.
    pub(super) fn lacks_room(&self) -> Option<String> {
        (self.room.waiting.get() > 0).then(|| self.room.why.borrow().clone())
    }
}
