//! The state file: everything a run knows, in one `SQLite` file.
//!
//! It is the only source. The sheet is streamed into it once ([`Store::import`]); from then on the
//! queue ([`Store::cursor`]), resuming ([`Store::restore`]), duplicates, totals, results and the
//! page are queries. What happens to samples comes in as batches of changes ([`Store::commit`]),
//! each one transaction, each step checked against the state it starts from.
//!
//! Nothing here decides anything about a run, holds rows in memory, or reads a clock.

mod account;
mod after;
mod anchor;
mod asked;
mod callbacks;
mod columns;
mod commit;
mod cursor;
mod doubts;
mod error;
mod files;
mod images;
mod import;
mod learned;
mod lock;
mod names;
mod outcome;
mod particulars;
mod put_back;
mod queue;
mod reserve;
mod restore;
mod retry;
mod schema;
mod selection;
mod state;
mod tallies;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, Value};
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension};

pub use account::{AccountError, Claim, Holder, Part, account_folder};
pub use asked::{Asked, Names, Uses};
pub use columns::Cells;
pub use cursor::Cursor;
pub use doubts::{Doubt, Doubts, GivenUp, TakenFor, Unsettled};
pub use error::StoreError;
pub use files::{DestinationCount, Files, Note, NoteOf, SavedFile, Standing, ToSave, UnsavedLinks};
pub use images::ImageUse;
pub use import::{Differences, Import, ImportError, ImportOptions, PROBLEMS_SHOWN, Sheet};
pub use lock::{Lock, LockError, state_lock_path};
pub use names::{Naming, NamingError};
pub use outcome::{ResultFilter, ResultRow};
pub use particulars::Particulars;
pub use put_back::{PutBack, SavedVideo};
pub use queue::{QUEUE_LENGTH, spawn as spawn_queue};
pub use retry::Retried;
pub use selection::Selection;
pub use state::State;
pub use tallies::{OutcomeCount, PlanLine};
pub use writer::{Committed, Follower, LookUp, Trouble, Writer, WriterError, tell_what_is_lost};

use commit::Stamps;

use crate::clock::Moment;
use crate::harmless::one_line;
use crate::job::{Stamp, UnixMillis};

/// Longest wait of a run's commit for others who use the state file.
const LONGEST_WAIT_FOR_OTHERS: Duration = Duration::from_mins(10);

/// How soon a commit is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before [`Store::commit`] returns: what is paid for survives a power cut.
    Full,
    /// Some time later: nothing is paid for in a rehearsal, and it still survives a crash of the
    /// process.
    Rehearsal,
}

/// Whose state it is: a state file belongs to one API and key, or to one simulator.
pub enum Owner<'a> {
    /// An account of an API.
    Api {
        /// Its base URL.
        base_url: &'a str,
        /// The key's fingerprint under a salt; the key itself never comes here.
        key: &'a dyn Fn(&[u8; 32]) -> [u8; 32],
    },
    /// A rehearsal.
    Simulator {
        /// The simulator's seed.
        seed: u64,
    },
}

/// An open state file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    birth: UnixMillis,
    /// The largest stamp committed here, and what [`Store::last_stamp`] answers, once there is a commit:
    /// nobody else commits.
    stamps: Option<Stamps>,
    /// Room for the day the disk is full, once it is set aside.
    reserve: Option<reserve::Reserve>,
    /// Whether this is the writer, and writes with a log.
    has_log: bool,
    /// Kept for [`Store::scratch`]: its folder goes when it does.
    scratch: Option<tempfile::TempDir>,
}

impl Store {
    /// Opens the state file at `path`, or makes it, born `now`.
    ///
    /// # Errors
    ///
    /// A file that is not ours, of another version or of another owner is left untouched.
    pub fn open(
        path: &Path,
        owner: &Owner<'_>,
        durability: Durability,
        now: impl Into<Moment>,
    ) -> Result<Self, StoreError> {
        let now = now.into();
        let found = schema::inspect(path)?;
        if !found {
            create(path, owner, now.wall)?;
        }
        let opened = Self::take(path, Some(owner), durability, &now, found);
        opened.map_err(|error| error.about(path))
    }

