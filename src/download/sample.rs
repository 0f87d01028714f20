//! The videos of one sample, one after the other, from their links to their names.
//!
//! What is interrupted anywhere is gone on with by the next process: bytes stay in their draft, a
//! video that is whole is noted before it gets its name, and after. A video is given up only for
//! reasons that trying again now does not mend.

use std::time::Duration;

use super::desk::{Desk, Stopped, WaitsForRoom};
use super::links::{Asked, ask};
use super::place::{Content, DraftId, Found, PlaceError};
use super::sidecar::{sidecar, sidecar_path};
use super::sums::Sum;
use super::transfer::{Broken, Whole, fetch};
use crate::event::DownloadEvent;
use crate::schedule::retry::FullJitter;
use crate::store::{NoteOf, SavedFile, Standing, ToSave};

/// Failures in a row without [`SOMETHING`] between them, after which a video is given up.
const BARREN_TRIES: u32 = 6;

/// Bytes that are worth another try.
const SOMETHING: u64 = 64 * 1024;

/// Failures after which it is given up although each brought something: a server that lets no
/// connection live and serves no ranges would otherwise be asked for ever.
const TRIES: u32 = 40;

/// Times the API is asked for the link to one video.
const ASKS: u32 = 3;

/// Why a video is not saved.
#[derive(Debug)]
enum Unsaved {
    Stopped,
    /// Given up for now, for this reason.
    Failed(String),
}

impl From<Stopped> for Unsaved {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Saves what is not saved yet of a sample, and tells of it.
pub(super) async fn save(desk: &Desk, mut to_save: ToSave) {
    for (part, standing) in (1..).zip(std::mem::take(&mut to_save.parts)) {
        if matches!(standing, Standing::Saved(_)) {
            continue;
        }
        desk.stand(|all| all.active += 1);
        let saved = Saving { desk, to_save: &mut to_save, part }.save(standing).await;
        desk.stand(|all| all.active -= 1);
        let sample = to_save.sample;
        match saved {
            Ok(SavedFile { path, bytes, sha256 }) => {
                desk.stand(|all| all.saved += 1);
                if let Err(error) = desk.place.list(&Sum { path: path.clone(), sha256 }) {
                    tracing::debug!(%error, "listed when downloads end");
                }
                desk.tell(DownloadEvent::Saved { sample, part, bytes, path, sha256 }).await;
            }
            Err(Unsaved::Failed(why)) => {
                let name = to_save.names.first().map_or("", String::as_str);
                let problem = format!("{name}: {why}");
                desk.stand(|all| all.failed += 1);
                let noted = desk.note(&to_save.task, part, NoteOf::Failed(problem.clone())).await;
                desk.tell(DownloadEvent::Failed { sample, part, problem }).await;
                if noted.is_err() {
                    return;
                }
            }
            Err(Unsaved::Stopped) => return,
        }
    }
}

/// One video.
struct Saving<'a> {
    desk: &'a Desk,
    to_save: &'a mut ToSave,
    part: u32,
}

impl<'a> Saving<'a> {
    async fn save(mut self, standing: Standing) -> Result<SavedFile, Unsaved> {
        if let Standing::Placing(file) = standing
            && self.has(&file).await?
        {
            return self.saved(file).await;
        }
        let whole_at = self.get().await?;
        self.saved(whole_at).await
    }

    /// Whether an earlier process gave this video its name, and could not say so any more.
    async fn has(&self, file: &SavedFile) -> Result<bool, Stopped> {
        let content = Content { bytes: file.bytes, sha256: file.sha256 };
        let found = self.desk.soon(self.desk.place.find(&file.path, content)).await?;
        Ok(matches!(found, Ok(Found::Same)))
    }

    async fn saved(&self, file: SavedFile) -> Result<SavedFile, Unsaved> {
        self.describe(&file).await?;
        self.desk.note(&self.to_save.task, self.part, NoteOf::Saved(file.clone())).await?;
        Ok(file)
    }

    /// Puts a file beside the video that says what it is, where that is wanted. Until it is there the
    /// video does not count as saved, so that the next process goes on from here.
    async fn describe(&self, file: &SavedFile) -> Result<(), Unsaved> {
        let Some(particulars) = &self.to_save.particulars else { return Ok(()) };
        let place = usize::try_from(self.part - 1).unwrap_or(usize::MAX);
        let url = self.to_save.urls.get(place).map_or("", String::as_str);
        let path = sidecar_path(&file.path);
        let failed = |why: String| Unsaved::Failed(format!("{path} cannot be written beside it: {why}"));
        let text = sidecar(particulars, url, file).map_err(|error| failed(error.to_string()))?;
        let put = self.desk.soon(self.desk.place.put(&path, text.into())).await?;
        put.map_err(|error| failed(error.to_string()))
    }

