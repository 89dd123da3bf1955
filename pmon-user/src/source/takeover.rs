//! Taking over what an earlier daemon has left pinned: its maps, with the
//! deaths that its programs wrote while no daemon was there.
//!
//! Two ways, and nothing else:
//!
//! * **reuse**: a pinned map that is what ours would be is loaded against, so
//!   that the earlier programs and ours write into the same one;
//! * **copy**: from a table of another layout or size, or one that can only be
//!   read. Once our programs are attached, every entry that ours has not is
//!   copied, then every death that was written meanwhile. An exit between the
//!   two is seen by the earlier program, one after the copy by ours.
//!
//! Must stay true: the earlier links go last, when ours are attached and
//! pinned; of an entry of another layout only the first `FROZEN_BYTES` are read.

use std::{io, path::Path};

use aya::{
    maps::{MapType, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use pmon_common::{
    EVENTS_MAP, FILTER_ELEMENT_BYTES, FILTER_ELEMENTS, FILTER_MAP, FROZEN_BYTES, PIDS_MAP,
    Registration, STATS_MAP, Stats, Tgid, flag,
};

use super::{
    ebpf::{Inserted, MapSizes},
    pins::PinDirectory,
};
use crate::sys::bpf::{Access, PinnedMap};

/// What an earlier daemon has left.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Names of the maps to load against.
    pub(super) reuse: Vec<&'static str>,
    /// Tables to copy from.
    pub(super) tables: Vec<PinnedMap>,
    /// Counters to copy from.
    pub(super) counters: Vec<PinnedMap>,
    /// Other layouts' directories, to be removed at the end.
    pub(super) others: Vec<PinDirectory>,
}

/// What a map of ours is like.
struct Expected {
    name: &'static str,
    kind: MapType,
    key_size: u32,
    value_size: usize,
    max_entries: u32,
}

fn expected(sizes: MapSizes) -> [Expected; 4] {
    [
        Expected {
            name: PIDS_MAP,
            kind: MapType::Hash,
            key_size: 4,
            value_size: size_of::<Registration>(),
            max_entries: sizes.max_pids,
        },
        Expected {
            name: EVENTS_MAP,
            kind: MapType::RingBuf,
            key_size: 0,
            value_size: 0,
            // As aya rounds it: a power of two of whole pages.
            max_entries: u32::try_from(rustix::param::page_size())
                .unwrap_or(4096)
                .max(sizes.ring_bytes)
                .next_power_of_two(),
        },
        Expected {
            name: STATS_MAP,
            kind: MapType::PerCpuArray,
            key_size: 4,
            value_size: size_of::<Stats>(),
            max_entries: 1,
        },
        Expected {
            name: FILTER_MAP,
            kind: MapType::Array,
            key_size: 4,
            value_size: FILTER_ELEMENT_BYTES,
            max_entries: FILTER_ELEMENTS,
        },
    ]
}

/// Looks at what is pinned. What is in the way of our pins is set aside and told.
pub(super) fn inspect(
    pins: &PinDirectory,
    sizes: MapSizes,
    repairs: &mut Vec<String>,
) -> Inventory {
    let mut inventory = Inventory::default();
    let fresh = pins.list().is_empty();
    for expected in expected(sizes) {
        let path = pins.pin(expected.name);
        match look(&path) {
            Found::Nothing if fresh => {}
            Found::Nothing => repairs.push(format!("the pin `{}` was missing", path.display())),
            Found::Foreign(why) => {
                if let Err(error) = pins.set_aside(&path, &why, repairs) {
                    tracing::warn!(path = %path.display(), %error, why, "is in the way");
                }
            }
            Found::Map { map, writable } => match expected.differs(&map) {
                None if writable => inventory.reuse.push(expected.name),
                None => inventory.copy(expected.name, *map),
                Some(_) if is_donor(expected.name, &map) => inventory.copy(expected.name, *map),
                Some(why) => {
                    drop(map);
                    if let Err(error) = pins.set_aside(&path, &why, repairs) {
                        tracing::warn!(path = %path.display(), %error, why, "is in the way");
                    }
                }
            },
        }
    }
    for other in pins.of_other_layouts() {
        for name in [PIDS_MAP, STATS_MAP] {
            if let Found::Map { map, .. } = look(&other.pin(name))
                && is_donor(name, &map)
            {
                inventory.copy(name, *map);
            }
        }
        inventory.others.push(other);
    }
    inventory
}

impl Inventory {
    fn copy(&mut self, name: &'static str, map: PinnedMap) {
        match name {
            PIDS_MAP => self.tables.push(map),
            STATS_MAP => self.counters.push(map),
            // What a ring holds is in the table, too, and a filter is made from it.
            _ => {}
        }
    }
}

/// What is at the place of a pin.
enum Found {
    Nothing,
    Map {
        map: Box<PinnedMap>,
        writable: bool,
    },
    /// And why it is none of ours.
    Foreign(String),
}

fn look(path: &Path) -> Found {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return Found::Foreign(error.to_string()),
        Ok(found) if found.is_dir() => return Found::Foreign("it is a directory".to_owned()),
        Ok(found) if found.is_symlink() => {
            return Found::Foreign("it is a symbolic link".to_owned());
        }
        Ok(_) => {}
    }
    match PinnedMap::open(path, Access::ReadWrite) {
        Ok(map) => Found::Map {
            map: Box::new(map),
            writable: true,
        },
        Err(error) => match PinnedMap::open(path, Access::Read) {
            Ok(map) => Found::Map {
                map: Box::new(map),
                writable: false,
            },
            Err(_) => Found::Foreign(error.to_string()),
        },
    }
}

