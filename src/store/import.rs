//! The sheet goes into the state file, and what is in it already is compared with it.
//!
//! One transaction: rows are streamed into a table of their own, compared by key in SQL, and take
//! the place of the old ones only if the sheet is sound and costs nothing that was bought. A crash
//! in the middle leaves the state as it was, and memory does not grow with the sheet.
//!
//! A row's key is its id, or else its content with its occurrence in the sheet: the second of two
//! equal rows is another row, and moving rows about changes nothing. A sample follows its row's key
//! as long as the request is the same. A changed request is a new purchase, so what was bought for
//! the old one stays as *removed*: watched to its end, counted in the spending, out of the results,
//! and back again when the sheet asks for the old request again.

use std::error::Error;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{State, Store, StoreError, callbacks, columns, names, schema, set_meta, stored, unsigned};
use crate::job::Usd;
use crate::manifest::{Adjusted, Field, Problem, Reader, Record};

/// Problems told one by one: a person mends a few and looks again. All are counted.
pub const PROBLEMS_SHOWN: usize = 20;

/// A sheet: its records, and what is known of it after the last.
pub trait Sheet: Iterator<Item = Result<Record, Self::Error>> {
    /// Why reading ended.
    type Error: Error + 'static;

    /// The sheet's own columns, in order.
    fn columns(&self) -> Vec<String>;

    /// The places of the columns that give a field; the others pass through.
    fn bound_columns(&self) -> Vec<usize>;

    /// The column that gives ids, if one does.
    fn id_column(&self) -> Option<String>;

    /// What tells this sheet, read this way, from any other.
    fn fingerprint(&self) -> [u8; 32];

    /// Rows that were passed because nothing is in them.
    fn blank_rows(&self) -> u64;
}

impl Sheet for Reader {
    type Error = crate::manifest::ManifestError;

    fn columns(&self) -> Vec<String> {
        self.columns().to_vec()
    }

    fn bound_columns(&self) -> Vec<usize> {
        self.bound_columns()
    }

    fn id_column(&self) -> Option<String> {
        self.column_of(Field::Id).map(str::to_owned)
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint()
    }

    fn blank_rows(&self) -> u64 {
        self.blank_rows()
    }
}

/// What may be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// Take the sound rows and keep the bad ones as invalid.
    pub skip_invalid: bool,
    /// Go on although what was bought is no longer what the sheet asks for.
    pub accept_changes: bool,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Import {
    /// Rows, bad ones included.
    pub rows: u64,
    /// Videos that the sound rows ask for.
    pub samples: u64,
    /// Rows with a problem.
    pub invalid_rows: u64,
    /// Rows that were passed because nothing is in them.
    pub blank_rows: u64,
    /// Reference rows whose blank mode or aspect ratio became the only one the API takes.
    pub adjusted_rows: u64,
    /// The first [`PROBLEMS_SHOWN`] problems, by line.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
    /// What was bought and is no longer asked for. Not looked for in a sheet that is not taken.
    pub differences: Differences,
    /// Whether the sheet is in the state file now; otherwise that is as it was.
    pub applied: bool,
}

/// How a sheet departs from what was bought, or may have been, for an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// Rows with an id whose request has changed.
    pub edited: u64,
    /// Rows that are gone, or that ask for fewer samples.
    pub removed: u64,
    /// The samples bought or in doubt for them.
    pub samples: u64,
    /// What those were charged.
    pub cost: Usd,
}

