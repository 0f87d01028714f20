//! The loop: events in, decisions by the core, commits, then deeds.
//!
//! Owns clock, sockets and disk on behalf of [`Schedule`], and decides nothing itself. One loop
//! multiplexes everything: answers, rows from the queue, commits, deadlines and the interruption.
//!
//! **The loop never blocks on a commit.** The end of a commit is an event like an answer; at most
//! one is outstanding, what it makes durable is performed when it ends, and what arrives meanwhile
//! is the next batch; it begins when nothing else is ready, so that a slot that was freed and the
//! sample that takes it are one commit. That is the whole of the group commit. Calls in flight are
//! polled by the same `select!`, so an answer is never taken for a time-out because the disk was slow.
//!
//! **A submission is sent only after its intent is durable**, and only while its permit is fresh:
//! one that waited too long for the disk is not sent, and its intent is taken back.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;
use tokio::task::coop::unconstrained;

use crate::api::{Balance, Polled, Submitted, VideoApi};
use crate::callback::Arrival;
use crate::clock::Clock;
use crate::event::{EventSink, Progress, RunEvent};
use crate::generation::{Generation, PriceList};
use crate::job::{Attempt, SampleId, Stamp, Tally, Usd};
use crate::results::ResultsFile;
use crate::schedule::cadence::Learned;
use crate::schedule::{Action, Entry, Event, Halt, IllegalEvent, Restored, Schedule, Step};
use crate::store::{Committed, StoreError, Writer, WriterError};

mod balance;
mod callbacks;
mod commits;
mod downloads;
mod news;
mod progress;
mod waits;

pub use balance::first_balance;
pub use callbacks::Callbacks;
use callbacks::Ear;
use commits::{Commits, Intent};
use downloads::Desk;
pub use downloads::{FromDownloads, MESSAGES_WAITING};
use news::News;
use progress::Books;
use waits::{admit, awaited, wait_until};

/// Turns of the loop in virtual time before the runtime may look at the world.
const TURNS_WITHOUT_REST: u32 = 256;

/// What a run needs of the world.
#[derive(Debug)]
pub struct World<'a, A, S> {
    /// Who makes the videos.
    pub api: &'a A,
    /// The time.
    pub clock: Clock,
    /// The state file.
    pub writer: Writer<ResultsFile>,
    /// Ready samples, in manifest order.
    pub queue: Receiver<Result<(Entry, Generation), StoreError>>,
    /// What downloads say and want, if there are any; the run goes on until they close it.
    pub downloads: Option<Receiver<FromDownloads>>,
    /// How the API calls back, if it is asked to.
    pub callbacks: Option<Callbacks>,
    /// Who is told.
    pub sink: &'a mut S,
}

/// What a run starts from.
#[derive(Debug)]
pub struct Start {
    /// The core, with nothing in flight.
    pub schedule: Schedule,
    /// Unfinished samples of earlier processes.
    pub restored: Vec<(Restored, Generation)>,
    /// How many samples stand where.
    pub tally: Tally,
    /// What has been bought so far, at list price.
    pub spent: Usd,
    /// How long to wait for submissions in flight after an interruption.
    pub grace: Duration,
    /// Why nothing is to be bought from the start, if so.
    pub halt: Option<Halt>,
    /// What videos cost: what a callback finds in doubt is charged by it.
    pub prices: PriceList,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ending {
    /// Why it stopped before its end, if it did.
    pub halt: Option<Halt>,
    /// How it stands.
    pub progress: Progress,
    /// What the next run is to know of how long tasks take, if anything was learned.
    pub learned: Option<Learned>,
    /// The state file's writer, with everything committed.
    pub writer: Writer<ResultsFile>,
}

/// A run that cannot go on. Everything committed so far is safe; the same command resumes.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The state file cannot be written.
    #[error(transparent)]
    Write(#[from] WriterError),
    /// The state file cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The core was told something impossible.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// What a sample asks for is not known: a defect of this crate.
    #[error("nobody knows what sample {0} asks for: this is a defect of batchveo")]
    NoRequest(SampleId),
}

/// Awaits `future` where nothing else goes on, so that virtual time may move.
async fn in_time<T>(clock: &Clock, future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            output = &mut future => return output,
            () = clock.advance(None) => {}
        }
    }
}

/// What came of a call.
#[derive(Debug)]
enum Answer {
    Submitted(SampleId, Attempt, Submitted),
    Polled(SampleId, Polled),
    Balance(Balance),
    Link(SampleId, Polled),
}

type Call<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

struct Engine<'a, A, S> {
    api: &'a A,
    clock: Clock,
    writer: Writer<ResultsFile>,
    sink: &'a mut S,
    schedule: Schedule,
    books: Books,
    desk: Desk,
    ear: Ear,
    /// Requests of the samples in flight, and of some that are no more.
    generations: HashMap<SampleId, Generation>,
    slots: Semaphore,
    calls: FuturesUnordered<Call<'a>>,
    commits: Commits,
    news: News,
}