impl Expected {
    /// Why the map is not what ours would be.
    fn differs(&self, map: &PinnedMap) -> Option<String> {
        let Self {
            name,
            kind,
            key_size,
            value_size,
            max_entries,
        } = self;
        let info = map.info();
        let wrong = |what: &str, found: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
            Some(format!("its {what} is {found:?}, expected {wanted:?}"))
        };
        match info.map_type() {
            Ok(found) if found == *kind => {}
            found => return wrong("type", &found.ok(), kind),
        }
        if info.name() != name.as_bytes() {
            return wrong("name", &info.name_as_str(), name);
        }
        if info.key_size() != *key_size {
            return wrong("key size", &info.key_size(), key_size);
        }
        if usize::try_from(info.value_size()) != Ok(*value_size) {
            return wrong("value size", &info.value_size(), value_size);
        }
        if info.max_entries() != *max_entries {
            return wrong("capacity", &info.max_entries(), max_entries);
        }
        None
    }
}

/// Whether the map is one of pmon's, of whatever layout and size.
fn is_donor(name: &str, map: &PinnedMap) -> bool {
    let info = map.info();
    let value_size = usize::try_from(info.value_size()).unwrap_or(0);
    let fits = match name {
        PIDS_MAP => matches!(info.map_type(), Ok(MapType::Hash)) && value_size >= FROZEN_BYTES,
        STATS_MAP => matches!(info.map_type(), Ok(MapType::PerCpuArray)) && value_size >= 8,
        FILTER_MAP => matches!(info.map_type(), Ok(MapType::Array)),
        // There is nothing to copy of a ring, only a pin to be replaced.
        _ => return matches!(info.map_type(), Ok(MapType::RingBuf)),
    };
    fits && info.key_size() == 4 && info.name() == name.as_bytes()
}

/// The kernel's table as the copy sees it.
pub(super) trait Table {
    /// An entry.
    fn get(&self, tgid: Tgid) -> Option<Registration>;
    /// Puts an entry in unless there is one.
    fn put(&mut self, tgid: Tgid, entry: Registration) -> Result<Inserted, String>;
    /// Replaces an entry.
    fn replace(&mut self, tgid: Tgid, entry: Registration) -> Result<(), String>;
}

/// What came of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Entries that are in our table now.
    pub(super) entries: usize,
    /// Entries of live processes for which it had no room.
    pub(super) left_out: usize,
}

