//! What a task says about itself and its thread group.

use pmon_common::START_TICK_NS;

use crate::field::Field;

/// `task_struct.exit_code`.
#[unsafe(no_mangle)]
static PMON_TASK_EXIT_CODE: Field = Field::off();
/// `task_struct.exit_state`.
#[unsafe(no_mangle)]
static PMON_TASK_EXIT_STATE: Field = Field::off();
/// `task_struct.group_leader`.
#[unsafe(no_mangle)]
static PMON_TASK_GROUP_LEADER: Field = Field::off();
/// `task_struct.pid`.
#[unsafe(no_mangle)]
static PMON_TASK_PID: Field = Field::off();
/// `task_struct.tgid`.
#[unsafe(no_mangle)]
static PMON_TASK_TGID: Field = Field::off();
/// `task_struct.signal`.
#[unsafe(no_mangle)]
static PMON_TASK_SIGNAL: Field = Field::off();
/// `task_struct.start_boottime`.
#[unsafe(no_mangle)]
static PMON_TASK_START_BOOTTIME: Field = Field::off();
/// `task_struct.se.sum_exec_runtime`.
#[unsafe(no_mangle)]
static PMON_TASK_SUM_EXEC_RUNTIME: Field = Field::off();
/// `signal_struct.live`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_LIVE: Field = Field::off();
/// `signal_struct.flags`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_FLAGS: Field = Field::off();
/// `signal_struct.group_exit_code`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_GROUP_EXIT_CODE: Field = Field::off();
/// `signal_struct.sum_sched_runtime`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_SUM_SCHED_RUNTIME: Field = Field::off();
/// `signal_struct.maxrss`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_MAXRSS: Field = Field::off();
/// `signal_struct.oom_mm`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_OOM_MM: Field = Field::off();
/// `signal_struct.pids[PIDTYPE_TGID]`.
#[unsafe(no_mangle)]
static PMON_SIGNAL_PID: Field = Field::off();

/// `SIGNAL_GROUP_EXIT` of `include/linux/sched/signal.h`.
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// A task, by a pointer whose type the verifier knows.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

/// What a thread group used.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) peak_rss_pages: u64,
}

impl Task {
    /// # Safety
    ///
    /// `pointer` is a `task_struct` to the verifier: an argument of a BTF
    /// tracepoint, or what `bpf_get_current_task_btf` returned.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Thread group id in the initial pid namespace.
    #[inline(always)]
    pub(crate) fn tgid(self) -> Option<u32> {
        // SAFETY: a task by construction, an int field.
        unsafe { PMON_TASK_TGID.read(self.0) }
    }

    /// Thread id in the initial pid namespace.
    #[inline(always)]
    fn pid(self) -> Option<u32> {
        // SAFETY: as in `tgid`.
        unsafe { PMON_TASK_PID.read(self.0) }
    }

    /// Whether this is the first thread of its group.
    #[inline(always)]
    pub(crate) fn is_leader(self) -> Option<bool> {
        Some(self.pid()? == self.tgid()?)
    }

    /// Start of the thread group in `/proc/PID/stat` ticks. The leader's value
    /// is inherited by the new leader on exec (`de_thread` in `fs/exec.c`).
    #[inline(always)]
    pub(crate) fn start_time(self) -> Option<u64> {
        // SAFETY: the leader is a task, a u64 field.
        let boottime: u64 = unsafe { PMON_TASK_START_BOOTTIME.read(self.leader()?.0) }?;
        Some(boottime / START_TICK_NS)
    }

    /// Raw wait status of the whole process, by the rule of
    /// `wait_task_zombie` in `kernel/exit.c`.
    ///
    /// `None` also when it can't be told yet: a leader that ends alone at the
    /// same moment may be counted out of `signal->live` before it has written
    /// its code (both in `do_exit`).
    #[inline(always)]
    pub(crate) fn wait_status(self) -> Option<u32> {
        let signal = self.signal()?;
        // SAFETY: a signal_struct by its type, int fields.
        unsafe {
            if PMON_SIGNAL_FLAGS.read::<u32>(signal)? & SIGNAL_GROUP_EXIT != 0 {
                return PMON_SIGNAL_GROUP_EXIT_CODE.read(signal);
            }
        }
        let leader = self.leader()?;
        // SAFETY: a task, int fields.
        let (code, state): (u32, Option<u32>) = unsafe {
            (
                PMON_TASK_EXIT_CODE.read(leader.0)?,
                PMON_TASK_EXIT_STATE.read(leader.0),
            )
        };
        let may_be_late = code == 0 && state == Some(0) && self.is_leader() == Some(false);
        if may_be_late { None } else { Some(code) }
    }

    /// Threads of the group that have not ended.
    #[inline(always)]
    pub(crate) fn live_threads(self) -> Option<u32> {
        // SAFETY: a signal_struct by its type, an atomic_t field.
        unsafe { PMON_SIGNAL_LIVE.read(self.signal()?) }
    }

    /// What the group used until now. Exact but for what the scheduler has not
    /// accounted yet: at most a tick of this thread's last slice, and threads
    /// other than the leader that are ending on another CPU right now.
    #[inline(always)]
    pub(crate) fn usage(self) -> Option<Usage> {
        let signal = self.signal()?;
        let leader = self.leader()?;
        // SAFETY: a signal_struct and tasks by their types, fields of 64 bits.
        let (released, of_leader, own, peak_rss_pages): (u64, u64, u64, u64) = unsafe {
            (
                PMON_SIGNAL_SUM_SCHED_RUNTIME.read(signal)?,
                PMON_TASK_SUM_EXEC_RUNTIME.read(leader.0)?,
                PMON_TASK_SUM_EXEC_RUNTIME.read(self.0)?,
                PMON_SIGNAL_MAXRSS.read(signal)?,
            )
        };
        let own = if self.is_leader()? { 0 } else { own };
        Some(Usage {
            cpu_ns: released + of_leader + own,
            peak_rss_pages,
        })
    }

    /// Whether the OOM killer chose this process (`mark_oom_victim`).
    #[inline(always)]
    pub(crate) fn is_oom_victim(self) -> bool {
        let Some(signal) = self.signal() else {
            return false;
        };
        // SAFETY: a signal_struct by its type, a pointer field.
        let memory: Option<*const u8> = unsafe { PMON_SIGNAL_OOM_MM.read(signal) };
        memory.is_some_and(|memory| !memory.is_null())
    }

    /// The group's `struct pid`.
    #[inline(always)]
    pub(crate) fn group_pid(self) -> Option<*const u8> {
        // SAFETY: a signal_struct by its type, a pointer field.
        unsafe { PMON_SIGNAL_PID.read(self.signal()?) }
    }

    #[inline(always)]
    fn leader(self) -> Option<Self> {
        // SAFETY: a task by construction, a pointer field.
        unsafe { PMON_TASK_GROUP_LEADER.read(self.0).map(Self) }
    }

    #[inline(always)]
    fn signal(self) -> Option<*const u8> {
        // SAFETY: a task by construction, a pointer field.
        unsafe { PMON_TASK_SIGNAL.read(self.0) }
    }
}
