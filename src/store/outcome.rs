//! How a sample stands, as one row of the results.

use std::ops::ControlFlow;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::columns::{Cells, Table};
use super::files::has_files;
use super::restore::stamp;
use super::tallies::failure_kind;
use super::{Selection, State, Store, StoreError, unsigned};
use crate::job::{Failure, FailureKind, SampleId, Status, UnixMillis, Usd};

/// What results say of one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRow {
    /// Which.
    pub sample: SampleId,
    /// The row's line, in the sheet it was last seen in.
    pub line: u64,
    /// Which sample of the row, from 0.
    pub index: u32,
    /// The row's cells, in the order of [`Store::columns_of`]; the last ones may be missing.
    pub fields: Vec<String>,
    /// Whether the sheet no longer asks for it.
    pub removed: bool,
    /// How it stands.
    pub status: Status,
    /// The task of the last attempt, if it has one.
    pub task: Option<String>,
    /// The videos; at least one if it succeeded, else none.
    pub urls: Vec<String>,
    /// Where its videos were downloaded to, those that were.
    pub files: Vec<String>,
    /// Why it did not succeed; `None` while it is pending.
    pub failure: Option<Failure>,
    /// Submissions that were accepted or are in doubt.
    pub attempts: u32,
    /// What those cost.
    pub cost: Usd,
    /// When the last attempt was submitted.
    pub submitted: Option<UnixMillis>,
    /// When its task ended, by the API's clock if it said so, else by ours.
    pub completed: Option<UnixMillis>,
    /// How long the task took, by the API's clock if it said so, else by ours.
    pub generation_time: Option<Duration>,
}

/// Which result rows are wanted; every sample of the sheet by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultFilter {
    /// Only these; all if empty.
    pub statuses: Vec<Status>,
    /// The bought samples that are no longer in the sheet, instead of those that are. The selection
    /// is by the sheet and does not concern them.
    pub removed: bool,
    /// Only these rows.
    pub selection: Selection,
}

/// A [`ResultFilter`] as a condition on `samples s` and `rows r`.
pub(super) struct Wanted {
    pub(super) sql: String,
    pub(super) parameters: Vec<Value>,
}

impl Wanted {
    pub(super) fn by(filter: &ResultFilter, store: &Store) -> Result<Self, StoreError> {
        let (condition, parameters) = if filter.removed {
            ("s.removed = 1".to_owned(), Vec::new())
        } else {
            let condition = filter.selection.condition(store)?;
            (condition.sql, condition.parameters)
        };
        let states = State::sql_list(|s| filter.statuses.is_empty() || filter.statuses.contains(&s.status()));
        Ok(Self { sql: format!("{condition} AND s.state IN ({states})"), parameters })
    }
}

const COLUMNS: &str = "s.id, r.line, s.idx, r.fields, s.state, s.task, s.urls, s.kind, s.code, s.message,
    s.attempts, s.cost, s.submitted, s.accepted, s.ended, s.created, s.completed, r.problem, s.removed";

/// Whether there are files of the task to be looked up, behind the other columns: of most tasks there are
/// none.
const HAS_FILES: &str = "EXISTS (SELECT 1 FROM files f WHERE f.task = s.task)";
/// The same in a state file of before there were any.
const HAS_NONE: &str = "0";

const SAMPLES_OF_ROWS: &str = "FROM samples s CROSS JOIN rows r ON r.position = s.row";

impl Store {
    /// Shows `visit` the result rows that `filter` wants, in manifest order, until it breaks.
    ///
    /// # Errors
    ///
    /// Whatever the visit breaks with; a selection by a column that the sheet has not; a database
    /// that fails.
    pub fn for_each_result<E: From<StoreError>>(
        &self,
        filter: &ResultFilter,
        mut visit: impl FnMut(ResultRow) -> ControlFlow<E>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(StoreError::from(error));
        let table = self.table(filter.removed, Cells::All)?;
        let Wanted { sql, parameters } = Wanted::by(filter, self)?;
        let files = if has_files(&self.connection).map_err(failed)? { HAS_FILES } else { HAS_NONE };
        let mut statement = self
            .connection
            .prepare(&format!("SELECT {COLUMNS}, {files} {SAMPLES_OF_ROWS} WHERE {sql} ORDER BY s.id"))
            .map_err(failed)?;
        let mut rows = statement.query(params_from_iter(parameters)).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if let ControlFlow::Break(error) = visit(self.read_result(row, &table)?) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The result row of one sample; without cells if it is no longer in the sheet.
    ///
    /// # Errors
    ///
    /// A sample that is not there; a database that fails.
    pub fn result(&self, sample: SampleId) -> Result<ResultRow, StoreError> {
        let sql = |files| format!("SELECT {COLUMNS}, {files} {SAMPLES_OF_ROWS} WHERE s.id = ?1");
        let mut statement = match self.connection.prepare_cached(&sql(HAS_FILES)) {
            Err(_) if !has_files(&self.connection)? => self.connection.prepare_cached(&sql(HAS_NONE))?,
            prepared => prepared?,
        };
        let table = Table::plain();
        let row = statement.query_row([sample.0], |row| Ok(self.read_result(row, &table))).optional()?;
        row.ok_or(StoreError::NoSuchSample(sample))?
    }

    /// Whether any row of the sheet, or of those no longer in it, asks for more than one sample.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn uses_samples(&self, removed: bool) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM rows WHERE samples > 1 AND removed = ?1)";
        Ok(self.connection.query_one(sql, [removed], |row| row.get(0))?)
    }

