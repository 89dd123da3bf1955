//! What the kernel says of our program and maps: ids, tag, capacities.

use aya::maps::Map;
use pmon_common::{EVENTS_MAP, EXIT_PROGRAM, PIDS_MAP, STATS_MAP};

use super::ebpf::SourceError;

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

/// What the kernel said of the program when it was loaded.
#[derive(Clone, Debug)]
pub struct ProgramFacts {
    /// Kernel id.
    pub id: u32,
    /// Hash of the instructions.
    pub tag: u64,
}

pub(super) fn of_program(object: &aya::Ebpf) -> Result<ProgramFacts, SourceError> {
    let info = object
        .program(EXIT_PROGRAM)
        .ok_or(SourceError::Missing { name: EXIT_PROGRAM })?
        .info()
        .map_err(|source| SourceError::Program {
            name: EXIT_PROGRAM,
            what: "inspect",
            source,
        })?;
    Ok(ProgramFacts {
        id: info.id(),
        tag: info.tag(),
    })
}

pub(super) fn of_maps(object: &aya::Ebpf) -> Result<Vec<MapFacts>, SourceError> {
    let mut facts = Vec::new();
    for (name, kind) in [
        (PIDS_MAP, "hash"),
        (EVENTS_MAP, "ringbuf"),
        (STATS_MAP, "percpu_array"),
    ] {
        let map = object.map(name).ok_or(SourceError::Missing { name })?;
        let info = match map {
            Map::HashMap(data) | Map::RingBuf(data) | Map::PerCpuArray(data) => data.info(),
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
