//! What is saved where, and what is left to save.

use super::*;
use crate::store::{Files, Note, NoteOf, PutBack, SavedFile, Standing, ToSave};

/// Makes a video of `sample` at `at`, by a task of its own.
fn make(store: &mut Store, sample: i64, at: u64, urls: &[&str]) {
    let task = TaskId::new(&format!("t{sample}")).unwrap();
    let urls = urls.iter().map(|url| (*url).to_owned()).collect();
    let completed = UnixMillis(NOW.0 + i64::try_from(at).unwrap());
    let video = Outcome::Succeeded(Video { urls, created: Some(NOW), completed: Some(completed) });
    store
        .commit(&[
            change(sample, at, intended(1)),
            change(sample, at, Transition::Accepted { task, attempt: Attempt(1), cost: PRICE }),
            change(sample, at, ended(video, 1, Usd::ZERO)),
        ])
        .unwrap();
}

fn file(path: &str) -> SavedFile {
    SavedFile { path: path.to_owned(), bytes: 3, sha256: [7; 32] }
}

fn note(of: &ToSave, part: u32, what: NoteOf) -> Note {
    Note { task: of.task.clone(), part, at: NOW, what }
}

fn samples(found: &[ToSave]) -> Vec<i64> {
    found.iter().map(|to_save| to_save.sample.0).collect()
}

#[test]
fn what_is_made_is_handed_out_once_the_longest_made_first() {
    let mut store = with(&[("a", "a", 6)]);
    make(&mut store, 3, 10, &["u"]);
    make(&mut store, 1, 20, &["u"]);
    let mut files = store.files("/there").unwrap();
    assert_eq!(files.unsaved().unwrap(), 2);
    assert_eq!(samples(&files.next(1).unwrap()), [3]);
    assert_eq!(samples(&files.next(5).unwrap()), [1]);
    // At the stamp of the last, in a later commit, and with a smaller number.
    make(&mut store, 2, 20, &["u"]);
    make(&mut store, 4, 30, &["u"]);
    assert_eq!(samples(&files.next(5).unwrap()), [2, 4]);
    assert_eq!(samples(&files.next(5).unwrap()), Vec::<i64>::new());
    // Another process begins anew with what is not saved.
    assert_eq!(samples(&store.files("/there").unwrap().next(9).unwrap()), [3, 1, 2, 4]);
}

#[test]
fn each_video_of_a_task_is_known_at_each_destination() {
    let mut store = with(&[("a", "a", 2)]);
    make(&mut store, 1, 10, &["u1", "u2"]);
    let mut files = store.files("/there").unwrap();
    let all = |files: &mut Files| files.next(9).unwrap();
    let to_save = all(&mut files).remove(0);
    assert_eq!((&to_save.urls[..], to_save.parts.len()), (&["u1".to_owned(), "u2".to_owned()][..], 2));
    files
        .note(&[
            note(&to_save, 1, NoteOf::Saved(file("a.mp4"))),
            note(&to_save, 2, NoteOf::Placing(file("a.2.mp4"))),
        ])
        .unwrap();
    let again = all(&mut store.files("/there").unwrap()).remove(0);
    assert_eq!(again.parts, [Standing::Saved(file("a.mp4")), Standing::Placing(file("a.2.mp4"))]);
    assert_eq!(store.saved_files("t1").unwrap(), ["/there/a.mp4"]);
    let failed = note(&to_save, 2, NoteOf::Failed("no".into()));
    let links = NoteOf::Links { sample: SampleId(1), urls: vec!["new1".into(), "new2".into()] };
    files.note(&[failed, note(&to_save, 1, links)]).unwrap();
    let again = all(&mut store.files("/there").unwrap()).remove(0);
    // It could not be had, or only not described: what is known of it is looked for first.
    assert_eq!(again.parts, [Standing::Saved(file("a.mp4")), Standing::Placing(file("a.2.mp4"))]);
    assert_eq!(again.urls, ["new1", "new2"]);
    let there = &store.destinations().unwrap()[0];
    assert_eq!((&*there.address, there.files, there.bytes, there.failed), ("/there", 1, 3, 1));
    files.note(&[note(&to_save, 2, NoteOf::Saved(file("a.2.mp4")))]).unwrap();
    assert_eq!(files.unsaved().unwrap(), 0);
    // What counts as saved can be put back, and is known by its hash where a folder may have moved to.
    let saved = files.saved_after(None, 9).unwrap();
    assert_eq!(files.saved_after(saved.first(), 9).unwrap()[..], saved[1..]);
    files.put_back(&[(saved[0].clone(), PutBack::Lost), (saved[1].clone(), PutBack::Undescribed)]).unwrap();
    assert_eq!((files.unsaved().unwrap(), files.saved_after(None, 9).unwrap().len()), (1, 0));
    let again = all(&mut store.files("/there").unwrap()).remove(0);
    assert_eq!(again.parts, [Standing::Placing(file("a.mp4")), Standing::Undescribed(file("a.2.mp4"))]);
    let both = [(1, "a.mp4"), (2, "a.2.mp4")];
    files.note(&both.map(|(part, name)| note(&to_save, part, NoteOf::Saved(file(name))))).unwrap();
    let moved = all(&mut store.files("/moved").unwrap()).remove(0);
    assert_eq!(moved.parts, [Standing::Placing(file("a.mp4")), Standing::Placing(file("a.2.mp4"))]);
    assert_eq!(store.last_destination().unwrap().as_deref(), Some("/there"));
    // Elsewhere nothing is there; and the results name the newest copy of each.
    let mut elsewhere = store.files("s3://b/p/").unwrap();
    assert_eq!(elsewhere.unsaved().unwrap(), 1);
    let later = Note { at: UnixMillis(NOW.0 + 1), ..note(&to_save, 1, NoteOf::Saved(file("a.mp4"))) };
    elsewhere.note(&[later]).unwrap();
    let row = store.result(SampleId(1)).unwrap();
    assert_eq!(row.files, ["s3://b/p/a.mp4", "/there/a.2.mp4"]);
}

