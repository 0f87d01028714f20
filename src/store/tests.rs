mod doubts;

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::generation::{AspectRatio, Draft, Generation, GenerationType, Mode, PriceList};
use crate::job::{Attempt, Failure, FailureKind, Outcome, SampleId, Status, TaskId, Usd, Video};
use crate::manifest::{Adjusted, Entry, Problem, Record};
use crate::schedule::{Change, Restored, Stored, Transition};

mod anchor;
mod callbacks;
mod disk;
mod files;
mod names;

const PRICES: PriceList = PriceList::VENDOR;
const PRICE: Usd = Usd::from_cents(20);
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A sheet made of values.
#[derive(Clone, Default)]
struct Rows {
    records: std::collections::VecDeque<Record>,
    blank: u64,
}

impl Iterator for Rows {
    type Item = Result<Record, Infallible>;
    fn next(&mut self) -> Option<Self::Item> {
        self.records.pop_front().map(Ok)
    }
}

impl Sheet for Rows {
    type Error = Infallible;
    fn columns(&self) -> Vec<String> {
        ["Name", "prompt"].map(str::to_owned).to_vec()
    }
    fn bound_columns(&self) -> Vec<usize> {
        vec![0, 1]
    }
    fn id_column(&self) -> Option<String> {
        Some("Name".to_owned())
    }
    fn fingerprint(&self) -> [u8; 32] {
        [9; 32]
    }
    fn blank_rows(&self) -> u64 {
        self.blank
    }
}

fn generation(prompt: &str) -> Generation {
    let draft = Draft {
        prompt: prompt.to_owned(),
        generation_type: GenerationType::Text,
        mode: Mode::Fast,
        aspect_ratio: AspectRatio::Landscape,
        image_urls: Vec::new(),
        seed: Some(5),
        watermark: None,
        provider: None,
    };
    draft.check().unwrap()
}

/// A sheet of (id or nothing, prompt, samples); a prompt of `!` is a bad row.
fn sheet(rows: &[(&str, &str, u32)]) -> Rows {
    let records = rows.iter().zip(2..).map(|((id, prompt, samples), line)| Record {
        line,
        fields: vec![(*id).to_owned(), (*prompt).to_owned()],
        entry: if *prompt == "!" {
            Err(vec![Problem {
                line,
                place: None,
                column: None,
                what: "bad".to_owned(),
                mend: "mend it".to_owned(),
            }])
        } else {
            Ok(Entry {
                id: Some((*id).to_owned()).filter(|id| !id.is_empty()),
                samples: NonZeroU32::new(*samples).unwrap(),
                generation: generation(prompt),
            })
        },
        adjusted: Adjusted::default(),
    });
    Rows { records: records.collect(), blank: 1 }
}

const STRICT: ImportOptions = ImportOptions { skip_invalid: false, accept_changes: false };
const SKIP: ImportOptions = ImportOptions { skip_invalid: true, accept_changes: false };
const ACCEPT: ImportOptions = ImportOptions { skip_invalid: false, accept_changes: true };

fn import(store: &mut Store, rows: &[(&str, &str, u32)], options: ImportOptions) -> Import {
    store.import(sheet(rows), &options).unwrap()
}

fn with(rows: &[(&str, &str, u32)]) -> Store {
    let mut store = Store::scratch().unwrap();
    assert!(import(&mut store, rows, STRICT).applied);
    store
}

fn change(sample: i64, at: u64, transition: Transition) -> Change {
    Change { sample: SampleId(sample), at: Stamp::from_millis(at), transition }
}

fn failure() -> Failure {
    Failure::new(FailureKind::Transient, Some("E"), "it broke")
}

fn intended(attempt: u32) -> Transition {
    Transition::Intended(Attempt(attempt))
}

fn found(attempt: u32) -> Transition {
    let task = TaskId::new(&format!("task_{attempt}")).unwrap();
    Transition::Found { task, attempt: Attempt(attempt), put_back: false }
}

