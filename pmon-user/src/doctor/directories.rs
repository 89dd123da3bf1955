//! The run directory and the state directory: there, ours, writable, with room.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD, accessat, statvfs};

use super::outcome::{degraded, errno, failed, ok};
use crate::view::diagnosis::CheckView;

/// Free bytes under which a directory counts as full: what the journal of a busy
/// day takes.
const ROOM: u64 = 1 << 20;
/// `S_IWGRP | S_IWOTH` (inode(7)).
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing; whether it could be made.
    Absent { makeable: bool },
    /// Something that is not a directory.
    NotADirectory,
    /// An error number.
    Unreadable(i32),
    /// A directory.
    Directory {
        /// Owner.
        uid: u32,
        /// Permission bits.
        mode: u32,
        /// Whether it may be written: an error number, if not.
        writable: Result<(), i32>,
        /// Bytes that may still be written.
        free: u64,
    },
}

/// A directory of the daemon's.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) found: Found,
}

/// Which one, and so how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// No daemon without it.
    Run,
    /// Without it nothing survives a restart.
    State,
}

impl Directory {
    /// Looks at `path` as the calling user.
    pub(super) fn look(path: &Path) -> Self {
        let writable = |path: &Path| {
            accessat(
                CWD,
                path,
                Access::WRITE_OK | Access::EXEC_OK,
                AtFlags::EACCESS,
            )
            .map_err(rustix::io::Errno::raw_os_error)
        };
        let found = match fs::metadata(path) {
            Ok(found) if found.is_dir() => Found::Directory {
                uid: found.uid(),
                mode: found.mode() & 0o7777,
                writable: writable(path),
                // Where it cannot be told, it is not complained about.
                free: statvfs(path).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize)),
            },
            Ok(_) => Found::NotADirectory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Absent {
                makeable: path
                    .ancestors()
                    .find(|ancestor| ancestor.exists())
                    .is_some_and(|nearest| nearest.is_dir() && writable(nearest).is_ok()),
            },
            Err(error) => Found::Unreadable(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        Self {
            path: path.to_owned(),
            found,
        }
    }

    /// `run-directory` or `state-directory`. `running` says that a daemon uses
    /// it, which would have made it.
    pub(super) fn check(&self, purpose: Purpose, euid: u32, running: bool) -> CheckView {
        let (name, option, loss) = match (purpose, running) {
            (Purpose::Run, false) => ("run-directory", "--run-dir", "the daemon cannot start"),
            (Purpose::Run, true) => (
                "run-directory",
                "--run-dir",
                "no daemon can start here again",
            ),
            (Purpose::State, _) => (
                "state-directory",
                "--state-dir",
                "registrations and incidents do not survive a restart",
            ),
        };
        let path = self.path.display();
        // A daemon that runs works on without either.
        let bad = match purpose {
            Purpose::Run if !running => failed,
            Purpose::Run | Purpose::State => degraded,
        };
        match self.found {
            Found::Absent { makeable: true } if !running => {
                ok(name, format!("`{path}` will be created"))
            }
            Found::Absent { makeable: true } => degraded(
                name,
                format!("`{path}` was removed while the daemon runs"),
                match purpose {
                    Purpose::Run => {
                        "`systemctl restart pmon`, or end `pmon daemon` and start it again"
                            .to_owned()
                    }
                    Purpose::State => format!("`mkdir -p {path}`"),
                },
            ),
            Found::Absent { makeable: false } => bad(
                name,
                format!("`{path}` cannot be created: {loss}"),
                format!("`sudo install -d -o {euid} -m 0755 {path}`; or another `{option} DIR`"),
            ),
            Found::NotADirectory => bad(
                name,
                format!("`{path}` is not a directory: {loss}"),
                format!("`mv {path} {path}.old`; or another `{option} DIR`"),
            ),
            Found::Unreadable(number) => bad(
                name,
                format!("`{path}` cannot be looked at: {}", errno(number)),
                format!("`sudo install -d -o {euid} -m 0755 {path}`; or another `{option} DIR`"),
            ),
            Found::Directory {
                writable: Err(libc::EROFS),
                ..
            } => bad(
                name,
                format!("`{path}` is on a read-only file system: {loss}"),
                format!(
                    "`mount -o remount,rw $(findmnt -no TARGET -T {path})`; or another `{option} DIR`"
                ),
            ),
            Found::Directory {
                writable: Err(number),
                uid,
                ..
            } => bad(
                name,
                format!(
                    "`{path}` (owner {uid}) may not be written: {}: {loss}",
                    errno(number)
                ),
                format!("`chown {euid} {path}`; or another `{option} DIR`"),
            ),
            Found::Directory { uid, .. } if uid != euid && uid != 0 => degraded(
                name,
                format!("`{path}` belongs to uid {uid}, who can replace what is in it"),
                format!("`chown {euid} {path}`"),
            ),
            Found::Directory { mode, .. } if mode & WRITABLE_BY_OTHERS != 0 => degraded(
                name,
                format!("`{path}` has mode {mode:04o}: others can replace what is in it"),
                format!("`chmod go-w {path}`"),
            ),
            Found::Directory { free, .. } if free < ROOM => degraded(
                name,
                format!("`{path}` is full ({free} bytes are left): {loss}"),
                format!("make room: `df {path}`, `du -xh {path} | sort -h | tail`"),
            ),
            Found::Directory { mode, .. } => ok(name, format!("`{path}`, mode {mode:04o}")),
        }
    }
}
