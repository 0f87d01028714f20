//! A folder of this machine as a place for videos.
//!
//! Drafts lie in `.batchveo` inside it, on the same file system, so that a finished one only changes
//! its name: synced to the disk before, and the folder after. A draft is locked by who writes it.
//! Nothing is ever replaced, and nothing is written outside of the folder: a name is walked folder by
//! folder, and a symbolic link that leads out is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::{Future, ready};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::place::{Content, DraftId, Found, LONGEST_SMALL, PlaceError, SOME_ROOM};
use crate::names::DRAFTS;

mod draft;
#[cfg(test)]
mod tests;

pub(super) use draft::Draft;
use draft::{Noted, boot};

/// Bytes read at once to be hashed.
const PIECE: usize = 256 * 1024;

/// A folder for videos.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    address: String,
}

impl Folder {
    /// The folder at `path`, made if need be.
    ///
    /// # Errors
    ///
    /// [`PlaceError::Unusable`] if it is none, and cannot be made.
    pub fn open(path: &Path) -> Result<Self, PlaceError> {
        let unusable = |why: String| PlaceError::Unusable { place: path.display().to_string(), why };
        if path.as_os_str().is_empty() {
            return Err(unusable("a folder has a name".to_owned()));
        }
        fs::create_dir_all(path).map_err(|error| unusable(error.to_string()))?;
        let root = fs::canonicalize(path).map_err(|error| unusable(error.to_string()))?;
        let address = root.to_str().ok_or_else(|| unusable("its name is not Unicode".to_owned()))?.to_owned();
        Ok(Self { root, address })
    }

    /// Its absolute path, without symbolic links.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The folder of drafts, which is there from now on.
    fn drafts(&self) -> Result<PathBuf, PlaceError> {
        let drafts = self.root.join(DRAFTS);
        fs::create_dir_all(&drafts).map_err(|error| self.failed(&drafts, error))?;
        self.keep_inside(&drafts, DRAFTS)?;
        Ok(drafts)
    }

    /// A file is made and removed where drafts lie.
    pub(super) fn probe(&self) -> impl Future<Output = Result<(), PlaceError>> {
        ready(self.drafts().and_then(|drafts| {
            tempfile::tempfile_in(&drafts).map(drop).map_err(|error| self.failed(&drafts, error))
        }))
    }

    /// Drafts stay, to be gone on with.
    pub(super) fn prepare(&self) -> impl Future<Output = Result<(), PlaceError>> {
        ready(self.drafts().map(drop))
    }

    pub(super) fn begin(&self, id: &DraftId) -> impl Future<Output = Result<Draft, PlaceError>> {
        ready(self.begin_now(id))
    }