fn accepted(attempt: u32) -> Transition {
    let task = TaskId::new(&format!("task_{attempt}")).unwrap();
    Transition::Accepted { task, attempt: Attempt(attempt), cost: PRICE }
}

fn deferred() -> Transition {
    Transition::Deferred { not_before: Stamp::from_millis(77), paid_retries: 1, failure: failure() }
}

fn ended(outcome: Outcome, attempts: u32, cost: Usd) -> Transition {
    Transition::Ended { outcome, attempts, cost }
}

fn video() -> Outcome {
    let urls = vec!["https://v.example/1.mp4".to_owned()];
    Outcome::Succeeded(Video { urls, created: Some(NOW), completed: Some(UnixMillis(NOW.0 + 93_500)) })
}

/// The steps that bring a fresh sample into `state`.
fn road_to(state: State) -> Vec<Transition> {
    let task = |outcome| vec![intended(1), accepted(1), ended(outcome, 1, Usd::ZERO)];
    match state {
        State::Ready | State::Invalid => vec![],
        State::Submitting => vec![intended(1)],
        State::Running => vec![intended(1), accepted(1)],
        State::Succeeded => task(video()),
        State::Failed => task(Outcome::Failed(failure())),
        State::TimedOut => task(Outcome::TimedOut(failure())),
        State::Lost => task(Outcome::Lost(failure())),
        State::Rejected => vec![intended(1), ended(Outcome::Rejected(failure()), 0, Usd::ZERO)],
        State::Unknown => vec![intended(1), ended(Outcome::Unknown(failure()), 1, PRICE)],
    }
}

fn bring(store: &mut Store, sample: i64, state: State) {
    let steps = road_to(state).into_iter().zip(10..).map(|(step, at)| change(sample, at, step));
    store.commit(&steps.collect::<Vec<_>>()).unwrap();
}

/// (line, index, status, attempts) of the rows a filter wants.
fn rows(store: &Store, removed: bool) -> Vec<(u64, u32, &'static str, u32)> {
    let filter = ResultFilter { removed, ..ResultFilter::default() };
    let mut seen = Vec::new();
    let all = store.for_each_result::<StoreError>(&filter, |row| {
        seen.push((row.line, row.index, row.status.as_str(), row.attempts));
        std::ops::ControlFlow::Continue(())
    });
    all.unwrap();
    seen
}

fn ready(store: &Store, selection: &Selection) -> Vec<(i64, String, Option<u64>)> {
    store
        .cursor(selection, PRICES)
        .unwrap()
        .map(|sample| sample.unwrap())
        .map(|(entry, generation)| {
            assert_eq!(entry.price, PRICE);
            (entry.sample.0, generation.draft().prompt.clone(), generation.draft().seed)
        })
        .collect()
}

#[test]
fn a_sheet_becomes_samples_in_its_order() {
    let mut store = Store::scratch().unwrap();
    let told = import(&mut store, &[("", "a", 2), ("x", "b", 1), ("", "a", 1)], STRICT);
    assert_eq!((told.rows, told.samples, told.blank_rows, told.applied), (3, 4, 1, true));
    let all: Vec<_> = [(1, "a", 5), (2, "a", 6), (3, "b", 5), (4, "a", 5)]
        .map(|(id, p, s)| (id, p.to_owned(), Some(s)))
        .into();
    assert_eq!(ready(&store, &Selection::default()), all);
    assert_eq!(store.imported().unwrap(), Some(([9; 32], false)));
    assert_eq!(store.columns().unwrap(), ["Name", "prompt"]);
    let plan = store.plan(&Selection::default(), PRICES).unwrap();
    assert_eq!((plan.len(), plan[0].samples, plan[0].cost), (1, 4, PRICE.times(4)));
    let mut seeds = Vec::new();
    store.requests(|generation| seeds.push(generation.draft().seed.unwrap())).unwrap();
    assert_eq!(seeds, [5, 6, 5, 5]);
    assert!(store.uses_samples(false).unwrap());
}

