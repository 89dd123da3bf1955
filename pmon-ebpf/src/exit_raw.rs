//! The exit program for kernels without BTF, and for privileges that don't
//! suffice for the other: it looks at no kernel struct, so it can neither tell
//! a thread from its group nor a process from its pid's next owner.
//!
//! Must stay true: it writes nothing into the entry, and every record is a mere
//! hint.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use pmon_common::{Event, kind};

use crate::{entry::Entry, namespace, ring::ring};

/// The program on `raw_tp/sched_process_exit`.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn pmon_exit_raw(ctx: RawTracePointContext) -> i32 {
    let Some(tgid) = namespace::current_tgid_without_task() else {
        return 0;
    };
    let Some(entry) = Entry::of(tgid) else {
        return 0;
    };
    debug!(&ctx, "exit of a thread of tgid {}", tgid);
    ring(Event {
        kind: kind::EXIT,
        start_time: entry.start_time(),
        generation: entry.generation(),
        // SAFETY: the helper has no preconditions.
        at: unsafe { bpf_ktime_get_boot_ns() },
        tgid,
        // SAFETY: the helper has no preconditions.
        cpu: unsafe { bpf_get_smp_processor_id() },
        comm: bpf_get_current_comm().unwrap_or_default(),
        ..Event::default()
    });
    0
}
