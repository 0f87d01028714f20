//! Videos from their links to a place, beside a run or after it.
//!
//! Owns a thread with a runtime of its own and a connection of its own to the state file, so that
//! downloads cannot slow generation: no socket, disk or lock is shared with the engine's loop. They
//! learn that samples succeed by a poke ([`Poke`]) and ask the state file which are not saved; so
//! memory does not grow with the sheet, and a process that was killed is gone on with by the same
//! question. What they have to say goes to the engine ([`FromDownloads`]), which asks for dead links on
//! their behalf, and ends when they do.
//!
//! The API key is not known here.

mod backlog;
mod boxes;
#[cfg(feature = "bucket")]
mod bucket;
#[cfg(feature = "bucket")]
mod bucket_draft;
mod desk;
mod destination;
mod folder;
mod links;
mod listing;
mod place;
#[cfg(feature = "bucket")]
mod s3_words;
mod sample;
mod sidecar;
mod sums;
mod survey;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;

use std::collections::VecDeque;
use std::future::Future;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures::future::{Either, pending};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot, watch};

#[cfg(feature = "bucket")]
pub use bucket::{Bucket, Object};
pub use destination::Destination;
pub use folder::Folder;
pub use links::Asking;
pub use listing::ListingError;
pub use place::{Content, Draft, DraftId, Found, Origin, Place, PlaceError};
pub use sidecar::{sidecar, sidecar_path};
pub use sums::{SUMS, Sum};
pub use survey::Look;
pub use verify::{Finding, Verified, verify};

use crate::clock::Clock;
use crate::engine::{FromDownloads, MESSAGES_WAITING};
use crate::event::{DownloadEvent, EventSink, Progress, RunEvent};
use crate::hosts::{Hosts, Patience};
use crate::job::{Outcome, Stamp};
use crate::schedule::{Halt, Transition};
use crate::store::{Files, StoreError};
use backlog::{Again, Backlog, Turn};
use desk::{Desk, Signal, Stopped};
use survey::survey;

/// How long notes gather before they are written down together: short enough that nobody waits, long
/// enough that many small videos share a transaction.
const GATHER: Duration = Duration::from_millis(10);

/// Time between two attempts to write notes that the state file did not take.
const NOTE_AGAIN: Duration = Duration::from_secs(5);

/// How often notes are tried that somebody else's commit keeps from being written, before downloads that
/// are to stop end without them.
const LAST_TRIES: u32 = 5;

/// How often it is told how downloads stand.
const TICK: Duration = Duration::from_millis(500);

/// Ticks over which the rate is taken.
const RATE_OVER: usize = 10;

/// What to download, and how.
#[derive(Debug)]
pub struct Order {
    /// Where to.
    pub place: Place,
    /// Which hosts may be called.
    pub hosts: Hosts,
    /// How long to wait for them.
    pub patience: Patience,
    /// Videos under way at once.
    pub concurrency: NonZeroUsize,
    /// Whether dead links can be asked for again.
    pub asking: Asking,
    /// Whether a file beside each video says what it is.
    pub sidecars: bool,
    /// How closely what is saved already is looked at first.
    pub look: Look,
}

