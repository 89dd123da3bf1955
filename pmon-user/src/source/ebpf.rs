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
    maps::{HashMap, IterableMap as _, Map, MapData, MapError, PerCpuArray, RingBuf},
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
    pinning::{self, Pins},
    pins::{PinDirectory, PinDirectoryError},
    programs::{self, Attached, MissingProgram, ProgramLink},
    takeover::{self, Inventory},
};
use crate::causes::in_full;

/// The object that `cargo xtask ebpf` built.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/pmon.bpf.o"));

/// The maps that are pinned.
const MAPS: [&str; 3] = [PIDS_MAP, EVENTS_MAP, STATS_MAP];
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
    /// Where to pin; nowhere if not asked for, or if another daemon has it.
    pins: Option<Pins>,
    /// Why nothing is pinned although it was asked for.
    unpinned: Option<String>,
    /// What was wrong with the pins and has been put right, the latest last.
    repairs: Vec<String>,
    /// What this kernel's programs cannot tell, and why.
    missing: Vec<MissingProgram>,
    /// Detach when dropped, unless pinned.
    links: Vec<ProgramLink>,
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

/// How the pins are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinHealth {
    /// Why not everything is pinned although it was asked for.
    pub unpinned: Option<String>,
    /// What was wrong and has just been put right.
    pub repaired: Vec<String>,
}

impl Ebpf {
    /// Loads, attaches and, with a base directory, takes over what is pinned
    /// there and pins.
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
                loader.map_pin_path(*name, directory.pin(name));
            }
        }
        let mut object = loader.load(OBJECT).map_err(SourceError::Load)?;

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
        let mut ebpf = Self {
            pids: take(&mut object, PIDS_MAP)?,
            events: take(&mut object, EVENTS_MAP)?,
            stats: take(&mut object, STATS_MAP)?,
            object,
            maps,
            program,
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
        ebpf.unpinned = unpinned;
        if ebpf.links.is_empty() {
            // Links went down with the failed pins; attach once more.
            ebpf.links = programs::attach_all(&mut ebpf.object, &btf)?.links;
        }
        for repair in &ebpf.repairs {
            tracing::warn!("pins repaired: {repair}");
        }
        Ok(ebpf)
    }

    /// Takes over the entries and counters of earlier maps that are not reused.
    fn copy_from(&mut self, inventory: &Inventory) -> Result<(), String> {
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
    fn pin_all(&mut self, others: Vec<PinDirectory>) -> Result<(), String> {
        let Some(directory) = self.pins.as_ref().and_then(Pins::directory) else {
            return Ok(());
        };
        for (name, map) in self.map_descriptors() {
            pinning::stage(directory, name, map).map_err(|error| in_full(&error))?;
        }
        let links = std::mem::take(&mut self.links);
        self.links = pinning::stage_links(directory, links)?;
        // From here on the new programs outlive us, whatever happens.
        let mut names: Vec<&str> = MAPS.to_vec();
        names.extend(self.links.iter().map(|link| link.program));
        for name in &names {
            pinning::clear_the_way(directory, name, &mut self.repairs)?;
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

    fn map_descriptors(&self) -> [(&'static str, BorrowedFd<'_>); 3] {
        [
            (PIDS_MAP, self.pids.map().fd().as_fd()),
            (EVENTS_MAP, self.events.as_fd()),
            (STATS_MAP, self.stats.map().fd().as_fd()),
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
        pinning::writable(directory)?;
        let mut wrong = Vec::new();
        for map in &self.maps {
            if !pinning::is_map(&directory.pin(map.name), map.id) {
                wrong.push(map.name);
            }
        }
        let mut lost = Vec::new();
        for link in &self.links {
            if !pinning::is_link(&directory.pin(link.program), &link.link) {
                lost.push(link.program);
            }
        }
        for name in wrong.iter().chain(&lost) {
            pinning::clear_the_way(directory, name, &mut self.repairs)?;
        }
        for (name, map) in self.map_descriptors() {
            if wrong.contains(&name) {
                let pins = self.pins.as_ref().and_then(Pins::directory);
                let Some(directory) = pins else { continue };
                pinning::stage(directory, name, map).map_err(|error| in_full(&error))?;
                directory
                    .put_into_force(name)
                    .map_err(|error| in_full(&error))?;
            }
        }
        for name in &lost {
            // A second link first: the one there is would be lost with a failure.
            let again =
                programs::attach_again(&mut self.object, name).map_err(|error| in_full(&error))?;
            let Some(directory) = self.pins.as_ref().and_then(Pins::directory) else {
                continue;
            };
            let staged = pinning::stage_links(directory, vec![again])?;
            directory
                .put_into_force(name)
                .map_err(|error| in_full(&error))?;
            self.links.retain(|link| link.program != *name);
            self.links.extend(staged);
        }
        if wrong.is_empty() && lost.is_empty() {
            return Ok(());
        }
        for name in wrong.into_iter().chain(lost) {
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

    /// Every entry that there is.
    #[must_use]
    pub fn table(&self) -> Vec<(Tgid, Registration)> {
        self.pids.iter().flatten().collect()
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

fn take<T: TryFrom<Map, Error = MapError>>(
    object: &mut aya::Ebpf,
    name: &'static str,
) -> Result<T, SourceError> {
    let map = object.take_map(name).ok_or(SourceError::Missing { name })?;
    T::try_from(map).map_err(|source| SourceError::Map { name, source })
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
