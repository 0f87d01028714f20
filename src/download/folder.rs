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
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::place::{Content, DraftId, Found, LONGEST_SMALL, Origin, PlaceError, SOME_ROOM};
use crate::clock::Moment;
use crate::names::DRAFTS;

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

/// What is written down beside a draft.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    origin: Origin,
    /// Which start of the machine its bytes were written in, where there is a word for that.
    boot: Option<String>,
}

/// Which start of which machine this is.
fn boot() -> Option<String> {
    Moment::now().boot.map(|boot| boot.id)
}

/// Writes a file in place of what is there: of a link itself, never of what it leads to.
fn write_anew(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::create_new(path)?.write_all(bytes)
}

/// A video on its way into a folder.
#[derive(Debug)]
pub struct Draft {
    folder: Folder,
    file: File,
    path: PathBuf,
    /// Where its origin is written down.
    noted: PathBuf,
    have: u64,
    origin: Option<Origin>,
}

impl Draft {
    pub(super) const fn have(&self) -> u64 {
        self.have
    }

    pub(super) const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    pub(super) async fn hash(&mut self) -> Result<Sha256, PlaceError> {
        let path = self.path.clone();
        let hash = on_a_thread(move || hash_of(File::open(path)?));
        hash.await.map_err(|error| self.folder.failed(&self.path, error))
    }

    pub(super) fn head(&mut self, length: usize) -> impl Future<Output = Result<Vec<u8>, PlaceError>> {
        let mut head = Vec::with_capacity(length);
        let read = File::open(&self.path).and_then(|file| {
            let most = u64::try_from(length).unwrap_or(u64::MAX);
            file.take(most).read_to_end(&mut head)
        });
        ready(read.map(|_| head).map_err(|error| self.folder.failed(&self.path, error)))
    }

    pub(super) fn restart(&mut self, origin: Origin) -> impl Future<Output = Result<(), PlaceError>> {
        ready(self.restart_now(origin))
    }

    fn restart_now(&mut self, origin: Origin) -> Result<(), PlaceError> {
        let failed = |error| self.folder.failed(&self.path, error);
        // In this order: bytes whose origin is not known are never gone on with.
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(failed)?;
        let noted = Noted { boot: boot(), origin };
        let json = serde_json::to_vec(&noted).map_err(|error| failed(error.into()))?;
        write_anew(&self.noted, &json).map_err(|error| self.folder.failed(&self.noted, error))?;
        self.have = 0;
        self.origin = Some(noted.origin);
        Ok(())
    }

    /// In place: this goes to memory, and the disk is waited for when the draft is finished.
    pub(super) fn write(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), PlaceError>> {
        let written = self.file.write_all(bytes);
        match written {
            Ok(()) => self.have += u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            // Part of it may be there.
            Err(_) => self.have = self.file.stream_position().unwrap_or(self.have),
        }
        ready(written.map_err(|error| self.folder.failed(&self.path, error)))
    }

    pub(super) async fn sync(&mut self) -> Result<(), PlaceError> {
        let synced = match self.file.try_clone() {
            Ok(file) => on_a_thread(move || file.sync_all()).await,
            Err(error) => Err(error),
        };
        synced.map_err(|error| self.folder.failed(&self.path, error))
    }

    pub(super) async fn finish(mut self, path: &str) -> Result<(), PlaceError> {
        let target = self.folder.walk(path, Missing::Make)?;
        self.sync().await?;
        let Self { folder, file, path: draft, noted, .. } = self;
        let named = on_a_thread({
            let target = target.clone();
            move || {
                let mut passing = TempPath::try_from_path(&draft)?;
                passing.disable_cleanup(true);
                name(passing, &target)?;
                // A system that locks names with files lets go of this one.
                drop(file);
                let _ = fs::remove_file(noted);
                sync_folder_of(&target)
            }
        });
        named.await.map_err(|error| folder.not_named(&target, error))
    }

    /// It is there for the next process as it is.
    pub(super) fn suspend(self) -> impl Future<Output = Result<(), PlaceError>> {
        drop(self);
        ready(Ok(()))
    }

    pub(super) fn abandon(self) -> impl Future<Output = Result<(), PlaceError>> {
        let Self { folder, file, path, noted, .. } = self;
        drop(file);
        let _ = fs::remove_file(noted);
        ready(fs::remove_file(&path).map_err(|error| folder.failed(&path, error)))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Folder) {
        let outer = tempfile::tempdir().unwrap();
        let folder = Folder::open(&outer.path().join("made/here")).unwrap();
        (outer, folder)
    }

    fn origin(link: &str) -> Origin {
        Origin { link: link.into(), validator: None, total: None }
    }

