//! The entries of the kernel's table, as [`Ebpf`] writes and reads them.
//!
//! Must stay true: an entry is only inserted when its key is free, so that two
//! registrations never overwrite each other; what is read has no flags that
//! speak of another generation.

use std::os::fd::AsFd;

use aya::maps::MapError;
use pmon_common::{PIDS_MAP, Registration, Tgid, flag, group_dead};
use rustix::io::Errno;

use super::{Ebpf, SourceError};
use crate::{
    causes::in_full,
    source::{filter::Filter, takeover},
    sys::map_batch::{self, Cursor},
};

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;

/// How an insertion went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The kernel watches it.
    Yes,
    /// Another registration has this pid already.
    Occupied,
    /// The map is full.
    Full,
}

impl Ebpf {
    /// Has the kernel watch a process.
    ///
    /// # Errors
    ///
    /// What the kernel said, unless it is told by [`Inserted`].
    pub fn insert(&mut self, tgid: Tgid, entry: Registration) -> Result<Inserted, MapError> {
        self.filter.admit(tgid);
        match self.pids.insert(tgid, entry, BPF_NOEXIST) {
            Ok(()) => Ok(Inserted::Yes),
            Err(MapError::SyscallError(error)) => match error.io_error.raw_os_error() {
                Some(libc::EEXIST) => Ok(Inserted::Occupied),
                Some(libc::E2BIG) => Ok(Inserted::Full),
                _ => Err(MapError::SyscallError(error)),
            },
            Err(error) => Err(error),
        }
    }

    /// The kernel's entry, with flags only for what is about this generation.
    #[must_use]
    pub fn get(&self, tgid: Tgid) -> Option<Registration> {
        let entry = self.pids.get(&tgid, 0).ok()?;
        if entry.flags & flag::DEAD == 0 {
            return Some(of_its_generation(entry));
        }
        // The flag is written last, so a second look has all that it announces.
        Some(of_its_generation(self.pids.get(&tgid, 0).unwrap_or(entry)))
    }

    /// All entries, as [`Ebpf::get`] tells them, in no order.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn registrations(&self) -> Result<Vec<(Tgid, Registration)>, Errno> {
        let (mut pids, mut entries, mut cursor) = (Vec::new(), Vec::new(), Cursor::default());
        while self.read_entries(&mut cursor, &mut pids, &mut entries)? {}
        Ok(pids.into_iter().zip(entries).collect())
    }

    /// Reads the next entries of the whole table, as [`Ebpf::get`] tells them;
    /// whether there may be more. An entry that is there all the time is given
    /// once.
    ///
    /// # Errors
    ///
    /// What the kernel said; the walk cannot go on then.
    pub fn read_entries(
        &self,
        cursor: &mut Cursor,
        pids: &mut Vec<Tgid>,
        entries: &mut Vec<Registration>,
    ) -> Result<bool, Errno> {
        let read = entries.len();
        let more = map_batch::read(&self.pids_fd, cursor, pids, entries)?;
        for (tgid, entry) in pids.iter().zip(entries.iter_mut()).skip(read) {
            // Should somebody have cleared it by hand.
            self.filter.admit(*tgid);
            if entry.flags & flag::DEAD != 0 {
                *entry = self.get(*tgid).unwrap_or(*entry);
            }
            *entry = of_its_generation(*entry);
        }
        Ok(more)
    }

    /// Whether the kernel program knows a thread group's death from a thread's
    /// exit, and one process from the next with its pid. Without either an entry
    /// is no reason to do without a pidfd.
    #[must_use]
    pub const fn tells_deaths_apart(&self) -> bool {
        self.layout.group_dead != group_dead::UNKNOWN && self.layout.task_start_boottime != 0
    }

    /// Ends the watch. That there was none is no error.
    pub fn remove(&mut self, tgid: Tgid) {
        if let Err(error) = self.pids.remove(&tgid)
            && !matches!(error, MapError::KeyNotFound)
        {
            tracing::debug!(tgid, %error, "map entry could not be removed");
        }
    }

    /// Number of entries; 0 when they cannot be read.
    #[must_use]
    pub fn entries(&self) -> u64 {
        count(&self.pids_fd).unwrap_or(0)
    }
}

/// Number of entries of a table that somebody else writes meanwhile.
///
/// # Errors
///
/// What the kernel said.
pub fn count(table: impl AsFd) -> Result<u64, Errno> {
    let (mut pids, mut entries, mut cursor) = (Vec::new(), Vec::new(), Cursor::default());
    let mut count = 0;
    loop {
        let more =
            map_batch::read::<Tgid, Registration>(&table, &mut cursor, &mut pids, &mut entries)?;
        count += pids.len() as u64;
        pids.clear();
        entries.clear();
        if !more {
            return Ok(count);
        }
    }
}

/// Has the filter know every key of the table.
///
/// # Errors
///
/// When the table cannot be read.
pub(super) fn admit_all(table: impl AsFd, filter: &Filter) -> Result<(), SourceError> {
    let (mut pids, mut entries, mut cursor) = (Vec::new(), Vec::new(), Cursor::default());
    loop {
        let more =
            map_batch::read::<Tgid, Registration>(&table, &mut cursor, &mut pids, &mut entries)
                .map_err(|errno| SourceError::Map {
                    name: PIDS_MAP,
                    source: MapError::IoError(errno.into()),
                })?;
        for tgid in pids.drain(..) {
            filter.admit(tgid);
        }
        entries.clear();
        if !more {
            return Ok(());
        }
    }
}

impl takeover::Table for Ebpf {
    fn get(&self, tgid: Tgid) -> Option<Registration> {
        Self::get(self, tgid)
    }

    fn put(&mut self, tgid: Tgid, entry: Registration) -> Result<Inserted, String> {
        self.insert(tgid, entry).map_err(|error| in_full(&error))
    }

    fn replace(&mut self, tgid: Tgid, entry: Registration) -> Result<(), String> {
        self.pids
            .insert(tgid, entry, 0)
            .map_err(|error| in_full(&error))
    }
}

/// Takes back the flags whose fields are about an earlier owner of the entry's
/// memory (see [`Registration::dead_generation`]).
const fn of_its_generation(mut entry: Registration) -> Registration {
    const OF_THE_DEATH: u32 = flag::DEAD
        | flag::GROUP_DEAD
        | flag::EXIT_CODE_KNOWN
        | flag::IDENTITY_CHECKED
        | flag::USAGE_KNOWN;
    if entry.dead_generation != entry.generation {
        entry.flags &= !OF_THE_DEATH;
    }
    if entry.signal_generation != entry.generation {
        entry.flags &= !flag::SIGNAL_KNOWN;
    }
    entry
}
