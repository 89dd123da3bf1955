//! What keeps strangers from the kernel's table: a byte for some neighbouring
//! keys (`pmon_filter`), which the programs look at first.
//!
//! Must stay true: the byte of a key is set before the key is inserted, by
//! whoever inserts it, and never cleared. A filter that is new beside a table
//! that is not knows every key of it before a program is attached that asks it,
//! and what other programs have inserted until these were gone.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::maps::{Map, MapError};
use pmon_common::{FILTER_ELEMENT_BYTES, FILTER_ELEMENTS, FILTER_KEYS_BITS, FILTER_MAP, Tgid};

use super::ebpf::SourceError;
use crate::sys::shared_array::SharedArray;

/// The filter of the programs that are attached.
#[derive(Debug)]
pub(super) struct Filter {
    map: OwnedFd,
    bytes: SharedArray,
}

impl Filter {
    /// The one that an object was loaded with.
    pub(super) fn of(object: &aya::Ebpf) -> Result<Self, SourceError> {
        let name = FILTER_MAP;
        let Some(Map::Array(data)) = object.map(name) else {
            return Err(SourceError::Missing { name });
        };
        let failed = |error: std::io::Error| SourceError::Map {
            name,
            source: MapError::IoError(error),
        };
        let map = data.fd().as_fd().try_clone_to_owned().map_err(failed)?;
        let length = FILTER_ELEMENT_BYTES * FILTER_ELEMENTS as usize;
        let bytes = SharedArray::map(&map, length).map_err(|errno| failed(errno.into()))?;
        Ok(Self { map, bytes })
    }

    /// The table is about to have this key.
    pub(super) fn admit(&self, tgid: Tgid) {
        // Numbers beyond all pids are looked up without being asked about.
        let byte = (tgid >> FILTER_KEYS_BITS) as usize;
        if self.bytes.get(byte) == Some(0) {
            self.bytes.raise(byte);
        }
    }

    /// To be pinned.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use pmon_common::{DEFAULT_RING_BYTES, PID_BITS, Registration};

    use crate::source::ebpf::{Ebpf, MapSizes};

    #[test]
    fn neighbours_share_a_byte_and_nobody_else_does() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: neighbours_share_a_byte_and_nobody_else_does: needs root to load BPF");
            return;
        }
        let sizes = MapSizes {
            max_pids: 64,
            ring_bytes: DEFAULT_RING_BYTES,
        };
        let mut ebpf = Ebpf::start(sizes, None).unwrap();
        let last = (1 << PID_BITS) - 1;
        for tgid in [0, 4711, last] {
            ebpf.insert(tgid, Registration::default()).unwrap();
        }
        let byte = |tgid: u32| ebpf.filter.bytes.get((tgid >> 1) as usize);
        for (tgid, expected) in [
            (0, Some(1)),
            (1, Some(1)),
            (2, Some(0)),
            (4709, Some(0)),
            (4710, Some(1)),
            (4711, Some(1)),
            (4712, Some(0)),
            (last, Some(1)),
            (last + 1, None),
        ] {
            assert_eq!(byte(tgid), expected, "{tgid}");
        }
        ebpf.remove(4711);
        assert_eq!(ebpf.filter.bytes.get(4711 >> 1), Some(1));
    }
}
