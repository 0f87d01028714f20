//! `run`, from its arguments to its exit code: the order in which things are opened, asked and told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;

use super::files::{forget, keep_apart, ledger_path};
use super::sheet_in::{self, Taken};
use super::sinks::{Sinks, check_summary};
use super::{Destination, RunArgs, RunPlan};
use crate::api::{Balance, VideoApi};
use crate::batch::{Batch, Run};
use crate::callback::Address;
use crate::cli::callbacks::Called;
use crate::cli::check;
use crate::cli::confirm::{Purchase, PurchaseLine, confirm};
use crate::cli::downloads;
use crate::cli::exit::Exit;
use crate::cli::names::assign;
use crate::cli::paths::{RunPaths, about_state, videos_of};
use crate::cli::rehearsal::TimeScale;
use crate::cli::sheet::Source;
use crate::cli::signals::{Leave, Signals, heed, sent};
use crate::cli::{Environment, UsageError};
use crate::clock::{Clock, Moment};
use crate::download::{Asking, Look, Place, Started};
use crate::engine::{Callbacks, first_balance};
use crate::generation::Mode;
use crate::job::{Limits, Status, Usd};
use crate::report::wording::Of;
use crate::report::{Outlook, Screen};
use crate::results::OutputFormat;
use crate::schedule::gate::{Gate, burst};
use crate::schedule::share::quiet;
use crate::simulator::{Ledger, LedgerError, Settings, Simulator, request_hash};
use crate::store::{Claim, Durability, ImportOptions, Owner, Part, Selection, account_folder};
use crate::veo::{ApiKey, BaseUrl, Client, Timeouts};

/// Under which a key names its account's folder; the same for all, so that all processes agree.
const ACCOUNT_SALT: [u8; 32] = *b"batchveo: the lock of an account";

