//! What counts as saved at a destination, to be looked at again, and put back where it is not so.

use rusqlite::{TransactionBehavior, params};

use super::files::{Files, SavedFile};
use super::{StoreError, stored, unsigned};
use crate::job::TaskId;

/// A video that counts as saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedVideo {
    /// The task that made it.
    pub task: TaskId,
    /// Which of the task's videos, from 1.
    pub part: u32,
    /// Its file.
    pub file: SavedFile,
}

/// Why a video no longer counts as saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// Its file is not there, or not whole.
    Lost,
    /// The file beside it is not there that says what it is.
    Undescribed,
}

impl Files {
    /// What counts as saved here, in the order of tasks and parts, from behind `after` on, at most
    /// `most` videos.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn saved_after(
        &self,
        after: Option<&SavedVideo>,
        most: usize,
    ) -> Result<Vec<SavedVideo>, StoreError> {
        let sql = "SELECT task, part, path, bytes, sha256 FROM files
             WHERE destination = ?1 AND state = 'saved' AND path IS NOT NULL AND sha256 IS NOT NULL
                 AND (task, part) > (?2, ?3) ORDER BY task, part LIMIT ?4";
        let mut statement = self.store.connection.prepare_cached(sql)?;
        let (task, part) = after.map_or(("", 0), |after| (after.task.as_str(), after.part));
        let most = stored(u64::try_from(most).unwrap_or(u64::MAX));
        let mut rows = statement.query(params![self.destination, task, part, most])?;
        let mut saved = Vec::new();
        while let Some(row) = rows.next()? {
            let bytes = unsigned(row.get::<_, Option<i64>>(3)?.unwrap_or(0));
            let file = SavedFile { path: row.get(2)?, bytes, sha256: row.get(4)? };
            if let Some(task) = TaskId::new(&row.get::<_, String>(0)?) {
                saved.push(SavedVideo { task, part: row.get(1)?, file });
            }
        }
        Ok(saved)
    }

    /// These videos no longer count as saved here; their names and hashes stay known.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn put_back(&mut self, videos: &[(SavedVideo, PutBack)]) -> Result<(), StoreError> {
        if videos.is_empty() {
            return Ok(());
        }
        let destination = self.destination;
        let transaction = self.store.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = transaction.prepare_cached(
                "UPDATE files SET state = ?4 WHERE task = ?1 AND part = ?2 AND destination = ?3 AND state = 'saved'",
            )?;
            for (SavedVideo { task, part, .. }, why) in videos {
                let state = match why {
                    PutBack::Lost => "placing",
                    PutBack::Undescribed => "undescribed",
                };
                put.execute(params![task.as_str(), part, destination, state])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