    /// Opens the state file at `path` for writing, whosever it is.
    ///
    /// # Errors
    ///
    /// There is none, or it is not one of ours or of another version; then it is as it was.
    pub fn reopen(path: &Path, durability: Durability, now: impl Into<Moment>) -> Result<Self, StoreError> {
        if !schema::inspect(path)? {
            return Err(StoreError::Missing { path: path.into() });
        }
        Self::take(path, None, durability, &now.into(), true).map_err(|error| error.about(path))
    }

    /// Opens the file for writing if it is sound and this owner's, if there is to be one; else it stays
    /// as it is.
    fn take(
        path: &Path,
        owner: Option<&Owner<'_>>,
        durability: Durability,
        now: &Moment,
        found: bool,
    ) -> Result<Self, StoreError> {
        let connection = connect_to_write(path)?;
        let mut store = Self::from_connection(connection, path)?;
        let new_owner = match owner.map(|owner| (owner, store.check_owner(owner))) {
            // A run that bought nothing, with a wrong key say, binds nobody.
            Some((owner, Err(StoreError::OtherOwner { .. })))
                if store.bought_nothing()? && owner.is_api() =>
            {
                Some(owner)
            }
            Some((_, checked)) => checked.map(|()| None)?,
            None => None,
        };
        if found {
            store.check_soundness()?;
        }
        store.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        if let Some(owner) = new_owner {
            owner.bind(&store.connection)?;
        }
        store.prepare_for_writing(durability)?;
        schema::extend(&store.connection)?;
        store.tie_to(now)?;
        Ok(store)
    }

    /// That no page of the file is damaged. Each start of a run reads all of it once for that, also
    /// after an orderly end, since disks forget in between: 1.8 s for 1,000,000 rows (727 MB, in
    /// memory), as long as adding up what is left to buy. It finds what the shape of the file gives
    /// away; a letter turned into another within a prompt is not found.
    fn check_soundness(&self) -> Result<(), StoreError> {
        let told: String = self.connection.query_one("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        if told == "ok" {
            return Ok(());
        }
        let what = one_line(told.trim_start_matches("*** in database main ***"), 120);
        Err(StoreError::Broken { path: self.path.clone(), what })
    }

    /// A state file of its own in a temporary folder, for looking at a sheet without a run.
    ///
    /// # Errors
    ///
    /// When the temporary folder cannot be written.
    pub fn scratch() -> Result<Self, StoreError> {
        let folder = tempfile::tempdir()
            .map_err(|source| StoreError::Unreadable { path: std::env::temp_dir(), source })?;
        let path = folder.path().join("scratch.db");
        let owner = Owner::Simulator { seed: 0 };
        let mut store = Self::open(&path, &owner, Durability::Rehearsal, UnixMillis(0))?;
        store.scratch = Some(folder);
        Ok(store)
    }

    /// Opens the state file at `path` for looking only, also while a run goes on.
    ///
    /// # Errors
    ///
    /// A missing file, one that is not ours, or one of another version.
    pub fn read_only(path: &Path) -> Result<Self, StoreError> {
        if !schema::inspect(path)? {
            return Err(StoreError::Missing { path: path.into() });
        }
        let opened = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        opened
            .and_then(|connection| Self::from_connection(connection, path))
            .map_err(|error| error.about(path))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the file was made: what stamps count from.
    #[must_use]
    pub const fn birth(&self) -> UnixMillis {
        self.birth
    }

    /// A stamp that no commit has passed: the last, or at most a second after it while a process has the
    /// file or if one was killed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn last_stamp(&self) -> Result<Stamp, StoreError> {
        let millis: Option<i64> = meta(&self.connection, "last_stamp")?;
        Ok(Stamp::from_millis(unsigned(millis.unwrap_or(0))))
    }

