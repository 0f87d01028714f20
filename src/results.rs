//! Results: a CSV file that shows the state file as a person wants to read it.
//!
//! A projection and nothing more. It is rebuilt from the state when a run begins, grows by whole
//! lines as samples end, and is replaced atomically by the same rows in manifest order when the run
//! ends; so whatever a crash leaves of it, the next run mends. Between those, a sample that ends a
//! second time (a task given up on that was finished after all) has two lines, the later one true.
//!
//! No cell is a formula to a spreadsheet, whoever wrote the text in it: see [`guarded`].
//!
//! A file that this state did not write is never overwritten: the state remembers where it wrote
//! and under which header, and a file there with another header is somebody else's.

mod as_manifest;
mod layout;
mod rows;

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use layout::Layout;
use rows::Rows;

use crate::job::{SampleId, Status};
use crate::manifest::guarded;
use crate::store::{Follower, ResultFilter, Store, StoreError};

pub use as_manifest::{Rewritten, export_as_manifest};

/// How long the vendor keeps a video after its task ended: 15 days, by the model's page.
pub const VIDEO_LIFETIME_MILLIS: i64 = 15 * 24 * 60 * 60 * 1000;

/// Lines are handed to the system in pieces of about this size, in bytes.
const PIECE: usize = 64 * 1024;

/// What is wrong with a results file.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// Something else is in its place.
    #[error("{} was not written by this run's state file: move it away, or name another with -o", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Rows cannot be written where an export goes.
    #[error("cannot write")]
    Write(#[source] io::Error),
    /// A sheet cannot be written so.
    #[error("cannot write a sheet: {why}")]
    NotASheet {
        /// Why, and what to do.
        why: String,
    },
    /// Something is where a new file goes.
    #[error("{} exists and is left as it is: name another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The state file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ResultsError {
    /// The same, naming the file that could not be written.
    fn at(self, path: &Path) -> Self {
        match self {
            Self::Write(source) => Self::Io { path: path.into(), source },
            Self::Foreign { .. }
            | Self::Io { .. }
            | Self::NotASheet { .. }
            | Self::Exists { .. }
            | Self::Store(_) => self,
        }
    }
}

/// The results file of a run that goes on.
#[derive(Debug)]
pub struct ResultsFile {
    path: PathBuf,
    file: File,
    layout: Layout,
    lines: Vec<u8>,
}