/// Runs a sheet.
///
/// # Errors
///
/// Anything that keeps the run from starting or from going on; [`Exit::of`] tells which.
pub fn perform(
    args: &RunArgs,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if args.dry_run {
        let exit = check::perform_for_run(args, environment, screen, stdout)?;
        stdout.flush()?;
        return Ok(exit);
    }
    let RunPlan { source, paths, destination, time_scale, limits, download, callback } =
        RunPlan::resolve(args, environment)?;
    // A name mistyped leaves no state file behind. The sheet itself is read once, later.
    if let Source::File(path) = &source {
        fs::File::open(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
    }
    keep_apart(args, &source, &paths)?;
    args.summary.as_deref().map(check_summary).transpose()?;
    let state = paths.state.clone();
    let job = Job { args, source, paths, time_scale, limits, download, callback, screen: screen.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = match destination {
        Destination::Simulator { seed, fail_rate, scenario, balance } => {
            let settings = Settings { seed, fail_rate, scenario, ..Settings::default() };
            runtime.block_on(job.rehearse(settings, balance))
        }
        Destination::Api { base_url, key } => {
            runtime.block_on(job.buy(&base_url, key, &state_home(environment)?))
        }
    };
    ended.map_err(|error| about_state(error, &state))
}

/// A run as it was asked for.
pub(super) struct Job<'a> {
    pub(super) args: &'a RunArgs,
    pub(super) source: Source,
    pub(super) paths: RunPaths,
    pub(super) time_scale: TimeScale,
    /// What this run may use.
    pub(super) limits: Limits,
    /// Where videos are downloaded to, if they are.
    pub(super) download: Option<String>,
    /// Where the API calls back, if it does.
    pub(super) callback: Option<Address>,
    pub(super) screen: Screen,
}

impl Job<'_> {
    /// The run against the simulator in this process.
    async fn rehearse(mut self, settings: Settings, balance: Option<Usd>) -> anyhow::Result<Exit> {
        let batch = self.open(&Owner::Simulator { seed: settings.seed }, Durability::Rehearsal)?;
        let Some(batch) = self.prepare(batch)? else { return Ok(Exit::Refused) };
        let clock = self.clock(&batch)?;
        let ledger_path = ledger_path(&self.paths.state);
        if batch.store().spending()? == Usd::ZERO && batch.store().in_doubt()? == 0 {
            forget(&ledger_path)?;
        }
        let ledger = Ledger::open(&ledger_path).with_context(|| ledger_path.display().to_string())?;
        let settings = Settings {
            limits: self.args.limits.into(),
            prices: self.args.price.list,
            balance: balance.map_or_else(|| self.simulated_balance(&batch), Ok)?,
            ..settings
        };
        let simulator = Simulator::new(settings, ledger, clock.clone(), batch.store().birth())?;
        simulator.expect(|asked| {
            let mut told: Result<(), LedgerError> = Ok(());
            batch.store().requests(|generation| {
                if told.is_ok() {
                    told = asked.add(request_hash(generation));
                }
            })?;
            told.map_err(anyhow::Error::from)
        })?;
        let address = self.callback.take();
        let called = address.map(|address| self.args.callbacks.rehearse(address, &batch, &simulator));
        let callbacks = called.transpose()?.flatten();
        let exit = self.drive(batch, &simulator, clock, Duration::ZERO, None, callbacks).await?;
        writeln!(self.screen.notes(), "{}", simulator.verdict()?)?;
        Ok(exit)
    }

    /// What the simulated account has: enough for whatever the sheet may cost.
    fn simulated_balance(&self, batch: &Batch) -> anyhow::Result<Usd> {
        let attempts = u64::from(self.args.bounds.paid_retries) + 1;
        let whole = batch.store().plan(&Selection::default(), self.args.price.list)?;
        let all = whole.iter().fold(batch.store().spending()?, |sum, line| sum + line.cost.times(attempts));
        Ok(all + Settings::default().balance)
    }

    /// The run against the API.
    async fn buy(mut self, base_url: &BaseUrl, key: ApiKey, state_home: &Path) -> anyhow::Result<Exit> {
        let address = base_url.to_string();
        let fingerprint = |salt: &[u8; 32]| key.fingerprint(salt);
        let owner = Owner::Api { base_url: &address, key: &fingerprint };
        let batch = self.open(&owner, Durability::Full)?;
        let Some(batch) = self.prepare(batch)? else { return Ok(Exit::Refused) };
        if let Some(name) = &self.args.connection.account {
            writeln!(self.screen.notes(), "With account {name}.")?;
        }
        let account = account_of(state_home, &address, &key);
        let pace = self.limits.requests_per_minute;
        let holder = self.source.to_string();
        let claim = Claim { share: self.args.bounds.share, burst: burst(pace).get(), holder: &holder };
        let part = Part::take(&account, claim)?;
        let clock = self.clock(&batch)?;
        // Only now, when nobody else is at this account: another run would have the port as well.
        let address = self.callback.take();
        let called = address.map(|address| self.args.callbacks.open(address, &batch, &key, &self.screen));
        let Called { callbacks, receiver } = called.transpose()?.unwrap_or_default();
        let client = Client::new(base_url.clone(), key, Timeouts::default())?;
        let quiet = quiet(part.owed, self.args.limits.rpm);
        let exit = self.drive(batch, &client, clock, quiet, Some(base_url), callbacks).await;
        drop(receiver);
        exit
    }

    fn open(&self, owner: &Owner<'_>, durability: Durability) -> anyhow::Result<Batch> {
        Ok(Batch::open(&self.paths.state, &self.source.to_string(), owner, durability, Moment::now())?)
    }

    /// Takes the sheet in; `None` if it cannot be run, which has been said.
    fn prepare(&mut self, mut batch: Batch) -> anyhow::Result<Option<Batch>> {
        let options =
            ImportOptions { skip_invalid: self.args.skip_invalid, accept_changes: self.args.accept_changes };
        match sheet_in::take(&self.source, &self.args.sheet, options, &mut batch, &mut self.screen)? {
            Taken::No => return Ok(None),
            Taken::Yes => {}
        }
        if !self.name(&mut batch)? {
            return Ok(None);
        }
        if !self.args.retry.is_empty() {
            self.put_back(&mut batch)?;
        }
        Ok(Some(batch))
    }

    /// Names what is about to be bought, where names are asked for or were before; `false` if that is
    /// not possible, which has been said.
    fn name(&mut self, batch: &mut Batch) -> anyhow::Result<bool> {
        let named_before = batch.store().name_rule()?.is_some();
        if self.download.is_none() && !named_before && !self.args.names.is_given() {
            return Ok(true);
        }
        let simulated = self.args.rehearsal.simulate;
        let beside = || videos_of(&self.source, Some(&self.paths.state), simulated);
        let destination = self.download.as_ref().map_or_else(beside, PathBuf::from);
        let named = assign(&self.args.names, &self.source, batch, &destination, &mut self.screen)?;
        if !named {
            writeln!(self.screen, "Nothing was bought: these names cannot be.")?;
        }
        Ok(named)
    }

    /// Puts back what `--retry` names, and says what that may cost.
    fn put_back(&self, batch: &mut Batch) -> anyhow::Result<()> {
        let mut notes = self.screen.notes();
        let now = batch.stamp_at(Moment::now())?;
        batch.propose()?;
        let retried = batch.retry(&self.args.retry, &self.args.selection(), now, self.args.task_timeout)?;
        let words: Vec<_> = self.args.retry.iter().map(|status| status.as_str()).collect();
        let again = Of(retried.samples, "sample");
        writeln!(notes, "{again} put back to be bought again ({}).", words.join(", "))?;
        let twice = |status: &&Status| matches!(status, Status::TimedOut | Status::Lost | Status::Unknown);
        let twice: Vec<_> = self.args.retry.iter().filter(twice).map(|status| status.as_str()).collect();
        if retried.samples > 0 && !twice.is_empty() {
            writeln!(notes, "Of these, what was {} may be paid for twice.", twice.join(" or "))?;
        }
        if let Some(next) = retried.next.filter(|_| retried.too_young > 0) {
            let timeout = humantime::format_duration(self.args.task_timeout);
            let next = batch.store().birth().at(next).to_rfc3339();
            writeln!(
                notes,
                "{} left in doubt: not yet older than --task-timeout {timeout}. The first will be at {next}: then \
                 --retry unknown again.",
                Of(retried.too_young, "sample")
            )?;
        }
        Ok(())
    }

    /// The clock of this run: it goes on where the state file's ended.
    fn clock(&self, batch: &Batch) -> anyhow::Result<Clock> {
        let start = batch.stamp_at(Moment::now())?;
        Ok(match self.time_scale {
            TimeScale::Factor(factor) => Clock::real(start, factor),
            TimeScale::Max => Clock::virtual_from(start),
        })
    }

    /// Asks for the balance and for a yes, runs, and tells how it ended. Nothing is sent while it is
    /// to be `quiet`.
    async fn drive<A: VideoApi>(
        &mut self,
        batch: Batch,
        api: &A,
        clock: Clock,
        quiet: Duration,
        api_at: Option<&BaseUrl>,
        callbacks: Option<Callbacks>,
    ) -> anyhow::Result<Exit> {
        let address = api_at.map(ToString::to_string);
        let address = address.as_deref();
        let (args, selection) = (self.args, self.args.selection());
        // Only now, when nobody else is at this state file or account, whose figures these would replace.
        let shown = args.metrics.open(self.limits, &self.screen)?;
        let place = self.place(&batch, api_at).await?;
        let samples = batch.store().tally(&selection)?.total();
        let called_back = callbacks.as_ref().is_some_and(|callbacks| callbacks.arrivals.is_some());
        let config = args.config(self.limits, samples, seed_of(&batch), called_back);
        let mut gate = Gate::new(config.limits.requests_per_minute, clock.now() + quiet);
        let mut balance = None;
        if batch.has_work(&selection, args.price.list)? {
            balance = match first_balance(api, &mut gate, &clock, config.retry.seed).await {
                Balance::Left(left) => left,
                untold @ (Balance::KeyRefused(_) | Balance::Unclear(_)) => {
                    self.tell_no_balance(&untold, address.unwrap_or("the simulator"))?;
                    return Ok(Exit::Stopped);
                }
            };
            if address.is_some() && !args.no_buy && !self.may_buy(&batch, &selection, balance)? {
                writeln!(self.screen, "Nothing was bought.")?;
                return Ok(Exit::Refused);
            }
        }
        // Until here a signal just ends the process, also at the question: nothing has been bought.
        let mut signals = Signals::listen()?;
        if batch.store().tally(&selection)?.total() == 0 {
            writeln!(self.screen, "No row of {} is chosen: look at --limit and --where.", self.source)?;
            return Ok(Exit::Refused);
        }
        let left_out = left_out(&batch, &selection)?;
        let outlook = Outlook::new(config.limits, left_out);
        let birth = batch.store().birth();
        let mut sinks =
            Sinks::new(args.progress, args.events.as_deref(), &self.screen, &clock, birth, outlook)?;
        sinks.digest.first_balance = balance;
        sinks.metrics = shown.as_ref().map(|shown| shown.metrics.clone());
        let started = place.zip(api_at).map(|place| self.start_downloads(&batch, place)).transpose()?;
        let (inbox, mut poke, ending) = match started {
            Some(Started { inbox, poke, ending }) => (Some(inbox), Some(poke), Some(ending)),
            None => (None, None, None),
        };
        let results = self.paths.results.clone();
        if OutputFormat::of(&results).is_ok_and(|format| !format.grows()) {
            writeln!(self.screen.notes(), "{} is written when the run ends.", results.display())?;
        }
        let (prices, grace) = (args.price.list, args.grace);
        let run = Run {
            clock,
            gate,
            config,
            selection: selection.clone(),
            prices,
            results,
            grace,
            downloads: inbox,
            callbacks,
        };
        let (stop, stopped) = oneshot::channel();
        let heard = {
            let running = async {
                let finished = {
                    let mut fan = sinks.fan();
                    if let Some(poke) = &mut poke {
                        fan = fan.and(poke);
                    }
                    batch.run(api, run, &mut fan, sent(stopped)).await
                };
                drop(poke.take());
                // Signals are heeded here too: what a place does not answer may take long.
                let went_wrong = match ending {
                    Some(ending) => ending.wait().await.err(),
                    None => None,
                };
                (finished, went_wrong)
            };
            let grace = humantime::format_duration(args.grace);
            let told = || {
                writeln!(
                    self.screen,
                    "Stopping: nothing more is bought; waiting up to {grace} for submissions in flight. Once more to \
                     leave at once."
                )
            };
            heed(&mut signals, Box::pin(running), stop, told).await
        };
        let ((finished, went_wrong), asked_to_stop) = match heard {
            Ok(((finished, went_wrong), asked_to_stop)) => ((finished?, went_wrong), asked_to_stop),
            Err(Leave::Now(exit)) => return Ok(exit),
            Err(Leave::Mute(error)) => return Err(error.into()),
        };
        if let Some(error) = went_wrong {
            writeln!(self.screen, "batchveo: downloads ended early: {:#}", anyhow::Error::from(error))?;
        }
        let exit = self.tell_end(finished, &selection, &mut sinks, asked_to_stop);
        if let Some(shown) = shown {
            shown.end();
        }
        exit
    }

    fn start_downloads(&self, batch: &Batch, (place, api): (Place, &BaseUrl)) -> anyhow::Result<Started> {
        let (transfer, asking) = (self.args.download.transfer, Asking::ThroughTheEngine);
        downloads::start(batch.store(), place, api, transfer, asking, Look::Lengths)
    }

    /// Says that `who` did not tell the balance, and why.
    fn tell_no_balance(&mut self, answer: &Balance, who: &str) -> io::Result<()> {
        match answer {
            Balance::Left(_) => Ok(()),
            Balance::KeyRefused(failure) => {
                writeln!(self.screen, "batchveo: {who} refused the API key ({failure}). Nothing was bought.")
            }
            Balance::Unclear(failure) => writeln!(
                self.screen,
                "batchveo: {who} does not tell the balance ({failure}). Nothing was bought: check the network and the \
                 base URL, then give the same command again."
            ),
        }
    }

    /// Where downloads go, if there are to be any: it can be written.
    async fn place(&mut self, batch: &Batch, api: Option<&BaseUrl>) -> anyhow::Result<Option<Place>> {
        let Some(destination) = self.download.as_ref().filter(|_| api.is_some()) else { return Ok(None) };
        let place = downloads::open(batch.store(), destination).await?;
        // Known from here on by what it is called in the state file.
        self.download = Some(place.address().to_owned());
        Ok(Some(place))
    }

    /// Shows what is about to be bought; asks, where there is somebody to ask.
    fn may_buy(
        &mut self,
        batch: &Batch,
        selection: &Selection,
        balance: Option<Usd>,
    ) -> anyhow::Result<bool> {
        let lines = batch.store().plan(selection, self.args.price.list)?;
        let mut by_mode: BTreeMap<Mode, PurchaseLine> = BTreeMap::new();
        for line in lines {
            let sum = by_mode.entry(line.mode).or_insert(PurchaseLine {
                mode: line.mode,
                samples: 0,
                cost: Usd::ZERO,
            });
            sum.samples += line.samples;
            sum.cost = sum.cost + line.cost;
        }
        let lines = by_mode.into_values().collect();
        let purchase = Purchase { lines, balance, paid_retries: self.args.bounds.paid_retries };
        if purchase.lines.is_empty() {
            return Ok(true);
        }
        let somebody_there = io::stdin().is_terminal() && io::stderr().is_terminal();
        if purchase.wants_confirmation() && somebody_there && !self.args.yes {
            return Ok(confirm(&purchase, &mut io::stdin().lock(), &mut self.screen)?);
        }
        writeln!(self.screen.notes(), "{purchase}")?;
        Ok(true)
    }
}

