//! The reader as its callers see it: sheets in, records and problems out.

use std::io::{Cursor, Write};

use super::*;
use crate::generation::{AspectRatio, GenerationType, Mode, Provider};

fn options(map: &[&str]) -> Options {
    Options { map: map.iter().map(|text| text.parse().unwrap()).collect(), ..Options::default() }
}

fn reader(sheet: impl Into<Vec<u8>>, format: Format, options: &Options) -> Result<Reader, ManifestError> {
    Reader::new("sheet", Box::new(Cursor::new(sheet.into())), format, options)
}

fn read(sheet: impl Into<Vec<u8>>, format: Format, options: &Options) -> Vec<Record> {
    reader(sheet, format, options).unwrap().collect::<Result<_, _>>().unwrap()
}

fn csv(sheet: &str) -> Vec<Record> {
    read(sheet, Format::Csv, &Options::default())
}

/// The run's error, wherever it comes.
fn refused(sheet: impl Into<Vec<u8>>, format: Format, options: &Options) -> String {
    let all = reader(sheet, format, options).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    all.map_or_else(|error| error.to_string(), |records| format!("{} records", records.len()))
}

fn problems(record: &Record) -> Vec<String> {
    record.entry.as_ref().err().into_iter().flatten().map(ToString::to_string).collect()
}

