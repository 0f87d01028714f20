//! Room set aside beside the state file, for the day the disk is full.
//!
//! A full disk must not cost what is paid for: when a commit finds no room, the reserve is given
//! back to the disk and the same commit goes into its place. It is used once; then buying stops,
//! and what is in flight is still written down. The next run sets it aside again.
//!
//! A file system may keep a file of zeros without giving it room, so the reserve is filled with
//! what does not compress.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::ffi;

use super::{Store, StoreError};

/// Room for the ends of 1,000 tasks in flight, in bytes. Each end rewrites at most four pages of
/// 4 KiB in the log, which is emptied every [`PAGES_OF_LOG`] pages from then on, and leaves a link
/// of up to 2 KiB and a message behind: 1 MiB of log and 4 MiB of pages, and as much again for the
/// results and whoever else writes to a disk that has just got some room.
pub(super) const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Pages of log between checkpoints once the reserve is in use: a checkpoint costs two syncs, which
/// matter less than room now.
const PAGES_OF_LOG: u32 = 256;

/// Written at once, in bytes.
const PIECE: usize = 64 * 1024;

/// Room that is set aside.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Sets room aside at `path`, unless it is there already, of an earlier run.
    ///
    /// # Errors
    ///
    /// There is not enough of it, or the file cannot be made. Nothing is left behind then.
    fn set_aside(path: PathBuf) -> io::Result<Self> {
        let whole = |found: &fs::Metadata| found.is_file() && found.len() == RESERVE_BYTES;
        if !fs::metadata(&path).is_ok_and(|found| whole(&found)) {
            let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
            // A file that is too short is of a process that was killed here: it is made anew.
            fill(file).inspect_err(|_| drop(fs::remove_file(&path)))?;
        }
        Ok(Self { path })
    }

    /// Gives the room back to the disk.
    fn release(self) -> io::Result<()> {
        // Where even a removal needs room, shortening may not.
        fs::remove_file(&self.path)
            .or_else(|_| OpenOptions::new().write(true).truncate(true).open(&self.path).map(drop))
    }
}

fn fill(mut file: File) -> io::Result<()> {
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut piece = vec![0; PIECE];
    for _ in 0..RESERVE_BYTES / PIECE as u64 {
        noise.fill(&mut piece);
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Where the reserve of a state file is.
pub(super) fn reserve_path(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".reserve");
    name.into()
}

impl Store {
    /// Sets 8 MiB aside beside the state file, unless that has been done: for commits that find the
    /// disk full.
    ///
    /// # Errors
    ///
    /// There is no room for it, or its file cannot be made.
    pub fn set_aside(&mut self) -> io::Result<()> {
        self.reserve = Some(Reserve::set_aside(reserve_path(&self.path))?);
        Ok(())
    }

    /// Finds room on a full disk: gives the reserve back to it, empties the log, and keeps it short
    /// from now on. Nothing that fails here matters: the commit that is tried next will tell.
    pub(super) fn find_room(&mut self) {
        if let Some(Err(error)) = self.reserve.take().map(Reserve::release) {
            tracing::warn!(%error, "the room set aside beside the state file cannot be given back");
        }
        let emptied = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
        let shortened = self.connection.pragma_update(None, "wal_autocheckpoint", PAGES_OF_LOG);
        if let Err(error) = emptied.and(shortened) {
            tracing::debug!(%error, "the log of the state file stays as long as it is");
        }
    }
}

impl StoreError {
    /// Whether it failed because the disk, or the user's part of it, is full.
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::Sqlite(error) => error.sqlite_error().is_some_and(|error| lacks_room(error.extended_code)),
            Self::Unreadable { source, .. } => full(source),
            Self::Missing { .. }
            | Self::Folder { .. }
            | Self::ReadOnly { .. }
            | Self::Broken { .. }
            | Self::LostLog { .. }
            | Self::NotAStateFile { .. }
            | Self::OtherVersion { .. }
            | Self::OtherOwner { .. }
            | Self::IllegalTransition { .. }
            | Self::NoSuchSample(_)
            | Self::Damaged { .. }
            | Self::NoSuchColumn { .. }
            | Self::Text(_) => false,
        }
    }
}

/// Whether a result code of the database speaks of a disk that takes no more. `SQLITE_FULL` is its
/// word for `ENOSPC` at a write; at a sync, in shared memory, or beyond a quota the same is an I/O
/// error. Other I/O errors at these places are worth a second try as well.
const fn lacks_room(extended_code: i32) -> bool {
    matches!(
        extended_code,
        ffi::SQLITE_FULL
            | ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_SHMSIZE
            | ffi::SQLITE_IOERR_SHMMAP
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_kept_mended_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = reserve_path(&folder.path().join("a.db"));
        assert!(path.ends_with("a.db.reserve"));
        let length = || fs::metadata(&path).map(|found| found.len()).ok();
        let _made = Reserve::set_aside(path.clone()).unwrap();
        assert_eq!(length(), Some(RESERVE_BYTES));
        let first = fs::read(&path).unwrap();
        assert_ne!(first[..PIECE], first[PIECE..2 * PIECE], "it would compress");
        fs::write(&path, "killed here").unwrap();
        let mended = Reserve::set_aside(path.clone()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        mended.release().unwrap();
        assert_eq!(length(), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_room_is_really_taken() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let _reserve = Reserve::set_aside(path.clone()).unwrap();
        assert!(fs::metadata(path).unwrap().blocks() * 512 >= RESERVE_BYTES);
    }

    #[test]
    fn a_quota_is_a_full_disk_and_a_damaged_file_is_not() {
        let sqlite = |code| StoreError::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        let codes = [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE];
        assert!(codes.into_iter().all(|code| sqlite(code).is_for_want_of_room()));
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_BUSY, ffi::SQLITE_IOERR_READ, ffi::SQLITE_READONLY] {
            assert!(!sqlite(code).is_for_want_of_room(), "{code}");
        }
    }
}
