//! `sched_process_fork`: registers the children of followed processes before
//! they run.
//!
//! Must stay true: an entry that is there already is never overwritten. It may
//! be the death of an earlier owner of the pid, which user space has not
//! collected yet; then the child goes without, is counted, and the record says
//! so, for user space to register it itself.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use pmon_common::{Event, KERNEL_GENERATIONS, PID_BITS, Registration, flag, kind};

use crate::{
    entry::{Entry, Match},
    filter,
    maps::PIDS,
    namespace,
    ring::{count, ring},
    task::Task,
};

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const BPF_NOEXIST: u64 = 1;

/// The program on `tp_btf/sched_process_fork`, with the arguments parent and
/// child. The parent is running; the child has not been woken yet
/// (`kernel_clone` in `kernel/fork.c`).
#[btf_tracepoint(function = "sched_process_fork")]
pub(crate) fn pmon_fork(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's arguments.
    let (parent, child) = unsafe { (Task::new(ctx.arg(0)), Task::new(ctx.arg(1))) };
    let Some(parent_tgid) = namespace::current_tgid(parent) else {
        return 0;
    };
    let Some(entry) = Entry::of(parent_tgid) else {
        return 0;
    };
    if entry.flags() & flag::FOLLOW == 0 || matches!(entry.is(parent), Match::Stranger) {
        return 0;
    }
    if child.is_leader() != Some(true) {
        return 0;
    }
    let (Some(tgid), Some(start_time), Some(initial_tgid)) =
        (namespace::tgid(child), child.start_time(), child.tgid())
    else {
        return 0;
    };
    let mut flags = flag::FOLLOW | flag::FOLLOWED;
    let registration = Registration {
        start_time,
        generation: generation(start_time, initial_tgid),
        flags,
        root_generation: entry.root(),
        ..Registration::default()
    };
    filter::admit(tgid);
    if PIDS.insert(tgid, registration, BPF_NOEXIST).is_ok() {
        count(|stats| &mut stats.followed);
    } else if Entry::of(tgid).is_some_and(|there| there.generation() == registration.generation) {
        // The same program, attached a second time while one set replaces another.
        return 0;
    } else {
        flags = 0;
        count(|stats| &mut stats.unfollowed);
    }
    debug!(
        &ctx,
        "tgid {} forked tgid {}, flags {}", parent_tgid, tgid, flags
    );
    ring(Event {
        kind: kind::FORK,
        start_time,
        generation: registration.generation,
        root_generation: registration.root_generation,
        // SAFETY: the helper has no preconditions.
        at: unsafe { bpf_ktime_get_boot_ns() },
        tgid,
        flags,
        // SAFETY: the helper has no preconditions.
        cpu: unsafe { bpf_get_smp_processor_id() },
        comm: bpf_get_current_comm().unwrap_or_default(),
        ..Event::default()
    });
    0
}

/// See [`KERNEL_GENERATIONS`].
#[inline(always)]
fn generation(start_time: u64, initial_tgid: u32) -> u64 {
    KERNEL_GENERATIONS | start_time << PID_BITS | u64::from(initial_tgid)
}