/// Why downloads ended before they were done.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The place cannot be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The state file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The client cannot be made.
    #[error("cannot set up connections")]
    Client(#[from] reqwest::Error),
    /// The thread cannot be started, or died.
    #[error("cannot run downloads")]
    Thread(#[source] std::io::Error),
}

/// Downloads under way.
#[derive(Debug)]
pub struct Started {
    /// For [`crate::batch::Run::downloads`].
    pub inbox: mpsc::Receiver<FromDownloads>,
    /// For the run's events.
    pub poke: Poke,
    /// For the end.
    pub ending: Ending,
}

/// The end of downloads.
#[derive(Debug)]
pub struct Ending(oneshot::Receiver<Result<(), DownloadError>>);

impl Ending {
    /// Waits for it, beside whatever else is heeded. The [`Poke`] must have been told of the run's end,
    /// or be gone.
    ///
    /// # Errors
    ///
    /// Why downloads ended before they were done.
    pub async fn wait(self) -> Result<(), DownloadError> {
        let died = |_| DownloadError::Thread(std::io::Error::other("the thread of downloads died"));
        self.0.await.map_err(died)?
    }
}

/// Tells downloads what becomes of the run: that a sample succeeded, that no more will, that
/// everything is to stop. When it is dropped they stop.
#[derive(Debug)]
pub struct Poke {
    made: Arc<Made>,
    signal: watch::Sender<Signal>,
}

/// Samples that have succeeded in this process.
#[derive(Debug, Default)]
struct Made {
    count: AtomicU64,
    more: Notify,
}

impl EventSink for Poke {
    fn notice(&mut self, event: &RunEvent<'_>, _: &Progress) {
        match event {
            RunEvent::Changed(change) => {
                if matches!(&change.transition, Transition::Ended { outcome: Outcome::Succeeded(_), .. }) {
                    self.made.count.fetch_add(1, Ordering::Relaxed);
                    self.made.more.notify_one();
                }
            }
            RunEvent::BuyingStopped(halt) if Halt::leaves_tasks(halt) => {
                self.signal.send_replace(Signal::Stop);
            }
            RunEvent::GenerationOver => {
                self.signal.send_if_modified(|signal| {
                    let modified = *signal == Signal::Running;
                    if modified {
                        *signal = Signal::Over;
                    }
                    modified
                });
            }
            RunEvent::Started { .. }
            | RunEvent::Paused { .. }
            | RunEvent::Allowed { .. }
            | RunEvent::PollFailed { .. }
            | RunEvent::CalledBack { .. }
            | RunEvent::Uncalled { .. }
            | RunEvent::DoubtsAwaited(_)
            | RunEvent::Balance(_)
            | RunEvent::BuyingStopped(_)
            | RunEvent::Download(_)
            | RunEvent::Heartbeat
            | RunEvent::Finished => {}
        }
    }
}

/// Starts downloads of what is made and not saved at `order.place`, whose files `files` are.
///
/// # Errors
///
/// When a thread cannot be started.
pub fn start(files: Files, order: Order) -> Result<Started, DownloadError> {
    let (messages, inbox) = mpsc::channel(MESSAGES_WAITING);
    let (signal, signals) = watch::channel(Signal::Running);
    let made = Arc::new(Made::default());
    let poke = Poke { made: Arc::clone(&made), signal };
    let (end, ending) = oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = runtime.map_err(DownloadError::Thread).and_then(|runtime| {
            runtime.block_on(Loop { files, made, signals, last_tries: 0 }.run(order, messages))
        });
        // Whoever does not wait for it has left.
        let _ = end.send(ended);
    };
    let thread = thread::Builder::new().name("downloads".to_owned()).spawn(work);
    thread.map_err(DownloadError::Thread)?;
    Ok(Started { inbox, poke, ending: Ending(ending) })
}

/// What the loop listens to.
struct Loop {
    files: Files,
    made: Arc<Made>,
    signals: watch::Receiver<Signal>,
    /// Attempts to write the last notes.
    last_tries: u32,
}

impl Loop {
    async fn run(mut self, order: Order, messages: mpsc::Sender<FromDownloads>) -> Result<(), DownloadError> {
        let Order { place, hosts, patience, concurrency, asking, sidecars, look } = order;
        if sidecars {
            self.files.want_particulars();
        }
        let mark = self.files.mark()?;
        let clock = Clock::real(Stamp::BIRTH, NonZeroU32::MIN);
        let what = (place, hosts.client(patience)?, asking);
        let desk = Desk::new(what, mark, clock, messages, self.signals.clone());
        let ended = self.run_at(&desk, concurrency, look, sidecars).await;
        if let Err(error) = &ended {
            // Generation may go on for days: it is told now, not at its end.
            let why = with_causes(error);
            desk.tell(DownloadEvent::Ended { why }).await;
        }
        ended
    }

    async fn run_at(
        &mut self,
        desk: &Desk,
        concurrency: NonZeroUsize,
        look: Look,
        sidecars: bool,
    ) -> Result<(), DownloadError> {
        match desk.unless_stopped(desk.place.prepare(&desk.mark)).await {
            Ok(prepared) => prepared?,
            Err(Stopped) => return Ok(()),
        }
        let looked = survey(&desk.place, &mut self.files, look, sidecars);
        match desk.unless_stopped(looked).await {
            Ok(lost) => {
                let videos = lost?;
                if videos > 0 {
                    desk.tell(DownloadEvent::Lost { videos }).await;
                }
            }
            Err(Stopped) => return Ok(()),
        }
        if desk.unless_stopped(settle(&desk.place, &self.files)).await.is_err() {
            return Ok(());
        }
        let mut under_way = FuturesUnordered::new();
        let start = |turn: Turn| async move {
            let again = turn.again();
            sample::save(desk, turn.to_save, turn.round).await.then_some(again)
        };
        let ended = self.save_all(desk, concurrency, &mut under_way, start).await;
        if ended.is_err() {
            desk.give_up();
            // What a place would charge for is not left in it.
            while under_way.next().await.is_some() {}
        }
        desk.stand(|all| all.bytes_per_second = 0);
        desk.tell_standing();
        if desk.soon(settle(&desk.place, &self.files)).await.is_err() {
            tracing::debug!("the list of what is saved is put in order next time");
        }
        ended
    }

