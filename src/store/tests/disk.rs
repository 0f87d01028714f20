//! Full disks: a limit on the file's pages makes the database say what it says then.

use std::io;

use super::*;
use crate::store::writer::commit_where_there_is_room;

/// A disk that has room for no more pages than there are.
fn fill(store: &Store) {
    let pages: i64 = store.connection.query_row("PRAGMA page_count", (), |row| row.get(0)).unwrap();
    limit(store, pages);
}

fn limit(store: &Store, pages: i64) {
    store.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
}

/// An end that needs pages of its own.
fn long_end() -> Transition {
    let urls = vec!["https://v.example/long".repeat(1_000)];
    ended(Outcome::Succeeded(Video { urls, created: None, completed: None }), 1, Usd::ZERO)
}

fn running() -> Store {
    let mut store = with(&[("x", "a", 1), ("y", "b", 1)]);
    bring(&mut store, 1, State::Running);
    store
}

fn state_of(store: &Store, sample: i64) -> Status {
    store.result(SampleId(sample)).unwrap().status
}

#[test]
fn a_batch_that_finds_the_disk_full_goes_into_the_room_that_is_found() {
    let mut store = running();
    fill(&store);
    let batch = [change(2, 90, intended(1)), change(1, 90, long_end())];
    let full = commit_where_there_is_room(&mut store, &batch, |store| {
        assert_eq!((state_of(store, 1), store.in_doubt().unwrap()), (Status::Pending, 0), "half a batch");
        limit(store, 1_000_000);
    });
    assert!(full.unwrap().is_some_and(|error| error.is_for_want_of_room()));
    assert_eq!((state_of(&store, 1), store.in_doubt().unwrap()), (Status::Succeeded, 1));
    let next = commit_where_there_is_room(&mut store, &[change(2, 91, Transition::Retracted)], |_| panic!());
    assert!(next.unwrap().is_none());
}

#[test]
fn a_disk_without_any_room_keeps_nothing_of_the_batch_and_says_what_to_do() {
    let mut store = running();
    store.set_aside().unwrap();
    let reserve = crate::store::reserve::reserve_path(store.path());
    assert!(reserve.exists());
    fill(&store);
    let batch = [change(2, 90, intended(1)), change(1, 90, long_end())];
    let error = commit_where_there_is_room(&mut store, &batch, Store::find_room).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, WriterError::DiskFull { .. }), "{told}");
    assert!(told.contains("scratch.db") && told.contains("free some space"), "{told}");
    assert!(!reserve.exists(), "what was set aside is kept");
    assert_eq!((state_of(&store, 1), store.in_doubt().unwrap()), (Status::Pending, 0));
    limit(&store, 1_000_000);
    commit_where_there_is_room(&mut store, &batch, |_| panic!("a full disk again")).unwrap();
}

#[test]
fn what_is_no_full_disk_is_not_tried_again() {
    let mut store = running();
    let illegal = [change(1, 90, intended(2))];
    let refused = commit_where_there_is_room(&mut store, &illegal, |_| panic!("room was looked for"));
    assert!(matches!(refused, Err(WriterError::Store(StoreError::IllegalTransition { .. }))));
}

/// Cannot be written, and counts how often that was tried.
#[derive(Debug, Default)]
struct Stuck(u32);

#[derive(Debug, thiserror::Error)]
#[error("cannot write the results to r.csv")]
struct StuckError(#[source] io::Error);

impl Follower for Stuck {
    type Error = StuckError;
    fn follow(&mut self, _: &Store, _: &[SampleId]) -> Result<(), StuckError> {
        self.0 += 1;
        Err(StuckError(io::ErrorKind::StorageFull.into()))
    }
}

#[tokio::test]
async fn a_follower_that_fails_is_told_once_left_alone_and_keeps_nothing_from_being_durable() {
    let mut writer = Writer::inline(with(&[("x", "a", 1), ("y", "b", 1)]), Some(Stuck::default()));
    let mut troubles = Vec::new();
    for sample in [1, 2] {
        for (step, at) in road_to(State::Succeeded).into_iter().zip(1..) {
            troubles.extend(writer.commit(vec![change(sample, at, step)]).await.unwrap().trouble);
        }
    }
    let troubles: Vec<_> = troubles.iter().map(ToString::to_string).collect();
    assert_eq!(troubles, ["cannot write the results to r.csv: no storage space"]);
    let (store, follower) = writer.finish().unwrap();
    assert_eq!(follower.unwrap().0, 1);
    assert_eq!([1, 2].map(|sample| state_of(&store, sample)), [Status::Succeeded; 2]);
}

#[test]
fn the_log_is_emptied_and_kept_short_when_room_is_wanted() {
    let mut store = running();
    let log = store.path().with_file_name("scratch.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    assert!(length() > 0);
    store.find_room();
    assert_eq!(length(), 0);
    let pages: i64 = store.connection.query_row("PRAGMA wal_autocheckpoint", (), |row| row.get(0)).unwrap();
    assert_eq!(pages, 256);
    assert_eq!(state_of(&store, 1), Status::Pending);
}
