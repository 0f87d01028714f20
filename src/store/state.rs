//! How a sample stands in the state file: the stored half of the state machine.
//!
//! Words rather than numbers, so that `sqlite3 … "select state, count(*) from samples group by 1"`
//! explains itself while a run goes on.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::job::Status;

/// A stored state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// May be submitted. One whose kind is `doubt` and that has no message was put back after a
    /// doubt (`--retry unknown`): it is submitted after all others.
    Ready,
    /// An intent is durable and its answer is not.
    Submitting,
    /// A task is alive.
    Running,
    /// A video was made.
    Succeeded,
    /// The task failed.
    Failed,
    /// The submission was refused.
    Rejected,
    /// The task outlived the time-out.
    TimedOut,
    /// The task cannot be found.
    Lost,
    /// The submission's fate is not known.
    Unknown,
    /// The row cannot be submitted.
    Invalid,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::Submitting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Rejected,
        Self::TimedOut,
        Self::Lost,
        Self::Unknown,
        Self::Invalid,
    ];

    /// The word in the state file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Submitting => "submitting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }

    /// What a person reads in the results.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Ready | Self::Submitting | Self::Running => Status::Pending,
            Self::Succeeded => Status::Succeeded,
            Self::Failed => Status::Failed,
            Self::Rejected => Status::Rejected,
            Self::TimedOut => Status::TimedOut,
            Self::Lost => Status::Lost,
            Self::Unknown => Status::Unknown,
            Self::Invalid => Status::Invalid,
        }
    }

    /// Whether money was spent on a video that exists or may exist, so that a changed or missing
    /// row is a difference to be told rather than a new request.
    #[must_use]
    pub const fn is_bought_or_in_doubt(self) -> bool {
        match self {
            Self::Submitting
            | Self::Running
            | Self::Succeeded
            | Self::TimedOut
            | Self::Lost
            | Self::Unknown => true,
            Self::Ready | Self::Failed | Self::Rejected | Self::Invalid => false,
        }
    }

    /// The states with `property`, as the inside of an SQL `IN (…)`.
    pub(super) fn sql_list(property: impl Fn(Self) -> bool) -> String {
        let words: Vec<_> =
            Self::ALL.into_iter().filter(|state| property(*state)).map(|s| format!("'{s}'")).collect();
        words.join(",")
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| FromSqlError::other(UnknownState(word.to_owned())))
    }
}

/// A word that is no state.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a state")]
struct UnknownState(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_strangers_do_not() {
        for state in State::ALL {
            assert_eq!(State::column_result(ValueRef::Text(state.as_str().as_bytes())).unwrap(), state);
        }
        assert!(State::column_result(ValueRef::Text(b"cooking")).is_err());
    }
}
