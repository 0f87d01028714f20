//! `export --as-manifest`: what it writes asks for the very same requests, whatever is in them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "nothing is served over HTTP here")]
mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Cursor;

use batchveo::generation::Generation;
use batchveo::job::{Attempt, Failure, FailureKind, Outcome, SampleId, Stamp, Status, Usd};
use batchveo::manifest::{Format, Options, Reader};
use batchveo::results::{OutputFormat, export_as_manifest};
use batchveo::schedule::{Change, Transition};
use batchveo::simulator::request_hash;
use batchveo::store::{ImportOptions, ResultFilter, Store};
use proptest::prelude::*;
use support::Folder;

const ACCEPT: ImportOptions = ImportOptions { skip_invalid: true, accept_changes: true };

fn reader(text: impl Into<Vec<u8>>, format: Format, map: &[&str]) -> Reader {
    let map = map.iter().map(|mapping| mapping.parse().unwrap()).collect();
    let options = Options { map, ..Options::default() };
    Reader::new("sheet", Box::new(Cursor::new(text.into())), format, &options).unwrap()
}

fn import(store: &mut Store, text: impl Into<Vec<u8>>, format: Format, map: &[&str]) {
    assert!(store.import(reader(text, format, map), &ACCEPT).unwrap().applied);
}

/// An id, a request and the other cells by column.
type Row = (Option<String>, Generation, HashMap<String, String>);

/// A sheet as it is read without any option.
fn rows(text: &[u8], format: Format) -> Vec<Row> {
    let mut reader = reader(text, format, &[]);
    let records: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    let (names, bound) = (reader.columns().to_vec(), reader.bound_columns());
    let read = |record: batchveo::manifest::Record| {
        let entry = record.entry.unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(entry.samples.get(), 1);
        let own = names.iter().cloned().zip(record.fields).enumerate();
        let own = own.filter(|(place, (_, cell))| !bound.contains(place) && !cell.is_empty());
        (entry.id, entry.generation.sample(0), own.map(|(_, cell)| cell).collect())
    };
    records.into_iter().map(read).collect()
}

fn export(store: &Store, filter: &ResultFilter, format: Format) -> Vec<u8> {
    let mut text = Vec::new();
    export_as_manifest(store, filter, format, &mut text).unwrap();
    text
}

#[cfg(feature = "workbook")]
const ALL: [Format; 5] = [Format::Csv, Format::Tsv, Format::Jsonl, Format::Json, Format::Xlsx];
#[cfg(not(feature = "workbook"))]
const ALL: [Format; 4] = [Format::Csv, Format::Tsv, Format::Jsonl, Format::Json];

#[test]
fn a_sheet_of_every_kind_comes_back() {
    let mut store = Store::scratch().unwrap();
    let image = "https://e.example/a.png";
    let sheet = format!(
        "Name,prompt,caption,type,mode,aspect_ratio,img,seed,watermark,provider,samples,a;b;c;d;e;f;g;h;i;j;k;l\n\
         x,not this,=a cat,,,,,7,-mark,official,2,'@note\n\
         x-0,nor this,\"two\nlines, \"\"q\"\"\",frames,fast,9:16,{image}|{image},,,,,\n\
         ,,three,reference,,,\"[\"\"{image}\"\"]\",,,,,+1\n\
         -4,,four,,,auto,,,,,3,'\n"
    );
    let map = ["prompt=caption", "id=Name", "image_urls=img"];
    import(&mut store, sheet, Format::Csv, &map);
    let own = "a;b;c;d;e;f;g;h;i;j;k;l";
    for format in ALL {
        let text = export(&store, &ResultFilter::default(), format);
        let rows = rows(&text, format);
        let ids: Vec<_> = rows.iter().map(|(id, ..)| id.as_deref().unwrap_or("")).collect();
        assert_eq!(ids, ["x-0", "x-1", "x-0-2", "", "-4-0", "-4-1", "-4-2"]);
        let seeds: Vec<_> = rows.iter().map(|(_, generation, _)| generation.draft().seed).collect();
        assert_eq!(seeds, [Some(7), Some(8), None, None, None, None, None]);
        assert_eq!(rows[0].1.draft().prompt, "=a cat");
        assert_eq!(rows[0].1.draft().watermark.as_deref(), Some("-mark"));
        let cells = |row: usize, name: &str| rows[row].2.get(name).map_or("", String::as_str);
        assert_eq!((cells(1, "sheet_prompt"), cells(1, own)), ("not this", "@note"));
        assert_eq!((cells(3, own), cells(4, own)), ("+1", "'"));
        let mut asked = Vec::new();
        store.requests(|generation| asked.push(request_hash(generation))).unwrap();
        let again: Vec<_> = rows.iter().map(|(_, generation, _)| request_hash(generation)).collect();
        assert_eq!(again, asked, "{format}");
    }
    let text = String::from_utf8(export(&store, &ResultFilter::default(), Format::Jsonl)).unwrap();
    assert!(text.starts_with("{\"id\":\"x-0\",\"prompt\":\"=a cat\",\"type\":"), "{text}");
}

