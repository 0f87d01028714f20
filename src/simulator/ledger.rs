//! What was accepted: the books of a simulated account, on disk.
//!
//! On disk for two reasons. A million acceptances must not cost memory; and a rehearsal that is
//! killed must find its tasks, its money and its double purchases again. One row is written for each
//! acceptance, which is all there is to write, because a task's fate is known when it is accepted.
//! `synchronous=OFF`: nothing here is paid for, and what the operating system has taken survives the
//! death of the process.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Row, params};

use super::request::RequestHash;
use crate::job::{Stamp, Usd};

/// Version of the tables below, kept as `user_version` of the file.
const SCHEMA_VERSION: i64 = 1;

/// `task.request` and `asked.request` hold the bits of a [`RequestHash`]; times are milliseconds
/// since birth; `cost` is in millionths of a dollar; `failed` is 0 or 1, known from the beginning.
const SCHEMA: &str = "
    CREATE TABLE task (
        request INTEGER NOT NULL, nth INTEGER NOT NULL, accepted_ms INTEGER NOT NULL,
        ends_ms INTEGER NOT NULL, failed INTEGER NOT NULL, cost INTEGER NOT NULL,
        PRIMARY KEY (request, nth)
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE asked (request INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT;
";

/// Why the ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database's reason.
    #[error(
        "the simulator's ledger cannot be kept: see to its disk and permissions, or remove it to start a new rehearsal"
    )]
    Sqlite(#[from] rusqlite::Error),
    /// The file is of another version, or not a ledger.
    #[error(
        "the simulator's ledger has version {0}, this program writes {SCHEMA_VERSION}; remove it to start a new rehearsal"
    )]
    Version(i64),
}

/// One acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acceptance {
    pub(super) request: RequestHash,
    /// How many acceptances of the same request came before.
    pub(super) nth: u32,
    pub(super) accepted: Stamp,
    /// When the task ends, in milliseconds since birth.
    pub(super) ends_ms: u64,
    pub(super) failed: bool,
    pub(super) cost: Usd,
}

/// Sums over all acceptances, also those of earlier processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) failed: u64,
    pub(super) spent: Usd,
}

/// What the books say of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) request: RequestHash,
    pub(super) accepted: u64,
    pub(super) failed: u64,
    /// How often it was asked for; `None` when no expectations were given.
    pub(super) asked: Option<u64>,
}

/// The books.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    totals: Totals,
    expecting: bool,
}

impl Ledger {
    /// The ledger in the file at `path`, made if there is none. One process at a time has it.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is in use, or is not a ledger of this version.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        // Without shared memory between processes, which one process does not need.
        Self::with(Connection::open(path)?, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;")
    }

    /// A ledger in an unnamed temporary file that vanishes with the process.
    ///
    /// # Errors
    ///
    /// The temporary file cannot be made.
    pub fn temporary() -> Result<Self, LedgerError> {
        // A process that dies takes the file along: there is nothing to roll back to.
        Self::with(Connection::open("")?, "PRAGMA journal_mode=MEMORY;")
    }

    fn with(connection: Connection, journal: &str) -> Result<Self, LedgerError> {
        // The plan of a statement stays, whatever is bound to it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // Two MiB of cache (the unit of a negative size is KiB): the operating system has the rest.
        connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-2048;")?;
        connection.execute_batch(journal)?;
        // Requests come in no order, so of few pages of a log none would be there twice.
        connection.execute_batch("PRAGMA wal_autocheckpoint=4096;")?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => connection
                .execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"))?,
            SCHEMA_VERSION => {}
            version => return Err(LedgerError::Version(version)),
        }
        let totals = connection.query_row(
            "SELECT count(*), coalesce(sum(failed), 0), coalesce(sum(cost), 0) FROM task",
            [],
            |row| {
                let spent = Usd::from_micros(natural(row, 2)?);
                Ok(Totals { accepted: natural(row, 0)?, failed: natural(row, 1)?, spent })
            },
        )?;
        let expecting = connection.query_row("SELECT EXISTS (SELECT 1 FROM asked)", [], |row| row.get(0))?;
        Ok(Self { connection, totals, expecting })
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether [`Ledger::expect`] has been told anything.
    pub(super) const fn expecting(&self) -> bool {
        self.expecting
    }

    /// How often `request` was accepted.
    pub(super) fn accepted(&self, request: RequestHash) -> Result<u32, LedgerError> {
        let mut count = self.connection.prepare_cached("SELECT count(*) FROM task WHERE request = ?1")?;
        Ok(count.query_row([key(request)], |row| row.get(0))?)
    }

