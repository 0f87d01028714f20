//! The service: it lies, forgets, and keeps the true ledger.
//!
//! A request exists from the moment it is sent, whatever becomes of the process that sent it: it
//! arrives, and what comes of it comes of it. The service refuses nothing for a limit of its own;
//! it notes when each request arrived and how long each task lived, and the checks count.
//!
//! Everything that can be seen from outside the process is an *effect*, and a crash comes right
//! before one: the process then ends there, by a panic that unwinds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use batchveo::api::{
    Balance, CallbackUrl, Polled, Refusal, RefusalCause, Stage, Submitted, TaskFailure, VideoApi,
};
use batchveo::clock::Clock;
use batchveo::event::{EventSink, Progress, RunEvent};
use batchveo::generation::{Generation, PriceList};
use batchveo::job::{Failure, FailureKind, Stamp, TaskId, Usd, Video};
use batchveo::schedule::Transition;
use futures::FutureExt as _;
use rusqlite::{Connection, OpenFlags};

use super::BIRTH;
use super::checks::Checks;
use super::story::{Away, Ending, Fate, Look, Story, TaskFate};

/// What unwinds a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwound {
    /// The crash of the story.
    Crash,
    /// The run does not end.
    Endless,
}

/// A process that has lived longer than this will live for ever: no story holds waits that add up
/// to it.
const LONGEST_RUN: Duration = Duration::from_hours(12);

/// A submission, as the ledger has it.
#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) sample: usize,
    pub(crate) arrived: Stamp,
    pub(crate) answer: Submitted,
    /// Whether the answer reached the process.
    pub(crate) delivered: bool,
    pub(crate) task: Option<Task>,
}

impl Submission {
    /// Whether the program could know that it was not accepted.
    pub(crate) const fn surely_not_accepted(&self) -> bool {
        self.delivered && !matches!(self.answer, Submitted::Accepted(_) | Submitted::InDoubt(_))
    }
}

impl Submission {
    /// Whether its sample may be sent again: it was surely not accepted, or its task failed.
    fn may_be_followed(&self) -> bool {
        let failed = self.task.as_ref().is_some_and(|task| matches!(task.fate.ending, Ending::Fails(_)));
        let accepted = self.delivered && matches!(self.answer, Submitted::Accepted(_));
        (accepted && failed) || self.surely_not_accepted()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) fate: TaskFate,
    /// When it was made: with the request, or long after it.
    pub(crate) born: Stamp,
    pub(crate) price: Usd,
}

/// The truth, and what may be seen of it.
pub(crate) struct World {
    pub(crate) story: Story,
    /// The state file, seen from outside the process.
    pub(crate) state: Connection,
    pub(crate) results: PathBuf,
    /// Samples by their number in the state file, in manifest order.
    pub(crate) samples: Vec<i64>,
    pub(crate) checks: Checks,
    /// Effects so far, of all processes.
    pub(crate) effects: u32,
    /// Before which effects to crash, next first.
    crashes: Vec<u32>,
    /// Whether the crash came between a commit and its lines in the results.
    pub(crate) torn: bool,
    pub(crate) trace: Option<String>,
    /// True time since the birth of the state file when this process began, and its own clock then.
    began: (Stamp, Stamp),
    pub(crate) arrivals: Vec<Stamp>,
    pub(crate) submissions: Vec<Submission>,
    by_task: HashMap<String, (usize, u64)>,
    pub(crate) unclear_looks: HashMap<String, u32>,
    /// For each sample, the tasks that were durably known for its own.
    pub(crate) known: BTreeMap<usize, BTreeSet<String>>,
    /// Samples whose intent was durable and unanswered when a process ended.
    pub(crate) doubtful: BTreeSet<usize>,
    /// For each sample: submissions before this number were made before it was put back to be bought
    /// again, and how many of them were in doubt.
    pub(crate) put_back: BTreeMap<usize, (usize, usize)>,
    cents: u64,
    pub(crate) mended: bool,
    stalled_at: Option<Stamp>,
}

impl World {
    /// The world before the first process, with its state file and results in `folder`.
    pub(crate) fn new(story: Story, folder: &Path, crashes: &[u32], traced: bool) -> Self {
        let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let state = Connection::open_with_flags(folder.join("state.db"), access).expect("a state file");
        Self {
            cents: story.cents,
            story,
            state,
            results: folder.join("results.csv"),
            samples: Vec::new(),
            checks: Checks::default(),
            effects: 0,
            crashes: crashes.iter().rev().copied().collect(),
            torn: false,
            trace: traced.then(String::new),
            began: (Stamp::BIRTH, Stamp::BIRTH),
            arrivals: Vec::new(),
            submissions: Vec::new(),
            by_task: HashMap::new(),
            unclear_looks: HashMap::new(),
            known: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            put_back: BTreeMap::new(),
            mended: false,
            stalled_at: None,
        }
    }

