//! Our own maps and links as pins: making them, and finding out whether they
//! are still there.
//!
//! A pin is staged under another name first and put into force by a rename, so
//! that there is the earlier one or ours at any time. What an earlier daemon
//! has pinned is looked at in `takeover`.

use std::{
    fs, io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, PinnedLink};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{
    pins::{PinDirectory, PinDirectoryError},
    programs::ProgramLink,
};
use crate::{
    causes::in_full,
    sys::bpf::{self, Access, PinnedMap},
};

/// Where we pin, whether or not that is possible just now.
#[derive(Debug)]
pub(super) struct Pins {
    base: PathBuf,
    directory: Option<PinDirectory>,
}

impl Pins {
    /// The directory of our layout under `base`; why there is none, otherwise.
    /// One that another daemon has is not waited for.
    pub(super) fn acquire(
        base: &Path,
        repairs: &mut Vec<String>,
    ) -> (Option<Self>, Option<String>) {
        let (directory, problem) = match PinDirectory::acquire(base, repairs) {
            Ok(directory) => (Some(directory), None),
            Err(error @ PinDirectoryError::InUse { .. }) => return (None, Some(in_full(&error))),
            Err(error) => (None, Some(in_full(&error))),
        };
        let base = base.to_owned();
        (Some(Self { base, directory }), problem)
    }

    pub(super) const fn directory(&self) -> Option<&PinDirectory> {
        self.directory.as_ref()
    }

    /// The directory, made anew if somebody has removed it.
    pub(super) fn renew(&mut self, repairs: &mut Vec<String>) -> Result<&PinDirectory, String> {
        if self.directory.as_ref().is_some_and(|it| !it.is_there()) {
            self.directory = None;
        }
        match &mut self.directory {
            Some(directory) => Ok(directory),
            none => {
                let made =
                    PinDirectory::acquire(&self.base, repairs).map_err(|error| in_full(&error))?;
                Ok(none.insert(made))
            }
        }
    }

    pub(super) fn remove(self) -> Result<(), PinDirectoryError> {
        match self.directory {
            Some(directory) => directory.remove(),
            None => Ok(()),
        }
    }
}

/// Pins a map under its staged name.
pub(super) fn stage(directory: &PinDirectory, name: &str, map: BorrowedFd<'_>) -> io::Result<()> {
    let path = directory.staged(name);
    make_free(&path)?;
    bpf::pin(map, &path)
}

/// Pins links under their staged names and gives them back. On an error they
/// are lost.
pub(super) fn stage_links(
    directory: &PinDirectory,
    links: Vec<ProgramLink>,
) -> Result<Vec<ProgramLink>, String> {
    links
        .into_iter()
        .map(|ProgramLink { program, link }| {
            let path = directory.staged(program);
            make_free(&path).map_err(|error| in_full(&error))?;
            let pinned = link.pin(path).map_err(|error| in_full(&error))?;
            Ok(ProgramLink {
                program,
                link: FdLink::from(pinned),
            })
        })
        .collect()
}

/// What a daemon that was killed in between has left there.
fn make_free(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Sets aside what a rename could not replace, or should not: an earlier pin of
/// ours goes when ours takes its place, other things are somebody's.
pub(super) fn clear_the_way(
    directory: &PinDirectory,
    name: &str,
    repairs: &mut Vec<String>,
) -> Result<(), String> {
    let path = directory.pin(name);
    let why = match fs::symlink_metadata(&path) {
        Err(_) => return Ok(()),
        Ok(found) if !found.is_file() => "it is no pin".to_owned(),
        Ok(_) => match PinnedMap::open(&path, Access::Read) {
            Ok(map) if map.info().name() != name.as_bytes() => {
                format!(
                    "it is the map `{}`",
                    map.info().name_as_str().unwrap_or("?")
                )
            }
            Ok(_) | Err(_) => return Ok(()),
        },
    };
    directory
        .set_aside(&path, &why, repairs)
        .map_err(|error| in_full(&error))
}

/// Says so where the file system is mounted read-only.
pub(super) fn writable(directory: &PinDirectory) -> Result<(), String> {
    let path = directory.path();
    match statvfs(path) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => Err(format!(
            "`{}` is on a bpffs that is mounted read-only",
            path.display()
        )),
        Ok(_) => Ok(()),
        Err(errno) => Err(format!("cannot look at `{}`: {errno}", path.display())),
    }
}

/// Whether the map of this id is pinned there.
pub(super) fn is_map(path: &Path, id: u32) -> bool {
    PinnedMap::open(path, Access::Read).is_ok_and(|map| map.info().id() == id)
}

/// Whether this link is pinned there.
pub(super) fn is_link(path: &Path, link: &FdLink) -> bool {
    let Ok(ours) = link.info() else {
        // A kernel that does not tell (before 5.8): then that there is something.
        return path.exists();
    };
    bpf::is_link(path)
        && PinnedLink::from_pin(path).is_ok_and(|pin| {
            FdLink::from(pin)
                .info()
                .is_ok_and(|it| it.id() == ours.id())
        })
}