#[test]
fn parts_of_a_sheet() {
    let store = with(&[("x", "a", 2), ("y", "b", 1), ("x2", "b", 1)]);
    let part = |limit, filters: &[(&str, &str)]| Selection {
        limit,
        filters: filters.iter().map(|(c, t)| ((*c).to_owned(), (*t).to_owned())).collect(),
    };
    for (selection, ids) in [
        (part(Some(1), &[]), vec![1, 2]),
        (part(None, &[("prompt", "b")]), vec![3, 4]),
        (part(Some(2), &[("PROMPT", "b")]), vec![3]),
        (part(None, &[("prompt", "b"), ("Name", "x2")]), vec![4]),
        (part(None, &[("prompt", "c")]), vec![]),
    ] {
        let found: Vec<_> = ready(&store, &selection).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(found, ids, "{selection:?}");
        assert_eq!(store.tally(&selection).unwrap().total(), ids.len() as u64, "{selection:?}");
    }
    let told = store.cursor(&part(None, &[("colour", "red")]), PRICES).unwrap_err().to_string();
    assert_eq!(told, "the sheet has no column `colour`; it has: Name, prompt");
}

#[test]
fn bad_rows_and_duplicate_ids_stop_an_import_or_become_invalid() {
    let bad = [("x", "a", 1), ("", "!", 1), ("x", "b", 3), ("x", "c", 1)];
    let mut store = Store::scratch().unwrap();
    let told = import(&mut store, &bad, STRICT);
    assert_eq!((told.invalid_rows, told.problem_count, told.samples, told.applied), (3, 3, 1, false));
    let texts: Vec<_> = told.problems.iter().map(ToString::to_string).collect();
    let mend = "make ids unique, or remove one of the rows";
    assert_eq!(
        texts,
        [
            "line 3: bad: mend it".to_owned(),
            format!("line 4, column Name: `x` is also the id of line 2: {mend}"),
            format!("line 5, column Name: `x` is also the id of line 2: {mend}"),
        ]
    );
    assert_eq!(store.imported().unwrap(), None);
    assert!(rows(&store, false).is_empty());

    assert!(import(&mut store, &bad, SKIP).applied);
    let invalid = |line| (line, 0, "invalid", 0);
    assert_eq!(rows(&store, false), [(2, 0, "pending", 0), invalid(3), invalid(4), invalid(5)]);
    assert_eq!(store.imported().unwrap(), Some(([9; 32], true)));
    let row = store.result(SampleId(3)).unwrap();
    assert_eq!(row.failure.unwrap().message, texts[1]);

    let many = vec![("", "!", 1); 50];
    let told = import(&mut store, &many, STRICT);
    assert_eq!((told.problems.len(), told.problem_count), (PROBLEMS_SHOWN, 50));
    assert_eq!(store.tally(&Selection::default()).unwrap().total(), 4, "the old sheet stands");
}

#[test]
fn a_sample_follows_its_row_about() {
    let mut store = with(&[("", "a", 1), ("", "b", 1), ("x", "c", 1), ("", "a", 1)]);
    bring(&mut store, 1, State::Succeeded);
    bring(&mut store, 2, State::Failed);
    bring(&mut store, 3, State::Running);
    let told = import(&mut store, &[("x", "c", 1), ("", "n", 1), ("", "b", 1), ("", "a", 2)], STRICT);
    // The second `a` had nothing bought: it vanishes, and a second sample of the first is new.
    assert!(told.applied);
    assert_eq!(
        rows(&store, false),
        [
            (2, 0, "pending", 1),
            (3, 0, "pending", 0),
            (4, 0, "failed", 1),
            (5, 0, "succeeded", 1),
            (5, 1, "pending", 0),
        ]
    );
    assert!(rows(&store, true).is_empty());
    assert_eq!(store.spending().unwrap(), PRICE.times(3));
    assert_eq!(store.restore(PRICES).unwrap().len(), 1);
}

