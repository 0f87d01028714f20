use std::convert::Infallible;
use std::num::NonZeroU32;

use super::*;
use crate::generation::{AspectRatio, Draft, GenerationType, Mode};
use crate::job::{Attempt, Failure, FailureKind, Outcome, Stamp, TaskId, UnixMillis, Usd, Video};
use crate::manifest::{Adjusted, Entry, Problem, Record};
use crate::schedule::{Change, Transition};
use crate::store::{ImportOptions, Sheet};

struct Rows(&'static [&'static str], std::vec::IntoIter<Record>);

impl Iterator for Rows {
    type Item = Result<Record, Infallible>;
    fn next(&mut self) -> Option<Self::Item> {
        self.1.next().map(Ok)
    }
}

impl Sheet for Rows {
    type Error = Infallible;
    fn columns(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
    fn bound_columns(&self) -> Vec<usize> {
        Vec::new()
    }
    fn id_column(&self) -> Option<String> {
        None
    }
    fn fingerprint(&self) -> [u8; 32] {
        [1; 32]
    }
    fn blank_rows(&self) -> u64 {
        0
    }
}

/// A state with these columns and rows of (cells, samples); without cells it is a bad row.
fn store(columns: &'static [&'static str], rows: &[(&[&str], u32)]) -> Store {
    let records = rows.iter().zip(2..).map(|((cells, samples), line)| {
        let draft = Draft {
            prompt: format!("line {line}"),
            generation_type: GenerationType::Text,
            mode: Mode::Fast,
            aspect_ratio: AspectRatio::Auto,
            image_urls: Vec::new(),
            seed: None,
            watermark: None,
            provider: None,
        };
        let problem =
            Problem { line, place: None, column: None, what: "empty".to_owned(), mend: "fill it".to_owned() };
        let samples = NonZeroU32::new(*samples).unwrap();
        let entry = Entry { id: None, samples, generation: draft.check().unwrap() };
        Record {
            line,
            fields: cells.iter().map(ToString::to_string).collect(),
            entry: if cells.is_empty() { Err(vec![problem]) } else { Ok(entry) },
            adjusted: Adjusted::default(),
        }
    });
    let mut store = Store::scratch().unwrap();
    let records = records.collect::<Vec<_>>().into_iter();
    let skip = ImportOptions { skip_invalid: true, accept_changes: false };
    assert!(store.import(Rows(columns, records), &skip).unwrap().applied);
    store
}

fn end(store: &mut Store, sample: i64, outcome: Outcome) {
    let task = TaskId::new("-task").unwrap();
    let steps = [
        Transition::Intended(Attempt(1)),
        Transition::Accepted { task, attempt: Attempt(1), cost: Usd::from_cents(20) },
        Transition::Ended { outcome, attempts: 1, cost: Usd::ZERO },
    ];
    let change = |(transition, at): (_, u64)| Change {
        sample: SampleId(sample),
        at: Stamp::from_millis(at * 1000),
        transition,
    };
    store.commit(&steps.into_iter().zip(1_u64..).map(change).collect::<Vec<_>>()).unwrap();
}

fn video(urls: &[&str]) -> Outcome {
    let urls = urls.iter().map(ToString::to_string).collect();
    Outcome::Succeeded(Video {
        urls,
        created: Some(UnixMillis(1_704_067_200_000)),
        completed: Some(UnixMillis(1_704_067_293_500)),
    })
}

const HEADER: &str = "status,task_id,video_url,error_kind,error_code,error_message,attempts,cost_usd,\
    submitted_at,completed_at,expires_at,generation_seconds,file";
const DONE: &str = "succeeded,'-task,https://v.example/1,,,,1,0.20,1970-01-01T00:00:01Z,\
    2024-01-01T00:01:33Z,2024-01-16T00:01:33Z,93.5,";
const PENDING: &str = "pending,,,,,,0,0.00,,,,,";