    /// A process begins at the true time `now`, and its clock shows `stamp`.
    pub(crate) const fn begin(&mut self, now: Stamp, stamp: Stamp) {
        self.began = (now, stamp);
        self.torn = false;
    }

    /// The true time when the process's clock shows `stamp`.
    pub(crate) fn truth(&self, stamp: Stamp) -> Stamp {
        self.began.0 + stamp.since(self.began.1)
    }

    /// There is money, the key is good, and nothing is refused any more.
    pub(crate) const fn mend(&mut self) {
        self.mended = true;
        self.cents = u64::MAX / 2;
    }

    pub(crate) fn note(&mut self, at: Stamp, what: &str) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>9.3} s  {what}", at.since(Stamp::BIRTH).as_secs_f64());
        }
    }

    pub(crate) fn place_of(&self, sample: i64) -> usize {
        self.samples.iter().position(|id| *id == sample).unwrap_or(usize::MAX)
    }

    /// What was sent for a sample, with its number, since it was put back if it was.
    pub(crate) fn sent_for(&self, sample: usize) -> impl Iterator<Item = (usize, &Submission)> {
        let from = self.put_back.get(&sample).map_or(0, |(from, _)| *from);
        self.submissions.iter().enumerate().skip(from).filter(move |(_, sent)| sent.sample == sample)
    }

    /// What holds when a submission is about to be sent.
    fn may_be_sent(&mut self, sample: usize) {
        let id = self.samples.get(sample).copied().unwrap_or(-1);
        let state = self
            .state
            .prepare_cached("SELECT state FROM samples WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([id], |row| row.get::<_, String>(0)));
        self.checks.that(state.as_deref() == Ok("submitting"), || {
            format!("sample {id} is sent without a durable intent: {state:?}")
        });
        let bad: Vec<_> = self
            .sent_for(sample)
            .filter(|(_, earlier)| !earlier.may_be_followed())
            .map(|(_, earlier)| format!("{:?} at {:?}", earlier.answer, earlier.arrived))
            .collect();
        self.checks.that(bad.is_empty(), || format!("sample {id} is sent again after {bad:?}"));
    }

    fn is_refused(&self) -> Option<Failure> {
        let revoked = self.story.revoked_at.is_some_and(|n| self.arrivals.len() as u64 > n);
        (revoked && !self.mended).then(|| failure(FailureKind::Key, "the key is refused"))
    }

    fn is_away(&self, at: Stamp) -> Option<Away> {
        self.story.outage.filter(|(from, until, _)| *from <= at && at < *until).map(|(_, _, away)| away)
    }

    /// A request is sent at `now`, by the process's clock: when it arrives, in truth, and when its
    /// answer is back, by that clock.
    fn send(&mut self, now: Stamp) -> (Stamp, Stamp) {
        let (there, back) = self.story.way(self.arrivals.len() as u64);
        let arrives = self.truth(now) + there;
        self.arrivals.push(arrives);
        (arrives, now + there + back)
    }

    fn submit(&mut self, sample: usize, price: Usd, now: Stamp) -> (usize, Stamp) {
        let (arrived, mut answered) = self.send(now);
        let n = self.submissions.iter().filter(|earlier| earlier.sample == sample).count();
        let mut fate = self.story.fate(sample, n, self.mended);
        let taken = matches!(fate, Fate::Accepted(_) | Fate::Doubt(Some(_), _));
        let affordable = self.cents >= price.micros() / 10_000;
        let doubt = |text| Submitted::InDoubt(failure(FailureKind::Doubt, text));
        let not_now = |cause, retry_after| Submitted::NotAccepted(refusal(cause, retry_after));
        let mut early = None;
        if let Some(away) = self.is_away(arrived) {
            early = Some(match away {
                Away::Unavailable => not_now(RefusalCause::Unavailable, None),
                Away::NoConnection => not_now(RefusalCause::Connect, None),
                Away::Silent => {
                    fate = Fate::Doubt(None, Duration::from_secs(60));
                    doubt("no answer within 60 s")
                }
            });
        } else if let Some(refused) = self.is_refused() {
            early = Some(Submitted::KeyRefused(refused));
        } else if taken && !affordable {
            early = Some(Submitted::NoMoney(failure(FailureKind::Money, "insufficient credits")));
        }
        let id = TaskId::new(&format!("task-{}", self.submissions.len())).expect("a good id");
        let task =
            |fate: TaskFate| Some(Task { id: id.clone(), fate, born: arrived + fate.made_after, price });
        let (answer, task) = match (early, fate) {
            (Some(answer), _) => (answer, None),
            (None, Fate::Accepted(fate)) => (Submitted::Accepted(id.clone()), task(fate)),
            (None, Fate::Refused(cause, retry_after)) => (not_now(cause, retry_after), None),
            (None, Fate::Rejected) => (Submitted::Rejected(failure(FailureKind::Content, "not this")), None),
            (None, Fate::Doubt(fate, _)) => (doubt("the connection broke"), fate.and_then(task)),
        };
        if let (Submitted::InDoubt(_), Fate::Doubt(_, after)) = (&answer, fate) {
            answered = answered + after;
        }
        if task.is_some() {
            self.cents -= price.micros() / 10_000;
            self.by_task.insert(id.as_str().to_owned(), (self.submissions.len(), 0));
        }
        self.submissions.push(Submission { sample, arrived, answer, delivered: false, task });
        (self.submissions.len() - 1, answered)
    }

    fn look(&mut self, task: &TaskId, now: Stamp) -> (Polled, Stamp) {
        let (arrived, answered) = self.send(now);
        let found = self.by_task.get_mut(task.as_str()).map(|(index, looks)| {
            *looks += 1;
            (*index, *looks)
        });
        self.checks.that(found.is_some(), || format!("a look at {task}, which never was"));
        let Some((index, looks)) = found else {
            return (Polled::NotFound(failure(FailureKind::Transient, "no such task")), answered);
        };
        if self.is_away(arrived).is_some() {
            let away = refusal(RefusalCause::Unavailable, None);
            return (Polled::NotAnswered(away), answered);
        }
        if let Some(refused) = self.is_refused() {
            return (Polled::KeyRefused(refused), answered);
        }
        match self.story.look(index as u64, looks) {
            Look::Clear => {}
            Look::Unclear => {
                *self.unclear_looks.entry(task.as_str().to_owned()).or_default() += 1;
                return (Polled::Unclear(failure(FailureKind::Transient, "what is this")), answered);
            }
            Look::Throttled(cause, wait) => return (Polled::NotAnswered(refusal(cause, wait)), answered),
        }
        let Task { fate, born, .. } = self.submissions[index].task.as_ref().expect("found by its task");
        (seen(*fate, *born, arrived, index), answered)
    }
}