    /// Writes down one acceptance; it is there when this returns, should the process die.
    pub(super) fn record(&mut self, acceptance: &Acceptance) -> Result<(), LedgerError> {
        let Acceptance { request, nth, accepted, ends_ms, failed, cost } = *acceptance;
        self.connection.prepare_cached("INSERT INTO task VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(
            params![
                key(request),
                nth,
                accepted.as_millis().cast_signed(),
                ends_ms.cast_signed(),
                failed,
                cost.micros().cast_signed()
            ],
        )?;
        self.totals.accepted += 1;
        self.totals.failed += u64::from(failed);
        self.totals.spent = self.totals.spent + cost;
        Ok(())
    }

    /// Calls `each` with the end, in milliseconds since birth, of every task alive at `now`.
    pub(super) fn for_alive(&self, now: Stamp, mut each: impl FnMut(u64)) -> Result<(), LedgerError> {
        let mut alive = self.connection.prepare("SELECT ends_ms FROM task WHERE ends_ms > ?1")?;
        let mut rows = alive.query([now.as_millis().cast_signed()])?;
        while let Some(row) = rows.next()? {
            each(natural(row, 0)?);
        }
        Ok(())
    }

    /// Replaces what was asked for: `fill` names each wanted sample's request once, so that a
    /// request wanted five times is named five times. In constant memory.
    ///
    /// # Errors
    ///
    /// `fill`'s own, or the ledger cannot be written; then what was expected before still is.
    pub fn expect<E: From<LedgerError>>(
        &mut self,
        fill: impl FnOnce(&mut Expectations<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let transaction = self.connection.transaction().map_err(LedgerError::from)?;
        transaction
            .execute_batch("DELETE FROM asked; CREATE TEMP TABLE wanted(request INTEGER NOT NULL) STRICT;")
            .map_err(LedgerError::from)?;
        let mut expectations = Expectations { connection: &transaction, any: false };
        fill(&mut expectations)?;
        let any = expectations.any;
        // In order, each page is written once; a million requests as they come would look for theirs.
        transaction
            .execute_batch(
                "INSERT INTO asked SELECT request, count(*) FROM wanted GROUP BY request ORDER BY request;
                 DROP TABLE wanted;",
            )
            .map_err(LedgerError::from)?;
        transaction.commit().map_err(LedgerError::from)?;
        self.expecting = any;
        Ok(())
    }

    /// How many videos were bought beyond those asked for: the sum over all requests of accepted
    /// minus failed minus asked, where that is positive. Reads the whole ledger once.
    pub(super) fn bought_twice(&self) -> Result<u64, LedgerError> {
        let mut surplus = self.connection.prepare(
            "SELECT coalesce(sum(max(0, made - asked)), 0) FROM (
                 SELECT count(*) - sum(failed) AS made,
                        CASE WHEN ?1 THEN coalesce((SELECT n FROM asked WHERE asked.request = task.request), 0)
                             ELSE 1 END AS asked
                 FROM task GROUP BY request
             )",
        )?;
        Ok(surplus.query_row([self.expecting], |row| natural(row, 0))?)
    }

    /// At most `most` lines, in the order of the ledger, after the one of `after`.
    pub(super) fn lines(&self, after: Option<RequestHash>, most: u32) -> Result<Vec<Line>, LedgerError> {
        let mut lines = self.connection.prepare_cached(
            "SELECT request, count(*), sum(failed),
                    CASE WHEN ?3 THEN coalesce((SELECT n FROM asked WHERE asked.request = task.request), 0) END
             FROM task WHERE ?1 IS NULL OR request > ?1 GROUP BY request ORDER BY request LIMIT ?2",
        )?;
        let lines = lines.query_map(params![after.map(key), most, self.expecting], |row| {
            Ok(Line {
                request: RequestHash(row.get::<_, i64>(0)?.cast_unsigned()),
                accepted: natural(row, 1)?,
                failed: natural(row, 2)?,
                asked: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
            })
        })?;
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

/// Takes what is asked for, request by request.
#[derive(Debug)]
pub struct Expectations<'a> {
    connection: &'a Connection,
    any: bool,
}

impl Expectations<'_> {
    /// One more video of `request` is wanted.
    ///
    /// # Errors
    ///
    /// The ledger cannot be written.
    pub fn add(&mut self, request: RequestHash) -> Result<(), LedgerError> {
        self.connection.prepare_cached("INSERT INTO wanted VALUES (?1)")?.execute([key(request)])?;
        self.any = true;
        Ok(())
    }
}

