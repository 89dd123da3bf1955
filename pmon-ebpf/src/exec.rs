//! `sched_process_exec`: a followed process became another program.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use pmon_common::{Event, flag, kind};

use crate::{
    entry::{Entry, Match},
    namespace,
    ring::ring,
    task::Task,
};

/// The program on `tp_btf/sched_process_exec`, whose first argument is the
/// running task, with its new name.
#[btf_tracepoint(function = "sched_process_exec")]
pub(crate) fn pmon_exec(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the tracepoint's first argument.
    let task = unsafe { Task::new(ctx.arg(0)) };
    let Some(tgid) = namespace::current_tgid(task) else {
        return 0;
    };
    let Some(entry) = Entry::of(tgid) else {
        return 0;
    };
    let flags = entry.flags();
    if flags & flag::FOLLOW == 0 || matches!(entry.is(task), Match::Stranger) {
        return 0;
    }
    debug!(&ctx, "tgid {} executes", tgid);
    ring(Event {
        kind: kind::EXEC,
        start_time: entry.start_time(),
        generation: entry.generation(),
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
