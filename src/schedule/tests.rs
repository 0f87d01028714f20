//! The core driven by hand, and against a model of the world.

use std::num::NonZeroU32;
use std::time::Duration;

use super::cadence::Cadence;
use super::*;
use crate::api::{Polled, Refusal, RefusalCause, Stage, Submitted, TaskFailure, Verdict};
use crate::generation::{GenerationType, Kind, Mode};
use crate::job::{FailureKind, Limits, Outcome, Status, Video};

mod cadence;
mod callbacks;
mod story;
mod trouble;

const PRICE: Usd = Usd::from_cents(20);
const KIND: Kind = Kind { mode: Mode::Fast, generation_type: GenerationType::Text };

/// What governs a run that looks by the vendor's schedule, whose looks are easily foretold.
fn vendor() -> Config {
    Config { cadence: Cadence::VENDOR, ..Config::default() }
}

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, None, "as the story wants")
}

/// A task that failed without saying when.
fn failed(verdict: Verdict) -> Polled {
    let failure = failure(FailureKind::Transient);
    Polled::Failed(TaskFailure { failure, verdict, created: None, completed: None })
}

/// One that has been submitted once.
fn entry_once_submitted(sample: SampleId, not_before: Stamp) -> Entry {
    Entry { sample, kind: KIND, attempts: 1, paid_retries: 0, price: PRICE, not_before }
}

fn limits(per_minute: u32, concurrent: u32) -> Limits {
    Limits {
        requests_per_minute: NonZeroU32::new(per_minute).unwrap(),
        concurrent_tasks: NonZeroU32::new(concurrent).unwrap(),
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
        let entry = Entry { attempts: 0, ..entry_once_submitted(SampleId(id), Stamp::BIRTH) };
        core.handle(Event::Admitted(entry), Stamp::BIRTH).unwrap();
    }
}

/// What must be durable since the last call.
fn taken_changes(core: &mut Schedule) -> Vec<Change> {
    let mut changes = Vec::new();
    core.take_changes(&mut changes);
    changes
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

/// Nothing else may happen any more that would have the core asked again.
#[test]
fn a_sample_that_comes_back_for_a_slot_is_held_against_the_cap_at_once() {
    let mut core = core(Config { max_cost: Some(PRICE), ..vendor() });
    admit_many(&mut core, 1);
    core.handle(Event::QueueEnded, Stamp::BIRTH).unwrap();
    actions(&mut core, Stamp::BIRTH, Stamp::from_millis(50));
    accept(&mut core, 1, Stamp::from_millis(100));
    let late = Stamp::from_millis(91_000);
    actions(&mut core, Stamp::from_millis(100), late);
    core.handle(Event::Polled { sample: SampleId(1), answer: failed(Verdict::MayRetry) }, late).unwrap();
    let Step::WakeAt(again) = core.poll(late) else { panic!("it waits to be paid for again") };
    assert!(again.since(late) > KEEP_SLOT_FOR, "it has a slot: {:?}", again.since(late));
    assert_eq!(core.poll(again), Step::Finished);
    assert_eq!(core.halt(), Some(&Halt::CostCap(PRICE)));
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
    let changes = taken_changes(&mut core);
    assert!(matches!(
        changes.last().map(|c| &c.transition),
        Some(Transition::Found { attempt: Attempt(1), .. })
    ));
    // A second callback, and one for a doubt whose slot was given up long ago.
    core.handle(found(entry), now).unwrap();
    assert_eq!(taken_changes(&mut core), []);
    core.handle(found(Entry { sample: SampleId(2), ..entry }), now).unwrap();
    assert_eq!((core.running(), core.slots_held()), (2, 1));
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
    core.handle(Event::Polled { sample: SampleId(1), answer: failed(Verdict::MayRetry) }, late).unwrap();
    held.push(core.slots_held());
    let changes = taken_changes(&mut core);
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