/// Why an import ended early. The state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError<E: Error + 'static> {
    /// The sheet cannot be read.
    #[error(transparent)]
    Sheet(E),
    /// The state file cannot take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<E: Error + 'static> From<rusqlite::Error> for ImportError<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl<E: Error + 'static> From<serde_json::Error> for ImportError<E> {
    fn from(error: serde_json::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Makes `sheet` what the state file is about, if it is sound (or `skip_invalid`) and departs
    /// from nothing bought or in doubt (or `accept_changes`); tells all about it either way.
    ///
    /// # Errors
    ///
    /// A sheet that cannot be read to its end; a database that fails.
    pub fn import<S: Sheet>(
        &mut self,
        mut sheet: S,
        options: &ImportOptions,
    ) -> Result<Import, ImportError<S::Error>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(&format!("CREATE TABLE new_rows {}", schema::ROWS))?;
        let mut import = stage(&transaction, &mut sheet)?;
        number_occurrences(&transaction, sheet.id_column().as_deref().unwrap_or("id"), &mut import)?;
        import.blank_rows = sheet.blank_rows();
        if import.problem_count > 0 && !options.skip_invalid {
            return Ok(import);
        }
        compare(&transaction)?;
        import.differences = differences(&transaction)?;
        if import.differences != Differences::default() && !options.accept_changes {
            return Ok(import);
        }
        name_columns(&transaction)?;
        replace(&transaction)?;
        set_meta(&transaction, "columns", serde_json::to_string(&sheet.columns())?)?;
        set_meta(&transaction, "bound_columns", serde_json::to_string(&sheet.bound_columns())?)?;
        set_meta(&transaction, "sheet", sheet.fingerprint().to_vec())?;
        set_meta(&transaction, "skip_invalid", options.skip_invalid)?;
        transaction.commit()?;
        // The log is as large as the sheet now. A reader elsewhere may keep it so; no harm done.
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())) {
            tracing::debug!(%error, "the log of the state file was not emptied after the import");
        }
        import.applied = true;
        Ok(import)
    }
}

/// Streams the records into `new_rows`.
fn stage<S: Sheet>(transaction: &Transaction<'_>, sheet: &mut S) -> Result<Import, ImportError<S::Error>> {
    let mut import = Import::default();
    let mut insert = transaction.prepare(
        "INSERT INTO new_rows(position, line, key, samples, type, mode, generation, fields, problem)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for record in sheet {
        let Record { line, fields, entry, adjusted } = record.map_err(ImportError::Sheet)?;
        import.rows += 1;
        import.adjusted_rows += u64::from(adjusted != Adjusted::default());
        let (position, line) = (stored(import.rows), stored(line));
        let fields = serde_json::to_string(&fields)?;
        match entry {
            Ok(entry) => {
                let json = serde_json::to_string(&entry.generation)?;
                let key = entry.id.as_ref().map_or_else(|| Key::Content(&json), |id| Key::Id(id)).to_bytes();
                let draft = entry.generation.draft();
                let (kind, mode) = (draft.generation_type.as_str(), draft.mode.as_str());
                let samples = entry.samples.get();
                import.samples += u64::from(samples);
                insert.execute(params![
                    position,
                    line,
                    key,
                    samples,
                    kind,
                    mode,
                    json,
                    fields,
                    None::<&str>
                ])?;
            }
            Err(problems) => {
                let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
                let key = Key::Invalid(&fields).to_bytes();
                let none = None::<&str>;
                insert.execute(params![position, line, key, 1, none, none, none, fields, told.join("; ")])?;
                import.invalid_rows += 1;
                import.problem_count += problems.len() as u64;
                let room = PROBLEMS_SHOWN.saturating_sub(import.problems.len());
                import.problems.extend(problems.into_iter().take(room));
            }
        }
    }
    Ok(import)
}

