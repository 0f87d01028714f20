//! Which files a command works on when it is not told.
//!
//! A rehearsal's names differ from the real ones, so that neither can touch the other.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::iter;
use std::path::{Component, Path, PathBuf};

use super::UsageError;
use super::sheet::Source;
use crate::results::OutputFormat;

/// How the name of every state file ends, unless the user gave it another.
pub const STATE_SUFFIX: &str = ".batchveo.db";

/// The files of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPaths {
    /// The state file.
    pub state: PathBuf,
    /// The results.
    pub results: PathBuf,
}

impl RunPaths {
    /// The files given, or else those named after the sheet: `prompts.csv.batchveo.db` and
    /// `prompts.results.csv` for `prompts.csv`, with `.simulated` in a rehearsal's.
    ///
    /// # Errors
    ///
    /// Standard input without a state file; results to standard output, or in a format that they have
    /// not.
    pub fn choose(
        source: &Source,
        state: Option<PathBuf>,
        results: Option<PathBuf>,
        simulated: bool,
    ) -> Result<Self, UsageError> {
        if results.as_deref().is_some_and(|path| path.as_os_str() == "-") {
            let mend = "a run's results are a file: name it, then batchveo export -o - prints them";
            return Err(UsageError(mend.into()));
        }
        if let Some(path) = &results {
            OutputFormat::of(path).map_err(|error| UsageError(error.to_string()))?;
        }
        match (source, state) {
            (Source::File(sheet), state) => Ok(Self {
                state: state.unwrap_or_else(|| state_of(sheet, simulated)),
                results: results.unwrap_or_else(|| results_of(sheet, simulated)),
            }),
            (Source::Stdin, Some(state)) => {
                let results = results.unwrap_or_else(|| results_of(&unsuffixed(&state), simulated));
                Ok(Self { state, results })
            }
            (Source::Stdin, None) => {
                Err(UsageError("standard input cannot be read again to resume: add --state FILE".into()))
            }
        }
    }
}

/// The state file of a sheet: `prompts.csv.batchveo.db`.
#[must_use]
pub fn state_of(sheet: &Path, simulated: bool) -> PathBuf {
    let mut name = OsString::from(sheet);
    name.push(if simulated { ".simulated" } else { "" });
    name.push(STATE_SUFFIX);
    name.into()
}

/// The results of a sheet: `prompts.results.csv`.
fn results_of(sheet: &Path, simulated: bool) -> PathBuf {
    let mut name = OsString::from(sheet.file_stem().unwrap_or(sheet.as_os_str()));
    name.push(if simulated { ".simulated.results.csv" } else { ".results.csv" });
    sheet.with_file_name(name)
}

/// Where the videos of a sheet go: `prompts.videos` beside it, or beside the state file of one from
/// standard input.
#[must_use]
pub fn videos_of(source: &Source, state: Option<&Path>, simulated: bool) -> PathBuf {
    let sheet = match (source, state) {
        (Source::File(sheet), _) => sheet.clone(),
        (Source::Stdin, Some(state)) => unsuffixed(state),
        (Source::Stdin, None) => PathBuf::from("prompts"),
    };
    let mut name = OsString::from(sheet.file_stem().unwrap_or(sheet.as_os_str()));
    name.push(if simulated { ".simulated.videos" } else { ".videos" });
    sheet.with_file_name(name)
}

/// Whether `path`, from `folder` if it is relative, lies in `folder` by its words, and as far as it is
/// there also by its links.
#[must_use]
pub fn lies_inside(folder: &Path, path: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(root) = fs::canonicalize(folder) else { return false };
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    let whole = folder.join(path);
    let mut there = iter::successors(Some(whole.as_path()), |path| path.parent());
    let real = there.find_map(|path| {
        // A link to nothing leads somewhere too, once that is made.
        let dangling = path.symlink_metadata().is_ok() && !path.exists();
        if dangling { Some(None) } else { fs::canonicalize(path).ok().map(Some) }
    });
    !goes_up && real.flatten().is_some_and(|real| real.starts_with(root))
}

/// `state` without the part of its name that says it is one, with an extension to lose.
fn unsuffixed(state: &Path) -> PathBuf {
    let name = state.to_string_lossy();
    name.strip_suffix(STATE_SUFFIX).map_or_else(|| state.to_owned(), PathBuf::from)
}

/// The state file that `given`, a sheet or a state file, stands for; without it, the only state
/// file in `folder`.
///
/// # Errors
///
/// There is none, or there are several: they are listed.
pub fn locate(given: Option<&Path>, folder: &Path) -> Result<PathBuf, UsageError> {
    let Some(given) = given else { return only_state(folder) };
    if is_state(given) {
        return Ok(given.to_owned());
    }
    let state = state_of(given, false);
    if state.is_file() {
        return Ok(state);
    }
    let shown = given.display();
    let rehearsed = state_of(given, true);
    Err(UsageError(if rehearsed.is_file() {
        format!("{shown} has only been rehearsed: for the rehearsal name {}", rehearsed.display())
    } else {
        format!("{shown} has not been run yet (there is no {}): batchveo run {shown}", state.display())
    }))
}