#[test]
fn lines_are_appended_as_samples_end_and_ordered_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    let text = || std::fs::read_to_string(&path).unwrap();
    let mut store = store(&["prompt", "=note"], &[(&["a", "=1+1"], 2), (&["b"], 1), (&[], 1)]);
    let mut file = ResultsFile::begin(&path, &store).unwrap();
    let invalid = ",,0,invalid,,,input,,line 4: empty: fill it,0,0.00,,,,,\n";
    assert_eq!(text(), format!("prompt,'=note,sample,{HEADER}\n{invalid}"));

    end(&mut store, 3, video(&["https://v.example/1"]));
    let failure = Failure::new(FailureKind::Content, Some("@X"), "=cmd, \"no\"");
    end(&mut store, 1, Outcome::Failed(failure));
    file.append(&store, &[SampleId(3), SampleId(1)]).unwrap();
    let done = format!("b,,0,{DONE}\n");
    let failed = "a,'=1+1,0,failed,'-task,,content,'@X,\"'=cmd, \"\"no\"\"\",1,0.20,1970-01-01T00:00:01Z,\
        1970-01-01T00:00:03Z,,1,\n";
    assert_eq!(text(), format!("prompt,'=note,sample,{HEADER}\n{invalid}{done}{failed}"));

    // A crash here: the next run begins by the state, in manifest order.
    drop(file);
    let file = ResultsFile::begin(&path, &store).unwrap();
    assert_eq!(text(), format!("prompt,'=note,sample,{HEADER}\n{failed}{done}{invalid}"));
    file.finish(&store).unwrap();
    let pending = format!("a,'=1+1,1,{PENDING}\n");
    assert_eq!(text(), format!("prompt,'=note,sample,{HEADER}\n{failed}{pending}{done}{invalid}"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn our_columns_make_way_for_the_sheets() {
    let mut store = store(&["Status", "veo_status", "FILE"], &[(&["x", "y", "z"], 1)]);
    end(&mut store, 1, video(&["https://v.example/1", "https://v.example/2"]));
    let mut text = Vec::new();
    assert_eq!(export(&store, &ResultFilter::default(), OutputFormat::Csv, &mut text).unwrap(), 1);
    let text = String::from_utf8(text).unwrap();
    let header = HEADER.replace("status,", "veo_veo_status,").replace(",file", ",veo_file");
    let many = "\"[\"\"https://v.example/1\"\",\"\"https://v.example/2\"\"]\"";
    assert_eq!(text, format!("Status,veo_status,FILE,{header},video_urls,files\nx,y,z,{DONE},{many},\n"));
}

#[test]
fn an_export_shows_what_is_asked_for() {
    let mut store = store(&["prompt"], &[(&["a"], 1), (&["b"], 1)]);
    end(&mut store, 2, video(&["https://v.example/1"]));
    let lines = |filter: ResultFilter| {
        let mut text = Vec::new();
        export(&store, &filter, OutputFormat::Csv, &mut text).unwrap();
        String::from_utf8(text).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let only = |status| ResultFilter { statuses: vec![status], ..ResultFilter::default() };
    assert_eq!(lines(only(Status::Succeeded)), [format!("b,{DONE}")]);
    assert_eq!(lines(only(Status::Pending)), [format!("a,{PENDING}")]);
    assert!(lines(ResultFilter { removed: true, ..ResultFilter::default() }).is_empty());
}

#[test]
fn a_file_of_somebody_else_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.csv");
    let mine = store(&["prompt"], &[(&["a"], 1)]);
    let refused = |store: &Store| {
        let before = std::fs::read(&path).unwrap();
        let told = ResultsFile::begin(&path, store).unwrap_err().to_string();
        assert!(told.contains("another with -o"), "{told}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    };
    for foreign in ["", "my notes\n", &format!("prompt,{HEADER}\n")] {
        std::fs::write(&path, foreign).unwrap();
        refused(&mine);
        std::fs::remove_file(&path).unwrap();
    }
    let file = ResultsFile::begin(&path, &mine).unwrap();
    refused(&store(&["prompt"], &[(&["a"], 1)]));
    std::fs::write(&path, "put here meanwhile\n").unwrap();
    assert!(matches!(file.finish(&mine), Err(ResultsError::Foreign { .. })));
    refused(&mine);
    std::fs::remove_file(&path).unwrap();
    ResultsFile::begin(&path, &mine).unwrap().finish(&mine).unwrap();
    ResultsFile::begin(&path, &mine).unwrap();
}

#[test]
fn lines_of_json_hold_what_cells_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.jsonl");
    let text = || std::fs::read_to_string(&path).unwrap();
    let mut store =
        store(&["prompt", "=note", "note", "note"], &[(&["a", "=1+1", "x", "y"], 1), (&["b"], 2)]);
    let file = ResultsFile::begin(&path, &store).unwrap();
    assert_eq!(text(), "");
    // Nothing has ended and nothing is written: the file is still known for ours.
    drop(file);
    let mut file = ResultsFile::begin(&path, &store).unwrap();

    end(&mut store, 1, video(&["https://v.example/1"]));
    file.append(&store, &[SampleId(1)]).unwrap();
    let line = r#"{"prompt":"a","=note":"=1+1","note":"x","note_2":"y","sample":0,"status":"succeeded",\
        "task_id":"-task","video_url":"https://v.example/1","error_kind":null,"error_code":null,\
        "error_message":null,"attempts":1,"cost_usd":0.20,"submitted_at":"1970-01-01T00:00:01Z",\
        "completed_at":"2024-01-01T00:01:33Z","expires_at":"2024-01-16T00:01:33Z",\
        "generation_seconds":93.5,"file":null}"#
        .replace("\\\n        ", "");
    assert_eq!(text(), format!("{line}\n"));
    ResultsFile::begin(&path, &store).unwrap().finish(&store).unwrap();
    assert_eq!(text().lines().count(), 3);
    assert!(text().starts_with(&line));

    let theirs = tests::store(&["prompt"], &[(&["a"], 1)]);
    for foreign in ["{\"a\":1}\n", "[]", "notes", "{\"prompt\":"] {
        std::fs::write(&path, foreign).unwrap();
        assert!(matches!(ResultsFile::begin(&path, &theirs), Err(ResultsError::Foreign { .. })), "{foreign}");
        assert_eq!(text(), foreign);
    }
}

#[test]
fn results_have_three_formats_by_name() {
    let of = |name: &str| OutputFormat::of(Path::new(name)).map_err(|error| error.to_string());
    for (name, format) in [
        ("r.csv", OutputFormat::Csv),
        ("r", OutputFormat::Csv),
        ("r.out", OutputFormat::Csv),
        ("r.JSONL", OutputFormat::Jsonl),
        ("r.ndjson", OutputFormat::Jsonl),
    ] {
        assert_eq!(of(name), Ok(format));
    }
    for name in ["r.json", "r.tsv", "r.ods"] {
        assert_eq!(
            of(name),
            Err(format!("{name}: results are written as .csv, .jsonl or .xlsx: name it so"))
        );
    }
}

#[cfg(feature = "workbook")]
mod in_a_workbook {
    use super::*;
    use crate::manifest::{Format, Options, Reader};

    /// The rows of the worksheet in a file, by our own reader, the header first.
    fn read(bytes: Vec<u8>) -> Vec<Vec<String>> {
        let input = Box::new(std::io::Cursor::new(bytes));
        let mut reader = Reader::new("r", input, Format::Xlsx, &Options::default()).unwrap();
        let rows: Vec<_> = reader.by_ref().map(|record| record.unwrap().fields).collect();
        std::iter::once(reader.columns().to_vec()).chain(rows).collect()
    }

    #[test]
    fn texts_are_texts_and_numbers_numbers() {
        let hostile = "=HYPERLINK(\"http://x\")";
        let odd = "a\tb\r\nc\u{1}<&>\"_x000D_ ";
        let mut store =
            store(&["prompt", "note", "id"], &[(&["a", hostile, "0012"], 1), (&["b", odd], 1), (&[], 1)]);
        end(&mut store, 1, video(&["https://v.example/1", "https://v.example/2"]));
        let mut file = Vec::new();
        assert_eq!(export(&store, &ResultFilter::default(), OutputFormat::Xlsx, &mut file).unwrap(), 3);
        let rows = read(file.clone());
        let header: Vec<_> = ["prompt", "note", "id"].into_iter().chain(HEADER.split(',')).collect();
        assert_eq!(rows[0][..16], header);
        assert_eq!(rows[0][16..], ["video_urls", "files"]);
        assert_eq!(rows[1][..6], ["a", hostile, "0012", "succeeded", "-task", "https://v.example/1"]);
        assert_eq!(rows[1][9..11], ["1", "0.2"], "numbers lose their last zero");
        assert_eq!(
            rows[1][11..15],
            ["1970-01-01T00:00:01Z", "2024-01-01T00:01:33Z", "2024-01-16T00:01:33Z", "93.5"]
        );
        assert_eq!(rows[1][16], r#"["https://v.example/1","https://v.example/2"]"#);
        assert_eq!(rows[2][1], odd);
        assert_eq!(rows[3][3], "invalid");
        // No part of the archive names a formula or a link.
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(file)).unwrap();
        for index in 0..archive.len() {
            let mut part = String::new();
            archive.by_index(index).unwrap().read_to_string(&mut part).unwrap();
            assert!(!part.contains("<f>") && !part.contains("<hyperlink"), "{part}");
        }
    }

    #[test]
    fn what_no_worksheet_holds_is_refused_before_anything_is_bought() {
        let folder = tempfile::tempdir().unwrap();
        let columns: Vec<&str> = (0..16_384).map(|_| "c").collect();
        let store = store(columns.leak(), &[(&["a"], 1)]);
        let error = ResultsFile::begin(&folder.path().join("r.xlsx"), &store).unwrap_err();
        assert!(matches!(error, ResultsError::NotASheet { .. }), "{error}");
        ResultsFile::begin(&folder.path().join("r.csv"), &store).unwrap();
    }

    #[test]
    fn it_is_written_in_the_end_and_an_edited_one_is_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.xlsx");
        let mut store = store(&["prompt"], &[(&["a"], 1), (&["b"], 1)]);
        let mut file = ResultsFile::begin(&path, &store).unwrap();
        end(&mut store, 1, video(&["https://v.example/1"]));
        file.append(&store, &[SampleId(1)]).unwrap();
        assert!(!path.exists());
        file.finish(&store).unwrap();
        let first = std::fs::read(&path).unwrap();
        assert_eq!(read(first.clone()).len(), 3);
        end(&mut store, 2, video(&["https://v.example/2"]));
        ResultsFile::begin(&path, &store).unwrap().finish(&store).unwrap();
        let second = std::fs::read(&path).unwrap();
        assert_eq!(read(second.clone())[2][3], "https://v.example/2");
        // An earlier one put back is still ours.
        std::fs::write(&path, first).unwrap();
        ResultsFile::begin(&path, &store).unwrap();
        let edited = [second.as_slice(), b" "].concat();
        std::fs::write(&path, &edited).unwrap();
        assert!(matches!(ResultsFile::begin(&path, &store), Err(ResultsError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), edited);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no passing file is left");
    }
}
