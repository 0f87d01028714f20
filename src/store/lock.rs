//! Who may use a state file: one process at a time.
//!
//! A lock is an operating-system lock on a small file of its own, so it ends with its process
//! however that ends. The file is never the database, which others must be able to read, and it
//! stays behind after release: removing it would let two processes lock two files of one name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {holder}: wait for it to end, or stop it", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the other process wrote about itself.
        holder: String,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}: its folder must take files, or --state name another", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Lock {
    /// Locks the file at `path`, made with its folder if need be, and writes `holder` (such as the
    /// manifest's name) and this process's number into it.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] names the process that has it.
    pub fn acquire(path: &Path, holder: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.into(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
                let pid = std::process::id();
                file.write_all(format!("process {pid} ({holder})\n").as_bytes()).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                // Where locks are mandatory the holder's note cannot be read.
                let mut note = String::new();
                let holder = match file.take(4096).read_to_string(&mut note) {
                    Ok(_) if !note.trim().is_empty() => note.trim().to_owned(),
                    Ok(_) | Err(_) => "another process".to_owned(),
                };
                Err(LockError::Held { path: path.into(), holder })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// The lock of a state file.
#[must_use]
pub fn state_lock_path(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_handle_learns_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = state_lock_path(&folder.path().join("made").join("a.db"));
        let first = Lock::acquire(&path, "prompts.csv").unwrap();
        let told = Lock::acquire(&path, "other.csv").unwrap_err().to_string();
        assert!(told.contains(&format!("process {} (prompts.csv)", std::process::id())), "{told}");
        drop(first);
        let second = Lock::acquire(&path, "x").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("process {} (x)\n", std::process::id()));
        drop(second);
        assert!(path.exists() && path.ends_with("a.db.lock"));
    }
}
