//! Whether the receiver thread gets real-time priority: tried on a thread that
//! ends at once, explained by limits and settings.

use std::{fs, path::Path, thread};

use rustix::process::{Resource, getrlimit};

use super::{
    outcome::{degraded, errno, ok},
    privileges::{Capability, Privileges},
};
use crate::{sys::sched::set_fifo, view::diagnosis::CheckView};

const NAME: &str = "receiver-scheduling";

/// What decides about SCHED_FIFO (sched(7)).
#[derive(Clone, Debug)]
pub(super) struct Scheduling {
    /// The asked for priority; 0 = none.
    pub(super) priority: u8,
    /// Whether a thread got it: an error number, if not.
    pub(super) attempt: Result<(), i32>,
    /// `kernel.sched_rt_runtime_us`; -1 = no limit.
    pub(super) rt_runtime_us: Option<i64>,
    /// Soft `RLIMIT_RTPRIO`; `None` = no limit.
    pub(super) rtprio: Option<u64>,
}

impl Scheduling {
    /// Reads below `root` and tries.
    pub(super) fn read(root: &Path, priority: u8) -> Self {
        Self {
            priority,
            attempt: attempt(priority),
            rt_runtime_us: fs::read_to_string(root.join("proc/sys/kernel/sched_rt_runtime_us"))
                .ok()
                .and_then(|value| value.trim().parse().ok()),
            rtprio: getrlimit(Resource::Rtprio).current,
        }
    }

    /// `receiver-scheduling`; `running` is what the running daemon says of its
    /// receiver: `fifo:PRIORITY` or `other: REASON`.
    pub(super) fn check(&self, privileges: &Privileges, running: Option<&str>) -> CheckView {
        let priority = self.priority;
        if self.rt_runtime_us == Some(0) {
            return degraded(
                NAME,
                "`kernel.sched_rt_runtime_us = 0`: real-time threads get no time",
                "`sysctl -w kernel.sched_rt_runtime_us=950000`",
            );
        }
        if let Some(running) = running {
            if running.starts_with("fifo:") {
                return ok(NAME, format!("`{running}`"));
            }
            if running.contains("receiver_priority = 0") {
                return ok(
                    NAME,
                    "normal priority, as configured (`receiver_priority = 0`)",
                );
            }
        } else if priority == 0 {
            return ok(
                NAME,
                "normal priority, as configured (`receiver_priority = 0`)",
            );
        }
        let refusal = match (self.attempt, running) {
            (Ok(()), None) => return ok(NAME, format!("`fifo:{priority}` is permitted")),
            (Ok(()), Some(running)) => {
                return degraded(
                    NAME,
                    format!("`{running}`; it would be permitted now"),
                    "`systemctl restart pmon`, or end `pmon daemon` and start it again",
                );
            }
            (Err(number), _) => errno(number),
        };
        let permitted = privileges.has(Capability::SysNice)
            || self.rtprio.is_none_or(|limit| limit >= u64::from(priority));
        if permitted {
            degraded(
                NAME,
                format!(
                    "`fifo:{priority}` is refused: {refusal}; the cgroup has no real-time budget"
                ),
                "`sysctl -w kernel.sched_rt_runtime_us=-1`; \
                 or a budget for the container: `--cpu-rt-runtime=95000`",
            )
        } else {
            degraded(
                NAME,
                format!(
                    "`fifo:{priority}` is refused: {refusal}; CAP_SYS_NICE is missing: deaths are seen later under load"
                ),
                format!(
                    "in `pmon.service`: `LimitRTPRIO={priority}`; in a container: `--cap-add=SYS_NICE`; \
                     or accept it: `receiver_priority = 0` in `[daemon]`"
                ),
            )
        }
    }
}

fn attempt(priority: u8) -> Result<(), i32> {
    if priority == 0 {
        return Ok(());
    }
    let thread = thread::Builder::new()
        .name("pmon-doctor".to_owned())
        .spawn(move || set_fifo(i32::from(priority)));
    match thread.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) | Err(error) => Err(error.raw_os_error().unwrap_or(libc::EIO)),
        Ok(Err(_)) => Err(libc::EIO),
    }
}
