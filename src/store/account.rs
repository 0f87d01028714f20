//! Who uses an account on this machine, and how much of it.
//!
//! Each run holds a part of the account: a file in the account's folder, whose name carries the
//! part and the process, under an operating-system lock that ends with its process however that
//! ends. A file whose lock can be had is of a run that is over. Looking at the files and adding one
//! happens under a lock of the folder, held for that moment only; so the parts never add up to more
//! than the whole.
//!
//! The folder is in the user's state folder and named by a hash of the base URL under the key's
//! fingerprint, which tells nothing of either.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::schedule::share::Share;

/// Tries to have the folder to oneself, and the time between two. The others hold it for
/// milliseconds: more than five seconds mean that one of them is stopped.
const TRIES: u32 = 250;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Longest note of a holder that is read, in bytes.
const LONGEST_NOTE: u64 = 4096;

/// A part of an account, held until it is dropped.
#[derive(Debug)]
pub struct Part {
    _file: File,
    /// Requests for which the account is to be quiet first, since parts that have ended may have
    /// saved up as many; see [`crate::schedule::share::quiet`].
    pub owed: u32,
}

/// Who asks for a part.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// How much of the account.
    pub share: Share,
    /// Requests that its gate lets through at once.
    pub burst: u32,
    /// What others are told of the run, such as the manifest's name.
    pub holder: &'a str,
}

/// A run that holds a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What it says of itself, its process first.
    pub note: String,
    /// How much it holds.
    pub share: Share,
}

/// Why a part was not had.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Too little is left of the account.
    #[error(
        "this account is in use by {}; another {asked} is more than the whole: wait, or give each run its --share",
        listed(holders)
    )]
    Taken {
        /// Who has it.
        holders: Vec<Holder>,
        /// What was asked for.
        asked: Share,
    },
    /// Another process keeps the account's folder to itself.
    #[error("{} stays locked: another batchveo is stopped or hangs while it starts", path.display())]
    Stuck {
        /// The lock.
        path: PathBuf,
    },
    /// The account's folder cannot be used.
    #[error(
        "cannot note in {} that this account is in use: set XDG_STATE_HOME to a folder that can be written",
        path.display()
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn listed(holders: &[Holder]) -> String {
    let each = holders.iter().map(ToString::to_string).collect::<Vec<_>>();
    each.join(" and ")
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.share == Share::WHOLE {
            f.write_str(&self.note)
        } else {
            write!(f, "{} with {}", self.note, self.share)
        }
    }
}

impl Part {
    /// Takes a part of the account whose folder is `folder`, made if need be.
    ///
    /// # Errors
    ///
    /// [`AccountError::Taken`] names those who hold too much of it.
    pub fn take(folder: &Path, claim: Claim<'_>) -> Result<Self, AccountError> {
        fs::create_dir_all(folder).map_err(|source| AccountError::Io { path: folder.into(), source })?;
        // Until the end of this function nobody else looks or takes.
        let _to_ourselves = lock_folder(&folder.join("folder.lock"))?;
        let failed = |source| AccountError::Io { path: folder.into(), source };
        let mut holders = Vec::new();
        // What has ended since the last run came, and what that run still waits for.
        let (mut ended, mut waited_for): (u32, u32) = (0, 0);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|name| Name::parse(name.to_str()?)) else { continue };
            match found(&path).map_err(|source| AccountError::Io { path: path.clone(), source })? {
                Found::Over if name.share == Share::WHOLE => {}
                Found::Over => ended = ended.saturating_add(name.burst),
                Found::Held(note) => {
                    waited_for = waited_for.max(name.owed);
                    let note = note.unwrap_or_else(|| format!("process {}", name.process));
                    holders.push(Holder { note, share: name.share });
                }
            }
        }
        let held: u32 = holders.iter().map(|holder| holder.share.hundredths()).sum();
        if held + claim.share.hundredths() > Share::WHOLE.hundredths() {
            holders.sort_by(|one, other| one.note.cmp(&other.note));
            return Err(AccountError::Taken { holders, asked: claim.share });
        }
        let owed = ended.saturating_add(waited_for);
        let file = hold(folder, claim, owed).map_err(failed)?;
        Ok(Self { _file: file, owed })
    }
}

/// Has the account's folder to oneself until the answer is dropped.
fn lock_folder(path: &Path) -> Result<File, AccountError> {
    let failed = |source| AccountError::Io { path: path.into(), source };
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(AccountError::Stuck { path: path.into() })
}

/// What the file of a part tells.
enum Found {
    /// Its run is over; the file is gone now.
    Over,
    /// Its run goes on. Where locks are mandatory its note cannot be read.
    Held(Option<String>),
}

fn found(path: &Path) -> io::Result<Found> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            // Where an open file cannot be removed, it stays, and is of no run the next time either.
            drop(file);
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(Found::Over),
            }
        }
        Err(TryLockError::WouldBlock) => {
            let mut note = String::new();
            let read = file.take(LONGEST_NOTE).read_to_string(&mut note);
            Ok(Found::Held(read.ok().map(|_| note.trim().to_owned()).filter(|note| !note.is_empty())))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a part's file and locks it. Whoever dies in between leaves a file that is of no run.
fn hold(folder: &Path, claim: Claim<'_>, owed: u32) -> io::Result<File> {
    let process = std::process::id();
    let mut number = 0;
    loop {
        let name = Name { share: claim.share, burst: claim.burst, owed, process, number };
        match OpenOptions::new().create_new(true).read(true).write(true).open(folder.join(name.to_string())) {
            Ok(mut file) => {
                match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                    Err(TryLockError::Error(error)) => return Err(error),
                }
                file.write_all(format!("process {process} ({})\n", claim.holder).as_bytes())?;
                return Ok(file);
            }
            // This process holds other parts, as a program with several runs does.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The name of a part's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    share: Share,
    burst: u32,
    /// Those who come while it may still be waiting wait as long.
    owed: u32,
    process: u32,
    /// Which of the process's parts.
    number: u32,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let mut numbers =
            name.strip_prefix("part-")?.strip_suffix(".lock")?.split('-').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        let parsed = Self {
            share: Share::from_hundredths(next()?)?,
            burst: next()?,
            owed: next()?,
            process: next()?,
            number: next()?,
        };
        numbers.next().is_none().then_some(parsed)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, burst, owed, process, number } = self;
        write!(f, "part-{}-{burst}-{owed}-{process}-{number}.lock", share.hundredths())
    }
}

