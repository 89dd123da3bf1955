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
pub const LAYOUT_VERSION: u32 = 2;

/// Name of the hash map of registered processes, keyed by [`Tgid`].
pub const PIDS_MAP: &str = "pmon_pids";
/// Name of the ring buffer that carries [`Event`] records.
pub const EVENTS_MAP: &str = "pmon_events";
/// Name of the per-CPU array (one element) of [`Stats`].
pub const STATS_MAP: &str = "pmon_stats";
/// Name of the array that says where the table has nothing, see [`FILTER_ELEMENTS`].
pub const FILTER_MAP: &str = "pmon_filter";
/// Name of the program on the `sched_process_exit` tracepoint.
pub const EXIT_PROGRAM: &str = "pmon_exit";
/// Name of the program on the same tracepoint for kernels without BTF.
pub const EXIT_RAW_PROGRAM: &str = "pmon_exit_raw";
/// Name of the program on `signal_generate`: who sends a registered process a signal.
pub const SIGNAL_PROGRAM: &str = "pmon_signal";
/// Name of the same program where the verifier takes the signal's information
/// for a mere number, so that it must be probed (seen with Linux 7.3).
pub const SIGNAL_RAW_PROGRAM: &str = "pmon_signal_raw";
/// Name of the program on `mark_victim`: whom the OOM killer chose.
pub const OOM_PROGRAM: &str = "pmon_oom";
/// Name of the program on `sched_process_fork`: children of followed processes.
pub const FORK_PROGRAM: &str = "pmon_fork";
/// Name of the program on `sched_process_exec`: followed processes that execute.
pub const EXEC_PROGRAM: &str = "pmon_exec";

/// Registrations the map is sized for when the loader does not say otherwise.
pub const DEFAULT_MAX_PIDS: u32 = 65_536;
/// Default ring size in bytes: a power of two and a multiple of the page size,
/// as the kernel demands (`ringbuf_map_alloc`). Holds about 3,200 records.
pub const DEFAULT_RING_BYTES: u32 = 256 * 1024;

/// Neighbouring keys of [`PIDS_MAP`] that share a byte of [`FILTER_MAP`], as a
/// power of two. A byte that is 0 says that none of them has ever been in the
/// table; it is set before one is, and stays set. Strangers' pids follow one
/// another, so their bytes are in the cache, which the table's buckets are not.
pub const FILTER_KEYS_BITS: u32 = 1;
/// Bytes in an element of [`FILTER_MAP`]; the kernel pads elements to 8.
pub const FILTER_ELEMENT_BYTES: usize = 8;
/// Elements of [`FILTER_MAP`]: enough for every pid there can be ([`PID_BITS`]).
pub const FILTER_ELEMENTS: u32 = 1 << (PID_BITS - FILTER_KEYS_BITS - 3);

/// Key of [`PIDS_MAP`]: a thread group id as the daemon's pid namespace sees it.
pub type Tgid = u32;

/// Nanoseconds in one tick of `/proc/PID/stat` field 22 (`starttime`).
/// `USER_HZ` is 100 on every architecture pmon supports.
pub const START_TICK_NS: u64 = 10_000_000;

/// Bits of [`Registration::flags`] and [`Event::flags`].
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
    /// Set by user space: children are registered when they are forked.
    pub const FOLLOW: u32 = 1 << 4;
    /// The kernel made this entry, for a child of a followed process.
    pub const FOLLOWED: u32 = 1 << 5;
    /// `cpu_ns` and `peak_rss_pages` hold what the whole process used.
    pub const USAGE_KNOWN: u32 = 1 << 6;
    /// The `signal` fields hold the last signal that somebody sent. In a byte of
    /// its own, as the next one: a signal may be sent while the last thread of its
    /// receiver calls `exit` (not `exit_group`), and BPF has no atomic OR before
    /// Linux 5.12.
    pub const SIGNAL_KNOWN: u32 = 1 << 8;
    /// The OOM killer chose this process.
    pub const OOM_VICTIM: u32 = 1 << 16;
}

/// Kinds of [`Event`].
pub mod kind {
    /// A registered thread group died.
    pub const EXIT: u32 = 1;
    /// A followed process forked; the child has an entry if the flags say
    /// [`flag::FOLLOWED`](super::flag::FOLLOWED).
    pub const FORK: u32 = 2;
    /// A followed process executed another program.
    pub const EXEC: u32 = 3;
}

/// Generations from here on are the kernel's own, given to children of
/// followed processes; user space counts from below. Below this bit they hold
/// the child's start time in ticks and its pid as the initial namespace sees
/// it, so that they are unique without a counter, whoever makes them.
pub const KERNEL_GENERATIONS: u64 = 1 << 62;
/// Bits of a pid: `PID_MAX_LIMIT` of `include/linux/threads.h` is 2^22.
pub const PID_BITS: u32 = 22;

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

/// What `mark_victim` tells of the OOM killer's victim; injected like [`group_dead`].
pub mod oom_argument {
    /// Nothing that is known.
    pub const UNKNOWN: u32 = 0;
    /// A thread's id in the initial pid namespace (before Linux 6.10).
    pub const PID: u32 = 1;
    /// The `task_struct`.
    pub const TASK: u32 = 2;
}