/// The same error, with the state file's name where the database speaks, which does not know it.
#[must_use]
pub fn about_state(error: anyhow::Error, state: &Path) -> anyhow::Error {
    let speaks = error.chain().any(|cause| cause.is::<rusqlite::Error>() || cause.is::<serde_json::Error>());
    let named = || format!("{error:#}").contains(&*state.to_string_lossy());
    if !speaks || named() {
        return error;
    }
    let shown = state.display();
    error.context(format!("{shown}: if it is damaged, put a copy of it back in its place"))
}

fn only_state(folder: &Path) -> Result<PathBuf, UsageError> {
    let mut states = states_in(folder)
        .map_err(|error| UsageError(format!("looking for state files in {}: {error}", folder.display())))?;
    states.sort();
    match states.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(UsageError("no state file in this folder: name a sheet or a state file".into())),
        several => {
            let names: Vec<_> = several.iter().map(|state| state.display().to_string()).collect();
            let list = names.join("\n  ");
            Err(UsageError(format!("several state files in this folder: name one of them\n  {list}")))
        }
    }
}

fn states_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut states = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let named_so = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(STATE_SUFFIX));
        if named_so && path.is_file() {
            // Shown and opened as the user would type it.
            states.push(if folder == Path::new(".") {
                path.file_name().map_or(path.clone(), PathBuf::from)
            } else {
                path
            });
        }
    }
    Ok(states)
}

/// Whether `path` is a state file by its name or, for one named by the user, by its first bytes.
fn is_state(path: &Path) -> bool {
    const SQLITE: &[u8; 16] = b"SQLite format 3\0";
    let mut start = [0; SQLITE.len()];
    path.to_string_lossy().ends_with(STATE_SUFFIX)
        || File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok_and(|()| &start == SQLITE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchError;
    use crate::cli::exit::Exit;
    use crate::store::StoreError;

    fn chosen(sheet: &str, state: Option<&str>, results: Option<&str>, simulated: bool) -> (String, String) {
        let source = if sheet == "-" { Source::Stdin } else { Source::File(sheet.into()) };
        let paths =
            RunPaths::choose(&source, state.map(Into::into), results.map(Into::into), simulated).unwrap();
        (paths.state.display().to_string(), paths.results.display().to_string())
    }

    #[test]
    fn names_follow_the_sheet() {
        for (sheet, state, results, simulated, expected) in [
            ("prompts.csv", None, None, false, ("prompts.csv.batchveo.db", "prompts.results.csv")),
            (
                "prompts.csv",
                None,
                None,
                true,
                ("prompts.csv.simulated.batchveo.db", "prompts.simulated.results.csv"),
            ),
            ("a/b.v2.txt", None, None, false, ("a/b.v2.txt.batchveo.db", "a/b.v2.results.csv")),
            ("p.csv", Some("s.db"), Some("o.csv"), true, ("s.db", "o.csv")),
            ("-", Some("x/s.batchveo.db"), None, false, ("x/s.batchveo.db", "x/s.results.csv")),
            ("-", Some("s.db"), None, true, ("s.db", "s.simulated.results.csv")),
        ] {
            let (state_name, results_name) = chosen(sheet, state, results, simulated);
            assert_eq!((state_name.as_str(), results_name.as_str()), expected, "{sheet}");
        }
    }

    #[test]
    fn standard_input_needs_a_state_and_results_are_a_file() {
        let error = RunPaths::choose(&Source::Stdin, None, None, false).unwrap_err();
        assert!(error.to_string().contains("--state"));
        let error =
            RunPaths::choose(&Source::File("p.csv".into()), None, Some("-".into()), false).unwrap_err();
        assert!(error.to_string().contains("export"));
    }

    #[test]
    fn what_the_database_says_names_the_state_file() {
        let state = Path::new("s.db");
        let store = || StoreError::from(rusqlite::Error::InvalidQuery);
        let late = anyhow::Error::from(BatchError::Engine(store().into()));
        let told = about_state(late, state);
        assert!(format!("{told:#}").starts_with("s.db: "), "{told:#}");
        assert_eq!(Exit::of(&told), Exit::Stopped, "it is still the error that it was");
        let other = anyhow::Error::from(StoreError::Missing { path: state.into() });
        assert_eq!(format!("{:#}", about_state(other, state)), "s.db does not exist: nothing was run yet");
    }

    #[test]
    fn a_command_about_a_run_finds_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(locate(None, folder.path()).unwrap_err().to_string().contains("no state file"));

        fs::write(path("prompts.csv"), "prompt\n").unwrap();
        let error = locate(Some(&path("prompts.csv")), folder.path()).unwrap_err().to_string();
        assert!(error.contains("has not been run yet"), "{error}");

        fs::write(path("prompts.csv.simulated.batchveo.db"), "").unwrap();
        let error = locate(Some(&path("prompts.csv")), folder.path()).unwrap_err().to_string();
        assert!(error.contains("only been rehearsed"), "{error}");
        assert_eq!(locate(None, folder.path()), Ok(path("prompts.csv.simulated.batchveo.db")));

        fs::write(path("prompts.csv.batchveo.db"), "").unwrap();
        assert_eq!(locate(Some(&path("prompts.csv")), folder.path()), Ok(path("prompts.csv.batchveo.db")));
        let error = locate(None, folder.path()).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 3, "{error}");

        fs::write(path("mine.db"), b"SQLite format 3\0...").unwrap();
        assert_eq!(locate(Some(&path("mine.db")), folder.path()), Ok(path("mine.db")));
    }
}
