//! Sums over the state: what is done, what is left to buy, what was spent.

use rusqlite::params_from_iter;

use super::{Selection, State, Store, StoreError, unsigned};
use crate::generation::{Generation, GenerationType, Mode, PriceList};
use crate::job::{FailureKind, Stamp, Status, Tally, Usd};

/// Samples of one kind that are still to be bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanLine {
    /// What from.
    pub generation_type: GenerationType,
    /// At which speed.
    pub mode: Mode,
    /// How many.
    pub samples: u64,
    /// What they cost at list price, if each is made at the first attempt.
    pub cost: Usd,
}

/// How many samples stand one way for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeCount {
    /// How they stand.
    pub status: Status,
    /// Why; `None` for those that succeeded or are pending.
    pub kind: Option<FailureKind>,
    /// How many.
    pub samples: u64,
}

impl Store {
    /// How many samples of the sheet stand where.
    ///
    /// # Errors
    ///
    /// A selection by a column that the sheet has not; a database that fails.
    pub fn tally(&self, selection: &Selection) -> Result<Tally, StoreError> {
        let mut tally = Tally::default();
        for (state, _, samples) in self.states(selection)? {
            let status = state.status();
            tally.set(status, tally.count(status) + samples);
        }
        Ok(tally)
    }

    /// How many samples of the sheet stand where and why, in the order of [`Status::ALL`] and
    /// [`FailureKind::ALL`].
    ///
    /// # Errors
    ///
    /// As [`Store::tally`].
    pub fn outcomes(&self, selection: &Selection) -> Result<Vec<OutcomeCount>, StoreError> {
        let mut counts: Vec<OutcomeCount> = Vec::new();
        for (state, kind, samples) in self.states(selection)? {
            let status = state.status();
            let kind = match state {
                // The reason of a passed attempt is not that of the sample.
                State::Ready | State::Submitting | State::Running | State::Succeeded => None,
                State::Invalid => Some(FailureKind::Input),
                State::Failed | State::Rejected | State::TimedOut | State::Lost | State::Unknown => kind,
            };
            match counts.iter_mut().find(|count| (count.status, count.kind) == (status, kind)) {
                Some(count) => count.samples += samples,
                None => counts.push(OutcomeCount { status, kind, samples }),
            }
        }
        let rank = |status| Status::ALL.iter().position(|other| *other == status);
        counts.sort_by_key(|count| (rank(count.status), count.kind));
        Ok(counts)
    }

    /// What is still to be bought, by type and mode.
    ///
    /// # Errors
    ///
    /// As [`Store::tally`].
    pub fn plan(&self, selection: &Selection, prices: PriceList) -> Result<Vec<PlanLine>, StoreError> {
        let condition = selection.condition(self)?;
        let mut statement = self.connection.prepare(&format!(
            "SELECT r.type, r.mode, count(*) FROM samples s CROSS JOIN rows r ON r.position = s.row
             WHERE {} AND s.state = 'ready' GROUP BY 1, 2",
            condition.sql
        ))?;
        let mut rows = statement.query(params_from_iter(&condition.parameters))?;
        let mut plan = Vec::new();
        while let Some(row) = rows.next()? {
            let (generation_type, mode) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
            let mode: Mode = serde_json::from_value(mode.into())?;
            let samples = unsigned(row.get(2)?);
            let generation_type = serde_json::from_value(generation_type.into())?;
            plan.push(PlanLine { generation_type, mode, samples, cost: prices.of(mode).times(samples) });
        }
        plan.sort_by_key(|line| (line.generation_type, line.mode));
        Ok(plan)
    }

    /// The list price of everything accepted or in doubt since the birth of the file, samples no
    /// longer in the sheet included. An intent without an answer is not charged before it ends.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn spending(&self) -> Result<Usd, StoreError> {
        let micros =
            self.connection.query_one("SELECT ifnull(sum(cost), 0) FROM samples", (), |r| r.get(0))?;
        Ok(Usd::from_micros(unsigned(micros)))
    }

    /// How many samples of the sheet have ended after `stamp`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn ended_since(&self, stamp: Stamp) -> Result<u64, StoreError> {
        let since = super::stored(stamp.as_millis());
        let sql = "SELECT count(*) FROM samples WHERE ended > ?1 AND removed = 0";
        Ok(unsigned(self.connection.query_one(sql, [since], |row| row.get(0))?))
    }

    /// How many submissions are in doubt: of unknown fate, or without an answer when this is asked.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn in_doubt(&self) -> Result<u64, StoreError> {
        let count = self.connection.query_one(
            "SELECT count(*) FROM samples WHERE state IN ('submitting', 'unknown')",
            (),
            |row| row.get(0),
        )?;
        Ok(unsigned(count))
    }

    /// Shows `visit` what every sample of the sheet asks for, in manifest order, ended ones
    /// included.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub fn requests(&self, mut visit: impl FnMut(&Generation)) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT generation, samples FROM rows
             WHERE removed = 0 AND problem IS NULL ORDER BY position",
        )?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let generation: Generation = serde_json::from_str(row.get_ref(0)?.as_str().unwrap_or(""))?;
            for index in 0..row.get(1)? {
                visit(&generation.clone().sample(index));
            }
        }
        Ok(())
    }

    fn states(&self, selection: &Selection) -> Result<Vec<(State, Option<FailureKind>, u64)>, StoreError> {
        let condition = selection.condition(self)?;
        // Rows are looked up only where the selection asks about their cells.
        let rows = if selection.filters.is_empty() { "" } else { "CROSS JOIN rows r ON r.position = s.row" };
        let mut statement = self.connection.prepare(&format!(
            "SELECT s.state, s.kind, count(*) FROM samples s {rows} WHERE {} GROUP BY 1, 2",
            condition.sql
        ))?;
        let counts = statement.query_map(params_from_iter(&condition.parameters), |row| {
            let kind: Option<String> = row.get(1)?;
            Ok((row.get(0)?, kind.as_deref().and_then(failure_kind), unsigned(row.get(2)?)))
        })?;
        Ok(counts.collect::<Result<_, _>>()?)
    }
}

/// The kind that `word` stands for.
pub(super) fn failure_kind(word: &str) -> Option<FailureKind> {
    FailureKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}
