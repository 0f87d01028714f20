//! `download`: its arguments. It fetches what a run has bought, later or to another place.

use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use tokio::sync::{OnceCell, oneshot};

use super::connection::{ConnectionArgs, NO_KEY};
use super::downloads::{self, TransferArgs};
use super::exit::Exit;
use super::names::{NameArgs, assign};
use super::paths::{about_state, lies_inside, locate, videos_of};
use super::run::{account_of, state_home};
use super::sheet::Source;
use super::signals::{Leave, Signals, heed, sent};
use super::{Environment, UsageError};
use crate::api::{Balance, CallbackUrl, Polled, Submitted, VideoApi};
use crate::batch::{Batch, Errand};
use crate::clock::{Clock, Moment};
use crate::download::{Asking, Destination, DownloadError, Look, PlaceError, Started};
use crate::generation::Generation;
use crate::job::{Failure, FailureKind, Limits, Stamp, TaskId};
use crate::report::wording::{Bytes, Of, command_line};
use crate::report::{Delivered, Fan, Fetching, LoggedEvents, ProgressStyle, Screen};
use crate::results;
use crate::schedule::Halt;
use crate::schedule::gate::{Gate, burst};
use crate::schedule::share::{Share, quiet};
use crate::store::{AccountError, Claim, Owner, Part, Store};
use crate::veo::{ApiKey, BaseUrl, Client, Timeouts};

/// Downloads videos that a run has made, now or to another place.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  batchveo download prompts.csv                   what is not there yet
  batchveo download prompts.csv --to /mnt/films   all of it, elsewhere
  batchveo download prompts.csv --sidecar         with name.json for name.mp4
  batchveo download prompts.csv --check           and damaged ones once more
  batchveo download prompts.csv.batchveo.db --download-concurrency 32

What is there is not fetched again; what broke off goes on where it was. A key
is needed only to ask for links that have died.

Exit codes:
  0         every video is there
  1         some could not be had
  2         usage, no such run, or a place that cannot be used
  3         the API refuses the key
  4         another process holds the state file
  130, 143  interrupted, resumable")]
