//! What can be wrong with a state file: which, what, and what to do.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::{State, schema};
use crate::harmless::one_line;
use crate::job::SampleId;

/// What went wrong with a state file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its folder cannot be read or written.
    #[error("cannot use the state file {}: see to it that you may read and write there, or name another with --state", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such file.
    #[error("{} does not exist: nothing was run yet", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a folder.
    #[error("{} is a folder: name a file with --state", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// It can be read and not written.
    #[error("{} is write-protected: make it writable, or name another state file with --state", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// It is one of ours, and broken.
    #[error(
        "{} is damaged ({what}) and is left as it is: put a copy of it back in its place. Moved away, it is forgotten: \
         the next run would buy again what it bought",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the database says.
        what: String,
    },
    /// The process that wrote it last did not end in order, and the log it left is gone.
    #[error(
        "{} was written by a process that did not end in order, and {}, which holds the last of it, is missing: put it \
         back beside it. Only if it is lost for good, make an empty file of that name: what was bought last is then \
         forgotten, and may be bought again",
        path.display(),
        log.display()
    )]
    LostLog {
        /// The file.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a batchveo state file: name another with --state, or move it away", path.display())]
    NotAStateFile {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version.
    #[error(
        "{} has schema version {found}, this batchveo reads version {}: use the batchveo that wrote it",
        path.display(),
        schema::VERSION
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
    },
    /// The file belongs to another API, key or simulator.
    #[error("{} belongs to {owner}, not to {asked}: use that, or name another state file with --state", path.display())]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who asked.
        asked: String,
    },
    /// A change that the sample's state does not allow.
    #[error("line {line}, sample {index}: {step} is not possible in state {found}")]
    IllegalTransition {
        /// The row's line in the sheet.
        line: u64,
        /// The sample of the row, from 0.
        index: u32,
        /// The step.
        step: String,
        /// The stored state.
        found: State,
    },
    /// A change to a sample that is not there.
    #[error("the state file has no sample {0}")]
    NoSuchSample(SampleId),
    /// A stored state that no step leads to.
    #[error("the state file is damaged at line {line}, sample {index}: {state} {what}")]
    Damaged {
        /// The row's line in the sheet.
        line: u64,
        /// The sample of the row, from 0.
        index: u32,
        /// The stored state.
        state: State,
        /// What is wrong with it.
        what: &'static str,
    },
    /// `--where` names a column that the sheet has not.
    #[error("the sheet has no column `{}`; it has: {}", one_line(column, 80), names(columns))]
    NoSuchColumn {
        /// The name.
        column: String,
        /// The sheet's columns.
        columns: Vec<String>,
    },
    /// A stored text is not what was stored.
    #[error("the state file holds a text that cannot be read")]
    Text(#[from] serde_json::Error),
    /// The database failed.
    #[error("the state file failed")]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// The same, naming the file where the database tells what is the matter with it.
    pub(super) fn about(self, path: &Path) -> Self {
        if self.is_for_want_of_room() {
            return self;
        }
        let Self::Sqlite(error) = self else { return self };
        let path = path.to_owned();
        let code = error.sqlite_error_code();
        let is = |codes: &[ErrorCode]| code.is_some_and(|code| codes.contains(&code));
        if is(&[ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase]) {
            Self::Broken { path, what: error.to_string() }
        } else if is(&[ErrorCode::ReadOnly]) {
            Self::ReadOnly { path }
        } else if is(&[ErrorCode::CannotOpen, ErrorCode::SystemIoFailure, ErrorCode::PermissionDenied]) {
            Self::Unreadable { path, source: std::io::Error::other(error) }
        } else {
            Self::Sqlite(error)
        }
    }
}

/// Columns for a message.
fn names(columns: &[String]) -> String {
    let names: Vec<_> = columns.iter().map(|name| one_line(name, 80)).collect();
    names.join(", ")
}