#[test]
fn an_edited_row_with_an_id_by_state() {
    for state in State::ALL.into_iter().filter(|state| *state != State::Invalid) {
        let mut store = with(&[("x", "a", 1), ("y", "b", 1)]);
        bring(&mut store, 1, state);
        let (before, spent) = (rows(&store, false)[0], store.spending().unwrap());
        let edited = [("x", "A", 1), ("y", "b", 1)];
        let told = import(&mut store, &edited, STRICT);
        if !state.is_bought_or_in_doubt() {
            assert!(told.applied, "{state}");
            assert_eq!(rows(&store, false)[0], (2, 0, "pending", before.3), "{state}");
            assert!(rows(&store, true).is_empty(), "{state}");
            assert_eq!(ready(&store, &Selection::default())[0].1, "A", "{state}");
            assert_eq!(store.spending().unwrap(), spent, "{state}");
            continue;
        }
        assert!(!told.applied, "{state}");
        assert_eq!(
            told.differences,
            Differences { edited: 1, removed: 0, samples: 1, cost: spent },
            "{state}"
        );
        assert_eq!(rows(&store, false)[0], before, "{state}");

        assert!(import(&mut store, &edited, ACCEPT).applied, "{state}");
        assert_eq!(rows(&store, false)[0], (2, 0, "pending", 0), "{state}");
        assert_eq!(rows(&store, true), [before], "{state}");
        assert_eq!(store.spending().unwrap(), spent, "{state}");
        let watched = store.restore(PRICES).unwrap();
        for (Restored { entry, .. }, generation) in &watched {
            assert_eq!((entry.paid_retries, generation.draft().prompt.as_str()), (u32::MAX, "a"), "{state}");
        }
        // What was bought comes back with the old request, and nothing is bought again.
        assert!(import(&mut store, &[("x", "a", 1), ("y", "b", 1)], STRICT).applied, "{state}");
        assert_eq!(rows(&store, false)[0], before, "{state}");
        assert!(rows(&store, true).is_empty(), "{state}");
    }
}

#[test]
fn rows_that_go_by_state() {
    for state in State::ALL.into_iter().filter(|state| *state != State::Invalid) {
        let mut store = with(&[("", "a", 2), ("", "b", 1)]);
        bring(&mut store, 2, state);
        let spent = store.spending().unwrap();
        let bought = state.is_bought_or_in_doubt();
        let told = import(&mut store, &[("", "a", 1), ("", "b", 1)], STRICT);
        assert_eq!(told.applied, !bought, "{state}");
        let removed = u64::from(bought);
        let cost = if bought { spent } else { Usd::ZERO };
        assert_eq!(told.differences, Differences { edited: 0, removed, samples: removed, cost }, "{state}");
        assert!(import(&mut store, &[("", "b", 1)], ACCEPT).applied, "{state}");
        assert_eq!(rows(&store, false), [(2, 0, "pending", 0)], "{state}");
        assert_eq!(rows(&store, true).len(), usize::from(bought || spent > Usd::ZERO), "{state}");
        assert_eq!(store.spending().unwrap(), spent, "{state}");
    }
}

#[test]
fn every_step_from_every_state() {
    let steps = [
        ("intended", intended(2)),
        ("retracted", Transition::Retracted),
        ("accepted", accepted(1)),
        ("found", found(1)),
        ("deferred", deferred()),
        ("succeeded", ended(video(), 1, Usd::ZERO)),
        ("failed", ended(Outcome::Failed(failure()), 1, Usd::ZERO)),
        ("timed_out", ended(Outcome::TimedOut(failure()), 1, Usd::ZERO)),
        ("lost", ended(Outcome::Lost(failure()), 1, Usd::ZERO)),
        ("rejected", ended(Outcome::Rejected(failure()), 0, Usd::ZERO)),
        ("unknown", ended(Outcome::Unknown(failure()), 1, PRICE)),
    ];
    let allowed = |state| -> &[&str] {
        match state {
            State::Ready => &["intended"],
            State::Submitting => &["retracted", "accepted", "rejected", "unknown"],
            State::Running | State::TimedOut => &["deferred", "succeeded", "failed", "timed_out", "lost"],
            State::Unknown => &["found"],
            State::Lost => &["succeeded"],
            State::Succeeded | State::Failed | State::Rejected | State::Invalid => &[],
        }
    };
    for state in State::ALL {
        let mut passed = Vec::new();
        for (name, step) in &steps {
            let mut store = Store::scratch().unwrap();
            let bad = if state == State::Invalid { "!" } else { "a" };
            assert!(import(&mut store, &[("x", bad, 1), ("y", "b", 1)], SKIP).applied);
            bring(&mut store, 1, state);
            let before = store.result(SampleId(1)).unwrap();
            match store.commit(&[change(2, 50, intended(1)), change(1, 50, step.clone())]) {
                Ok(()) => passed.push(*name),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.starts_with("line 2, sample 0: going"), "{text}");
                    assert!(text.ends_with(&format!("is not possible in state {state}")), "{text}");
                    assert_eq!(store.result(SampleId(1)).unwrap(), before);
                    assert_eq!(
                        store.in_doubt().unwrap(),
                        u64::from(matches!(state, State::Submitting | State::Unknown)),
                        "all or none"
                    );
                }
            }
        }
        assert_eq!(passed, allowed(state), "{state}");
    }
}

