//! Whether pids and times mean the same here and in the kernel.

use std::{fs, path::Path};

use procfs::{FromRead as _, process::Status};

use super::outcome::{count, degraded, failed, ok};
use crate::view::diagnosis::CheckView;

/// The initial pid namespace's inode, `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// The calling process's namespaces.
#[derive(Clone, Debug)]
pub(super) struct Namespaces {
    /// Target of `/proc/self/ns/pid`.
    pub(super) pid: Option<String>,
    /// Pid namespaces from the one whose `/proc` is mounted down to ours: `NSpid`
    /// of `/proc/self/status` (proc_pid_status(5)). How many lie above, nobody
    /// inside can see.
    pub(super) depth_in_proc: Option<usize>,
    /// Offset of `CLOCK_BOOTTIME` in seconds and nanoseconds
    /// (time_namespaces(7)); `None` before Linux 5.6.
    pub(super) boot_offset: Option<(i64, i64)>,
}

impl Namespaces {
    /// Reads below `root`.
    pub(super) fn read(root: &Path) -> Self {
        Self {
            pid: fs::read_link(root.join("proc/self/ns/pid"))
                .ok()
                .map(|link| link.to_string_lossy().into_owned()),
            depth_in_proc: Status::from_file(root.join("proc/self/status"))
                .ok()
                .and_then(|status| Some(status.nspid?.len())),
            boot_offset: fs::read_to_string(root.join("proc/self/timens_offsets"))
                .ok()
                .and_then(|offsets| boot_offset(&offsets)),
        }
    }

    /// `pid-namespace`.
    pub(super) fn check_pid(&self) -> CheckView {
        const NAME: &str = "pid-namespace";
        const MOUNT: &str = "mount procfs: `mount -t proc proc /proc`";
        match (self.pid.as_deref(), self.depth_in_proc) {
            (None, _) => degraded(NAME, "`/proc/self/ns/pid` cannot be read", MOUNT),
            (Some(_), Some(depth)) if depth > 1 => failed(
                NAME,
                format!(
                    "`/proc` shows the pids of a namespace {} above pmon's: no process is what it seems",
                    count(depth - 1, "level", "levels")
                ),
                MOUNT,
            ),
            (Some(INITIAL_PID_NAMESPACE), _) => ok(NAME, "the host's"),
            (Some(own), _) => ok(
                NAME,
                format!(
                    "`{own}`, not the host's: the processes of this container are monitored; \
                     for the host's start it with `--pid=host` (Kubernetes: `hostPID: true`)"
                ),
            ),
        }
    }

    /// `time-namespace`.
    pub(super) fn check_time(&self) -> CheckView {
        const NAME: &str = "time-namespace";
        match self.boot_offset {
            None => ok(NAME, "this kernel has no time namespaces"),
            Some((0, 0)) => ok(NAME, "boot time as on the host"),
            Some((seconds, nanoseconds)) => degraded(
                NAME,
                format!(
                    "boot time is {seconds} s and {nanoseconds} ns off the host's: \
                     the kernel program cannot compare start times"
                ),
                "start pmon in the host's time namespace: `nsenter --time=/proc/1/ns/time pmon daemon`",
            ),
        }
    }
}

/// From `boottime SECONDS NANOSECONDS`.
fn boot_offset(offsets: &str) -> Option<(i64, i64)> {
    offsets.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // The clock is shown by name, or by number (`CLOCK_BOOTTIME` is 7).
        words
            .next()
            .filter(|clock| matches!(*clock, "boottime" | "7"))?;
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}