/// How `struct pid` holds its numbers; injected like [`group_dead`].
pub mod pid_numbers {
    /// Nothing that is known.
    pub const UNKNOWN: u32 = 0;
    /// A flexible array, which the verifier lets programs walk (Linux 6.5).
    pub const FLEXIBLE: u32 = 1;
    /// An array of one; what is behind it needs `bpf_probe_read_kernel`.
    pub const ONE: u32 = 2;
}

/// One registered process: the value of [`PIDS_MAP`].
///
/// User space writes who it is, the kernel writes the rest. The entry, not the
/// ring, is the truth about a death.
///
/// The first [`FROZEN_BYTES`] are the same in every layout there was and will
/// be; a daemon of another layout reads them when it takes over a table. Later
/// layouts append.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// With [`flag::FOLLOWED`], generation of the entry that user space made and
    /// that this process descends from, through any number of forks.
    pub root_generation: u64,
    /// Generation whose death the death fields tell. The kernel may give the
    /// memory of a removed entry to the next one while a program still writes
    /// to it; what doesn't name the entry's own generation is somebody else's.
    pub dead_generation: u64,
    /// Generation to which the signal was sent, for the same reason.
    pub signal_generation: u64,
    /// CPU time of all threads in nanoseconds, with [`flag::USAGE_KNOWN`].
    pub cpu_ns: u64,
    /// Peak resident set in pages as getrusage(2) counts it, that is, from the
    /// fork on and with vfork(2) from the parent's; with [`flag::USAGE_KNOWN`].
    pub peak_rss_pages: u64,
    /// `CLOCK_BOOTTIME` nanoseconds of the signal, with [`flag::SIGNAL_KNOWN`].
    pub signal_at: u64,
    /// Number of the signal, with [`flag::SIGNAL_KNOWN`]; a SIGKILL stays.
    pub signal: u32,
    /// Its `si_code`: positive when the kernel sent it (`sigaction(2)`).
    pub signal_code: i32,
    /// Who sent it: tgid as the daemon's pid namespace sees it, 0 when it is outside.
    pub sender_tgid: Tgid,
    /// The sender's real user id, as the initial user namespace sees it.
    pub sender_uid: u32,
    /// The sender's `comm`; empty when the kernel sent it.
    pub sender_comm: [u8; 16],
    /// `comm` of the last thread at its death, NUL padded (`TASK_COMM_LEN`).
    pub comm: [u8; 16],
}

/// Length of the part of a [`Registration`] that never changes: identity,
/// generation, death.
pub const FROZEN_BYTES: usize = 32;

/// One record of the ring [`EVENTS_MAP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// [`LAYOUT_VERSION`] of the program that wrote it.
    pub layout: u32,
    /// See [`kind`].
    pub kind: u32,
    /// Of the entry it is about: with [`kind::FORK`] the child's.
    pub start_time: u64,
    /// Of the entry it is about; a stale generation is dropped.
    pub generation: u64,
    /// With [`kind::FORK`], see [`Registration::root_generation`].
    pub root_generation: u64,
    /// `CLOCK_BOOTTIME` nanoseconds.
    pub at: u64,
    /// Key of the entry.
    pub tgid: Tgid,
    /// Raw wait status, valid with [`flag::EXIT_CODE_KNOWN`].
    pub exit_code: u32,
    /// See [`flag`].
    pub flags: u32,
    /// CPU on which it happened.
    pub cpu: u32,
    /// `comm` of the thread it happened to, NUL padded (`TASK_COMM_LEN`).
    pub comm: [u8; 16],
}

/// Counters of one CPU: the value of [`STATS_MAP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deaths of registered thread groups written into their entries.
    pub deaths: u64,
    /// Records for which the ring had no room. The entry still has what they tell.
    pub drops: u64,
    /// Exits of a registered tgid whose start time was a stranger's.
    pub strangers: u64,
    /// Further group-dead exits for an entry that was already dead.
    pub repeats: u64,
    /// Children of followed processes that got an entry.
    pub followed: u64,
    /// Children of followed processes that got none: the table had no room, or
    /// an earlier owner of the pid has its place until its death is collected.
    pub unfollowed: u64,
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
            followed,
            unfollowed,
        } = other;
        Self {
            deaths: self.deaths.wrapping_add(deaths),
            drops: self.drops.wrapping_add(drops),
            strangers: self.strangers.wrapping_add(strangers),
            repeats: self.repeats.wrapping_add(repeats),
            followed: self.followed.wrapping_add(followed),
            unfollowed: self.unfollowed.wrapping_add(unfollowed),
        }
    }
}

const _: () = {
    assert!(size_of::<Registration>() == 128);
    assert!(size_of::<Event>() == 72);
    assert!(size_of::<Stats>() == 48);
    assert!(align_of::<Registration>() == 8);
    assert!(align_of::<Event>() == 8);
    assert!(FILTER_ELEMENT_BYTES == 1 << 3);
    assert!(core::mem::offset_of!(Registration, root_generation) == FROZEN_BYTES);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Registration, Stats};

    // SAFETY: `repr(C)`, integers only, no padding (sizes asserted above).
    unsafe impl aya::Pod for Registration {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Stats {}
}
