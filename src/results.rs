//! Results: a file that shows the state file as a person wants to read it, in CSV, JSON lines or an
//! Excel workbook.
//!
//! A projection and nothing more. It is rebuilt from the state when a run begins, grows by whole
//! lines as samples end, and is replaced atomically by the same rows in manifest order when the run
//! ends; so whatever a crash leaves of it, the next run mends. Between those, a sample that ends a
//! second time (a task given up on that was finished after all) has two lines, the later one true.
//!
//! A workbook cannot grow, and is written when the run ends.
//!
//! No cell is a formula to a spreadsheet, whoever wrote the text in it: see
//! [`guarded`](crate::manifest::guarded).
//!
//! A file that this state did not write is never overwritten: the state remembers where it wrote
//! and under which header, and a file there with another header is somebody else's. Of a workbook it
//! remembers the hash, so one that was edited is the user's.

mod as_manifest;
mod layout;
mod rows;
mod workbook;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use layout::Layout;
use rows::{Rows, written_names};

use crate::job::{SampleId, Status};
use crate::store::{Follower, ResultFilter, Selection, Store, StoreError};

pub use as_manifest::{Rewritten, export_as_manifest};
pub use rows::OutputFormat;

/// How long the vendor keeps a video after its task ended: 15 days, by the model's page.
pub const VIDEO_LIFETIME_MILLIS: i64 = 15 * 24 * 60 * 60 * 1000;

/// Lines are handed to the system in pieces of about this size, in bytes.
const PIECE: usize = 64 * 1024;
/// The same for the few lines that a commit adds, which are gathered before they are handed over: more
/// would be cleared and thrown away each time.
const FEW_LINES: usize = 1024;

/// As much of a JSONL file is read to tell whose it is, in bytes: more than a line of ours has.
const LONGEST_LINE: u64 = 64 << 20;

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
    /// Results are not written so.
    #[error("{}: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
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
            | Self::Format { .. }
            | Self::Exists { .. }
            | Self::Store(_) => self,
        }
    }
}

/// The results file of a run that goes on.
#[derive(Debug)]
pub struct ResultsFile {
    path: PathBuf,
    format: OutputFormat,
    /// The file, open at its end, if it grows.
    file: Option<File>,
    layout: Layout,
    lines: Vec<u8>,
}

