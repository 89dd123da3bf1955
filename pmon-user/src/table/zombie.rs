//! What is left of a dead process: its wait status, and the `comm` in a record.

use std::fs;

use crate::core::{death::WaitStatus, identity::Identity};

/// Field 52 of a zombie's `/proc/PID/stat`: its wait status, if nobody reaped
/// it yet. A zombie has no memory left, so reading its stat releases none.
///
/// To a reader that may not trace the process the kernel shows 0 there
/// (`do_task_stat` of fs/proc/array.c), so a 0 is believed only from a process
/// whose user namespace may be read, which takes the very same permission.
pub(super) fn status(identity: Identity) -> Option<WaitStatus> {
    let pid = i32::try_from(identity.pid).ok()?;
    // Before the start time is read, which then vouches for it.
    let may_trace = fs::read_link(format!("/proc/{pid}/ns/user")).is_ok();
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    if stat.starttime != identity.start_time || stat.state != 'Z' {
        return None;
    }
    let status = u32::try_from(stat.exit_code?).ok()?;
    (status != 0 || may_trace).then_some(WaitStatus(status))
}

/// A `comm` of the kernel, NUL padded.
pub(super) fn comm(bytes: &[u8; 16]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
    let text = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    (!text.is_empty()).then_some(text)
}
