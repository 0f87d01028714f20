//! What a place takes for a name.
//!
//! Tables of file systems would be wrong on the next mount option, so it is tried: small files in a
//! temporary folder at the place itself, gone at once.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::fold::Folding;

/// Letters to try: one beyond ASCII, one beyond Latin, one beyond the first plane.
const LETTERS: [(char, char); 3] = [('é', '\u{7f}'), ('日', '\u{ff}'), ('🎬', '\u{ffff}')];
/// What some file systems do not take in names.
const DOUBTFUL: [char; 10] = ['<', '>', ':', '"', '|', '?', '*', '\\', '\u{1}', '\n'];
/// Longest name that is tried.
const LONGEST: usize = 255;

/// How long a folder or file may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Longest {
    /// In bytes of UTF-8.
    Bytes(usize),
    /// In units of UTF-16.
    Utf16(usize),
}

/// What a place takes for a name.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a file system")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// How messages call it, such as `a bucket`.
    pub name: String,
    /// Whether names that differ in case are one.
    pub ignores_case: bool,
    /// Whether names that differ in how letters are composed are one.
    pub ignores_normalization: bool,
    /// Characters that cannot be in a name; a control character stands for all of them.
    pub refused: Vec<char>,
    /// The last character that can be in a name.
    pub last: char,
    /// Whether a dot or a space at the end is refused or lost.
    pub alters_end: bool,
    /// Whether some names are devices.
    pub has_devices: bool,
    /// How long a folder or file may be.
    pub longest: Longest,
    /// How long a path may be there, in bytes.
    pub longest_path: usize,
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl FileSystem {
    /// A bucket with S3's rules: keys of 1,024 bytes, compared byte by byte, and without control
    /// characters, which the library that puts them there does not take. The keys begin with `prefix`.
    #[must_use]
    pub fn bucket(prefix: &str) -> Self {
        let most = 1_024_usize.saturating_sub(prefix.len() + 1);
        Self {
            name: "a bucket".to_owned(),
            ignores_case: false,
            ignores_normalization: false,
            refused: vec!['\u{1}'],
            last: char::MAX,
            alters_end: false,
            has_devices: false,
            longest: Longest::Bytes(most),
            longest_path: most,
        }
    }

    /// Tries what the file system of `destination` takes, there or in the nearest folder above it that
    /// there is.
    ///
    /// # Errors
    ///
    /// No file can be made there.
    pub fn probe(destination: &Path) -> io::Result<Self> {
        let above = nearest_folder(destination)?;
        let folder = tempfile::Builder::new().prefix(".batchveo-names-").tempdir_in(&above)?;
        let found = Probe(folder.path()).look(format!("the file system of {}", destination.display()));
        folder.close()?;
        found
    }

    /// What names are told apart by there.
    #[must_use]
    pub const fn folding(&self) -> Folding {
        Folding::At { case: self.ignores_case, normalization: self.ignores_normalization }
    }

    /// Whether `c` cannot be in a name.
    #[must_use]
    pub fn refuses(&self, c: char) -> bool {
        let stands_for = |refused: &char| *refused == c || (refused.is_control() && c.is_ascii_control());
        c > self.last || self.refused.iter().any(stands_for)
    }
}

/// `path`, or the nearest folder above it that there is.
///
/// # Errors
///
/// There is none, or a file is in the way.
pub fn nearest_folder(path: &Path) -> io::Result<PathBuf> {
    let mut path = path;
    loop {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(here) {
            Ok(found) if found.is_dir() => return Ok(here.to_owned()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, "a file is in the way")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path = path.parent().ok_or(error)?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A folder in which names are tried.
struct Probe<'a>(&'a Path);

impl Probe<'_> {
    fn look(&self, name: String) -> io::Result<FileSystem> {
        // What is not about names shows here.
        File::create(self.0.join("plain"))?;
        let last = LETTERS.into_iter().find(|(letter, _)| !self.keeps(&format!("a{letter}a")));
        let last = last.map_or(char::MAX, |(_, before)| before);
        let (longest, wide) = (self.longest(), "日".repeat(LONGEST));
        Ok(FileSystem {
            name,
            ignores_case: self.is_one("case", "CASE")?,
            ignores_normalization: last > 'é' && self.is_one("caf\u{e9}", "cafe\u{301}")?,
            refused: DOUBTFUL.into_iter().filter(|c| !self.keeps(&format!("a{c}a"))).collect(),
            last,
            alters_end: !self.keeps("dot.") || !self.keeps("space "),
            has_devices: cfg!(windows) || !self.keeps("nul"),
            longest: if longest == LONGEST && last > '日' && self.keeps(&wide) {
                Longest::Utf16(LONGEST)
            } else {
                Longest::Bytes(longest)
            },
            longest_path: usize::MAX,
        })
    }

    /// Whether a file of that name can be made and is then there under that very name.
    fn keeps(&self, name: &str) -> bool {
        let path = self.0.join(name);
        if File::create_new(&path).is_err() {
            return false;
        }
        let mut entries = fs::read_dir(self.0).into_iter().flatten().flatten();
        let kept = entries.any(|entry| entry.file_name().to_str() == Some(name));
        // What it became is removed with the folder.
        kept && fs::remove_file(&path).is_ok()
    }

    /// Whether the two are one file.
    fn is_one(&self, one: &str, other: &str) -> io::Result<bool> {
        File::create(self.0.join(one))?;
        fs::exists(self.0.join(other))
    }

    /// The longest name in bytes.
    fn longest(&self) -> usize {
        let (mut fits, mut fails) = (5, LONGEST + 1);
        if self.keeps(&"a".repeat(LONGEST)) {
            return LONGEST;
        }
        while fits + 1 < fails {
            let length = usize::midpoint(fits, fails);
            let keeps = self.keeps(&"a".repeat(length));
            (fits, fails) = if keeps { (length, fails) } else { (fits, length) };
        }
        fits
    }
}
