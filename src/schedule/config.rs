//! What governs a run, and the numbers that no flag sets.

use std::time::Duration;

use super::cadence::Cadence;
use super::retry::RetryPolicy;
use super::share::Share;
use crate::job::{Limits, Usd};

/// Unanswered submissions allowed before the first acceptance: enough to be quick, few enough
/// that a broken account, price or network is found out for a few cents.
pub const SLOW_START: u32 = 4;

/// Answers in a row that speak of a service in trouble before it counts as an outage.
pub const OUTAGE_STREAK: u32 = 10;

/// A sample that waits longer than this gives its slot to another.
pub const KEEP_SLOT_FOR: Duration = Duration::from_secs(5);

/// How long the API may deny knowing a task it accepted before the task counts as lost; it may
/// take a moment until a new task can be asked about everywhere.
pub const LOST_AFTER: Duration = Duration::from_mins(10);

/// Age below which a task the API does not know is simply new.
pub const NEW_TASK: Duration = Duration::from_secs(30);

/// Fewer unknown tasks than this never stop a run: one task can be lost, many at once cannot.
pub const FEWEST_VANISHED: usize = 5;

/// Looks refused for the key, in a row, after which watching stops.
pub const KEY_REFUSALS: u32 = 3;

/// Unclear looks in a row after which an overdue task is given up on all the same.
pub const UNCLEAR_LOOKS: u32 = 5;

/// Submissions refused for what they ask, in a run that has not seen one accepted, after which
/// buying stops: what is wrong is then the account, the price or the service rather than a row.
pub const NOTHING_ACCEPTED: u32 = 20;

/// Refusals in a row that are believed where little was in use: of submissions, with a wait between
/// them and no acceptance, that there are too many tasks; of looks, that there are too many requests.
/// One may be a hiccup.
pub const REFUSALS_THAT_TELL: u32 = 3;

/// Looks answered after a submission was refused for "too many requests" that show that requests
/// pass and tasks do not.
pub const LOOKS_THAT_TELL: u32 = 3;

/// From a permit to the last moment at which its submission could be accepted: the client gives
/// up on it after a minute.
pub const ACCEPTED_WITHIN: Duration = Duration::from_secs(60);

/// What governs a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// What the account allows.
    pub limits: Limits,
    /// When to look at tasks.
    pub cadence: Cadence,
    /// The part of the requests left after submissions that looks may use.
    pub poll_share: Share,
    /// When to pay again.
    pub retry: RetryPolicy,
    /// Age at which a live task is given up on.
    pub task_timeout: Duration,
    /// How long the service may be away before the run stops.
    pub outage_timeout: Duration,
    /// Samples that may end other than well before buying stops; `None` for any number.
    pub max_failures: Option<u64>,
    /// What may be spent in all, earlier runs and submissions in flight included; `None` for any
    /// amount.
    pub max_cost: Option<Usd>,
    /// How long to go on buying; then the run ends as by an interruption. `None` for any time.
    pub max_duration: Option<Duration>,
    /// The API calls back when a task ends, so that looks are only a safety net.
    pub called_back: bool,
    /// Watch what is bought already, and buy nothing.
    pub collect_only: bool,
}

impl Default for Config {
    /// The documented limits, and looks when they are worth most.
    fn default() -> Self {
        Self {
            limits: Limits::DOCUMENTED,
            cadence: Cadence::Learned,
            poll_share: Share::WHOLE,
            retry: RetryPolicy { paid_retries: 1, seed: 0 },
            task_timeout: Duration::from_mins(30),
            outage_timeout: Duration::from_hours(1),
            max_failures: None,
            max_cost: None,
            max_duration: None,
            called_back: false,
            collect_only: false,
        }
    }
}