/// What the core wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    Wake(Option<Stamp>),
    Finished,
}

/// What ended a wait.
enum Woken {
    Committed(Result<Committed, WriterError>),
    Answered(Answer),
    Queue(Option<Result<(Entry, Generation), StoreError>>),
    Downloads(Option<FromDownloads>),
    CalledBack(Arrival),
    Interrupted,
    /// Nothing else is ready, and something wants to be durable, or somebody to be told that it is.
    CommitDue,
    Time,
}

/// Runs until every sample has ended, or buying stopped and what was bought is made, or `shutdown`
/// is ready and the submissions in flight are answered (at most `grace`); then until downloads end.
///
/// # Errors
///
/// When the state file fails, or the core is told something impossible. What is in flight is then
/// in doubt, and the next run says so.
pub async fn run<A: VideoApi, S: EventSink>(
    world: World<'_, A, S>,
    start: Start,
    shutdown: impl Future<Output = ()>,
) -> Result<Ending, EngineError> {
    let World { api, clock, writer, mut queue, downloads, callbacks, sink } = world;
    let Start { schedule, restored, tally, spent, grace, halt, prices } = start;
    let now = clock.now();
    let mut engine = Engine {
        api,
        writer,
        sink,
        books: Books::open(now, tally, spent, &clock),
        desk: Desk::new(downloads),
        ear: Ear::new(callbacks, prices),
        generations: HashMap::new(),
        slots: Semaphore::new(0),
        calls: FuturesUnordered::new(),
        commits: Commits::default(),
        news: News::new(&schedule),
        schedule,
        clock,
    };
    engine.restore(restored, now)?;
    if let Some(halt) = halt {
        engine.schedule.handle(Event::StopBuying(halt), now)?;
    }
    engine.run(&mut queue, shutdown, grace).await?;
    // A reason to stop may have come with the very last decision.
    engine.tell_news();
    engine.ask_closing_balance().await;
    engine.tell(&RunEvent::Finished);
    let progress = engine.progress();
    let halt = engine.schedule.halt().cloned();
    Ok(Ending { halt, progress, learned: engine.schedule.learned(), writer: engine.writer })
}

