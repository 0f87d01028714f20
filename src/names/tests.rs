use std::fs::{self, File};

use proptest::prelude::*;

use super::portable::{LONGEST_PART, LONGEST_PATH, is_reserved};
use super::*;

const KEY: &str = "0f3a52c7d1e84b6690a1b2c3d4e5f607";

fn columns() -> Vec<String> {
    ["prompt", "campaign", "Take No"].map(str::to_owned).to_vec()
}

fn namer(template: &str) -> Namer {
    let rule = NameRule { template: Some(template.parse().unwrap()), style: Style::Portable };
    rule.bind(&columns(), true).unwrap()
}

fn subject<'a>(id: &'a str, prompt: &'a str, cells: &'a [String]) -> Subject<'a> {
    Subject {
        id: Some(id).filter(|id| !id.is_empty()),
        row: 12,
        sample: 0,
        samples: 1,
        prompt,
        key: KEY,
        cells,
    }
}

/// The portable name of an id.
fn portable(id: &str) -> String {
    namer("{id}").portable(&subject(id, "", &[]), 0)
}

#[test]
fn a_template_is_filled() {
    let cells = ["A cat", "Spring/2026", "7"].map(str::to_owned);
    let subject = Subject { sample: 2, samples: 5, ..subject("c-1", "A cat, asleep on a sofa", &cells) };
    for (template, name) in [
        ("{id}-{sample}", "c-1-2"),
        ("{row}_{sample}", "12_2"),
        ("{campaign}/{Take No}/{prompt:.5}-{sample}", "Spring_2026/7/A cat-2"),
        ("{CAMPAIGN}{{x}}{Sample}", "Spring_2026{x}2"),
        ("{slug:.9}-{key:.8}-{sample}", "a-cat-asl-0f3a52c7-2"),
        ("{id}", "c-1-2"),
    ] {
        assert_eq!(namer(template).portable(&subject, 0), name, "{template}");
    }
    let default = NameRule::default().bind(&columns(), true).unwrap();
    assert_eq!(default.portable(&subject, 0), "c-1-2");
    let no_id = Subject { id: None, ..subject };
    assert_eq!(default.portable(&no_id, 0), "a-cat-asleep-on-a-sofa-0f3a52c7-2");
}

#[test]
fn what_is_wrong_with_a_template_is_pointed_at() {
    let told = [
        "{id",
        "id}",
        "{}",
        "{id:.0}",
        "{id:.x}",
        "/{id}",
        "{id}/",
        "a//{id}",
        "../{id}",
        "a\\{id}",
        "videos",
        "a\n{id}",
        "{campain}/{id}",
        "take {row} {ids}",
        "{zzz}",
        "{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}",
    ]
    .map(|template| {
        let bound = template.parse::<Template>().and_then(|template| template.bind(&columns()).map(drop));
        format!("{template:?}: {}\n", bound.unwrap_err())
    });
    insta::assert_snapshot!(told.concat());
}

#[test]
fn portable_names_are_safe() {
    for (id, name) in [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\Windows\\x", "C__Windows_x"),
        ("con", "_con"),
        ("Nul.tar.gz", "_Nul.tar.gz"),
        ("com¹", "_com¹"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("end. . ", "end"),
        ("..", KEY),
        (" \u{200d}.", KEY),
        ("a\u{1b}]0;title\u{7}b\u{202e}c", "a_]0;title_b_c"),
        ("a\tb\nc", "a b c"),
        ("PROGRA~1", "PROGRA-1"),
        ("e\u{301}", "\u{e9}"),
        ("a\u{feff}\u{ad}b", "ab"),
        ("👩\u{200d}👩\u{200d}👧", "👩\u{200d}👩\u{200d}👧"),
        ("x\u{378}\u{e000}y", "x__y"),
    ] {
        assert_eq!(portable(id), name, "{id:?}");
    }
}

#[test]
fn what_tells_samples_apart_is_not_cut_off() {
    let prompt = "é".repeat(5_000);
    let subject = Subject { sample: 3, samples: 5, ..subject("", &prompt, &[]) };
    let name = namer("take {prompt}-{sample}").portable(&subject, 0);
    assert!(name.starts_with("take éé") && name.ends_with("é-3") && name.len() > 190, "{name}");
    let again = namer("take {prompt}-{sample}").portable(&subject, 1);
    assert!(again.ends_with("é-3-0f3a52c7"), "{again}");
    let joined = "👩\u{200d}👩\u{200d}👧".repeat(20);
    let name = portable(&joined);
    assert!(name.ends_with("👧"), "not cut within a picture: {name}");
}

#[test]
fn exact_names_are_to_the_letter_or_refused() {
    let disk = FileSystem { longest: Longest::Bytes(255), ..FileSystem::bucket("") };
    let stick = FileSystem {
        refused: vec!['?', '"', '\u{1}'],
        alters_end: true,
        has_devices: true,
        last: '\u{ffff}',
        ..disk.clone()
    };
    let rule = NameRule { template: Some("{campaign}/{id}".parse().unwrap()), style: Style::Exact };
    let namer = rule.bind(&columns(), false).unwrap();
    let told = [
        ("a: b?", " what \"is\" this. ", &disk),
        ("x", &"n".repeat(250), &disk),
        ("x", &"n".repeat(251), &disk),
        ("x", "a/b", &disk),
        ("x", "a\0b", &disk),
        ("..", "b", &disk),
        ("", "b", &disk),
        ("x", "what?", &stick),
        ("x", "a\u{1b}b", &stick),
        ("x", "🎬", &stick),
        ("x.", "b", &stick),
        ("x", "b.", &stick),
        ("x", "nul", &stick),
        ("x", "b", &FileSystem::bucket(&"p".repeat(1_015))),
        ("x", "a\nb", &FileSystem::bucket("")),
        (".batchveo", "b", &disk),
        (".Batchveo", "b", &disk),
        (".Batchveo", "b", &FileSystem { ignores_case: true, ..disk.clone() }),
        ("x", ".batchveo", &disk),
    ]
    .map(|(campaign, id, place)| {
        let cells = ["", campaign].map(str::to_owned);
        match namer.exact(&subject(id, "", &cells), place) {
            Ok(name) => format!("{name:?}\n"),
            Err(Unfit { what, mend }) => format!("{what}: {mend}\n"),
        }
    });
    insta::assert_snapshot!(told.concat());
}

#[test]
fn a_place_is_tried_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let place = FileSystem::probe(&folder.path().join("not/there/yet")).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    // Whatever this machine has: what it says is possible is.
    for name in ["Plain", "ünïcödé 日本", "a:b", "dot.", "what?"] {
        if place.check(name).is_ok() {
            File::create(folder.path().join(name)).unwrap();
            assert!(fs::read_dir(folder.path()).unwrap().any(|entry| entry.unwrap().file_name() == *name));
        }
    }
    assert_eq!(place.ignores_case, fs::exists(folder.path().join("pLAIN")).unwrap());
    File::create(folder.path().join("file")).unwrap();
    assert!(FileSystem::probe(&folder.path().join("file/x")).is_err());
}

