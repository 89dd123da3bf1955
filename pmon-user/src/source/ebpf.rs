//! The eBPF source: loads the embedded object, attaches it, and owns its maps.
//!
//! The table of registered pids lives in the kernel; [`Ebpf`] is the only
//! writer in user space. Must stay true: an entry is only inserted when its key
//! is free, so that two registrations never overwrite each other.

mod reload;

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    Btf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::ProgramError,
};
use aya_log::EbpfLogger;
use pmon_common::{
    EVENTS_MAP, EXIT_PROGRAM, Event, PIDS_MAP, Registration, STATS_MAP, Stats, Tgid, flag,
    group_dead,
};
use rustix::io::Errno;
use thiserror::Error;

use super::{
    btf::KernelLayout,
    facts::{self, MapFacts, ProgramFacts},
    filter::Filter,
    pinning::Pins,
    pins::{PinDirectory, PinDirectoryError},
    programs::{self, Attached, MissingProgram, ProgramLink, Selection},
    takeover,
};
use crate::{
    causes::in_full,
    sys::{
        map_batch::{self, Cursor},
        record,
    },
};

pub use self::reload::ReloadError;

/// The object that `cargo xtask ebpf` built.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/pmon.bpf.o"));

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;

/// Sizes of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Registrations at most.
    pub max_pids: u32,
    /// Bytes of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
}

/// The loaded and attached program with its maps.
pub struct Ebpf {
    pub(super) object: aya::Ebpf,
    pub(super) pids: HashMap<MapData, Tgid, Registration>,
    /// The same map, to be read many entries at a time.
    pids_fd: OwnedFd,
    pub(super) filter: Filter,
    pub(super) events: RingBuf<MapData>,
    pub(super) stats: PerCpuArray<MapData, Stats>,
    pub(super) maps: Vec<MapFacts>,
    programs: Vec<ProgramFacts>,
    foreign_records: u64,
    layout: KernelLayout,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Where to pin; nowhere if not asked for, or if another daemon has it.
    pub(super) pins: Option<Pins>,
    /// Why nothing is pinned although it was asked for.
    pub(super) unpinned: Option<String>,
    /// What was wrong with the pins and has been put right, the latest last.
    pub(super) repairs: Vec<String>,
    /// What this kernel's programs cannot tell, and why.
    missing: Vec<MissingProgram>,
    /// Detach when dropped, unless pinned.
    pub(super) links: Vec<ProgramLink>,
}