/// Copies entries, then deaths, as the module describes.
///
/// # Errors
///
/// When something could not be read or written, or a death had no room: then
/// the earlier table must stay.
pub(super) fn copy_table(from: &PinnedMap, to: &mut impl Table) -> Result<Copied, String> {
    let unreadable = |error: io::Error| format!("cannot read the earlier table: {error}");
    let is_dead = |entry: &Registration| entry.flags & flag::DEAD != 0;
    let mut entries = Vec::new();
    for tgid in from.keys().map_err(unreadable)? {
        if let Some(entry) = entry(from, tgid).map_err(unreadable)? {
            entries.push((tgid, entry));
        }
    }
    // Should there be no room for all, then for the dead.
    entries.sort_by_key(|(_, entry)| !is_dead(entry));
    let mut copied = Copied::default();
    for (tgid, entry) in &entries {
        match to.put(*tgid, *entry)? {
            Inserted::Yes | Inserted::Occupied => copied.entries += 1,
            Inserted::Full if is_dead(entry) => {
                return Err("the table (`max_pids`) has no room for the earlier one's dead".into());
            }
            Inserted::Full => copied.left_out += 1,
        }
    }
    for (tgid, _) in &entries {
        let Some(entry) = entry(from, *tgid).map_err(unreadable)? else {
            continue;
        };
        let unaware = to.get(*tgid).is_some_and(|ours| {
            ours.generation == entry.generation
                && ours.start_time == entry.start_time
                && !is_dead(&ours)
        });
        if is_dead(&entry) && unaware {
            to.replace(*tgid, entry)?;
        }
    }
    Ok(copied)
}

/// An entry of a table of any layout: all of it where it is of ours.
fn entry(table: &PinnedMap, tgid: u32) -> io::Result<Option<Registration>> {
    let Some(bytes) = table.value(tgid)? else {
        return Ok(None);
    };
    Ok(if bytes.len() == size_of::<Registration>() {
        crate::sys::record::registration(&bytes)
    } else {
        frozen(&bytes)
    })
}

/// What all layouts have in common.
fn frozen(bytes: &[u8]) -> Option<Registration> {
    let part = |at: usize, length: usize| bytes.get(at..at + length);
    let long = |at| Some(u64::from_ne_bytes(part(at, 8)?.try_into().ok()?));
    let int = |at| Some(u32::from_ne_bytes(part(at, 4)?.try_into().ok()?));
    /// Flags that say how to read the frozen part; the others speak of fields
    /// behind it.
    const FLAGS: u32 =
        flag::DEAD | flag::EXIT_CODE_KNOWN | flag::IDENTITY_CHECKED | flag::GROUP_DEAD;
    let generation = long(8)?;
    let flags = int(28)? & FLAGS;
    Some(Registration {
        start_time: long(0)?,
        generation,
        dead_generation: if flags & flag::DEAD != 0 {
            generation
        } else {
            0
        },
        died_at: long(16)?,
        exit_code: int(24)?,
        flags,
        ..Registration::default()
    })
}

/// Adds earlier counters to ours. Later layouts append counters, so what both
/// have is the beginning.
///
/// # Errors
///
/// When something could not be read or written.
pub(super) fn copy_counters<M: std::borrow::BorrowMut<aya::maps::MapData>>(
    from: &PinnedMap,
    to: &mut PerCpuArray<M, Stats>,
) -> Result<(), String> {
    let cpus = nr_cpus().map_err(|(file, error)| format!("`{file}`: {error}"))?;
    let bytes = from
        .value(0)
        .map_err(|error| format!("cannot read the earlier counters: {error}"))?
        .unwrap_or_default();
    let each = bytes.len() / cpus.max(1);
    let ours = to.get(&0, 0).map_err(|error| error.to_string())?;
    let sums: Vec<Stats> = ours
        .iter()
        .zip(bytes.chunks(each.max(1)))
        .map(|(ours, earlier)| ours.plus(crate::sys::record::stats(earlier)))
        .collect();
    let sums = PerCpuValues::try_from(sums).map_err(|error| error.to_string())?;
    to.set(0, sums, 0).map_err(|error| error.to_string())
}
