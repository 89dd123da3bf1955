//! `sched_process_exit`: writes the death of a registered thread group into its
//! table entry, then rings the daemon.
//!
//! Must stay true: an exit of an unregistered tgid costs one hash look-up; the
//! entry is written before the ring, so that a full ring loses a wake-up but
//! never a death; an exit that leaves other threads alive changes nothing.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use pmon_common::{Event, LAYOUT_VERSION, Registration, Stats, flag, kind};

use crate::{
    maps::{EVENTS, PIDS, STATS},
    task::{GroupDead, Task},
};

/// The program on `tp_btf/sched_process_exit`.
#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn pmon_exit(ctx: BtfTracePointContext) -> i32 {
    let tgid = ctx.tgid();
    let Some(entry) = PIDS.get_ptr_mut(tgid) else {
        return 0;
    };
    let task = Task::new(&ctx);
    let mut flags = match task.group_dead() {
        GroupDead::Yes => flag::GROUP_DEAD,
        GroupDead::No => return 0,
        GroupDead::Unknown => 0,
    };
    // SAFETY: `entry` points into the map; user space replaces whole values,
    // so these fields belong to one registration.
    let (start_time, generation) = unsafe { ((*entry).start_time, (*entry).generation) };
    if let Some(started) = task.start_time() {
        if started != start_time {
            count(|stats| &mut stats.strangers);
            debug!(
                &ctx,
                "tgid {} started at {}, registered as {}", tgid, started, start_time
            );
            return 0;
        }
        flags |= flag::IDENTITY_CHECKED;
    }
    let exit_code = match task.wait_status() {
        Some(status) => {
            flags |= flag::EXIT_CODE_KNOWN;
            status
        }
        None => 0,
    };
    // SAFETY: the helper has no preconditions.
    let died_at = unsafe { bpf_ktime_get_boot_ns() };
    write_death(entry, died_at, exit_code, flags);
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    ring(Event {
        layout: LAYOUT_VERSION,
        kind: kind::EXIT,
        start_time,
        generation,
        parent_generation: 0,
        at: died_at,
        tgid,
        exit_code,
        flags,
        cpu,
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
    0
}

/// Without a group-dead test several threads may come through here; only a
/// known group death marks the entry, and only the first one.
#[inline(always)]
fn write_death(entry: *mut Registration, died_at: u64, exit_code: u32, flags: u32) {
    if flags & flag::GROUP_DEAD == 0 {
        return;
    }
    // SAFETY: `entry` points into the map and stays valid for this run of the
    // program. User space only deletes it or compares generations.
    unsafe {
        if (*entry).flags & flag::DEAD != 0 {
            count(|stats| &mut stats.repeats);
            return;
        }
        (*entry).died_at = died_at;
        (*entry).exit_code = exit_code;
        (*entry).flags |= flags | flag::DEAD;
    }
    count(|stats| &mut stats.deaths);
}

#[inline(always)]
fn ring(event: Event) {
    match EVENTS.reserve(0) {
        Some(mut record) => {
            record.write(event);
            record.submit(0);
        }
        None => count(|stats| &mut stats.drops),
    }
}

/// Adds one to a counter of this CPU.
#[inline(always)]
fn count(field: impl FnOnce(&mut Stats) -> &mut u64) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: this CPU's own element; preemption is off in a tracepoint
        // program, so nothing else on this CPU touches it meanwhile.
        let counter = field(unsafe { &mut *stats });
        *counter = counter.wrapping_add(1);
    }
}