#[test]
fn columns_that_nothing_uses_are_not_written() {
    let mut store = Store::scratch().unwrap();
    import(&mut store, "a cat\n-a dog\n", Format::Txt, &[]);
    let text = String::from_utf8(export(&store, &ResultFilter::default(), Format::Csv)).unwrap();
    let (cat, dog) = ("a cat,TEXT_2_VIDEO,quality,16:9", "'-a dog,TEXT_2_VIDEO,quality,16:9");
    assert_eq!(text, format!("prompt,type,mode,aspect_ratio\n{cat}\n{dog}\n"));
    let lines = export_as_manifest(&store, &ResultFilter::default(), Format::Txt, Vec::new());
    assert!(lines.unwrap_err().to_string().contains(".jsonl"));
}

fn end(store: &mut Store, sample: i64, outcome: Outcome) {
    let attempt = Attempt(1);
    let task = batchveo::job::TaskId::new("task").unwrap();
    let has_task = !matches!(outcome, Outcome::Rejected(_) | Outcome::Unknown(_));
    let accepted = Transition::Accepted { task, attempt, cost: Usd::from_cents(20) };
    let ended = Transition::Ended { outcome, attempts: 1, cost: Usd::ZERO };
    let steps = [Some(Transition::Intended(attempt)), has_task.then_some(accepted), Some(ended)];
    let change = |transition| Change { sample: SampleId(sample), at: Stamp::from_millis(5), transition };
    store.commit(&steps.into_iter().flatten().map(change).collect::<Vec<_>>()).unwrap();
}

fn failure() -> Failure {
    Failure::new(FailureKind::Transient, None, "x")
}

#[test]
fn rows_that_left_the_sheet_keep_the_cells_of_their_own_columns() {
    let mut store = Store::scratch().unwrap();
    import(&mut store, "id,note,prompt\nx,first,one\ny,other,two\n", Format::Csv, &[]);
    end(&mut store, 1, Outcome::Lost(failure()));
    import(&mut store, "prompt,id,note,more\nnew one,x,second,m\n", Format::Csv, &[]);
    end(&mut store, 1, Outcome::Lost(failure()));
    import(&mut store, "extra,caption,prompt\ne,third,p\n", Format::Csv, &["prompt=caption"]);
    let removed = ResultFilter { removed: true, ..ResultFilter::default() };
    let mut results = Vec::new();
    batchveo::results::export(&store, &removed, OutputFormat::Csv, &mut results).unwrap();
    let results: Vec<HashMap<String, String>> =
        csv::Reader::from_reader(results.as_slice()).deserialize().map(Result::unwrap).collect();
    let shown =
        |row: usize| ["id", "prompt", "note", "more", "extra"].map(|name| results[row][name].as_str());
    assert_eq!(shown(0), ["x", "new one", "second", "m", ""]);
    assert_eq!(shown(1), ["x", "one", "first", "", ""]);
    for format in ALL {
        let rows = rows(&export(&store, &removed, format), format);
        let told: Vec<_> = rows
            .iter()
            .map(|(id, generation, own)| {
                let cell = |name: &str| own.get(name).map_or("", String::as_str);
                (id.as_deref().unwrap(), generation.draft().prompt.as_str(), cell("note"), cell("more"))
            })
            .collect();
        assert_eq!(told, [("x", "new one", "second", "m"), ("x-2", "one", "first", "")]);
    }
}