/// The folder of an account: in the user's state folder, named by a hash of the base URL under the
/// key's fingerprint.
#[must_use]
pub fn account_folder(state_home: &Path, base_url: &str, key_fingerprint: &[u8; 32]) -> PathBuf {
    let name = blake3::keyed_hash(key_fingerprint, base_url.as_bytes()).to_hex();
    state_home.join("batchveo").join("accounts").join(&name[..32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn claim(percent: u32) -> Claim<'static> {
        Claim { share: Share::from_hundredths(percent * 100).unwrap(), burst: percent / 2, holder: "p.csv" }
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != "folder.lock")
            .count()
    }

    #[test]
    fn the_whole_is_for_one_and_the_next_learns_who() {
        let home = tempfile::tempdir().unwrap();
        let folder = account_folder(home.path(), "https://a.example", &[7; 32]);
        let whole = Part::take(&folder, claim(100)).unwrap();
        let told = Part::take(&folder, claim(1)).unwrap_err().to_string();
        let process = std::process::id();
        let expected = format!("this account is in use by process {process} (p.csv); another 1% is more");
        assert!(told.starts_with(&expected), "{told}");
        drop(whole);
        // A whole that is over leaves nothing to wait for.
        assert_eq!(Part::take(&folder, claim(100)).unwrap().owed, 0);
    }

    #[test]
    fn parts_that_fit_are_had_and_one_too_many_is_told_of_all() {
        let home = tempfile::tempdir().unwrap();
        let first = Part::take(home.path(), claim(50)).unwrap();
        let _second = Part::take(home.path(), claim(30)).unwrap();
        let told = Part::take(home.path(), claim(30)).unwrap_err().to_string();
        assert!(told.contains("(p.csv) with 50%") && told.contains("(p.csv) with 30%"), "{told}");
        assert!(told.contains("another 30%"), "{told}");
        drop(first);
        let third = Part::take(home.path(), claim(70)).unwrap();
        assert_eq!(third.owed, 25);
        // Whoever comes while another waits, waits as long; what was waited for is then forgotten.
        drop(third);
        let fourth = Part::take(home.path(), claim(10)).unwrap();
        assert_eq!(fourth.owed, 35);
        let fifth = Part::take(home.path(), claim(20)).unwrap();
        assert_eq!(fifth.owed, 35);
        drop((fourth, fifth));
        assert_eq!(Part::take(home.path(), claim(10)).unwrap().owed, 15);
        assert_eq!(files(home.path()), 2);
    }

    #[test]
    fn files_of_no_run_are_removed_and_strangers_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("part-10000-50-0-4294967295-0.lock"), "").unwrap();
        fs::write(home.path().join("part-6000-30-9-12-0.lock"), "killed before it was locked").unwrap();
        fs::write(home.path().join("part-x-50-0-1-0.lock"), "").unwrap();
        let part = Part::take(home.path(), claim(100)).unwrap();
        assert_eq!((part.owed, files(home.path())), (30, 2));
    }

    #[test]
    fn accounts_do_not_share_a_folder() {
        let path = |url, key: u8| account_folder(Path::new("/s"), url, &[key; 32]);
        assert_ne!(path("https://a.example", 1), path("https://a.example", 2));
        assert_ne!(path("https://a.example", 1), path("https://b.example", 1));
    }

    #[test]
    fn those_who_come_at_once_do_not_get_more_than_there_is() {
        let home = tempfile::tempdir().unwrap();
        let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for percent in [40, 40, 30, 60, 100, 20] {
                let (folder, held, most) = (home.path(), &held, &most);
                scope.spawn(move || {
                    for _ in 0..30 {
                        if let Ok(part) = Part::take(folder, claim(percent)) {
                            most.fetch_max(
                                held.fetch_add(percent, Ordering::SeqCst) + percent,
                                Ordering::SeqCst,
                            );
                            held.fetch_sub(percent, Ordering::SeqCst);
                            drop(part);
                        }
                    }
                });
            }
        });
        assert!((20..=100).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn parts_never_exceed_the_whole_and_what_fits_is_had(
            asked in proptest::collection::vec((1_u32..=10_000, any::<bool>()), 1..30),
        ) {
            let home = tempfile::tempdir().unwrap();
            let mut held: Vec<(u32, Part)> = Vec::new();
            for (hundredths, leaves) in asked {
                if leaves && !held.is_empty() {
                    held.remove(0);
                }
                let sum: u32 = held.iter().map(|(hundredths, _)| hundredths).sum();
                let claim = Claim { share: Share::from_hundredths(hundredths).unwrap(), burst: 1, holder: "x" };
                let part = Part::take(home.path(), claim);
                prop_assert_eq!(part.is_ok(), sum + hundredths <= 10_000);
                held.extend(part.map(|part| (hundredths, part)));
            }
        }
    }
}
