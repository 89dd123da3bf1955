//! Processes that may be signalled: a pidfd together with the identity it was
//! verified to have.
//!
//! Must stay true: a [`VerifiedPid`] is only made by [`verify`], which opens the
//! pidfd first and reads the start time while the pidfd says "alive", so pid,
//! start time and pidfd belong to the same process whatever the kernel does
//! with the number afterwards. Nothing else in pmon sends a signal.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use thiserror::Error;

use crate::core::identity::Identity;

/// A process that was alive when it was verified, and the only handle through
/// which pmon signals. Clones share the pidfd.
#[derive(Clone, Debug)]
pub struct VerifiedPid {
    identity: Identity,
    pidfd: Arc<OwnedFd>,
}

/// Why a pid could not be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// No process has this pid, or it is already dead.
    #[error("no process `{pid}`")]
    NoProcess {
        /// The pid.
        pid: u32,
    },
    /// The number is a thread's, not a process's.
    #[error("`{pid}` is a thread, not a process")]
    NotALeader {
        /// The pid.
        pid: u32,
    },
    /// The kernel refused.
    #[error("cannot open a pidfd for `{pid}`")]
    Open {
        /// The pid.
        pid: u32,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// `/proc/PID/stat` could not be read or parsed.
    #[error("cannot read the start time of `{pid}`")]
    StartTime {
        /// The pid.
        pid: u32,
        /// What procfs said.
        #[source]
        source: procfs::ProcError,
    },
}

/// Opens a pidfd for `pid` and binds it to the process's start time.
///
/// # Errors
///
/// See [`VerifyError`]; a zombie counts as no process.
pub fn verify(pid: u32) -> Result<VerifiedPid, VerifyError> {
    let raw = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(VerifyError::NoProcess { pid })?;
    let pidfd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Err(VerifyError::NoProcess { pid }),
        // A tid: EINVAL before Linux 6.18, ENOENT since.
        Err(Errno::INVAL | Errno::NOENT) => return Err(VerifyError::NotALeader { pid }),
        Err(source) => return Err(VerifyError::Open { pid, source }),
    };
    let start_time = start_time(pid);
    // Alive now, so the pid was its own while the start time was read.
    if is_dead(pidfd.as_fd()) {
        return Err(VerifyError::NoProcess { pid });
    }
    match start_time {
        Ok(start_time) => Ok(VerifiedPid {
            identity: Identity { pid, start_time },
            pidfd: Arc::new(pidfd),
        }),
        Err(source) => Err(VerifyError::StartTime { pid, source }),
    }
}

fn start_time(pid: u32) -> procfs::ProcResult<u64> {
    let pid = i32::try_from(pid).unwrap_or(i32::MAX);
    Ok(procfs::process::Process::new(pid)?.stat()?.starttime)
}

/// Whether the process behind a pidfd is gone: the whole thread group is dead
/// and its files and memory are released (pidfd_open(2), "poll").
#[must_use]
pub fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            // Only EFAULT, EINVAL and ENOMEM are left; "unknown" must not
            // read as "dead".
            Err(_) => return false,
        }
    }
}

impl VerifiedPid {
    /// Pid and start time.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// For polling.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether the whole thread group is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        is_dead(self.pidfd())
    }

    /// Sends a signal; reaches this process or nobody.
    ///
    /// # Errors
    ///
    /// `ESRCH` when it is dead already, `EPERM` without the right to,
    /// `EINVAL` for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        let signal = Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
        pidfd_send_signal(self.pidfd(), signal)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::process::Command;

    use super::*;
    use crate::specimen::Sleeper;

    #[test]
    fn a_child_can_be_verified_signalled_and_seen_dead() {
        let mut sleeper = Sleeper::spawn();
        let pid = sleeper.verified();
        assert_eq!(pid.identity().pid, sleeper.pid());
        assert!(!pid.is_dead());
        pid.signal(9).unwrap();
        sleeper.end();
        assert!(pid.is_dead());
        assert_eq!(pid.signal(9), Err(Errno::SRCH));
    }

    #[test]
    fn a_zombie_is_no_process() {
        let mut child = Command::new("true").spawn().unwrap();
        while !matches!(
            procfs::process::Process::new(i32::try_from(child.id()).unwrap())
                .and_then(|process| process.stat())
                .map(|stat| stat.state),
            Ok('Z')
        ) {
            std::thread::yield_now();
        }
        assert!(matches!(
            verify(child.id()),
            Err(VerifyError::NoProcess { .. })
        ));
        child.wait().unwrap();
    }

    #[test]
    fn pid_zero_and_absurd_pids_are_no_processes() {
        for pid in [0, u32::MAX, 1 << 31] {
            assert!(matches!(verify(pid), Err(VerifyError::NoProcess { .. })));
        }
    }

    #[test]
    fn a_thread_is_not_a_process() {
        let (send, receive) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(rustix::thread::gettid()).unwrap();
            stopped.recv().ok();
        });
        let tid = u32::try_from(receive.recv().unwrap().as_raw_nonzero().get()).unwrap();
        assert!(matches!(verify(tid), Err(VerifyError::NotALeader { .. })));
        drop(stop);
        thread.join().unwrap();
    }
}
