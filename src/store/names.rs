//! What the samples' videos are called, fixed when they are bought.
//!
//! A sample that was ever submitted keeps its name for good: it may be on a disk, in a bucket, in a
//! benchmark's list. All others are named anew each time, in the order of the sheet, around those. So
//! a row that comes in between renames nothing that was paid for. Names are told apart by their folds
//! ([`fold`]); two with one fold are one file somewhere, and the later one gives way or is refused.
//! One transaction, streaming: memory does not grow with the sheet.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;

use super::columns::{Cells, Table};
use super::import::{hex_of, id_of};
use super::{PROBLEMS_SHOWN, Store, StoreError, meta, schema, set_meta, unsigned};
use crate::harmless::one_line;
use crate::job::SampleId;
use crate::manifest::Problem;
use crate::names::{FileSystem, Fold, Folding, NameRule, Namer, Style, Subject, TemplateError, Unfit, fold};

/// Names shown as examples.
const EXAMPLES: u32 = 3;
/// Characters of a name that a message shows.
const SHOWN: usize = 60;
/// Where the file keeps by what rule its samples were named last, and for which sheet and place.
pub(super) const RULE: &str = "name_rule";
const NAMED: &str = "named";

/// What came of [`Store::assign_names`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Naming {
    /// Samples that have a name, of those in the sheet and those bought earlier.
    pub samples: u64,
    /// Of these, how many have it from earlier because they were bought.
    pub kept: u64,
    /// The rule those have it by, where it is another than now.
    pub other_rule: Option<NameRule>,
    /// The first names.
    pub first: Vec<String>,
    /// The longest name in bytes, the first of several.
    pub longest: Option<String>,
    /// Names that cannot be, and of two that are one the later; the first of them. If there is any,
    /// nothing was changed.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub problem_count: u64,
}

/// Why samples cannot be named at all.
#[derive(Debug, thiserror::Error)]
pub enum NamingError {
    /// The template does not fit the sheet.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The state file fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for NamingError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Samples with what names are made of; the rest of the statement says which.
const KNOWN: &str = "SELECT s.id, s.idx, s.attempts > 0 OR s.state = 'submitting' OR s.removed, s.removed,
        r.position, r.line, r.key, r.occurrence, r.samples, r.generation, r.fields, e.samples";

/// Where those are joined with the samples that equal rows before them ask for.
const EQUAL: &str = "LEFT JOIN equal_rows e ON e.position = r.position";

/// A sample with what its name is made of.
struct Known {
    sample: i64,
    index: u32,
    /// Whether the name it has is its own for good.
    is_bought: bool,
    removed: bool,
    row: RowFacts,
}

/// What the samples of one row share.
#[derive(Clone)]
struct RowFacts {
    position: i64,
    line: u64,
    key: String,
    id: Option<String>,
    samples: u32,
    /// Samples that equal rows before it ask for.
    before: u32,
    prompt: String,
    cells: Vec<String>,
}

/// The part of a stored request that names need.
#[derive(Deserialize)]
struct Prompt<'a> {
    #[serde(borrow)]
    prompt: Cow<'a, str>,
}

impl Known {
    fn read(row: &Row<'_>, work: &Work<'_>, before: Option<&RowFacts>) -> Result<Self, StoreError> {
        let position = row.get(4)?;
        let facts = if let Some(same) = before.filter(|before| before.position == position) {
            same.clone()
        } else {
            let key = row.get_ref(6)?.as_blob().unwrap_or_default();
            // Most of the time goes into reading these, where they are read.
            let request = row.get_ref(9)?.as_str_or_null().ok().flatten();
            let request = request.filter(|_| work.namer.needs_prompt());
            let prompt = request.map(serde_json::from_str::<Prompt<'_>>).transpose()?;
            RowFacts {
                position,
                line: unsigned(row.get(5)?),
                key: hex_of(key, row.get(7)?),
                id: id_of(key),
                samples: row.get(8)?,
                before: row.get::<_, Option<u32>>(11)?.unwrap_or(0),
                prompt: prompt.map(|request| request.prompt.into_owned()).unwrap_or_default(),
                cells: if work.namer.needs_cells() {
                    work.table.read(row.get_ref(10)?.as_str().unwrap_or(""))?
                } else {
                    Vec::new()
                },
            }
        };
        let (sample, index) = (row.get(0)?, row.get(1)?);
        Ok(Self { sample, index, is_bought: row.get(2)?, removed: row.get(3)?, row: facts })
    }

    fn subject(&self) -> Subject<'_> {
        let RowFacts { position, key, id, samples, before, prompt, cells, .. } = &self.row;
        Subject {
            id: id.as_deref(),
            row: unsigned(*position),
            sample: self.index.saturating_add(*before),
            samples: before.saturating_add(*samples),
            prompt,
            key,
            cells,
        }
    }
}

