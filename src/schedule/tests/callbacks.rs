//! Callbacks, one case at a time.

use super::*;

const ONE: SampleId = SampleId(1);
const FIRST: Attempt = Attempt(1);
const SECONDS: fn(u64) -> Stamp = |seconds| Stamp::from_millis(seconds * 1_000);

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn made() -> Polled {
    Polled::Succeeded(Video { urls: vec!["https://v.example/1.mp4".into()], created: None, completed: None })
}

/// A core with one sample that is being submitted.
fn submitting() -> Schedule {
    let mut core = core(Config { called_back: true, ..vendor() });
    admit_many(&mut core, 1);
    assert_eq!(submits(&actions(&mut core, Stamp::BIRTH, SECONDS(1))), [ONE]);
    core
}

/// A core with the task `t1` of one sample, accepted a second after birth.
fn running() -> Schedule {
    let mut core = submitting();
    accept(&mut core, 1, SECONDS(1));
    taken_changes(&mut core);
    core
}

fn answer(core: &mut Schedule, answer: Submitted, now: Stamp) {
    core.handle(Event::Submitted { sample: ONE, attempt: FIRST, answer }, now).unwrap();
}

fn polled(core: &mut Schedule, answer: Polled, now: Stamp) -> Result<(), IllegalEvent> {
    core.handle(Event::Polled { sample: ONE, answer }, now)
}

/// The looks that the core asks for, with when.
fn looks(core: &mut Schedule, from: u64, until: u64) -> Vec<u64> {
    let actions = actions(core, SECONDS(from), SECONDS(until));
    let is_look = |action: &Action| matches!(action, Action::Poll { .. });
    actions.iter().filter(|(_, action)| is_look(action)).map(|(at, _)| at / 1_000).collect()
}

fn steps(core: &mut Schedule) -> Vec<Transition> {
    taken_changes(core).into_iter().map(|change| change.transition).collect()
}

fn is_success(step: &Transition) -> bool {
    matches!(step, Transition::Ended { outcome: Outcome::Succeeded(_), .. })
}

#[test]
fn a_callback_is_as_good_as_a_look() {
    let mut core = running();
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(60)), Heard::Ended);
    assert!(matches!(&steps(&mut core)[..], [step] if is_success(step)));
    assert_eq!((core.running(), core.slots_held()), (0, 0));
    // The second of two, and one that an earlier attempt's address brings.
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(61)), Heard::Elsewhere);
    let mut core = running();
    assert_eq!(core.hear(ONE, Attempt(0), Some(task("t1")), made(), SECONDS(60)), Heard::Nothing);
    assert!(steps(&mut core).is_empty());
}

#[test]
fn the_answer_of_a_look_under_way_is_ignored_once() {
    let mut core = running();
    assert_eq!(looks(&mut core, 1, 100), [91]);
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(92)), Heard::Ended);
    assert!(matches!(&steps(&mut core)[..], [step] if is_success(step)));
    polled(&mut core, failed(Verdict::Final), SECONDS(93)).unwrap();
    assert!(steps(&mut core).is_empty());
    assert!(polled(&mut core, made(), SECONDS(93)).is_err(), "nobody asked for that");
}

#[test]
fn what_an_overtaken_answer_says_of_the_service_and_the_key_counts() {
    let overtaken = |answers: fn() -> Polled| {
        let mut core = running();
        assert_eq!(looks(&mut core, 1, 100), [91]);
        assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(92)), Heard::Ended);
        polled(&mut core, answers(), SECONDS(93)).unwrap();
        core
    };
    let core = overtaken(|| Polled::NotAnswered(refused(RefusalCause::Rate)));
    assert!(core.pause(SECONDS(93)).is_some() && core.refused_looks == 1);
    let core = overtaken(|| Polled::NotAnswered(refused(RefusalCause::Unavailable)));
    assert!(core.pause(SECONDS(93)).is_some() && core.silent.is_some());
    let core = overtaken(|| Polled::KeyRefused(failure(FailureKind::Key)));
    assert!(matches!(core.halt(), Some(Halt::KeyRefused(_))), "{:?}", core.halt());
    let core = overtaken(|| Polled::Unclear(failure(FailureKind::Transient)));
    assert_eq!(core.unclear_looks, 1);
    let core = overtaken(made);
    assert!(core.halt().is_none() && core.pause(SECONDS(93)).is_none() && core.unclear_looks == 0);
}

