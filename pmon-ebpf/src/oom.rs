//! `mark_victim`: whom the OOM killer chose.

use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use pmon_common::{flag, oom_argument};

use crate::{
    entry::{Entry, Match},
    namespace,
    task::Task,
};

/// One of [`oom_argument`].
#[unsafe(no_mangle)]
static PMON_OOM_ARGUMENT: Global<u32> = Global::new(oom_argument::UNKNOWN);

/// The program on `tp_btf/mark_victim`.
#[btf_tracepoint(function = "mark_victim")]
pub(crate) fn pmon_oom(ctx: BtfTracePointContext) -> i32 {
    let (tgid, task) = match PMON_OOM_ARGUMENT.load() {
        oom_argument::PID => (namespace::from_initial(ctx.arg(0)), None),
        oom_argument::TASK => {
            // SAFETY: the tracepoint's first argument is the victim.
            let task = unsafe { Task::new(ctx.arg(0)) };
            (namespace::tgid(task), Some(task))
        }
        _ => return 0,
    };
    let Some(tgid) = tgid else {
        return 0;
    };
    let Some(entry) = Entry::of(tgid) else {
        return 0;
    };
    if let Some(task) = task
        && matches!(entry.is(task), Match::Stranger)
    {
        return 0;
    }
    if !entry.is_dead() {
        entry.raise(flag::OOM_VICTIM);
        debug!(&ctx, "tgid {} is the OOM killer's victim", tgid);
    }
    0
}