    async fn save_all<F: Future<Output = Option<Again>>>(
        &mut self,
        desk: &Desk,
        concurrency: NonZeroUsize,
        under_way: &mut FuturesUnordered<F>,
        start: impl Fn(Turn) -> F,
    ) -> Result<(), DownloadError> {
        let made_before = self.made.count.load(Ordering::Relaxed);
        let unsaved = self.files.unsaved()?;
        let mut backlog = Backlog::default();
        let mut rate = Rate::default();
        let mut paused = None;
        let mut write_at = Either::Left(pending::<()>());
        let mut tick = Box::pin(desk.clock.sleep(Duration::ZERO));
        loop {
            let stopping = *self.signals.borrow() == Signal::Stop || self.signals.has_changed().is_err();
            let no_more = *self.signals.borrow() == Signal::Over;
            while !stopping && desk.lacks_room().is_none() && under_way.len() < concurrency.get() {
                let Some(turn) = backlog.next(&mut self.files, desk.clock.now(), no_more)? else { break };
                under_way.push(start(turn));
            }
            let made = self.made.count.load(Ordering::Relaxed) - made_before;
            desk.stand(|all| all.waiting = (unsaved + made).saturating_sub(backlog.handed_out));
            let over = no_more && backlog.is_empty();
            if under_way.is_empty() && !desk.has_notes() && (stopping || over) {
                // What was told to wait may have gone on since the last tick.
                tell_pause(desk, &mut paused).await;
                return Ok(());
            }
            tokio::select! {
                Some(again) = under_way.next() => {
                    if let Some(again) = again {
                        backlog.rest(again, desk.clock.now());
                    }
                }
                () = desk.noted.notified() => {
                    if matches!(write_at, Either::Left(_)) {
                        write_at = Either::Right(Box::pin(desk.clock.sleep(GATHER)));
                    }
                }
                () = &mut write_at => write_at = match self.write(desk, stopping)? {
                    None => Either::Left(pending()),
                    Some(wait) => Either::Right(Box::pin(desk.clock.sleep(wait))),
                },
                () = self.made.more.notified() => backlog.dry = false,
                changed = self.signals.changed(), if !stopping => {
                    // The last sample may have come with it.
                    backlog.dry = false;
                    drop(changed);
                }
                () = &mut tick => {
                    tick = Box::pin(desk.clock.sleep(TICK));
                    desk.stand(|all| all.bytes_per_second = rate.after(all.bytes));
                    tell_pause(desk, &mut paused).await;
                    desk.tell_standing();
                }
            }
        }
    }

    /// Writes notes down; answers after how long to try again, if they are not taken.
    fn write(&mut self, desk: &Desk, stopping: bool) -> Result<Option<Duration>, DownloadError> {
        let notes = desk.notes();
        match self.files.note(&notes) {
            Ok(()) => {
                desk.written(notes.len());
                Ok(None)
            }
            Err(error) if error.is_busy() && stopping && self.last_tries < LAST_TRIES => {
                self.last_tries += 1;
                Ok(Some(GATHER))
            }
            Err(error) if !stopping && (error.is_for_want_of_room() || error.is_busy()) => {
                tracing::warn!(%error, "what is downloaded cannot be written down; trying again");
                Ok(Some(NOTE_AGAIN))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// An error with its causes.
fn with_causes(error: &DownloadError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Puts the list of what is saved in order. The videos are none the worse without it.
async fn settle(place: &Place, files: &Files) {
    if let Err(error) = place.settle_list(files).await {
        tracing::warn!(%error, "the list of what is saved is not in order");
    }
}

/// Tells that downloads wait, or no longer do, once each.
async fn tell_pause(desk: &Desk, told: &mut Option<String>) {
    let lacks_room = desk.lacks_room();
    if told.is_some() == lacks_room.is_some() {
        return;
    }
    desk.stand(|all| all.paused = lacks_room.is_some());
    told.clone_from(&lacks_room);
    desk.tell(match lacks_room {
        Some(why) => DownloadEvent::Paused { why },
        None => DownloadEvent::Resumed,
    })
    .await;
}

/// Bytes a second over the last few ticks.
#[derive(Debug, Default)]
struct Rate(VecDeque<u64>);

impl Rate {
    fn after(&mut self, bytes: u64) -> u64 {
        self.0.push_back(bytes);
        if self.0.len() > RATE_OVER + 1 {
            self.0.pop_front();
        }
        let came = bytes.saturating_sub(self.0.front().copied().unwrap_or(bytes));
        let ticks = u64::try_from(self.0.len() - 1).unwrap_or(1).max(1);
        came * 1_000 / (ticks * u64::try_from(TICK.as_millis()).unwrap_or(1))
    }
}
