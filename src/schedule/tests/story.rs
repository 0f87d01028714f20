//! The core against a model of the world that lies, forgets and crashes.
//!
//! A story drives the core as the engine does: changes are durable only after a commit, a
//! submission is sent only after its commit, and the process may die between any two effects. What
//! survives a crash is what the commits made of the model of the state file, and the model of the
//! server, which knows the truth about doubts.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;

/// What the state file would hold of a sample.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Ready { not_before: Stamp },
    Submitting { since: Stamp },
    Running { task: TaskId, accepted: Stamp },
    Ended { status: Status, since: Stamp, task: Option<(TaskId, Stamp)> },
}

#[derive(Debug, Clone)]
struct StoredRow {
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
    rows: BTreeMap<SampleId, StoredRow>,
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
            StoredRow { row: Row::Ready { not_before: now }, attempts: 0, paid_retries: 0, cost: Usd::ZERO };
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
            if self.now.since(permit) > gate::STALE_PERMIT || !self.core.may_send(sample) {
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
        let video = Video { urls: vec!["https://v.example/1.mp4".into()], created: None, completed: None };
        if self.tasks[task].fails { failed(Verdict::MayRetry) } else { Polled::Succeeded(video) }
    }

    /// A callback arrives. What is elsewhere is looked up once all so far is durable, as the shell does.
    fn call(&mut self, sample: SampleId, attempt: Attempt, task: TaskId) {
        let answer = self.end_of(&task);
        let mut heard = self.core.hear(sample, attempt, Some(task.clone()), answer.clone(), self.now);
        self.core.take_changes(&mut self.uncommitted);
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
        let before = taken_changes(&mut self.core);
        let heard = self.core.hear(sample, Attempt(attempt), task, answer, self.now);
        assert!(!matches!(heard, Heard::Ended | Heard::Settled | Heard::Kept), "{heard:?}");
        assert_eq!(taken_changes(&mut self.core), [], "a sample changes on the word of an odd callback");
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
            _ if fails => failed(if pick.is_multiple_of(2) { Verdict::MayRetry } else { Verdict::Final }),
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
                    let task = self.core.watched_task(sample).unwrap().clone();
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
                    self.core.take_changes(&mut self.uncommitted);
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
            self.core.take_changes(&mut self.uncommitted);
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
        self.core.take_changes(&mut self.uncommitted);
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

fn entry(id: SampleId, stored: &StoredRow, not_before: Stamp) -> Entry {
    Entry {
        sample: id,
        kind: KIND,
        attempts: stored.attempts,
        paid_retries: stored.paid_retries,
        price: PRICE,
        not_before,
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
