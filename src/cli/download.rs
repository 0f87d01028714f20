//! `download`: its arguments. It fetches what a run has bought, later or to another place.

use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;

use super::connection::{ConnectionArgs, NO_KEY};
use super::downloads::{self, TransferArgs};
use super::exit::Exit;
use super::names::{NameArgs, assign};
use super::paths::{about_state, lies_inside, locate, videos_of};
use super::run::{account_of, state_home};
use super::sheet::Source;
use super::signals::{Leave, Signals, heed, sent};
use super::{Environment, UsageError};
use crate::api::{Balance, Polled, Submitted, VideoApi};
use crate::batch::{Batch, Errand};
use crate::clock::{Clock, Moment};
use crate::download::{Asking, Started};
use crate::generation::Generation;
use crate::job::{Failure, FailureKind, Limits, TaskId};
use crate::report::wording::{Bytes, Of, command_line};
use crate::report::{Bar, Delivered, Fan, Interval, LoggedEvents, Outlook, Plain, ProgressStyle, Screen};
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
  batchveo download prompts.csv.batchveo.db --download-concurrency 32

What is there is not fetched again; what broke off goes on where it was. A key
is needed only to ask for links that have died.

Exit codes:
  0         every video is there
  1         some could not be had
  2         usage, or there is no such run
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
    /// How progress is shown: auto, bar, plain or none
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub progress: ProgressStyle,
    /// What videos are called that have no name yet.
    #[command(flatten)]
    pub names: NameArgs,
    /// How.
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Whom to ask for links that have died.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Requests a minute for links that have died: far less than any account allows, and nobody waits.
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
    let asking = asked.why_not.clone().map_or(Asking::ThroughTheEngine, Asking::No);
    let mut signals = Signals::listen()?;
    let Started { inbox, poke, ending } =
        downloads::start(batch.store(), place, &base_url, args.transfer, asking)?;
    let clock = Clock::real(batch.stamp_at(Moment::now())?, NonZeroU32::MIN);
    let gate = Gate::new(PACE, clock.now() + asked.quiet);
    let limits = Limits { requests_per_minute: PACE, ..Limits::DOCUMENTED };
    let outlook = Outlook::new(limits, batch.store().tally(&crate::store::Selection::default())?.total());
    let mut person = person(args.progress, &screen, &clock, outlook);
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
    tell(&now, saved, stdout)?;
    if saved > 0 {
        tell_results(store, state, &mut screen)?;
    }
    if let Some(error) = went_wrong {
        writeln!(screen, "batchveo: {:#}", anyhow::Error::from(error))?;
        return Ok(interrupted.unwrap_or(Exit::Unsuccessful));
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

/// Where the videos of a state file went last, or else beside it.
///
/// # Errors
///
/// That is outside of its folder: the file may have come from anywhere, and the user has to say so.
fn usual_place(state: &Path, store: &Store) -> Result<String, UsageError> {
    let last = store.destinations().ok().and_then(|mut all| all.pop()).map(|there| there.address);
    let beside = || videos_of(&Source::Stdin, Some(state), false).display().to_string();
    let place = last.unwrap_or_else(beside);
    if is_in_folder_of(state, &place) {
        return Ok(place);
    }
    Err(UsageError(format!(
        "the videos of {} would go to {place}, which is outside of its folder: if you mean that, add {}",
        state.display(),
        command_line(&["--to", &place])
    )))
}

/// Whether `place` is a folder inside the one of the state file.
pub(super) fn is_in_folder_of(state: &Path, place: &str) -> bool {
    let folder = state.parent().unwrap_or(Path::new(""));
    // Relative ones are from the current folder.
    let place_in_full = std::path::absolute(place);
    !place.contains("://") && place_in_full.is_ok_and(|place| lies_inside(folder, &place))
}

fn person(
    style: ProgressStyle,
    screen: &Screen,
    clock: &Clock,
    outlook: Outlook,
) -> Box<dyn crate::event::EventSink + Send> {
    match style.on(screen.shows_bars()) {
        ProgressStyle::Bar => Box::new(Bar::new(screen, outlook)),
        ProgressStyle::None => Box::new(|_: &crate::event::RunEvent<'_>, _: &crate::event::Progress| {}),
        ProgressStyle::Auto | ProgressStyle::Plain => {
            Box::new(Plain::new(screen.clone(), Interval::for_clock(clock), outlook))
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
    quiet: Duration,
    /// This process's part of the account.
    _part: Option<Part>,
}

impl Asked {
    /// With a key and the account free, the API; else nobody, and why.
    fn of(
        args: &DownloadCommand,
        environment: Environment<'_>,
        base_url: &BaseUrl,
        batch: &Batch,
    ) -> anyhow::Result<Self> {
        let nobody = |why: String| Self {
            api: MaybeApi(None),
            why_not: Some(why),
            quiet: Duration::ZERO,
            _part: None,
        };
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
        let share = Share::WHOLE;
        let claim = Claim { share, burst: burst(PACE).get(), holder: "batchveo download" };
        let part = match Part::take(&account, claim) {
            Ok(part) => part,
            Err(error @ (AccountError::Taken { .. } | AccountError::Stuck { .. })) => {
                return Ok(nobody(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let quiet = quiet(part.owed, PACE);
        let client = Client::new(base_url.clone(), key, Timeouts::default())?;
        Ok(Self { api: MaybeApi(Some(client)), why_not: None, quiet, _part: Some(part) })
    }
}

/// The API, or nobody: then nothing is ever asked.
struct MaybeApi(Option<Client>);

fn nobody_is_asked() -> Failure {
    Failure::new(FailureKind::Key, None, "there is no API key")
}

impl VideoApi for MaybeApi {
    async fn submit(&self, _: Generation) -> Submitted {
        Submitted::KeyRefused(nobody_is_asked())
    }

    async fn status(&self, task: TaskId) -> Polled {
        match &self.0 {
            Some(client) => client.status(task).await,
            None => Polled::KeyRefused(nobody_is_asked()),
        }
    }

    async fn balance(&self) -> Balance {
        Balance::KeyRefused(nobody_is_asked())
    }
}