#[test]
fn an_answer_that_was_overtaken_is_not_taken_for_the_next_attempts() {
    let mut core = running();
    assert_eq!(looks(&mut core, 1, 181), [91]);
    assert_eq!(
        core.hear(ONE, FIRST, Some(task("t1")), failed(Verdict::MayRetry), SECONDS(182)),
        Heard::Ended
    );
    actions(&mut core, SECONDS(182), SECONDS(290));
    core.handle(Event::SlotsReclaimed(1), SECONDS(290)).unwrap();
    assert_eq!(submits(&actions(&mut core, SECONDS(290), SECONDS(300))), [ONE]);
    let accepted = Submitted::Accepted(task("t2"));
    core.handle(Event::Submitted { sample: ONE, attempt: Attempt(2), answer: accepted }, SECONDS(300))
        .unwrap();
    // Its own look is due and waits for the answer to the first.
    assert_eq!(looks(&mut core, 300, 900), [0; 0]);
    steps(&mut core);
    polled(&mut core, made(), SECONDS(900)).unwrap();
    assert!(steps(&mut core).is_empty(), "the second task is still being made");
    assert_eq!(looks(&mut core, 900, 900), [900]);
    polled(&mut core, made(), SECONDS(901)).unwrap();
    assert!(matches!(&steps(&mut core)[..], [step] if is_success(step)));
}

#[test]
fn a_callback_before_the_answer_counts_with_it() {
    // A doubt is none, and a refusal was an acceptance: the task called back.
    for said in [
        Submitted::Accepted(task("t1")),
        Submitted::InDoubt(failure(FailureKind::Doubt)),
        Submitted::NotAccepted(refused(RefusalCause::Unavailable)),
    ] {
        let mut core = submitting();
        assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(1)), Heard::Kept);
        assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(1)), Heard::Kept);
        steps(&mut core);
        answer(&mut core, said, SECONDS(2));
        let steps = steps(&mut core);
        assert!(
            matches!(&steps[..], [Transition::Accepted { task, .. }, ended] if task.as_str() == "t1" && is_success(ended)),
            "{steps:?}"
        );
        assert_eq!((core.running(), core.slots_held(), core.spent), (0, 0, PRICE));
    }
}

fn refused(cause: RefusalCause) -> Refusal {
    Refusal { cause, retry_after: None, failure: failure(FailureKind::Transient) }
}

#[test]
fn a_submission_that_counted_as_refused_is_not_repeated_once_its_task_calls() {
    for said in [
        Submitted::NotAccepted(refused(RefusalCause::Rate)),
        Submitted::NotAccepted(refused(RefusalCause::Unavailable)),
        Submitted::NoMoney(failure(FailureKind::Money)),
        Submitted::KeyRefused(failure(FailureKind::Key)),
    ] {
        let mut core = submitting();
        answer(&mut core, said, SECONDS(2));
        steps(&mut core);
        assert_eq!(core.hear(ONE, FIRST, None, made(), SECONDS(2)), Heard::Nothing, "it names no task");
        assert_eq!(core.hear(ONE, Attempt(2), Some(task("t1")), made(), SECONDS(2)), Heard::Nothing);
        assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(2)), Heard::Settled);
        let told = steps(&mut core);
        assert!(
            matches!(&told[..], [Transition::Intended(FIRST), Transition::Accepted { task, .. }, ended]
                if task.as_str() == "t1" && is_success(ended)),
            "{told:?}"
        );
        assert_eq!((core.running(), core.slots_held(), core.spent), (0, 0, PRICE));
        assert_eq!(submits(&actions(&mut core, SECONDS(2), SECONDS(900))), [SampleId(0); 0]);
    }
}