/// What a row is recognised by, together with its occurrence among equal keys.
enum Key<'a> {
    Id(&'a str),
    Content(&'a str),
    Invalid(&'a str),
}

impl Key<'_> {
    /// First byte of the keys that are ids.
    const ID: u8 = 0;

    fn to_bytes(&self) -> Vec<u8> {
        let (tag, rest) = match self {
            Self::Id(id) => (Self::ID, id.as_bytes().to_vec()),
            // 128 bits: no two of any number of rows collide by chance.
            Self::Content(json) => (1, blake3::hash(json.as_bytes()).as_bytes()[..16].to_vec()),
            Self::Invalid(fields) => (2, blake3::hash(fields.as_bytes()).as_bytes()[..16].to_vec()),
        };
        [vec![tag], rest].concat()
    }
}

/// The id that a stored key is, if it is one.
pub(super) fn id_of(key: &[u8]) -> Option<String> {
    let id = key.strip_prefix(&[Key::ID])?;
    Some(String::from_utf8_lossy(id).into_owned())
}

/// Numbers equal rows, and turns all but the first of equal ids into problems.
fn number_occurrences(
    transaction: &Transaction<'_>,
    id_column: &str,
    import: &mut Import,
) -> Result<(), StoreError> {
    transaction.execute_batch(
        "CREATE TEMP TABLE repeats(position INTEGER PRIMARY KEY, occurrence INTEGER, first INTEGER);
         INSERT INTO repeats SELECT * FROM (
             SELECT position, row_number() OVER same AS occurrence, first_value(line) OVER same
             FROM new_rows WINDOW same AS (PARTITION BY key ORDER BY position)
         ) WHERE occurrence > 1;
         UPDATE new_rows SET occurrence = repeats.occurrence FROM repeats
         WHERE new_rows.position = repeats.position;",
    )?;
    let mut find = transaction.prepare(
        "SELECT n.position, n.line, CAST(substr(n.key, 2) AS TEXT), d.first, n.samples
         FROM repeats d CROSS JOIN new_rows n ON n.position = d.position
         WHERE substr(n.key, 1, 1) = ?1 ORDER BY d.position",
    )?;
    let mut spoil = transaction
        .prepare("UPDATE new_rows SET problem = ?2, generation = NULL, samples = 1 WHERE position = ?1")?;
    // Walked before anything is changed that the walk reads.
    let mut duplicates = find.query([[Key::ID]])?;
    let mut shown = Vec::new();
    while let Some(row) = duplicates.next()? {
        let (position, id): (i64, String) = (row.get(0)?, row.get(2)?);
        let problem = Problem {
            line: unsigned(row.get(1)?),
            place: None,
            column: Some(id_column.to_owned()),
            what: format!("`{id}` is also the id of line {}", row.get::<_, i64>(3)?),
            mend: "make ids unique, or remove one of the rows".to_owned(),
        };
        import.samples -= unsigned(row.get(4)?);
        import.invalid_rows += 1;
        import.problem_count += 1;
        spoil.execute(params![position, problem.to_string()])?;
        if shown.len() < PROBLEMS_SHOWN {
            shown.push(problem);
        }
    }
    import.problems.append(&mut shown);
    import.problems.sort_by_key(|problem| problem.line);
    import.problems.truncate(PROBLEMS_SHOWN);
    Ok(())
}

/// Finds for each sample in the state where it belongs in the new sheet: `carried`, or `kept` as
/// removed, or nowhere.
fn compare(connection: &Connection) -> rusqlite::Result<()> {
    let bought = State::sql_list(State::is_bought_or_in_doubt);
    let pair = "samples s CROSS JOIN rows o ON o.position = s.row
         CROSS JOIN new_rows n ON n.key = o.key AND n.occurrence = o.occurrence
         WHERE n.problem IS NULL AND s.idx < n.samples";
    connection.execute_batch(
        "CREATE TEMP TABLE carried(row INTEGER, idx INTEGER, old INTEGER, same INTEGER,
             PRIMARY KEY(row, idx)) WITHOUT ROWID;
         CREATE TEMP TABLE kept(id INTEGER PRIMARY KEY, row INTEGER, bought INTEGER);",
    )?;
    if connection.query_one("SELECT NOT EXISTS (SELECT 1 FROM samples)", (), |row| row.get(0))? {
        return Ok(());
    }
    // In the order of preference: one sample for one place, the first takes it.
    connection.execute_batch(&format!(
        "CREATE INDEX new_rows_by_key ON new_rows(key, occurrence);
         INSERT INTO carried SELECT n.position, s.idx, s.id, 1 FROM {pair}
             AND s.removed = 0 AND o.generation = n.generation;
         INSERT OR IGNORE INTO carried SELECT n.position, s.idx, s.id, 1 FROM {pair}
             AND s.removed = 1 AND o.generation = n.generation ORDER BY s.id;
         INSERT OR IGNORE INTO carried SELECT n.position, s.idx, s.id, 0 FROM {pair}
             AND s.removed = 0 AND s.state NOT IN ({bought}) AND o.generation <> n.generation;
         CREATE INDEX temp.carried_by_old ON carried(old);
         INSERT INTO kept SELECT s.id, s.row, s.state IN ({bought}) FROM samples s
             WHERE NOT EXISTS (SELECT 1 FROM carried c WHERE c.old = s.id)
             AND (s.removed = 1 OR s.state IN ({bought}) OR s.cost > 0);"
    ))
}

