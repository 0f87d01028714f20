use super::*;
use crate::names::{FileSystem, Longest, NameRule, Style};

fn rule(template: &str, style: Style) -> NameRule {
    NameRule { template: Some(template.parse().unwrap()), style }
}

fn disk() -> FileSystem {
    FileSystem { longest: Longest::Bytes(255), ..FileSystem::bucket("") }
}

fn assign(store: &mut Store, template: &str, style: Style) -> Naming {
    store.assign_names(&rule(template, style), &disk()).unwrap()
}

/// The names of the samples of the sheet, and behind them of those no longer in it.
fn names(store: &Store) -> Vec<Option<String>> {
    let all = rows(store, false).len() + rows(store, true).len();
    (1..=i64::try_from(all).unwrap()).map(|sample| store.name_of(SampleId(sample)).unwrap()).collect()
}

fn shown(store: &Store) -> String {
    names(store).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_row_that_comes_in_between_renames_nothing_bought() {
    let mut store = with(&[("a", "one", 1), ("b", "two", 2), ("c", "three", 1)]);
    let named = assign(&mut store, "{row}-{id}-{sample}", Style::Portable);
    assert_eq!((named.samples, named.kept, named.first.len()), (4, 0, 3));
    assert_eq!(shown(&store), "1-a-0 2-b-0 2-b-1 3-c-0");
    bring(&mut store, 3, State::Running);
    import(&mut store, &[("new", "zero", 1), ("a", "one", 1), ("b", "two", 2), ("c", "three", 1)], STRICT);
    assert_eq!(store.name_of(SampleId(4)).unwrap().as_deref(), Some("2-b-1"), "it moved with its sample");
    let named = assign(&mut store, "{row}-{id}-{sample}", Style::Portable);
    assert_eq!((named.samples, named.kept, named.other_rule), (5, 1, None));
    assert_eq!(shown(&store), "1-new-0 2-a-0 3-b-0 2-b-1 4-c-0");
    let named = assign(&mut store, "{id}", Style::Portable);
    assert_eq!(named.kept, 1);
    assert_eq!(named.other_rule, Some(rule("{row}-{id}-{sample}", Style::Portable)));
    assert_eq!(store.name_rule().unwrap(), Some(rule("{id}", Style::Portable)));
    assert_eq!(shown(&store), "new a b-0 2-b-1 c");
    assert_eq!(assign(&mut store, "{id}", Style::Portable).other_rule, None, "said once");
}

#[test]
fn what_is_bought_keeps_its_name_also_out_of_the_sheet() {
    let mut store = with(&[("a", "one", 1), ("b", "two", 1)]);
    assign(&mut store, "{id}", Style::Portable);
    bring(&mut store, 1, State::Succeeded);
    import(&mut store, &[("b", "two", 1), ("A", "another", 1)], ACCEPT);
    assign(&mut store, "{id}", Style::Portable);
    let key = names(&store)[1].clone().unwrap();
    assert!(key.starts_with("A-") && key.len() == 10, "`a` is taken by what is bought: {key}");
    assert_eq!(shown(&store), format!("b {key} a"));
    // And back again.
    import(&mut store, &[("a", "one", 1)], ACCEPT);
    assert_eq!(names(&store)[0].as_deref(), Some("a"));
}

#[test]
fn an_edited_request_is_named_anew() {
    let mut store = with(&[("a", "one", 1)]);
    assign(&mut store, "{prompt}", Style::Portable);
    bring(&mut store, 1, State::Failed);
    assign(&mut store, "{id}", Style::Portable);
    assert_eq!(shown(&store), "one", "it was submitted under that name");
    import(&mut store, &[("a", "two", 1)], STRICT);
    assign(&mut store, "{prompt}", Style::Portable);
    assert_eq!(shown(&store), "two");
}

#[test]
fn names_that_are_one_file_somewhere_are_told_apart() {
    let mut store =
        with(&[("", "Cat", 2), ("", "cAT", 1), ("", "caf\u{e9}", 1), ("", "cafe\u{301}", 1), ("", "cat", 1)]);
    assign(&mut store, "{prompt}", Style::Portable);
    let first = names(&store);
    let all: Vec<_> = first.iter().flatten().map(String::as_str).collect();
    assert_eq!(&all[..4], ["Cat-0", "Cat-1", "cAT", "caf\u{e9}"]);
    assert!(all[4].starts_with("caf\u{e9}-") && all[5].starts_with("cat-"), "{all:?}");
    // Stable, whatever was bought in the meantime.
    bring(&mut store, 6, State::Succeeded);
    import(
        &mut store,
        &[("", "Cat", 2), ("", "cAT", 1), ("", "caf\u{e9}", 1), ("", "cafe\u{301}", 1), ("", "cat", 1)],
        STRICT,
    );
    assign(&mut store, "{prompt}", Style::Portable);
    assert_eq!(names(&store), first);
    // Equal rows have keys of their own.
    let mut store = with(&[("", "x", 1), ("", "x", 1), ("", "x", 1)]);
    assign(&mut store, "{key}", Style::Exact);
    let keys: std::collections::HashSet<_> = names(&store).into_iter().flatten().collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.len() == 32));
}