#[test]
fn money_attempts_and_times() {
    let mut store = with(&[("x", "a", 1)]);
    let at = |millis| NOW.at(Stamp::from_millis(millis)).0 - NOW.0;
    let row = |store: &Store| store.result(SampleId(1)).unwrap();
    let commit = |store: &mut Store, time, step| store.commit(&[change(1, time, step)]).unwrap();
    commit(&mut store, 10, intended(1));
    commit(&mut store, 11, Transition::Retracted);
    assert_eq!((row(&store).attempts, row(&store).submitted), (0, None));
    commit(&mut store, 20, intended(1));
    commit(&mut store, 30, accepted(1));
    assert_eq!(row(&store).task.as_deref(), Some("task_1"));
    commit(&mut store, 40, deferred());
    let (entry, _) = store.cursor(&Selection::default(), PRICES).unwrap().next().unwrap().unwrap();
    assert_eq!((entry.attempts, entry.paid_retries, entry.not_before.as_millis()), (1, 1, 77));
    assert_eq!((row(&store).task, row(&store).failure), (None, None));
    commit(&mut store, 50, intended(2));
    commit(&mut store, 60, ended(Outcome::Unknown(failure()), 2, PRICE));
    assert_eq!(store.spending().unwrap(), PRICE.times(2));
    commit(&mut store, 70, found(2));
    commit(&mut store, 90, ended(video(), 2, Usd::ZERO));
    let done = row(&store);
    assert_eq!((done.attempts, done.cost, done.submitted.unwrap().0), (2, PRICE.times(2), at(50)));
    assert_eq!(done.completed, Some(UnixMillis(NOW.0 + 93_500)));
    assert_eq!(done.generation_time.unwrap().as_millis(), 93_500);
    assert!((90..=1_090).contains(&store.last_stamp().unwrap().as_millis()));
    assert!(matches!(store.commit(&[change(9, 1, intended(1))]), Err(StoreError::NoSuchSample(SampleId(9)))));
}