/// The database's integers have a sign.
const fn key(request: RequestHash) -> i64 {
    request.0.cast_signed()
}

/// A column that is never negative.
fn natural(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buy(ledger: &mut Ledger, request: u64, failed: bool) {
        let request = RequestHash(request);
        let nth = ledger.accepted(request).unwrap();
        let acceptance = Acceptance {
            request,
            nth,
            accepted: Stamp::from_millis(10),
            ends_ms: 100 + u64::from(nth),
            failed,
            cost: Usd::from_cents(20),
        };
        ledger.record(&acceptance).unwrap();
    }

    fn expect(ledger: &mut Ledger, requests: &[u64]) {
        ledger
            .expect(|asked| requests.iter().try_for_each(|request| asked.add(RequestHash(*request))))
            .unwrap();
    }

    #[test]
    fn bought_twice_is_what_was_made_beyond_what_was_asked() {
        // (request, failed) of each acceptance, what was asked for, the surplus with and without.
        type Case = (&'static [(u64, bool)], &'static [u64], u64, u64);
        let cases: [Case; 7] = [
            (&[], &[1], 0, 0),
            (&[(1, false), (2, false)], &[1, 2], 0, 0),
            (&[(1, false), (1, false)], &[1], 1, 1),
            (&[(1, false), (1, false)], &[1, 1], 0, 1),
            (&[(1, true), (1, false)], &[1], 0, 0),
            (&[(1, true), (1, false), (1, false), (2, false)], &[1, 2], 1, 1),
            (&[(1, false), (u64::MAX, false)], &[1], 1, 0),
        ];
        for (bought, asked, surplus, surplus_if_each_once) in cases {
            let mut ledger = Ledger::temporary().unwrap();
            for (request, failed) in bought {
                buy(&mut ledger, *request, *failed);
            }
            assert_eq!(ledger.bought_twice().unwrap(), surplus_if_each_once, "{bought:?}");
            expect(&mut ledger, asked);
            assert_eq!(ledger.bought_twice().unwrap(), surplus, "{bought:?} {asked:?}");
        }
    }

    #[test]
    fn expecting_anew_replaces_and_a_failed_filling_does_not() {
        let mut ledger = Ledger::temporary().unwrap();
        buy(&mut ledger, 1, false);
        buy(&mut ledger, 1, false);
        expect(&mut ledger, &[1, 1]);
        let failed = ledger.expect(|asked| {
            asked.add(RequestHash(9))?;
            Err(LedgerError::Version(0))
        });
        assert!(failed.is_err());
        assert_eq!(ledger.bought_twice().unwrap(), 0);
        expect(&mut ledger, &[1]);
        assert_eq!(ledger.bought_twice().unwrap(), 1);
    }

    #[test]
    fn a_reopened_ledger_knows_what_it_knew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut ledger = Ledger::open(&path).unwrap();
        for (request, failed) in [(1, false), (1, true), (2, false)] {
            buy(&mut ledger, request, failed);
        }
        expect(&mut ledger, &[1]);
        let totals = ledger.totals();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.totals(), totals);
        assert_eq!(totals, Totals { accepted: 3, failed: 1, spent: Usd::from_cents(60) });
        assert_eq!(ledger.accepted(RequestHash(1)).unwrap(), 2);
        assert_eq!(ledger.bought_twice().unwrap(), 1);
        let mut alive = Vec::new();
        ledger.for_alive(Stamp::from_millis(100), |ends| alive.push(ends)).unwrap();
        assert_eq!(alive, [101]);
    }

    #[test]
    fn a_file_of_another_version_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=7").unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Version(7))));
        let text = folder.path().join("text.db");
        std::fs::write(&text, "prompt,id\n".repeat(1_000)).unwrap();
        assert!(matches!(Ledger::open(&text), Err(LedgerError::Sqlite(_))));
    }

    #[test]
    fn lines_come_in_pages() {
        let mut ledger = Ledger::temporary().unwrap();
        for request in [3, u64::MAX, 5, 3] {
            buy(&mut ledger, request, request == 5);
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = ledger.lines(after, 2).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.request);
            seen.extend(page.iter().map(|line| (line.request.0, line.accepted, line.failed, line.asked)));
        }
        assert_eq!(seen, [(u64::MAX, 1, 0, None), (3, 2, 0, None), (5, 1, 1, None)]);
        expect(&mut ledger, &[3]);
        assert_eq!(ledger.lines(Some(RequestHash(u64::MAX)), 9).unwrap()[0].asked, Some(1));
    }
}
