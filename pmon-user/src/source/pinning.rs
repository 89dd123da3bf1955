//! Our own maps and links as pins: making them, and finding out whether they
//! are still there.
//!
//! A pin is staged under another name first and put into force by a rename, so
//! that there is the earlier one or ours at any time. What an earlier daemon
//! has pinned is looked at in `takeover`.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    maps::IterableMap as _,
    programs::links::{FdLink, PinnedLink},
};
use pmon_common::{EVENTS_MAP, FILTER_MAP, PIDS_MAP, STATS_MAP};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{
    ebpf::Ebpf,
    pins::{PinDirectory, PinDirectoryError},
    programs::{self, ProgramLink},
    takeover::{self, Inventory},
};
use crate::{
    causes::in_full,
    sys::bpf::{self, Access, PinnedMap},
};

/// The maps that are pinned.
const MAPS: [&str; 4] = [PIDS_MAP, EVENTS_MAP, STATS_MAP, FILTER_MAP];

/// How the pins are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinHealth {
    /// Why not everything is pinned although it was asked for.
    pub unpinned: Option<String>,
    /// What was wrong and has just been put right.
    pub repaired: Vec<String>,
}

/// Where we pin, whether or not that is possible just now.
///
/// A directory that another daemon has is asked for again and again. When that
/// daemon ends in order the directory is empty and ours. When it is killed, its
/// pins are left, with what its programs have noted since, and it has time until
/// the next look to come back for them.
#[derive(Debug)]
pub(super) struct Pins {
    base: PathBuf,
    directory: Option<PinDirectory>,
    /// Another daemon had it when it was last looked at.
    in_use: bool,
}

impl Pins {
    /// The directory of our layout under `base`; why there is none, otherwise.
    /// One that another daemon has is not waited for.
    pub(super) fn acquire(base: &Path, repairs: &mut Vec<String>) -> (Self, Option<String>) {
        let mut pins = Self {
            base: base.to_owned(),
            directory: None,
            in_use: false,
        };
        let problem = match PinDirectory::acquire(base, repairs) {
            Ok(directory) => {
                pins.directory = Some(directory);
                None
            }
            Err(error) => Some(pins.note(&error)),
        };
        (pins, problem)
    }

    /// Remembers whose it is; what there is to say.
    fn note(&mut self, error: &PinDirectoryError) -> String {
        self.in_use = matches!(error, PinDirectoryError::InUse { .. });
        in_full(error)
    }

    pub(super) const fn directory(&self) -> Option<&PinDirectory> {
        self.directory.as_ref()
    }

    /// The directory, made anew if somebody has removed it.
    pub(super) fn renew(&mut self, repairs: &mut Vec<String>) -> Result<&PinDirectory, String> {
        if self.directory.as_ref().is_some_and(|it| !it.is_there()) {
            self.directory = None;
        }
        if self.directory.is_none() {
            let made = PinDirectory::acquire(&self.base, repairs);
            let made = made.map_err(|error| self.note(&error))?;
            let was_in_use = std::mem::take(&mut self.in_use);
            if was_in_use && !made.list().is_empty() {
                return Err(format!(
                    "`{}` holds what another daemon left that was killed; unless it comes back \
                     for it until the next look (`audit_interval`), this one takes the directory",
                    made.path().display()
                ));
            }
            if !made.list().is_empty() {
                repairs.push(format!(
                    "`{}` was left by another daemon; it is ours now",
                    made.path().display()
                ));
            }
            self.directory = Some(made);
        }
        self.directory
            .as_ref()
            .ok_or_else(|| "there is no directory".to_owned())
    }

    pub(super) fn remove(self) -> Result<(), PinDirectoryError> {
        match self.directory {
            Some(directory) => directory.remove(),
            None => Ok(()),
        }
    }
}

impl Ebpf {
    /// Takes over the entries and counters of earlier maps that are not reused.
    pub(super) fn copy_from(&mut self, inventory: &Inventory) -> Result<(), String> {
        for counters in &inventory.counters {
            takeover::copy_counters(counters, &mut self.stats)?;
        }
        for table in &inventory.tables {
            let copied = takeover::copy_table(table, self)?;
            tracing::info!(
                entries = copied.entries,
                left_out = copied.left_out,
                map = table.info().id(),
                "took over an earlier table"
            );
        }
        Ok(())
    }

    /// Pins everything, in place of what an earlier daemon has pinned. On an
    /// error the links may be lost; what is pinned already stays.
    pub(super) fn pin_all(&mut self, others: Vec<PinDirectory>) -> Result<(), String> {
        let Some(directory) = self.pins.as_ref().and_then(Pins::directory) else {
            return Ok(());
        };
        writable(directory)?;
        for (name, map) in self.map_descriptors() {
            stage(directory, name, map).map_err(|error| in_full(&error))?;
        }
        let links = std::mem::take(&mut self.links);
        self.links = stage_links(directory, links)?;
        // From here on the new programs outlive us, whatever happens.
        let mut names: Vec<&str> = MAPS.to_vec();
        names.extend(self.links.iter().map(|link| link.program));
        for name in &names {
            clear_the_way(directory, name, &mut self.repairs)?;
            directory
                .put_into_force(name)
                .map_err(|error| in_full(&error))?;
        }
        directory
            .tidy(&names, &mut self.repairs)
            .map_err(|error| in_full(&error))?;
        for other in others {
            let path = other.path().to_owned();
            other.remove().map_err(|error| in_full(&error))?;
            tracing::info!(path = %path.display(), "another layout's pins were taken over");
        }
        Ok(())
    }