impl Store {
    /// Gives every sample of the sheet a name by `rule`, but for those that were submitted and have
    /// one. Under [`Style::Exact`] names must be possible at `place`, those given earlier included;
    /// if one is not, or two are one file there, all are as they were, and the problems say why.
    /// Bad rows have no names.
    ///
    /// # Errors
    ///
    /// A template that names a column which the sheet has not; a database that fails. Names are then
    /// as they were.
    pub fn assign_names(&mut self, rule: &NameRule, place: &FileSystem) -> Result<Naming, NamingError> {
        let namer = rule.bind(&self.columns()?, self.uses_samples(false)?)?;
        let table = self.table(false, Cells::All)?;
        // Names follow from the sheet, the rule, the place and what was named when it was bought.
        let now = match rule.style {
            Style::Portable => rule.to_string(),
            Style::Exact => format!("{rule} at {place:?}"),
        };
        if meta::<String>(&self.connection, NAMED)?.as_ref() == Some(&now) {
            return Ok(summary(&self.connection, "names")?);
        }
        let folding = match rule.style {
            Style::Portable => Folding::Anywhere,
            Style::Exact => place.folding(),
        };
        let savepoint = self.connection.savepoint()?;
        let mut work =
            Work { connection: &savepoint, table, namer, rule, place, folding, found: Naming::default() };
        work.name_all()?;
        work.set_repeats_aside()?;
        work.resolve_repeats()?;
        let mut naming = Naming { ..summary(&savepoint, "new_names")? };
        let Work { found, .. } = work;
        (naming.kept, naming.problem_count) = (found.kept, found.problem_count);
        naming.problems = found.problems;
        naming.problems.sort_by_key(|problem| problem.line);
        naming.problems.truncate(PROBLEMS_SHOWN);
        let before = meta::<String>(&savepoint, RULE)?.map(|text| text.parse()).transpose()?;
        naming.other_rule = before.filter(|before| naming.kept > 0 && before != rule);
        if naming.problem_count > 0 {
            return Ok(naming);
        }
        savepoint.execute_batch(
            "ALTER TABLE new_names RENAME TO names;
             DROP TABLE temp.repeats; DROP TABLE temp.bought_names; DROP TABLE temp.equal_rows;",
        )?;
        set_meta(&savepoint, RULE, rule.to_string())?;
        set_meta(&savepoint, NAMED, now)?;
        savepoint.commit()?;
        if self.connection.is_autocommit()
            && let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
        {
            tracing::debug!(%error, "the log of the state file was not emptied after the naming");
        }
        Ok(naming)
    }

    /// The rule by which samples were named last; `None` if they never were.
    ///
    /// # Errors
    ///
    /// When the database fails, or holds a rule that cannot be read.
    pub fn name_rule(&self) -> Result<Option<NameRule>, NamingError> {
        let stored: Option<String> = meta(&self.connection, RULE)?;
        Ok(stored.map(|text| text.parse()).transpose()?)
    }

