//! A child that does nothing but wait and end: the canary by which the sources
//! are tried.
//!
//! It is forked and never executes anything, so it needs no program on disk.
//! Must stay true: between fork and its end the child makes system calls only
//! (signal-safety(7)); it lets go of every descriptor it inherited, so that it
//! can keep no lock, socket or link of pmon's; it ends by itself when pmon does.
//! What its end proves belongs to `source::canary`.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};
use thiserror::Error;

use super::pidfd::{VerifiedPid, VerifyError, verify};

/// Exit code of a canary: nothing ends with it by accident.
pub const EXIT_CODE: u8 = 42;

/// Why there is no canary.
#[derive(Debug, Error)]
pub enum HatchError {
    /// fork(2) or pipe(2) failed.
    #[error("no child can be started")]
    Fork(#[source] io::Error),
    /// The child could not be verified.
    #[error("the child cannot be verified")]
    Verify(#[from] VerifyError),
}

/// The child; dropping it ends and reaps it, which takes as long as that takes.
#[derive(Debug)]
pub struct Canary {
    process: VerifiedPid,
    release: Option<OwnedFd>,
    _child: Child,
}

/// Ends and reaps the child when it is dropped.
#[derive(Debug)]
struct Child(Pid);

impl Canary {
    /// Starts one, which waits.
    ///
    /// # Errors
    ///
    /// See [`HatchError`]; nothing is left behind.
    pub fn hatch() -> Result<Self, HatchError> {
        let fork = |error| HatchError::Fork(error);
        let (wait, release) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| fork(errno.into()))?;
        // SAFETY: the child calls `sit` at once, which makes system calls only,
        // allocates nothing, takes no lock and never returns.
        let pid = match unsafe { libc::fork() } {
            0 => sit(wait.as_raw_fd(), release.as_raw_fd()),
            pid => Pid::from_raw(pid.max(0)).ok_or_else(|| fork(io::Error::last_os_error()))?,
        };
        let child = Child(pid);
        Ok(Self {
            process: verify(pid.as_raw_nonzero().get().unsigned_abs())?,
            release: Some(release),
            _child: child,
        })
    }

    /// The child.
    #[must_use]
    pub const fn process(&self) -> &VerifiedPid {
        &self.process
    }

    /// What releases it when it is dropped; `None` when that was given away.
    pub const fn take_release(&mut self) -> Option<OwnedFd> {
        self.release.take()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Not reaped yet, so the pid is still its own.
        let _dead_already = kill_process(self.0, Signal::KILL);
        while matches!(
            waitpid(Some(self.0), WaitOptions::empty()),
            Err(Errno::INTR)
        ) {}
    }
}

/// The child's whole life.
fn sit(wait: RawFd, release: RawFd) -> ! {
    let mut byte = 0_u8;
    // SAFETY: plain system calls on descriptors that this process inherited and
    // on a byte of its own stack; prctl(2) reads a NUL-terminated name.
    unsafe {
        libc::dup2(wait, 0);
        // Linux 5.9; before that its own end of the pipe is what matters.
        if libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0) != 0 {
            libc::close(release);
        }
        libc::prctl(libc::PR_SET_NAME, c"pmon-canary".as_ptr());
        // Nobody ever writes: the end of the pipe is the release.
        while libc::read(0, (&raw mut byte).cast(), 1) < 0 && interrupted() {}
        libc::_exit(i32::from(EXIT_CODE))
    }
}

fn interrupted() -> bool {
    io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::core::death::WaitStatus;

    /// Field 52 of its `/proc/PID/stat`, once it is a zombie.
    fn end_of(pid: u32) -> WaitStatus {
        loop {
            let stat = procfs::process::Process::new(i32::try_from(pid).unwrap())
                .and_then(|process| process.stat())
                .unwrap();
            if stat.state == 'Z' {
                return WaitStatus(u32::try_from(stat.exit_code.unwrap()).unwrap());
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_waits_until_it_is_released_and_ends_as_told() {
        let mut canary = Canary::hatch().unwrap();
        let process = canary.process().clone();
        let pid = process.identity().pid;
        let descriptors = || {
            std::fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .count()
        };
        while descriptors() != 1 {
            std::thread::yield_now();
        }
        assert!(!process.is_dead());
        drop(canary.take_release());
        assert_eq!(end_of(pid).exit_code(), Some(EXIT_CODE));
        drop(canary);
        assert!(std::fs::metadata(format!("/proc/{pid}")).is_err(), "reaped");
    }

    #[test]
    fn one_that_is_not_wanted_any_more_is_ended() {
        let canary = Canary::hatch().unwrap();
        let process = canary.process().clone();
        drop(canary);
        assert!(process.is_dead());
    }
}
