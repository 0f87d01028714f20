//! The shape of the crate, held to by reading its source.
//!
//! Imports point downwards only; what decides does no input or output; a prescribed crate is named
//! in the one file that owns it.

#![expect(clippy::unwrap_used, reason = "a source file that cannot be read fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. A module may use what stands below it; `main.rs` and `lib.rs` are above all.
const LAYERS: &[&str] = &[
    "cli",
    "batch",
    "download",
    "engine",
    "report",
    "results",
    "store",
    "names",
    "manifest",
    "simulator",
    "callback",
    "images",
    "hosts",
    "veo",
    "event",
    "schedule",
    "api",
    "clock",
    "generation",
    "job",
    "harmless",
];

/// The layer of a module, counted from the top.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

/// Every Rust file below `folder` that is not the work of a build, with its path relative to the crate.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.ends_with("target") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// The crate's files with their top-level module, without `main.rs` and `lib.rs`, which stand above
/// all others.
fn modules() -> Vec<(String, PathBuf, String)> {
    let files = sources("src").into_iter().filter_map(|(path, text)| {
        let name = path.iter().nth(1)?.to_str()?.trim_end_matches(".rs").to_owned();
        (name != "main" && name != "lib").then_some((name, path, text))
    });
    files.collect()
}

/// The code of a file: no comments, and nothing from its tests on, which may use what they like.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_tests(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.iter().any(|part| part == "tests")
}

/// The top-level modules that `code` names after `crate::`, in paths and in groups.
fn uses(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut start = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                names.push(word(group[start..at].trim_start()));
                start = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn the_reading_of_imports_works() {
    let code = code(
        "use crate::job::Stamp;\n// use crate::engine::X;\nuse crate::{api, schedule::{gate, timers}, clock::Clock};\n\
         fn f() { crate::store::open() }\n#[cfg(test)]\nmod tests {\nuse crate::cli::Cli;\n}",
    );
    assert_eq!(uses(&code), ["job", "api", "schedule", "clock", "store"]);
    assert!(names_crate("use backoff::Backoff;", "backoff"));
    assert!(!names_crate("crate::backoff::X; Stored::Backoff; slow_backoff::x", "backoff"));
}

#[test]
fn imports_point_downwards() {
    let mut wrong = Vec::new();
    for (module, path, text) in modules() {
        let own = layer(&module);
        assert!(own.is_some(), "{}: `{module}` has no place in LAYERS", path.display());
        if is_tests(&path) {
            continue;
        }
        for used in uses(&code(&text)).into_iter().filter(|used| *used != module) {
            if layer(&used).is_some_and(|used| Some(used) < own) {
                wrong.push(format!("{}: crate::{used} is above `{module}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_prescribed_crate_is_named_in_the_one_file_that_owns_it() {
    for (name, owner) in [("governor", "src/schedule/gate.rs"), ("backoff", "src/schedule/retry.rs")] {
        for (_, path, text) in modules().into_iter().filter(|(_, path, _)| path != Path::new(owner)) {
            assert!(!names_crate(&code(&text), name), "{}: {name} belongs to {owner}", path.display());
        }
    }
}

/// Whether `code` has a path that begins with `name::`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn what_decides_does_no_input_or_output() {
    for (_, path, text) in
        modules().into_iter().filter(|(module, path, _)| module == "schedule" && !is_tests(path))
    {
        let code = code(&text);
        for forbidden in ["tokio", "reqwest", "rusqlite", "std::fs", "std::net", "rand::", "std::thread"] {
            assert!(!code.contains(forbidden), "{}: names {forbidden}", path.display());
        }
    }
}

#[test]
fn no_file_knows_a_machine() {
    // Put together here, so that this file does not hold them itself.
    let folders = ["work", "root", "home/runner", "Users"].map(|folder| format!("\"/{folder}/"));
    let files = ["src", "tests", "benches", "examples"].into_iter().flat_map(sources);
    for (path, text) in files {
        for folder in &folders {
            assert!(!text.contains(folder.as_str()), "{}: names {folder}", path.display());
        }
    }
}
