//! The eBPF source: loads the embedded object, attaches it, and owns its maps.
//!
//! The table of registered pids lives in the kernel; [`Ebpf`] is the only
//! writer in user space. Must stay true: an entry is only inserted when its key
//! is free, so that two registrations never overwrite each other.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::{
    Btf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::ProgramError,
};
use aya_log::EbpfLogger;
use pmon_common::{
    EVENTS_MAP, EXIT_PROGRAM, Event, PIDS_MAP, Registration, STATS_MAP, Stats, Tgid,
};
use thiserror::Error;

use super::{
    btf::{KernelLayout, LayoutError},
    facts::{self, MapFacts, ProgramFacts},
    pins::{PinDirectory, PinDirectoryError},
    programs::{self, Attached, MissingProgram, ProgramLink},
};
use crate::causes::in_full;

/// The object that `cargo xtask ebpf` built.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/pmon.bpf.o"));

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;
/// The initial pid namespace's inode, `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

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
    object: aya::Ebpf,
    pids: HashMap<MapData, Tgid, Registration>,
    events: RingBuf<MapData>,
    stats: PerCpuArray<MapData, Stats>,
    maps: Vec<MapFacts>,
    program: ProgramFacts,
    layout: KernelLayout,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    pins: Option<PinDirectory>,
    /// Why nothing is pinned although it was asked for.
    unpinned: Option<String>,
    /// What this kernel's programs cannot tell, and why.
    missing: Vec<MissingProgram>,
    // Detach when dropped, unless pinned.
    _links: Links,
}

#[derive(Debug)]
enum Links {
    Pinned {
        _links: Vec<aya::programs::links::PinnedLink>,
    },
    Own {
        _links: Vec<ProgramLink>,
    },
}

