//! Rehearsals: the simulator in place of the API, and a clock that may run faster.
//!
//! Making time run faster against the real API would break its limits and give up on tasks that
//! are well, so a [`TimeScale`] is made only where that cannot happen.

use std::num::NonZeroU32;

use super::UsageError;
use super::values::{ScaleWord, dollars, probability};
use crate::job::Usd;
use crate::simulator::Scenario;
use crate::veo::BaseUrl;

/// Options of a rehearsal.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Rehearsal")]
pub struct RehearsalArgs {
    /// Use a model of the API inside this process: no key, no network, no cost, files of its own
    #[arg(long, conflicts_with_all = ["base_url", "api_key_file"])]
    pub simulate: bool,
    /// Which of all possible rehearsals: the same number, the same fates
    #[arg(long, value_name = "N", requires = "simulate", default_value_t = 0)]
    pub sim_seed: u64,
    /// Share of tasks that fail, from 0 to 1
    #[arg(long, value_name = "SHARE", requires = "simulate", default_value = "0", value_parser = probability)]
    pub sim_fail_rate: f64,
    /// What goes wrong: scenarios by name (batchveo simulate --list-scenarios) or from files, which add
    /// up; their times count from the birth of the rehearsal's state file
    #[arg(long, value_name = "NAME|FILE,…", requires = "simulate", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// Dollars the simulated account has been given; a second run with more is a top-up [default: what
    /// the sheet may cost, or what the scenario says]
    #[arg(long, value_name = "USD", requires = "simulate", value_parser = dollars)]
    pub sim_balance: Option<Usd>,
    /// Seconds that pass in a real one, or max; only with --simulate, and a number also against a
    /// server on this machine
    #[arg(long, value_name = "K|max", default_value = "1")]
    pub time_scale: ScaleWord,
}

/// The scenario that `words` name together.
///
/// # Errors
///
/// One of them names none, or a file that is none.
pub fn load_scenarios(words: &[String]) -> Result<Scenario, UsageError> {
    words.iter().try_fold(Scenario::default(), |sum, word| {
        let scenario =
            Scenario::load(word.trim()).map_err(|error| UsageError(format!("--scenario: {error}")))?;
        Ok(sum.and(scenario))
    })
}

/// Whom the run talks to, as far as time is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The simulator in this process.
    Simulator,
    /// A server on this machine.
    Loopback,
    /// Anyone else.
    Remote,
}

impl Peer {
    /// Who answers at `base_url`.
    pub(super) const fn at(base_url: &BaseUrl) -> Self {
        if base_url.is_loopback() { Self::Loopback } else { Self::Remote }
    }
}

/// A pace of time that is safe with its [`Peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeScale {
    /// This many seconds in a real one; 1 unless the peer is on this machine.
    Factor(NonZeroU32),
    /// Virtual time; the peer is the simulator in this process.
    Max,
}

impl TimeScale {
    /// The pace `asked` for, if `peer` can bear it.
    ///
    /// # Errors
    ///
    /// It would break the limits of `peer`, or `peer` could not keep up.
    pub fn allowed(asked: ScaleWord, peer: Peer) -> Result<Self, UsageError> {
        match (asked, peer) {
            (ScaleWord::Max, Peer::Simulator) => Ok(Self::Max),
            (ScaleWord::Factor(factor), Peer::Simulator | Peer::Loopback) => Ok(Self::Factor(factor)),
            (ScaleWord::Factor(NonZeroU32::MIN), Peer::Remote) => Ok(Self::Factor(NonZeroU32::MIN)),
            (ScaleWord::Max, Peer::Loopback | Peer::Remote) => Err(UsageError(
                "--time-scale max needs --simulate: a server cannot follow virtual time".into(),
            )),
            (ScaleWord::Factor(factor), Peer::Remote) => Err(UsageError(format!(
                "--time-scale {factor} needs --simulate or a server on this machine: \
                 the real API would be asked {factor} times as often as it allows"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_faster_only_where_that_is_harmless() {
        let factor = |factor| ScaleWord::Factor(NonZeroU32::new(factor).unwrap());
        for (asked, good) in [
            (factor(1), [true, true, true]),
            (factor(60), [true, true, false]),
            (ScaleWord::Max, [true, false, false]),
        ] {
            let peers = [Peer::Simulator, Peer::Loopback, Peer::Remote];
            assert_eq!(peers.map(|peer| TimeScale::allowed(asked, peer).is_ok()), good, "{asked:?}");
        }
    }
}
