//! Options about downloads, and how downloads are started from them.

use std::num::NonZeroUsize;
use std::path::Path;

use super::UsageError;
use super::paths::videos_of;
use super::sheet::Source;
use crate::download::{self, Asking, Look, Order, Place, PlaceError, Started};
use crate::hosts::{Hosts, Patience};
use crate::report::Delivered;
use crate::store::Store;
use crate::veo::BaseUrl;

/// How videos are downloaded.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Download")]
pub struct TransferArgs {
    /// Videos under way at once
    #[arg(long, value_name = "N", default_value = "8")]
    pub download_concurrency: NonZeroUsize,
    /// Put a file beside each video that says what it is: name.json for name.mp4
    #[arg(long)]
    pub sidecar: bool,
    /// Call hosts of private networks too; a link may name any that this machine can reach
    #[arg(long)]
    pub allow_private_hosts: bool,
}

/// Whether a run downloads its videos.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Download")]
pub struct DownloadArgs {
    /// Download each video when it is made, into DEST; with =, as in --download=films
    /// [without DEST: prompts.videos for prompts.csv]
    #[arg(long, value_name = "DEST", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub download: Option<String>,
    /// Download nothing, whatever a file of settings says
    #[arg(long)]
    pub no_download: bool,
    /// How.
    #[command(flatten)]
    pub transfer: TransferArgs,
}

impl DownloadArgs {
    /// Where the videos of `source` go, whose state file is `state`; `None` if nowhere.
    ///
    /// # Errors
    ///
    /// In a rehearsal there are no videos.
    pub fn destination(
        &self,
        source: &Source,
        state: &Path,
        simulated: bool,
    ) -> Result<Option<String>, UsageError> {
        let Some(named) = self.download.as_deref().filter(|_| !self.no_download) else { return Ok(None) };
        if simulated {
            return Err(UsageError(
                "--simulate makes no videos to download: leave --download out (or add --no-download), or rehearse \
                 downloads too: run `batchveo simulate` beside this and name it with --base-url"
                    .into(),
            ));
        }
        if !named.is_empty() {
            return Ok(Some(named.to_owned()));
        }
        Ok(Some(videos_of(source, Some(state), false).display().to_string()))
    }
}

/// The place that `destination` names, for the videos of `store`: tried, so that nothing is paid for that
/// has nowhere to go.
///
/// # Errors
///
/// It is no place, or cannot be written.
pub(super) async fn open(store: &Store, destination: &str) -> anyhow::Result<Place> {
    let unusable = |error: PlaceError| UsageError(error.to_string());
    let place = Place::open(destination).map_err(unusable)?;
    let mark = store.files(place.address())?.mark()?;
    match place.probe(&mark).await {
        // Downloads wait for room, and generation does not wait for them.
        Err(error) if !error.is_full() => Err(unusable(error).into()),
        Ok(()) | Err(_) => Ok(place),
    }
}

/// Starts downloads of what `store` has and `place` has not.
///
/// # Errors
///
/// The state file cannot be read, or the system has no thread left.
pub(super) fn start(
    store: &Store,
    place: Place,
    api: &BaseUrl,
    args: TransferArgs,
    asking: Asking,
    look: Look,
) -> anyhow::Result<Started> {
    let files = store.files(place.address())?;
    let order = Order {
        place,
        hosts: Hosts::new(Some(api), args.allow_private_hosts),
        patience: Patience::default(),
        concurrency: args.download_concurrency,
        asking,
        sidecars: args.sidecar,
        look,
    };
    Ok(download::start(files, order)?)
}

/// What is at `address` of what `store` has.
///
/// # Errors
///
/// The state file cannot be read.
pub(super) fn delivered(store: &Store, address: &str) -> anyhow::Result<Delivered> {
    let there = store.destinations()?.into_iter().find(|there| there.address == address);
    let left = store.files(address)?.unsaved()?;
    let (files, bytes) = there.map_or((0, 0), |there| (there.files, there.bytes));
    Ok(Delivered { destination: address.to_owned(), files, bytes, left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_go_beside_their_sheet() {
        let args = |download: Option<&str>, no_download| DownloadArgs {
            download: download.map(Into::into),
            no_download,
            transfer: TransferArgs {
                download_concurrency: NonZeroUsize::new(8).unwrap(),
                sidecar: false,
                allow_private_hosts: false,
            },
        };
        let file = || Source::File("a/prompts.v2.csv".into());
        let to = |args: DownloadArgs, source: &Source| {
            args.destination(source, Path::new("x/s.batchveo.db"), false).unwrap()
        };
        assert_eq!(to(args(Some(""), false), &file()).as_deref(), Some("a/prompts.v2.videos"));
        assert_eq!(to(args(Some(""), false), &Source::Stdin).as_deref(), Some("x/s.videos"));
        assert_eq!(to(args(Some("films"), false), &file()).as_deref(), Some("films"));
        assert_eq!(to(args(Some("films"), true), &file()), None);
        assert_eq!(to(args(None, false), &file()), None);
        let error = args(Some(""), false).destination(&file(), Path::new("s"), true).unwrap_err();
        assert!(error.to_string().contains("batchveo simulate"), "{error}");
    }
}
