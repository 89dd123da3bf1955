//! `PIDFD_GET_INFO`: how a process ended that need not be our child.
//!
//! Needs no privilege, and nothing of `/proc`. Must stay true: only what the
//! kernel marks as valid in `mask` is believed; a kernel that does not know the
//! call, or its exit part, is an ordinary case.

use std::os::fd::BorrowedFd;

use rustix::ioctl::{Updater, ioctl, opcode};

use crate::core::death::WaitStatus;

/// `struct pidfd_info` as of Linux 6.13 (`PIDFD_INFO_SIZE_VER0`,
/// include/uapi/linux/pidfd.h); later kernels accept this size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PidfdInfo {
    /// In: what is asked for; out: what is valid.
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// `PIDFD_INFO_EXIT`, since Linux 6.15.
const EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`.
const GET_INFO: rustix::ioctl::Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);

/// What a pidfd says of its process's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitInfo {
    /// It was reaped, and this is its wait status.
    Known(WaitStatus),
    /// It may be told once the process has been reaped.
    NotYet,
    /// This kernel does not tell.
    Unsupported,
}

/// The wait status of the process behind a pidfd. Never blocks.
///
/// The kernel tells it once the process has been reaped (the pidfd then polls
/// as hung up), and not while it is a zombie.
#[must_use]
pub fn exit_info(pidfd: BorrowedFd<'_>) -> ExitInfo {
    let mut info = PidfdInfo {
        mask: EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the opcode was made for exactly this type, which is plain
    // integers in the kernel's layout (size asserted above).
    let answer = unsafe { ioctl(pidfd, Updater::<'_, GET_INFO, PidfdInfo>::new(&mut info)) };
    match answer {
        Ok(()) if info.mask & EXIT != 0 => {
            ExitInfo::Known(WaitStatus(info.exit_code.cast_unsigned()))
        }
        Ok(()) => ExitInfo::NotYet,
        // `ENOTTY` up to 6.11 and `EINVAL` on 6.12: the call is not known. `ESRCH`
        // on 6.13 and 6.14: the process has been reaped, and nothing is kept of it.
        Err(_) => ExitInfo::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        process::{Child, Command},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::sys::pidfd::{VerifiedPid, verify};

    fn child(script: &str) -> (Child, VerifiedPid) {
        let child = Command::new("sh")
            .args(["-c", &format!("read _; {script}")])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = verify(child.id()).unwrap();
        (child, process)
    }

    fn ends(child: &mut Child, process: &VerifiedPid) {
        drop(child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !process.is_dead() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_status_is_known_after_the_reaping_and_not_before() {
        for (script, expected) in [
            ("exit 42", WaitStatus(42 << 8)),
            ("exit 0", WaitStatus(0)),
            ("kill -9 $$", WaitStatus(9)),
        ] {
            let (mut child, process) = child(script);
            let alive = exit_info(process.pidfd());
            assert!(!matches!(alive, ExitInfo::Known(_)), "{alive:?}");
            ends(&mut child, &process);
            let zombie = exit_info(process.pidfd());
            assert!(!matches!(zombie, ExitInfo::Known(_)), "{zombie:?}");
            child.wait().unwrap();
            if alive == ExitInfo::Unsupported {
                println!("SKIP: this kernel has no PIDFD_GET_INFO");
                return;
            }
            assert_eq!(exit_info(process.pidfd()), ExitInfo::Known(expected));
        }
    }

    #[test]
    fn what_is_no_pidfd_is_unsupported() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let answer = exit_info(std::os::fd::AsFd::as_fd(&file));
        assert_eq!(answer, ExitInfo::Unsupported);
    }
}
