//! What is in doubt at the end of a run, and what the balance has to say about it.
//!
//! Nobody can ask the API whether a submission was accepted. What a person can do is look at what
//! the account was charged: a balance that fell by more than the known purchases says that some of
//! the doubtful ones were.

use std::fmt;

use serde::Serialize;

use super::wording::{Count, Money, Of};
use crate::job::Usd;
use crate::store::{Doubt, Doubts};

/// Doubts that a summary names one by one; the rest is in the results.
pub const DOUBTS_SHOWN: usize = 5;

/// How the balance of this process compares with what it bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct BalanceSays {
    /// By how much the balance fell.
    pub(super) fell_usd: Usd,
    /// The list price of what was accepted for certain meanwhile.
    pub(super) known_purchases_usd: Usd,
}

impl BalanceSays {
    /// `None` unless both balances are known and the later one is not the larger.
    pub(super) fn new(before: Option<Usd>, after: Option<Usd>, bought: Usd) -> Option<Self> {
        let (before, after) = before.zip(after).filter(|(before, after)| after <= before)?;
        Some(Self { fell_usd: before.minus(after), known_purchases_usd: bought })
    }
}

impl fmt::Display for BalanceSays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fell, known) = (Money(self.fell_usd), Money(self.known_purchases_usd));
        write!(f, "the balance fell {fell}, known purchases explain {known}")
    }
}

/// The doubts of a state file as a summary tells them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct DoubtsTold {
    count: u64,
    /// What they cost if all of them were accepted.
    may_have_cost_usd: Usd,
    balance: Option<BalanceSays>,
    /// The oldest of them.
    shown: Vec<DoubtTold>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct DoubtTold {
    line: u64,
    id: Option<String>,
    sample: u32,
    submitted_at: String,
    cause: String,
    may_have_cost_usd: Usd,
}

impl DoubtsTold {
    /// `None` when nothing is in doubt.
    pub(super) fn new(doubts: &Doubts, balance: Option<BalanceSays>) -> Option<Self> {
        (doubts.count > 0).then(|| Self {
            count: doubts.count,
            may_have_cost_usd: doubts.cost,
            balance,
            shown: doubts.shown.iter().take(DOUBTS_SHOWN).map(DoubtTold::from).collect(),
        })
    }
}

impl From<&Doubt> for DoubtTold {
    fn from(doubt: &Doubt) -> Self {
        Self {
            line: doubt.line,
            id: doubt.id.clone(),
            sample: doubt.index,
            submitted_at: doubt.submitted.to_rfc3339(),
            cause: doubt.failure.message.clone(),
            may_have_cost_usd: doubt.cost,
        }
    }
}

impl fmt::Display for DoubtsTold {
    /// Lines in the columns of the summary, with an end of line at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = Money(self.may_have_cost_usd);
        write!(f, "In doubt  {}, which may have cost {cost}", Of(self.count, "submission"))?;
        if let Some(balance) = &self.balance {
            write!(f, "; in this run\n          {balance}")?;
        }
        writeln!(f)?;
        for doubt in &self.shown {
            write!(f, "            {} line {}", doubt.submitted_at, doubt.line)?;
            if let Some(id) = &doubt.id {
                write!(f, " ({id})")?;
            }
            if doubt.sample > 0 {
                write!(f, ", sample {}", doubt.sample)?;
            }
            writeln!(f, ": {}", doubt.cause)?;
        }
        let more = self.count - self.shown.len() as u64;
        if more > 0 {
            writeln!(f, "            and {} more, unknown in the results", Count(more))?;
        }
        Ok(())
    }
}
