//! A child from execve to its reaping.
//!
//! States: running → reaped. Must stay true: its number is used only while it is
//! not reaped, because until then the kernel gives it to nobody else; whoever is
//! dropped unreaped is reaped in the background.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    sync::Arc,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid},
};
use tokio::runtime::Handle;

use crate::sys::readable::Readable;

/// A started program, leader of its own session and process group. Dropping it
/// neither ends nor disturbs it.
#[derive(Debug)]
pub struct Spawned {
    /// Until it is reaped.
    child: Option<Child>,
    status: Option<ExitStatus>,
    pid: Pid,
    /// Why it is not in the cgroup asked for, when it is not.
    pub cgroup_error: Option<Errno>,
}

#[derive(Debug)]
struct Child {
    pidfd: Readable,
}

impl Spawned {
    /// Needs a tokio runtime's context.
    pub(super) fn new(pid: Pid, pidfd: OwnedFd, cgroup_error: Option<Errno>) -> io::Result<Self> {
        Ok(Self {
            child: Some(Child {
                pidfd: Readable::new(Arc::new(pidfd))?,
            }),
            status: None,
            pid,
            cgroup_error,
        })
    }

    /// Pid of the program and number of its process group.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the program's end and reaps it. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// Those of waitid(2); `ECHILD` when somebody else reaped it.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let child = self.child.as_ref().ok_or(Errno::CHILD)?;
        let waited = child.wait().await;
        // Whoever reaped it, it is not to be named any more.
        self.child = None;
        let status = waited?;
        self.status = Some(status);
        Ok(status)
    }

    /// SIGKILL to the whole process group, as long as its leader is not reaped:
    /// until then the kernel cannot give the number to another group.
    /// Does nothing afterwards.
    pub fn kill_group(&self) {
        if self.child.is_some() {
            // ESRCH and EPERM: everybody left is dead, or has become somebody
            // we may not signal; neither can be helped.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
    }
}

impl Child {
    async fn wait(&self) -> io::Result<ExitStatus> {
        let reap = |fd: BorrowedFd<'_>| {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(fd), options)? {
                Some(status) => Ok(exit_status(&status)),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        self.pidfd.read(reap).await
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if let Some(child) = self.child.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(error) = child.wait().await {
                    tracing::debug!(%error, "a child that nobody waits for");
                }
            });
        }
    }
}

/// As wait(2) encodes it.
fn exit_status(status: &WaitIdStatus) -> ExitStatus {
    /// `WCOREFLAG`.
    const CORE: i32 = 0x80;
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal | if status.dumped() { CORE } else { 0 },
        // Not asked for: it is neither stopped nor continued.
        (None, None) => 0,
    };
    ExitStatus::from_raw(raw)
}

/// Reaps a child that has not executed anything.
pub(super) fn reap_failed(pidfd: &OwnedFd) {
    use std::os::fd::AsFd as _;
    // It has ended, or is about to: all that is left to it is exit_group(2).
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}
