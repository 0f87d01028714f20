//! The tables of the state file, and what makes a file one of ours.
//!
//! The header of the main file always carries our application id and schema version: a new state
//! file is built whole under another name, without a write-ahead log, and then renamed. So a file
//! can be told from a foreign one by reading 100 bytes, before the database library is allowed to
//! touch it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::StoreError;
use super::callbacks::MOVED;

/// `bveo`, in the header of the file.
pub(super) const APPLICATION_ID: u32 = 0x6276_656f;
/// The version this program reads and writes.
pub(super) const VERSION: u32 = 1;
/// Added to the version while a process writes with a write-ahead log, so that the header alone
/// tells that the file is not whole without its log: after a crash, what was bought last is there.
pub(super) const HAS_LOG: u32 = 1 << 16;

/// Memory for pages, per connection, in KiB: enough for the hot pages of 1,000 tasks in flight and
/// independent of the size of the sheet.
pub(super) const PAGE_CACHE_KIB: u32 = 8 * 1024;

/// The sheet's rows in its order, and behind them those no longer in it that hold bought samples.
pub(super) const ROWS: &str = "(
    position INTEGER PRIMARY KEY,
    line INTEGER NOT NULL,
    key BLOB NOT NULL,
    occurrence INTEGER NOT NULL DEFAULT 1,
    samples INTEGER NOT NULL,
    type TEXT,
    mode TEXT,
    generation TEXT,
    fields TEXT NOT NULL,
    problem TEXT,
    removed INTEGER NOT NULL DEFAULT 0
) STRICT";

/// One wanted video each; `id` is manifest order. Stamps are milliseconds since birth, `created`
/// and `completed` the API's own milliseconds since 1970, `cost` millionths of a dollar.
pub(super) const SAMPLES: &str = "(
    id INTEGER PRIMARY KEY,
    row INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    state TEXT NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    paid_retries INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER,
    submitted INTEGER,
    accepted INTEGER,
    ended INTEGER,
    created INTEGER,
    completed INTEGER,
    task TEXT,
    kind TEXT,
    code TEXT,
    message TEXT,
    urls TEXT
) STRICT";

/// Where videos are saved to: a folder's path, or a bucket's address.
const DESTINATIONS: &str = "(
    id INTEGER PRIMARY KEY,
    address TEXT NOT NULL UNIQUE
) STRICT";

/// Videos that are saved, or could not be, at a destination. By task and not by sample, for the
/// numbers of samples change with the sheet; `at` is in milliseconds since 1970.
const FILES: &str = "(
    task TEXT NOT NULL,
    part INTEGER NOT NULL,
    destination INTEGER NOT NULL,
    state TEXT NOT NULL,
    path TEXT,
    bytes INTEGER,
    sha256 BLOB,
    at INTEGER NOT NULL,
    problem TEXT,
    PRIMARY KEY(task, part, destination)
) STRICT, WITHOUT ROWID";

/// What a restart must look at. Spelt with `OR`: for an `IN` of four words the database builds a
/// table each time it asks itself whether a changed sample belongs into the index, and commits take
/// twice as long.
pub(super) const WATCHED: &str =
    "(state = 'submitting' OR state = 'running' OR state = 'timed_out' OR state = 'unknown')";

/// Makes the index of watched samples, so that resuming does not read a million rows; once the
/// table is full, which is faster than keeping it up.
pub(super) fn index_watched() -> String {
    format!("CREATE INDEX watched ON samples(id) WHERE {WATCHED};")
}

/// Builds the tables in an empty database, in one transaction.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN;
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {VERSION};
         CREATE TABLE meta(name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE result_files(path TEXT NOT NULL, header TEXT NOT NULL, PRIMARY KEY(path, header))
            STRICT, WITHOUT ROWID;
         CREATE TABLE rows {ROWS};
         CREATE TABLE samples {SAMPLES};
         {index}
         COMMIT;",
        index = index_watched(),
    ))
}

/// The names of samples without extensions, and their folds, of which no two are one file.
pub(super) const NAMES: &str = "(
    sample INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    fold BLOB NOT NULL
) STRICT";

/// Adds the tables that state files of earlier versions have not. Who only reads takes them for
/// empty where they are missing.
pub(super) fn extend(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS names {NAMES};
         {}
         CREATE TABLE IF NOT EXISTS destinations {DESTINATIONS};
         CREATE TABLE IF NOT EXISTS files {FILES};
         CREATE TABLE IF NOT EXISTS moved_samples {MOVED};",
        index_names("names")
    ))
}

/// Makes the index that keeps names apart.
pub(super) fn index_names(table: &str) -> String {
    format!("CREATE UNIQUE INDEX IF NOT EXISTS names_by_fold ON {table}(fold);")
}

/// Whether the file at `path` is a state file that this program can read; `false` when there is
/// none.
pub(super) fn inspect(path: &Path) -> Result<bool, StoreError> {
    if path.is_dir() {
        return Err(StoreError::Folder { path: path.into() });
    }
    let Some(version) = version(path)? else { return Ok(false) };
    if version & !HAS_LOG != VERSION {
        return Err(StoreError::OtherVersion { path: path.into(), found: version & !HAS_LOG });
    }
    // Asked twice: a process that ends says so in the file before it removes the log.
    let has_log = || Ok::<_, StoreError>(self::version(path)?.is_some_and(|version| version & HAS_LOG != 0));
    if has_log()? && !log_of(path).exists() && has_log()? {
        return Err(StoreError::LostLog { path: path.into(), log: log_of(path) });
    }
    Ok(true)
}

/// The write-ahead log of the state file at `path`.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The version in the header of the file at `path`, if there is one and it is ours.
fn version(path: &Path) -> Result<Option<u32>, StoreError> {
    let mut header = Vec::with_capacity(100);
    match File::open(path) {
        Ok(file) => file
            .take(100)
            .read_to_end(&mut header)
            .map_err(|source| StoreError::Unreadable { path: path.into(), source })?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Unreadable { path: path.into(), source }),
    };
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    if !header.starts_with(b"SQLite format 3\0") || word(68) != APPLICATION_ID {
        return Err(StoreError::NotAStateFile { path: path.into() });
    }
    Ok(Some(word(60)))
}