#[test]
fn equal_rows_count_on() {
    let mut store = with(&[("", "x", 2), ("", "y", 1), ("", "x", 3), ("", "x", 1)]);
    let named = assign(&mut store, "{prompt}-{sample}", Style::Exact);
    assert_eq!((named.problem_count, shown(&store).as_str()), (0, "x-0 x-1 y-0 x-2 x-3 x-4 x-5"));
    assign(&mut store, "{prompt}", Style::Portable);
    assert_eq!(shown(&store), "x-0 x-1 y x-2 x-3 x-4 x-5");
}

#[test]
fn exact_names_both_lines_and_changes_nothing() {
    let mut store = with(&[("a", "same", 1), ("b", "other", 1), ("c", "same", 1), ("d/e", "two", 2)]);
    let named = assign(&mut store, "{prompt}", Style::Exact);
    let told: Vec<_> = named.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "line 4: its name `same` is also that of line 2: add {id} or {row} to --name, change the cell, or use \
             --names portable",
            "line 5: its name `two` is also that of another sample of it: add {sample} to --name, or use --names \
             portable",
        ]
    );
    assert_eq!((named.problem_count, shown(&store).trim()), (2, ""));
    let named = assign(&mut store, "{id}-{sample}", Style::Exact);
    assert_eq!(named.problem_count, 2, "{:?}", named.problems);
    assert_eq!(named.longest.as_deref(), Some("a-0"));
    let named = assign(&mut store, "{prompt}-{row}-{sample}", Style::Exact);
    assert_eq!((named.problem_count, named.samples), (0, 5));
    assert_eq!(shown(&store), "same-1-0 other-2-0 same-3-0 two-4-0 two-4-1");
}

#[test]
fn case_counts_where_it_does() {
    let mut store = with(&[("a", "Cat", 1), ("b", "cat", 1)]);
    assert_eq!(assign(&mut store, "{prompt}", Style::Exact).problem_count, 0);
    let stick = FileSystem { ignores_case: true, ..disk() };
    let told = store.assign_names(&rule("{prompt}", Style::Exact), &stick).unwrap();
    assert_eq!(told.problems[0].what, "its name `cat` and `Cat` of line 2 are one file for a bucket",);
    // Bought under those names, they keep them.
    bring(&mut store, 1, State::Succeeded);
    bring(&mut store, 2, State::Succeeded);
    assert_eq!(store.assign_names(&rule("{prompt}", Style::Exact), &stick).unwrap().problem_count, 1);
    assert_eq!(assign(&mut store, "{prompt}", Style::Portable).kept, 2);
    assert_eq!(shown(&store), "Cat cat");
}

#[test]
fn what_was_bought_without_names_gets_them_and_bad_rows_do_not() {
    let mut store = Store::scratch().unwrap();
    import(&mut store, &[("a", "!", 1), ("b", "two", 1)], SKIP);
    bring(&mut store, 2, State::Succeeded);
    assert_eq!(names(&store), [None, None]);
    assign(&mut store, "{id}", Style::Portable);
    assign(&mut store, "{row}", Style::Portable);
    assert_eq!(names(&store), [None, Some("b".to_owned())]);
}

#[test]
fn a_template_that_does_not_fit_the_sheet_changes_nothing() {
    let mut store = with(&[("a", "one", 1)]);
    let error = store.assign_names(&rule("{nam}/{id}", Style::Portable), &disk()).unwrap_err();
    assert_eq!(error.to_string(), "--name, character 1: the sheet has no column `nam`: is {Name} meant?");
    assert_eq!(names(&store), [None]);
}

#[test]
fn a_file_without_the_table_has_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let owner = Owner::Simulator { seed: 0 };
    drop(Store::open(&path, &owner, Durability::Rehearsal, NOW).unwrap());
    rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TABLE names").unwrap();
    assert_eq!(Store::read_only(&path).unwrap().name_of(SampleId(1)).unwrap(), None);
    let mut store = Store::open(&path, &owner, Durability::Rehearsal, NOW).unwrap();
    import(&mut store, &[("a", "one", 1)], STRICT);
    assign(&mut store, "{id}", Style::Portable);
    assert_eq!(shown(&store), "a");
}

#[test]
fn particulars_are_all_there_is() {
    let mut store = with(&[("a", "one", 2), ("", "two", 1)]);
    bring(&mut store, 2, State::Succeeded);
    let known = store.particulars(SampleId(2)).unwrap();
    assert_eq!((known.id.as_deref(), known.result.index, known.result.attempts), (Some("a"), 1, 1));
    let draft = known.generation.as_ref().map(Generation::draft).unwrap();
    assert_eq!((draft.prompt.as_str(), draft.seed), ("one", Some(6)));
    assert_eq!(store.particulars(SampleId(3)).unwrap().id, None);
    assert!(matches!(store.particulars(SampleId(9)), Err(StoreError::NoSuchSample(_))));
}
