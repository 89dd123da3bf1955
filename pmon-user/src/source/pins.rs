//! Pins: our maps and links as files under one bpffs directory.
//!
//! The directory is versioned by the kernel/user ABI and locked while a daemon
//! uses it, so that two daemons never share maps. What a dead daemon left in it
//! is nobody's to remove here: it may be all that knows of a death (see
//! `takeover`). Must stay true: a pin is only replaced by one that is complete
//! already, in one rename; what is not ours is set aside, never deleted.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use pmon_common::LAYOUT_VERSION;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat, statfs},
    io::Errno,
};
use thiserror::Error;

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// All our pins begin with this.
const PREFIX: &str = "pmon_";
/// Ends the name of a pin that is not in force yet. bpffs allows no dots in
/// names (`bpf_lookup` of `kernel/bpf/inode.c`).
const STAGED: &str = "_new";
/// Begins the name of what was in the way.
const ASIDE: &str = "aside_";

/// A locked bpffs directory. Dropping it unlocks and leaves the pins, which
/// outlive the daemon; [`PinDirectory::remove`] removes them.
#[derive(Debug)]
pub struct PinDirectory {
    path: PathBuf,
    lock: OwnedFd,
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
    /// Creates and locks `base/v<layout>`. What is in it stays; `repairs` is
    /// told of what had to be set aside.
    ///
    /// # Errors
    ///
    /// See [`PinDirectoryError`].
    pub fn acquire(base: &Path, repairs: &mut Vec<String>) -> Result<Self, PinDirectoryError> {
        let path = base.join(format!("v{LAYOUT_VERSION}"));
        if !is_bpffs(base) {
            return Err(PinDirectoryError::NotBpffs {
                path: base.to_path_buf(),
            });
        }
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
            let source = set_aside(&path, base, "it is no directory", repairs);
            if let Err(source) = source {
                return Err(PinDirectoryError::Io { path, source });
            }
        }
        let io = |source| PinDirectoryError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(&path).map_err(io)?;
        match Self::lock(path.clone()) {
            Ok(Some(directory)) => Ok(directory),
            Ok(None) => Err(PinDirectoryError::InUse { path }),
            Err(source) => Err(io(source)),
        }
    }

    /// Locks an existing directory of pins; `None` when another daemon has it.
    fn lock(path: PathBuf) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = open(&path, flags, Mode::empty())?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { path, lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The directories of other layouts beside this one which no daemon uses,
    /// locked.
    #[must_use]
    pub fn of_other_layouts(&self) -> Vec<Self> {
        let Some(base) = self.path.parent() else {
            return Vec::new();
        };
        list(base)
            .into_iter()
            .filter(|path| *path != self.path && is_layout(path))
            .filter_map(|path| Self::lock(path).ok().flatten())
            .collect()
    }

    /// Whether the locked directory is still the one of that name.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let Ok(named) = stat(&self.path) else {
            return false;
        };
        fstat(&self.lock)
            .is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino))
    }

    /// Where a pin of this name goes.
    #[must_use]
    pub fn pin(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where a pin of this name waits until it is put into force.
    #[must_use]
    pub fn staged(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{STAGED}"))
    }

    /// Puts a staged pin into force, in place of an earlier one.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put_into_force(&self, name: &str) -> io::Result<()> {
        fs::rename(self.staged(name), self.pin(name))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there, absolute, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<PathBuf> {
        list(&self.path)
    }

    /// Moves something that is in the way beside the directory, where it does no
    /// harm and its owner finds it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn set_aside(&self, path: &Path, why: &str, repairs: &mut Vec<String>) -> io::Result<()> {
        set_aside(path, self.path.parent().unwrap_or(&self.path), why, repairs)
    }

    /// Removes what an earlier daemon left besides the pins in force, and sets
    /// aside what is not ours.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn tidy(&self, in_force: &[&str], repairs: &mut Vec<String>) -> io::Result<()> {
        for path in self.list() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if in_force.contains(&&*name) {
                continue;
            }
            if name.starts_with(PREFIX) && !is_directory(&path) {
                fs::remove_file(&path)?;
            } else {
                self.set_aside(&path, "it is not pmon's", repairs)?;
            }
        }
        Ok(())
    }

    /// Removes the pins and the directories that became empty. What is not ours
    /// stays.
    ///
    /// # Errors
    ///
    /// When a pin cannot be removed.
    pub fn remove(self) -> Result<(), PinDirectoryError> {
        for path in self.list() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(PREFIX) && !is_directory(&path) {
                fs::remove_file(&path).map_err(|source| PinDirectoryError::Io { path, source })?;
            }
        }
        // Others may have put something beside us; then the directories stay.
        if fs::remove_dir(&self.path).is_ok()
            && let Some(base) = self.path.parent()
        {
            fs::remove_dir(base).ok();
        }
        Ok(())
    }
}

fn set_aside(path: &Path, base: &Path, why: &str, repairs: &mut Vec<String>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (0..1000)
        .map(|number| match number {
            0 => base.join(format!("{ASIDE}{name}")),
            _ => base.join(format!("{ASIDE}{name}_{number}")),
        })
        .find(|candidate| fs::symlink_metadata(candidate).is_err())
        .ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
    fs::rename(path, &free)?;
    repairs.push(format!(
        "`{}` was in the way: {why}; it is now `{}`",
        path.display(),
        free.display()
    ));
    Ok(())
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Whether this is `v<number>`, a directory.
fn is_layout(path: &Path) -> bool {
    let number = path
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix('v')?.parse::<u32>().ok());
    number.is_some() && is_directory(path)
}

/// Whether the nearest existing directory of `path` is on a bpffs.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|ancestor| statfs(ancestor).ok())
        .is_some_and(|stat| u64::try_from(stat.f_type) == Ok(BPF_FS_MAGIC))
}
