//! How a command ended, as the shell sees it.
//!
//! One enum, so that no number is written twice; `--help` and the README repeat it, and the tests
//! hold them to it.

use std::io;
use std::process::ExitCode;

use crate::batch::BatchError;
use crate::store::{AccountError, LockError};

/// Why the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Every sample succeeded, or no more failed than `--max-failures` allows.
    Succeeded,
    /// The run finished and some samples did not succeed.
    Unsuccessful,
    /// Usage, sheet or configuration is wrong. Nothing was bought.
    Refused,
    /// The run stopped before its end and can be resumed: key, money, cap, outage, disk, time.
    Stopped,
    /// Another process holds the state file or the account.
    Held,
    /// Ctrl-C. Resumable.
    Interrupted,
    /// SIGTERM, or SIGHUP: the terminal was closed. Resumable.
    Terminated,
}

impl Exit {
    /// Every way to end, in the order of the numbers.
    pub const ALL: [Self; 7] = [
        Self::Succeeded,
        Self::Unsuccessful,
        Self::Refused,
        Self::Stopped,
        Self::Held,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// What an error comes to. One of a run that had begun is resumable; any other comes before
    /// anything was bought.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        let held = |lock: &LockError| matches!(lock, LockError::Held { .. });
        let lock = |cause: &(dyn std::error::Error + 'static)| {
            let inner = cause.downcast_ref::<BatchError>();
            let of_batch = inner.is_some_and(|batch| matches!(batch, BatchError::Lock(lock) if held(lock)));
            let of_account = cause.downcast_ref::<AccountError>();
            of_batch
                || of_account.is_some_and(|error| {
                    matches!(error, AccountError::Taken { .. } | AccountError::Stuck { .. })
                })
        };
        if error.chain().any(lock) {
            return Self::Held;
        }
        let batch = error.chain().find_map(|cause| cause.downcast_ref::<BatchError>());
        match batch {
            Some(BatchError::Engine(_)) => Self::Stopped,
            Some(
                BatchError::Lock(_)
                | BatchError::Store(_)
                | BatchError::Import(_)
                | BatchError::Results(_)
                | BatchError::Thread(_),
            )
            | None => Self::Refused,
        }
    }

    /// The number the shell gets. For a signal it is 128 and the signal's number, as shells have it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Unsuccessful => 1,
            Self::Refused => 2,
            Self::Stopped => 3,
            Self::Held => 4,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What the system said about `error`, also where the CSV library wrapped it.
fn system_says(error: &anyhow::Error) -> impl Iterator<Item = io::ErrorKind> {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(|cause| {
        let wrapped = cause.get_ref().and_then(|inner| inner.downcast_ref::<csv::Error>());
        match wrapped.map(csv::Error::kind) {
            Some(csv::ErrorKind::Io(inner)) => inner.kind(),
            Some(_) | None => cause.kind(),
        }
    })
}

/// Whether `error` says no more than that nobody reads our output any longer.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    system_says(error).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// Whether `error` says that a disk, or the user's part of it, is full.
#[must_use]
pub fn is_for_want_of_room(error: &anyhow::Error) -> bool {
    let database = error.chain().filter_map(|cause| cause.downcast_ref::<rusqlite::Error>());
    let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    database.filter_map(rusqlite::Error::sqlite_error_code).any(|code| code == rusqlite::ErrorCode::DiskFull)
        || system_says(error).any(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_numbers_are_the_documented_ones() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 130, 143]);
    }

    #[test]
    fn a_broken_pipe_is_found_below_its_context() {
        let error = |kind| Err::<(), _>(io::Error::from(kind)).context("writing results").unwrap_err();
        assert!(is_broken_pipe(&error(io::ErrorKind::BrokenPipe)));
        let wrapped = io::Error::from(csv::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert!(is_broken_pipe(&wrapped.into()));
        assert!(!is_broken_pipe(&error(io::ErrorKind::StorageFull)));
        assert!(is_for_want_of_room(&error(io::ErrorKind::StorageFull)));
        assert!(!is_for_want_of_room(&error(io::ErrorKind::PermissionDenied)));
    }
}
