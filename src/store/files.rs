//! Which videos are saved where.
//!
//! What is saved is kept by the task that made it, since a sample may change its number when rows come
//! in before it, and by destination, since the same video may be wanted at several. Downloads read and
//! write through [`Files`], on a connection of their own: their transactions are short and are not
//! synced one by one, so that a commit of the engine never waits for them noticeably. What a power cut
//! takes of them is found again by the bytes of the files.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use super::{Particulars, Store, StoreError, connect_to_write, meta, schema, stored, unsigned};
use crate::job::{SampleId, TaskId, UnixMillis};
use crate::names::{Folding, fold};

/// Longest wait for a commit of the engine, or for somebody who has the file open, before the first
/// download; and for a note, since nothing is received meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const WAIT_OF_A_NOTE: Duration = Duration::from_secs(1);

/// Age at which links end by one of the vendor's pages, and how long before that is soon.
const LINKS_LAST: Duration = Duration::from_hours(24);
const SOON: Duration = Duration::from_hours(6);

pub(super) fn has_files(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'files')";
    connection.query_one(sql, (), |row| row.get(0))
}

/// A file at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// Its name there, with `/` between folders.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of all of it.
    pub sha256: [u8; 32],
}

/// A sample with videos that are not saved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSave {
    /// Which.
    pub sample: SampleId,
    /// The task that made it.
    pub task: TaskId,
    /// The names of its videos, without extensions, in the same order.
    pub names: Vec<String>,
    /// The links to all of its videos.
    pub urls: Vec<String>,
    /// What is known of each at this destination, in the same order.
    pub parts: Vec<Standing>,
    /// All that is known of the sample, where that was asked for.
    pub particulars: Option<Box<Particulars>>,
}

/// How a video stands at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known, or it could not be had.
    Missing,
    /// It was whole, and about to get its name.
    Placing(SavedFile),
    /// It is there, and the file beside it is wanted that says what it is.
    Undescribed(SavedFile),
    /// It is there.
    Saved(SavedFile),
}

/// Something to remember of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The task that made it.
    pub task: TaskId,
    /// Which of the task's videos, from 1.
    pub part: u32,
    /// When.
    pub at: UnixMillis,
    /// What.
    pub what: NoteOf,
}

/// What there is to remember of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteOf {
    /// It is whole and about to get this name.
    Placing(SavedFile),
    /// It is there.
    Saved(SavedFile),
    /// It could not be had.
    Failed(String),
    /// The API named these links in place of dead ones.
    Links {
        /// The sample that the task is of.
        sample: SampleId,
        /// All of them.
        urls: Vec<String>,
    },
}

/// What is saved at one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationCount {
    /// Where.
    pub address: String,
    /// Files there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Videos that could not be had when it was last tried.
    pub failed: u64,
}

/// Links to videos that are saved nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnsavedLinks {
    /// How many samples.
    pub samples: u64,
    /// Of them, those made 18 hours ago or earlier: their links have passed 24 hours, or will within
    /// six.
    pub ending: u64,
    /// When the first of them was made.
    pub oldest: Option<UnixMillis>,
}

/// The files of one destination, on a connection of its own.
#[derive(Debug)]
pub struct Files {
    pub(super) store: Store,
    pub(super) destination: i64,
    /// Samples that ended before this stamp, in milliseconds, have been handed out, and so have
    /// these that ended at it.
    after: i64,
    handed_out: HashSet<i64>,
    with_particulars: bool,
}

