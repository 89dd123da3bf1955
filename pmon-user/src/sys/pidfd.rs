//! Processes that may be signalled: a pidfd together with the identity it was
//! verified to have.
//!
//! Must stay true: a [`VerifiedPid`] is made in one of three ways, each of which
//! binds pid, start time and pidfd to the same process whatever the kernel does
//! with the number afterwards: by [`verify`], which opens the pidfd first and
//! reads the start time while the pidfd says "alive"; by [`KnownPid::reopen`],
//! where the kernel gives every process's pidfds an inode of their own; and by
//! [`Unproven::prove`], which reads the start time once more where it does not.
//! Nothing else in pmon sends a signal.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{fstat, fstatfs},
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

impl VerifyError {
    /// Whether it says nothing of the process: no descriptor or no memory was
    /// left to look with.
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        let exhausted = |errno| matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM);
        match self {
            Self::NoProcess { .. } | Self::NotALeader { .. } => false,
            Self::Open { source, .. } => exhausted(*source),
            Self::StartTime { source, .. } => match source {
                procfs::ProcError::Io(error, _) => {
                    Errno::from_io_error(error).is_some_and(exhausted)
                }
                _ => false,
            },
        }
    }
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

/// A process that was verified, without the pidfd: enough to open one again and
/// to know whether it is of the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPid {
    identity: Identity,
    /// Of its pidfds, where that tells processes apart.
    inode: Option<u64>,
}

/// What opening a pidfd once more showed.
#[derive(Debug)]
pub enum Reopened {
    /// The process is dead, and what it held is released.
    Gone,
    /// It is the same process, which is not dead yet.
    Same(VerifiedPid),
    /// A process has the pid; this kernel does not say without a look into
    /// `/proc` whether it is the same one.
    Unproven(Unproven),
}

/// A pidfd of a live process that has a known process's pid.
#[derive(Debug)]
pub struct Unproven {
    identity: Identity,
    pidfd: OwnedFd,
}

/// `PID_FS_MAGIC` of `include/uapi/linux/magic.h`: from Linux 6.9 on pidfds are
/// files of pidfs, with an inode per process that is never used again.
const PIDFS: u64 = 0x5049_4446;

impl KnownPid {
    /// A process of which only that is known; whether another one is the same, its
    /// start time says.
    #[must_use]
    pub const fn of(identity: Identity) -> Self {
        Self {
            identity,
            inode: None,
        }
    }

    /// Pid and start time.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// As on a kernel before 6.9.
    #[cfg(test)]
    pub const fn without_inode(self) -> Self {
        Self {
            inode: None,
            ..self
        }
    }

    /// Opens a pidfd once more. Reads nothing in `/proc`.
    ///
    /// # Errors
    ///
    /// Whatever says nothing about the process: `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn reopen(&self) -> Result<Reopened, Errno> {
        let Self { identity, inode } = *self;
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(Reopened::Gone);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            // Nobody's, or a thread's by now.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(Reopened::Gone),
            Err(errno) => return Err(errno),
        };
        // Whoever it is: the known process is not among the living.
        if is_dead(pidfd.as_fd()) {
            return Ok(Reopened::Gone);
        }
        match inode {
            None => Ok(Reopened::Unproven(Unproven { identity, pidfd })),
            Some(inode) if fstat(&pidfd)?.st_ino == inode => Ok(Reopened::Same(VerifiedPid {
                identity,
                pidfd: Arc::new(pidfd),
            })),
            Some(_) => Ok(Reopened::Gone),
        }
    }
}

impl Unproven {
    /// Whether it is the known process; `None` if that one is gone. Reads
    /// `/proc`: not for the engine's thread.
    ///
    /// # Errors
    ///
    /// When the start time cannot be read although there is a process.
    pub fn prove(self) -> Result<Option<VerifiedPid>, VerifyError> {
        let Self { identity, pidfd } = self;
        match start_time(identity.pid) {
            // Whoever had the pid when the pidfd was opened has it still.
            Ok(start_time) if start_time == identity.start_time => Ok(Some(VerifiedPid {
                identity,
                pidfd: Arc::new(pidfd),
            })),
            Ok(_) | Err(procfs::ProcError::NotFound(_)) => Ok(None),
            Err(_) if is_dead(pidfd.as_fd()) => Ok(None),
            Err(source) => Err(VerifyError::StartTime {
                pid: identity.pid,
                source,
            }),
        }
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

    /// What to keep of it when the pidfd is to be closed.
    #[must_use]
    pub fn known(&self) -> KnownPid {
        let is_pidfs =
            fstatfs(&self.pidfd).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(PIDFS));
        let inode = is_pidfs.then(|| fstat(&self.pidfd).ok()).flatten();
        KnownPid {
            identity: self.identity,
            inode: inode.map(|stat| stat.st_ino),
        }
    }

    /// Whether some thread of it has not begun to exit yet, so that the last
    /// one's exit is still to come. Reads `/proc`: not for the engine's thread.
    #[must_use]
    pub fn is_running(&self) -> bool {
        /// `PF_EXITING` of the kernel's `sched.h`, set before a thread's exit
        /// is told (`exit_signals` in `do_exit`); `/proc/PID/stat` field 9.
        const PF_EXITING: u32 = 0x4;
        let running = |stat: procfs::process::Stat| stat.flags & PF_EXITING == 0;
        let Ok(process) = i32::try_from(self.identity.pid)
            .map_err(|_| ())
            .and_then(|pid| procfs::process::Process::new(pid).map_err(|_| ()))
        else {
            return false;
        };
        let leader = process.stat().is_ok_and(running);
        let any = leader
            || process.tasks().is_ok_and(|tasks| {
                let mut stats = tasks.filter_map(|task| task.ok()?.stat().ok());
                stats.any(running)
            });
        // Alive still, so all that was read above was read from this process.
        any && !self.is_dead()
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
    fn a_known_process_is_found_again_until_it_is_gone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = verify(child.id()).unwrap();
        assert!(pid.is_running());
        let known = pid.known();
        drop(pid);
        let prove = |known: KnownPid| match known.reopen().unwrap() {
            Reopened::Gone => None,
            Reopened::Same(same) => Some(same),
            Reopened::Unproven(unproven) => unproven.prove().unwrap(),
        };
        for known in [known, known.without_inode()] {
            assert_eq!(prove(known).unwrap().identity(), known.identity());
        }
        // Another process with the same pid: another start, or another inode.
        let mut other = known.without_inode();
        other.identity.start_time += 1;
        assert!(prove(other).is_none());
        if let Some(inode) = known.inode {
            let other = KnownPid {
                inode: Some(inode + 1),
                ..known
            };
            assert!(matches!(other.reopen(), Ok(Reopened::Gone)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for known in [known, known.without_inode()] {
            assert!(matches!(known.reopen(), Ok(Reopened::Gone)));
        }
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
