//! The list `SHA256SUMS` at a place: kept up to date beside downloads, and read to verify them.
//!
//! In a folder a line is appended as each file is saved, so that the list is good at any time; the end
//! of a run puts right what a power cut has lost. An object can only be replaced as a whole, so a bucket
//! gets its list at the end of a run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::place::{Place, PlaceError};
use super::sums::{Merging, SUMS, Saved, Sum};
use crate::store::{Files, SavedFile, StoreError};

/// Why a list cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The place does not take it, or give it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// What is saved cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be put together.
    #[error("writing {SUMS}: {0}")]
    Io(#[from] io::Error),
}

impl Place {
    /// Takes note that a file is saved, as far as the place can take notes one by one.
    ///
    /// # Errors
    ///
    /// When the place cannot be written. The file is none the worse; [`Place::settle_list`] makes up
    /// for it.
    pub fn list(&self, sum: &Sum) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let path = Path::new(folder.address()).join(SUMS);
                append(&path, &sum.line()).map_err(|source| failed(folder.address(), &path, source))
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(_) => Ok(()),
        }
    }

    /// Makes the list hold everything that `files` says is saved here, once, and what others listed.
    ///
    /// # Errors
    ///
    /// The list, or what is saved, cannot be read, or the place not written.
    pub async fn settle_list(&self, files: &Files) -> Result<(), ListingError> {
        let old = self.read_list().await?;
        let new = self.file_for_list()?;
        let mut saved = Saved::default();
        if old.is_some() {
            files.each_saved(|SavedFile { path, sha256, .. }| {
                saved.add(&Sum { path, sha256 });
                true
            })?;
        }
        let mut merging = match old {
            Some(old) => Merging::begin(BufReader::new(old), BufWriter::new(new), &saved)?,
            None => Merging::begin(io::empty(), BufWriter::new(new), &saved)?,
        };
        drop(saved);
        let mut added = Ok(());
        files.each_saved(|file| {
            added = merging.add(&Sum { path: file.path, sha256: file.sha256 });
            added.is_ok()
        })?;
        added?;
        let Some(new) = merging.finish()? else { return Ok(()) };
        let new = new.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(self.replace_list(new).await?)
    }

    /// The list, to be read from its beginning; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    #[cfg_attr(not(feature = "bucket"), expect(clippy::unused_async, reason = "a bucket is waited for"))]
    pub async fn read_list(&self) -> Result<Option<File>, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let path = Path::new(folder.address()).join(SUMS);
                match regular(&path) {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        File::open(&path).map(Some).map_err(|source| failed(folder.address(), &path, source))
                    }
                    Err(source) => Err(failed(folder.address(), &path, source)),
                }
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => {
                let path = Path::new(bucket.address()).join(SUMS);
                let mut file =
                    tempfile::tempfile().map_err(|error| failed(bucket.address(), &path, error))?;
                let there = bucket.read(SUMS, |piece| file.write_all(piece)).await?;
                file.rewind().map_err(|error| failed(bucket.address(), &path, error))?;
                Ok(there.then_some(file))
            }
        }
    }

    /// Where a new list is written before it takes the place of the old one.
    fn file_for_list(&self) -> Result<NewList, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let drafts = Path::new(folder.address()).join(crate::names::DRAFTS);
                let mut builder = tempfile::Builder::new();
                builder.suffix(".sums");
                // Readable to whom other files are.
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                let file = fs::create_dir_all(&drafts).and_then(|()| builder.tempfile_in(&drafts));
                Ok(NewList(file.map_err(|source| failed(folder.address(), &drafts, source))?))
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => {
                let file = tempfile::NamedTempFile::new();
                Ok(NewList(file.map_err(|source| failed(bucket.address(), &std::env::temp_dir(), source))?))
            }
        }
    }

    #[cfg_attr(not(feature = "bucket"), expect(clippy::unused_async, reason = "a bucket is waited for"))]
    async fn replace_list(&self, NewList(mut new): NewList) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let path = Path::new(folder.address()).join(SUMS);
                let replaced = new
                    .as_file_mut()
                    .sync_all()
                    .and_then(|()| new.persist(&path).map(drop).map_err(|error| error.error));
                replaced.map_err(|source| failed(folder.address(), &path, source))
            }
            #[cfg(feature = "bucket")]
            Self::Bucket(bucket) => {
                let begin = new.as_file_mut().rewind();
                begin.map_err(|source| failed(bucket.address(), new.path(), source))?;
                bucket.replace(SUMS, new.as_file_mut()).await
            }
        }
    }
}

/// A list that is being written.
#[derive(Debug)]
struct NewList(tempfile::NamedTempFile);

impl Write for NewList {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Adds a whole line, or nothing.
fn append(path: &Path, line: &str) -> io::Result<()> {
    regular(path)?;
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    // In one write, whoever else appends.
    let separator = if last == [b'\n'] { "" } else { "\n" };
    let written = file.write_all(format!("{separator}{line}").as_bytes());
    if written.is_err() {
        // Of a full disk, part of it may be there.
        let _ = file.set_len(length);
    }
    written
}

/// Whether there is a file; what is no plain file is an error, wherever it may lead.
fn regular(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(io::Error::other("it is no plain file: move it away")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn failed(place: &str, path: &Path, source: io::Error) -> PlaceError {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return PlaceError::Full { place: place.to_owned(), error: source };
    }
    PlaceError::Io { path: path.display().to_string(), error: source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{TaskId, UnixMillis};
    use crate::store::{Durability, Owner, Store};
    use crate::store::{Note, NoteOf};

    #[tokio::test]
    async fn the_list_is_good_at_any_time_and_made_whole_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path().join("d").to_str().unwrap()).unwrap();
        let path = folder.path().join("d").join(SUMS);
        let sum = |name: &str, byte| Sum { path: name.into(), sha256: [byte; 32] };
        fs::write(&path, "# theirs").unwrap();
        place.list(&sum("a.mp4", 1)).unwrap();
        place.list(&sum("a.mp4", 1)).unwrap();
        let line = |name: &str, byte| sum(name, byte).line();
        let twice = format!("# theirs\n{0}{0}", line("a.mp4", 1));
        assert_eq!(fs::read_to_string(&path).unwrap(), twice);

        let owner = Owner::Simulator { seed: 0 };
        let state = folder.path().join("s.db");
        let store = Store::open(&state, &owner, Durability::Rehearsal, UnixMillis(0)).unwrap();
        let mut files = store.files(place.address()).unwrap();
        let note = |task: &str, name: &str, byte| Note {
            task: TaskId::new(task).unwrap(),
            part: 1,
            at: UnixMillis(0),
            what: NoteOf::Saved(SavedFile { path: name.into(), bytes: 9, sha256: [byte; 32] }),
        };
        files.note(&[note("t1", "a.mp4", 1), note("t2", "b.mp4", 2)]).unwrap();
        place.settle_list(&files).await.unwrap();
        let whole = format!("# theirs\n{}{}", line("a.mp4", 1), line("b.mp4", 2));
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        place.settle_list(&files).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        assert_eq!(fs::read_dir(folder.path().join("d/.batchveo")).unwrap().count(), 0, "something is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_list_that_is_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("passwd");
        fs::write(&target, "x\n").unwrap();
        let place = Place::open(folder.path().join("d").to_str().unwrap()).unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("d").join(SUMS)).unwrap();
        let listed = place.list(&Sum { path: "a".into(), sha256: [0; 32] }).unwrap_err();
        assert!(listed.to_string().contains("no plain file"), "{listed}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "x\n");
    }
}