impl<A: VideoApi, S: EventSink> Engine<'_, A, S> {
    fn restore(&mut self, restored: Vec<(Restored, Generation)>, now: Stamp) -> Result<(), EngineError> {
        let count = restored.len() as u64;
        for (sample, generation) in restored {
            self.books.restored(&sample);
            self.generations.insert(sample.entry.sample, generation);
            self.schedule.handle(Event::Restored(sample), now)?;
        }
        self.tell(&RunEvent::Started { restored: count });
        Ok(())
    }

    async fn run(
        &mut self,
        queue: &mut Receiver<Result<(Entry, Generation), StoreError>>,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<(), EngineError> {
        tokio::pin!(shutdown);
        let mut interrupted_until: Option<Stamp> = None;
        let mut queue_open = true;
        let mut turns: u32 = 0;
        loop {
            turns = turns.wrapping_add(1);
            // In virtual time nothing is ever waited for, and signals must be heard all the same.
            if self.clock.is_virtual() && turns.is_multiple_of(TURNS_WITHOUT_REST) {
                tokio::task::yield_now().await;
            }
            let decided = self.decide()?;
            let to_commit = self.commits.under_way.is_none() && self.commit_is_due(decided);
            let finished = decided == Decided::Finished && self.commits.under_way.is_none() && !to_commit;
            if finished && self.is_over(interrupted_until) {
                return Ok(());
            }
            let heartbeat = Some(self.books.next_heartbeat());
            let wake_at = match decided {
                // The last commit is awaited, and nothing else wakes the loop.
                Decided::Finished if !finished => None,
                Decided::Finished => heartbeat,
                Decided::Wake(at) => {
                    [at, heartbeat, interrupted_until, self.commit_by()].into_iter().flatten().min()
                }
            };
            let admitting = queue_open && self.schedule.halt().is_none();
            // Slow input and slow disks stop virtual time: it moves only where the queue has
            // nothing more to give or there is no slot to take it.
            let admitting = admitting && self.slots.available_permits() > 0;
            let time_may_move = self.commits.under_way.is_none() && !to_commit && !finished && !admitting;
            let clock = &self.clock;
            let woken = tokio::select! {
                biased;
                result = awaited(&mut self.commits.under_way), if self.commits.under_way.is_some() => Woken::Committed(result),
                Some(answer) = self.calls.next() => Woken::Answered(answer),
                row = unconstrained(admit(&self.slots, queue)), if admitting => Woken::Queue(row),
                told = self.desk.next() => Woken::Downloads(told),
                arrival = self.ear.next() => Woken::CalledBack(arrival),
                () = &mut shutdown, if interrupted_until.is_none() => Woken::Interrupted,
                // Last of what is ready, so that all of that is in it.
                () = ready(()), if to_commit => Woken::CommitDue,
                () = wait_until(clock, wake_at) => Woken::Time,
                () = clock.advance(wake_at), if time_may_move => Woken::Time,
            };
            let now = self.clock.now();
            match woken {
                Woken::Committed(result) => {
                    self.commits.under_way = None;
                    let Committed { changes, trouble, found } =
                        result.inspect_err(|_| self.tell_unwritten())?;
                    // First of all: what waited for this commit is then not sent.
                    if let Some(trouble) = trouble {
                        let halt = Halt::Disk(trouble.to_string());
                        self.schedule.handle(Event::StopBuying(halt), now)?;
                    }
                    self.committed(&changes);
                    self.looked_up(found, now)?;
                    self.send_what_waited()?;
                }
                Woken::Answered(answer) => self.answered(answer)?,
                Woken::Queue(Some(Ok((entry, generation)))) => {
                    self.generations.insert(entry.sample, generation);
                    self.schedule.handle(Event::Admitted(entry), now)?;
                }
                // What is paid for can still be written down.
                Woken::Queue(Some(Err(error))) => {
                    queue_open = false;
                    let halt = Halt::Disk(format!("the rows to come cannot be read: {error}"));
                    self.schedule.handle(Event::StopBuying(halt), now)?;
                }
                Woken::Queue(None) => {
                    queue_open = false;
                    self.schedule.handle(Event::QueueEnded, now)?;
                }
                Woken::Downloads(told) => self.downloads_say(told, now)?,
                Woken::CalledBack(arrival) => self.called_back(arrival, now),
                Woken::Interrupted => {
                    self.schedule.handle(Event::StopBuying(Halt::Interrupted), now)?;
                }
                Woken::CommitDue => self.start_commit(),
                Woken::Time => {}
            }
            if interrupted_until.is_none() && self.schedule.halt().is_some_and(Halt::leaves_tasks) {
                interrupted_until = Some(now + grace);
            }
            if interrupted_until.is_some_and(|until| now >= until) {
                self.schedule.handle(Event::Leave, now)?;
            }
            if self.books.heartbeat_due(now) {
                self.tell(&RunEvent::Heartbeat);
            }
            self.tell_news();
        }
    }

    /// Lets the core decide until it has nothing more to do now.
    fn decide(&mut self) -> Result<Decided, EngineError> {
        loop {
            let now = self.clock.now();
            let action = match self.schedule.poll(now) {
                Step::Act(action) => action,
                Step::WakeAt(at) => return Ok(self.decided(Decided::Wake(Some(at)))),
                Step::Wait => return Ok(self.decided(Decided::Wake(None))),
                Step::Finished => return Ok(self.decided(Decided::Finished)),
            };
            match action {
                Action::Submit { sample, attempt, permit } => {
                    self.commits.intents.push(Intent { sample, attempt, permit });
                }
                Action::Poll { sample } => {
                    self.books.request(now);
                    let look = self.api.status(self.schedule.watched_task(sample)?.clone());
                    self.calls.push(Box::pin(async move { Answer::Polled(sample, look.await) }));
                }
                Action::AskBalance => {
                    self.books.request(now);
                    let look = self.api.balance();
                    self.calls.push(Box::pin(async move { Answer::Balance(look.await) }));
                }
                Action::LookAtLink { sample, task } => {
                    self.books.request(now);
                    let look = self.api.status(task);
                    self.calls.push(Box::pin(async move { Answer::Link(sample, look.await) }));
                }
                Action::ForgetLink { sample } => self.desk.forget(sample),
                Action::FreeSlots(slots) => self.slots.add_permits(slots as usize),
                Action::ReclaimSlots(slots) => {
                    let taken = self.slots.forget_permits(slots as usize);
                    let taken = u32::try_from(taken).unwrap_or(u32::MAX);
                    self.schedule.handle(Event::SlotsReclaimed(taken), now)?;
                }
            }
        }
    }

    fn decided(&mut self, decided: Decided) -> Decided {
        self.schedule.take_changes(&mut self.commits.batch);
        decided
    }

    fn answered(&mut self, answer: Answer) -> Result<(), EngineError> {
        let now = self.clock.now();
        self.count_uncalled(&answer);
        let event = match answer {
            Answer::Submitted(sample, attempt, answer) => {
                self.compare_with_early(sample, attempt, &answer);
                self.ear.answered(sample);
                Event::Submitted { sample, attempt, answer }
            }
            Answer::Polled(sample, answer) => {
                if let Polled::Unclear(failure) = &answer {
                    self.tell(&RunEvent::PollFailed { sample, failure });
                }
                Event::Polled { sample, answer }
            }
            Answer::Balance(balance) => {
                if let Balance::Left(Some(left)) = balance {
                    self.tell(&RunEvent::Balance(left));
                }
                Event::Balance(balance)
            }
            Answer::Link(sample, answer) => {
                self.desk.answer(sample, &answer);
                Event::LinkSeen { sample, answer }
            }
        };
        Ok(self.schedule.handle(event, now)?)
    }
}
