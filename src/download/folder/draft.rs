//! A video on its way into a folder.
//!
//! Owns the file under its passing name and what is written down beside it: where its bytes came from,
//! and in which start of the machine.

use std::fs::{self, File};
use std::future::{Future, ready};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tempfile::TempPath;

use super::{Folder, Missing, hash_of, name, on_a_thread, sync_folder_of};
use crate::clock::Moment;
use crate::download::place::{Origin, PlaceError};

/// What is written down beside a draft.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Noted {
    #[serde(flatten)]
    pub(super) origin: Origin,
    /// Which start of the machine its bytes were written in, where there is a word for that.
    pub(super) boot: Option<String>,
}

/// Which start of which machine this is.
pub(super) fn boot() -> Option<String> {
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
    pub(super) folder: Folder,
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Where its origin is written down.
    pub(super) noted: PathBuf,
    pub(super) have: u64,
    pub(super) origin: Option<Origin>,
}

impl Draft {
    pub(in crate::download) const fn have(&self) -> u64 {
        self.have
    }

    pub(in crate::download) const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    pub(in crate::download) async fn hash(&mut self) -> Result<Sha256, PlaceError> {
        let path = self.path.clone();
        let hash = on_a_thread(move || hash_of(File::open(path)?));
        hash.await.map_err(|error| self.folder.failed(&self.path, error))
    }

    pub(in crate::download) fn head(
        &mut self,
        length: usize,
    ) -> impl Future<Output = Result<Vec<u8>, PlaceError>> {
        let mut head = Vec::with_capacity(length);
        let read = File::open(&self.path).and_then(|file| {
            let most = u64::try_from(length).unwrap_or(u64::MAX);
            file.take(most).read_to_end(&mut head)
        });
        ready(read.map(|_| head).map_err(|error| self.folder.failed(&self.path, error)))
    }

    pub(in crate::download) fn restart(
        &mut self,
        origin: Origin,
    ) -> impl Future<Output = Result<(), PlaceError>> {
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
    pub(in crate::download) fn write(
        &mut self,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), PlaceError>> {
        let written = self.file.write_all(bytes);
        match written {
            Ok(()) => self.have += u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            // Part of it may be there.
            Err(_) => self.have = self.file.stream_position().unwrap_or(self.have),
        }
        ready(written.map_err(|error| self.folder.failed(&self.path, error)))
    }

    pub(in crate::download) async fn sync(&mut self) -> Result<(), PlaceError> {
        let synced = match self.file.try_clone() {
            Ok(file) => on_a_thread(move || file.sync_all()).await,
            Err(error) => Err(error),
        };
        synced.map_err(|error| self.folder.failed(&self.path, error))
    }

    pub(in crate::download) async fn finish(mut self, path: &str) -> Result<(), PlaceError> {
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
    pub(in crate::download) fn suspend(self) -> impl Future<Output = Result<(), PlaceError>> {
        drop(self);
        ready(Ok(()))
    }

    pub(in crate::download) fn abandon(self) -> impl Future<Output = Result<(), PlaceError>> {
        let Self { folder, file, path, noted, .. } = self;
        drop(file);
        let _ = fs::remove_file(noted);
        ready(fs::remove_file(&path).map_err(|error| folder.failed(&path, error)))
    }
}