#[test]
fn a_guarded_cell_asks_for_what_the_bare_one_does() {
    let mut store = Store::scratch().unwrap();
    import(&mut store, "id,prompt\n-1,=a cat\n,+a dog\n", Format::Csv, &[]);
    end(&mut store, 1, Outcome::Lost(failure()));
    end(&mut store, 2, Outcome::Lost(failure()));
    // As our own results and sheets write them, and as somebody may have written them before.
    let guarded = reader("id,prompt\n-1,'=a cat\n,'+a dog\n", Format::Csv, &[]);
    let taken = store.import(guarded, &ImportOptions::default()).unwrap();
    assert!(taken.applied);
    assert_eq!(store.tally(&batchveo::store::Selection::default()).unwrap().count(Status::Lost), 2);
    // One more is another text, and told as such.
    let other = reader("id,prompt\n-1,''=a cat\n,'+a dog\n", Format::Csv, &[]);
    let taken = store.import(other, &ImportOptions::default()).unwrap();
    assert_eq!((taken.applied, taken.differences.edited), (false, 1));
}

#[test]
fn bad_rows_are_counted_and_left_out() {
    let mut store = Store::scratch().unwrap();
    import(&mut store, "prompt,mode\na,fast\nb,slow\n,fast\n", Format::Csv, &[]);
    end(&mut store, 1, Outcome::Rejected(failure()));
    let mut text = Vec::new();
    let written = export_as_manifest(&store, &ResultFilter::default(), Format::Csv, &mut text).unwrap();
    assert_eq!((written.rows, written.invalid), (1, 2));
    let rejected = ResultFilter { statuses: vec![Status::Rejected], ..ResultFilter::default() };
    assert_eq!(export(&store, &rejected, Format::Csv), text);
}

#[test]
fn nul_characters_need_json() {
    let mut store = Store::scratch().unwrap();
    import(&mut store, "{\"prompt\":\"a\\u0000b\"}", Format::Jsonl, &[]);
    let refused = export_as_manifest(&store, &ResultFilter::default(), Format::Csv, Vec::new());
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("line 1") && refused.contains(".jsonl"), "{refused}");
    let text = export(&store, &ResultFilter::default(), Format::Jsonl);
    assert_eq!(rows(&text, Format::Jsonl)[0].1.draft().prompt, "a\0b");
}

/// Texts that a format, a spreadsheet or a reader may trip over.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["'{0,2}[=+\\-@\t\r\n＝＠\",;|\\[a ]{0,6}", "[\\PC\n\r\t]{0,12}",]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_request_comes_back(
        sheet in prop::collection::vec((texts(), texts(), texts(), texts(), any::<Option<u32>>(), 1..3_u32, 0..3_usize), 1..6),
        column in texts(),
        format in prop::sample::select(&ALL),
    ) {
        let urls = ["https://e.example/a.png", "https://e.example/b|c.png?x=[1]"];
        let mut text = String::new();
        for (row, (prompt, mark, note, id, seed, samples, images)) in sheet.iter().enumerate() {
            let id: String = id.chars().filter(|c| !c.is_control()).collect();
            let kind = if *images == 0 { "text" } else { "frames" };
            // An id that is its own, or none.
            let id = if row % 2 == 0 { format!("{id}{row}") } else { String::new() };
            let object = serde_json::json!({
                "prompt": format!("p{prompt}"), "watermark": mark, "n": note, column.as_str(): note, "id": id, "seed": seed,
                "samples": samples, "image_urls": &urls[..*images], "type": kind, "mode": "fast",
            });
            text.push_str(&object.to_string());
            text.push('\n');
        }
        prop_assume!(batchveo::manifest::Field::named(&column).is_none());
        let mut store = Store::scratch().unwrap();
        import(&mut store, text, Format::Jsonl, &[]);
        let mut asked = Vec::new();
        store.requests(|generation| asked.push(generation.clone())).unwrap();
            let text = export(&store, &ResultFilter::default(), format);
            let rows = rows(&text, format);
            let again: Vec<_> = rows.iter().map(|(_, generation, _)| generation.clone()).collect();
            prop_assert_eq!(&again, &asked, "{}", String::from_utf8_lossy(&text));
            let notes = rows.iter().map(|(.., own)| own.get("n").map_or("", String::as_str));
            let told = sheet.iter().flat_map(|(_, _, note, _, _, samples, _)| (0..*samples).map(move |_| note.as_str()));
            prop_assert!(notes.eq(told), "{}", String::from_utf8_lossy(&text));
            // And it is a sheet that a state takes, with ids that are its own.
            let mut other = Store::scratch().unwrap();
            let taken = other.import(reader(text, format, &[]), &ImportOptions::default()).unwrap();
            prop_assert_eq!((taken.problems, taken.applied), (Vec::new(), true));
    }
}

