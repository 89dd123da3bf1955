//! The ABI between pmon's BPF programs and its daemon: map values, event
//! records and their flags.
//!
//! What must stay true: every type is `repr(C)`, has no implicit padding, and
//! its size is asserted here at compile time, because both sides and
//! `bpftool map dump` read the same bytes. Field names are user-visible through
//! BTF. A change of layout bumps [`LAYOUT_VERSION`], which names the bpffs
//! directory, so that two versions of pmon never share a map.
//!
//! No logic belongs here.
#![no_std]

/// Version of everything in this crate; part of the pin directory's name.
pub const LAYOUT_VERSION: u32 = 1;

/// Name of the hash map of registered processes, keyed by [`Tgid`].
pub const PIDS_MAP: &str = "pmon_pids";
/// Name of the ring buffer that carries [`ExitEvent`] records.
pub const EVENTS_MAP: &str = "pmon_events";
/// Name of the per-CPU array (one element) of [`Stats`].
pub const STATS_MAP: &str = "pmon_stats";
/// Name of the program on the `sched_process_exit` tracepoint.
pub const EXIT_PROGRAM: &str = "pmon_exit";

/// Registrations the map is sized for when the loader does not say otherwise.
pub const DEFAULT_MAX_PIDS: u32 = 65_536;
/// Default ring size in bytes: a power of two and a multiple of the page size,
/// as the kernel demands (`ringbuf_map_alloc`). Holds about 3,000 records.
pub const DEFAULT_RING_BYTES: u32 = 256 * 1024;

/// Key of [`PIDS_MAP`]: a thread group id as the daemon's pid namespace sees it.
pub type Tgid = u32;

/// Nanoseconds in one tick of `/proc/PID/stat` field 22 (`starttime`).
/// `USER_HZ` is 100 on every architecture pmon supports.
pub const START_TICK_NS: u64 = 10_000_000;

/// Bits of [`Registration::flags`] and [`ExitEvent::flags`].
pub mod flag {
    /// The kernel has seen the whole thread group die and filled in the death fields.
    pub const DEAD: u32 = 1 << 0;
    /// `exit_code` holds the raw wait status; without this bit it is unknown.
    pub const EXIT_CODE_KNOWN: u32 = 1 << 1;
    /// The kernel side compared start times and they matched.
    pub const IDENTITY_CHECKED: u32 = 1 << 2;
    /// The exit was known to be the last thread's; without this bit the record
    /// is only a reason to look at the pidfd.
    pub const GROUP_DEAD: u32 = 1 << 3;
}

/// How the exit program decides that a thread group is dead; the daemon picks
/// one from the running kernel's BTF and injects it as a read-only global.
pub mod group_dead {
    /// Nothing to decide by: every thread's exit is reported as a mere hint.
    pub const UNKNOWN: u32 = 0;
    /// The tracepoint's second argument (Linux 6.16 and later).
    pub const ARGUMENT: u32 = 1;
    /// `signal_struct.live == 0`.
    pub const SIGNAL_LIVE: u32 = 2;
}

/// One registered process: the value of [`PIDS_MAP`].
///
/// User space writes the identity half, the kernel writes the death half. The
/// entry, not the ring, is the truth about a death.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// `/proc/PID/stat` field 22, in ticks since boot.
    pub start_time: u64,
    /// Identifies this registration; a death is delivered once per generation.
    pub generation: u64,
    /// `CLOCK_BOOTTIME` nanoseconds of the death, 0 while alive.
    pub died_at: u64,
    /// Raw wait status, valid with [`flag::EXIT_CODE_KNOWN`].
    pub exit_code: u32,
    /// See [`flag`].
    pub flags: u32,
}

/// One record of the ring [`EVENTS_MAP`]: a registered thread group died.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitEvent {
    /// Copied from the [`Registration`].
    pub start_time: u64,
    /// Copied from the [`Registration`]; a stale generation is dropped.
    pub generation: u64,
    /// `CLOCK_BOOTTIME` nanoseconds of the death.
    pub died_at: u64,
    /// Key of the registration.
    pub tgid: Tgid,
    /// Raw wait status, valid with [`flag::EXIT_CODE_KNOWN`].
    pub exit_code: u32,
    /// See [`flag`].
    pub flags: u32,
    /// CPU on which the last thread exited.
    pub cpu: u32,
    /// `comm` of the last thread, NUL padded (`TASK_COMM_LEN`).
    pub comm: [u8; 16],
}

/// Counters of one CPU: the value of [`STATS_MAP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deaths of registered thread groups written into their entries.
    pub deaths: u64,
    /// Deaths whose ring record could not be reserved. The entry still has them.
    pub drops: u64,
    /// Exits of a registered tgid whose start time was a stranger's.
    pub strangers: u64,
    /// Further group-dead exits for an entry that was already dead.
    pub repeats: u64,
}

impl Stats {
    /// Adds another CPU's counters, wrapping as the kernel side does.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let Self {
            deaths,
            drops,
            strangers,
            repeats,
        } = other;
        Self {
            deaths: self.deaths.wrapping_add(deaths),
            drops: self.drops.wrapping_add(drops),
            strangers: self.strangers.wrapping_add(strangers),
            repeats: self.repeats.wrapping_add(repeats),
        }
    }
}

const _: () = {
    assert!(size_of::<Registration>() == 32);
    assert!(size_of::<ExitEvent>() == 56);
    assert!(size_of::<Stats>() == 32);
    assert!(align_of::<Registration>() == 8);
    assert!(align_of::<ExitEvent>() == 8);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Registration, Stats};

    // SAFETY: `repr(C)`, integers only, no padding (sizes asserted above).
    unsafe impl aya::Pod for Registration {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Stats {}
}
