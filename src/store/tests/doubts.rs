use std::time::Duration;

use super::*;
use crate::schedule::ACCEPTED_WITHIN;

const TIMEOUT: Duration = Duration::from_secs(1_800);

/// A stamp at which every doubt of [`bring`] is old enough.
fn late() -> Stamp {
    Stamp::from_millis(100) + ACCEPTED_WITHIN + TIMEOUT
}

fn doubt(store: &mut Store, sample: i64, at: u64) {
    let steps = road_to(State::Unknown).into_iter().map(|step| change(sample, at, step));
    store.commit(&steps.collect::<Vec<_>>()).unwrap();
}

#[test]
fn samples_put_back() {
    let again = [State::Failed, State::Rejected, State::TimedOut, State::Lost, State::Unknown];
    for state in State::ALL.into_iter().filter(|state| *state != State::Invalid) {
        let mut store = with(&[("x", "a", 1)]);
        bring(&mut store, 1, state);
        let (spent, attempts) = (store.spending().unwrap(), store.result(SampleId(1)).unwrap().attempts);
        let put_back = u64::from(again.contains(&state));
        assert_eq!(store.retry(&[], &Selection::default(), late(), TIMEOUT).unwrap(), Retried::default());
        let retried = store.retry(&Status::ALL, &Selection::default(), late(), TIMEOUT).unwrap();
        let doubts = u64::from(state == State::Unknown);
        assert_eq!(retried, Retried { samples: put_back, doubts, too_young: 0, next: None }, "{state}");
        if put_back == 1 {
            let (entry, _) = store.cursor(&Selection::default(), PRICES).unwrap().next().unwrap().unwrap();
            assert_eq!((entry.attempts, entry.paid_retries), (attempts, 0));
            let row = store.result(SampleId(1)).unwrap();
            assert_eq!((row.status, row.failure), (Status::Pending, None));
        }
        assert_eq!(store.spending().unwrap(), spent);
        assert_eq!(store.result(SampleId(1)).unwrap().cost, spent);
    }
}

#[test]
fn a_doubt_is_put_back_only_when_its_task_cannot_be_alive() {
    let mut store = with(&[("x", "a", 4)]);
    for (sample, at) in [(1, 5_000), (2, 4_000), (3, 3_000)] {
        doubt(&mut store, sample, at);
    }
    let at = |millis| Stamp::from_millis(millis) + ACCEPTED_WITHIN + TIMEOUT;
    let mut retry = |now| store.retry(&[Status::Unknown], &Selection::default(), now, TIMEOUT).unwrap();
    let left = |samples, too_young, next: Option<u64>| Retried {
        samples,
        doubts: samples,
        too_young,
        next: next.map(at),
    };
    assert_eq!(retry(Stamp::BIRTH), left(0, 3, Some(3_000)));
    assert_eq!(retry(at(2_999)), left(0, 3, Some(3_000)));
    assert_eq!(retry(at(4_000)), left(2, 1, Some(5_000)));
    assert_eq!(retry(at(4_000)), left(0, 1, Some(5_000)));
    assert_eq!(store.doubts(9).unwrap().count, 1);
    // What is not asked for is not put back, however old.
    let others = [Status::Failed, Status::Rejected, Status::TimedOut, Status::Lost];
    assert_eq!(
        store.retry(&others, &Selection::default(), late() + TIMEOUT, TIMEOUT).unwrap(),
        Retried::default()
    );
    // Part of a millisecond is not given away.
    let longer = TIMEOUT + Duration::from_nanos(1);
    assert_eq!(store.retry(&[Status::Unknown], &Selection::default(), at(5_000), longer).unwrap().samples, 0);
    assert_eq!(
        store.retry(&[Status::Unknown], &Selection::default(), at(5_000), TIMEOUT).unwrap().samples,
        1
    );
}

#[test]
fn what_is_no_longer_in_the_sheet_is_never_put_back() {
    let mut store = with(&[("x", "a", 1), ("y", "b", 1)]);
    doubt(&mut store, 1, 10);
    assert!(import(&mut store, &[("y", "b", 1)], ACCEPT).applied);
    assert_eq!(
        store.retry(&[Status::Unknown], &Selection::default(), late(), TIMEOUT).unwrap(),
        Retried::default()
    );
    assert_eq!(rows(&store, true), [(2, 0, "unknown", 1)]);
}