#[test]
fn what_failed_in_a_rehearsal_is_run_again_from_its_own_sheet() {
    let folder = Folder::new();
    let mut sheet = String::from("key,words,campaign,samples\n");
    for row in 0..40 {
        let trouble = ["", "[[fail:CONTENT_VIOLATION]] ", "", "[[refuse:INVALID_PROMPT]] "][row % 4];
        writeln!(sheet, "-r{row},={trouble}take {row},@spring,{}", row % 3 + 1).unwrap();
    }
    folder.write("p.csv", &sheet);
    let run = folder.run(
        "run p.csv --map prompt=words --map id=key --mode fast --aspect-ratio 9:16 --simulate --time-scale max",
        &[],
    );
    assert_eq!(run.code(), Some(1), "{}", run.stderr());
    let results = folder.results("p.simulated.results.csv");
    let unmade: Vec<_> = results.iter().filter(|row| row["status"] != "succeeded").collect();
    assert!(unmade.len() > 30 && results.len() > unmade.len());
    assert!(results.iter().all(|row| row["key"].starts_with("'-r") && row["words"].starts_with("'=")));
    for format in ALL {
        let name = format!("again.{format}");
        let line =
            format!("export p.csv.simulated.batchveo.db -o {name} --status failed,rejected --as-manifest");
        let export = folder.run(&line, &[]);
        assert_eq!(
            (export.code(), export.stdout()),
            (Some(0), format!("Wrote {} rows to {name}.\n", unmade.len()))
        );
        let second = folder.run(&line, &[]);
        assert_eq!(second.code(), Some(2), "a file is never overwritten");
        // No flag is needed, and the same requests fail the same way.
        let run = folder.run(&format!("run {name} --simulate --time-scale max -o r-{name}.csv"), &[]);
        assert_eq!(run.code(), Some(1), "{}", run.stderr());
        let again = folder.results(&format!("r-{name}.csv"));
        assert_eq!(again.len(), unmade.len());
        for (row, before) in again.iter().zip(&unmade) {
            let id = |samples: bool| {
                if samples {
                    format!("{}-{}", before["key"], before["sample"])
                } else {
                    before["key"].clone()
                }
            };
            assert!(row["id"] == id(true) || row["id"] == id(false), "{row:?}");
            for (now, then) in [
                ("prompt", "words"),
                ("status", "status"),
                ("campaign", "campaign"),
                ("error_code", "error_code"),
            ] {
                assert_eq!(row[now], before[then], "{row:?}");
            }
            assert_eq!((row["mode"].as_str(), row["aspect_ratio"].as_str()), ("fast", "9:16"));
        }
    }
    #[cfg(feature = "workbook")]
    results_are_a_workbook_too(&folder, &unmade);
    let txt = folder.run("export p.csv.simulated.batchveo.db -o again.txt --as-manifest", &[]);
    assert_eq!(txt.code(), Some(2), "{}", txt.stderr());
    assert!(!folder.path("again.txt").exists() && txt.stderr().contains(".jsonl"), "{}", txt.stderr());
}

#[cfg(feature = "workbook")]
fn results_are_a_workbook_too(folder: &Folder, unmade: &[&HashMap<String, String>]) {
    let book = folder.run("run again.json --simulate --time-scale max -o book.xlsx", &[]);
    assert!(book.stderr().contains("book.xlsx is written when the run ends."), "{}", book.stderr());
    let results = rows_of_workbook(&folder.path("book.xlsx"));
    assert_eq!(results.len(), unmade.len());
    assert!(results.iter().zip(unmade).all(|(row, before)| row["status"] == before["status"]));
}

/// The rows of a results file, by column name.
#[cfg(feature = "workbook")]
fn rows_of_workbook(path: &std::path::Path) -> Vec<HashMap<String, String>> {
    let mut reader = Reader::open(path, &Options::default()).unwrap();
    let records: Vec<_> = reader.by_ref().map(|record| record.unwrap().fields).collect();
    let names = reader.columns().to_vec();
    let filled = |cells: Vec<String>| cells.into_iter().chain(std::iter::repeat(String::new()));
    records.into_iter().map(|cells| names.iter().cloned().zip(filled(cells)).collect()).collect()
}
