//! Whether what is at a place is still what was saved there.
//!
//! Reads the list `SHA256SUMS`, hashes each file again, several at a time, and looks for files that are
//! not listed. It changes nothing, and needs no state file: whoever has the folder can verify it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::place::{Place, PlaceError};
use super::sums::{SUMS, Sum};
use crate::names::DRAFTS;

/// Bytes read at once to be hashed.
const PIECE: usize = 256 * 1024;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The file is there and holds something else.
    Damaged(String),
    /// The file is not there.
    Missing(String),
    /// The file cannot be read.
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The file is there and nobody listed it.
    Unlisted(String),
}

/// How many files there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Files listed, each counted once.
    pub listed: u64,
    /// Of them, those that are whole.
    pub whole: u64,
    /// Files that are not listed.
    pub unlisted: u64,
}

impl Verified {
    /// Whether every file that is listed is whole.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole == self.listed
    }
}

/// Hashes again what the list at `place` names, `at_once` files at a time, and tells `found` what is
/// wrong, in no order that means anything. `progress` is told how many lines of how many are done.
/// `None` if there is no list.
///
/// # Errors
///
/// The list, or the place, cannot be read.
pub async fn verify(
    place: &Place,
    at_once: NonZeroUsize,
    mut found: impl FnMut(Finding),
    mut progress: impl FnMut(u64, u64),
) -> Result<Option<Verified>, PlaceError> {
    let unreadable = |source| PlaceError::Io { path: format!("{}/{SUMS}", place.address()), error: source };
    let Some(mut list) = place.read_list().await? else { return Ok(None) };
    let (total, listed) = last_lines(&mut list).map_err(unreadable)?;
    let mut verified = Verified::default();
    let lines = (0..).zip(BufReader::new(list).split(b'\n'));
    let sums = lines.filter_map(|(number, line): (u64, _)| match line.map(|line| Sum::parse(&line)) {
        Ok(Some(sum)) => (listed.get(&short(&sum.path)) == Some(&number)).then_some(Ok(sum)),
        Ok(None) => None,
        Err(error) => Some(Err(error)),
    });
    {
        let mut checked = stream::iter(sums)
            .map_err(unreadable)
            .map(async |sum| {
                let sum = sum?;
                Ok::<_, PlaceError>(check(place, sum).await)
            })
            .buffer_unordered(at_once.get());
        while let Some(finding) = checked.try_next().await? {
            verified.listed += 1;
            match finding {
                Some(finding) => found(finding),
                None => verified.whole += 1,
            }
            progress(verified.listed, total);
        }
    }
    let unlisted = |path: &str| {
        let ours = path == SUMS || Path::new(path).extension().is_some_and(|kind| kind == "json");
        !ours && !listed.contains_key(&short(path))
    };
    each_file(place, |path| {
        if unlisted(&path) {
            verified.unlisted += 1;
            found(Finding::Unlisted(path));
        }
    })
    .await?;
    Ok(Some(verified))
}

/// What is wrong with a listed file, if anything is.
async fn check(place: &Place, sum: Sum) -> Option<Finding> {
    let Sum { path, sha256 } = sum;
    let hash = match place {
        Place::Folder(folder) => {
            let Some(file) = inside(folder.address(), &path) else {
                return Some(Finding::Unreadable { path, why: "its name leads out of the folder".into() });
            };
            let hash = tokio::task::spawn_blocking(move || hash_of(&file)).await;
            hash.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| error.to_string())
        }
        #[cfg(feature = "bucket")]
        Place::Bucket(bucket) => {
            let hash = bucket.hash_if_there(&path).await;
            hash.map(|hash| hash.map(|content| content.sha256)).map_err(|error| error.to_string())
        }
    };
    match hash {
        Ok(Some(hash)) if hash == sha256 => None,
        Ok(Some(_)) => Some(Finding::Damaged(path)),
        Ok(None) => Some(Finding::Missing(path)),
        Err(why) => Some(Finding::Unreadable { path, why }),
    }
}

/// The file of this name below `root`, if the name does not lead out of it.
fn inside(root: &str, path: &str) -> Option<PathBuf> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| Path::new(root).join(path))
}