    fn map_descriptors(&self) -> [(&'static str, BorrowedFd<'_>); 4] {
        [
            (PIDS_MAP, self.pids.map().fd().as_fd()),
            (EVENTS_MAP, self.events.as_fd()),
            (STATS_MAP, self.stats.map().fd().as_fd()),
            (FILTER_MAP, self.filter.descriptor()),
        ]
    }

    /// Looks whether everything is still pinned, and pins again what is not.
    /// To be called now and then; costs some ten system calls on a file system
    /// in memory.
    pub fn check_pins(&mut self) -> PinHealth {
        let before = self.repairs.len();
        if self.pins.is_some() {
            self.unpinned = self.repair_pins().err();
        }
        let repaired = self.repairs.split_off(before);
        for repair in &repaired {
            tracing::warn!("pins repaired: {repair}");
        }
        if !repaired.is_empty() {
            self.repairs.clone_from(&repaired);
        }
        PinHealth {
            unpinned: self.unpinned.clone(),
            repaired,
        }
    }

    fn repair_pins(&mut self) -> Result<(), String> {
        let Some(pins) = &mut self.pins else {
            return Ok(());
        };
        let directory = pins.renew(&mut self.repairs)?;
        writable(directory)?;
        let mut wrong = Vec::new();
        for map in &self.maps {
            if !is_map(&directory.pin(map.name), map.id) {
                wrong.push(map.name);
            }
        }
        let mut lost = Vec::new();
        for link in &self.links {
            if !is_link(&directory.pin(link.program), &link.link) {
                lost.push((link.program, link.tracepoint));
            }
        }
        for name in wrong.iter().chain(lost.iter().map(|(name, _)| name)) {
            clear_the_way(directory, name, &mut self.repairs)?;
        }
        for (name, map) in self.map_descriptors() {
            if wrong.contains(&name) {
                let pins = self.pins.as_ref().and_then(Pins::directory);
                let Some(directory) = pins else { continue };
                stage(directory, name, map).map_err(|error| in_full(&error))?;
                directory
                    .put_into_force(name)
                    .map_err(|error| in_full(&error))?;
            }
        }
        for (name, tracepoint) in &lost {
            // A second link first: the one there is would be lost with a failure.
            let again = programs::attach_again(&mut self.object, name, tracepoint)
                .map_err(|error| in_full(&error))?;
            let Some(directory) = self.pins.as_ref().and_then(Pins::directory) else {
                continue;
            };
            let staged = stage_links(directory, vec![again])?;
            directory
                .put_into_force(name)
                .map_err(|error| in_full(&error))?;
            let ours = self.links.iter_mut().find(|link| link.program == *name);
            if let (Some(ours), Some(staged)) = (ours, staged.into_iter().next()) {
                *ours = staged;
            }
        }
        if wrong.is_empty() && lost.is_empty() {
            return Ok(());
        }
        for name in wrong
            .into_iter()
            .chain(lost.into_iter().map(|(name, _)| name))
        {
            self.repairs
                .push(format!("the pin `{name}` was lost; pinned again"));
        }
        let mut names: Vec<&str> = MAPS.to_vec();
        names.extend(self.links.iter().map(|link| link.program));
        match self.pins.as_ref().and_then(Pins::directory) {
            Some(directory) => directory
                .tidy(&names, &mut self.repairs)
                .map_err(|error| in_full(&error)),
            None => Ok(()),
        }
    }
}

/// Pins a map under its staged name.
fn stage(directory: &PinDirectory, name: &str, map: BorrowedFd<'_>) -> io::Result<()> {
    let path = directory.staged(name);
    make_free(&path)?;
    bpf::pin(map, &path)
}

/// Pins links under their staged names and gives them back. On an error they
/// are lost, and none stays pinned.
pub(super) fn stage_links(
    directory: &PinDirectory,
    links: Vec<ProgramLink>,
) -> Result<Vec<ProgramLink>, String> {
    let names: Vec<&str> = links.iter().map(|link| link.program).collect();
    let staged: Result<Vec<_>, String> = links
        .into_iter()
        .map(|link| stage_link(directory, link))
        .collect();
    if staged.is_err() {
        for name in names {
            // Most likely the file system cannot be written at all.
            let _best_effort: io::Result<()> = make_free(&directory.staged(name));
        }
    }
    staged
}

fn stage_link(directory: &PinDirectory, link: ProgramLink) -> Result<ProgramLink, String> {
    let ProgramLink {
        program,
        tracepoint,
        link,
    } = link;
    let path = directory.staged(program);
    make_free(&path).map_err(|error| in_full(&error))?;
    let pinned = link.pin(path).map_err(|error| in_full(&error))?;
    Ok(ProgramLink {
        program,
        tracepoint,
        link: FdLink::from(pinned),
    })
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
fn clear_the_way(
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
fn writable(directory: &PinDirectory) -> Result<(), String> {
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
fn is_map(path: &Path, id: u32) -> bool {
    PinnedMap::open(path, Access::Read).is_ok_and(|map| map.info().id() == id)
}

/// Whether this link is pinned there.
fn is_link(path: &Path, link: &FdLink) -> bool {
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