    fn begin_now(&self, id: &DraftId) -> Result<Draft, PlaceError> {
        let drafts = self.drafts()?;
        let path = drafts.join(format!("{}.part", id.as_str()));
        let failed = |error| self.failed(&path, error);
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(PlaceError::Taken { path: path.display().to_string() });
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PlaceError::InUse { path: path.display().to_string() });
            }
            // Some shared file systems know no locks; the state file's own lock must do there.
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "a draft is not locked"),
        }
        let mut have = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let noted = drafts.join(format!("{}.origin", id.as_str()));
        let is_file = noted.symlink_metadata().is_ok_and(|found| found.is_file());
        let json = is_file.then(|| fs::read(&noted).ok()).flatten();
        let found = json.and_then(|json| serde_json::from_slice::<Noted>(&json).ok());
        // Bytes of before the machine was started anew may never have reached the disk.
        let origin = found.filter(|noted| have > 0 && noted.boot == boot()).map(|noted| noted.origin);
        if origin.is_none() && have > 0 {
            // Nobody knows what these bytes are of.
            file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
            have = 0;
        }
        Ok(Draft { folder: self.clone(), file, path, noted, have, origin })
    }

    pub(super) async fn look_for_room(&self) -> Result<(), PlaceError> {
        let drafts = self.drafts()?;
        let written = on_a_thread({
            let drafts = drafts.clone();
            move || {
                let mut passing = tempfile::Builder::new().suffix(".new").tempfile_in(drafts)?;
                passing.write_all(SOME_ROOM)?;
                passing.as_file().sync_all()
            }
        });
        written.await.map_err(|error| self.failed(&drafts, error))
    }

    pub(super) async fn find(&self, path: &str, content: Content) -> Result<Found, PlaceError> {
        let target = self.walk(path, Missing::Leave)?;
        let found = match target.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(self.failed(&target, error)),
        };
        if !found.is_file() || found.len() != content.bytes {
            return Ok(Found::Other);
        }
        let hash = on_a_thread({
            let target = target.clone();
            move || hash_of(File::open(target)?)
        });
        let hash = hash.await.map_err(|error| self.failed(&target, error))?;
        Ok(if hash.finalize()[..] == content.sha256 { Found::Same } else { Found::Other })
    }

    pub(super) async fn put(&self, path: &str, text: Bytes) -> Result<(), PlaceError> {
        let content = Content {
            bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
            sha256: Sha256::digest(&text).into(),
        };
        match self.find(path, content).await? {
            Found::Same => return Ok(()),
            Found::Other => return Err(PlaceError::Taken { path: self.shown(path) }),
            Found::Nothing => {}
        }
        let target = self.walk(path, Missing::Make)?;
        let drafts = self.drafts()?;
        let written = on_a_thread({
            let target = target.clone();
            move || {
                let mut passing = passing_file(&drafts)?;
                passing.write_all(&text)?;
                passing.as_file().sync_all()?;
                name(passing.into_temp_path(), &target)?;
                sync_folder_of(&target)
            }
        });
        written.await.map_err(|error| self.not_named(&target, error))
    }

    /// Replaces a small file by another, if it `is_ours`.
    pub(super) async fn replace_ours(
        &self,
        path: &str,
        text: Bytes,
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Result<(), PlaceError> {
        let target = self.walk(path, Missing::Leave)?;
        let plain = target.symlink_metadata().is_ok_and(|found| {
            found.is_file() && usize::try_from(found.len()).is_ok_and(|length| length <= LONGEST_SMALL)
        });
        if !plain || !fs::read(&target).is_ok_and(|old| is_ours(&old)) {
            return Err(PlaceError::Taken { path: self.shown(path) });
        }
        // It keeps who may read it.
        let mode = fs::metadata(&target).map(|found| found.permissions());
        let drafts = self.drafts()?;
        let replaced = on_a_thread({
            let target = target.clone();
            move || {
                let mut passing = tempfile::Builder::new().suffix(".new").tempfile_in(drafts)?;
                passing.write_all(&text)?;
                passing.as_file().set_permissions(mode?)?;
                passing.as_file().sync_all()?;
                passing.persist(&target)?;
                sync_folder_of(&target)
            }
        });
        replaced.await.map_err(|error| self.failed(&target, error))
    }

    /// Moves what is under the name `path` to a folder of `.batchveo`, from where nothing is removed.
    pub(super) fn set_aside(&self, path: &str) -> Result<(), PlaceError> {
        let from = self.walk(path, Missing::Leave)?;
        let drafts = self.drafts()?;
        let free = |n: u32| Some(drafts.join(format!("damaged-{n}")).join(path));
        let to = (1..).find_map(|n| free(n).filter(|to| to.symlink_metadata().is_err()));
        let to = to.unwrap_or_else(|| drafts.join("damaged"));
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::rename(&from, &to)).map_err(|error| self.failed(&from, error))
    }

    /// The file that the name `path` stands for, below the folder. The folders on the way are inside
    /// too, and made where `missing` says so.
    fn walk(&self, path: &str, missing: Missing) -> Result<PathBuf, PlaceError> {
        let no_name = || PlaceError::NoName { path: path.to_owned(), place: self.address.clone() };
        let mut target = self.root.clone();
        let parts: Vec<_> = path.split('/').collect();
        let (last, folders) = parts.split_last().ok_or_else(no_name)?;
        let is_plain = |part: &str| {
            let mut components = Path::new(part).components();
            let plain = matches!(components.next(), Some(Component::Normal(name)) if name == part);
            plain && components.next().is_none()
        };
        if !parts.iter().all(|part| is_plain(part)) || parts.first() == Some(&DRAFTS) {
            return Err(no_name());
        }
        for part in folders {
            let above = target.clone();
            target.push(part);
            match missing {
                Missing::Make => match fs::create_dir(&target) {
                    Ok(()) => sync_folder(&above).map_err(|error| self.failed(&above, error))?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(self.failed(&target, error)),
                },
                Missing::Leave if target.symlink_metadata().is_err() => continue,
                Missing::Leave => {}
            }
            self.keep_inside(&target, path)?;
        }
        target.push(last);
        Ok(target)
    }

    /// That `folder`, which is there, does not lead out.
    fn keep_inside(&self, folder: &Path, path: &str) -> Result<(), PlaceError> {
        let real = fs::canonicalize(folder).map_err(|error| self.failed(folder, error))?;
        if real.starts_with(&self.root) {
            return Ok(());
        }
        Err(PlaceError::Outside { path: path.to_owned(), place: self.address.clone() })
    }

    fn shown(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    fn failed(&self, path: &Path, source: io::Error) -> PlaceError {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return PlaceError::Full { place: self.address.clone(), error: source };
        }
        PlaceError::Io { path: path.display().to_string(), error: source }
    }

    fn not_named(&self, target: &Path, error: io::Error) -> PlaceError {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return PlaceError::Taken { path: target.display().to_string() };
        }
        self.failed(target, error)
    }
}

/// What to do about folders that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Leave,
}

/// A file under a passing name, as readable as any file the user makes.
fn passing_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.suffix(".new");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Gives a file its name, unless something has that already.
fn name(passing: TempPath, target: &Path) -> io::Result<()> {
    let error = match passing.persist_noclobber(target) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // A file system that can neither rename without replacing nor link: nobody else is expected to
    // take the name in between.
    let cannot = matches!(
        error.error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput
    );
    if cannot && target.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return fs::rename(&error.path, target);
    }
    Err(error.error)
}

/// Makes a new name durable, where folders can be synced.
fn sync_folder_of(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn hash_of(mut file: File) -> io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash),
            read => hash.update(&piece[..read]),
        }
    }
}

/// Does what waits for the disk beside the downloads that go on.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
