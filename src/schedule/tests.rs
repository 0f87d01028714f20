//! The core against a model of the world that lies, forgets and crashes.
//!
//! A story drives the core as the engine does: changes are durable only after a commit, a
//! submission is sent only after its commit, and the process may die between any two effects. What
//! survives a crash is what the commits made of the model of the state file, and the model of the
//! server, which knows the truth about doubts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::cadence::Cadence;
use super::*;
use crate::api::{Polled, Refusal, RefusalCause, Stage, Submitted, TaskFailure, Verdict};
use crate::generation::{GenerationType, Kind, Mode};
use crate::job::{FailureKind, Limits, Outcome, Status, Video};

mod cadence;
mod callbacks;

const PRICE: Usd = Usd::from_cents(20);
/// What governs a run that looks by the vendor's schedule, whose looks are easily foretold.
fn vendor() -> Config {
    Config { cadence: Cadence::VENDOR, ..Config::default() }
}

const KIND: Kind = Kind { mode: Mode::Fast, generation_type: GenerationType::Text };

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, None, "as the story wants")
}

/// What the state file would hold of a sample.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Ready { not_before: Stamp },
    Submitting { since: Stamp },
    Running { task: TaskId, accepted: Stamp },
    Ended { status: Status, since: Stamp, task: Option<(TaskId, Stamp)> },
}

#[derive(Debug, Clone)]
struct Stored1 {
    row: Row,
    attempts: u32,
    paid_retries: u32,
    cost: Usd,
}

/// A task at the server.
#[derive(Debug, Clone)]
struct Task {
    sample: SampleId,
    born: Stamp,
    dies: Stamp,
    fails: bool,
}

/// Random choices, one byte each; a story ends well when they run out.
struct Choices<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl Choices<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.next).copied();
        self.next += 1;
        byte
    }
    fn one_in(&mut self, n: u8) -> bool {
        self.byte().is_some_and(|byte| byte.is_multiple_of(n))
    }
}

struct World<'a> {
    config: Config,
    choices: Choices<'a>,
    /// What downloads do: the same choices, counted by themselves, so that a story without them is told
    /// as it was before there were any.
    of_links: Choices<'a>,
    /// What callbacks do, counted by themselves for the same reason.
    of_calls: Choices<'a>,
    now: Stamp,
    /// The state file.
    rows: BTreeMap<SampleId, Stored1>,
    /// The server.
    tasks: HashMap<TaskId, Task>,
    arrivals: Vec<Stamp>,
    most_alive: usize,
    doubted: HashSet<SampleId>,
    /// Callbacks that bring the task of a doubt, with when.
    callbacks: Vec<(Stamp, Entry, TaskId)>,
    /// Callbacks on their way, whatever becomes of the process.
    calls: Vec<(Stamp, SampleId, Attempt, TaskId)>,
    /// What came of those that arrived.
    heard: HashMap<Heard, u32>,
    /// The process.
    core: Schedule,
    permits: u32,
    cursor: i64,
    queue_told: bool,
    uncommitted: Vec<Change>,
    intents: Vec<Action>,
    flying: Vec<(Stamp, Event)>,
    /// Samples whose link a download of this process has asked for and not got yet.
    links_wanted: HashSet<SampleId>,
    crashes: u32,
}

impl<'a> World<'a> {
    fn new(samples: i64, limits: Limits, bytes: &'a [u8]) -> Self {
        // Some runs are told that they will be called back, and are not.
        let called_back = bytes.first().is_some_and(|byte| byte % 3 > 0);
        let config = Config { limits, called_back, ..Config::default() };
        let now = Stamp::BIRTH;
        let half = bytes.len() / 2;
        let fresh =
            Stored1 { row: Row::Ready { not_before: now }, attempts: 0, paid_retries: 0, cost: Usd::ZERO };
        Self {
            config,
            choices: Choices { bytes, next: 0 },
            of_links: Choices { bytes, next: 0 },
            of_calls: Choices { bytes: if called_back { &bytes[half..] } else { &[] }, next: 0 },
            now,
            rows: (1..=samples).map(|id| (SampleId(id), fresh.clone())).collect(),
            tasks: HashMap::new(),
            arrivals: Vec::new(),
            most_alive: 0,
            doubted: HashSet::new(),
            callbacks: Vec::new(),
            calls: Vec::new(),
            heard: HashMap::new(),
            core: Schedule::new(config, Gate::new(limits.requests_per_minute, now), Before::default(), now),
            permits: 0,
            cursor: 0,
            queue_told: false,
            uncommitted: Vec::new(),
            intents: Vec::new(),
            flying: Vec::new(),
            links_wanted: HashSet::new(),
            crashes: 0,
        }
    }

