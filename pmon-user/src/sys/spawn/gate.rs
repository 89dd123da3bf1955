//! The gate between fork and execve: the child says who it is and waits for a
//! go-ahead.
//!
//! In between the parent can write down whom it is about to start, so that a
//! daemon that is killed at any moment either has not started the program or
//! has left word of it. Must stay true: a child whose parent is gone, or has
//! given the start up, never executes anything.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
};

use crate::sys::readable::Readable;

/// Values of the eventfd for the child.
const GO: u64 = 1;
const GIVEN_UP: u64 = 2;
/// How often a waiting child looks whether its parent is still there, should the
/// kernel not have been allowed to end it with its parent.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The parent's side. Dropped unopened, the child gives up.
#[derive(Debug)]
pub struct Gate {
    word: Readable,
    go: OwnedFd,
    opened: bool,
}

/// The child's side.
#[derive(Debug)]
pub struct Barrier {
    word: OwnedFd,
    go: OwnedFd,
    parent: Pid,
}

/// A gate with both its sides. Needs a tokio runtime's context.
///
/// # Errors
///
/// Those of eventfd(2) and epoll_ctl(2).
pub fn gate() -> io::Result<(Gate, Barrier)> {
    let word = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let go = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let barrier = Barrier {
        word: word.try_clone()?,
        go: go.try_clone()?,
        parent: getpid(),
    };
    let gate = Gate {
        word: Readable::new(Arc::new(word))?,
        go,
        opened: false,
    };
    Ok((gate, barrier))
}

impl Gate {
    /// Waits for the child and tells its pid.
    ///
    /// # Errors
    ///
    /// When the runtime shuts down.
    pub async fn child(&self) -> io::Result<u32> {
        self.word
            .read(|fd| {
                let mut count = [0; 8];
                rustix::io::read(fd, &mut count)?;
                u32::try_from(u64::from_ne_bytes(count)).map_err(io::Error::other)
            })
            .await
    }

    /// The child may go on.
    pub fn open(mut self) {
        self.opened = true;
        self.tell(GO);
    }

    fn tell(&self, value: u64) {
        // Cannot fail: the counter is 0 and the value small (eventfd(2)).
        let _ = rustix::io::write(&self.go, &value.to_ne_bytes());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if !self.opened {
            self.tell(GIVEN_UP);
        }
    }
}

impl Barrier {
    /// Runs in the child, between fork and execve: system calls only. To be
    /// called after the change of credentials, which clears the death signal
    /// (prctl(2), `PR_SET_PDEATHSIG`).
    pub(super) fn pass(&self) -> Result<(), Errno> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        self.with_parent()?;
        let pid = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
        rustix::io::write(&self.word, &pid.to_ne_bytes())?;
        let mut fds = [PollFd::new(&self.go, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => self.with_parent()?,
                Ok(_) => break,
                Err(errno) => return Err(errno),
            }
        }
        let mut value = [0; 8];
        rustix::io::read(self.go.as_fd(), &mut value)?;
        if u64::from_ne_bytes(value) != GO {
            return Err(Errno::CANCELED);
        }
        set_parent_process_death_signal(None)
    }

    fn with_parent(&self) -> Result<(), Errno> {
        if getppid() == Some(self.parent) {
            Ok(())
        } else {
            Err(Errno::CANCELED)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{ffi::CString, fs::File, os::unix::ffi::OsStrExt as _};

    use super::*;
    use crate::sys::spawn::{Launch, Step, spawn};

    fn touch(path: &std::path::Path) -> Launch {
        Launch {
            program: c"/usr/bin/touch".into(),
            arguments: vec![
                c"touch".into(),
                CString::new(path.as_os_str().as_bytes()).unwrap(),
            ],
            environment: Vec::new(),
            directory: c"/".into(),
            credentials: None,
            output: File::create("/dev/null").unwrap().into(),
            cgroup: None,
            passed: Vec::new(),
        }
    }

    #[tokio::test]
    async fn nothing_is_executed_without_a_go_ahead() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made");
        for go in [false, true] {
            let launch = touch(&path);
            let (gate, barrier) = gate().unwrap();
            let child = tokio::task::spawn_blocking(move || spawn(&launch, Some(barrier)));
            let pid = gate.child().await.unwrap();
            if go {
                gate.open();
                let mut spawned = child.await.unwrap().unwrap();
                assert_eq!(spawned.pid(), pid);
                assert!(spawned.wait().await.unwrap().success());
                assert!(path.exists());
            } else {
                drop(gate);
                let error = child.await.unwrap().unwrap_err();
                assert_eq!((error.step, error.errno), (Step::Gate, Errno::CANCELED));
                assert!(!path.exists());
            }
        }
    }
}