#[test]
fn what_was_refused_in_an_earlier_run_is_not_bought_once_its_task_calls() {
    let is_bought = |core: &mut Schedule| {
        let told = steps(core);
        assert!(
            matches!(&told[..], [Transition::Intended(FIRST), Transition::Accepted { task, .. }, ended]
                if task.as_str() == "t1" && is_success(ended)),
            "{told:?}"
        );
        assert_eq!((core.running(), core.slots_held(), core.spent), (0, 0, PRICE));
        assert_eq!(core.reserved, Usd::ZERO);
    };
    let entry = Entry { attempts: 0, ..entry_once_submitted(ONE, Stamp::BIRTH) };
    let mut core = core(vendor());
    assert!(matches!(core.poll(SECONDS(1)), Step::Act(Action::FreeSlots(_))));
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(1)), Heard::Elsewhere);
    assert_eq!(core.hear_refused(entry, task("t1"), made(), SECONDS(1)), Heard::Settled);
    // The queue had read it before.
    core.handle(Event::Admitted(entry), SECONDS(2)).unwrap();
    assert_eq!(submits(&actions(&mut core, SECONDS(2), SECONDS(900))), []);
    is_bought(&mut core);
    // Two callbacks: one was looked up, and the other came once the queue had brought it.
    let mut core = super::core(vendor());
    admit_many(&mut core, 1);
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(1)), Heard::Settled);
    assert_eq!(core.hear_refused(entry, task("t1"), made(), SECONDS(1)), Heard::Nothing);
    is_bought(&mut core);
    // The queue has brought it while it was looked up, and its intent is on the way to the disk.
    let mut core = submitting();
    assert!(core.may_send(ONE));
    assert_eq!(core.hear_refused(entry, task("t1"), made(), SECONDS(1)), Heard::Kept);
    assert!(!core.may_send(ONE));
    core.handle(Event::NotSent { sample: ONE, attempt: FIRST }, SECONDS(2)).unwrap();
    is_bought(&mut core);
}

#[test]
fn what_counted_as_refused_may_pass_the_cap_and_is_named_when_it_calls_too_late() {
    let mut core = core(Config { called_back: true, max_cost: Some(PRICE), ..vendor() });
    admit_many(&mut core, 2);
    assert_eq!(submits(&actions(&mut core, Stamp::BIRTH, SECONDS(1))), [ONE]);
    let other = SampleId(2);
    answer(&mut core, Submitted::NotAccepted(refused(RefusalCause::Unavailable)), SECONDS(2));
    core.ready.rotate_left(1);
    assert_eq!(submits(&actions(&mut core, SECONDS(60), SECONDS(60))), [other]);
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(60)), Heard::Settled);
    assert_eq!((core.task_of(ONE), core.task_of(other)), (None, None));
    assert_eq!(core.hear(other, FIRST, Some(task("t2")), made(), SECONDS(61)), Heard::Kept);
    assert_eq!(core.task_of(other), Some(&task("t2")), "to be compared with the answer");
    accept(&mut core, 2, SECONDS(62));
    assert_eq!(core.spent, PRICE.times(2));
}

#[test]
fn another_task_than_the_accepted_one_leads_to_a_look() {
    let mut core = submitting();
    assert_eq!(core.hear(ONE, FIRST, Some(task("other")), made(), SECONDS(1)), Heard::Kept);
    steps(&mut core);
    accept(&mut core, 1, SECONDS(2));
    assert!(matches!(&steps(&mut core)[..], [Transition::Accepted { task, .. }] if task.as_str() == "t1"));
    assert_eq!(looks(&mut core, 2, 100), [2]);
}

#[test]
fn odd_callbacks_lead_to_one_look_and_no_change() {
    let unclear = || Polled::Unclear(failure(FailureKind::Transient));
    for (named, told) in [
        (Some("other"), made()),
        (Some("t1"), Polled::Alive(Stage::Processing)),
        (Some("t1"), Polled::SucceededWithoutUrl),
        (Some("t1"), Polled::NotFound(failure(FailureKind::Transient))),
        (None, unclear()),
        (None, made()),
    ] {
        let mut core = running();
        for _ in 0..3 {
            assert_eq!(core.hear(ONE, FIRST, named.map(task), told.clone(), SECONDS(60)), Heard::Odd);
        }
        assert_eq!(looks(&mut core, 60, 61), [60], "{told:?}");
        // One more while that look is under way, and one right after it.
        assert_eq!(core.hear(ONE, FIRST, named.map(task), told.clone(), SECONDS(61)), Heard::Odd);
        polled(&mut core, Polled::Alive(Stage::Processing), SECONDS(61)).unwrap();
        assert_eq!(core.hear(ONE, FIRST, named.map(task), told.clone(), SECONDS(61)), Heard::Odd);
        assert_eq!(looks(&mut core, 61, 62), [61]);
        assert!(steps(&mut core).is_empty());
    }
}

