//! What the kernel says of our programs, links and maps: ids, tags, capacities, run
//! statistics.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::maps::Map;
use pmon_common::{EVENTS_MAP, FILTER_MAP, PIDS_MAP, STATS_MAP};

use super::{ebpf::SourceError, programs::ProgramLink};

/// What the kernel said of a map when it was made.
#[derive(Clone, Debug)]
pub struct MapFacts {
    /// Kernel id.
    pub id: u32,
    /// Name.
    pub name: &'static str,
    /// Kind, in the kernel's words.
    pub kind: &'static str,
    /// Capacity.
    pub max_entries: u32,
}

/// What the kernel says of an attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFacts {
    /// Name.
    pub name: &'static str,
    /// The tracepoint with the kind of the program: `tp_btf/…` or `raw_tp/…`.
    pub tracepoint: &'static str,
    /// Kernel id.
    pub id: u32,
    /// Hash of the instructions.
    pub tag: u64,
    /// Instructions that the verifier left in it, 0 where the kernel doesn't say.
    pub instructions: u32,
    /// Runs ever counted: while somebody has the kernel count (`BPF_ENABLE_STATS`
    /// of bpf(2), or `kernel.bpf_stats_enabled`).
    pub run_count: u64,
    /// Time of these runs.
    pub run_time: Duration,
}

/// What the kernel says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// Name of its program; links have none themselves.
    pub program: &'static str,
    /// The tracepoint with the kind of the program.
    pub tracepoint: &'static str,
    /// Kernel ids of link and program; none where the kernel does not tell
    /// (before Linux 5.8).
    pub ids: Option<(u32, u32)>,
}

/// The facts of one link, as of now.
pub(super) fn of_link(link: &ProgramLink) -> LinkFacts {
    let ProgramLink {
        program,
        tracepoint,
        link,
    } = link;
    LinkFacts {
        program,
        tracepoint,
        ids: link.info().ok().map(|info| (info.id(), info.program_id())),
    }
}

/// The facts of the attached programs, in the links' order.
pub(super) fn of_programs(
    object: &aya::Ebpf,
    links: &[ProgramLink],
) -> Result<Vec<ProgramFacts>, SourceError> {
    links
        .iter()
        .map(|link| of_program(object, link.program, link.tracepoint))
        .collect()
}

/// The facts of one program, as of now.
pub(super) fn of_program(
    object: &aya::Ebpf,
    name: &'static str,
    tracepoint: &'static str,
) -> Result<ProgramFacts, SourceError> {
    let info = object
        .program(name)
        .ok_or(SourceError::Missing { name })?
        .info()
        .map_err(|source| SourceError::Program {
            name,
            what: "inspect",
            source,
        })?;
    Ok(ProgramFacts {
        name,
        tracepoint,
        id: info.id(),
        tag: info.tag(),
        // Eight bytes each (`struct bpf_insn`).
        instructions: info.size_translated().unwrap_or(0) / 8,
        run_count: info.run_count(),
        run_time: info.run_time(),
    })
}

/// Runs that the kernel has left out (`recursion_misses`, which aya does not read):
/// proc_pid_fdinfo(5) of the program's descriptor.
pub(super) fn missed_runs(object: &aya::Ebpf, name: &str) -> Option<u64> {
    let descriptor = object.program(name)?.fd().ok()?.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

pub(super) fn of_maps(object: &aya::Ebpf) -> Result<Vec<MapFacts>, SourceError> {
    let mut facts = Vec::new();
    for (name, kind) in [
        (PIDS_MAP, "hash"),
        (EVENTS_MAP, "ringbuf"),
        (STATS_MAP, "percpu_array"),
        (FILTER_MAP, "array"),
    ] {
        let map = object.map(name).ok_or(SourceError::Missing { name })?;
        let info = match map {
            Map::HashMap(data) | Map::RingBuf(data) | Map::PerCpuArray(data) | Map::Array(data) => {
                data.info()
            }
            _ => return Err(SourceError::Missing { name }),
        }
        .map_err(|source| SourceError::Map { name, source })?;
        facts.push(MapFacts {
            id: info.id(),
            name,
            kind,
            max_entries: info.max_entries(),
        });
    }
    Ok(facts)
}
