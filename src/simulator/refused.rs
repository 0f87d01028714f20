//! Why a request is not served, and what is answered then.

use serde_json::{Value, json};

use super::judge::Breach;
use super::ledger::LedgerError;

/// Why a request is not served.
pub(super) enum Refused {
    Breach(Breach),
    /// Of a limit that is lower than documented.
    Hidden(Breach),
    Unauthorized,
    Invalid(String),
    NoMoney,
    NoMoney402,
    UnknownTask,
    /// The scenario makes the service forget the task.
    Forgotten,
    UnknownEndpoint,
    Ledger(LedgerError),
}

impl Refused {
    /// HTTP status, message and, where the documented envelope has it, `data`.
    pub(super) fn envelope(&self) -> (u16, &'static str, Option<Value>) {
        match self {
            Self::Breach(Breach::Rate) | Self::Hidden(Breach::Rate) => {
                (429, "Too many requests", Some(Value::Null))
            }
            Self::Breach(Breach::Alive) | Self::Hidden(Breach::Alive) => {
                (429, "Too many concurrent tasks", Some(Value::Null))
            }
            Self::Unauthorized => (401, "Invalid or missing API key", None),
            Self::Invalid(error) => (400, "Invalid request", Some(json!({ "error": error }))),
            Self::NoMoney => (400, "Insufficient credits", Some(Value::Null)),
            Self::NoMoney402 => (402, "Insufficient balance", Some(Value::Null)),
            Self::UnknownTask | Self::Forgotten => (404, "Task not found", Some(Value::Null)),
            Self::UnknownEndpoint => (404, "Not found", Some(Value::Null)),
            Self::Ledger(_) => (500, "Internal server error", Some(Value::Null)),
        }
    }
}