/// Why the source cannot be used; each message names the remedy where there is one.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The maps could not be made.
    #[error(
        "cannot create the maps; needs Linux 5.8, CAP_BPF and CAP_PERFMON (or root), \
         and before Linux 5.11 `LimitMEMLOCK=infinity`"
    )]
    Load(#[source] EbpfError),
    /// The verifier or the kernel's configuration refused.
    #[error("cannot {what} the program `{name}`")]
    Program {
        /// Which.
        name: &'static str,
        /// `load` or `attach`.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// It was not to be tried.
    #[error("the program `{name}` was passed over")]
    PassedOver {
        /// Which.
        name: &'static str,
    },
    /// A map is not what it should be.
    #[error("cannot use the map `{name}`")]
    Map {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: MapError,
    },
    /// The embedded object lacks something.
    #[error("the embedded object has no `{name}`; rebuild it with `cargo xtask ebpf`")]
    Missing {
        /// What.
        name: &'static str,
    },
}

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
    /// Loads, attaches and, with a base directory, pins.
    ///
    /// # Errors
    ///
    /// See [`SourceError`]. That nothing could be pinned is not an error; see
    /// [`Ebpf::unpinned`].
    pub fn start(sizes: MapSizes, pin_base: Option<&Path>) -> Result<Self, SourceError> {
        Self::start_with(sizes, pin_base, &Selection::of_this_host())
    }

    /// The same with programs of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Ebpf::start`].
    pub fn start_with(
        sizes: MapSizes,
        pin_base: Option<&Path>,
        selection: &Selection,
    ) -> Result<Self, SourceError> {
        let btf = Btf::from_sys_fs()
            .inspect_err(|error| tracing::debug!(error = in_full(error), "no BTF"))
            .ok();
        let globals = selection.globals();
        let mut loader = EbpfLoader::new();
        loader
            .btf(btf.as_ref())
            .map_max_entries(PIDS_MAP, sizes.max_pids)
            .map_max_entries(EVENTS_MAP, sizes.ring_bytes);
        selection.configure(&mut loader, &globals);
        let mut repairs = Vec::new();
        let (pins, mut unpinned) = match pin_base.map(|base| Pins::acquire(base, &mut repairs)) {
            None => (None, None),
            Some((pins, problem)) => (pins, problem),
        };
        let directory = pins.as_ref().and_then(Pins::directory);
        let inventory = directory
            .map(|directory| takeover::inspect(directory, sizes, &mut repairs))
            .unwrap_or_default();
        if let Some(directory) = directory {
            for name in &inventory.reuse {
                loader.map_pin_path(name, directory.pin(name));
            }
        }
        let mut object = loader.load(OBJECT).map_err(SourceError::Load)?;
        let filter = Filter::of(&object)?;
        let pids_fd = descriptor(&object, PIDS_MAP)?;
        admit_all(&pids_fd, &filter)?;

        let Attached { links, missing } =
            programs::attach_all(&mut object, btf.as_ref(), selection)?;
        let programs = facts::of_programs(&object, &links)?;
        let layout = layout_in_use(selection, &links);
        let maps = facts::of_maps(&object)?;
        let log = if selection.log {
            EbpfLogger::init(&mut object)
                .inspect_err(|error| {
                    tracing::debug!(error = in_full(error), "no log of the kernel programs");
                })
                .ok()
        } else {
            None
        };
        let mut ebpf = Self {
            pids_fd,
            filter,
            pids: take(&mut object, PIDS_MAP)?,
            events: take(&mut object, EVENTS_MAP)?,
            stats: take(&mut object, STATS_MAP)?,
            object,
            maps,
            programs,
            foreign_records: 0,
            layout,
            log,
            pins,
            unpinned: None,
            repairs,
            missing,
            links,
        };
        match ebpf.copy_from(&inventory) {
            Ok(()) => {
                if unpinned.is_none() {
                    unpinned = ebpf.pin_all(inventory.others).err();
                }
            }
            // What cannot be taken over must not be replaced.
            Err(problem) => {
                unpinned = Some(problem);
                ebpf.pins = None;
            }
        }
        // What the earlier programs have inserted until now.
        admit_all(&ebpf.pids_fd, &ebpf.filter)?;
        ebpf.unpinned = unpinned;
        if ebpf.links.is_empty() {
            // Links went down with the failed pins; attach once more.
            let again = programs::attach_all(&mut ebpf.object, btf.as_ref(), selection)?;
            ebpf.links = again.links;
        }
        for repair in &ebpf.repairs {
            tracing::warn!("pins repaired: {repair}");
        }
        Ok(ebpf)
    }

    /// Becomes readable when there are records.
    #[must_use]
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// The next record, if there is one. Records of another size or layout are
    /// counted and passed over.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.events.next()?;
            match record::event(&item) {
                Some(event) => return Some(event),
                None => self.foreign_records += 1,
            }
        }
    }

    /// Records that were not ours to read.
    #[must_use]
    pub const fn foreign_records(&self) -> u64 {
        self.foreign_records
    }

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

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.registrations().map_or(0, |all| all.len() as u64)
    }

    /// The counters, summed over all CPUs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self.stats.get(&0, 0) {
            Ok(cpus) => cpus.iter().copied().fold(Stats::default(), Stats::plus),
            Err(_) => Stats::default(),
        }
    }

    /// The kernel program's own log, for whoever has time to read it.
    pub const fn take_log(&mut self) -> Option<EbpfLogger<&'static dyn log::Log>> {
        self.log.take()
    }

    /// The maps.
    #[must_use]
    pub fn maps(&self) -> &[MapFacts] {
        &self.maps
    }

    /// The attached programs, the exit program first, with their run statistics
    /// as of now.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramFacts> {
        self.programs
            .iter()
            .map(|program| {
                facts::of_program(&self.object, program.name, program.tracepoint)
                    .unwrap_or_else(|_| program.clone())
            })
            .collect()
    }

    /// What this kernel's programs cannot tell, and why.
    #[must_use]
    pub fn missing(&self) -> &[MissingProgram] {
        &self.missing
    }

    /// What is known of this kernel.
    #[must_use]
    pub const fn layout(&self) -> &KernelLayout {
        &self.layout
    }

    /// The pins, when there are any.
    #[must_use]
    pub fn pins(&self) -> Option<&PinDirectory> {
        self.pins.as_ref().and_then(Pins::directory)
    }

    /// Why nothing is pinned although it was asked for.
    #[must_use]
    pub fn unpinned(&self) -> Option<&str> {
        self.unpinned.as_deref()
    }

    /// What was wrong with the pins and has been put right last.
    #[must_use]
    pub fn repairs(&self) -> &[String] {
        &self.repairs
    }

    /// Detaches and stays loaded: what a source is like that has gone silent.
    #[cfg(test)]
    pub(crate) fn go_silent(&mut self) {
        self.links = Vec::new();
    }

    /// Detaches and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// When a pin cannot be removed.
    pub fn stop(self) -> Result<(), PinDirectoryError> {
        match self.pins {
            Some(pins) => pins.remove(),
            None => Ok(()),
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

fn descriptor(object: &aya::Ebpf, name: &'static str) -> Result<OwnedFd, SourceError> {
    let failed = |source: std::io::Error| SourceError::Map {
        name,
        source: MapError::IoError(source),
    };
    match object.map(name) {
        Some(Map::HashMap(data)) => data.fd().as_fd().try_clone_to_owned().map_err(failed),
        _ => Err(SourceError::Missing { name }),
    }
}

/// Has the filter know every key of the table.
fn admit_all(pids: &OwnedFd, filter: &Filter) -> Result<(), SourceError> {
    let (mut keys, mut entries, mut cursor) = (Vec::new(), Vec::new(), Cursor::default());
    loop {
        let more =
            map_batch::read::<Tgid, Registration>(pids, &mut cursor, &mut keys, &mut entries)
                .map_err(|errno| SourceError::Map {
                    name: PIDS_MAP,
                    source: MapError::IoError(errno.into()),
                })?;
        for tgid in keys.drain(..) {
            filter.admit(tgid);
        }
        entries.clear();
        if !more {
            return Ok(());
        }
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(
    object: &mut aya::Ebpf,
    name: &'static str,
) -> Result<T, SourceError> {
    let map = object.take_map(name).ok_or(SourceError::Missing { name })?;
    T::try_from(map).map_err(|source| SourceError::Map { name, source })
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

/// What of the layout the attached programs make use of: the exit program for
/// kernels without types does not tell a group's death.
fn layout_in_use(selection: &Selection, links: &[ProgramLink]) -> KernelLayout {
    match links.first() {
        Some(exit) if exit.program == EXIT_PROGRAM => selection.layout,
        _ => KernelLayout {
            group_dead: group_dead::UNKNOWN,
            ..selection.layout
        },
    }
}