/// What a clear look sees at `now` of a task born at `born`.
fn seen(fate: TaskFate, born: Stamp, now: Stamp, number: usize) -> Polled {
    let age = now.since(born);
    if age < fate.known_after || fate.ending == Ending::Vanishes {
        return Polled::NotFound(failure(FailureKind::Transient, "no such task"));
    }
    if age < fate.lasts {
        return Polled::Alive(Stage::Processing);
    }
    let (created, completed) = (Some(BIRTH.at(born)), Some(BIRTH.at(born + fate.lasts)));
    match fate.ending {
        Ending::Videos(urls) => Polled::Succeeded(Video { urls: urls_of(number, urls), created, completed }),
        Ending::Fails(verdict) => {
            let kind = FailureKind::Transient;
            Polled::Failed(TaskFailure { failure: failure(kind, "it failed"), verdict, created, completed })
        }
        Ending::WithoutUrl => Polled::SucceededWithoutUrl,
        Ending::Never | Ending::Vanishes => Polled::Alive(Stage::Processing),
    }
}

/// The videos of a task.
pub(crate) fn urls_of(number: usize, urls: u32) -> Vec<String> {
    (0..urls).map(|n| format!("https://v.example/{number}/{n}.mp4")).collect()
}

fn failure(kind: FailureKind, text: &str) -> Failure {
    Failure::new(kind, None, text)
}

fn refusal(cause: RefusalCause, retry_after: Option<Duration>) -> Refusal {
    Refusal { cause, retry_after, failure: failure(FailureKind::Transient, "not now") }
}

/// The service and the sink of one process.
pub(crate) struct Process<'a> {
    pub(crate) world: &'a Mutex<World>,
    pub(crate) clock: Clock,
}