    /// The process dies and another takes over from the state file. Requests on their way arrive.
    fn crash(&mut self) {
        self.crashes += 1;
        self.uncommitted.clear();
        self.intents.clear();
        self.flying.clear();
        self.links_wanted.clear();
        self.permits = 0;
        self.cursor = 0;
        self.queue_told = false;
        let spent = self.rows.values().fold(Usd::ZERO, |sum, row| sum + row.cost);
        let before = Before { failures: 0, spent };
        let gate = Gate::new(self.config.limits.requests_per_minute, self.now);
        self.core = Schedule::new(self.config, gate, before, self.now);
        for (id, stored) in self.rows.clone() {
            let state = match stored.row.clone() {
                Row::Submitting { since } => Stored::Submitting { since },
                Row::Running { task, accepted } => Stored::Running { task, accepted },
                Row::Ended { status: Status::Unknown, since, .. } => Stored::InDoubt { since },
                Row::Ended { status: Status::TimedOut, task: Some((task, accepted)), .. } => {
                    Stored::TimedOut { task, accepted }
                }
                Row::Ready { .. } | Row::Ended { .. } => continue,
            };
            let entry = entry(id, &stored, Stamp::BIRTH);
            self.core.handle(Event::Restored(Restored { entry, stored: state }), self.now).unwrap();
        }
    }

    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.uncommitted);
        for change in batch {
            let stored = self.rows.get_mut(&change.sample).unwrap();
            let row = std::mem::replace(&mut stored.row, Row::Ready { not_before: Stamp::BIRTH });
            stored.row = match (row, change.transition) {
                (Row::Ready { .. }, Transition::Intended(attempt)) => {
                    assert_eq!(attempt.0, stored.attempts + 1);
                    Row::Submitting { since: change.at }
                }
                (Row::Submitting { .. }, Transition::Retracted) => Row::Ready { not_before: Stamp::BIRTH },
                (Row::Submitting { .. }, Transition::Accepted { task, attempt, cost }) => {
                    // A callback may have come before its doubt.
                    self.doubted.remove(&change.sample);
                    stored.attempts = attempt.0;
                    stored.cost = stored.cost + cost;
                    Row::Running { task, accepted: change.at }
                }
                (
                    Row::Ended { status: Status::Unknown, .. },
                    Transition::Found { task, attempt, put_back: false },
                ) => {
                    assert_eq!(attempt.0, stored.attempts);
                    Row::Running { task, accepted: change.at }
                }
                (Row::Running { .. }, Transition::Deferred { not_before, paid_retries, .. }) => {
                    stored.paid_retries = paid_retries;
                    Row::Ready { not_before }
                }
                (Row::Submitting { since }, Transition::Ended { outcome, attempts, cost }) => {
                    assert!(matches!(outcome, Outcome::Unknown(_) | Outcome::Rejected(_)), "{outcome:?}");
                    stored.attempts = attempts;
                    stored.cost = stored.cost + cost;
                    Row::Ended { status: outcome.status(), since, task: None }
                }
                (Row::Running { task, accepted }, Transition::Ended { outcome, .. })
                | (
                    Row::Ended { status: Status::TimedOut, task: Some((task, accepted)), .. },
                    Transition::Ended { outcome, .. },
                ) => Row::Ended { status: outcome.status(), since: accepted, task: Some((task, accepted)) },
                (row, transition) => panic!("{row:?} cannot take {transition:?}"),
            };
        }
        for intent in std::mem::take(&mut self.intents) {
            let Action::Submit { sample, attempt, permit } = intent else { unreachable!() };
            assert!(
                matches!(self.rows[&sample].row, Row::Submitting { .. }),
                "sent without a durable intent"
            );
            if self.now.since(permit) > gate::STALE_PERMIT {
                self.core.handle(Event::NotSent { sample, attempt }, self.now).unwrap();
            } else {
                self.submit(sample, attempt);
            }
        }
    }

    fn submit(&mut self, sample: SampleId, attempt: Attempt) {
        assert!(!self.doubted.contains(&sample), "{sample} is in doubt and was sent again");
        let take = |world: &mut Self| {
            let byte = world.choices.byte().unwrap_or(1);
            let seconds = 20 + u64::from(byte) * u64::from(byte) / 40;
            let task = TaskId::new(&format!("t{}", world.tasks.len())).unwrap();
            let mut dies = world.now + Duration::from_secs(seconds);
            if world.of_calls.one_in(6) {
                // Before the answer to its submission.
                dies = world.now + Duration::from_millis(60);
            }
            world.will_call(sample, attempt, &task, dies);
            world
                .tasks
                .insert(task.clone(), Task { sample, born: world.now, dies, fails: byte.is_multiple_of(5) });
            task
        };
        let pick = self.choices.byte().unwrap_or(255);
        self.arrivals.push(self.now);
        let answer = match pick {
            0..=15 => {
                self.doubted.insert(sample);
                if pick.is_multiple_of(2) {
                    let task = take(self);
                    if pick.is_multiple_of(4) {
                        let entry = entry(sample, &self.rows[&sample], Stamp::BIRTH);
                        let ends = self.tasks[&task].dies + Duration::from_secs(u64::from(pick));
                        self.callbacks.push((ends, Entry { attempts: attempt.0, ..entry }, task));
                    }
                }
                Submitted::InDoubt(failure(FailureKind::Doubt))
            }
            16..=23 => Submitted::Rejected(failure(FailureKind::Input)),
            24..=39 => Submitted::NotAccepted(Refusal {
                cause: match pick % 4 {
                    0 => RefusalCause::Rate,
                    1 => RefusalCause::Concurrency,
                    2 => RefusalCause::Unavailable,
                    _ => RefusalCause::Connect,
                },
                retry_after: (pick.is_multiple_of(2)).then_some(Duration::from_secs(7)),
                failure: failure(FailureKind::Transient),
            }),
            _ => Submitted::Accepted(take(self)),
        };
        let alive = self.tasks.values().filter(|task| task.born <= self.now && self.now < task.dies).count();
        self.most_alive = self.most_alive.max(alive);
        self.flying
            .push((self.now + Duration::from_millis(120), Event::Submitted { sample, attempt, answer }));
    }

    /// The service calls back once, twice, late, or never.
    fn will_call(&mut self, sample: SampleId, attempt: Attempt, task: &TaskId, dies: Stamp) {
        let pick = self.of_calls.byte().unwrap_or(0);
        for _ in 0..[0, 1, 1, 1, 2, 3][usize::from(pick % 6)] {
            let late =
                self.of_calls.byte().map_or(0, |byte| if byte < 100 { 0 } else { u64::from(byte) * 900 });
            self.calls.push((dies + Duration::from_millis(late), sample, attempt, task.clone()));
        }
    }

    /// How a task of the service is that has ended.
    fn end_of(&self, task: &TaskId) -> Polled {
        let failed = TaskFailure {
            failure: failure(FailureKind::Transient),
            verdict: Verdict::MayRetry,
            created: None,
            completed: None,
        };
        let video = Video { urls: vec!["https://v.example/1.mp4".into()], created: None, completed: None };
        if self.tasks[task].fails { Polled::Failed(failed) } else { Polled::Succeeded(video) }
    }

    /// A callback arrives. What is elsewhere is looked up once all so far is durable, as the shell does.
    fn call(&mut self, sample: SampleId, attempt: Attempt, task: TaskId) {
        let answer = self.end_of(&task);
        let mut heard = self.core.hear(sample, attempt, Some(task.clone()), answer.clone(), self.now);
        self.uncommitted.extend(self.core.take_changes());
        let stored = &self.rows[&sample];
        if heard == Heard::Elsewhere && stored.attempts == attempt.0 {
            let durable = self.uncommitted.iter().all(|change| change.sample != sample);
            if durable && matches!(stored.row, Row::Ended { status: Status::Unknown, .. }) {
                let entry = entry(sample, stored, Stamp::BIRTH);
                let found = Event::TaskFound { entry, task: task.clone(), put_back: false };
                self.core.handle(found, self.now).unwrap();
                assert_eq!(self.core.hear(sample, attempt, Some(task), answer, self.now), Heard::Ended);
                heard = Heard::Settled;
            }
        }
        if heard == Heard::Settled {
            self.doubted.remove(&sample);
        }
        *self.heard.entry(heard).or_default() += 1;
    }

    /// Something comes to the address of a task that is being made, and it is not what the service says
    /// of an end.
    fn odd_call(&mut self) {
        let Some(pick) = self.of_calls.byte().filter(|byte| byte.is_multiple_of(23)) else { return };
        let mut running = self.rows.iter().filter_map(|(sample, stored)| match &stored.row {
            Row::Running { task, .. } => Some((*sample, stored.attempts, task.clone())),
            Row::Ready { .. } | Row::Submitting { .. } | Row::Ended { .. } => None,
        });
        let Some((sample, attempts, task)) = running.next_back() else { return };
        let stranger = TaskId::new("another").unwrap();
        let video = Video { urls: vec!["https://v.example/2.mp4".into()], created: None, completed: None };
        let (attempt, task, answer) = match pick % 5 {
            0 => (attempts, Some(task), Polled::Alive(Stage::Processing)),
            1 => (attempts, Some(task), Polled::SucceededWithoutUrl),
            2 => (attempts, Some(stranger), Polled::Succeeded(video)),
            3 => (attempts, None, Polled::Unclear(failure(FailureKind::Transient))),
            _ => (attempts - 1, Some(stranger), Polled::Succeeded(video)),
        };
        let before: Vec<_> = self.core.take_changes().collect();
        let heard = self.core.hear(sample, Attempt(attempt), task, answer, self.now);
        assert!(!matches!(heard, Heard::Ended | Heard::Settled | Heard::Kept), "{heard:?}");
        assert_eq!(self.core.take_changes().len(), 0, "a sample changes on the word of an odd callback");
        self.uncommitted.extend(before);
        *self.heard.entry(heard).or_default() += 1;
    }

    fn look(&mut self, sample: SampleId, task: &TaskId) {
        self.arrivals.push(self.now);
        let known = &self.tasks[task];
        assert_eq!(known.sample, sample);
        let (over, fails) = (self.now >= known.dies, known.fails);
        let pick = self.choices.byte().unwrap_or(255);
        let answer = match pick {
            0..=9 => Polled::Unclear(failure(FailureKind::Transient)),
            10..=14 => Polled::NotAnswered(Refusal {
                cause: if pick.is_multiple_of(2) { RefusalCause::Rate } else { RefusalCause::Unavailable },
                retry_after: None,
                failure: failure(FailureKind::Transient),
            }),
            15..=19 => Polled::NotFound(failure(FailureKind::Transient)),
            _ if !over => Polled::Alive(Stage::Processing),
            _ if fails => Polled::Failed(TaskFailure {
                failure: failure(FailureKind::Transient),
                verdict: if pick.is_multiple_of(2) { Verdict::MayRetry } else { Verdict::Final },
                created: None,
                completed: None,
            }),
            _ => Polled::Succeeded(Video {
                urls: vec!["https://v.example/1.mp4".into()],
                created: None,
                completed: None,
            }),
        };
        self.flying.push((self.now + Duration::from_millis(80), Event::Polled { sample, answer }));
    }

    /// Lets rows in while there are permits.
    fn admit(&mut self) {
        while self.permits > 0 && !self.queue_told {
            let next =
                self.rows.range(SampleId(self.cursor + 1)..).next().map(|(id, stored)| (*id, stored.clone()));
            let Some((id, stored)) = next else {
                self.queue_told = true;
                self.core.handle(Event::QueueEnded, self.now).unwrap();
                return;
            };
            self.cursor = id.0;
            if let Row::Ready { not_before } = stored.row {
                self.permits -= 1;
                self.core.handle(Event::Admitted(entry(id, &stored, not_before)), self.now).unwrap();
            }
        }
    }

    /// Until every sample has ended. Each step may be the process's last.
    fn run(&mut self) {
        for _ in 0..200_000 {
            if self.choices.one_in(97) {
                self.crash();
            }
            self.call_back();
            self.odd_call();
            self.want_a_link();
            self.admit();
            match self.core.poll(self.now) {
                Step::Act(Action::Submit { sample, attempt, permit }) => {
                    self.intents.push(Action::Submit { sample, attempt, permit });
                }
                Step::Act(Action::Poll { sample }) => {
                    let task = self.core.task(sample).unwrap().clone();
                    self.look(sample, &task);
                }
                Step::Act(Action::LookAtLink { sample, task }) => self.look_at_link(sample, &task),
                Step::Act(Action::ForgetLink { sample }) => {
                    assert!(self.links_wanted.remove(&sample), "{sample}: nobody wants this link");
                }
                Step::Act(Action::AskBalance) => {
                    self.arrivals.push(self.now);
                    let answer = Event::Balance(crate::api::Balance::Left(None));
                    self.flying.push((self.now + Duration::from_millis(50), answer));
                }
                Step::Act(Action::FreeSlots(slots)) => self.permits += slots,
                Step::Act(Action::ReclaimSlots(slots)) => {
                    let taken = slots.min(self.permits);
                    self.permits -= taken;
                    self.core.handle(Event::SlotsReclaimed(taken), self.now).unwrap();
                }
                step @ (Step::WakeAt(_) | Step::Wait | Step::Finished) => {
                    self.uncommitted.extend(self.core.take_changes());
                    if !self.uncommitted.is_empty() {
                        if self.choices.one_in(61) {
                            self.crash();
                        } else {
                            self.commit();
                        }
                        continue;
                    }
                    if step == Step::Finished {
                        assert!(self.links_wanted.is_empty(), "a download waits for ever");
                        // A service that was away for too long: the same command goes on.
                        if self.core.halt().is_none() {
                            return;
                        }
                        self.crash();
                        continue;
                    }
                    self.pass_time(&step);
                }
            }
            self.uncommitted.extend(self.core.take_changes());
        }
        panic!("the story does not end: {:?}", self.core);
    }

    /// A download finds the link to a video that is made and paid for dead.
    fn want_a_link(&mut self) {
        if !self.of_links.one_in(23) {
            return;
        }
        let made = self.rows.iter().find_map(|(sample, stored)| match &stored.row {
            Row::Ended { status: Status::Succeeded, task: Some((task, _)), .. }
                if !self.links_wanted.contains(sample) =>
            {
                Some((*sample, task.clone()))
            }
            Row::Ready { .. } | Row::Submitting { .. } | Row::Running { .. } | Row::Ended { .. } => None,
        });
        if let Some((sample, task)) = made {
            self.links_wanted.insert(sample);
            self.core.handle(Event::LinkWanted { sample, task }, self.now).unwrap();
        }
    }

    fn look_at_link(&mut self, sample: SampleId, task: &TaskId) {
        std::mem::swap(&mut self.choices, &mut self.of_links);
        self.look(sample, task);
        std::mem::swap(&mut self.choices, &mut self.of_links);
        if let Some((_, event)) = self.flying.last_mut()
            && let Event::Polled { sample, answer } = event
        {
            *event = Event::LinkSeen { sample: *sample, answer: answer.clone() };
        }
    }

    /// Callbacks that have come, as far as the state file knows of their doubt.
    fn call_back(&mut self) {
        for (_, sample, attempt, task) in
            self.calls.extract_if(.., |(at, ..)| *at <= self.now).collect::<Vec<_>>()
        {
            self.call(sample, attempt, task);
        }
        self.uncommitted.extend(self.core.take_changes());
        let due: Vec<_> = self.callbacks.extract_if(.., |(at, ..)| *at <= self.now).collect();
        for (_, entry, task) in due {
            let known = matches!(self.rows[&entry.sample].row, Row::Ended { status: Status::Unknown, .. });
            if known && self.uncommitted.iter().all(|change| change.sample != entry.sample) {
                self.doubted.remove(&entry.sample);
                self.core.handle(Event::TaskFound { entry, task, put_back: false }, self.now).unwrap();
            }
        }
    }

    fn pass_time(&mut self, step: &Step) {
        let answer_at = self.flying.iter().map(|(at, _)| *at).min();
        let wake_at = if let Step::WakeAt(at) = step { Some(*at) } else { None };
        let called_at = self.calls.iter().map(|(at, ..)| *at).min();
        let next =
            [answer_at, wake_at, called_at].into_iter().flatten().min().expect("something to wait for");
        self.now = self.now.max(next);
        self.flying.sort_by_key(|(at, _)| *at);
        while self.flying.first().is_some_and(|(at, _)| *at <= self.now) {
            let (_, event) = self.flying.remove(0);
            if let Event::LinkSeen { sample, .. } = &event {
                assert!(self.links_wanted.remove(sample));
            }
            self.core.handle(event, self.now).unwrap();
        }
    }
}

