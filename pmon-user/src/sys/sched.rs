//! Scheduling of the receiver thread.

use std::io;

/// Puts the calling thread under `SCHED_FIFO` (sched(7)). Children are not:
/// `SCHED_RESET_ON_FORK` gives them the normal policy.
///
/// # Errors
///
/// `EPERM` without CAP_SYS_NICE or a sufficient `RLIMIT_RTPRIO`, or where the
/// cgroup has no real-time budget; `EINVAL` for a priority outside 1..=99.
pub fn set_fifo(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: pid 0 is the calling thread and `parameters` outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