fn entry(record: &Record) -> &Entry {
    record.entry.as_ref().unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn a_row_with_everything() {
    let sheet = "ID,Prompt,Samples,generationType,MODE,Aspect Ratio,image-urls,Seed,watermark,provider,note\n\
                 a 1 , a cat ,3,reference,fast,16:9,https://a.example/1.png|https://a.example/2.png,1234.0,me,VALUE, kept \n";
    let record = &csv(sheet)[0];
    let Entry { id, samples, generation } = entry(record);
    let draft = generation.draft();
    assert_eq!((id.as_deref(), samples.get()), (Some("a 1"), 3));
    assert_eq!(draft.prompt, "a cat");
    assert_eq!(draft.generation_type, GenerationType::Reference);
    assert_eq!((draft.mode, draft.aspect_ratio), (Mode::Fast, AspectRatio::Landscape));
    assert_eq!(draft.image_urls, ["https://a.example/1.png", "https://a.example/2.png"]);
    assert_eq!((draft.seed, draft.watermark.as_deref()), (Some(1234), Some("me")));
    assert_eq!(draft.provider, Some(Provider::Value));
    assert_eq!(record.fields[10], " kept ", "what passes through is not touched");
    assert_eq!((record.line, record.adjusted), (2, Adjusted::default()));
}

#[test]
fn blank_cells_take_the_defaults() {
    let sheet = "prompt,samples,type,mode,aspect_ratio,provider,watermark,id\na,,,,,,,\n";
    let plain = csv(sheet);
    let Entry { id, samples, generation } = entry(&plain[0]);
    let draft = generation.draft();
    assert_eq!((draft.mode, draft.generation_type), (Mode::Quality, GenerationType::Text));
    assert_eq!((draft.aspect_ratio, draft.provider), (AspectRatio::Landscape, None));
    assert_eq!((id, samples.get(), &draft.watermark), (&None, 1, &None));

    let defaults = Defaults {
        mode: Some(Mode::Fast),
        generation_type: Some(GenerationType::Text),
        aspect_ratio: Some(AspectRatio::Portrait),
        provider: Some(Provider::Official),
        samples: NonZeroU32::new(5),
    };
    let options = Options { defaults, ..Options::default() };
    let rows = read(format!("{sheet}b,1,text,quality,auto,auto,,\n"), Format::Csv, &options);
    let shown = |record: &Record| {
        let Entry { samples, generation, .. } = entry(record);
        let draft = generation.draft().clone();
        (samples.get(), draft.mode, draft.aspect_ratio, draft.provider)
    };
    assert_eq!(shown(&rows[0]), (5, Mode::Fast, AspectRatio::Portrait, Some(Provider::Official)));
    assert_eq!(shown(&rows[1]), (1, Mode::Quality, AspectRatio::Auto, Some(Provider::Auto)), "a cell wins");
}

#[test]
fn a_reference_rows_blank_mode_and_ratio_are_its_only_ones() {
    let sheet = "prompt,type,image_urls,mode,aspect_ratio\na,reference,https://a.example/1.png,,\n";
    for (mode, ratio, wanted) in [
        (None, None, Adjusted { mode: true, aspect_ratio: false }),
        (Some(Mode::Fast), Some(AspectRatio::Auto), Adjusted { mode: false, aspect_ratio: true }),
        (Some(Mode::Quality), Some(AspectRatio::Portrait), Adjusted { mode: true, aspect_ratio: true }),
    ] {
        let defaults = Defaults { mode, aspect_ratio: ratio, ..Defaults::default() };
        let rows = read(sheet, Format::Csv, &Options { defaults, ..Options::default() });
        let draft = entry(&rows[0]).generation.draft();
        assert_eq!((draft.mode, draft.aspect_ratio), (Mode::Fast, AspectRatio::Landscape));
        assert_eq!(rows[0].adjusted, wanted);
    }
}

#[test]
fn images_in_every_way_of_giving_them() {
    use GenerationType::{Frames, Reference};
    let (a, b) = ("https://a.example/1.png", "https://a.example/2.png");
    let with = |header: &str, cells: &str, map: &[&str]| {
        let sheet = format!("prompt\t{header}\nx\t{cells}\n");
        let draft = entry(&read(sheet, Format::Tsv, &options(map))[0]).generation.draft().clone();
        (draft.generation_type, draft.image_urls)
    };
    for (header, cells, map, wanted) in [
        ("type\timage_urls", format!("frames\t{a} | {b}"), &[][..], (Frames, vec![a, b])),
        ("type\timage_urls", format!("frames\t{a}  {b}"), &[], (Frames, vec![a, b])),
        ("type\timage_urls", format!("frames\t\"{a}\n{b}\""), &[], (Frames, vec![a, b])),
        ("type\timage_urls", format!("reference\t[\"{a}\", \" \"]"), &[], (Reference, vec![a])),
        (
            "type\timg1\timg2",
            format!("reference\t{a}\t{b}"),
            &["image_urls=img2,img1"],
            (Reference, vec![b, a]),
        ),
        ("type\timg1\timg2", format!("reference\t{a}\t"), &["image_urls=img1,img2"], (Reference, vec![a])),
        ("first_frame\tlast_frame", format!("{a}\t{b}"), &[], (Frames, vec![a, b])),
        ("First Frame\tlast-frame", format!("{a}\t"), &[], (Frames, vec![a])),
        ("type\tfirst_frame", format!("frames\t{a}"), &[], (Frames, vec![a])),
        ("start", a.to_owned(), &["first_frame=start"], (Frames, vec![a])),
    ] {
        let wanted = (wanted.0, wanted.1.into_iter().map(str::to_owned).collect());
        assert_eq!(with(header, &cells, map), wanted, "{header}: {cells}");
    }
    let typed = Defaults { generation_type: Some(Reference), ..Defaults::default() };
    let rows = read(
        format!("prompt,image_urls,first_frame\nx,{a},\ny,,{b}\n"),
        Format::Csv,
        &Options { defaults: typed, ..Options::default() },
    );
    assert_eq!(entry(&rows[0]).generation.draft().generation_type, Reference, "--type says what they are");
    assert_eq!(entry(&rows[1]).generation.draft().generation_type, Frames, "first_frame implies frames");
}

#[test]
fn each_rule_of_images_is_told_once_and_at_its_column() {
    let a = "https://a.example/1.png";
    for (header, cells, wanted) in [
        ("image_urls", a.to_owned(), "line 2, column image_urls: images, and no type"),
        ("type,image_urls", format!(",{a}"), "line 2, column type: images, and no type"),
        ("type,image_urls", format!("text,{a}"), "line 2, column image_urls: 1 image(s) in a text request"),
        ("type,image_urls", "frames,".into(), "line 2, column image_urls: a frames request without an image"),
        ("type,x", "reference,".into(), "line 2, column type: a reference request without an image"),
        ("type,image_urls", format!("frames,{a} {a} {a}"), "line 2, column image_urls: 3 images in a frames"),
        ("type,image_urls", format!("ref,{a} {a} {a} {a}"), "line 2, column type: `ref` is not a type"),
        (
            "type,image_urls",
            "frames,[1]".into(),
            "line 2, column image_urls: `[1]` is not a JSON array of texts",
        ),
        (
            "type,image_urls",
            "frames,[x".into(),
            "line 2, column image_urls: `[x` is not a JSON array of texts",
        ),
        (
            "first_frame,last_frame",
            format!(",{a}"),
            "line 2, column last_frame: a last frame without a first",
        ),
        ("type,last_frame", format!("text,{a}"), "line 2, column last_frame: a last frame without a first"),
        (
            "image_urls,first_frame",
            format!("{a},{a}"),
            "line 2, column image_urls: images and a first or last",
        ),
        (
            "type,first_frame",
            format!("text,{a}"),
            "line 2, column first_frame: a first or last frame in a row of",
        ),
        (
            "type,image_urls",
            format!("frames,{}", "word ".repeat(100_000)),
            "line 2, column image_urls: more than 16",
        ),
        (
            "image_urls",
            "word|".repeat(17),
            "line 2, column image_urls: more than 16 images: the API takes at",
        ),
        (
            "image_urls",
            format!("\"[{}\"\"\"\"]\"", "\"\"word\"\",".repeat(17)),
            "line 2, column image_urls: more than 16",
        ),
        ("first_frame", "a.png".into(), "line 2, column first_frame: `a.png` is a local path"),
        (
            "first_frame,last_frame",
            format!("{a},b.png"),
            "line 2, column last_frame: `b.png` is a local path",
        ),
    ] {
        let told = problems(&csv(&format!("prompt,{header}\nx,{cells}\n"))[0]);
        assert_eq!(told.len(), 1, "{header} {cells}: {told:?}");
        assert!(told[0].starts_with(wanted), "{header} {cells}: {told:?}");
    }
}

#[test]
fn single_cells_are_told_with_their_mend() {
    for (header, cell, wanted) in [
        ("mode", "slow", "column mode: `slow` is not a mode: write quality or fast"),
        ("Provider", "x", "column Provider: `x` is not a provider: write auto, value or official"),
        ("seed", "-1", "column seed: `-1` is not a seed: write a whole number from 0, such as 1234"),
        ("seed", "1.5", "column seed: `1.5` is not a seed: write a whole number from 0, such as 1234"),
        (
            "samples",
            "0",
            "column samples: `0` is not a number of samples: write a whole number from 1 to 1000",
        ),
        (
            "samples",
            "1001",
            "column samples: `1001` is not a number of samples: write a whole number from 1 to 1000",
        ),
        (
            "id",
            "\"a\nb\"",
            "column id: `a b` has a line break or another control character: write the id on one line",
        ),
    ] {
        let told = problems(&csv(&format!("prompt,{header}\nx,{cell}\n"))[0]);
        assert_eq!(told, [format!("line 2, {wanted}")], "{header}={cell}");
    }
    let long = "é".repeat(512);
    assert_eq!(entry(&csv(&format!("prompt,id\nx,{long}\n"))[0]).id.as_deref(), Some(long.as_str()));
    let told = problems(&csv(&format!("prompt,id\nx,{long}é\n"))[0]);
    assert_eq!(told, ["line 2, column id: an id of 513 characters: at most 512 are kept: shorten it"]);
}

#[test]
fn a_row_tells_all_its_problems() {
    let sheet = "prompt,type,mode,aspect_ratio,image_urls,seed,samples\n ,reference,quality,9:16,[,x,0\n";
    let columns: Vec<_> =
        csv(sheet)[0].entry.as_ref().unwrap_err().iter().map(|p| p.column.clone()).collect();
    let columns: Vec<_> = columns.iter().flatten().map(String::as_str).collect();
    assert_eq!(columns, ["samples", "image_urls", "seed", "prompt", "mode", "aspect_ratio"]);
}

#[test]
fn a_sheet_with_one_of_each_mistake() {
    let url = "https://a.example/1.png";
    let rows: Vec<(String, &str)> = vec![
        ("good,text,fast,,,".into(), ""),
        ("\"two\r\nlines\",text,fast,,,".into(), ""),
        ("a,clip,fast,,,".into(), "line 5, column kind: `clip` is not a type: write text"),
        (
            format!("a,frames,fast,,{url} {url} {url},"),
            "line 6, column image_urls: 3 images in a frames request: ",
        ),
        (
            format!("a,reference,quality,,{url},"),
            "line 7, column mode: a reference request in quality mode: ",
        ),
        (format!("a,reference,,9:16,{url},"), "line 8, column aspect_ratio: a reference request at 9:16: "),
        (",text,fast,,,".into(), "line 9, column words: the prompt is empty: write what"),
        (
            format!("{},text,fast,,,", "é".repeat(10_001)),
            "line 10, column words: the prompt has 10001 characters: the API takes at most 10000",
        ),
        ("a,frames,fast,,https://,".into(), "line 11, column image_urls: `https://` is not a valid URL: "),
        (
            "a,frames,fast,,frames/a.png,".into(),
            "line 12, column image_urls: `frames/a.png` is a local path, not a URL: the API fetches images itself",
        ),
        ("a,text,fast,,,1e3".into(), "line 13, column seed: `1e3` is not a seed: write"),
        ("a,text,fast".into(), "line 14: 3 fields, and the header has 6: add the missing ones"),
        ("a,text,fast,,,,,".into(), "line 15: 8 fields, and the header has 6: put double quotes"),
        ("caf\u{1},text,fast,,,".into(), "line 16, column words: byte 4 of the cell is not UTF-8: save"),
        ("a,text,fast,,,7".into(), ""),
    ];
    let mut sheet = b"words,kind,mode,aspect_ratio,image_urls,seed\r\n".to_vec();
    for (row, _) in &rows {
        // Texts cannot hold a byte that is not UTF-8; a Latin-1 é takes the place of \u{1}.
        sheet.extend(row.bytes().map(|byte| if byte == 1 { 0xE9 } else { byte }));
        sheet.extend(b"\r\n");
    }
    let records = read(sheet, Format::Csv, &options(&["prompt=words", "type=kind"]));
    assert_eq!(records.len(), rows.len());
    for (record, (row, wanted)) in records.iter().zip(&rows) {
        let told = problems(record);
        assert_eq!(told.len(), usize::from(!wanted.is_empty()), "{row}: {told:?}");
        assert!(told.iter().all(|told| told.starts_with(wanted)), "{row}: {told:?}");
    }
    assert_eq!(records[13].fields[0], "caf\u{FFFD}", "shown as well as it can be");
    assert_eq!(records[11].fields.len(), 3);
    assert_eq!(records[12].fields.len(), 6, "never more cells than columns");
}

#[test]
fn blank_rows_are_skipped_and_counted() {
    for (sheet, format, rows, blank) in [
        ("\n\nprompt,id\n\n,\na,1\n  , \n\n\"\",\"\"\nb,2\n\n", Format::Csv, &[6, 10][..], 8),
        ("prompt,id\r\n\r\na,1\r\n", Format::Csv, &[3], 1),
        ("prompt\n\"\"\na", Format::Csv, &[3], 1),
        ("\na\n \t\u{3000}\nb\n", Format::Txt, &[2, 4], 2),
        ("{\"prompt\":\"a\"}\r\n\r\n  \r\n{\"prompt\":\"b\"}", Format::Jsonl, &[1, 4], 2),
    ] {
        let mut reader = reader(sheet, format, &Options::default()).unwrap();
        let lines: Vec<_> = reader.by_ref().map(|record| record.unwrap().line).collect();
        assert_eq!(lines, rows, "{sheet:?}");
        let leading = sheet.bytes().take_while(|&byte| byte == b'\n').count() as u64;
        let counted = if format == Format::Csv { blank - leading } else { blank };
        assert_eq!(reader.blank_rows(), counted, "{sheet:?}: what precedes a header is not a row");
    }
}

#[test]
fn lines_of_text_are_prompts() {
    let sheet = "\u{feff}  a, \"b\" \r\nc\td\re";
    let records = read(sheet, Format::Txt, &Options::default());
    let prompts: Vec<_> =
        records.iter().map(|r| (r.line, entry(r).generation.draft().prompt.as_str())).collect();
    assert_eq!(prompts, [(1, "a, \"b\""), (2, "c\td"), (3, "e")]);
    assert_eq!(records[0].fields, ["a, \"b\""]);
    let damaged = read(b"ok\nb\xE9d\n".to_vec(), Format::Txt, &Options::default());
    assert!(problems(&damaged[1])[0].starts_with("line 2, column prompt: byte 2 of the cell is not UTF-8"));
}

#[test]
fn objects_of_json() {
    let sheet = r#"
        {"note": {"b": 1, "a": [1.10]}, "Prompt": "a\nb", "seed": 7.0, "samples": 2, "id": 12}
        {"prompt": "c", "type": "frames", "image_urls": ["https://a.example/1.png"], "extra": true, "seed": null}
        {"prompt": "d", "image_urls": "x", "generationType": null}
        {"prompt": ["e"], "seed": "9"}
        {"prompt": "f", "Prompt": "g"}
        {"prompt": "h", "MODE": false, "generationType": "x"}
        {"id": 4}
        nonsense
        ["prompt"]
        {"prompt": "i", "prompt": "j"}
        {"prompt": "k"
    "#;
    let mut reader = reader(sheet, Format::Jsonl, &Options::default()).unwrap();
    let records: Vec<_> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(
        reader.columns(),
        [
            "note",
            "Prompt",
            "seed",
            "samples",
            "id",
            "prompt",
            "type",
            "image_urls",
            "extra",
            "generationType",
            "MODE"
        ]
    );
    let Entry { id, samples, generation } = entry(&records[0]);
    assert_eq!((id.as_deref(), samples.get(), generation.draft().seed), (Some("12"), 2, Some(7)));
    assert_eq!(generation.draft().prompt, "a\nb");
    assert_eq!(records[0].fields, [r#"{"b": 1, "a": [1.10]}"#, "a\nb", "7.0", "2", "12"]);
    assert_eq!(entry(&records[1]).generation.draft().image_urls, ["https://a.example/1.png"]);
    assert_eq!(records[1].fields[8], "true");
    for (record, wanted) in records[2..].iter().zip([
        &["line 4, column type: images, and no type", "line 4, column image_urls: `x` is a local path"][..],
        &["line 5, column prompt: `[\"e\"]` where one value is wanted"],
        &["line 6, column Prompt: prompt gives the prompt as well: keep one"],
        &["line 7, column generationType: `x` is not a type", "line 7, column MODE: `false` is not a mode"],
        &["line 8, column Prompt: the prompt is empty"],
        &["line 9: not a JSON object, at byte 10: expected ident"],
        &["line 10: not a JSON object, at byte 8: invalid type: sequence"],
        &["line 11: not a JSON object, at byte 38: the key `prompt` is there twice"],
        &["line 12: not a JSON object, at byte 22: EOF while parsing an object"],
    ]) {
        let told = problems(record);
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        assert!(told.iter().zip(wanted).all(|(told, wanted)| told.starts_with(wanted)), "{told:?}");
    }
    let damaged = read(b"{\"prompt\":\"\xE9\"}".to_vec(), Format::Jsonl, &Options::default());
    assert!(problems(&damaged[0])[0].starts_with("line 1: byte 12 of the line is not UTF-8"));
}

#[test]
fn sheets_that_cannot_be_read() {
    let endless = format!("prompt\nok\n\"{}", "x".repeat(LONGEST_RECORD + 1));
    let keys = (0..=10_000).map(|key| format!("\"k{key}\":1")).collect::<Vec<_>>().join(",");
    let no_workbook = if cfg!(feature = "workbook") {
        "sheet: not an Excel workbook (.xlsx)"
    } else {
        "without Excel files"
    };
    for (sheet, format, map, wanted) in [
        ("", Format::Csv, &[][..], "sheet: there is not a single row in it"),
        ("\n\n", Format::Txt, &[], "not a single row"),
        ("prompt,id\n,\n", Format::Csv, &[], "not a single row"),
        (" ", Format::Jsonl, &[], "not a single row"),
        ("videoid,name\n1,a\n", Format::Csv, &[], "the columns are videoid, name: try --map prompt=name"),
        (
            "{\"k\":1,\"caption\":\"a\"}",
            Format::Jsonl,
            &[],
            "the columns are k, caption: try --map prompt=caption",
        ),
        (
            "{\"prompt\":\"a\"}\n",
            Format::Jsonl,
            &["id=key"],
            "--map id=key: no such column; the columns are prompt",
        ),
        ("a\n", Format::Txt, &["prompt=text"], "--map prompt=text: no such column; the columns are prompt"),
        ("prompt,Prompt\na,b\n", Format::Csv, &[], "both give the prompt"),
        ("prompt\nok\n\"a\nb\n", Format::Csv, &[], "sheet: line 3: a quoted field is opened"),
        (&endless, Format::Csv, &[], "sheet: line 3: the record that begins here is longer than 4 MiB"),
        (&endless, Format::Txt, &[], "sheet: line 3: the record that begins here is longer than 4 MiB"),
        ("[\n{\"prompt\":\"a\"}\n]", Format::Jsonl, &[], "it begins with an array: add --format json"),
        ("[]", Format::Json, &[], "not a single row"),
        ("[{\"text\":\"a\"}]", Format::Json, &[], "the columns are text: try --map prompt=text"),
        ("{\"rows\":[]}", Format::Json, &[], "sheet: line 1: it begins with an object: one array of objects"),
        (
            "[{\"prompt\":\"a\"},\n{\"prompt\"",
            Format::Json,
            &[],
            "sheet: line 2: the entry that begins here is never",
        ),
        ("prompt\na", Format::Xlsx, &[], no_workbook),
        (&format!("{{\"prompt\":1,{keys}}}"), Format::Jsonl, &[], "line 1: more than 10000 columns"),
    ] {
        let told = refused(sheet, format, &options(map));
        assert!(told.contains(wanted), "{}: {told}", &sheet[..sheet.len().min(40)]);
    }
    let latin = refused(b"pr\xE9cis,prompt\na,b\n".to_vec(), Format::Csv, &Options::default());
    assert!(latin.contains("its header is not UTF-8") && latin.contains("iconv -f WINDOWS-1252"), "{latin}");
    let absent = Reader::open(Path::new("no/such/sheet.csv"), &Options::default()).err().unwrap().to_string();
    assert!(absent.starts_with("no/such/sheet.csv: "), "{absent}");
}

#[test]
fn after_an_error_there_are_no_more_records() {
    let mut reader = reader("prompt\na\n\"b", Format::Csv, &Options::default()).unwrap();
    assert!(matches!(reader.next(), Some(Ok(_))));
    assert!(matches!(reader.next(), Some(Err(ManifestError::OpenQuote { line: 3, .. }))));
    assert!(reader.next().is_none());
}

#[test]
fn the_fingerprint_of_a_file_is_that_of_its_reading() {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    file.write_all("\u{feff}prompt,id\na,1\n\n\n".as_bytes()).unwrap();
    let with_map = options(&["prompt=id"]);
    for options in [Options::default(), with_map.clone()] {
        let mut reader = Reader::open(file.path(), &options).unwrap();
        assert!(reader.by_ref().all(|record| record.is_ok()));
        assert_eq!(reader.fingerprint(), fingerprint(file.path(), &options).unwrap());
    }
    let before = fingerprint(file.path(), &Options::default()).unwrap();
    assert_ne!(before, fingerprint(file.path(), &with_map).unwrap());
    file.write_all(b"\n").unwrap();
    assert_ne!(before, fingerprint(file.path(), &Options::default()).unwrap());
}

#[test]
fn a_reader_may_move_to_another_thread() {
    let reader = reader("prompt\na\n", Format::Csv, &Options::default()).unwrap();
    assert_eq!(std::thread::spawn(|| reader.count()).join().unwrap(), 1);
}

#[test]
fn entries_of_an_array_and_their_places() {
    let sheet = r#"[{"prompt":"a","n":1.10},{"prompt":""},7,
{
 "prompt": "b", "o": {"x":1},
 "id": ]
}, {"prompt":"c", "image_urls":["https://a.example/1.png"],"type":"frames"}]"#;
    let mut reader = reader(sheet, Format::Json, &Options::default()).unwrap();
    let records: Vec<_> = reader.by_ref().map(|record| record.map_err(|error| error.to_string())).collect();
    let shown: Vec<_> = records
        .iter()
        .map(|record| match record {
            Ok(Record { line, entry: Ok(entry), .. }) => {
                format!("{line}: {}", entry.generation.draft().prompt)
            }
            Ok(Record { entry: Err(problems), .. }) => problems[0].to_string(),
            Err(error) => error.clone(),
        })
        .collect();
    assert_eq!(shown[0], "1: a");
    assert!(shown[1].starts_with("entry 2, line 1, column prompt: the prompt is empty"), "{}", shown[1]);
    assert!(
        shown[2].starts_with("entry 3, line 1: not a JSON object, at byte 1: invalid type"),
        "{}",
        shown[2]
    );
    assert!(
        shown[3].starts_with("entry 4, line 2: not a JSON object, at line 4, byte 8: expected"),
        "{}",
        shown[3]
    );
    // A bracket of the wrong kind makes what follows unreadable.
    assert!(shown[4].starts_with("sheet: line 5: neither a comma nor `]`"), "{}", shown[4]);
    let sound = sheet.replace("\"id\": ]", "\"id\": 5");
    let records = read(sound.as_str(), Format::Json, &Options::default());
    assert_eq!(records.iter().map(|record| record.line).collect::<Vec<_>>(), [1, 1, 1, 2, 5]);
    assert_eq!(records[3].fields, ["b", "", "{\"x\":1}", "5"]);
    assert_eq!(entry(&records[4]).generation.draft().image_urls, ["https://a.example/1.png"]);
}

#[test]
fn only_a_workbook_has_worksheets() {
    let options = Options { worksheet: Some("2".to_owned()), ..Options::default() };
    let error = refused("prompt\na\n", Format::Csv, &options);
    assert_eq!(error, "sheet: a sheet in csv has no worksheets: leave --sheet out");
}