impl Store {
    /// The files at `address`. Needs a state file that is open for writing.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn files(&self, address: &str) -> Result<Files, StoreError> {
        let connection = connect_to_write(&self.path)?;
        connection.busy_timeout(LONGEST_WAIT)?;
        // Without a log, where the disk is not waited for a power cut can spoil the file, and what was
        // paid for is in it.
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous = if journal == "wal" { "NORMAL" } else { "FULL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
        schema::extend(&connection)?;
        // In the order in which they were made, so that the next ones are found without reading a
        // million others. It goes with the table when another sheet is taken in.
        connection
            .execute_batch("CREATE INDEX IF NOT EXISTS made ON samples(ended) WHERE state = 'succeeded'")?;
        connection.execute("INSERT OR IGNORE INTO destinations(address) VALUES(?1)", [address])?;
        let sql = "SELECT id FROM destinations WHERE address = ?1";
        let destination = connection.query_one(sql, [address], |row| row.get(0))?;
        connection.busy_timeout(WAIT_OF_A_NOTE)?;
        let store = Self::from_connection(connection, &self.path)?;
        Ok(Files { store, destination, after: i64::MIN, handed_out: HashSet::new(), with_particulars: false })
    }

    /// A short word for this state file that no other has, the same in every process.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn mark(&self) -> Result<String, StoreError> {
        let salt: Option<[u8; 32]> = meta(&self.connection, "salt")?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.birth.0.to_le_bytes()).update(&salt.unwrap_or_default());
        Ok(hasher.finalize().to_hex()[..12].to_owned())
    }

    /// The base URL of the API this state file belongs to; `None` for a rehearsal's.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn base_url(&self) -> Result<Option<String>, StoreError> {
        Ok(meta(&self.connection, "base_url")?)
    }

    /// Where the videos of a task are, each at the destination it was saved to last: the whole
    /// address.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn saved_files(&self, task: &str) -> Result<Vec<String>, StoreError> {
        // `max` makes the other columns those of its row.
        let sql = "SELECT rtrim(d.address, '/') || '/' || f.path, max(f.at) FROM files f
             CROSS JOIN destinations d ON d.id = f.destination
             WHERE f.task = ?1 AND f.state = 'saved' GROUP BY f.part ORDER BY f.part";
        match self.connection.prepare_cached(sql) {
            Ok(mut statement) => {
                Ok(statement.query_map([task], |row| row.get(0))?.collect::<Result<_, _>>()?)
            }
            Err(_) if !has_files(&self.connection)? => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is saved where.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn destinations(&self) -> Result<Vec<DestinationCount>, StoreError> {
        if !has_files(&self.connection)? {
            return Ok(Vec::new());
        }
        let mut statement = self.connection.prepare(
            "SELECT d.address, ifnull(sum(f.state = 'saved'), 0), ifnull(sum(f.bytes) FILTER (WHERE f.state = 'saved'), 0),
                    ifnull(sum(f.state = 'failed'), 0)
             FROM destinations d LEFT JOIN files f ON f.destination = d.id GROUP BY d.id ORDER BY d.id",
        )?;
        let counts = statement.query_map((), |row| {
            Ok(DestinationCount {
                address: row.get(0)?,
                files: unsigned(row.get(1)?),
                bytes: unsigned(row.get(2)?),
                failed: unsigned(row.get(3)?),
            })
        })?;
        Ok(counts.collect::<Result<_, _>>()?)
    }

    /// Where a video was saved last: the whole address.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn last_destination(&self) -> Result<Option<String>, StoreError> {
        if !has_files(&self.connection)? {
            return Ok(None);
        }
        // A place that took nothing is none that anybody means.
        let sql = "SELECT d.address FROM files f JOIN destinations d ON d.id = f.destination
             WHERE f.state = 'saved' ORDER BY f.at DESC LIMIT 1";
        Ok(self.connection.query_one(sql, (), |row| row.get(0)).optional()?)
    }

    /// Videos that are saved nowhere, as their links stand at `now`; also those whose rows have left the
    /// sheet, for they are paid for.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn unsaved_links(&self, now: UnixMillis) -> Result<UnsavedLinks, StoreError> {
        let nowhere = if has_files(&self.connection)? {
            "AND NOT EXISTS (SELECT 1 FROM files f WHERE f.task = s.task AND f.state = 'saved')"
        } else {
            ""
        };
        let soon = i64::try_from(LINKS_LAST.saturating_sub(SOON).as_millis()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT count(*), ifnull(sum(made <= ?2), 0), min(made) FROM (
                 SELECT ifnull(s.completed, ?1 + s.ended) AS made FROM samples s
                 WHERE s.state = 'succeeded' {nowhere})"
        );
        let before = now.0.saturating_sub(soon);
        let unsaved = self.connection.query_one(&sql, [self.birth.0, before], |row| {
            Ok(UnsavedLinks {
                samples: unsigned(row.get(0)?),
                ending: unsigned(row.get(1)?),
                oldest: row.get::<_, Option<i64>>(2)?.map(UnixMillis),
            })
        })?;
        Ok(unsaved)
    }
}

