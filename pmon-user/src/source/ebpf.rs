//! The eBPF source: loads the embedded object, attaches it, and owns its maps.
//!
//! The table of registered pids lives in the kernel; [`Ebpf`] is the only
//! writer in user space. What is written is in `entries`, why the source
//! cannot be used in `error`, another set of programs on the same maps in
//! `reload`.

mod entries;
mod error;
mod reload;

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    Btf, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
};
use aya_log::EbpfLogger;
use pmon_common::{
    EVENTS_MAP, EXIT_PROGRAM, Event, PIDS_MAP, Registration, STATS_MAP, Stats, Tgid, group_dead,
};

use super::{
    btf::KernelLayout,
    facts::{self, LinkFacts, MapFacts, ProgramFacts},
    filter::Filter,
    pinning::Pins,
    pins::{PinDirectory, PinDirectoryError},
    programs::{self, Attached, MissingProgram, ProgramLink, Selection},
    takeover,
};
use crate::{
    causes::in_full,
    core::time::Time,
    sys::{clock, record},
};

pub use self::{
    entries::{Inserted, count},
    error::SourceError,
    reload::{Plan, ReloadError, Replaced, Replacement},
};

/// The object that `cargo xtask ebpf` built.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/pmon.bpf.o"));

/// Sizes of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Registrations at most.
    pub max_pids: u32,
    /// Bytes of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
}

/// Records of the ring that have another size or layout than ours: somebody else
/// writes into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignRecords {
    /// How many.
    pub count: u64,
    /// When the latest was found.
    pub latest: Option<Time>,
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
    foreign: ForeignRecords,
    layout: KernelLayout,
    /// Whether the programs that are attached log what they do.
    logs: bool,
    /// Where to pin; nowhere if not asked for.
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
            Some((pins, problem)) => (Some(pins), problem),
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
        entries::admit_all(&pids_fd, &filter)?;

        let Attached { links, missing } =
            programs::attach_all(&mut object, btf.as_ref(), selection)?;
        let programs = facts::of_programs(&object, &links)?;
        let layout = layout_in_use(selection, &links);
        let maps = facts::of_maps(&object)?;
        let mut ebpf = Self {
            pids_fd,
            filter,
            pids: take(&mut object, PIDS_MAP)?,
            events: take(&mut object, EVENTS_MAP)?,
            stats: take(&mut object, STATS_MAP)?,
            object,
            maps,
            programs,
            foreign: ForeignRecords::default(),
            layout,
            logs: selection.log,
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
        entries::admit_all(&ebpf.pids_fd, &ebpf.filter)?;
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
    /// counted and passed over; what they told is in the table, if it was ours.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.events.next()?;
            match record::event(&item) {
                Some(event) => return Some(event),
                None => {
                    self.foreign.count += 1;
                    self.foreign.latest = Some(clock::now());
                }
            }
        }
    }

    /// Records that were not ours to read.
    #[must_use]
    pub const fn foreign_records(&self) -> ForeignRecords {
        self.foreign
    }

    /// The counters, summed over all CPUs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self.stats.get(&0, 0) {
            Ok(cpus) => cpus.iter().copied().fold(Stats::default(), Stats::plus),
            Err(_) => Stats::default(),
        }
    }

    /// How often the kernel has left one of the programs out, because another task
    /// was in it on the same CPU; it tells since Linux 5.12. Where tracepoints can be
    /// preempted (Linux 7), a task that ends while another is interrupted in the exit
    /// program is not seen by that, and its death is told by the pidfd alone.
    #[must_use]
    pub fn missed_runs(&self) -> Option<u64> {
        let mut sum = None;
        for program in &self.links {
            if let Some(missed) = facts::missed_runs(&self.object, program.program) {
                sum = Some(sum.unwrap_or(0) + missed);
            }
        }
        sum
    }

    /// Whether the kernel side logs what it does.
    #[must_use]
    pub const fn logs(&self) -> bool {
        self.logs
    }

    /// The kernel side's own log, for whoever has time to read it, once; none
    /// when the programs do not log.
    pub fn take_log<T: log::Log>(&mut self, logger: T) -> Option<EbpfLogger<T>> {
        if !self.logs {
            return None;
        }
        EbpfLogger::init_with_logger(&mut self.object, logger)
            .inspect_err(|error| {
                tracing::warn!(error = in_full(error), "no log of the kernel programs");
            })
            .ok()
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

    /// What holds the programs to their tracepoints, in the programs' order.
    #[must_use]
    pub fn links(&self) -> Vec<LinkFacts> {
        self.links.iter().map(facts::of_link).collect()
    }

    /// The table, to be read by whoever has time to.
    ///
    /// # Errors
    ///
    /// When no descriptor can be had.
    pub fn table_descriptor(&self) -> std::io::Result<OwnedFd> {
        self.pids_fd.try_clone()
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

fn take<T: TryFrom<Map, Error = MapError>>(
    object: &mut aya::Ebpf,
    name: &'static str,
) -> Result<T, SourceError> {
    let map = object.take_map(name).ok_or(SourceError::Missing { name })?;
    T::try_from(map).map_err(|source| SourceError::Map { name, source })
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