    /// The name of `sample`: a relative path with `/` between folders and without an extension; `None`
    /// if it has none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn name_of(&self, sample: SampleId) -> Result<Option<String>, StoreError> {
        let asked = self.connection.prepare_cached("SELECT name FROM names WHERE sample = ?1");
        match asked {
            Ok(mut statement) => Ok(statement.query_row([sample.0], |row| row.get(0)).optional()?),
            Err(_) if !has_names(&self.connection)? => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the file has the table; one of an earlier version has not, until it is written to.
pub(super) fn has_names(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'names')";
    connection.query_one(sql, (), |row| row.get(0))
}

/// Whether no sample has a name.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_one("SELECT NOT EXISTS (SELECT 1 FROM names)", (), |row| row.get(0))
}

/// Takes the names along to the samples' new numbers, by `renumbered`. Those without one are for the
/// next naming.
pub(super) fn renumber(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE new_names {names};
         INSERT INTO new_names SELECT r.new, n.name, n.fold
             FROM names n CROSS JOIN renumbered r ON r.old = n.sample ORDER BY r.new;
         DROP TABLE names;
         ALTER TABLE new_names RENAME TO names;
         {index}
         DELETE FROM meta WHERE name = '{NAMED}';",
        names = schema::NAMES,
        index = schema::index_names("names"),
    ))
}

/// What is told of the names in `table`.
fn summary(connection: &Connection, table: &str) -> Result<Naming, StoreError> {
    let samples = connection.query_one(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0))?;
    let mut first =
        connection.prepare(&format!("SELECT name FROM {table} ORDER BY sample LIMIT {EXAMPLES}"))?;
    let first = first.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let longest = connection
        .query_one(
            &format!("SELECT name FROM {table} ORDER BY octet_length(name) DESC, sample LIMIT 1"),
            (),
            |row| row.get(0),
        )
        .optional()?;
    Ok(Naming { samples: unsigned(samples), first, longest, ..Naming::default() })
}

/// A naming on its way.
struct Work<'a> {
    connection: &'a Connection,
    table: Table,
    namer: Namer,
    rule: &'a NameRule,
    place: &'a FileSystem,
    folding: Folding,
    /// What has come of it so far.
    found: Naming,
}