/// One that has been submitted once.
fn entry_once_submitted(sample: SampleId, not_before: Stamp) -> Entry {
    Entry { sample, kind: KIND, attempts: 1, paid_retries: 0, price: PRICE, not_before }
}

fn entry(id: SampleId, stored: &Stored1, not_before: Stamp) -> Entry {
    Entry {
        sample: id,
        kind: KIND,
        attempts: stored.attempts,
        paid_retries: stored.paid_retries,
        price: PRICE,
        not_before,
    }
}

fn limits(per_minute: u32, concurrent: u32) -> Limits {
    Limits {
        requests_per_minute: NonZeroU32::new(per_minute).unwrap(),
        concurrent_tasks: NonZeroU32::new(concurrent).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/seeds/schedule.txt"))),
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_promises_hold_in_any_story(
        samples in 1_i64..40,
        per_minute in prop_oneof![2_u32..40, 100_u32..3_000],
        concurrent in 1_u32..12,
        bytes in proptest::collection::vec(any::<u8>(), 0..1_500),
    ) {
        let mut world = World::new(samples, limits(per_minute, concurrent), &bytes);
        world.run();
        // Every sample has ended, and each exactly once.
        for (id, stored) in &world.rows {
            prop_assert!(matches!(stored.row, Row::Ended { .. }), "{id}: {:?}", stored.row);
            // What was bought is what the ledger says, to the cent.
            prop_assert_eq!(stored.cost, PRICE.times(u64::from(stored.attempts)));
            prop_assert!(stored.paid_retries <= world.config.retry.paid_retries);
        }
        // Nothing is bought twice: each task beyond a sample's first follows one that failed.
        for id in world.rows.keys() {
            let bought = world.tasks.values().filter(|task| task.sample == *id && !task.fails).count();
            prop_assert!(bought <= 1, "{id} was bought {bought} times");
        }
        // The limits hold at the server.
        prop_assert!(world.most_alive <= concurrent as usize, "{} alive", world.most_alive);
        let mut first = 0;
        for (last, at) in world.arrivals.iter().enumerate() {
            while at.since(world.arrivals[first]) > gate::WINDOW {
                first += 1;
            }
            prop_assert!(last - first < per_minute as usize, "too many in a window");
        }
    }
}

/// What the property above is worth: its stories hold callbacks of every kind.
#[test]
fn stories_hear_of_everything() {
    let mut heard: HashMap<Heard, u32> = HashMap::new();
    for seed in 1_u32..60 {
        let mut state = seed;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        let bytes: Vec<u8> = bytes.take(1_200).collect();
        let mut world = World::new(30, limits(600, 8), &bytes);
        world.run();
        for (kind, count) in world.heard {
            *heard.entry(kind).or_default() += count;
        }
    }
    for kind in [Heard::Ended, Heard::Settled, Heard::Kept, Heard::Odd, Heard::Nothing, Heard::Elsewhere] {
        let count = heard.get(&kind).copied().unwrap_or_default();
        assert!(count >= 10, "{kind:?}: {count} of {heard:?}");
    }
}

/// A core and the steps to drive it by hand.
fn core(config: Config) -> Schedule {
    let gate = Gate::new(config.limits.requests_per_minute, Stamp::BIRTH);
    Schedule::new(config, gate, Before::default(), Stamp::BIRTH)
}

/// Everything the core wants to do up to `until`, with when.
fn actions(core: &mut Schedule, from: Stamp, until: Stamp) -> Vec<(u64, Action)> {
    let mut now = from;
    let mut seen = Vec::new();
    loop {
        match core.poll(now) {
            Step::Act(action) => seen.push((now.as_millis(), action)),
            Step::WakeAt(at) if at <= until => now = at,
            Step::WakeAt(_) | Step::Wait | Step::Finished => return seen,
        }
    }
}

fn admit_many(core: &mut Schedule, count: i64) {
    assert!(matches!(core.poll(Stamp::BIRTH), Step::Act(Action::FreeSlots(_))));
    for id in 1..=count {
        let stored = Stored1 {
            row: Row::Ready { not_before: Stamp::BIRTH },
            attempts: 0,
            paid_retries: 0,
            cost: PRICE,
        };
        core.handle(Event::Admitted(entry(SampleId(id), &stored, Stamp::BIRTH)), Stamp::BIRTH).unwrap();
    }
}

fn submits(actions: &[(u64, Action)]) -> Vec<SampleId> {
    let sample =
        |action: &Action| if let Action::Submit { sample, .. } = action { Some(*sample) } else { None };
    actions.iter().filter_map(|(_, action)| sample(action)).collect()
}

fn accept(core: &mut Schedule, id: i64, now: Stamp) {
    let answer = Submitted::Accepted(TaskId::new(&format!("t{id}")).unwrap());
    core.handle(Event::Submitted { sample: SampleId(id), attempt: Attempt(1), answer }, now).unwrap();
}

#[test]
fn a_run_starts_slowly_and_doubles_with_each_round_trip() {
    let mut core = core(Config::default());
    admit_many(&mut core, 100);
    let second = Stamp::from_millis(1_000);
    assert_eq!(submits(&actions(&mut core, Stamp::BIRTH, second)).len(), 4);
    for id in 1..=4 {
        accept(&mut core, id, second);
    }
    assert_eq!(submits(&actions(&mut core, second, Stamp::from_millis(2_000))).len(), 8);
}

#[test]
fn a_task_is_looked_at_by_the_vendors_schedule() {
    let mut core = core(vendor());
    admit_many(&mut core, 1);
    actions(&mut core, Stamp::BIRTH, Stamp::from_millis(10));
    accept(&mut core, 1, Stamp::from_millis(100));
    let looks = actions(&mut core, Stamp::from_millis(100), Stamp::from_millis(200_000));
    assert_eq!(looks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [90_100], "{looks:?}");
    core.handle(
        Event::Polled { sample: SampleId(1), answer: Polled::Alive(Stage::Processing) },
        Stamp::from_millis(90_200),
    )
    .unwrap();
    let looks = actions(&mut core, Stamp::from_millis(90_200), Stamp::from_millis(200_000));
    assert_eq!(looks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [95_100]);
}

#[test]
fn an_event_that_cannot_happen_is_an_error() {
    let mut core = core(vendor());
    admit_many(&mut core, 1);
    let answer = Submitted::Accepted(TaskId::new("t1").unwrap());
    let event = Event::Submitted { sample: SampleId(1), attempt: Attempt(1), answer: answer.clone() };
    let error = core.handle(event, Stamp::BIRTH).unwrap_err();
    assert_eq!((error.sample, error.state), (SampleId(1), "ready"));
    let gone = Event::Submitted { sample: SampleId(9), attempt: Attempt(1), answer };
    assert_eq!(core.handle(gone, Stamp::BIRTH).unwrap_err().state, "gone");
}

#[test]
fn no_money_stops_buying_and_keeps_watching() {
    let mut core = core(vendor());
    admit_many(&mut core, 8);
    actions(&mut core, Stamp::BIRTH, Stamp::from_millis(500));
    let now = Stamp::from_millis(500);
    for id in [1, 2, 3] {
        accept(&mut core, id, now);
    }
    let answer = Submitted::NoMoney(failure(FailureKind::Money));
    core.handle(Event::Submitted { sample: SampleId(4), attempt: Attempt(1), answer }, now).unwrap();
    assert!(submits(&actions(&mut core, now, Stamp::from_millis(80_000))).is_empty());
    let looks = actions(&mut core, Stamp::from_millis(80_000), Stamp::from_millis(95_000));
    assert_eq!(looks.len(), 3);
    for id in [1, 2, 3] {
        let video = Video { urls: vec!["u".into()], created: None, completed: None };
        let event = Event::Polled { sample: SampleId(id), answer: Polled::Succeeded(video) };
        core.handle(event, Stamp::from_millis(95_000)).unwrap();
    }
    assert_eq!(core.poll(Stamp::from_millis(95_000)), Step::Finished);
    assert!(matches!(core.halt(), Some(Halt::NoMoney(_))));
}

#[test]
fn a_key_refused_to_every_look_ends_the_watching_but_not_before_the_last_submission_is_answered() {
    let mut core = core(vendor());
    admit_many(&mut core, 4);
    let now = Stamp::from_millis(500);
    assert_eq!(submits(&actions(&mut core, Stamp::BIRTH, now)).len(), 4);
    for id in [1, 2, 3] {
        accept(&mut core, id, now);
    }
    let later = Stamp::from_millis(95_000);
    assert_eq!(actions(&mut core, now, later).len(), 3);
    for id in [1, 2, 3] {
        let answer = Polled::KeyRefused(failure(FailureKind::Key));
        core.handle(Event::Polled { sample: SampleId(id), answer }, later).unwrap();
    }
    assert_ne!(core.poll(later), Step::Finished, "the fourth may have been bought");
    accept(&mut core, 4, later);
    assert_eq!(core.poll(later), Step::Finished);
    assert!(matches!(core.halt(), Some(Halt::KeyRefused(_))));
}

#[test]
fn ten_answers_of_a_service_in_trouble_pause_buying_until_the_balance_answers() {
    let mut core = core(vendor());
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    let mut sent = 0;
    for _ in 0..40 {
        now = now + Duration::from_secs(1);
        for id in submits(&actions(&mut core, now, now + Duration::from_millis(900))) {
            sent += 1;
            let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
            core.handle(Event::Submitted { sample: id, attempt: Attempt(1), answer }, now).unwrap();
        }
    }
    // Those unanswered when the tenth answer came had been sent already.
    assert!((10..10 + SLOW_START).contains(&sent), "{sent}");
    let answers = Event::Balance(crate::api::Balance::Left(None));
    core.handle(answers.clone(), now).unwrap();
    // A balance that answers is no proof: one submission goes, and no more until it is answered.
    let trial = submits(&actions(&mut core, now, now + Duration::from_secs(1)));
    assert_eq!(trial.len(), 1);
    let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
    core.handle(Event::Submitted { sample: trial[0], attempt: Attempt(1), answer }, now).unwrap();
    let later = actions(&mut core, now, now + Duration::from_secs(20));
    assert_eq!(
        (submits(&later).len(), later.last().map(|(_, action)| action)),
        (0, Some(&Action::AskBalance))
    );
    now = now + Duration::from_secs(20);
    core.handle(answers, now).unwrap();
    let trial = submits(&actions(&mut core, now, now + Duration::from_secs(1)));
    assert_eq!(trial.len(), 1);
    // An acceptance is: the run goes on, slowly at first.
    accept(&mut core, trial[0].0, now);
    let sent = submits(&actions(&mut core, now, now + Duration::from_secs(1))).len();
    assert_eq!(sent, SLOW_START as usize + 1);
}

/// Refuses a submission for `cause`, without saying when to come again.
fn refuse(core: &mut Schedule, sample: SampleId, cause: RefusalCause, now: Stamp) {
    let refusal = Refusal { cause, retry_after: None, failure: failure(FailureKind::Transient) };
    let answer = Submitted::NotAccepted(refusal);
    core.handle(Event::Submitted { sample, attempt: Attempt(1), answer }, now).unwrap();
}

/// A core that watches `tasks` tasks, all accepted by the stamp given back.
fn watching(config: Config, tasks: i64, more: i64) -> (Schedule, Stamp) {
    let mut core = core(config);
    admit_many(&mut core, tasks + more);
    let mut now = Stamp::BIRTH;
    let mut accepted = 0;
    while accepted < tasks {
        now = now + Duration::from_millis(10);
        for id in submits(&actions(&mut core, now, now)) {
            if accepted < tasks {
                accept(&mut core, id.0, now);
                accepted += 1;
            } else {
                // Sent before anybody knew that there is no room.
                core.handle(Event::NotSent { sample: id, attempt: Attempt(1) }, now).unwrap();
            }
        }
    }
    (core, now)
}

#[test]
fn too_many_tasks_lower_the_slots_and_leave_the_looks_alone() {
    let (mut core, mut now) = watching(vendor(), 40, 20);
    let first = submits(&actions(&mut core, now, now + Duration::from_millis(100)));
    assert!(!first.is_empty());
    now = now + Duration::from_millis(200);
    for id in &first {
        refuse(&mut core, *id, RefusalCause::Concurrency, now);
    }
    // One refusal may be a hiccup, three in a row are not.
    for _ in 0..2 {
        assert_eq!(core.allowed(), (10_000, 1_000));
        now = now + Duration::from_secs(5);
        let trials = submits(&actions(&mut core, now, now));
        assert_eq!(trials.len(), 1, "one at a time finds out");
        refuse(&mut core, trials[0], RefusalCause::Concurrency, now);
    }
    // The floor of a thousand slots is ten, and forty tasks are alive.
    assert_eq!(core.allowed(), (10_000, 40));
    assert_eq!(core.pause().map(|(until, _)| until.since(now) <= Duration::from_secs(4)), Some(true));
    assert_eq!(actions(&mut core, now, now + Duration::from_secs(29)), []);
    // Half a minute later it is tried with some more, and looks go on as ever.
    let seen = actions(&mut core, now + Duration::from_secs(29), Stamp::from_millis(91_000));
    assert_eq!(submits(&seen).len(), 1);
    assert_eq!(core.allowed(), (10_000, 60));
    assert_eq!(seen.iter().filter(|(_, action)| matches!(action, Action::Poll { .. })).count(), 40);
    now = Stamp::from_millis(91_000);
    refuse(&mut core, submits(&seen)[0], RefusalCause::Concurrency, now);
    assert_eq!(core.allowed(), (10_000, 40));
    let video = Video { urls: vec!["u".into()], created: None, completed: None };
    core.handle(Event::Polled { sample: SampleId(1), answer: Polled::Succeeded(video) }, now).unwrap();
    assert_eq!(submits(&actions(&mut core, now, now + Duration::from_secs(9))).len(), 1);
}

#[test]
fn what_there_were_too_many_of_is_told_by_the_looks() {
    for looks_pass in [true, false] {
        let (mut core, now) = watching(vendor(), 40, 20);
        let refused = submits(&actions(&mut core, now, now + Duration::from_millis(100)));
        let now = now + Duration::from_millis(200);
        for id in &refused {
            refuse(&mut core, *id, RefusalCause::Rate, now);
        }
        assert_eq!(core.allowed(), (10_000, 1_000), "nothing is known yet");
        for at in [20_000, 40_000].map(Stamp::from_millis) {
            let trials = submits(&actions(&mut core, at, at));
            assert_eq!(trials.len(), 1, "one at a time finds out");
            refuse(&mut core, trials[0], RefusalCause::Rate, at);
        }
        let later = Stamp::from_millis(92_000);
        actions(&mut core, Stamp::from_millis(89_000), later);
        for id in 1..=3 {
            let answer = if looks_pass {
                Polled::Alive(Stage::Processing)
            } else {
                let cause = RefusalCause::Rate;
                let failure = failure(FailureKind::Transient);
                Polled::NotAnswered(Refusal { cause, retry_after: Some(Duration::from_secs(9)), failure })
            };
            core.handle(Event::Polled { sample: SampleId(id), answer }, later).unwrap();
        }
        let (requests, tasks) = core.allowed();
        if looks_pass {
            assert_eq!((requests, tasks), (10_000, 40));
        } else {
            assert_eq!((requests, tasks), (1_000, 1_000), "the floor: next to nothing had been sent");
            let paused = core.pause().map(|(until, _)| until);
            assert_eq!(paused, Some(later + Duration::from_secs(9)));
            assert_eq!(actions(&mut core, later, later + Duration::from_secs(8)), []);
        }
    }
}

#[test]
fn refusals_that_do_not_end_stop_the_run_with_its_rows_pending() {
    let mut core = core(Config { outage_timeout: Duration::from_mins(5), ..vendor() });
    admit_many(&mut core, 50);
    let (mut now, mut sent) = (Stamp::BIRTH, 0);
    while core.halt().is_none() {
        now = now + Duration::from_millis(500);
        assert!(now < Stamp::from_millis(400_000));
        for id in submits(&actions(&mut core, now, now)) {
            sent += 1;
            refuse(&mut core, id, RefusalCause::Rate, now);
        }
    }
    assert!(matches!(core.halt(), Some(Halt::Outage(_))));
    assert!((10..40).contains(&sent), "{sent}");
}

#[test]
fn looks_that_tell_nothing_for_an_hour_end_the_watching() {
    for unclear in [true, false] {
        let task_timeout = Duration::from_hours(3);
        let config = Config { collect_only: true, task_timeout, ..vendor() };
        let mut core = core(config);
        let stored =
            |n: i64| Stored::Running { task: TaskId::new(&format!("t{n}")).unwrap(), accepted: Stamp::BIRTH };
        for n in 1..=20 {
            let entry = Entry {
                sample: SampleId(n),
                kind: KIND,
                attempts: 1,
                paid_retries: 0,
                price: PRICE,
                not_before: Stamp::BIRTH,
            };
            core.handle(Event::Restored(Restored { entry, stored: stored(n) }), Stamp::BIRTH).unwrap();
        }
        let (mut now, mut looks) = (Stamp::BIRTH, 0);
        while core.poll(now) != Step::Finished {
            now = now + Duration::from_millis(200);
            assert!(now.as_millis() < 2 * 3_600_000, "it never ends");
            for (_, action) in actions(&mut core, now, now) {
                let Action::Poll { sample, .. } = action else { continue };
                looks += 1;
                let failure = failure(FailureKind::Transient);
                let answer = if unclear {
                    Polled::Unclear(failure)
                } else {
                    Polled::NotAnswered(Refusal { cause: RefusalCause::Connect, retry_after: None, failure })
                };
                core.handle(Event::Polled { sample, answer }, now).unwrap();
            }
        }
        // A reason to stop of its own, though nothing was to be bought anyway.
        assert!(matches!(core.halt(), Some(Halt::Outage(_))), "{:?}", core.halt());
        assert!(looks < 2_000, "{looks} looks at a service that is away");
    }
}

#[test]
fn an_answer_that_asks_for_no_wait_does_not_switch_the_backoff_off() {
    let mut core = core(vendor());
    admit_many(&mut core, 50);
    let (mut now, mut sent) = (Stamp::BIRTH, 0);
    while now.as_millis() < 300_000 {
        now = now + Duration::from_millis(100);
        for sample in submits(&actions(&mut core, now, now)) {
            sent += 1;
            let failure = failure(FailureKind::Transient);
            let refusal = Refusal { cause: RefusalCause::Rate, retry_after: Some(Duration::ZERO), failure };
            let answer = Submitted::NotAccepted(refusal);
            core.handle(Event::Submitted { sample, attempt: Attempt(1), answer }, now).unwrap();
        }
    }
    assert!(sent < 40, "{sent}");
}

#[test]
fn the_answer_to_an_older_submission_is_not_the_trials() {
    let mut core = core(vendor());
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    let mut unanswered = Vec::new();
    let doubt = || Submitted::InDoubt(failure(FailureKind::Doubt));
    let mut doubts = 0;
    while doubts < 10 {
        now = now + Duration::from_secs(1);
        for sample in submits(&actions(&mut core, now, now)) {
            // One of the first stays unanswered for long.
            if unanswered.is_empty() {
                unanswered.push(sample);
            } else {
                doubts += 1;
                core.handle(Event::Submitted { sample, attempt: Attempt(1), answer: doubt() }, now).unwrap();
            }
        }
    }
    core.handle(Event::Balance(crate::api::Balance::Left(None)), now).unwrap();
    now = now + Duration::from_secs(1);
    let trial = submits(&actions(&mut core, now, now));
    assert_eq!(trial.len(), 1);
    let late = Event::Submitted { sample: unanswered[0], attempt: Attempt(1), answer: doubt() };
    core.handle(late, now).unwrap();
    let later = actions(&mut core, now, now + Duration::from_secs(600));
    assert_eq!(submits(&later), [], "the trial is under way");
    assert!(!later.iter().any(|(_, action)| *action == Action::AskBalance));
}

#[test]
fn a_run_that_gets_nothing_accepted_stops_with_the_cause() {
    let mut core = core(vendor());
    admit_many(&mut core, 100);
    let (mut now, mut sent) = (Stamp::BIRTH, 0);
    while core.poll(now) != Step::Finished {
        now = now + Duration::from_secs(1);
        for id in submits(&actions(&mut core, now, now)) {
            sent += 1;
            let answer =
                Submitted::Rejected(Failure::new(FailureKind::Input, Some("http_404"), "no such model"));
            core.handle(Event::Submitted { sample: id, attempt: Attempt(1), answer }, now).unwrap();
        }
    }
    assert!((NOTHING_ACCEPTED..NOTHING_ACCEPTED + SLOW_START).contains(&sent), "{sent}");
    let Some(Halt::NothingAccepted(failure)) = core.halt() else { panic!("{:?}", core.halt()) };
    assert_eq!(failure.message, "no such model");
}

#[test]
fn the_cap_is_never_passed_and_counts_what_is_unanswered() {
    let max_cost = Some(PRICE.times(10).minus(Usd::from_micros(1)));
    let mut core = core(Config { max_cost, ..vendor() });
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    let mut accepted = 0;
    for round in 0.. {
        now = now + Duration::from_secs(1);
        let sent = submits(&actions(&mut core, now, now));
        if sent.is_empty() {
            break;
        }
        for (place, id) in sent.into_iter().enumerate() {
            // A refusal gives back what it had reserved.
            if round == 0 && place == 0 {
                refuse(&mut core, id, RefusalCause::Unavailable, now);
            } else if place == 1 {
                let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
                core.handle(Event::Submitted { sample: id, attempt: Attempt(1), answer }, now).unwrap();
                accepted += 1;
            } else {
                accept(&mut core, id.0, now);
                accepted += 1;
            }
        }
        now = now + Duration::from_secs(60);
    }
    assert_eq!(accepted, 9);
    assert_eq!(core.halt(), max_cost.map(Halt::CostCap).as_ref());
    assert_ne!(core.poll(now), Step::Finished, "what is paid for is watched");
}

#[test]
fn time_that_is_up_ends_a_run_like_an_interruption() {
    let mut core = core(Config { max_duration: Some(Duration::from_secs(30)), ..vendor() });
    admit_many(&mut core, 5);
    actions(&mut core, Stamp::BIRTH, Stamp::from_millis(100));
    for id in 1..=3 {
        accept(&mut core, id, Stamp::from_millis(200));
    }
    actions(&mut core, Stamp::from_millis(200), Stamp::from_millis(29_000));
    assert_eq!(core.poll(Stamp::from_millis(29_999)), Step::WakeAt(Stamp::from_millis(30_000)));
    assert_eq!(
        core.poll(Stamp::from_millis(30_000)),
        Step::WakeAt(Stamp::from_millis(90_200)),
        "answers are awaited"
    );
    for id in 4..=5 {
        accept(&mut core, id, Stamp::from_millis(30_100));
    }
    assert_eq!(core.poll(Stamp::from_millis(30_100)), Step::Finished);
    assert_eq!(core.halt(), Some(&Halt::TimeUp));
}

#[test]
fn a_doubt_holds_its_slot_as_long_as_its_task_could_live() {
    let config = Config { limits: limits(10_000, 1), ..vendor() };
    let mut core = core(config);
    admit_many(&mut core, 1);
    let sent = Stamp::from_millis(100);
    let seen = actions(&mut core, Stamp::BIRTH, sent);
    let Some((_, Action::Submit { permit, .. })) = seen.first().cloned() else { panic!("{seen:?}") };
    let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
    core.handle(Event::Submitted { sample: SampleId(1), attempt: Attempt(1), answer }, sent).unwrap();
    let Step::WakeAt(released) = core.poll(sent) else { panic!("the doubt is forgotten") };
    assert_eq!(released, permit + ACCEPTED_WITHIN + config.task_timeout);
    assert_eq!(core.slots_held(), 1);
    assert_eq!(core.poll(released), Step::Act(Action::FreeSlots(1)));
    assert_eq!(core.slots_held(), 0);
    // Once a thousand tasks have ended within a minute, two minutes and the way are enough.
    for _ in 0..1_000 {
        core.lifetimes.record(Duration::from_secs(60));
    }
    assert!(core.doubts_last() < ACCEPTED_WITHIN + Duration::from_secs(60 * 2 * 12 / 11));
}

#[test]
fn a_task_from_the_state_file_has_its_whole_time_out_again() {
    let mut core = core(vendor());
    // By a clock that jumped, a day ago.
    let now = Stamp::from_millis(86_400_000);
    let entry = entry_once_submitted(SampleId(1), now);
    let task = TaskId::new("t1").unwrap();
    let stored = Stored::Running { task, accepted: Stamp::from_millis(1_000) };
    core.handle(Event::Restored(Restored { entry, stored }), now).unwrap();
    let mut at = now;
    while core.running() > 0 {
        for (millis, _) in actions(&mut core, at, at + Duration::from_secs(5)) {
            let answered = Stamp::from_millis(millis);
            // Slots are asked for as well.
            let _ = core.handle(
                Event::Polled { sample: SampleId(1), answer: Polled::Alive(Stage::Processing) },
                answered,
            );
        }
        at = at + Duration::from_secs(5);
    }
    assert!(at.since(now) >= vendor().task_timeout, "{:?}", at.since(now));
}

#[test]
fn a_doubt_whose_task_is_found_is_watched_and_costs_nothing_more() {
    let mut core = core(vendor());
    admit_many(&mut core, 1);
    let now = Stamp::from_millis(100);
    actions(&mut core, Stamp::BIRTH, now);
    let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
    core.handle(Event::Submitted { sample: SampleId(1), attempt: Attempt(1), answer }, now).unwrap();
    let (spent, failures) = (core.spent, core.failures);
    let entry = entry_once_submitted(SampleId(1), now);
    let task = TaskId::new("t1").unwrap();
    let found = |entry| Event::TaskFound { entry, task: task.clone(), put_back: false };
    core.handle(found(entry), now).unwrap();
    assert_eq!((core.spent, core.failures + 1, core.running(), core.slots_held()), (spent, failures, 1, 1));
    let changes: Vec<_> = core.take_changes().collect();
    assert!(matches!(
        changes.last().map(|c| &c.transition),
        Some(Transition::Found { attempt: Attempt(1), .. })
    ));
    // A second callback, and one for a doubt whose slot was given up long ago.
    core.handle(found(entry), now).unwrap();
    assert_eq!(core.take_changes().len(), 0);
    core.handle(found(Entry { sample: SampleId(2), ..entry }), now).unwrap();
    assert_eq!((core.running(), core.slots_held()), (2, 1));
}

#[test]
fn an_outage_that_lasts_stops_the_run() {
    let config = Config { outage_timeout: Duration::from_mins(2), ..vendor() };
    let mut core = core(config);
    admit_many(&mut core, 100);
    let mut now = Stamp::BIRTH;
    while core.halt().is_none() {
        now = now + Duration::from_secs(1);
        assert!(now < Stamp::from_millis(300_000));
        for (_, action) in actions(&mut core, now, now + Duration::from_millis(900)) {
            let event = match action {
                Action::Submit { sample, attempt, .. } => {
                    let answer = Submitted::InDoubt(failure(FailureKind::Doubt));
                    Event::Submitted { sample, attempt, answer }
                }
                Action::AskBalance => {
                    Event::Balance(crate::api::Balance::Unclear(failure(FailureKind::Transient)))
                }
                Action::Poll { .. }
                | Action::LookAtLink { .. }
                | Action::ForgetLink { .. }
                | Action::FreeSlots(_)
                | Action::ReclaimSlots(_) => continue,
            };
            core.handle(event, now).unwrap();
        }
    }
    assert!(matches!(core.halt(), Some(Halt::Outage(_))));
    assert_eq!(core.poll(now), Step::Finished);
}

#[test]
fn one_unknown_task_is_lost_but_many_stop_the_run() {
    for (tasks, lost) in [(1, true), (20, false)] {
        let mut core = core(vendor());
        admit_many(&mut core, tasks);
        let mut now = Stamp::BIRTH;
        let mut ended = Vec::new();
        while core.halt().is_none() && ended.is_empty() {
            now = now + Duration::from_secs(1);
            assert!(now < Stamp::from_millis(1_200_000), "neither lost nor stopped");
            for (_, action) in actions(&mut core, now, now + Duration::from_millis(900)) {
                match action {
                    Action::Submit { sample, .. } => accept(&mut core, sample.0, now),
                    Action::Poll { sample, .. } => {
                        let answer = Polled::NotFound(failure(FailureKind::Transient));
                        core.handle(Event::Polled { sample, answer }, now).unwrap();
                    }
                    Action::AskBalance
                    | Action::LookAtLink { .. }
                    | Action::ForgetLink { .. }
                    | Action::FreeSlots(_)
                    | Action::ReclaimSlots(_) => {}
                }
            }
            let is_end = |change: &Change| matches!(change.transition, Transition::Ended { .. });
            ended.extend(core.take_changes().filter(is_end));
        }
        assert_eq!(!ended.is_empty(), lost);
        assert_eq!(matches!(core.halt(), Some(Halt::TasksVanish(_))), !lost);
    }
}

#[test]
fn a_slot_given_up_for_a_long_wait_is_taken_back_from_the_queue() {
    let config = Config { limits: limits(10_000, 2), ..vendor() };
    let mut core = core(config);
    admit_many(&mut core, 1);
    actions(&mut core, Stamp::BIRTH, Stamp::from_millis(50));
    accept(&mut core, 1, Stamp::from_millis(100));
    let late = Stamp::from_millis(91_000);
    actions(&mut core, Stamp::from_millis(100), late);
    let mut held = Vec::new();
    let failed = TaskFailure {
        failure: failure(FailureKind::Transient),
        verdict: Verdict::MayRetry,
        created: None,
        completed: None,
    };
    core.handle(Event::Polled { sample: SampleId(1), answer: Polled::Failed(failed) }, late).unwrap();
    held.push(core.slots_held());
    let changes: Vec<_> = core.take_changes().collect();
    let Some(Transition::Deferred { not_before, paid_retries: 1, .. }) =
        changes.last().map(|c| c.transition.clone())
    else {
        panic!("{changes:?}")
    };
    let later = not_before + Duration::from_secs(1);
    let seen = actions(&mut core, late, later);
    let takes_back = seen.iter().any(|(_, action)| matches!(action, Action::ReclaimSlots(1)));
    if not_before.since(late) > KEEP_SLOT_FOR {
        assert_eq!(held, [0]);
        assert!(takes_back, "{seen:?}");
        core.handle(Event::SlotsReclaimed(1), later).unwrap();
        assert_eq!(submits(&actions(&mut core, later, later + Duration::from_secs(1))), [SampleId(1)]);
    } else {
        assert_eq!(submits(&seen), [SampleId(1)]);
    }
}

#[test]
fn a_link_is_asked_for_after_everything_else_and_keeps_the_run() {
    let (mut core, now) = watching(Config { limits: limits(200, 10), ..vendor() }, 2, 3);
    let task = |name| TaskId::new(name).unwrap();
    core.handle(Event::LinkWanted { sample: SampleId(77), task: task("old") }, now).unwrap();
    let twice = core.handle(Event::LinkWanted { sample: SampleId(77), task: task("old") }, now);
    assert_eq!(twice.unwrap_err().state, "waiting for its link");
    let seen = actions(&mut core, now, now + Duration::from_secs(10));
    let place = |wanted: fn(&Action) -> bool| seen.iter().position(|(_, action)| wanted(action));
    let link = place(|action| matches!(action, Action::LookAtLink { .. })).unwrap();
    let last_submit = seen.iter().rposition(|(_, action)| matches!(action, Action::Submit { .. })).unwrap();
    assert!(last_submit < link, "{seen:?}");
    let early =
        core.handle(Event::LinkSeen { sample: SampleId(1), answer: Polled::Alive(Stage::Processing) }, now);
    assert!(early.is_err(), "nobody asked for that");
    core.handle(Event::LinkSeen { sample: SampleId(77), answer: Polled::Alive(Stage::Processing) }, now)
        .unwrap();
}

#[test]
fn a_run_with_nothing_but_links_serves_them_and_ends() {
    let mut core = core(Config { collect_only: true, ..vendor() });
    let later = Stamp::from_millis(60_000);
    core.handle(Event::QueueEnded, later).unwrap();
    let task = TaskId::new("old").unwrap();
    core.handle(Event::LinkWanted { sample: SampleId(1), task: task.clone() }, later).unwrap();
    assert_eq!(core.poll(later), Step::Act(Action::LookAtLink { sample: SampleId(1), task: task.clone() }));
    assert!(matches!(core.poll(later), Step::Wait), "the answer is waited for");
    let refused = || Polled::KeyRefused(failure(FailureKind::Key));
    core.handle(Event::LinkSeen { sample: SampleId(1), answer: refused() }, later).unwrap();
    assert_eq!(core.poll(later), Step::Finished);
    // Three refusals of the key in a row: nobody is asked any more, and nobody waits in vain.
    for sample in [2, 3] {
        core.handle(Event::LinkWanted { sample: SampleId(sample), task: task.clone() }, later).unwrap();
        let later = later + Duration::from_secs(1);
        assert!(matches!(core.poll(later), Step::Act(Action::LookAtLink { .. })));
        core.handle(Event::LinkSeen { sample: SampleId(sample), answer: refused() }, later).unwrap();
    }
    core.handle(Event::LinkWanted { sample: SampleId(4), task }, later).unwrap();
    assert_eq!(core.poll(later), Step::Act(Action::ForgetLink { sample: SampleId(4) }));
    assert_eq!(core.poll(later), Step::Finished);
}
