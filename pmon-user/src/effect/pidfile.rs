//! Taking a pidfile away from a process that is about to be killed.
//!
//! Must stay true: only a regular file whose first line names the process is
//! removed; a link, FIFO, device or directory of that name is left alone, and
//! so is a file that a successor has put there meanwhile.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat},
    io::Errno,
};
use thiserror::Error;

use crate::core::identity::Identity;

/// How much of the first line pmond looks at, in bytes (pmond.md §2.10).
const LINE_LIMIT: u64 = 64;

/// What became of a pidfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is gone.
    Removed,
    /// It was gone already.
    Absent,
    /// It names another process, or none; it stays.
    NamesAnother,
    /// Nobody waits for the removal any more; it stays.
    Abandoned,
}

impl Removal {
    /// In a word or two, for the trace of what was done.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Absent => "was absent",
            Self::NamesAnother => "names another",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Why a pidfile could not be removed.
#[derive(Debug, Error)]
pub(super) enum PidfileError {
    /// Not a file one may read and remove on its word.
    #[error("pidfile `{}` is {kind}, not a regular file; left alone", path.display())]
    NotRegular {
        /// The pidfile.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// The path has no directory or no name.
    #[error("`{}` is no name of a pidfile", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot {action} pidfile `{}`: {}", path.display(), super::errno_name(*source))]
    Refused {
        /// What was being done.
        action: &'static str,
        /// The pidfile.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Removes `path` if it still names `identity`. May block for as long as the
/// file system does; when `abandoned` becomes true meanwhile, nothing is removed.
///
/// # Errors
///
/// See [`PidfileError`].
pub(super) fn remove(
    path: &Path,
    identity: Identity,
    abandoned: &AtomicBool,
) -> Result<Removal, PidfileError> {
    let refused = |action| {
        move |source| PidfileError::Refused {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let no_name = || PidfileError::NoName {
        path: path.to_owned(),
    };
    let directory = path.parent().ok_or_else(no_name)?;
    let name = path.file_name().ok_or_else(no_name)?;
    // Held open so that the file looked at and the one removed are in the same
    // directory, whatever is renamed meanwhile.
    let directory = match openat(
        CWD,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Removal::Absent),
        Err(errno) => return Err(refused("open the directory of")(errno)),
    };
    // Looked at before it is opened: opening a FIFO or a device does something.
    let seen = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(seen) => seen,
        Err(Errno::NOENT) => return Ok(Removal::Absent),
        Err(errno) => return Err(refused("look at")(errno)),
    };
    let regular = |stat: &Stat| match irregular(FileType::from_raw_mode(stat.st_mode)) {
        None => Ok(()),
        Some(kind) => Err(PidfileError::NotRegular {
            path: path.to_owned(),
            kind,
        }),
    };
    regular(&seen)?;
    let file = match openat(
        &directory,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Removal::Absent),
        Err(errno) => return Err(refused("read")(errno)),
    };
    let opened = fstat(&file).map_err(refused("look at"))?;
    regular(&opened)?;
    let mut text = Vec::new();
    std::fs::File::from(file)
        .take(LINE_LIMIT)
        .read_to_end(&mut text)
        .map_err(|error| refused("read")(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    if named(&text) != Some(identity.pid) {
        return Ok(Removal::NamesAnother);
    }
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if (now.st_dev, now.st_ino) == (opened.st_dev, opened.st_ino) => {}
        Ok(_) => return Ok(Removal::NamesAnother),
        Err(Errno::NOENT) => return Ok(Removal::Absent),
        Err(errno) => return Err(refused("look at")(errno)),
    }
    if abandoned.load(Ordering::Acquire) {
        return Ok(Removal::Abandoned);
    }
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) => Ok(Removal::Removed),
        Err(Errno::NOENT) => Ok(Removal::Absent),
        Err(errno) => Err(refused("remove")(errno)),
    }
}

/// The pid on the first line, as pmond reads it: after optional blanks,
/// whatever follows the digits ignored. Signs make it no pid.
fn named(text: &[u8]) -> Option<u32> {
    let line = text.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
    let digits = line
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(line.len());
    str::from_utf8(line.get(..digits)?).ok()?.parse().ok()
}

/// What a file is, if it is not a regular one.
const fn irregular(file_type: FileType) -> Option<&'static str> {
    Some(match file_type {
        FileType::RegularFile => return None,
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown kind",
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::mknodat;

    use super::*;

    const WHO: Identity = Identity {
        pid: 4711,
        start_time: 99,
    };

    fn remove(path: &Path) -> Result<Removal, PidfileError> {
        super::remove(path, WHO, &AtomicBool::new(false))
    }

    #[test]
    fn a_file_that_names_the_process_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pid");
        for text in [
            "4711",
            "4711\n",
            "  4711 \n",
            "4711 trailing\nmore",
            "\t4711x",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(remove(&path).unwrap(), Removal::Removed, "{text:?}");
            assert!(!path.exists());
        }
        assert_eq!(remove(&path).unwrap(), Removal::Absent);
        assert_eq!(
            remove(&directory.path().join("no/x.pid")).unwrap(),
            Removal::Absent
        );
    }

    #[test]
    fn a_file_that_names_another_process_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pid");
        for text in [
            "4712",
            "47110",
            "471",
            "-4711",
            "+4711",
            "",
            "\n4711",
            "x4711",
            "99999999999",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(remove(&path).unwrap(), Removal::NamesAnother, "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::write(&target, "4711\n").unwrap();
        let link = directory.path().join("link");
        symlink(&target, &link).unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let folder = directory.path().join("folder");
        fs::create_dir(&folder).unwrap();
        for (path, kind) in [
            (&link, "a symbolic link"),
            (&fifo, "a FIFO"),
            (&folder, "a directory"),
        ] {
            let error = remove(path).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "pidfile `{}` is {kind}, not a regular file; left alone",
                    path.display()
                )
            );
            assert!(path.symlink_metadata().is_ok());
        }
        assert!(target.exists());
    }

    #[test]
    fn an_abandoned_removal_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pid");
        fs::write(&path, "4711\n").unwrap();
        assert_eq!(
            super::remove(&path, WHO, &AtomicBool::new(true)).unwrap(),
            Removal::Abandoned
        );
        assert!(path.exists());
    }
}