impl Work<'_> {
    /// Gives every sample the name it has or would have if it were alone, in `new_names`.
    fn name_all(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch(&format!(
            "CREATE TABLE new_names {};
             CREATE TEMP TABLE bought_names(sample INTEGER PRIMARY KEY);
             CREATE TEMP TABLE equal_rows(position INTEGER PRIMARY KEY, samples INTEGER);
             INSERT INTO equal_rows SELECT position, before FROM (
                 SELECT position, sum(samples) OVER (PARTITION BY key ORDER BY position
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                 FROM rows WHERE removed = 0 AND problem IS NULL
                     AND key IN (SELECT key FROM rows WHERE occurrence > 1)
             ) WHERE before > 0;",
            schema::NAMES
        ))?;
        let mut insert = self.connection.prepare("INSERT INTO new_names VALUES(?1, ?2, ?3)")?;
        let mut keep = self.connection.prepare("INSERT INTO bought_names VALUES(?1)")?;
        let mut samples = self.connection.prepare(&format!(
            "{KNOWN}, n.name FROM samples s CROSS JOIN rows r ON r.position = s.row {EQUAL}
             LEFT JOIN names n ON n.sample = s.id WHERE s.state <> 'invalid' ORDER BY s.id"
        ))?;
        let mut rows = samples.query(())?;
        let mut before = None;
        while let Some(row) = rows.next()? {
            let known = Known::read(row, self, before.as_ref())?;
            let has: Option<String> = row.get(12)?;
            let kept = has.filter(|_| known.is_bought);
            let is_kept = kept.is_some();
            let name = match (kept, self.rule.style) {
                (None, _) if known.removed => continue,
                (Some(name), Style::Portable) => Ok(name),
                (Some(name), Style::Exact) => self.place.check(&name).map(|()| name),
                (None, Style::Portable) => Ok(self.namer.portable(&known.subject(), 0)),
                (None, Style::Exact) => self.namer.exact(&known.subject(), self.place),
            };
            match name {
                Ok(name) => {
                    insert.execute(params![known.sample, name, fold(&name, self.folding)])?;
                    if is_kept {
                        keep.execute([known.sample])?;
                        self.found.kept += 1;
                    }
                }
                Err(unfit) => self.refuse(&known, unfit),
            }
            before = Some(known.row);
        }
        Ok(())
    }

    /// Takes all but one of those that are one file out of `new_names` into `repeats`; what is bought
    /// comes first, and then the sheet's order.
    fn set_repeats_aside(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(
            "CREATE TEMP TABLE repeats(sample INTEGER PRIMARY KEY, name TEXT, first INTEGER, kept INTEGER);
             INSERT INTO repeats SELECT sample, name, first, kept FROM (
                 SELECT n.sample AS sample, n.name AS name, b.sample IS NOT NULL AS kept,
                     row_number() OVER same AS nth, first_value(n.sample) OVER same AS first
                 FROM new_names n LEFT JOIN bought_names b ON b.sample = n.sample
                 WINDOW same AS (PARTITION BY n.fold ORDER BY b.sample IS NULL, n.sample)
             ) WHERE nth > 1;
             DELETE FROM new_names WHERE sample IN (SELECT sample FROM repeats);
             DROP TABLE names;",
        )?;
        self.connection.execute_batch(&schema::index_names("new_names"))
    }

    /// Gives those set aside names of their own, or says of which line theirs is.
    fn resolve_repeats(&mut self) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare("INSERT OR IGNORE INTO new_names VALUES(?1, ?2, ?3)")?;
        let mut samples = self.connection.prepare(&format!(
            "{KNOWN}, p.name, p.kept, f.name, o.line, o.position
             FROM repeats p CROSS JOIN samples s ON s.id = p.sample CROSS JOIN rows r ON r.position = s.row
             CROSS JOIN new_names f ON f.sample = p.first CROSS JOIN samples g ON g.id = p.first
             CROSS JOIN rows o ON o.position = g.row {EQUAL} ORDER BY p.sample"
        ))?;
        let mut rows = samples.query(())?;
        while let Some(row) = rows.next()? {
            let known = Known::read(row, self, None)?;
            let (name, is_kept): (String, bool) = (row.get(12)?, row.get(13)?);
            match self.rule.style {
                // Both are bought, under a rule by which they were two.
                Style::Portable if is_kept => {
                    insert.execute(params![known.sample, name, fold_of_its_own(known.sample)])?;
                }
                Style::Portable => {
                    let mut attempt = 1;
                    loop {
                        let name = self.namer.portable(&known.subject(), attempt);
                        if insert.execute(params![known.sample, name, fold(&name, self.folding)])? > 0 {
                            break;
                        }
                        attempt += 1;
                    }
                }
                Style::Exact => {
                    let (other, line): (String, i64) = (row.get(14)?, row.get(15)?);
                    let same_row = row.get::<_, i64>(16)? == known.row.position;
                    let what = self.one_file(&name, &other, line, same_row);
                    let mend = if same_row {
                        "add {sample} to --name, or use --names portable"
                    } else {
                        "add {id} or {row} to --name, change the cell, or use --names portable"
                    };
                    self.refuse(&known, Unfit { what, mend: mend.to_owned() });
                }
            }
        }
        Ok(())
    }

    /// That `name` is the name `other` of the row in `line`.
    fn one_file(&self, name: &str, other: &str, line: i64, same_row: bool) -> String {
        let whose = if same_row { "another sample of it".to_owned() } else { format!("line {line}") };
        if name == other {
            format!("its name `{}` is also that of {whose}", one_line(name, SHOWN))
        } else {
            let (name, other) = (one_line(name, SHOWN), one_line(other, SHOWN));
            format!("its name `{name}` and `{other}` of {whose} are one file for {}", self.place)
        }
    }

    fn refuse(&mut self, known: &Known, Unfit { what, mend }: Unfit) {
        self.found.problem_count += 1;
        if self.found.problems.len() < PROBLEMS_SHOWN {
            self.found.problems.push(Problem { line: known.row.line, place: None, column: None, what, mend });
        }
    }
}

/// A fold that no name has.
fn fold_of_its_own(sample: i64) -> Fold {
    fold(&format!("\0{sample}"), Folding::At { case: false, normalization: false })
}