/// Whether fewer videos of the task of `samples s` are saved at destination `?1` than there are.
const NOT_ALL_SAVED: &str = "(SELECT count(*) FROM files f
         WHERE f.task = s.task AND f.destination = ?1 AND f.state = 'saved' AND f.part <= json_array_length(s.urls)
     ) < json_array_length(s.urls)";

impl StoreError {
    /// Whether somebody else has had the file for too long.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }
}

impl Files {
    /// From now on [`Files::next`] tells all that is known of a sample.
    pub const fn want_particulars(&mut self) {
        self.with_particulars = true;
    }

    /// The next samples that are made and not saved here, the longest made first, at most about
    /// `most` of them; also those whose rows have left the sheet. Each is handed out once; those that could not be had are for the next process.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn next(&mut self, most: usize) -> Result<Vec<ToSave>, StoreError> {
        let limit = most.saturating_add(self.handed_out.len());
        let mut found = Vec::new();
        {
            let mut statement = self.store.connection.prepare_cached(&format!(
                "SELECT s.id, s.ended, s.task, s.urls FROM samples s
                 WHERE s.state = 'succeeded' AND s.ended >= ?2 AND {NOT_ALL_SAVED}
                 ORDER BY s.ended, s.id LIMIT ?3"
            ))?;
            let limit = stored(u64::try_from(limit).unwrap_or(u64::MAX));
            let mut rows = statement.query(params![self.destination, self.after, limit])?;
            while let Some(row) = rows.next()? {
                let (sample, ended): (i64, i64) = (row.get(0)?, row.get(1)?);
                if self.handed_out.contains(&sample) {
                    continue;
                }
                // Two that end at one stamp may come in two commits.
                if ended > self.after {
                    self.after = ended;
                    self.handed_out.clear();
                }
                self.handed_out.insert(sample);
                let task: String = row.get(2)?;
                let urls: Vec<String> = serde_json::from_str(row.get_ref(3)?.as_str().unwrap_or("[]"))?;
                if let Some(task) = TaskId::new(&task) {
                    found.push((SampleId(sample), task, urls));
                }
            }
        }
        found.into_iter().map(|(sample, task, urls)| self.to_save(sample, task, urls)).collect()
    }

    /// What is not saved here of a sample that was handed out before; `None` if it is all saved.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn again(&self, sample: SampleId) -> Result<Option<ToSave>, StoreError> {
        let sql = format!(
            "SELECT s.task, s.urls FROM samples s
             WHERE s.id = ?2 AND s.state = 'succeeded' AND s.removed = 0 AND {NOT_ALL_SAVED}"
        );
        let mut statement = self.store.connection.prepare_cached(&sql)?;
        let found = statement.query_row(params![self.destination, sample.0], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
        let Some((task, urls)) = found.optional()? else { return Ok(None) };
        let Some(task) = TaskId::new(&task) else { return Ok(None) };
        self.to_save(sample, task, serde_json::from_str(&urls)?).map(Some)
    }

    fn to_save(&self, sample: SampleId, task: TaskId, urls: Vec<String>) -> Result<ToSave, StoreError> {
        let parts = (1..).take(urls.len()).map(|part| self.standing(&task, part));
        let parts = parts.collect::<Result<_, _>>()?;
        let first = self.name(sample, &task)?;
        let others = (2..).take(urls.len().saturating_sub(1)).map(|part| self.name_of_part(&first, part));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        let names = std::iter::once(first).chain(others).collect();
        let particulars = self.with_particulars.then(|| self.store.particulars(sample)).transpose()?;
        Ok(ToSave { sample, task, names, urls, parts, particulars: particulars.map(Box::new) })
    }

    /// How many samples are made and not saved here.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn unsaved(&self) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM samples s WHERE s.state = 'succeeded' AND {NOT_ALL_SAVED}");
        Ok(unsigned(self.store.connection.query_one(&sql, [self.destination], |row| row.get(0))?))
    }

    /// Gives each file that is saved here to `take`, for as long as it says that it wants more, in no
    /// order that means anything.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn each_saved(&self, mut take: impl FnMut(SavedFile) -> bool) -> Result<(), StoreError> {
        let sql = "SELECT path, bytes, sha256 FROM files WHERE destination = ?1 AND state = 'saved'
             AND path IS NOT NULL AND sha256 IS NOT NULL";
        let mut statement = self.store.connection.prepare_cached(sql)?;
        let mut rows = statement.query([self.destination])?;
        while let Some(row) = rows.next()? {
            let bytes = unsigned(row.get::<_, Option<i64>>(1)?.unwrap_or(0));
            if !take(SavedFile { path: row.get(0)?, bytes, sha256: row.get(2)? }) {
                break;
            }
        }
        Ok(())
    }

    /// The name of the state file, as [`Store::mark`].
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn mark(&self) -> Result<String, StoreError> {
        self.store.mark()
    }

    /// Remembers `notes`, all or none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn note(&mut self, notes: &[Note]) -> Result<(), StoreError> {
        let transaction = self.store.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = transaction.prepare_cached(
                // What is known of a file outlives a failure: it may be there, whole, all the same.
                "INSERT INTO files(task, part, destination, state, path, bytes, sha256, at, problem)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT DO UPDATE SET state = ?4, path = ifnull(?5, path), bytes = ifnull(?6, bytes),
                     sha256 = ifnull(?7, sha256), at = ?8, problem = ?9",
            )?;
            let mut link = transaction.prepare_cached(
                "UPDATE samples SET urls = ?3 WHERE id = ?1 AND task = ?2 AND state = 'succeeded'
                 AND json_array_length(urls) <= json_array_length(?3)",
            )?;
            for Note { task, part, at, what } in notes {
                let (state, file, problem) = match what {
                    NoteOf::Placing(file) => ("placing", Some(file), None),
                    NoteOf::Saved(file) => ("saved", Some(file), None),
                    NoteOf::Failed(problem) => ("failed", None, Some(problem)),
                    NoteOf::Links { sample, urls } => {
                        link.execute(params![sample.0, task.as_str(), serde_json::to_string(urls)?])?;
                        continue;
                    }
                };
                let path = file.map(|file| &file.path);
                let bytes = file.map(|file| stored(file.bytes));
                let sha256 = file.map(|file| &file.sha256[..]);
                put.execute(params![
                    task.as_str(),
                    part,
                    self.destination,
                    state,
                    path,
                    bytes,
                    sha256,
                    at.0,
                    problem
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn standing(&self, task: &TaskId, part: u32) -> Result<Standing, StoreError> {
        let sql =
            "SELECT state, path, bytes, sha256 FROM files WHERE task = ?1 AND part = ?2 AND destination = ?3";
        let mut statement = self.store.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![task.as_str(), part, self.destination], |row| {
            let file = match (row.get::<_, Option<String>>(1)?, row.get::<_, Option<[u8; 32]>>(3)?) {
                (Some(path), Some(sha256)) => Some(SavedFile {
                    path,
                    bytes: unsigned(row.get::<_, Option<i64>>(2)?.unwrap_or(0)),
                    sha256,
                }),
                (Some(_) | None, _) => None,
            };
            Ok((row.get::<_, String>(0)?, file))
        });
        Ok(match found.optional()? {
            Some((state, Some(file))) if state == "saved" => Standing::Saved(file),
            Some((state, Some(file))) if state == "undescribed" => Standing::Undescribed(file),
            Some((_, Some(file))) => Standing::Placing(file),
            Some((_, None)) => Standing::Missing,
            None => self.standing_elsewhere(task, part)?.map_or(Standing::Missing, Standing::Placing),
        })
    }

    /// What is saved of a video at another destination: this may be that one, under a new name since a
    /// folder was moved.
    fn standing_elsewhere(&self, task: &TaskId, part: u32) -> Result<Option<SavedFile>, StoreError> {
        let sql = "SELECT path, bytes, sha256 FROM files WHERE task = ?1 AND part = ?2 AND state = 'saved'
             AND path IS NOT NULL AND sha256 IS NOT NULL ORDER BY at DESC LIMIT 1";
        let mut statement = self.store.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![task.as_str(), part], |row| {
            let bytes = unsigned(row.get::<_, Option<i64>>(1)?.unwrap_or(0));
            Ok(SavedFile { path: row.get(0)?, bytes, sha256: row.get(2)? })
        });
        Ok(found.optional()?)
    }

    /// What a sample's first video is called, without an extension. Videos of before there were names
    /// are called after their task.
    fn name(&self, sample: SampleId, task: &TaskId) -> Result<String, StoreError> {
        let unnamed = || format!("video-{}", &blake3::hash(task.as_str().as_bytes()).to_hex()[..16]);
        Ok(self.store.name_of(sample)?.unwrap_or_else(unnamed))
    }

    /// What a later video of a task is called whose first is called `name`: no sample is called so.
    fn name_of_part(&self, name: &str, part: u32) -> Result<String, StoreError> {
        let name = &*shortened(name);
        let first = format!("{name}.{part}");
        let others = (2_u32..).map(|n| format!("{name}.{part}-{n}"));
        for candidate in std::iter::once(first).chain(others) {
            let sql = "SELECT EXISTS (SELECT 1 FROM names WHERE fold = ?1 OR fold = ?2)";
            let exact = Folding::At { case: false, normalization: false };
            let folds = params![fold(&candidate, Folding::Anywhere), fold(&candidate, exact)];
            let taken: bool =
                self.store.connection.prepare_cached(sql)?.query_one(folds, |row| row.get(0))?;
            if !taken {
                return Ok(candidate);
            }
        }
        Ok(format!("{name}.{part}"))
    }
}

