//! The maps. BTF-defined, so that `bpftool map dump` prints field names. Their
//! names are the kernel's and the pins' names (at most 15 characters) and must
//! match the constants in `pmon-common`.

use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use pmon_common::{
    DEFAULT_MAX_PIDS, DEFAULT_RING_BYTES, Event, FILTER_ELEMENT_BYTES, FILTER_ELEMENTS,
    Registration, Stats, Tgid,
};

/// The registered processes; see [`Registration`].
#[btf_map(name = "pmon_pids")]
pub(crate) static PIDS: HashMap<Tgid, Registration, { DEFAULT_MAX_PIDS as usize }> = HashMap::new();

/// Doorbell to the daemon.
#[btf_map(name = "pmon_events")]
pub(crate) static EVENTS: RingBuf<Event, { DEFAULT_RING_BYTES as usize }> = RingBuf::new();

/// One element of counters per CPU.
#[btf_map(name = "pmon_stats")]
pub(crate) static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();

/// `BPF_F_MMAPABLE` of `include/uapi/linux/bpf.h` (Linux 5.5): the daemon writes
/// single bytes.
const MMAPABLE: usize = 1 << 10;

/// Where the table has nothing; see [`pmon_common::FILTER_KEYS_BITS`].
#[btf_map(name = "pmon_filter")]
pub(crate) static FILTER: Array<
    [u8; FILTER_ELEMENT_BYTES],
    { FILTER_ELEMENTS as usize },
    MMAPABLE,
> = Array::new();