    /// The fingerprint of the sheet in the file, and whether its bad rows were skipped; `None`
    /// before the first import.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn imported(&self) -> Result<Option<([u8; 32], bool)>, StoreError> {
        let fingerprint: Option<[u8; 32]> = meta(&self.connection, "sheet")?;
        let skipped: Option<bool> = meta(&self.connection, "skip_invalid")?;
        Ok(fingerprint.map(|fingerprint| (fingerprint, skipped == Some(true))))
    }

    /// The sheet's columns, in order; none before the first import.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn columns(&self) -> Result<Vec<String>, StoreError> {
        Ok(columns::of_sheet(&self.connection)?.into_iter().map(|column| column.name).collect())
    }

    fn from_connection(connection: Connection, path: &Path) -> Result<Self, StoreError> {
        let birth: Option<i64> = meta(&connection, "birth")?;
        let birth = birth.ok_or_else(|| StoreError::NotAStateFile { path: path.into() })?;
        let path = path.into();
        Ok(Self {
            connection,
            path,
            birth: UnixMillis(birth),
            stamps: None,
            reserve: None,
            has_log: false,
            scratch: None,
        })
    }

    fn prepare_for_writing(&mut self, durability: Durability) -> Result<(), StoreError> {
        let ask = |connection: &Connection, mode: &str| {
            connection.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0))
        };
        // Some network and shared file systems cannot hold the log's shared memory, which shows only
        // when it is used.
        let has_log = ask(&self.connection, "WAL").is_ok_and(|mode| mode.eq_ignore_ascii_case("wal"))
            && meta::<i64>(&self.connection, "birth").is_ok();
        if !has_log {
            // The file says already that it has a log: that is taken back by who has it alone.
            drop(std::mem::replace(&mut self.connection, Connection::open_in_memory()?));
            self.connection = connect_to_write(&self.path)?;
            ask(&self.connection, "TRUNCATE")?;
        }
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Rehearsal => "OFF",
        };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        // 16 MiB of log between checkpoints: each checkpoint syncs twice.
        self.connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
        self.connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        self.has_log = has_log;
        let version = if has_log { schema::VERSION | schema::HAS_LOG } else { schema::VERSION };
        self.connection.pragma_update(None, "user_version", version)?;
        // Into the file itself, where it is seen without the log. A reader elsewhere may keep it in
        // the log; then a lost log is not found out, as it would not be without this.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        Ok(())
    }

    /// From now on commits wait long for others who have the file open: an export where there is no
    /// log, or a transaction somebody left open in a database shell. What waits with them is in memory
    /// alone, and a run that gave up would lose it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn outlast_others(&self) -> Result<(), StoreError> {
        Ok(self.connection.busy_timeout(LONGEST_WAIT_FOR_OTHERS)?)
    }

    /// Whether nothing was ever submitted for this file.
    fn bought_nothing(&self) -> Result<bool, StoreError> {
        let simulated: Option<i64> = meta(&self.connection, "simulator_seed")?;
        let sql = "SELECT EXISTS (SELECT 1 FROM samples WHERE attempts > 0 OR state = 'submitting')";
        let submitted: bool = self.connection.query_one(sql, (), |row| row.get(0))?;
        Ok(!submitted && simulated.is_none())
    }

    /// That the file is this owner's.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherOwner`] says whose it is; [`StoreError::Broken`], that it is an API's and
    /// says of no key that it is its own.
    pub fn check_owner(&self, owner: &Owner<'_>) -> Result<(), StoreError> {
        let base_url: Option<String> = meta(&self.connection, "base_url")?;
        let seed: Option<i64> = meta(&self.connection, "simulator_seed")?;
        let salt: Option<[u8; 32]> = meta(&self.connection, "salt")?;
        let fingerprint: Option<[u8; 32]> = meta(&self.connection, "key_fingerprint")?;
        let (theirs, asked) = match (owner, &base_url, seed) {
            (Owner::Api { base_url: asked, key }, Some(theirs), _) if asked == theirs => {
                let (Some(salt), Some(fingerprint)) = (salt, fingerprint) else {
                    let what = "it does not say which key it belongs to".to_owned();
                    return Err(StoreError::Broken { path: self.path.clone(), what });
                };
                if key(&salt) == fingerprint {
                    return Ok(());
                }
                (format!("another key of {theirs}"), "this key".to_owned())
            }
            (Owner::Simulator { seed: asked }, _, Some(theirs)) if *asked == theirs.cast_unsigned() => {
                return Ok(());
            }
            (_, Some(theirs), _) => (theirs.clone(), owner.to_string()),
            (_, None, Some(seed)) => {
                (Owner::Simulator { seed: seed.cast_unsigned() }.to_string(), owner.to_string())
            }
            (_, None, None) => return Err(StoreError::NotAStateFile { path: self.path.clone() }),
        };
        Err(StoreError::OtherOwner { path: self.path.clone(), owner: theirs, asked })
    }
}