#[test]
fn a_row_that_comes_in_before_takes_no_file_away() {
    let mut store = with(&[("a", "a", 1)]);
    make(&mut store, 1, 10, &["u"]);
    let mut files = store.files("/there").unwrap();
    let to_save = files.next(1).unwrap().remove(0);
    files.note(&[note(&to_save, 1, NoteOf::Saved(file("a.mp4")))]).unwrap();
    drop(files);
    assert!(import(&mut store, &[("b", "b", 1), ("a", "a", 1)], STRICT).applied);
    assert_eq!(store.result(SampleId(2)).unwrap().files, ["/there/a.mp4"]);
    assert_eq!(store.files("/there").unwrap().unsaved().unwrap(), 0);
}

#[test]
fn links_that_end_soon_are_counted_until_they_are_saved() {
    let mut store = with(&[("a", "a", 3)]);
    make(&mut store, 1, 0, &["u"]);
    make(&mut store, 2, 3_600_000, &["u"]);
    let at = |hours: i64| UnixMillis(NOW.0 + hours * 3_600_000);
    let told = |store: &Store, hours| {
        let links = store.unsaved_links(at(hours)).unwrap();
        (links.samples, links.ending, links.oldest)
    };
    assert_eq!(told(&store, 17), (2, 0, Some(at(0))));
    assert_eq!(told(&store, 18), (2, 1, Some(at(0))));
    let mut files = store.files("/there").unwrap();
    let first = files.next(1).unwrap().remove(0);
    files.note(&[note(&first, 1, NoteOf::Saved(file("a.mp4")))]).unwrap();
    assert_eq!(told(&store, 18), (1, 0, Some(at(1))));
    assert_eq!(told(&store, 99), (1, 1, Some(at(1))));
}

#[test]
fn a_file_of_before_downloads_has_none() {
    let mut store = with(&[("a", "a", 1)]);
    make(&mut store, 1, 0, &["u"]);
    store.connection.execute_batch("DROP TABLE files; DROP TABLE destinations;").unwrap();
    assert!(store.saved_files("t1").unwrap().is_empty() && store.destinations().unwrap().is_empty());
    assert_eq!(store.unsaved_links(NOW).unwrap().samples, 1);
    assert!(store.result(SampleId(1)).unwrap().files.is_empty());
    assert_eq!(store.files("/there").unwrap().unsaved().unwrap(), 1);
}

#[test]
fn the_next_samples_are_found_by_their_index() {
    let store = with(&[("a", "a", 1)]);
    drop(store.files("/there").unwrap());
    let sql = "EXPLAIN QUERY PLAN SELECT s.id FROM samples s
               WHERE s.state = 'succeeded' AND s.ended >= ?1 AND s.removed = 0 ORDER BY s.ended, s.id LIMIT 9";
    // A plan alone does not find out that there is an index since the connection was made.
    let now = Store::read_only(store.path()).unwrap();
    let mut plan = now.connection.prepare(sql).unwrap();
    let plan: Vec<String> = plan.query_map([0], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert!(matches!(&plan[..], [only] if only.contains("made")), "{plan:?}");
}
