//! The gate before execve: the child says who it is and waits for a go-ahead.
//!
//! In between the parent can write down whom it is about to start, so that a
//! daemon that is killed at any moment either has not started the program or
//! has left word of it. The child says it first of all, so that it is written down
//! while the child prepares itself. Must stay true: a child whose parent is gone, or has
//! given the start up, never executes anything; of what the child is told the first
//! word counts. The thread that makes the child may be suspended until it is
//! through: the gate is another one's to open.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    key: Key,
}

/// Opens the gate, from wherever. Dropped unused it does nothing.
#[derive(Clone, Debug)]
pub struct Key(Arc<Go>);

#[derive(Debug)]
struct Go {
    eventfd: OwnedFd,
    said: AtomicBool,
}

impl Go {
    fn say(&self, value: u64) {
        if !self.said.swap(true, Ordering::AcqRel) {
            // Cannot fail: the counter is 0 and the value small (eventfd(2)).
            let _ = rustix::io::write(&self.eventfd, &value.to_ne_bytes());
        }
    }
}

impl Key {
    /// The child may go on, unless the start has been given up.
    pub fn open(self) {
        self.0.say(GO);
    }
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
        key: Key(Arc::new(Go {
            eventfd: go,
            said: AtomicBool::new(false),
        })),
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

    /// What opens it.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key.clone()
    }

    /// The child may go on.
    pub fn open(self) {
        self.key().open();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.key.0.say(GIVEN_UP);
    }
}

impl Barrier {
    /// Runs in the child: says who it is. System calls only.
    pub(super) fn announce(&self) -> Result<(), Errno> {
        let pid = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
        rustix::io::write(&self.word, &pid.to_ne_bytes())?;
        Ok(())
    }

    /// Runs in the child, right before execve: system calls only. To be
    /// called after the change of credentials, which clears the death signal
    /// (prctl(2), `PR_SET_PDEATHSIG`).
    pub(super) fn pass(&self) -> Result<(), Errno> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        self.with_parent()?;
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
            assert!(!path.exists());
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
                // Who has the key comes too late.
                let key = gate.key();
                drop(gate);
                key.open();
                let error = child.await.unwrap().unwrap_err();
                assert_eq!((error.step, error.errno), (Step::Gate, Errno::CANCELED));
                assert!(!path.exists());
            }
        }
    }
}