#[test]
fn a_doubt_is_settled_by_its_callback() {
    let mut core = submitting();
    answer(&mut core, Submitted::InDoubt(failure(FailureKind::Doubt)), SECONDS(2));
    steps(&mut core);
    assert_eq!(core.hear(ONE, FIRST, None, made(), SECONDS(60)), Heard::Nothing, "it names no task");
    assert_eq!(core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(60)), Heard::Settled);
    let told = steps(&mut core);
    assert!(matches!(&told[..], [Transition::Found { put_back: false, .. }, ended] if is_success(ended)));
    assert_eq!((core.running(), core.slots_held(), core.spent, core.failures), (0, 0, PRICE, 0));
    // What it says of the task is odd: the task is watched, from a look now.
    let mut core = submitting();
    answer(&mut core, Submitted::InDoubt(failure(FailureKind::Doubt)), SECONDS(2));
    assert_eq!(
        core.hear(ONE, FIRST, Some(task("t1")), Polled::SucceededWithoutUrl, SECONDS(60)),
        Heard::Settled
    );
    assert_eq!(looks(&mut core, 60, 61), [60]);
}

#[test]
fn doubts_that_are_all_that_is_left_are_awaited() {
    let in_doubt = |called_back| {
        let mut core = core(Config { called_back, ..vendor() });
        admit_many(&mut core, 2);
        assert_eq!(submits(&actions(&mut core, Stamp::BIRTH, SECONDS(1))).len(), 2);
        answer(&mut core, Submitted::InDoubt(failure(FailureKind::Doubt)), SECONDS(2));
        core.handle(Event::QueueEnded, SECONDS(2)).unwrap();
        actions(&mut core, SECONDS(2), SECONDS(2));
        assert_eq!(core.awaited_doubts(), None, "the other submission is not answered");
        let doubt = Submitted::InDoubt(failure(FailureKind::Doubt));
        core.handle(Event::Submitted { sample: SampleId(2), attempt: FIRST, answer: doubt }, SECONDS(3))
            .unwrap();
        core
    };
    let mut core = in_doubt(false);
    assert_eq!((core.awaited_doubts(), core.poll(SECONDS(3))), (None, Step::Finished), "nobody calls");

    // One is settled by a callback that tells an end, the other by its age.
    let mut core = in_doubt(true);
    let awaited = core.awaited_doubts().unwrap();
    assert_eq!(awaited.doubts, 2);
    core.hear(ONE, FIRST, Some(task("t1")), made(), SECONDS(60));
    assert_eq!(core.awaited_doubts().map(|awaited| awaited.doubts), Some(1));
    assert_eq!(core.poll(SECONDS(61)), Step::WakeAt(awaited.until));
    assert_eq!((core.poll(awaited.until), core.awaited_doubts()), (Step::Finished, None));

    // Who interrupts, or allows so much time, waits no longer.
    let mut core = in_doubt(true);
    core.handle(Event::StopBuying(Halt::Interrupted), SECONDS(60)).unwrap();
    assert_eq!((core.poll(SECONDS(60)), core.awaited_doubts()), (Step::Finished, None));
    let mut core = in_doubt(true);
    core.config.max_duration = Some(Duration::from_mins(1));
    assert_eq!(core.poll(SECONDS(50)), Step::WakeAt(SECONDS(60)));
    assert_eq!(core.poll(SECONDS(60)), Step::Finished);
    assert_eq!(core.halt(), Some(&Halt::TimeUp));
}

#[test]
fn looks_sweep_where_callbacks_are_expected() {
    let looks_of = |called_back| {
        let mut core = core(Config { called_back, cadence: Cadence::Learned, ..vendor() });
        admit_many(&mut core, 1);
        actions(&mut core, Stamp::BIRTH, SECONDS(1));
        accept(&mut core, 1, SECONDS(1));
        let mut at = 1;
        let mut looks_made = 0;
        while let Some(look) = looks(&mut core, at, 400).first() {
            polled(&mut core, Polled::Alive(Stage::Processing), SECONDS(*look)).unwrap();
            at = *look;
            looks_made += 1;
        }
        looks_made
    };
    let (without, with) = (looks_of(false), looks_of(true));
    assert!(with > 0 && with * 3 < without, "{with} and {without} looks");
}
