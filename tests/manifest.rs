//! Real sheets, and properties of reading any sheet at all.

use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;

use batchveo::manifest::{Format, ManifestError, Options, Reader, Record};
use proptest::prelude::*;

fn reader(sheet: Vec<u8>, format: Format) -> Result<Reader, ManifestError> {
    Reader::new("sheet", Box::new(Cursor::new(sheet)), format, &Options::default())
}

#[test]
fn real_sheets() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    for (name, map, rows) in [
        ("chronomagic-1649.csv", &["prompt=name", "id=videoid"][..], 1649),
        ("vbench-946.txt", &[], 946),
        ("vbench-cn-946.txt", &[], 946),
        ("vbench-longer-946-crlf.txt", &[], 946),
        ("vbench2-1013.txt", &[], 1013),
        ("opensora-48.csv", &["prompt=text"], 48),
    ] {
        let path = data.join(name);
        let map = map.iter().map(|text| text.parse().unwrap()).collect();
        let options = Options { map, ..Options::default() };
        if path.exists() {
            let records: Vec<_> = Reader::open(&path, &options).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(records.len(), rows, "{name}");
            assert!(records.iter().all(|record| record.entry.is_ok()), "{name}");
            let ids: HashSet<_> =
                records.iter().filter_map(|record| record.entry.as_ref().ok()?.id.as_ref()).collect();
            assert!(ids.is_empty() || ids.len() == rows, "{name}: {} ids", ids.len());
        }
    }
}

/// How a sheet is written down.
#[derive(Debug, Clone, Copy)]
enum Bytes {
    Utf8,
    Utf8Marked,
    Utf16Little,
    Utf16Big,
}

fn encode(text: &str, bytes: Bytes) -> Vec<u8> {
    let units = || std::iter::once(0xFEFF).chain(text.encode_utf16());
    match bytes {
        Bytes::Utf8 => text.as_bytes().to_vec(),
        Bytes::Utf8Marked => [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
        Bytes::Utf16Little => units().flat_map(u16::to_le_bytes).collect(),
        Bytes::Utf16Big => units().flat_map(u16::to_be_bytes).collect(),
    }
}

/// The line ends in `text`, by the rule the reader follows.
fn line_ends(text: &str) -> u64 {
    (text.matches(['\r', '\n']).count() - text.matches("\r\n").count()) as u64
}

proptest! {
    #[test]
    fn what_the_csv_writer_wrote_is_read_back(
        // A cell that begins with an apostrophe may be a guarded one, which has tests of its own.
        rows in prop::collection::vec(("([^\0'][^\0]{0,11})?", "[a-z\",;\t\r\n ]{0,12}"), 1..12),
        delimiter in prop::sample::select(vec![b',', b';', b'\t']),
        crlf: bool,
        always: bool,
        bytes in prop::sample::select(vec![Bytes::Utf8, Bytes::Utf8Marked, Bytes::Utf16Little, Bytes::Utf16Big]),
    ) {
        let style = if always { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut writer = csv::WriterBuilder::new()
            .delimiter(delimiter).quote_style(style).terminator(end).from_writer(Vec::new());
        let mut lines = Vec::new();
        writer.write_record(["prompt", "note"]).unwrap();
        for (prompt, note) in &rows {
            writer.flush().unwrap();
            lines.push(1 + line_ends(std::str::from_utf8(writer.get_ref()).unwrap()));
            writer.write_record([prompt, note]).unwrap();
        }
        let sheet = String::from_utf8(writer.into_inner().unwrap()).unwrap();

        let mut reader = reader(encode(&sheet, bytes), Format::Csv).unwrap();
        let read: Vec<Record> = reader.by_ref().filter_map(Result::ok).collect();
        let blank = |text: &str| text.trim().is_empty();
        let kept: Vec<_> =
            rows.iter().zip(lines).filter(|((prompt, note), _)| !blank(prompt) || !blank(note)).collect();
        prop_assert_eq!(read.len(), kept.len());
        prop_assert_eq!(reader.blank_rows(), (rows.len() - kept.len()) as u64);
        for (record, ((prompt, note), line)) in read.iter().zip(kept) {
            prop_assert_eq!(record.line, line);
            prop_assert_eq!(&record.fields, &[prompt.clone(), note.clone()]);
            if let Ok(entry) = &record.entry {
 prop_assert_eq!(&entry.generation.draft().prompt, prompt.trim());
} else {
 prop_assert_eq!(prompt.trim(), "");
}
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(
            prop::sample::select(b"prompt,;\t\"\r\n{}[]:|1 \xC3\xA9\xFF".to_vec()), 0..200),
        head in prop::sample::select(vec![&b""[..], b"prompt,id\n", b"\xFF\xFE", b"{\"prompt\":\"a\"}\n"]),
        format in prop::sample::select(Format::ALL.to_vec()),
    ) {
        let sheet = [head, bytes.as_slice()].concat();
        let ends = line_ends(&String::from_utf8_lossy(&sheet));
        if let Ok(mut reader) = reader(sheet.clone(), format) {
            let mut last = 0;
            for record in reader.by_ref().filter_map(Result::ok) {
                prop_assert!(record.line > last, "lines rise");
                last = record.line;
                prop_assert!(record.entry.map_or_else(|problems| !problems.is_empty(), |_| true));
            }
            prop_assert!(head == b"\xFF\xFE" || last <= ends + 1);
            // Bare lines are easily counted in another way: each is a row or blank.
            if format == Format::Txt && last > 0 && head != b"\xFF\xFE" {
                let text = String::from_utf8_lossy(&sheet).replace("\r\n", "\n").replace('\r', "\n");
                let rows = text.lines().filter(|line| !line.trim().is_empty()).count();
                prop_assert_eq!(reader.blank_rows(), (text.lines().count() - rows) as u64);
            }
        }
    }
}