/// Why the source cannot be used; each message names the remedy where there is one.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Not in the host's pid namespace.
    #[error(
        "this pid namespace is not the host's, whose pids the kernel program sees; \
         run with the host's pid namespace (`--pid=host`)"
    )]
    PidNamespace,
    /// No BTF.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel's BTF did not suit aya.
    #[error("cannot use the kernel's BTF")]
    Btf(#[source] aya::BtfError),
    /// The maps could not be made.
    #[error("cannot create the maps; needs CAP_BPF and CAP_PERFMON (or root) and Linux 5.8")]
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
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        if namespace.is_ok_and(|link| link.as_os_str() != INITIAL_PID_NAMESPACE) {
            return Err(SourceError::PidNamespace);
        }
        let layout = checked_for_this_process(KernelLayout::of_running_kernel()?);
        let btf = Btf::from_sys_fs().map_err(SourceError::Btf)?;
        let globals = layout.globals();
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(&btf))
            .map_max_entries(PIDS_MAP, sizes.max_pids)
            .map_max_entries(EVENTS_MAP, sizes.ring_bytes);
        for (name, value) in &globals {
            loader.override_global(name, value, true);
        }
        let mut object = loader.load(OBJECT).map_err(SourceError::Load)?;

        let (pins, mut unpinned) = match pin_base.map(PinDirectory::acquire) {
            None => (None, None),
            Some(Ok(pins)) => (Some(pins), None),
            Some(Err(error)) => (None, Some(in_full(&error))),
        };
        let Attached { links, missing } = programs::attach_all(&mut object, &btf)?;
        let program = facts::of_program(&object)?;
        let maps = facts::of_maps(&object)?;
        let log = match EbpfLogger::init(&mut object) {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::debug!(error = in_full(&error), "no log of the kernel program");
                None
            }
        };
        let links = match &pins {
            None => Links::Own { _links: links },
            Some(pins) => match pin_all(&object, pins, links) {
                Ok(links) => Links::Pinned { _links: links },
                Err(error) => {
                    unpinned = Some(error);
                    // Links went down with the failed pins; attach once more.
                    let again = programs::attach_all(&mut object, &btf)?;
                    Links::Own {
                        _links: again.links,
                    }
                }
            },
        };
        Ok(Self {
            pids: take(&mut object, PIDS_MAP)?,
            events: take(&mut object, EVENTS_MAP)?,
            stats: take(&mut object, STATS_MAP)?,
            object,
            maps,
            program,
            layout,
            log,
            pins,
            unpinned,
            missing,
            _links: links,
        })
    }

    /// Becomes readable when there are records.
    #[must_use]
    pub fn ring_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// The next record, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        let item = self.events.next()?;
        crate::sys::record::event(&item)
    }

    /// Has the kernel watch a process.
    ///
    /// # Errors
    ///
    /// What the kernel said, unless it is told by [`Inserted`].
    pub fn insert(&mut self, tgid: Tgid, entry: Registration) -> Result<Inserted, MapError> {
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

    /// The kernel's entry.
    #[must_use]
    pub fn get(&self, tgid: Tgid) -> Option<Registration> {
        self.pids.get(&tgid, 0).ok()
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
        self.pids.keys().flatten().count() as u64
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

    /// The program.
    #[must_use]
    pub const fn program(&self) -> &ProgramFacts {
        &self.program
    }

    /// Runs and time of the program, counted while `kernel.bpf_stats_enabled` is 1.
    #[must_use]
    pub fn run_statistics(&self) -> Option<(u64, std::time::Duration)> {
        let info = self.object.program(EXIT_PROGRAM)?.info().ok()?;
        Some((info.run_count(), info.run_time()))
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
    pub const fn pins(&self) -> Option<&PinDirectory> {
        self.pins.as_ref()
    }

    /// Why nothing is pinned although it was asked for.
    #[must_use]
    pub fn unpinned(&self) -> Option<&str> {
        self.unpinned.as_deref()
    }

    /// Detaches and stays loaded: what a source is like that has gone silent.
    #[cfg(test)]
    pub(crate) fn go_silent(&mut self) {
        self._links = Links::Own { _links: Vec::new() };
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

fn take<T: TryFrom<Map, Error = MapError>>(
    object: &mut aya::Ebpf,
    name: &'static str,
) -> Result<T, SourceError> {
    let map = object.take_map(name).ok_or(SourceError::Missing { name })?;
    T::try_from(map).map_err(|source| SourceError::Map { name, source })
}

/// Pins the maps and the links, or nothing.
fn pin_all(
    object: &aya::Ebpf,
    pins: &PinDirectory,
    links: Vec<ProgramLink>,
) -> Result<Vec<aya::programs::links::PinnedLink>, String> {
    for name in [PIDS_MAP, EVENTS_MAP, STATS_MAP] {
        if let Some(map) = object.map(name) {
            map.pin(pins.pin(name)).map_err(|error| in_full(&error))?;
        }
    }
    links
        .into_iter()
        .map(|ProgramLink { program, link }| link.pin(pins.pin(program)))
        .collect::<Result<_, _>>()
        .map_err(|error| in_full(&error))
}

/// The kernel compares start times on its own boot clock; in a time namespace
/// with an offset `/proc` shows another one, and the comparison must be left out.
fn checked_for_this_process(layout: KernelLayout) -> KernelLayout {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    if shifts_boot_time(&offsets) {
        KernelLayout {
            task_start_boottime: 0,
            ..layout
        }
    } else {
        layout
    }
}

/// Whether `/proc/PID/timens_offsets` (time_namespaces(7)) has a boot time
/// offset: a line of the clock's name, seconds and nanoseconds.
fn shifts_boot_time(offsets: &str) -> bool {
    offsets
        .lines()
        .filter(|line| line.starts_with("boottime"))
        .flat_map(|line| line.split_whitespace().skip(1))
        .any(|number| number != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_boot_time_offset_counts() {
        let none = "monotonic           0         0\nboottime            0         0\n";
        assert!(!shifts_boot_time(none));
        assert!(!shifts_boot_time(""));
        assert!(!shifts_boot_time("monotonic 5 5\nboottime 0 0\n"));
        for offset in ["boottime 100 0", "boottime 0 7", "boottime -3 0"] {
            assert!(shifts_boot_time(offset), "{offset}");
        }
    }
}
