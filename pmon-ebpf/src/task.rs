//! What a dying task says about itself, read through offsets that the daemon
//! resolved from the running kernel's BTF (rustc emits no CO-RE relocations).
//!
//! Every offset is a read-only global; zero means "feature off" and the
//! verifier prunes the branch, so the program loads on a kernel of which
//! nothing is known. Fields are loaded directly through the typed tracepoint
//! argument, never with a probe-read helper, which a kernel under
//! `lockdown=confidentiality` refuses.

use aya_ebpf::{Global, programs::BtfTracePointContext};
use pmon_common::{START_TICK_NS, group_dead};

/// How the program learns that the exiting thread was the last; one of [`group_dead`].
#[unsafe(no_mangle)]
static PMON_GROUP_DEAD: Global<u32> = Global::new(group_dead::UNKNOWN);
/// `task_struct.exit_code`.
#[unsafe(no_mangle)]
static PMON_TASK_EXIT_CODE: Global<u32> = Global::new(0);
/// `task_struct.group_leader`.
#[unsafe(no_mangle)]
static PMON_TASK_GROUP_LEADER: Global<u32> = Global::new(0);
/// `task_struct.signal`.
#[unsafe(no_mangle)]
static PMON_TASK_SIGNAL: Global<u32> = Global::new(0);
/// `task_struct.start_boottime`.
#[unsafe(no_mangle)]
static PMON_TASK_START_BOOTTIME: Global<u32> = Global::new(0);
/// `signal_struct.live`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_LIVE: Global<u32> = Global::new(0);
/// `signal_struct.flags`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_FLAGS: Global<u32> = Global::new(0);
/// `signal_struct.group_exit_code`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_GROUP_EXIT_CODE: Global<u32> = Global::new(0);

/// `SIGNAL_GROUP_EXIT` of `include/linux/sched/signal.h`.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// The exiting task, as the tracepoint's first argument.
pub(crate) struct Task<'a> {
    ctx: &'a BtfTracePointContext,
    task: *const u8,
}

/// Whether the thread group ended with this exit.
pub(crate) enum GroupDead {
    Yes,
    No,
    /// Neither the argument nor `signal->live` is available on this kernel.
    Unknown,
}

impl<'a> Task<'a> {
    pub(crate) fn new(ctx: &'a BtfTracePointContext) -> Self {
        Self {
            ctx,
            task: ctx.arg(0),
        }
    }

    /// The tracepoint's `group_dead` argument where there is one (Linux 6.16),
    /// else `signal->live`, which has already been decremented at this point
    /// (`do_exit` in `kernel/exit.c`).
    #[inline(always)]
    pub(crate) fn group_dead(&self) -> GroupDead {
        let dead = match PMON_GROUP_DEAD.load() {
            group_dead::ARGUMENT => self.ctx.arg::<u64>(1) & 0xff != 0,
            group_dead::SIGNAL_LIVE => self.read_signal(&PMON_SIGNAL_LIVE) == Some(0),
            _ => return GroupDead::Unknown,
        };
        if dead { GroupDead::Yes } else { GroupDead::No }
    }

    /// Start of the thread group in `/proc/PID/stat` ticks. The leader's value
    /// is inherited by the new leader on exec (`de_thread` in `fs/exec.c`).
    #[inline(always)]
    pub(crate) fn start_time(&self) -> Option<u64> {
        let offset = non_zero(&PMON_TASK_START_BOOTTIME)?;
        let leader = self.leader()?;
        // SAFETY: `leader` is a BTF-typed pointer to a task_struct and `offset`
        // is that of a u64 field; the verifier checks both.
        let boottime = unsafe { leader.add(offset).cast::<u64>().read_volatile() };
        Some(boottime / START_TICK_NS)
    }

    /// Raw wait status of the whole process, by the rule of
    /// `wait_task_zombie` in `kernel/exit.c`.
    #[inline(always)]
    pub(crate) fn wait_status(&self) -> Option<u32> {
        if self.read_signal(&PMON_SIGNAL_FLAGS)? & SIGNAL_GROUP_EXIT != 0 {
            return self.read_signal(&PMON_SIGNAL_GROUP_EXIT_CODE);
        }
        let offset = non_zero(&PMON_TASK_EXIT_CODE)?;
        let leader = self.leader()?;
        // SAFETY: as in `start_time`, for an int field.
        Some(unsafe { leader.add(offset).cast::<u32>().read_volatile() })
    }

    #[inline(always)]
    fn leader(&self) -> Option<*const u8> {
        let offset = non_zero(&PMON_TASK_GROUP_LEADER)?;
        // SAFETY: `task` is a trusted BTF-typed pointer, `offset` that of a
        // pointer field; the verifier checks both and types the result.
        Some(unsafe { self.task.add(offset).cast::<*const u8>().read_volatile() })
    }

    #[inline(always)]
    fn read_signal(&self, field: &Global<u32>) -> Option<u32> {
        let signal = non_zero(&PMON_TASK_SIGNAL)?;
        let field = non_zero(field)?;
        // SAFETY: as in `leader`, then for a 32-bit field of signal_struct.
        Some(unsafe {
            let signal = self.task.add(signal).cast::<*const u8>().read_volatile();
            signal.add(field).cast::<u32>().read_volatile()
        })
    }
}

#[inline(always)]
fn non_zero(offset: &Global<u32>) -> Option<usize> {
    match offset.load() {
        0 => None,
        offset => Some(offset as usize),
    }
}
