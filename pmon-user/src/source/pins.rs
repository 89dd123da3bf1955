//! Pins: our maps and links as files under one bpffs directory.
//!
//! The directory is versioned by the kernel/user ABI and locked while a daemon
//! uses it, so that two daemons never share maps. Pins that a dead daemon left
//! behind are replaced.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use pmon_common::LAYOUT_VERSION;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open, statfs},
    io::Errno,
};
use thiserror::Error;

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// A locked bpffs directory. Dropping it unlocks; [`PinDirectory::remove`]
/// also removes the pins.
#[derive(Debug)]
pub struct PinDirectory {
    path: PathBuf,
    _lock: OwnedFd,
}

/// Why nothing can be pinned.
#[derive(Debug, Error)]
pub enum PinDirectoryError {
    /// No bpffs there.
    #[error("`{}` is not on a bpffs; mount one with `mount -t bpf bpf /sys/fs/bpf`", path.display())]
    NotBpffs {
        /// The directory.
        path: PathBuf,
    },
    /// Another daemon has it.
    #[error("`{}` is in use by another daemon; give each its own `--pin-dir`", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl PinDirectory {
    /// Creates and locks `base/v<layout>` and removes what a dead daemon left in it.
    ///
    /// # Errors
    ///
    /// See [`PinDirectoryError`].
    pub fn acquire(base: &Path) -> Result<Self, PinDirectoryError> {
        let path = base.join(format!("v{LAYOUT_VERSION}"));
        let io = |source| PinDirectoryError::Io {
            path: path.clone(),
            source,
        };
        if !is_bpffs(base) {
            return Err(PinDirectoryError::NotBpffs {
                path: base.to_path_buf(),
            });
        }
        fs::create_dir_all(&path).map_err(io)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = open(&path, flags, Mode::empty()).map_err(|errno| io(errno.into()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(PinDirectoryError::InUse { path }),
            Err(errno) => return Err(io(errno.into())),
        }
        let directory = Self { path, _lock: lock };
        directory.clear()?;
        Ok(directory)
    }

    /// Where a pin of this name goes.
    #[must_use]
    pub fn pin(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pins that are there, absolute, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let mut pins: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        pins.sort();
        pins
    }

    /// Removes the pins and the directories that became empty.
    ///
    /// # Errors
    ///
    /// When a pin cannot be removed.
    pub fn remove(self) -> Result<(), PinDirectoryError> {
        self.clear()?;
        // Others may have put something beside us; then the directories stay.
        if fs::remove_dir(&self.path).is_ok()
            && let Some(base) = self.path.parent()
        {
            fs::remove_dir(base).ok();
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), PinDirectoryError> {
        for path in self.list() {
            fs::remove_file(&path).map_err(|source| PinDirectoryError::Io { path, source })?;
        }
        Ok(())
    }
}

/// Whether the nearest existing directory of `path` is on a bpffs.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|ancestor| statfs(ancestor).ok())
        .is_some_and(|stat| u64::try_from(stat.f_type) == Ok(BPF_FS_MAGIC))
}