/// Whether FAT, NTFS, APFS, ext4 and S3 take every part of `name` as it is, with `.webm` behind it.
fn taken_everywhere(name: &str) -> Result<(), String> {
    let path = format!("{name}.webm");
    if path.len() > LONGEST_PATH + EXTENSION {
        return Err(format!("{} bytes", path.len()));
    }
    for part in path.split('/') {
        let windows = |c: char| matches!(c, '<' | '>' | ':' | '"' | '\\' | '|' | '?' | '*') || c.is_control();
        if part.is_empty() || part.len() > 255 || part.encode_utf16().count() > 255 {
            return Err(format!("{} bytes in a part", part.len()));
        }
        if part.contains(windows) || part.contains(crate::harmless::acts_on_a_terminal) {
            return Err("a character".to_owned());
        }
        if part.starts_with(['.', '-', ' ', '~']) || part.ends_with(['.', ' ']) || is_reserved(part) {
            return Err(format!("`{part}`"));
        }
        if !unicode_normalization::is_nfc(part) {
            return Err("not composed".to_owned());
        }
    }
    let stem = name.rsplit('/').next().unwrap_or("");
    if stem.len() > LONGEST_PART || is_reserved(stem) {
        return Err(format!("`{stem}`"));
    }
    Ok(())
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("../"),
        Just("/"),
        Just("\\"),
        Just("C:"),
        Just("con"),
        Just("LPT1"),
        Just("."),
        Just(" "),
        Just("-"),
        Just("~1"),
        Just("\u{1b}[2J"),
        Just("\u{202e}"),
        Just("e\u{301}"),
        Just("\u{301}"),
        Just("\u{200d}"),
        Just("日本"),
        Just("👩\u{200d}👧"),
        Just("\u{1100}\u{1161}"),
        Just("\u{958}"),
        Just("\u{e000}"),
        Just("\0"),
        Just("ﬁ"),
        Just("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ];
    prop_oneof![
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat()),
        "\\PC{0,20}",
        "[ab. ]{1,9}".prop_map(|text| text.repeat(10_000 / text.len())),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_file_system_takes_a_portable_name(
        id in hostile(), prompt in hostile(), cell in hostile(), sample in 0u32..1_000, attempt in 0u32..6,
    ) {
        let cells = [String::new(), cell, String::new()];
        let subject = Subject { sample, samples: 1_000, ..subject(&id, &prompt, &cells) };
        let deep = "{id}/{id}/{prompt}/{campaign}/{prompt}/{id}/{campaign}/{prompt}-{sample}";
        for template in ["{id}", "{campaign}/{prompt}", "{prompt:.180}-{sample}", "{slug:.60}-{key:.8}", deep] {
            let name = namer(template).portable(&subject, attempt);
            prop_assert_eq!(taken_everywhere(&name), Ok(()), "{} {:?}", template, name);
            let parts = template.split('/').count();
            prop_assert_eq!(name.split('/').count(), parts, "only the template makes folders");
            let next = namer(template).portable(&subject, attempt + 1);
            prop_assert_ne!(&name, &next);
            if attempt == 0 && sample > 0 {
                let other = Subject { sample: sample - 1, ..subject };
                prop_assert_ne!(&name, &namer(template).portable(&other, 0), "samples differ");
            }
        }
    }

    #[test]
    fn an_exact_name_is_what_the_template_says(id in hostile(), place in prop::bool::ANY) {
        let place = if place { FileSystem::bucket("") } else {
            FileSystem { longest: Longest::Utf16(255), alters_end: true, ..FileSystem::bucket("") }
        };
        let rule = NameRule { template: Some("x/{id}".parse().unwrap()), style: Style::Exact };
        let named = rule.bind(&[], false).unwrap().exact(&subject(&id, "", &[]), &place);
        if let Ok(name) = named {
            prop_assert_eq!(name.as_str(), format!("x/{id}"));
            prop_assert!(!id.contains(['/', '\0']) && id != "..");
        }
    }
}
