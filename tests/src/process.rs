//! Processes as the kernel shows them, seen without pmon: who has a word on its
//! command line, when it started, and ways to signal exactly that process.

use std::{
    collections::BTreeMap,
    fs,
    io::{Error, ErrorKind, Result},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::wait::patience;

/// A process bound to a pidfd: whatever becomes of its number, it is meant.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// The process that has this pid now.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(pid: u32) -> Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| Error::new(ErrorKind::InvalidInput, pid.to_string()))?;
        Ok(Self {
            pid,
            pidfd: pidfd_open(raw, PidfdFlags::empty())?,
        })
    }

    /// Its pid.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to it and to nobody else.
    ///
    /// # Errors
    ///
    /// When it is gone, or may not be signalled.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Sends SIGKILL.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub fn kill(&self) {
        self.signal(Signal::KILL)
            .unwrap_or_else(|error| panic!("SIGKILL to {}: {error}", self.pid));
    }

    /// Whether it ends (as a whole) within `limit`.
    #[must_use]
    pub fn ends_within(&self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let limit = Timespec::try_from(limit * patience()).expect("a short time");
        poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready == 1)
    }

    /// Whether it is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }
}

/// Live instances of the test service with this tag, lowest pid first; not the
/// short-lived processes that put one into the background. Zombies have no
/// command line and are not among them.
#[must_use]
pub fn instances(tag: &str) -> Vec<u32> {
    with_command_line(|cmdline| {
        let words: Vec<&[u8]> = cmdline.split(|&byte| byte == 0).collect();
        words
            .windows(2)
            .any(|two| two == [b"--tag", tag.as_bytes()])
            && !words.contains(&b"--background".as_slice())
    })
}

/// Ends every process whose command line mentions `path`, each bound to a pidfd
/// before it is looked at. Returns how many there were.
pub fn end_all_that_mention(path: &Path) -> usize {
    let needle = path.as_os_str().as_bytes();
    let mentions = |cmdline: &[u8]| cmdline.windows(needle.len()).any(|part| part == needle);
    let mut ended = 0;
    for pid in with_command_line(mentions) {
        let Ok(process) = Process::open(pid) else {
            continue;
        };
        let still = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| mentions(&line));
        if still && pid != std::process::id() && process.signal(Signal::KILL).is_ok() {
            let _reaped_by_its_parent = process.ends_within(Duration::from_secs(5));
            ended += 1;
        }
    }
    ended
}

fn with_command_line(wanted: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let mut found: Vec<u32> = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| wanted(&line)))
        .collect();
    found.sort_unstable();
    found
}

/// Field 22 of `/proc/PID/stat`: start time in clock ticks since boot.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    // Field 3 is the first after the name.
    rest.split(' ').nth(22 - 3)?.parse().ok()
}

/// `PID@TICKS`, as pmon writes an identity.
#[must_use]
pub fn identity(pid: u32) -> Option<String> {
    Some(format!("{pid}@{}", start_ticks(pid)?))
}

/// Voluntary context switches of each thread so far, by its tid: how often it
/// went to sleep.
#[must_use]
pub fn sleeps(pid: u32) -> BTreeMap<u32, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it is alive");
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let tid = task.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some((tid, line.trim().parse().ok()?))
        })
        .collect()
}