/// The folder of an account's lock.
pub(in crate::cli) fn account_of(state_home: &Path, address: &str, key: &ApiKey) -> PathBuf {
    account_folder(state_home, address, &key.fingerprint(&ACCOUNT_SALT))
}

/// Pending samples that this run leaves alone.
fn left_out(batch: &Batch, selection: &Selection) -> anyhow::Result<u64> {
    let pending = |selection| batch.store().tally(selection).map(|tally| tally.count(Status::Pending));
    Ok(pending(&Selection::default())?.saturating_sub(pending(selection)?))
}

/// What makes the waits of this state file's runs its own, and a rehearsal repeatable.
fn seed_of(batch: &Batch) -> u64 {
    batch.store().birth().0.unsigned_abs()
}

/// Where this user's programs keep what must survive, by the conventions of the system.
///
/// # Errors
///
/// The environment names no such folder.
pub(in crate::cli) fn state_home(environment: Environment<'_>) -> Result<PathBuf, UsageError> {
    let set = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below_home = || set("HOME").map(|home| home.join(".local/state"));
    set("XDG_STATE_HOME").or_else(below_home).or_else(|| set("LOCALAPPDATA")).ok_or_else(|| {
        UsageError("set HOME or XDG_STATE_HOME: the account's lock is kept in the user's state folder".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_folder_is_the_users() {
        let home = |variables: &[(&str, &str)]| {
            let find =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            state_home(&find).map(|path| path.display().to_string())
        };
        assert_eq!(home(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]), Ok("/x".into()));
        assert_eq!(home(&[("HOME", "/h"), ("XDG_STATE_HOME", "")]), Ok("/h/.local/state".into()));
        assert!(home(&[]).is_err());
    }
}