    /// Fetches the video and gives it its name, however often that is to be tried.
    async fn get(&mut self) -> Result<SavedFile, Unsaved> {
        let desk = self.desk;
        let seed = u64::from_le_bytes(self.to_save.sample.0.to_le_bytes());
        let mut tries = Tries::new(seed);
        let mut asks = 0;
        let mut waits_for_room: Option<WaitsForRoom<'_>> = None;
        loop {
            let broken = match self.try_once(&mut tries).await? {
                Ok(file) => {
                    if let Some(waits) = waits_for_room {
                        waits.found();
                    }
                    return Ok(file);
                }
                Err(broken) => broken,
            };
            match broken {
                Broken::Place(error) if error.is_full() => {
                    waits_for_room = Some(self.look_for_room(error, waits_for_room.take()).await?);
                }
                Broken::Place(error) if error.may_pass() => {
                    let wait = tries.again(error.to_string(), None)?;
                    desk.wait(wait).await?;
                }
                Broken::Place(error) => return Err(Unsaved::Failed(error.to_string())),
                Broken::Refused(why) => return Err(Unsaved::Failed(why)),
                Broken::Later { why, retry_after } => {
                    let wait = tries.again(why, retry_after)?;
                    desk.wait(wait).await?;
                }
                Broken::Dead(why) => {
                    asks += 1;
                    if asks > ASKS {
                        return Err(Unsaved::Failed(why));
                    }
                    self.ask_again(&why, &mut tries).await?;
                }
            }
        }
    }

    /// Waits until the place has room, as far as that can be told without a video. Whether it was
    /// enough is known when one is at its place: until then the others wait.
    async fn look_for_room(
        &self,
        error: PlaceError,
        mut before: Option<WaitsForRoom<'a>>,
    ) -> Result<WaitsForRoom<'a>, Stopped> {
        let desk = self.desk;
        if before.is_some() {
            desk.looked_like_room();
        }
        let mut why = error.to_string();
        loop {
            let waits = desk.wait_for_room(why, before.take()).await?;
            match desk.soon(desk.place.look_for_room(&self.id())).await? {
                Err(error) if error.is_full() => {
                    why = error.to_string();
                    before = Some(waits);
                }
                Ok(()) | Err(_) => return Ok(waits),
            }
        }
    }

    fn id(&self) -> DraftId {
        DraftId::new(&self.desk.mark, self.to_save.task.as_str(), self.part)
    }

    /// Asks for the link again; what the API names instead is written down.
    async fn ask_again(&mut self, why: &str, tries: &mut Tries) -> Result<(), Unsaved> {
        let desk = self.desk;
        loop {
            match ask(desk, self.to_save.sample, &self.to_save.task).await? {
                Asked::Links(named) => {
                    let renewed = renewed(&self.to_save.urls, named);
                    let this = usize::try_from(self.part - 1).ok().and_then(|place| renewed.named.get(place));
                    let is_named = this.is_some_and(|named| *named);
                    let is_new = self.to_save.urls != renewed.urls;
                    if is_new {
                        let (sample, urls) = (self.to_save.sample, renewed.urls);
                        self.to_save.urls.clone_from(&urls);
                        desk.note(&self.to_save.task, self.part, NoteOf::Links { sample, urls }).await?;
                    }
                    if !is_named {
                        let told = "the API no longer names this video";
                        return Err(Unsaved::Failed(format!("{why}; {told}")));
                    }
                    if !is_new {
                        // The same link: perhaps it was an accident.
                        let wait = tries.again(format!("{why}, and the API names no other"), None)?;
                        desk.wait(wait).await?;
                    }
                    return Ok(());
                }
                Asked::Later(told) => {
                    let wait = tries.again(format!("{why}; {told}"), None)?;
                    desk.wait(wait).await?;
                }
                Asked::No(told) => return Err(Unsaved::Failed(format!("{why}; {told}"))),
            }
        }
    }

    /// One request, if need be, and one attempt to give the video its name.
    async fn try_once(&self, tries: &mut Tries) -> Result<Result<SavedFile, Broken>, Unsaved> {
        let desk = self.desk;
        let id = self.id();
        let place = usize::try_from(self.part - 1).unwrap_or(usize::MAX);
        let (Some(link), Some(name)) = (self.to_save.urls.get(place).cloned(), self.to_save.names.get(place))
        else {
            return Err(Unsaved::Failed("the API no longer names this video".to_owned()));
        };
        let mut draft = match desk.soon(desk.place.begin(&id)).await? {
            Ok(draft) => draft,
            Err(error) => return Ok(Err(error.into())),
        };
        let mut came = 0;
        let mut received = |bytes| {
            came += bytes;
            if came >= SOMETHING {
                tries.brought_something();
            }
            desk.stand(|all| all.bytes += bytes);
        };
        let fetched =
            desk.unless_stopped(fetch((&desk.client, &desk.clock), &link, &mut draft, &mut received)).await;
        let Whole { content, extension } = match fetched {
            Ok(Ok(whole)) => whole,
            Ok(Err(broken)) => {
                desk.soon(draft.suspend()).await?.unwrap_or_else(|error| left(&error));
                return Ok(Err(broken));
            }
            Err(Stopped) => {
                desk.soon(draft.suspend()).await?.unwrap_or_else(|error| left(&error));
                return Err(Unsaved::Stopped);
            }
        };
        let path = format!("{name}{extension}");
        let Content { bytes, sha256 } = content;
        let file = SavedFile { path, bytes, sha256 };
        desk.note(&self.to_save.task, self.part, NoteOf::Placing(file.clone())).await?;
        match desk.soon(draft.finish(&file.path, content)).await? {
            Ok(()) => {}
            Err(PlaceError::Taken { .. }) if self.has(&file).await? => {
                // The very video, from a process whose note was lost.
                if let Ok(draft) = desk.soon(desk.place.begin(&id)).await? {
                    desk.soon(draft.abandon()).await?.unwrap_or_else(|error| left(&error));
                }
            }
            Err(error) => return Ok(Err(error.into())),
        }
        Ok(Ok(file))
    }
}