impl ResultsFile {
    /// Takes the results file at `path` for a run: every sample that has ended so far is in it
    /// when this returns, and nothing else.
    ///
    /// # Errors
    ///
    /// [`ResultsError::Foreign`] if a file that `store` did not write is in the way; it is left as
    /// it is.
    pub fn begin(path: &Path, store: &Store) -> Result<Self, ResultsError> {
        let failed = |source| ResultsError::Io { path: path.into(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        let layout = Layout::of(store, false, false)?;
        let ended = Status::ALL.into_iter().filter(|status| *status != Status::Pending).collect();
        let filter = ResultFilter { statuses: ended, ..ResultFilter::default() };
        let file = replace(&path, store, &layout, &filter, false)?;
        Ok(Self { path, file, layout, lines: Vec::new() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line for each of these samples, all in one write. Samples no longer in the sheet
    /// have none.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or the state file cannot be read.
    pub fn append(&mut self, store: &Store, ended: &[SampleId]) -> Result<(), ResultsError> {
        self.lines.clear();
        let mut lines = Rows::new(&mut self.lines);
        for sample in ended {
            let row = store.result(*sample)?;
            if !row.removed {
                lines.write(&self.layout.cells(&row)).map_err(ResultsError::Write)?;
            }
        }
        lines.end().map_err(ResultsError::Write)?;
        let failed = |source| ResultsError::Io { path: self.path.clone(), source };
        self.file.write_all(&self.lines).map_err(failed)
    }

    /// Replaces the file by all rows in manifest order, pending ones included, durably.
    ///
    /// # Errors
    ///
    /// [`ResultsError::Foreign`] if somebody has put another file in its place meanwhile; when the
    /// file cannot be written or the state file cannot be read.
    pub fn finish(self, store: &Store) -> Result<(), ResultsError> {
        let Self { path, file, layout: _, lines: _ } = self;
        drop(file);
        let layout = Layout::of(store, false, store.has_many_urls(false)?)?;
        replace(&path, store, &layout, &ResultFilter::default(), true).map(drop)
    }
}

impl Follower for ResultsFile {
    type Error = ResultsError;

    fn follow(&mut self, store: &Store, ended: &[SampleId]) -> Result<(), ResultsError> {
        self.append(store, ended)
    }
}

/// Writes the rows that `filter` wants to `out` as CSV, in manifest order, and answers how many.
///
/// # Errors
///
/// When `out` cannot be written or the state file cannot be read.
pub fn export(store: &Store, filter: &ResultFilter, out: impl Write) -> Result<u64, ResultsError> {
    let layout = Layout::of(store, filter.removed, store.has_many_urls(filter.removed)?)?;
    write_all(store, &layout, filter, out)
}

/// Makes a file at `path`, whole and durable, of what `write` writes; if that fails, there is none.
///
/// # Errors
///
/// [`ResultsError::Exists`] if there is one already; the error of `write`; when the file cannot be
/// written.
pub fn write_new<T>(
    path: &Path,
    write: impl FnOnce(&File) -> Result<T, ResultsError>,
) -> Result<T, ResultsError> {
    let failed = |source| ResultsError::Io { path: path.into(), source };
    let exists = || ResultsError::Exists { path: path.into() };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let passing = passing_file(folder).map_err(failed)?;
    let written = write(passing.as_file()).map_err(|error| error.at(path))?;
    passing.as_file().sync_all().map_err(failed)?;
    match passing.persist_noclobber(path) {
        Ok(_) => sync_folder(folder, true).map(|()| written).map_err(failed),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
        Err(error) => Err(failed(error.error)),
    }
}

/// Puts a new file in the place of ours, whole, and answers a handle at its end.
fn replace(
    path: &Path,
    store: &Store,
    layout: &Layout,
    filter: &ResultFilter,
    durable: bool,
) -> Result<File, ResultsError> {
    let failed = |source| ResultsError::Io { path: path.into(), source };
    let name = path.to_string_lossy();
    let in_place = match fs::symlink_metadata(path) {
        Ok(found) => {
            let header = found.is_file().then(|| read_header(path)).flatten();
            let ours = header.map(|header| store.knows_results_file(&name, &header)).transpose()?;
            if ours != Some(true) {
                return Err(ResultsError::Foreign { path: path.into() });
            }
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(error)),
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut passing = passing_file(folder).map_err(failed)?;
    write_all(store, layout, filter, &mut passing).map_err(|error| error.at(path))?;
    store.note_results_file(&name, &join_header(layout.names.iter().map(|name| guarded(name))))?;
    if durable {
        passing.as_file().sync_all().map_err(failed)?;
    }
    if in_place {
        let file = passing.persist(path).map_err(|error| failed(error.error))?;
        sync_folder(folder, durable).map_err(failed)?;
        return Ok(file);
    }
    match passing.persist_noclobber(path) {
        Ok(file) => sync_folder(folder, durable).map(|()| file).map_err(failed),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ResultsError::Foreign { path: path.into() })
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// A file under a passing name, as readable as any file the user makes.
fn passing_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".batchveo-").suffix(".csv");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Makes a new name durable, where folders can be synced.
fn sync_folder(folder: &Path, durable: bool) -> io::Result<()> {
    if durable && cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn write_all(
    store: &Store,
    layout: &Layout,
    filter: &ResultFilter,
    out: impl Write,
) -> Result<u64, ResultsError> {
    let mut out = Rows::new(out);
    out.header(&layout.names).map_err(ResultsError::Write)?;
    let mut rows = 0;
    store.for_each_result(filter, |row| match out.write(&layout.cells(&row)) {
        Ok(()) => {
            rows += 1;
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(ResultsError::Write(error)),
    })?;
    out.end().map_err(ResultsError::Write)?;
    Ok(rows)
}

/// The header of the file at `path`, as the state remembers headers; `None` if it has none.
fn read_header(path: &Path) -> Option<String> {
    let mut reader = csv::Reader::from_path(path).ok()?;
    Some(join_header(reader.headers().ok()?.iter()))
}

/// A header as one text that no other header has: unit separators do not occur in sheets, and if
/// they do, a file is at worst not known for ours.
fn join_header(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().fold(String::new(), |joined, name| joined + name.as_ref() + "\u{1f}")
}

#[cfg(test)]
mod tests;
