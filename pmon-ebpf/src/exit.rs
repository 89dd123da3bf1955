//! `sched_process_exit`: writes the death of a registered thread group into its
//! table entry, then rings the daemon.
//!
//! Must stay true: an exit of an unregistered tgid costs one look at the filter,
//! and, if there was a registered one near it, one hash look-up; the entry is
//! written before the ring, so that a full ring loses a wake-up but never a
//! death; an exit that leaves other threads alive changes nothing; a death is
//! written and rung once.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use pmon_common::{Event, Registration, flag, group_dead, kind};

use crate::{
    entry::{self, Entry, put},
    namespace,
    ring::{count, ring},
    task::Task,
};

/// How the program learns that the exiting thread was the last; one of [`group_dead`].
#[unsafe(no_mangle)]
static PMON_GROUP_DEAD: Global<u32> = Global::new(group_dead::UNKNOWN);

/// The program on `tp_btf/sched_process_exit`.
#[btf_tracepoint(function = "sched_process_exit")]
pub(crate) fn pmon_exit(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's first argument is the exiting task.
    let task = unsafe { Task::new(ctx.arg(0)) };
    let Some(tgid) = namespace::current_tgid(task) else {
        return 0;
    };
    let Some(entry) = Entry::of(tgid) else {
        return 0;
    };
    let mut flags = match is_group_dead(&ctx, task) {
        Some(true) => flag::GROUP_DEAD,
        Some(false) => return 0,
        None => 0,
    };
    match entry.is(task) {
        entry::Match::Same => flags |= flag::IDENTITY_CHECKED,
        entry::Match::Unchecked => {}
        entry::Match::Stranger => {
            count(|stats| &mut stats.strangers);
            debug!(
                &ctx,
                "exit of tgid {}, which is not the registered one", tgid
            );
            return 0;
        }
    }
    let mut exit_code = 0;
    if let Some(status) = task.wait_status() {
        flags |= flag::EXIT_CODE_KNOWN;
        exit_code = status;
    }
    let death = Event {
        kind: kind::EXIT,
        start_time: entry.start_time(),
        generation: entry.generation(),
        // SAFETY: the helper has no preconditions.
        at: unsafe { bpf_ktime_get_boot_ns() },
        tgid,
        exit_code,
        flags,
        // SAFETY: the helper has no preconditions.
        cpu: unsafe { bpf_get_smp_processor_id() },
        comm: bpf_get_current_comm().unwrap_or_default(),
        ..Event::default()
    };
    if flags & flag::GROUP_DEAD != 0 {
        if entry.is_dead() {
            complete(entry, &death);
            count(|stats| &mut stats.repeats);
            return 0;
        }
        write(entry, &death, task);
        count(|stats| &mut stats.deaths);
    }
    debug!(
        &ctx,
        "exit of tgid {}: status {}, flags {}", tgid, exit_code, flags
    );
    ring(death);
    0
}

/// The tracepoint's `group_dead` argument where there is one (Linux 6.16), else
/// `signal->live`, which has been decremented at this point (`do_exit` in
/// `kernel/exit.c`). `None` when neither is available.
#[inline(always)]
fn is_group_dead(ctx: &BtfTracePointContext, task: Task) -> Option<bool> {
    match PMON_GROUP_DEAD.load() {
        group_dead::ARGUMENT => Some(ctx.arg::<u64>(1) & 0xff != 0),
        group_dead::SIGNAL_LIVE => Some(task.live_threads()? == 0),
        _ => None,
    }
}

/// Writes the death; the flag that makes it one comes last.
#[inline(always)]
fn write(entry: Entry, death: &Event, task: Task) {
    let mut flags = death.flags | flag::DEAD;
    let value: *mut Registration = entry.value();
    // SAFETY: `value` points into the map and stays readable and writable for
    // this run. Should user space have removed the entry and given its memory
    // to another, `dead_generation` tells that this isn't about that one.
    unsafe {
        put!(value, died_at, death.at);
        put!(value, exit_code, death.exit_code);
        put!(value, comm, death.comm);
        if let Some(usage) = task.usage() {
            put!(value, cpu_ns, usage.cpu_ns);
            put!(value, peak_rss_pages, usage.peak_rss_pages);
            flags |= flag::USAGE_KNOWN;
        }
        if task.is_oom_victim() {
            flags |= flag::OOM_VICTIM;
        }
        put!(value, dead_generation, death.generation);
    }
    entry.raise(flags);
}

/// Where `signal->live` decides, two threads that end at the same moment may
/// both find it zero, the first of them too early to know the status.
#[inline(always)]
fn complete(entry: Entry, death: &Event) {
    if death.flags & flag::EXIT_CODE_KNOWN == 0 || entry.flags() & flag::EXIT_CODE_KNOWN != 0 {
        return;
    }
    // SAFETY: as in `write`.
    unsafe { put!(entry.value(), exit_code, death.exit_code) };
    entry.raise(flag::EXIT_CODE_KNOWN);
}