impl ResultsFile {
    /// Takes the results file at `path` for a run: every sample that has ended so far is in it
    /// when this returns, and nothing else. A workbook is only looked at, and written in the end.
    ///
    /// # Errors
    ///
    /// [`ResultsError::Foreign`] if a file that `store` did not write is in the way; it is left as
    /// it is. [`ResultsError::Format`] for a name that promises another format than ours.
    pub fn begin(path: &Path, store: &Store) -> Result<Self, ResultsError> {
        let failed = |source| ResultsError::Io { path: path.into(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        let layout = Layout::of(store, false, false)?;
        let ended = Status::ALL.into_iter().filter(|status| *status != Status::Pending).collect();
        let filter = ResultFilter { statuses: ended, ..ResultFilter::default() };
        let format = OutputFormat::of(&path)?;
        let file = if format.grows() {
            Some(replace(&path, store, (format, &layout), &filter, false)?)
        } else {
            is_ours(&path, store, (format, &layout))?;
            // What only shows when the run ends is too late: then everything is bought.
            let samples = store.tally(&Selection::default())?.total();
            workbook::check_room(samples, layout.names.len() + layout::OF_MANY.len())?;
            None
        };
        Ok(Self { path, format, file, layout, lines: Vec::new() })
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
        let Some(file) = &mut self.file else { return Ok(()) };
        self.lines.clear();
        let names = written_names(self.format, &self.layout.names);
        let mut lines = Rows::new(self.format, &names, FEW_LINES, &mut self.lines)?;
        for sample in ended {
            let row = store.result(*sample)?;
            if !row.removed {
                lines.write(&self.layout.cells(&row))?;
            }
        }
        lines.end()?;
        let failed = |source| ResultsError::Io { path: self.path.clone(), source };
        file.write_all(&self.lines).map_err(failed)
    }

    /// Replaces the file by all rows in manifest order, pending ones included, durably.
    ///
    /// # Errors
    ///
    /// [`ResultsError::Foreign`] if somebody has put another file in its place meanwhile; when the
    /// file cannot be written or the state file cannot be read.
    pub fn finish(self, store: &Store) -> Result<(), ResultsError> {
        let Self { path, format, file, layout: _, lines: _ } = self;
        drop(file);
        let layout = Layout::of(store, false, store.has_many_urls(false)?)?;
        replace(&path, store, (format, &layout), &ResultFilter::default(), true).map(drop)
    }
}

impl Follower for ResultsFile {
    type Error = ResultsError;

    fn follow(&mut self, store: &Store, ended: &[SampleId]) -> Result<(), ResultsError> {
        self.append(store, ended)
    }
}

/// Writes the results files of `store` again, whole, where they are and `may` be written; answers those
/// that stay as they are for that, or because something else is in their place.
///
/// # Errors
///
/// When a file cannot be written or the state file cannot be read.
pub fn refresh(store: &Store, may: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, ResultsError> {
    let layout = Layout::of(store, false, store.has_many_urls(false)?)?;
    let mut others = Vec::new();
    for path in store.results_files()?.into_iter().map(PathBuf::from).filter(|path| path.exists()) {
        if !may(&path) {
            others.push(path);
            continue;
        }
        let format = OutputFormat::of(&path);
        let replaced = format
            .and_then(|format| replace(&path, store, (format, &layout), &ResultFilter::default(), true));
        match replaced {
            Ok(_) => {}
            Err(ResultsError::Foreign { path } | ResultsError::Format { path, .. }) => others.push(path),
            Err(error) => return Err(error),
        }
    }
    Ok(others)
}

/// Writes the rows that `filter` wants to `out` in `format`, in manifest order, and answers how many.
///
/// # Errors
///
/// When `out` cannot be written or the state file cannot be read; a worksheet has not room for more
/// than 1,048,575 rows.
pub fn export(
    store: &Store,
    filter: &ResultFilter,
    format: OutputFormat,
    out: impl Write,
) -> Result<u64, ResultsError> {
    let layout = Layout::of(store, filter.removed, store.has_many_urls(filter.removed)?)?;
    write_all(store, (format, &layout), filter, out)
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

/// Whether there is a file at `path`, which then is one that `store` wrote.
fn is_ours(path: &Path, store: &Store, written: (OutputFormat, &Layout)) -> Result<bool, ResultsError> {
    match fs::symlink_metadata(path) {
        Ok(found) => {
            let mark = found.is_file().then(|| mark_of(path, written)).flatten();
            let ours =
                mark.map(|mark| store.knows_results_file(&path.to_string_lossy(), &mark)).transpose()?;
            if ours == Some(true) { Ok(true) } else { Err(ResultsError::Foreign { path: path.into() }) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ResultsError::Io { path: path.into(), source }),
    }
}

/// Puts a new file in the place of ours, whole, and answers a handle at its end.
fn replace(
    path: &Path,
    store: &Store,
    written: (OutputFormat, &Layout),
    filter: &ResultFilter,
    durable: bool,
) -> Result<File, ResultsError> {
    let failed = |source| ResultsError::Io { path: path.into(), source };
    let in_place = is_ours(path, store, written)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut passing = passing_file(folder).map_err(failed)?;
    write_all(store, written, filter, &mut passing).map_err(|error| error.at(path))?;
    let mark = match written {
        (format @ (OutputFormat::Csv | OutputFormat::Jsonl), layout) => header_of(format, layout),
        (OutputFormat::Xlsx, _) => hash_of(passing.reopen().map_err(failed)?).map_err(failed)?,
    };
    store.note_results_file(&path.to_string_lossy(), &mark)?;
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
    (format, layout): (OutputFormat, &Layout),
    filter: &ResultFilter,
    out: impl Write,
) -> Result<u64, ResultsError> {
    let names = written_names(format, &layout.names);
    let mut out = Rows::new(format, &names, PIECE, out)?;
    out.header(&names)?;
    let mut rows = 0;
    store.for_each_result(filter, |row| match out.write(&layout.cells(&row)) {
        Ok(()) => {
            rows += 1;
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(error),
    })?;
    out.end()?;
    Ok(rows)
}

/// What the state remembers a file by that has this layout.
fn header_of(format: OutputFormat, layout: &Layout) -> String {
    join_header(written_names(format, &layout.names))
}

/// What the state would remember the file at `path` by; `None` if it is none of ours.
fn mark_of(path: &Path, (format, layout): (OutputFormat, &Layout)) -> Option<String> {
    match format {
        OutputFormat::Csv => {
            let mut reader = csv::Reader::from_path(path).ok()?;
            Some(join_header(reader.headers().ok()?.iter()))
        }
        OutputFormat::Jsonl => {
            let mut line = String::new();
            let file = File::open(path).ok()?.take(LONGEST_LINE);
            BufReader::new(file).read_line(&mut line).ok()?;
            // Before the first sample has ended there is no line, and nothing that could be lost.
            if line.is_empty() {
                return Some(header_of(format, layout));
            }
            serde_json::from_str(&line).ok().map(|Keys(keys)| join_header(keys))
        }
        OutputFormat::Xlsx => hash_of(File::open(path).ok()?).ok(),
    }
}

fn hash_of(file: File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_string())
}

/// The keys of an object, in their order.
struct Keys(Vec<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, serde::de::IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// A header as one text that no other header has: unit separators do not occur in sheets, and if
/// they do, a file is at worst not known for ours.
fn join_header(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().fold(String::new(), |joined, name| joined + name.as_ref() + "\u{1f}")
}

#[cfg(test)]
mod tests;