/// What is bought or in doubt, was asked for by the old sheet and is not by the new one.
fn differences(connection: &Connection) -> rusqlite::Result<Differences> {
    connection.query_one(
        "SELECT count(DISTINCT CASE WHEN edited THEN row END), count(DISTINCT CASE WHEN NOT edited THEN row END),
                count(*), ifnull(sum(cost), 0)
         FROM (SELECT s.row AS row, s.cost AS cost, EXISTS (
                   SELECT 1 FROM new_rows n WHERE n.key = o.key AND n.occurrence = o.occurrence
                   AND n.problem IS NULL AND s.idx < n.samples) AS edited
               FROM kept k CROSS JOIN samples s ON s.id = k.id CROSS JOIN rows o ON o.position = s.row
               WHERE k.bought AND s.removed = 0)",
        (),
        |row| {
            Ok(Differences {
                edited: unsigned(row.get(0)?),
                removed: unsigned(row.get(1)?),
                samples: unsigned(row.get(2)?),
                cost: Usd::from_micros(unsigned(row.get(3)?)),
            })
        },
    )
}

/// Puts the columns of the sheet that goes where [`replace`] finds them.
fn name_columns(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "CREATE TEMP TABLE old_columns(place INTEGER PRIMARY KEY, name TEXT NOT NULL, bound INTEGER NOT NULL)",
    )?;
    let mut insert = connection.prepare("INSERT INTO old_columns VALUES(?1, ?2, ?3)")?;
    for (place, column) in columns::of_sheet(connection)?.into_iter().enumerate() {
        insert.execute(params![stored(place as u64), column.name, column.bound])?;
    }
    Ok(())
}