    /// Whether any task of the sheet, or of rows no longer in it, brought more than one video.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn has_many_urls(&self, removed: bool) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM samples WHERE urls IS NOT NULL AND removed = ?1
                   AND json_array_length(urls) > 1)";
        Ok(self.connection.query_one(sql, [removed], |row| row.get(0))?)
    }

    /// Remembers that a results file at `path` with this header is about to be written, so that it
    /// is known for ours later; below the folder of the state file also when both have moved.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn note_results_file(&self, path: &str, header: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO result_files(path, header) VALUES(?1, ?2)";
        self.connection.execute(sql, [path, header])?;
        if let Some(beside) = self.beside(path) {
            self.connection.execute(sql, [&*beside, header])?;
        }
        Ok(())
    }

    /// Where results files were written.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn results_files(&self) -> Result<Vec<String>, StoreError> {
        let mut paths = self.connection.prepare("SELECT DISTINCT path FROM result_files ORDER BY path")?;
        Ok(paths.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Whether [`Store::note_results_file`] was told of this file.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn knows_results_file(&self, path: &str, header: &str) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM result_files WHERE path IN (?1, ?3) AND header = ?2)";
        let beside = self.beside(path);
        Ok(self.connection.query_one(sql, params![path, header, beside], |row| row.get(0))?)
    }

    /// `path` from the folder of the state file on, if it lies below that: no whole path is called so.
    fn beside(&self, path: &str) -> Option<String> {
        let state = std::path::absolute(&self.path).ok()?;
        let below = std::path::Path::new(path).strip_prefix(state.parent()?).ok()?;
        Some(format!("./{}", below.to_str()?))
    }

    fn read_result(&self, row: &Row<'_>, table: &Table) -> Result<ResultRow, StoreError> {
        let state: State = row.get(4)?;
        let wall = |column| -> rusqlite::Result<Option<UnixMillis>> {
            Ok(row.get::<_, Option<i64>>(column)?.map(|millis| self.birth.at(stamp(millis))))
        };
        let (accepted, ended) = (wall(13)?, wall(14)?);
        let created = row.get::<_, Option<i64>>(15)?.map(UnixMillis);
        let completed = row.get::<_, Option<i64>>(16)?.map(UnixMillis);
        let (has_task, task_ended) = match state {
            State::Succeeded | State::Failed => (true, true),
            State::Running | State::TimedOut | State::Lost => (true, false),
            State::Ready | State::Submitting | State::Rejected | State::Unknown | State::Invalid => {
                (false, false)
            }
        };
        let spans = [(created, completed), (accepted, ended)];
        let took = spans.into_iter().find_map(|(from, to)| {
            let millis = to?.0.checked_sub(from?.0)?;
            u64::try_from(millis).ok().map(Duration::from_millis)
        });
        let urls: Option<String> = row.get(6)?;
        let task = row.get::<_, Option<String>>(5)?.filter(|_| has_task);
        let files = match &task {
            Some(task) if state == State::Succeeded && row.get(19)? => self.saved_files(task)?,
            Some(_) | None => Vec::new(),
        };
        Ok(ResultRow {
            sample: SampleId(row.get(0)?),
            line: unsigned(row.get(1)?),
            index: row.get(2)?,
            fields: table.read(row.get_ref(3)?.as_str().unwrap_or(""))?,
            removed: row.get(18)?,
            status: state.status(),
            task,
            files,
            urls: urls
                .filter(|_| state == State::Succeeded)
                .map(|json| serde_json::from_str(&json))
                .transpose()?
                .unwrap_or_default(),
            failure: read_failure(state, row)?,
            attempts: row.get(10)?,
            cost: Usd::from_micros(unsigned(row.get(11)?)),
            submitted: wall(12)?,
            completed: completed.or(ended).filter(|_| task_ended),
            generation_time: took.filter(|_| task_ended),
        })
    }
}

/// Why the sample did not succeed. What went wrong with a passed attempt is not told of one that
/// is pending again.
fn read_failure(state: State, row: &Row<'_>) -> rusqlite::Result<Option<Failure>> {
    match state {
        State::Ready | State::Submitting | State::Running | State::Succeeded => Ok(None),
        State::Invalid => {
            let problem: Option<String> = row.get(17)?;
            Ok(Some(Failure::new(FailureKind::Input, None, problem.as_deref().unwrap_or(""))))
        }
        State::Failed | State::Rejected | State::TimedOut | State::Lost | State::Unknown => {
            let (kind, code, message): (Option<String>, _, Option<String>) =
                (row.get(7)?, row.get(8)?, row.get(9)?);
            let kind = kind.as_deref().and_then(failure_kind);
            Ok(kind.map(|kind| Failure { kind, code, message: message.unwrap_or_default() }))
        }
    }
}