impl Process<'_> {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is about to be seen from outside, unless the process ends here.
    fn effect(&self, name: impl FnOnce() -> String) {
        let mut world = self.world();
        let now = world.truth(self.clock.now());
        let crashes = world.crashes.last() == Some(&world.effects);
        if world.trace.is_some() {
            let (number, name) = (world.effects, name());
            let what = if crashes { "CRASH before" } else { "      effect" };
            world.note(now, &format!("{what} {number:>4}  {name}"));
        }
        if crashes {
            world.crashes.pop();
            drop(world);
            resume_unwind(Box::new(Unwound::Crash));
        }
        world.effects += 1;
    }

    /// A commit that makes an intent durable takes its time.
    fn stall(&self) {
        let stall = {
            let mut world = self.world();
            let now = world.truth(self.clock.now());
            let rested = world.stalled_at.is_none_or(|at| now.since(at) > Duration::from_secs(30));
            let stall = world.story.slow_disk.filter(|_| rested);
            if stall.is_some() {
                world.stalled_at = Some(now);
            }
            stall
        };
        if let Some(stall) = stall {
            let until = self.clock.now() + stall;
            while self.clock.now() < until {
                let _ = self.clock.advance(Some(until)).now_or_never();
            }
        }
    }
}

impl VideoApi for Process<'_> {
    fn submit(
        &self,
        generation: Generation,
        _: Option<CallbackUrl>,
    ) -> impl Future<Output = Submitted> + Send {
        let draft = generation.draft();
        let price = PriceList::VENDOR.of(draft.mode);
        let mut world = self.world();
        let sample = world.story.sample_of(draft.seed.unwrap_or_default());
        // Right here, where the program lets go of it: a future may wait for its first poll.
        world.may_be_sent(sample);
        let id = world.samples[sample];
        drop(world);
        async move {
            self.effect(|| format!("sample {id} is sent"));
            let now = self.clock.now();
            let (number, answered) = self.world().submit(sample, price, now);
            self.clock.sleep_until(answered).await;
            let answer = self.world().submissions[number].answer.clone();
            self.effect(|| format!("sample {id} is answered: {answer:?}"));
            self.world().submissions[number].delivered = true;
            answer
        }
    }

    async fn status(&self, task: TaskId) -> Polled {
        self.effect(|| format!("a look at {task}"));
        let now = self.clock.now();
        let (answer, answered) = self.world().look(&task, now);
        self.clock.sleep_until(answered).await;
        let mut world = self.world();
        let now = world.truth(self.clock.now());
        world.note(now, &format!("              {task} was seen: {answer:?}"));
        answer
    }

    async fn balance(&self) -> Balance {
        self.effect(|| "a look at the balance".to_owned());
        let now = self.clock.now();
        let (answer, answered) = {
            let mut world = self.world();
            let (arrived, answered) = world.send(now);
            let away = world.is_away(arrived).map(|_| failure(FailureKind::Transient, "away"));
            let answer = match (away, world.is_refused()) {
                (Some(away), _) => Balance::Unclear(away),
                (None, Some(refused)) => Balance::KeyRefused(refused),
                (None, None) => Balance::Left(Some(Usd::from_cents(world.cents.min(100_000)))),
            };
            (answer, answered)
        };
        self.clock.sleep_until(answered).await;
        answer
    }
}

impl EventSink for &Process<'_> {
    fn notice(&mut self, event: &RunEvent<'_>, progress: &Progress) {
        {
            let mut world = self.world();
            let slots = world.story.limits().concurrent_tasks.get();
            world.checks.that(progress.slots_held <= slots, || {
                format!("{} slots are held, of {slots}", progress.slots_held)
            });
            if self.clock.now().since(world.began.1) > LONGEST_RUN {
                drop(world);
                resume_unwind(Box::new(Unwound::Endless));
            }
        }
        if let RunEvent::Changed(change) = event {
            let sample = change.sample;
            if matches!(change.transition, Transition::Ended { .. }) {
                // A crash here comes before the lines of this commit are whole in the results.
                self.world().torn = true;
                self.effect(|| format!("sample {sample} gets its line in the results"));
                self.world().torn = false;
            }
            self.effect(|| format!("sample {sample} is durable: {:?}", change.transition));
            if let Transition::Accepted { task, .. } = &change.transition {
                let mut world = self.world();
                let place = world.place_of(sample.0);
                world.known.entry(place).or_default().insert(task.as_str().to_owned());
            }
            if matches!(change.transition, Transition::Intended(_)) {
                self.stall();
            }
        } else if let RunEvent::Started { restored } = event {
            self.world().check_growing_results();
            self.effect(|| format!("the run begins, {restored} restored"));
        } else if matches!(event, RunEvent::Finished) {
            self.world().check_growing_results();
            self.effect(|| "the run is over".to_owned());
        }
    }
}