/// `None` if there is no such file.
fn hash_of(path: &Path) -> io::Result<Option<[u8; 32]>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Some(hash.finalize().into())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// Gives the name of each finished file at the place to `take`.
#[cfg_attr(not(feature = "bucket"), expect(clippy::unused_async, reason = "a bucket is waited for"))]
async fn each_file(place: &Place, mut take: impl FnMut(String)) -> Result<(), PlaceError> {
    match place {
        Place::Folder(folder) => {
            let root = Path::new(folder.address());
            let mut folders = vec![PathBuf::new()];
            while let Some(below) = folders.pop() {
                let failed =
                    |source| PlaceError::Io { path: root.join(&below).display().to_string(), error: source };
                for entry in fs::read_dir(root.join(&below)).map_err(failed)? {
                    let entry = entry.map_err(failed)?;
                    let path = below.join(entry.file_name());
                    // Links are neither followed nor files of ours.
                    let kind = entry.file_type().map_err(failed)?;
                    if kind.is_dir() && path != Path::new(DRAFTS) {
                        folders.push(path);
                    } else if kind.is_file() {
                        let parts = path.iter().map(|part| part.to_string_lossy());
                        take(parts.collect::<Vec<_>>().join("/"));
                    }
                }
            }
            Ok(())
        }
        #[cfg(feature = "bucket")]
        Place::Bucket(bucket) => {
            let mut objects = std::pin::pin!(bucket.objects());
            while let Some(object) = objects.try_next().await? {
                take(object.path);
            }
            Ok(())
        }
    }
}

/// How many lines there are, and which of them is the last about each file: who fetches a file again
/// adds a line. The list is at its beginning again then.
fn last_lines(list: &mut File) -> io::Result<(u64, HashMap<u64, u64>)> {
    let (mut count, mut of_file) = (0, HashMap::new());
    for line in BufReader::new(&mut *list).split(b'\n') {
        if let Some(sum) = Sum::parse(&line?) {
            of_file.insert(short(&sum.path), count);
        }
        count += 1;
    }
    list.rewind()?;
    Ok((count, of_file))
}

/// Enough of a hash to tell names apart: sixteen bytes of each line are in memory.
fn short(path: &str) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn verified(place: &Place) -> (Vec<String>, Option<Verified>, (u64, u64)) {
        let (mut findings, mut last) = (Vec::new(), (0, 0));
        let at_once = NonZeroUsize::new(3).unwrap();
        let found = |finding| findings.push(format!("{finding:?}"));
        let verified = verify(place, at_once, found, |done, of| last = (done, of)).await.unwrap();
        findings.sort();
        (findings, verified, last)
    }

    #[tokio::test]
    async fn what_is_damaged_missing_and_not_listed_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(folder.path().to_str().unwrap()).unwrap();
        assert_eq!(verified(&place).await.1, None);
        fs::create_dir(folder.path().join("x")).unwrap();
        for name in ["a.mp4", "x/b.mp4", "c.mp4", "gone.mp4"] {
            fs::write(folder.path().join(name), name).unwrap();
            place.list(&Sum { path: name.into(), sha256: Sha256::digest(name).into() }).unwrap();
        }
        // As when it was fetched again and the provider had made it anew.
        place.list(&Sum { path: "c.mp4".into(), sha256: [1; 32] }).unwrap();
        place.list(&Sum { path: "c.mp4".into(), sha256: Sha256::digest("c.mp4").into() }).unwrap();
        // As after a kill between the listing and the note of it.
        place.list(&Sum { path: "a.mp4".into(), sha256: Sha256::digest("a.mp4").into() }).unwrap();
        let whole = Verified { listed: 4, whole: 4, unlisted: 0 };
        assert_eq!(verified(&place).await, (vec![], Some(whole), (4, 7)));
        assert!(whole.is_whole());

        fs::write(folder.path().join("x/b.mp4"), "x/b.mp5").unwrap();
        fs::remove_file(folder.path().join("gone.mp4")).unwrap();
        fs::write(folder.path().join("x/new.mp4"), "").unwrap();
        fs::write(folder.path().join("a.json"), "{}").unwrap();
        fs::create_dir(folder.path().join(DRAFTS)).unwrap();
        fs::write(folder.path().join(DRAFTS).join("a.part"), "").unwrap();
        place.list(&Sum { path: "../a.mp4".into(), sha256: [0; 32] }).unwrap();
        let (findings, verified, _) = verified(&place).await;
        let expected = [
            "Damaged(\"x/b.mp4\")",
            "Missing(\"gone.mp4\")",
            "Unlisted(\"x/new.mp4\")",
            "Unreadable { path: \"../a.mp4\", why: \"its name leads out of the folder\" }",
        ];
        assert_eq!(findings, expected);
        assert_eq!(verified, Some(Verified { listed: 5, whole: 2, unlisted: 1 }));
    }
}