#[test]
fn a_state_file_knows_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let key = |secret: u8| move |salt: &[u8; 32]| *blake3::keyed_hash(salt, &[secret]).as_bytes();
    let (mine, other) = (key(1), key(2));
    let api = |base_url, key| Owner::Api { base_url, key };
    let open = |owner: &Owner<'_>| Store::open(&path, owner, Durability::Full, NOW).map(drop);
    // A file with nothing bought in it goes to whoever comes with another key.
    open(&api("https://a.example", &other)).unwrap();
    open(&api("https://a.example", &mine)).unwrap();
    let mut store = Store::open(&path, &api("https://a.example", &mine), Durability::Full, NOW).unwrap();
    assert!(import(&mut store, &[("a", "cat", 1)], STRICT).applied);
    store.commit(&[change(1, 1, intended(1))]).unwrap();
    drop(store);
    for (owner, words) in [
        (api("https://a.example", &other), "belongs to another key of https://a.example, not to this key"),
        (api("https://b.example", &mine), "belongs to https://a.example, not to https://b.example"),
        (Owner::Simulator { seed: 3 }, "belongs to https://a.example, not to the simulator with seed 3"),
    ] {
        let told = open(&owner).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
    let path = folder.path().join("b.db");
    let open = |seed| Store::open(&path, &Owner::Simulator { seed }, Durability::Rehearsal, NOW).map(drop);
    open(u64::MAX).unwrap();
    open(u64::MAX).unwrap();
    assert!(open(1).unwrap_err().to_string().contains(&format!("seed {}", u64::MAX)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no passing files are left");
}

#[test]
fn a_file_that_names_no_key_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let key = |salt: &[u8; 32]| *blake3::keyed_hash(salt, b"mine").as_bytes();
    let owner = Owner::Api { base_url: "https://a.example", key: &key };
    for lost in ["name = 'salt'", "name = 'key_fingerprint'", "name IN ('salt', 'key_fingerprint')"] {
        let path = folder.path().join("a.db");
        let store = Store::open(&path, &owner, Durability::Full, NOW).unwrap();
        store.connection.execute(&format!("DELETE FROM meta WHERE {lost}"), ()).unwrap();
        assert!(matches!(store.check_owner(&owner), Err(StoreError::Broken { .. })), "{lost}");
        drop(store);
        let told = Store::open(&path, &owner, Durability::Full, NOW).unwrap_err().to_string();
        assert!(told.contains("does not say which key it belongs to"), "{lost}: {told}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn foreign_and_future_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let owner = Owner::Simulator { seed: 0 };
    let path = folder.path().join("x.db");
    let refused = |words: &str| {
        let before = std::fs::read(&path).unwrap();
        for told in [Store::open(&path, &owner, Durability::Full, NOW), Store::read_only(&path)] {
            let told = told.unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    };
    std::fs::write(&path, "prompt\na cat\n").unwrap();
    refused("is not a batchveo state file");
    std::fs::write(&path, "").unwrap();
    refused("is not a batchveo state file");
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    refused("is not a batchveo state file");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Store::read_only(&path), Err(StoreError::Missing { .. })));
    let store = Store::open(&path, &owner, Durability::Full, NOW).unwrap();
    drop(store);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
    refused("schema version 2");
}

#[test]
fn a_file_of_before_bindings_were_stored_goes_by_names() {
    let store = with(&[("x", "a", 1)]);
    let passed = || store.columns_of(false, Cells::PassedThrough).unwrap();
    assert!(passed().is_empty(), "the sheet says that both give a field");
    store.connection.execute("DELETE FROM meta WHERE name = 'bound_columns'", ()).unwrap();
    assert_eq!(passed(), ["Name"]);
}

#[test]
fn a_reader_sees_a_run_go_on() {
    let mut store = with(&[("x", "a", 1)]);
    let reader = Store::read_only(store.path()).unwrap();
    bring(&mut store, 1, State::Succeeded);
    assert_eq!(reader.tally(&Selection::default()).unwrap().count(Status::Succeeded), 1);
    assert_eq!(reader.birth(), store.birth());
    let outcomes = reader.outcomes(&Selection::default()).unwrap();
    assert_eq!(outcomes, [OutcomeCount { status: Status::Succeeded, kind: None, samples: 1 }]);
}

#[test]
fn a_stored_state_that_cannot_be_is_named() {
    let mut store = with(&[("x", "a", 1)]);
    bring(&mut store, 1, State::Running);
    store.connection.execute("UPDATE samples SET task = NULL", ()).unwrap();
    let told = store.restore(PRICES).unwrap_err().to_string();
    assert_eq!(told, "the state file is damaged at line 2, sample 0: running without a task id");
}

#[test]
fn a_large_sheet_takes_little_memory() {
    let mut store = Store::scratch().unwrap();
    let prompts: Vec<String> =
        (0..100_000).map(|n| format!("prompt {n} {}", "and more ".repeat(10))).collect();
    let large: Vec<_> = prompts.iter().map(|prompt| ("", prompt.as_str(), 1)).collect();
    assert_eq!(import(&mut store, &large, STRICT).samples, 100_000);
    assert!(std::fs::metadata(store.path()).unwrap().len() > 30_000_000);
    let cache: i64 = store.connection.query_one("PRAGMA cache_size", (), |row| row.get(0)).unwrap();
    assert_eq!(cache, -i64::from(schema::PAGE_CACHE_KIB));
    let mut cursor = store.cursor(&Selection::default(), PRICES).unwrap();
    // In manifest order without sorting: a sorter would hold the sheet.
    let mut explain = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {}", cursor.sql)).unwrap();
    let steps = explain.query_map([0, 0], |row| row.get::<_, String>(3)).unwrap();
    let steps: Vec<_> = steps.map(|step| step.unwrap()).collect();
    assert!(!steps.is_empty() && steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
    assert!((1..=100_000).all(|id| cursor.next().unwrap().unwrap().0.sample == SampleId(id)));
    assert!(cursor.next().is_none());
}

#[test]
fn the_queue_ends_with_its_receiver_or_its_rows() {
    let prompts: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let large: Vec<_> = prompts.iter().map(|prompt| ("", prompt.as_str(), 1)).collect();
    let store = with(&large);
    let cursor = || store.cursor(&Selection::default(), PRICES).unwrap();
    let mut queue = spawn_queue(cursor()).unwrap();
    let mut seen = 0;
    while let Some(sample) = queue.blocking_recv() {
        seen += 1;
        assert_eq!(sample.unwrap().0.sample, SampleId(seen));
    }
    assert_eq!(seen, 2_000);
    let mut queue = spawn_queue(cursor()).unwrap();
    assert!(queue.blocking_recv().is_some());
    assert!(queue.len() <= QUEUE_LENGTH);
}

/// Notes what it is told.
#[derive(Debug, Default)]
struct Notes(Vec<SampleId>);

impl Follower for Notes {
    type Error = StoreError;
    fn follow(&mut self, store: &Store, ended: &[SampleId]) -> Result<(), StoreError> {
        for sample in ended {
            assert_ne!(store.result(*sample)?.status, Status::Pending, "told before it was durable");
        }
        self.0.extend(ended);
        Ok(())
    }
}

#[tokio::test]
async fn writers_on_a_thread_and_in_place_do_the_same() {
    for inline in [false, true] {
        let store = with(&[("x", "a", 1), ("y", "b", 1)]);
        let notes = Some(Notes::default());
        let mut writer =
            if inline { Writer::inline(store, notes) } else { Writer::spawn(store, notes).unwrap() };
        for (step, at) in road_to(State::Succeeded).into_iter().zip(1..) {
            let batch = vec![change(2, at, step)];
            let committed = writer.commit(batch.clone()).await.unwrap();
            assert!(committed.changes == batch && committed.trouble.is_none(), "{committed:?}");
        }
        let refused = writer.commit(vec![change(2, 9, intended(2))]).await;
        assert!(matches!(refused, Err(WriterError::Store(StoreError::IllegalTransition { .. }))));
        drop(writer.commit(vec![change(1, 9, intended(1))]));
        let (store, notes) = writer.finish().unwrap();
        assert_eq!(notes.unwrap().0, [SampleId(2)]);
        assert_eq!(store.in_doubt().unwrap(), 1, "an unawaited batch stands");
    }
}

/// What a model of one sample knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    state: State,
    attempts: u32,
    cost: Usd,
}

/// A step that `model` allows, picked by `choice`, and what it makes of it.
fn legal(model: Model, choice: u8) -> Option<(Transition, Model)> {
    let Model { state, attempts, cost } = model;
    let next = |state, attempts, cost| Model { state, attempts, cost };
    let end = |outcome: Outcome, state| (ended(outcome, attempts, Usd::ZERO), next(state, attempts, cost));
    match state {
        State::Ready => Some((intended(attempts + 1), next(State::Submitting, attempts, cost))),
        State::Submitting => Some(match choice % 4 {
            0 => (Transition::Retracted, next(State::Ready, attempts, cost)),
            1 => end(Outcome::Rejected(failure()), State::Rejected),
            2 => {
                let doubt = ended(Outcome::Unknown(failure()), attempts + 1, PRICE);
                (doubt, next(State::Unknown, attempts + 1, cost + PRICE))
            }
            _ => (accepted(attempts + 1), next(State::Running, attempts + 1, cost + PRICE)),
        }),
        State::Running | State::TimedOut => Some(match choice % 5 {
            0 => (deferred(), next(State::Ready, attempts, cost)),
            1 => end(video(), State::Succeeded),
            2 => end(Outcome::Failed(failure()), State::Failed),
            3 => end(Outcome::Lost(failure()), State::Lost),
            _ => end(Outcome::TimedOut(failure()), State::TimedOut),
        }),
        State::Unknown => Some((found(attempts), next(State::Running, attempts, cost))),
        State::Succeeded | State::Failed | State::Rejected | State::Lost | State::Invalid => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random legal stories, with a crash after any commit: what is opened again is the model.
    #[test]
    fn a_crash_after_any_commit_loses_nothing(
        story in prop::collection::vec((prop::collection::vec((0..6_i64, any::<u8>()), 1..8), any::<bool>()), 1..20),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let open = || Store::open(&path, &Owner::Simulator { seed: 1 }, Durability::Rehearsal, NOW).unwrap();
        let mut store = open();
        import(&mut store, &[("", "a", 3), ("", "b", 3)], STRICT);
        let fresh = Model { state: State::Ready, attempts: 0, cost: Usd::ZERO };
        let mut model: HashMap<i64, Model> = (1..=6).map(|id| (id, fresh)).collect();
        let mut at = 0;
        for (steps, crash) in story {
            let mut batch = Vec::new();
            for (sample, choice) in steps {
                let sample = sample + 1;
                if let Some((step, after)) = legal(model[&sample], choice) {
                    at += 1;
                    batch.push(change(sample, at, step));
                    model.insert(sample, after);
                }
            }
            store.commit(&batch).unwrap();
            if crash {
                drop(store);
                store = open();
            }
            prop_assert!(at == 0 || (at..=at + 1_000).contains(&store.last_stamp().unwrap().as_millis()));
            let total = model.values().fold(Usd::ZERO, |sum, sample| sum + sample.cost);
            prop_assert_eq!(store.spending().unwrap(), total);
            let ids = |wanted: &dyn Fn(State) -> bool| {
                let mut ids: Vec<_> = model.iter().filter(|(_, m)| wanted(m.state)).map(|(id, _)| *id).collect();
                ids.sort_unstable();
                ids
            };
            let waiting: Vec<_> = ready(&store, &Selection::default()).into_iter().map(|(id, ..)| id).collect();
            prop_assert_eq!(waiting, ids(&|state| state == State::Ready));
            let restored = store.restore(PRICES).unwrap();
            let watched: Vec<_> = restored.iter().map(|(restored, _)| restored.entry.sample.0).collect();
            let is_watched = |state| matches!(state, State::Submitting | State::Running | State::TimedOut | State::Unknown);
            prop_assert_eq!(watched, ids(&is_watched));
            for (Restored { entry, stored }, _) in restored {
                let Model { state, attempts, .. } = model[&entry.sample.0];
                prop_assert_eq!(entry.attempts, attempts);
                let found = match stored {
                    Stored::Submitting { .. } => State::Submitting,
                    Stored::Running { .. } => State::Running,
                    Stored::TimedOut { .. } => State::TimedOut,
                    Stored::InDoubt { .. } => State::Unknown,
                };
                prop_assert_eq!(found, state);
            }
            for (id, expected) in &model {
                let row = store.result(SampleId(*id)).unwrap();
                prop_assert_eq!((row.status, row.attempts, row.cost), (expected.state.status(), expected.attempts, expected.cost));
            }
        }
    }
}
