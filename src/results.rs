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

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::job::{SampleId, Status, UnixMillis};
use crate::manifest::guarded;
use crate::store::{Cells, Follower, ResultFilter, ResultRow, Store, StoreError};

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
        let mut lines = csv::Writer::from_writer(&mut self.lines);
        for sample in ended {
            let row = store.result(*sample)?;
            if !row.removed {
                self.layout.write(&mut lines, &row).map_err(ResultsError::Write)?;
            }
        }
        lines.flush().map_err(ResultsError::Write)?;
        drop(lines);
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
    store.note_results_file(&name, &join_header(&layout.header))?;
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
    let mut out = csv::WriterBuilder::new().buffer_capacity(PIECE).from_writer(out);
    out.write_record(&layout.header).map_err(|error| ResultsError::Write(error.into()))?;
    let mut rows = 0;
    store.for_each_result(filter, |row| match layout.write(&mut out, &row) {
        Ok(()) => {
            rows += 1;
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(ResultsError::Write(error)),
    })?;
    out.flush().map_err(ResultsError::Write)?;
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

/// Our columns, in order, without `sample` before them and `video_urls` behind.
const OURS: [&str; 13] = [
    "status",
    "task_id",
    "video_url",
    "error_kind",
    "error_code",
    "error_message",
    "attempts",
    "cost_usd",
    "submitted_at",
    "completed_at",
    "expires_at",
    "generation_seconds",
    "file",
];

/// Which columns there are.
#[derive(Debug)]
struct Layout {
    header: Vec<String>,
    /// How many of them are the sheet's own.
    own: usize,
    samples: bool,
    many_urls: bool,
}

impl Layout {
    fn of(store: &Store, removed: bool, many_urls: bool) -> Result<Self, StoreError> {
        let samples = store.uses_samples(removed)?;
        let mut header = store.columns_of(removed, Cells::All)?;
        let own = header.len();
        let ours =
            samples.then_some("sample").into_iter().chain(OURS).chain(many_urls.then_some("video_urls"));
        for name in ours {
            let mut name = name.to_owned();
            while header.iter().any(|taken| taken.eq_ignore_ascii_case(&name)) {
                name.insert_str(0, "veo_");
            }
            header.push(name);
        }
        let header = header.iter().map(|name| guarded(name).into_owned()).collect();
        Ok(Self { header, own, samples, many_urls })
    }

    /// Writes one line, with as many cells as the header has.
    fn write(&self, out: &mut csv::Writer<impl Write>, row: &ResultRow) -> io::Result<()> {
        let blank = std::iter::repeat("");
        for cell in row.fields.iter().map(String::as_str).chain(blank).take(self.own) {
            out.write_field(&*guarded(cell))?;
        }
        if self.samples {
            out.write_field(row.index.to_string())?;
        }
        let time = |time: Option<UnixMillis>| time.map(UnixMillis::to_rfc3339).unwrap_or_default();
        let url = row.urls.first();
        let expires = row.completed.filter(|_| url.is_some());
        let failure = row.failure.as_ref();
        out.write_field(row.status.as_str())?;
        out.write_field(&*guarded(row.task.as_deref().unwrap_or_default()))?;
        out.write_field(&*guarded(url.map_or("", String::as_str)))?;
        out.write_field(failure.map_or("", |failure| failure.kind.as_str()))?;
        out.write_field(&*guarded(failure.and_then(|failure| failure.code.as_deref()).unwrap_or_default()))?;
        out.write_field(&*guarded(failure.map_or("", |failure| failure.message.as_str())))?;
        out.write_field(row.attempts.to_string())?;
        out.write_field(row.cost.to_string())?;
        out.write_field(time(row.submitted))?;
        out.write_field(time(row.completed))?;
        out.write_field(time(expires.map(|at| UnixMillis(at.0.saturating_add(VIDEO_LIFETIME_MILLIS)))))?;
        let seconds = row.generation_time.map(|took| took.as_secs_f64().to_string());
        out.write_field(seconds.unwrap_or_default())?;
        // Always there, so that readers can rely on the column.
        out.write_field(&*guarded(row.files.first().map_or("", String::as_str)))?;
        if self.many_urls {
            let many = (row.urls.len() > 1).then(|| serde_json::to_string(&row.urls)).transpose()?;
            out.write_field(many.unwrap_or_default())?;
        }
        Ok(out.write_record(None::<&[u8]>)?)
    }
}

#[cfg(test)]
mod tests;