pub struct DownloadCommand {
    /// The sheet or its state file [default: the only state file in this folder]
    #[arg(value_name = "MANIFEST|STATE")]
    pub run: Option<PathBuf>,
    /// Where to; outside of the sheet's folder it has to be named [default: the setting download, or
    /// where its videos went last, or prompts.videos for prompts.csv]
    #[arg(long, value_name = "DEST")]
    pub to: Option<String>,
    /// Hash first what is there, and fetch again what is damaged; without, only what is gone or
    /// has another length
    #[arg(long)]
    pub check: bool,
    /// How progress is shown: auto, bar, plain or none
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub progress: ProgressStyle,
    /// What videos are called that have no name yet.
    #[command(flatten)]
    pub names: NameArgs,
    /// How.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Requests a minute that the account allows; links that have died are asked for at a twentieth
    #[arg(long, value_name = "N", help_heading = "Account", default_value_t = Limits::DOCUMENTED.requests_per_minute)]
    pub rpm: NonZeroU32,
    /// Whom to ask for links that have died.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The smallest part of the account that is taken for links that have died, in hundredths of a percent,
/// and the most requests a minute: nobody waits.
const SMALLEST_SHARE: u32 = 500;
const PACE: NonZeroU32 = NonZeroU32::new(600).expect("not zero");

/// Downloads what is not there.
///
/// # Errors
///
/// There is no such run, it is in use, or the place cannot be written.
pub fn perform(
    args: &DownloadCommand,
    environment: Environment<'_>,
    screen: &Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let state = locate(args.run.as_deref(), Path::new("."))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(fetch(&state, args, environment, screen.clone(), stdout));
    ended.map_err(|error| about_state(error, &state))
}

async fn fetch(
    state: &Path,
    args: &DownloadCommand,
    environment: Environment<'_>,
    mut screen: Screen,
    stdout: &mut dyn Write,
) -> anyhow::Result<Exit> {
    // Looked at before it is touched: a file that is none of ours stays as it is.
    let base_url = Store::read_only(state)?.base_url()?.ok_or_else(|| {
        UsageError(format!("{} is of a rehearsal: there are no videos to download", state.display()))
    })?;
    let base_url: BaseUrl = base_url.parse().map_err(|error| UsageError(format!("{error}")))?;
    as_said(&base_url, &args.connection.base_url(environment)?, state)?;
    let mut batch = Batch::reopen(state, "batchveo download", Moment::now())?;
    let to = args.to.clone().map_or_else(|| usual_place(state, batch.store()), Ok)?;
    let about = Source::File(state.to_owned());
    if !assign(&args.names, &about, &mut batch, Path::new(&to), &mut screen)? {
        writeln!(screen, "Nothing was downloaded: these names cannot be.")?;
        return Ok(Exit::Refused);
    }
    let place = downloads::open(batch.store(), &to).await?;
    let address = place.address().to_owned();
    let asked = Asked::of(args, environment, &base_url, &batch)?;
    if let Some(why) = &asked.why_not {
        tracing::info!(%why, "links that have died cannot be asked for again");
    }
    let look = if args.check { Look::Hashes } else { Look::Lengths };
    let asking = asked.why_not.clone().map_or(Asking::ThroughTheEngine, Asking::No);
    let mut signals = Signals::listen()?;
    let Started { inbox, poke, ending } =
        downloads::start(batch.store(), place, &base_url, args.transfer, asking, look)?;
    let clock = Clock::real(batch.stamp_at(Moment::now())?, NonZeroU32::MIN);
    let limits = asked.limits;
    let gate = Gate::new(limits.requests_per_minute, clock.now());
    let mut person = person(args.progress, &screen);
    let errand = Errand { clock, gate, limits, downloads: inbox };
    let (stop, stopped) = oneshot::channel();
    let running = async {
        let finished = {
            let (mut poke, mut log) = (poke, LoggedEvents);
            let mut fan = Fan::new().and(&mut poke).and(&mut log).and(&mut *person);
            batch.fetch(&asked.api, errand, &mut fan, sent(stopped)).await
        };
        // Signals are heeded here too: what a place does not answer may take long.
        (finished, ending.wait().await.err())
    };
    let heard = heed(&mut signals, Box::pin(running), stop, || Ok(())).await;
    let ((finished, went_wrong), interrupted) = match heard {
        Ok(((finished, went_wrong), interrupted)) => ((finished?, went_wrong), interrupted),
        Err(Leave::Now(exit)) => return Ok(exit),
        Err(Leave::Mute(error)) => return Err(error.into()),
    };
    drop(person);
    let store = finished.batch.store();
    let now = downloads::delivered(store, &address)?;
    let saved = finished.progress.downloads.map_or(0, |downloads| downloads.saved);
    if !screen.is_quiet() {
        tell(&now, saved, stdout)?;
    }
    if saved > 0 {
        tell_results(store, state, &mut screen)?;
    }
    if let Some(error) = went_wrong {
        let unusable = matches!(error, DownloadError::Place(PlaceError::Unusable { .. }));
        writeln!(screen, "batchveo: {:#}", anyhow::Error::from(error))?;
        let otherwise = if unusable { Exit::Refused } else { Exit::Unsuccessful };
        return Ok(interrupted.unwrap_or(otherwise));
    }
    if now.left > 0 {
        let why = asked.why_not.map(|why| format!(" Links that have died were not asked for again: {why}."));
        writeln!(screen, "{} not there yet.{}", Of(now.left, "sample"), why.unwrap_or_default())?;
    }
    Ok(match (interrupted, &finished.halt) {
        (Some(exit), _) => exit,
        (None, Some(Halt::KeyRefused(_))) => Exit::Stopped,
        (None, _) if now.left > 0 => Exit::Unsuccessful,
        (None, _) => Exit::Succeeded,
    })
}

/// Brings the results up to date, which name the files. What cannot be written is told: it changes
/// nothing about the videos.
fn tell_results(store: &Store, state: &Path, screen: &mut Screen) -> anyhow::Result<()> {
    // The state file may have come from anywhere: it has nothing elsewhere written.
    let is_here = |path: &Path| path.to_str().is_some_and(|path| is_in_folder_of(state, path));
    match results::refresh(store, is_here) {
        Ok(others) => {
            for path in others {
                let path = path.display();
                writeln!(
                    screen,
                    "{path} is elsewhere, or was changed since the run, and stays as it is: batchveo export writes anew."
                )?;
            }
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            writeln!(screen, "batchveo: {error:#}. batchveo export writes the results again.")?;
        }
    }
    Ok(())
}

/// That a state file is of the API that the user's own words name. The file may have come with its
/// folder from anywhere, and the key goes to the API.
fn as_said(stored: &BaseUrl, said: &BaseUrl, state: &Path) -> Result<(), UsageError> {
    if stored == said {
        return Ok(());
    }
    let state = state.display();
    Err(UsageError(format!(
        "{state} is of a run at {stored}, and your settings name {said}: if you trust it with your key, add \
         {}",
        command_line(&["--base-url", &stored.to_string()])
    )))
}

/// Where the videos of a state file went last; beside it, if they went nowhere, or came along when it was
/// moved.
///
/// # Errors
///
/// That is outside of its folder: the file may have come from anywhere, and the user has to say so. Or it
/// is gone, and nobody says that it is to be made again.
fn usual_place(state: &Path, store: &Store) -> anyhow::Result<String> {
    let beside = videos_of(&Source::Stdin, Some(state), false);
    let last = store.last_destination()?;
    let is_gone = last
        .as_ref()
        .is_some_and(|last| matches!(last.parse(), Ok(Destination::Folder(folder)) if !folder.is_dir()));
    let place = last.filter(|_| !is_gone || !beside.is_dir());
    let place = place.unwrap_or_else(|| beside.display().to_string());
    if is_in_folder_of(state, &place) {
        if is_gone && !beside.is_dir() {
            let told = format!("{place}, where its videos went last, is not there: name a place with --to");
            return Err(UsageError(told).into());
        }
        return Ok(place);
    }
    let told = format!(
        "the videos of {} would go to {place}, which is outside of its folder: if you mean that, add {}",
        state.display(),
        command_line(&["--to", &place])
    );
    Err(UsageError(told).into())
}

/// Whether `place` is a folder inside the one of the state file.
pub(super) fn is_in_folder_of(state: &Path, place: &str) -> bool {
    let folder = state.parent().unwrap_or(Path::new(""));
    let Ok(Destination::Folder(place)) = place.parse() else { return false };
    // Relative ones are from the current folder.
    std::path::absolute(place).is_ok_and(|place| lies_inside(folder, &place))
}

/// Who tells the person: lines, also on a terminal, for what is fetched has no end in sight that a bar
/// could show.
fn person(style: ProgressStyle, screen: &Screen) -> Box<dyn crate::event::EventSink + Send> {
    match style {
        ProgressStyle::None => Box::new(|_: &crate::event::RunEvent<'_>, _: &crate::event::Progress| {}),
        ProgressStyle::Auto | ProgressStyle::Bar | ProgressStyle::Plain => {
            Box::new(Fetching::new(screen.notes()))
        }
    }
}

fn tell(now: &Delivered, new: u64, stdout: &mut dyn Write) -> anyhow::Result<()> {
    let Delivered { destination, files, bytes, .. } = now;
    let mut out = crate::harmless::Harmless(stdout);
    writeln!(out, "{} ({}) in {destination}, {new} of them new.", Of(*files, "video"), Bytes(*bytes))?;
    Ok(())
}

/// Who is asked for links that have died.
struct Asked {
    api: MaybeApi,
    why_not: Option<String>,
    limits: Limits,
}

impl Asked {
    /// With a key, the API; else nobody, and why.
    fn of(
        args: &DownloadCommand,
        environment: Environment<'_>,
        base_url: &BaseUrl,
        batch: &Batch,
    ) -> anyhow::Result<Self> {
        let (share, limits) = small_part(args.rpm)?;
        let nobody = |why: String| Self { api: MaybeApi(None), why_not: Some(why), limits };
        let key: ApiKey = match args.connection.api_key(environment) {
            Ok(key) => key,
            Err(error) if error.0 == NO_KEY => {
                return Ok(nobody("there is no API key (set BATCHVEO_API_KEY)".to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        let address = base_url.to_string();
        let fingerprint = |salt: &[u8; 32]| key.fingerprint(salt);
        let owner = Owner::Api { base_url: &address, key: &fingerprint };
        if let Err(error) = batch.store().check_owner(&owner) {
            return Ok(nobody(error.to_string()));
        }
        let account = account_of(&state_home(environment)?, &address, &key);
        let client = Client::new(base_url.clone(), key, Timeouts::default())?;
        let keyed = Keyed { client, account, share, limits, rpm: args.rpm, part: OnceCell::new() };
        Ok(Self { api: MaybeApi(Some(keyed)), why_not: None, limits })
    }
}

/// The part of an account that links which have died are worth, and what it allows: nobody waits for
/// them, and whatever else uses the account goes on.
fn small_part(rpm: NonZeroU32) -> Result<(Share, Limits), UsageError> {
    let whole = Limits { requests_per_minute: rpm, ..Limits::DOCUMENTED };
    let shares = (SMALLEST_SHARE..=Share::WHOLE.hundredths()).filter_map(Share::from_hundredths);
    let mut parts = shares.filter_map(|share| Some((share, share.of(whole).ok()?)));
    let (share, mut limits) =
        parts.next().ok_or_else(|| UsageError(format!("--rpm {rpm} leaves nothing")))?;
    limits.requests_per_minute = limits.requests_per_minute.min(PACE);
    Ok((share, limits))
}

/// The API, and the account that is used when the first link has died.
struct Keyed {
    client: Client,
    account: PathBuf,
    share: Share,
    limits: Limits,
    /// What the whole account allows.
    rpm: NonZeroU32,
    part: OnceCell<Part>,
}

impl Keyed {
    /// Takes this process's part of the account, once, and lets the account be quiet if need be.
    async fn take_part(&self) -> Result<(), AccountError> {
        let take = async || {
            let burst = burst(self.limits.requests_per_minute).get();
            let claim = Claim { share: self.share, burst, holder: "batchveo download" };
            let part = Part::take(&self.account, claim)?;
            if part.owed > 0 {
                // The gate of this process has saved up a burst of its own meanwhile.
                let clock = Clock::real(Stamp::BIRTH, NonZeroU32::MIN);
                clock.sleep(quiet(part.owed.saturating_add(burst), self.rpm)).await;
            }
            Ok(part)
        };
        self.part.get_or_try_init(take).await.map(drop)
    }
}

/// The API, or nobody: then nothing is ever asked.
struct MaybeApi(Option<Keyed>);

fn nobody_is_asked() -> Failure {
    Failure::new(FailureKind::Key, None, "there is no API key")
}

impl VideoApi for MaybeApi {
    async fn submit(&self, _: Generation, _: Option<CallbackUrl>) -> Submitted {
        Submitted::KeyRefused(nobody_is_asked())
    }

    async fn status(&self, task: TaskId) -> Polled {
        let Some(keyed) = &self.0 else { return Polled::KeyRefused(nobody_is_asked()) };
        match keyed.take_part().await {
            Ok(()) => keyed.client.status(task).await,
            // Nothing was sent: whoever has the account may be done when this is tried again.
            Err(error) => Polled::Unclear(Failure::new(FailureKind::Transient, None, &error.to_string())),
        }
    }

    async fn balance(&self) -> Balance {
        Balance::KeyRefused(nobody_is_asked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_a_small_part_of_any_account() {
        let part = |rpm| {
            let (share, limits) = small_part(NonZeroU32::new(rpm).unwrap()).unwrap();
            (share.to_string(), limits.requests_per_minute.get())
        };
        let (share, pace) = part(10_000);
        assert!(share == "5%" && (400..=500).contains(&pace), "{share} {pace}");
        assert_eq!(part(1_000_000), ("5%".to_owned(), PACE.get()));
        for rpm in [1, 2, 9, 60, 600] {
            let (share, pace) = part(rpm);
            assert!((1..=rpm.div_ceil(20)).contains(&pace), "{rpm}: {share} {pace}");
        }
    }
}