/// Links to a task's videos, after the API was asked again.
#[derive(Debug, PartialEq, Eq)]
struct Renewed {
    /// Never fewer than before.
    urls: Vec<String>,
    /// Which of them the API named.
    named: Vec<bool>,
}

/// The links `old`, replaced by those that the API names now. It may name fewer: then each takes the
/// place of the video whose address it has, whatever the query says, and the others the places left.
fn renewed(old: &[String], named: Vec<String>) -> Renewed {
    if named.len() >= old.len() {
        return Renewed { named: vec![true; named.len()], urls: named };
    }
    let address = |url: &str| url.split(['?', '#']).next().map(str::to_owned);
    let mut renewed = Renewed { urls: old.to_vec(), named: vec![false; old.len()] };
    let mut put = |place: usize, url| {
        renewed.urls[place] = url;
        renewed.named[place] = true;
    };
    let (known, new): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|url| old.iter().any(|old| address(old) == address(url)));
    let mut places: Vec<_> = (0..old.len()).collect();
    for url in known {
        if let Some(at) = places.iter().position(|place| address(&old[*place]) == address(&url)) {
            put(places.remove(at), url);
        }
    }
    for (place, url) in places.into_iter().zip(new) {
        put(place, url);
    }
    renewed
}

/// A draft could not be put away; the next process finds it as it is.
fn left(error: &PlaceError) {
    tracing::debug!(%error, "a draft is left");
}

/// How often a video may yet be tried, and when.
struct Tries {
    waits: FullJitter,
    all: u32,
    barren: u32,
}

impl Tries {
    const fn new(seed: u64) -> Self {
        Self { waits: FullJitter::for_everyone(seed), all: 0, barren: 0 }
    }

    fn brought_something(&mut self) {
        self.barren = 0;
        self.waits.recover();
    }

    /// How long to wait before the next try, as long as the server asked for or longer.
    fn again(&mut self, why: String, asked: Option<Duration>) -> Result<Duration, Unsaved> {
        self.all += 1;
        self.barren += 1;
        if self.barren >= BARREN_TRIES || self.all >= TRIES {
            return Err(Unsaved::Failed(why));
        }
        Ok(self.waits.next_wait().max(asked.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(words: &str) -> Vec<String> {
        words.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn no_link_is_lost_to_a_shorter_list() {
        for (old, now, urls, named) in [
            ("a b", "c d", "c d", vec![true, true]),
            ("a", "a b", "a b", vec![true, true]),
            ("a b", "c", "c b", vec![true, false]),
            ("a?1 b?1", "b?2", "a?1 b?2", vec![false, true]),
            ("a b c", "x c", "x b c", vec![true, false, true]),
            ("a a b", "a a", "a a b", vec![true, true, false]),
        ] {
            assert_eq!(
                renewed(&links(old), links(now)),
                Renewed { urls: links(urls), named },
                "{old}: {now}"
            );
        }
    }
}