impl Drop for Store {
    /// Says in the file that it is whole without its log; closing then empties that into it.
    fn drop(&mut self) {
        if let Err(error) = self.settle_stamps() {
            tracing::debug!(%error, "the last stamp in the state file is ahead of the last commit");
        }
        if !self.has_log {
            return;
        }
        // What was only proposed, see `Store::propose`.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::debug!(%error, "a proposal is forgotten all the same");
        }
        if let Err(error) = self.connection.pragma_update(None, "user_version", schema::VERSION) {
            tracing::debug!(%error, "the state file keeps its log");
            // The log is removed only together with the word of it.
            let keep = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            drop(keep);
        }
    }
}

impl Owner<'_> {
    const fn is_api(&self) -> bool {
        matches!(self, Owner::Api { .. })
    }

    /// Makes the file at the other end of `connection` this owner's.
    fn bind(&self, connection: &Connection) -> Result<(), StoreError> {
        match self {
            Owner::Api { base_url, key } => {
                let salt: [u8; 32] = connection.query_one("SELECT randomblob(32)", (), |row| row.get(0))?;
                set_meta(connection, "base_url", (*base_url).to_owned())?;
                set_meta(connection, "salt", salt.to_vec())?;
                set_meta(connection, "key_fingerprint", key(&salt).to_vec())?;
            }
            Owner::Simulator { seed } => set_meta(connection, "simulator_seed", seed.cast_signed())?,
        }
        Ok(())
    }
}

impl std::fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Owner::Api { base_url, .. } => f.write_str(base_url),
            Owner::Simulator { seed } => write!(f, "the simulator with seed {seed}"),
        }
    }
}

/// Builds a new state file under a passing name and gives it `path` whole, so that a file of that
/// name never is half a state file.
fn create(path: &Path, owner: &Owner<'_>, now: UnixMillis) -> Result<(), StoreError> {
    let failed = |source| StoreError::Unreadable { path: path.into(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".batchveo-")
        .suffix(".new")
        .tempfile_in(folder)
        .map_err(failed)?
        .into_temp_path();
    {
        let connection = Connection::open(&file)?;
        schema::create(&connection)?;
        set_meta(&connection, "birth", now.0)?;
        owner.bind(&connection)?;
        connection.close().map_err(|(_, error)| error)?;
    }
    file.persist_noclobber(path).map_err(|error| failed(error.error))
}

/// A connection that can read and write the file. A file with a
/// log may have come from another file system to one that cannot hold the log's shared memory: then
/// the log is written into it, which needs none when nobody else reads.
fn connect_to_write(path: &Path) -> Result<Connection, StoreError> {
    let connect = || connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let without_memory =
        [ErrorCode::CannotOpen, ErrorCode::SystemIoFailure, ErrorCode::FileLockingProtocolFailed];
    let connection = match connect() {
        Err(StoreError::Sqlite(error))
            if error.sqlite_error_code().is_some_and(|code| without_memory.contains(&code)) =>
        {
            take_log_in(path).map_err(|_| error)?;
            connect()?
        }
        connected => connected?,
    };
    if connection.is_readonly(MAIN_DB)? {
        return Err(StoreError::ReadOnly { path: path.into() });
    }
    Ok(connection)
}

/// Writes the log of the file at `path` into it, and has it written without one from now on.
fn take_log_in(path: &Path) -> rusqlite::Result<()> {
    let alone = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Before anything is read: who is alone needs no memory to share.
    alone.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    alone.pragma_update(None, "user_version", schema::VERSION)?;
    alone.pragma_update_and_check(None, "journal_mode", "TRUNCATE", |_| Ok(()))
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let leave_log = schema::log_of(path).exists();
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // The last to close a file writes the log into it and removes that. With a log of another
    // process this is for its next writer: a reader cannot write, and a refused file stays as it is.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave_log)?;
    keep_plans(&connection)?;
    // Reads the file for the first time, and so finds out whether it can.
    connection.pragma_update(None, "cache_size", -i64::from(schema::PAGE_CACHE_KIB))?;
    // One entry for each statement of the hottest path, commits, and as many again for queries.
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Keeps the plan of a prepared statement whatever is bound to it. Without this the database makes some
/// statements anew each time they are given another value, in case that fits another index: a fifth of
/// a run's time went there, and no statement of ours has a plan to gain by it.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// A value of the file itself.
fn meta<T: FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn set_meta(connection: &Connection, name: &str, value: impl Into<Value>) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(name, value) VALUES(?1, ?2)")?
        .execute((name, value.into()))
        .map(drop)
}

/// A stored whole number that was not negative when it was stored.
fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A number as it is stored; one too large for the file becomes the largest.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