/// Puts the new rows, with their samples in manifest order, in the place of the old ones.
fn replace(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE new_samples {samples};
         CREATE TEMP TABLE counter(n INTEGER PRIMARY KEY);
         INSERT INTO counter
             WITH RECURSIVE up(n) AS (SELECT 0 UNION ALL
                 SELECT n + 1 FROM up WHERE n + 1 < (SELECT max(samples) FROM new_rows))
             SELECT n FROM up;

         INSERT INTO new_samples(row, idx, state, attempts, cost, paid_retries, not_before, attempt,
                submitted, accepted, ended, created, completed, task, kind, code, message, urls)
             SELECT n.position, counter.n,
                CASE WHEN n.problem IS NOT NULL THEN 'invalid' WHEN c.same THEN s.state ELSE 'ready' END,
                ifnull(s.attempts, 0), ifnull(s.cost, 0),
                iif(c.same, s.paid_retries, 0), iif(c.same, s.not_before, 0), iif(c.same, s.attempt, NULL),
                s.submitted, iif(c.same, s.accepted, NULL), iif(c.same, s.ended, NULL),
                iif(c.same, s.created, NULL), iif(c.same, s.completed, NULL), iif(c.same, s.task, NULL),
                iif(c.same, s.kind, NULL), iif(c.same, s.code, NULL), iif(c.same, s.message, NULL),
                iif(c.same, s.urls, NULL)
             FROM new_rows n CROSS JOIN counter ON counter.n < n.samples
             LEFT JOIN carried c ON c.row = n.position AND c.idx = counter.n
             LEFT JOIN samples s ON s.id = c.old
             ORDER BY n.position, counter.n;

         CREATE TEMP TABLE moved(old INTEGER PRIMARY KEY, new INTEGER);
         INSERT INTO moved SELECT row, (SELECT ifnull(max(position), 0) FROM new_rows)
                + row_number() OVER (ORDER BY row) FROM (SELECT DISTINCT row FROM kept);
         INSERT INTO new_rows SELECT m.new, o.line, o.key, o.occurrence, o.samples, o.type, o.mode,
                o.generation, iif(o.removed, o.fields, (
                    SELECT json_group_array(json_array(c.name, f.value, c.bound) ORDER BY c.place)
                    FROM old_columns c JOIN json_each(o.fields) f ON f.key = c.place
                )), o.problem, 1
             FROM moved m CROSS JOIN rows o ON o.position = m.old;
         INSERT INTO new_samples(row, idx, state, removed, attempts, cost, paid_retries, not_before, attempt,
                submitted, accepted, ended, created, completed, task, kind, code, message, urls)
             SELECT m.new, s.idx, s.state, 1, s.attempts, s.cost, s.paid_retries, s.not_before, s.attempt,
                s.submitted, s.accepted, s.ended, s.created, s.completed, s.task, s.kind, s.code,
                s.message, s.urls
             FROM kept k CROSS JOIN samples s ON s.id = k.id CROSS JOIN moved m ON m.old = k.row
             ORDER BY m.new, s.idx;

         CREATE INDEX temp.moved_by_new ON moved(new);
         CREATE TEMP TABLE renumbered(old INTEGER PRIMARY KEY, new INTEGER NOT NULL);",
        samples = schema::SAMPLES,
    ))?;
    renumber(connection)?;
    connection.execute_batch(&format!(
        "DROP TABLE counter; DROP TABLE carried; DROP TABLE kept; DROP TABLE moved; DROP TABLE repeats;
         DROP TABLE old_columns; DROP TABLE renumbered;
         DROP INDEX IF EXISTS new_rows_by_key;
         DROP TABLE samples; DROP TABLE rows;
         ALTER TABLE new_samples RENAME TO samples;
         ALTER TABLE new_rows RENAME TO rows;
         {index}",
        index = schema::index_watched(),
    ))
}

/// Takes what other tables hold of samples along to their new numbers: of those that ask for what
/// they asked for, and of those no longer in the sheet.
fn renumber(connection: &Connection) -> rusqlite::Result<()> {
    let (named, called) = (!names::is_empty(connection)?, callbacks::are_expected(connection)?);
    if !named && !called {
        return Ok(());
    }
    connection.execute_batch(
        "INSERT INTO renumbered SELECT c.old, n.id FROM new_samples n
             CROSS JOIN carried c ON c.row = n.row AND c.idx = n.idx WHERE c.same;
         CREATE INDEX temp.kept_by_row ON kept(row);
         INSERT INTO renumbered SELECT s.id, n.id FROM new_samples n
             CROSS JOIN moved m ON m.new = n.row CROSS JOIN kept k ON k.row = m.old
             CROSS JOIN samples s ON s.id = k.id AND s.idx = n.idx WHERE n.removed = 1;",
    )?;
    if called {
        callbacks::renumber(connection)?;
    }
    if named { names::renumber(connection) } else { Ok(()) }
}

/// A row's key as 32 hexadecimal digits that no other row of the sheet has.
pub(super) fn hex_of(key: &[u8], occurrence: i64) -> String {
    let hash = match (key.split_first(), occurrence) {
        (Some((tag, hash)), 1) if *tag != Key::ID => hash.to_vec(),
        (_, 1) => blake3::hash(key).as_bytes()[..16].to_vec(),
        (_, later) => blake3::hash(&[key, &later.to_le_bytes()].concat()).as_bytes()[..16].to_vec(),
    };
    hash.iter().fold(String::with_capacity(32), |mut hex, byte| {
        hex.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
        hex
    })
}
