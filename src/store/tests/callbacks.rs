//! Addresses that outlive the process and the sheet.

use super::*;
use crate::callback::{Addresses, Inbox, TurnedAway};

fn url(store: &Store, sample: i64) -> String {
    let address = "https://hooks.example/veo".parse().unwrap();
    let addresses = Addresses::signed(address, store.callback_signer().unwrap());
    addresses.of(SampleId(sample), Attempt(1)).expose().to_owned()
}

/// The sample that a call to `url` is about.
fn called(store: &Store, url: &str) -> Result<SampleId, TurnedAway> {
    let inbox = Inbox::with_moved(store.callback_signer().unwrap(), store.moved_samples().unwrap());
    inbox.read(url, b"").map(|arrival| arrival.sample)
}

#[test]
fn an_address_means_the_same_sample_in_every_numbering() {
    let mut store = with(&[("x", "a", 1), ("y", "b", 2), ("z", "c", 1), ("r", "d", 1), ("s", "e", 1)]);
    bring(&mut store, 1, State::Succeeded);
    bring(&mut store, 2, State::Running);
    bring(&mut store, 3, State::Unknown);
    bring(&mut store, 4, State::Submitting);
    // Answered with a refusal, which need not be true.
    store.commit(&[change(5, 20, intended(1)), change(5, 21, Transition::Retracted)]).unwrap();
    let first: Vec<_> = (1..=6).map(|sample| url(&store, sample)).collect();
    assert_eq!(called(&store, &first[2]), Ok(SampleId(3)));
    // A row in front, one that goes, and the sheet read in twice.
    let rows = [("w", "new", 3), ("x", "a", 1), ("y", "b", 2), ("r", "d", 1), ("s", "e", 1)];
    assert!(import(&mut store, &rows, ACCEPT).applied);
    let second = url(&store, 5);
    assert_eq!(called(&store, &second), Ok(SampleId(5)));
    let rows: Vec<_> = std::iter::once(("v", "newer", 1)).chain(rows).collect();
    assert!(import(&mut store, &rows, ACCEPT).applied);
    let told: Vec<_> = first.iter().map(|url| called(&store, url)).collect();
    // `y` had two numbers before this one, and what is no longer in the sheet comes last.
    let gone = || Err(TurnedAway::Gone);
    let expected = [gone(), Ok(SampleId(6)), Ok(SampleId(7)), Ok(SampleId(10)), Ok(SampleId(8)), gone()];
    assert_eq!(told, expected);
    let refused = store.unsettled(SampleId(8), Attempt(1), PRICES).unwrap();
    assert!(refused.is_some_and(|found| found.taken_for == TakenFor::Refused));
    assert_eq!(called(&store, &second), Ok(SampleId(6)));
    assert_eq!(store.result(SampleId(6)).unwrap().status, Status::Pending);
    assert_eq!(store.result(SampleId(7)).unwrap().status, Status::Unknown);
    let kept = store.moved_samples().unwrap().len();
    assert_eq!(kept, 8, "four of each earlier numbering");
}

#[test]
fn each_state_file_has_a_secret_of_its_own() {
    let (one, other) = (with(&[("x", "a", 1)]), with(&[("x", "a", 1)]));
    assert_eq!(url(&one, 1), url(&one, 1));
    assert_eq!(called(&other, &url(&one, 1)), Err(TurnedAway::Forged));
}

#[test]
fn numbers_are_kept_only_where_addresses_were_given_away() {
    let mut store = with(&[("x", "a", 1)]);
    bring(&mut store, 1, State::Running);
    assert!(import(&mut store, &[("w", "b", 1), ("x", "a", 1)], STRICT).applied);
    assert!(store.moved_samples().unwrap().is_empty());
}
