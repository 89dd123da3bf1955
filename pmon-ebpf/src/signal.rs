//! `signal_generate`: who sends a registered process a signal that may end it.
//!
//! Must stay true: `current` is blamed only for what it asked for; what the
//! kernel does by itself (faults, timers, the OOM killer, the end of a pid
//! namespace) happens in whoever runs at the moment.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns, bpf_probe_read_kernel,
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use pmon_common::flag;

use crate::{
    entry::{Entry, Match, put},
    field::Field,
    namespace,
    task::Task,
};

/// `kernel_siginfo.si_code`.
#[unsafe(no_mangle)]
static PMON_SIGINFO_CODE: Field = Field::off();

/// `SIGKILL`.
const SIGKILL: u32 = 9;
/// Signals that end nobody by default: SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP,
/// SIGTTIN, SIGTTOU, SIGURG, SIGWINCH (signal(7), the numbers of every
/// architecture but alpha, mips, parisc and sparc).
const HARMLESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 28;

/// `TRACE_SIGNAL_DELIVERED` of `include/trace/events/signal.h`.
const DELIVERED: u32 = 0;
/// `TRACE_SIGNAL_LOSE_INFO`: delivered, although there was no memory for its siginfo.
const DELIVERED_WITHOUT_INFO: u32 = 4;

/// `SEND_SIG_NOINFO` of `include/linux/signal.h`: on behalf of `current`.
const NO_INFO: u64 = 0;
/// `SEND_SIG_PRIV`: by the kernel.
const BY_KERNEL: u64 = 1;

/// `SI_USER` of `include/uapi/asm-generic/siginfo.h`.
const SI_USER: i32 = 0;
/// `SI_KERNEL`.
const SI_KERNEL: i32 = 0x80;

/// The program on `tp_btf/signal_generate`, with the arguments signal, siginfo,
/// task, whether it is for the group, result.
#[btf_tracepoint(function = "signal_generate")]
pub(crate) fn pmon_signal(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: no other value than these two is anything but a kernel_siginfo to
    // the verifier; an int field.
    record(&ctx, || unsafe {
        PMON_SIGINFO_CODE.read(ctx.arg::<*const u8>(1))
    })
}

/// The same for verifiers that take the siginfo, because it may be one of two
/// small numbers, for a number always.
#[btf_tracepoint(function = "signal_generate")]
pub(crate) fn pmon_signal_raw(ctx: BtfTracePointContext) -> i32 {
    record(&ctx, || {
        let at = ctx.arg::<u64>(1) + PMON_SIGINFO_CODE.offset()? as u64;
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(at as *const i32) }.ok()
    })
}

/// Records a signal. `code` reads the `si_code` of a siginfo that is one.
#[inline(always)]
fn record(ctx: &BtfTracePointContext, code: impl FnOnce() -> Option<i32>) -> i32 {
    let signal = ctx.arg::<u32>(0);
    let result = ctx.arg::<u32>(4);
    if signal > 64 || HARMLESS & (1 << signal) != 0 {
        return 0;
    }
    if result != DELIVERED && result != DELIVERED_WITHOUT_INFO {
        return 0;
    }
    // SAFETY: the tracepoint's third argument is the task it is sent to.
    let task = unsafe { Task::new(ctx.arg(2)) };
    let Some(tgid) = namespace::tgid(task) else {
        return 0;
    };
    let Some(entry) = Entry::of(tgid) else {
        return 0;
    };
    if matches!(entry.is(task), Match::Stranger) || entry.is_dead() {
        return 0;
    }
    let generation = entry.generation();
    let value = entry.value();
    // SAFETY: points into the map, which keeps the memory for this run.
    let (known_for, known) = unsafe { ((*value).signal_generation, (*value).signal) };
    if known_for == generation && known == SIGKILL {
        return 0;
    }
    let code = match ctx.arg::<u64>(1) {
        NO_INFO => Some(SI_USER),
        BY_KERNEL => Some(SI_KERNEL),
        _ => code(),
    };
    let Some(code) = code else {
        return 0;
    };
    let (tgid_of_sender, uid, comm) = if is_sent_by_current(code) {
        (
            namespace::sender_tgid().unwrap_or(0),
            bpf_get_current_uid_gid() as u32,
            bpf_get_current_comm().unwrap_or_default(),
        )
    } else {
        (0, 0, [0; 16])
    };
    // SAFETY: as above. Should user space have given the memory to another
    // entry, `signal_generation` tells.
    unsafe {
        put!(value, signal, signal);
        put!(value, signal_code, code);
        put!(value, signal_at, bpf_ktime_get_boot_ns());
        put!(value, sender_tgid, tgid_of_sender);
        put!(value, sender_uid, uid);
        put!(value, sender_comm, comm);
        put!(value, signal_generation, generation);
    }
    entry.raise(flag::SIGNAL_KNOWN);
    debug!(
        ctx,
        "signal {} for tgid {} from tgid {}, code {}", signal, tgid, tgid_of_sender, code
    );
    0
}

/// Whether a signal of this `si_code` is the running process's doing
/// (sigaction(2), `include/uapi/asm-generic/siginfo.h`). Positive codes are the
/// kernel's. Of the others these come from the kernel too, in whoever runs:
/// SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_DETHREAD, SI_ASYNCNL.
#[inline(always)]
fn is_sent_by_current(code: i32) -> bool {
    code <= SI_USER && !matches!(code, -2 | -3 | -4 | -5 | -7 | -60)
}
