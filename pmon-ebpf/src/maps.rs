//! The maps. BTF-defined, so that `bpftool map dump` prints field names. Their
//! names are the kernel's and the pins' names (at most 15 characters) and must
//! match the constants in `pmon-common`.

use aya_ebpf::{
    btf_maps::{HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use pmon_common::{DEFAULT_MAX_PIDS, DEFAULT_RING_BYTES, Event, Registration, Stats, Tgid};

/// The registered processes; see [`Registration`].
#[btf_map(name = "pmon_pids")]
pub(crate) static PIDS: HashMap<Tgid, Registration, { DEFAULT_MAX_PIDS as usize }> = HashMap::new();

/// Doorbell to the daemon.
#[btf_map(name = "pmon_events")]
pub(crate) static EVENTS: RingBuf<Event, { DEFAULT_RING_BYTES as usize }> = RingBuf::new();

/// One element of counters per CPU.
#[btf_map(name = "pmon_stats")]
pub(crate) static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();