#[test]
fn doubts_are_bought_last_and_keep_what_they_cost() {
    // More than a page before and behind them.
    let prompts: Vec<String> = (0..1_200).map(|n| n.to_string()).collect();
    let sheet: Vec<_> = prompts.iter().map(|prompt| ("", prompt.as_str(), 1)).collect();
    let mut store = with(&sheet);
    let doubtful = [2, 3, 1_200];
    for sample in doubtful {
        doubt(&mut store, sample, 10);
    }
    bring(&mut store, 4, State::Failed);
    assert_eq!(store.retry(&Status::ALL, &Selection::default(), late(), TIMEOUT).unwrap().samples, 4);
    let order = |store: &Store| ready(store, &Selection::default()).into_iter().map(|(id, ..)| id);
    let expected = || (1..1_200).filter(|id| !doubtful.contains(id)).chain(doubtful);
    assert!(order(&store).eq(expected()));
    // A failed attempt put back by a run is not taken for one, whatever it failed of; a retraction
    // and another look at the same sheet leave one what it is.
    let fails = Failure::new(FailureKind::Doubt, None, "said so");
    let deferral =
        Transition::Deferred { not_before: Stamp::from_millis(1), paid_retries: 1, failure: fails };
    for step in [intended(1), accepted(1), deferral] {
        store.commit(&[change(7, 20, step)]).unwrap();
    }
    store.commit(&[change(2, 20, intended(2)), change(2, 21, Transition::Retracted)]).unwrap();
    assert!(import(&mut store, &sheet, STRICT).applied);
    assert!(order(&store).eq(expected()));

    let spent = store.spending().unwrap();
    for (at, step) in [(30, intended(2)), (40, accepted(2)), (50, ended(video(), 2, Usd::ZERO))] {
        store.commit(&[change(3, at, step)]).unwrap();
    }
    let row = store.result(SampleId(3)).unwrap();
    assert_eq!((row.status, row.attempts, row.cost), (Status::Succeeded, 2, PRICE.times(2)));
    assert_eq!(store.spending().unwrap(), spent + PRICE);
}

#[test]
fn a_second_doubt_is_a_doubt_again() {
    let mut store = with(&[("x", "a", 1)]);
    doubt(&mut store, 1, 10);
    store.retry(&[Status::Unknown], &Selection::default(), late(), TIMEOUT).unwrap();
    let at = late().as_millis();
    // The process dies with the intent durable: restored as a doubt.
    store.commit(&[change(1, at, intended(2))]).unwrap();
    assert!(matches!(store.restore(PRICES).unwrap()[0].0.stored, Stored::Submitting { .. }));
    store.commit(&[change(1, at + 5, ended(Outcome::Unknown(failure()), 2, PRICE))]).unwrap();
    assert_eq!(store.retry(&[Status::Unknown], &Selection::default(), late(), TIMEOUT).unwrap().too_young, 1);
    let doubts = store.doubts(9).unwrap();
    assert_eq!((doubts.count, doubts.cost, doubts.shown[0].cost), (1, PRICE, PRICE), "the second alone");
    assert_eq!(store.spending().unwrap(), PRICE.times(2));
}

#[test]
fn doubts_are_listed_by_age() {
    let mut store = with(&[("x", "a", 2), ("", "b", 1), ("z", "c", 1)]);
    assert_eq!(store.doubts(5).unwrap(), Doubts::default());
    for (sample, at) in [(2, 2_000), (3, 1_000), (4, 3_000)] {
        doubt(&mut store, sample, at);
    }
    bring(&mut store, 1, State::Submitting);
    let at = |millis| store.birth().at(Stamp::from_millis(millis));
    let listed = |line, id: Option<&str>, index, millis| Doubt {
        line,
        id: id.map(str::to_owned),
        index,
        submitted: at(millis),
        failure: failure(),
        cost: PRICE,
    };
    let all = Doubts {
        shown: vec![listed(3, None, 0, 1_000), listed(2, Some("x"), 1, 2_000)],
        count: 3,
        cost: PRICE.times(3),
        oldest: Some(at(1_000)),
        newest: Some(at(3_000)),
    };
    assert_eq!(store.doubts(2).unwrap(), all);
    assert_eq!(store.doubts(0).unwrap(), Doubts { shown: Vec::new(), ..all });
}