/// `name` with room for the number of a part behind it, where a name may have 255 bytes. Two names that
/// begin alike stay two.
fn shortened(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 230;
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    if name.len() - last <= LONGEST {
        return name.into();
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let mark = &hash[..8];
    let most = last + LONGEST - 1 - mark.len();
    let end = (0..=most).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(name.len());
    format!("{}-{mark}", &name[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_that_begin_alike_stay_two() {
        let long = |end: &str| format!("folder/{}{end}", "\u{e4}".repeat(120));
        let (a, b) = (long("a"), long("b"));
        assert_ne!(shortened(&a), shortened(&b));
        for name in [shortened(&a), shortened(&b)] {
            let last = name.strip_prefix("folder/").unwrap();
            assert!((228..=230).contains(&last.len()), "{name}");
        }
        assert_eq!(shortened("folder/short"), "folder/short");
    }

    #[test]
    fn the_disk_is_waited_for_where_there_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let owner = crate::store::Owner::Simulator { seed: 0 };
        let open = || Store::open(&path, &owner, crate::store::Durability::Full, UnixMillis(0)).unwrap();
        let synchronous = |files: &Files| {
            let pragma = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            files.store.connection.pragma_query_value(None, "synchronous", pragma).unwrap()
        };
        let store = open();
        assert_eq!(synchronous(&store.files("/a").unwrap()), 1, "NORMAL, with a log");
        store.connection.pragma_update_and_check(None, "journal_mode", "TRUNCATE", |_| Ok(())).unwrap();
        assert_eq!(synchronous(&store.files("/a").unwrap()), 2, "FULL, without");
    }
}
