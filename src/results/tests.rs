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
    assert_eq!(export(&store, &ResultFilter::default(), &mut text).unwrap(), 1);
    let text = String::from_utf8(text).unwrap();
    let header = HEADER.replace("status,", "veo_veo_status,").replace(",file", ",veo_file");
    let many = "\"[\"\"https://v.example/1\"\",\"\"https://v.example/2\"\"]\"";
    assert_eq!(text, format!("Status,veo_status,FILE,{header},video_urls\nx,y,z,{DONE},{many}\n"));
}

#[test]
fn an_export_shows_what_is_asked_for() {
    let mut store = store(&["prompt"], &[(&["a"], 1), (&["b"], 1)]);
    end(&mut store, 2, video(&["https://v.example/1"]));
    let lines = |filter: ResultFilter| {
        let mut text = Vec::new();
        export(&store, &filter, &mut text).unwrap();
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