#[test]
fn what_is_only_proposed_is_forgotten_and_a_selection_leaves_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let open = || Store::open(&path, &Owner::Simulator { seed: 1 }, Durability::Rehearsal, NOW).unwrap();
    let mut store = open();
    import(&mut store, &[("x", "a", 1), ("y", "b", 1)], STRICT);
    doubt(&mut store, 1, 10);
    doubt(&mut store, 2, 10);
    let first = Selection { limit: Some(1), ..Selection::default() };
    store.propose().unwrap();
    let retried = store.retry(&[Status::Unknown], &first, late(), TIMEOUT).unwrap();
    assert_eq!((retried.doubts, retried.too_young), (1, 0));
    assert_eq!(store.doubts(9).unwrap().count, 1, "it is seen by whoever proposes");
    drop(store);
    let mut store = open();
    assert_eq!(store.doubts(9).unwrap().count, 2, "nobody agreed");
    store.propose().unwrap();
    store.retry(&[Status::Unknown], &first, late(), TIMEOUT).unwrap();
    store.agree().unwrap();
    drop(store);
    let store = open();
    assert_eq!(store.doubts(9).unwrap().shown.iter().map(|doubt| doubt.line).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_callback_finds_what_is_in_doubt_or_put_back_from_it_or_was_refused() {
    let first = Attempt(1);
    let of = |store: &Store, sample| store.unsettled(SampleId(sample), first, PRICES).unwrap();
    let put_back = |store: &Store| of(store, 1).is_some_and(|found| found.taken_for == TakenFor::PutBack);
    for state in State::ALL.into_iter().filter(|state| *state != State::Invalid) {
        let mut store = with(&[("x", "a", 1)]);
        bring(&mut store, 1, state);
        let found = of(&store, 1);
        let given_up = matches!(state, State::TimedOut | State::Lost);
        let about_to = state == State::Submitting;
        assert_eq!(found.is_some(), state == State::Unknown || about_to || given_up, "{state}");
        let Some(Unsettled { entry, generation, taken_for }) = found else { continue };
        if about_to {
            assert_eq!((entry.attempts, taken_for), (0, TakenFor::Refused));
            continue;
        }
        if given_up {
            assert!(matches!(taken_for, TakenFor::GivenUp(as_what) if as_what.status == state.status()));
            continue;
        }
        assert_eq!((entry.sample, entry.attempts, taken_for), (SampleId(1), 1, TakenFor::Doubt));
        assert_eq!(entry.price, PRICES.of(generation.draft().mode));
        assert_eq!(store.unsettled(SampleId(1), Attempt(2), PRICES).unwrap(), None, "another attempt");
        assert_eq!(of(&store, 2), None, "no such sample");
        store.retry(&[Status::Unknown], &Selection::default(), late(), TIMEOUT).unwrap();
        assert!(put_back(&store));
        let task = TaskId::new("found").unwrap();
        let step = Transition::Found { task, attempt: first, put_back: true };
        store.commit(&[change(1, 200, step)]).unwrap();
        assert_eq!(of(&store, 1), None, "settled");
    }
    // About to be bought again.
    let mut store = with(&[("x", "a", 1)]);
    doubt(&mut store, 1, 5);
    store.retry(&[Status::Unknown], &Selection::default(), late(), TIMEOUT).unwrap();
    store.commit(&[change(1, 200, intended(2))]).unwrap();
    assert!(put_back(&store), "not accepted yet");
    store.commit(&[change(1, 201, Transition::Retracted)]).unwrap();
    assert!(put_back(&store), "not accepted, and so not bought again");
    assert_eq!(store.unsettled(SampleId(1), Attempt(3), PRICES).unwrap(), None, "nobody sent that");
    let second = store.unsettled(SampleId(1), Attempt(2), PRICES).unwrap().unwrap();
    assert_eq!((second.entry.attempts, second.taken_for), (1, TakenFor::Refused));
    // It can be bought by what the core says of it then.
    let task = TaskId::new("after all").unwrap();
    let accepted = Transition::Accepted { task, attempt: Attempt(2), cost: Usd::from_cents(20) };
    store.commit(&[change(1, 300, intended(2)), change(1, 300, accepted)]).unwrap();
    store.agree().unwrap();
    // The first is found after the second was refused.
    let mut store = with(&[("x", "a", 1)]);
    doubt(&mut store, 1, 5);
    store.retry(&[Status::Unknown], &Selection::default(), late(), TIMEOUT).unwrap();
    store.commit(&[change(1, 200, intended(2)), change(1, 201, Transition::Retracted)]).unwrap();
    let task = TaskId::new("found").unwrap();
    let found = Transition::Found { task, attempt: first, put_back: true };
    store.commit(&[change(1, 202, found)]).unwrap();
    store.agree().unwrap();
    assert_eq!(store.unsettled(SampleId(1), Attempt(2), PRICES).unwrap(), None, "not to be bought");
}