    fn content(bytes: &[u8]) -> Content {
        Content { bytes: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
    }

    #[tokio::test]
    async fn a_draft_outlives_its_process_and_becomes_a_file_once() {
        let (_outer, folder) = place();
        let id = DraftId::new("s", "task", 1);
        let mut draft = folder.begin(&id).await.unwrap();
        assert_eq!((draft.have(), draft.origin()), (0, None));
        draft.restart(origin("a")).await.unwrap();
        draft.write(b"half").await.unwrap();
        assert!(matches!(folder.begin(&id).await, Err(PlaceError::InUse { .. })));
        drop(draft);

        let mut draft = folder.begin(&id).await.unwrap();
        assert_eq!((draft.have(), draft.origin()), (4, Some(&origin("a"))));
        assert_eq!(draft.hash().await.unwrap().finalize(), Sha256::digest(b"half"));
        draft.write(b" more").await.unwrap();
        assert_eq!(draft.head(6).await.unwrap(), b"half m");
        assert_eq!(folder.find("x/y/v.mp4", content(b"half more")).await.unwrap(), Found::Nothing);
        draft.finish("x/y/v.mp4").await.unwrap();
        assert_eq!(fs::read(folder.root.join("x/y/v.mp4")).unwrap(), b"half more");
        assert_eq!(fs::read_dir(folder.root.join(DRAFTS)).unwrap().count(), 0, "something is left");
        assert_eq!(folder.find("x/y/v.mp4", content(b"half more")).await.unwrap(), Found::Same);
        assert_eq!(folder.find("x/y/v.mp4", content(b"half mOre")).await.unwrap(), Found::Other);

        // What is there is never replaced, and the draft stays.
        let mut draft = folder.begin(&id).await.unwrap();
        draft.restart(origin("b")).await.unwrap();
        draft.write(b"other").await.unwrap();
        assert!(matches!(draft.finish("x/y/v.mp4").await, Err(PlaceError::Taken { .. })));
        assert_eq!(fs::read(folder.root.join("x/y/v.mp4")).unwrap(), b"half more");
        let draft = folder.begin(&id).await.unwrap();
        assert_eq!(draft.have(), 5);
        draft.abandon().await.unwrap();
        assert_eq!(fs::read_dir(folder.root.join(DRAFTS)).unwrap().count(), 0, "something is left");
    }

    #[tokio::test]
    async fn bytes_of_unknown_origin_are_not_gone_on_with() {
        let (_outer, folder) = place();
        let id = DraftId::new("s", "task", 1);
        let mut draft = folder.begin(&id).await.unwrap();
        draft.restart(origin("a")).await.unwrap();
        draft.write(b"half").await.unwrap();
        fs::remove_file(&draft.noted).unwrap();
        drop(draft);
        assert_eq!(folder.begin(&id).await.unwrap().have(), 0);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn bytes_of_before_a_start_of_the_machine_are_not_gone_on_with() {
        let (_outer, folder) = place();
        let id = DraftId::new("s", "task", 1);
        let mut draft = folder.begin(&id).await.unwrap();
        draft.restart(origin("a")).await.unwrap();
        draft.write(b"half").await.unwrap();
        let json = fs::read_to_string(&draft.noted).unwrap();
        fs::write(&draft.noted, json.replace(&boot().unwrap(), "another")).unwrap();
        drop(draft);
        assert_eq!(folder.begin(&id).await.unwrap().have(), 0);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_is_read_or_written_through_a_link_beside_a_draft() {
        let (outer, folder) = place();
        let id = DraftId::new("s", "task", 1);
        let mut draft = folder.begin(&id).await.unwrap();
        draft.restart(origin("a")).await.unwrap();
        draft.write(b"half").await.unwrap();
        let (noted, elsewhere) = (draft.noted.clone(), outer.path().join("mine"));
        drop(draft);
        fs::rename(&noted, &elsewhere).unwrap();
        let mine = fs::read(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &noted).unwrap();
        let mut draft = folder.begin(&id).await.unwrap();
        assert_eq!((draft.have(), draft.origin()), (0, None));
        draft.restart(origin("b")).await.unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), mine);
        assert!(noted.symlink_metadata().unwrap().is_file());
    }

    #[tokio::test]
    async fn small_files_are_put_once() {
        let (_outer, folder) = place();
        folder.put("a/b.json", Bytes::from_static(b"{}")).await.unwrap();
        folder.put("a/b.json", Bytes::from_static(b"{}")).await.unwrap();
        let other = folder.put("a/b.json", Bytes::from_static(b"[]")).await;
        assert!(matches!(other, Err(PlaceError::Taken { .. })));
        assert_eq!(fs::read(folder.root.join("a/b.json")).unwrap(), b"{}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
            let usual = folder.root.join("usual");
            File::create(&usual).unwrap();
            assert_eq!(mode(&folder.root.join("a/b.json")), mode(&usual));
        }
    }

    #[tokio::test]
    async fn nothing_lands_outside() {
        let (outer, folder) = place();
        for path in ["../v.mp4", "/v.mp4", "a/../../v.mp4", "a//v.mp4", "", ".", "a/.", ".batchveo/v.mp4"] {
            let put = folder.put(path, Bytes::from_static(b"x")).await;
            assert!(matches!(put, Err(PlaceError::NoName { .. })), "{path}: {put:?}");
        }
        #[cfg(unix)]
        {
            let elsewhere = outer.path().join("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            std::os::unix::fs::symlink(&elsewhere, folder.root.join("out")).unwrap();
            fs::create_dir(folder.root.join("real")).unwrap();
            std::os::unix::fs::symlink(folder.root.join("real"), folder.root.join("in")).unwrap();
            let put = folder.put("out/v.mp4", Bytes::from_static(b"x")).await;
            assert!(matches!(put, Err(PlaceError::Outside { .. })), "{put:?}");
            let put = folder.put("out/deeper/v.mp4", Bytes::from_static(b"x")).await;
            assert!(matches!(put, Err(PlaceError::Outside { .. })), "{put:?}");
            folder.put("in/v.mp4", Bytes::from_static(b"x")).await.unwrap();
            assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        }
        drop(outer);
    }
}
