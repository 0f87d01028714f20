//! The files of a run: which of them may not be one, and the books of a rehearsal.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context;

use super::RunArgs;
use crate::cli::UsageError;
use crate::cli::paths::RunPaths;
use crate::cli::sheet::Source;

/// Refuses to write one file in two ways, or over what is read.
///
/// # Errors
///
/// Two of the files named are one.
pub(super) fn keep_apart(args: &RunArgs, source: &Source, paths: &RunPaths) -> Result<(), UsageError> {
    let sheet = if let Source::File(path) = source { Some(path) } else { None };
    let ledger = ledger_path(&paths.state);
    let files = [
        ("the sheet", sheet),
        ("--state", Some(&paths.state)),
        ("the ledger of a rehearsal", Some(&ledger)),
        ("-o", Some(&paths.results)),
        ("--api-key-file", args.connection.api_key_file.as_ref()),
        ("--summary", args.summary.as_ref()),
        ("--metrics-file", args.metrics.metrics_file.as_ref()),
        ("--events", args.events.as_ref().filter(|path| path.as_os_str() != "-")),
    ];
    // A file that is there may have two names; one that is not has none yet; a device keeps nothing.
    let same = |path: &PathBuf| {
        let kept = path.is_file() || !path.exists();
        fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok().filter(|_| kept)
    };
    let files: Vec<_> =
        files.iter().filter_map(|(what, path)| Some((what, same((*path)?)?, (*path)?))).collect();
    for (place, (what, path, shown)) in files.iter().enumerate() {
        if let Some((other, ..)) = files[..place].iter().find(|(_, known, _)| known == path) {
            let shown = shown.display();
            return Err(UsageError(format!("{shown} is both {other} and {what}: name two files")));
        }
    }
    Ok(())
}

/// The simulator's own books, beside the state file of the rehearsal.
pub(super) fn ledger_path(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".ledger");
    name.into()
}

/// Removes the books of an earlier rehearsal, whose state file is gone.
pub(super) fn forget(ledger: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = ledger.as_os_str().to_owned();
        path.push(suffix);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| PathBuf::from(path).display().to_string());
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
