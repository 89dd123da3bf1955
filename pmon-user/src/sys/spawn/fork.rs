//! Making the child, in its cgroup from the first moment.
//!
//! A process that writes itself into a `cgroup.procs` waits for a grace period of
//! RCU in the kernel, tens of milliseconds on a host with something to do
//! (`cgroup_attach_lock`, kernel/cgroup/cgroup.c): many times what all the rest of
//! a start takes. clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7) has the child
//! there without. Where that is refused, for instance by a seccomp filter, the
//! child is forked as ever and moves itself. Must stay true: the child has a copy
//! of the memory, never shares it.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// On which side of fork(2).
pub(super) enum Side {
    /// The new process. Only system calls are allowed (signal-safety(7)).
    Child {
        /// It is in the cgroup already.
        in_cgroup: bool,
    },
    /// The old one.
    Parent {
        /// The child's pid.
        pid: Pid,
        /// The child, in non-blocking mode.
        pidfd: OwnedFd,
    },
}

/// Forks, into this cgroup (its directory) if that can be done.
///
/// # Safety
///
/// The child must make nothing but system calls until it executes a program or
/// ends, and it must not return from the function that called this.
///
/// # Errors
///
/// Those of fork(2).
pub(super) unsafe fn fork(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side> {
    if let Some(cgroup) = cgroup {
        // SAFETY: the caller's promise.
        match unsafe { clone_into(cgroup) } {
            Ok(side) => return Ok(side),
            // There is no process or no memory for one: another way is no help.
            Err(errno @ (Errno::AGAIN | Errno::NOMEM)) => return Err(errno.into()),
            // The kernel, a filter, or the cgroup does not allow it.
            Err(_) => {}
        }
    }
    // SAFETY: the caller's promise.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child { in_cgroup: false }),
        pid => {
            // Not reaped by anybody else, so it is this child that is opened.
            let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
            let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK);
            match pidfd.or_else(|_| pidfd_open(pid, PidfdFlags::empty())) {
                Ok(pidfd) => Ok(Side::Parent { pid, pidfd }),
                Err(errno) => {
                    // Nobody could wait for it.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    let _ =
                        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                    Err(errno.into())
                }
            }
        }
    }
}

/// # Safety
///
/// As for [`fork`].
unsafe fn clone_into(cgroup: BorrowedFd<'_>) -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    /// `include/uapi/linux/sched.h`; libc has them as narrower numbers.
    const PIDFD: u64 = 0x1000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    let cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let arguments = libc::clone_args {
        flags: PIDFD | INTO_CGROUP,
        pidfd: (&raw mut pidfd).addr() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    // SAFETY: `arguments` and `pidfd` outlive the call; without CLONE_VM and a
    // stack the child goes on with copies, as after fork(2).
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        0 => Ok(Side::Child { in_cgroup: true }),
        -1 => Err(Errno::from_raw_os_error(
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EINVAL),
        )),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // SAFETY: the kernel has just made it, with the close-on-exec flag.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = pid.ok_or(Errno::CHILD)?;
            Ok(Side::Parent { pid, pidfd })
        }
    }
}
