//! Processes of a run, known by their executable: everything a run starts lives
//! in its own scratch directory, so a process belongs to the run exactly when
//! its executable does. No pid is ever trusted across a check: the pidfd is
//! opened first, the executable looked at second, the signal sent through the
//! pidfd.

use std::{
    fs,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A live process whose executable was checked after its pidfd was opened.
pub(super) struct Running {
    pub(super) pid: u32,
    /// File name of the executable.
    pub(super) program: String,
    pidfd: OwnedFd,
}

/// All live processes whose executable is below a directory.
///
/// # Errors
///
/// When `/proc` can't be read.
pub(super) fn below(directory: &Path) -> Result<Vec<Running>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("can't read `/proc`")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        found.extend(Running::open(pid, directory));
    }
    Ok(found)
}

impl Running {
    fn open(pid: u32, directory: &Path) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Neither kernel threads nor zombies have one. That of a program whose
        // file is gone ends in " (deleted)".
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        if !executable.starts_with(directory) {
            return None;
        }
        let program = executable.file_name()?.to_string_lossy();
        Some(Self {
            pid,
            program: program.trim_end_matches(" (deleted)").to_owned(),
            pidfd,
        })
    }

    /// SIGTERM, then SIGKILL after `grace`; returns whether it ended.
    pub(super) fn end(&self, grace: Duration) -> Result<bool> {
        for (signal, wait) in [
            (Signal::TERM, grace),
            // A process in state D takes its time even so.
            (Signal::KILL, Duration::from_secs(10)),
        ] {
            match pidfd_send_signal(&self.pidfd, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("can't signal {} {}", self.program, self.pid));
                }
            }
            if self.ended_within(wait)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn ended_within(&self, wait: Duration) -> Result<bool> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left)?;
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("can't wait on a pidfd"),
            }
        }
    }
}

/// `/proc/PID/stat` field 22, the start time in ticks since boot; `None` when
/// there is no such process. With the pid it identifies a process.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 2, the name, is in parentheses and may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(22 - 3)?.parse().ok()
}
