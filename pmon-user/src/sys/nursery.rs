//! For tests: processes by the ten thousand, each as cheap as the kernel can
//! make one.
//!
//! They share the caller's memory and do nothing but wait to be killed; they die
//! with the thread that made them.

use std::{
    fs::File,
    io::{Error, Result},
    ptr,
};

use rustix::fs::{FlockOperation, flock};

/// Bytes of stack that each has for its one system call.
const STACK: usize = 4096;
/// Highest pid that may be handed out, plus one.
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// Processes that wait.
pub(crate) struct Nursery {
    pids: Vec<u32>,
    stacks: *mut libc::c_void,
    bytes: usize,
    _room: PidRoom,
}

/// As many pids as are needed, until this is dropped. One at a time.
struct PidRoom {
    before: String,
    _lock: File,
}

impl PidRoom {
    fn new(processes: usize) -> Result<Self> {
        let lock = File::create(std::env::temp_dir().join("pmon-test-pid-max.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let before = std::fs::read_to_string(PID_MAX)?;
        let now: usize = before.trim().parse().map_err(Error::other)?;
        let wanted = processes * 2 + 40_000;
        if now < wanted {
            std::fs::write(PID_MAX, wanted.to_string())?;
        }
        Ok(Self {
            before,
            _lock: lock,
        })
    }
}

impl Drop for PidRoom {
    fn drop(&mut self) {
        std::fs::write(PID_MAX, &self.before).ok();
    }
}

extern "C" fn wait_to_be_killed(_: *mut libc::c_void) -> libc::c_int {
    loop {
        // SAFETY: system calls on no memory at all. The first has the kernel
        // end this process with the thread that made it.
        unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0);
        }
    }
}

impl Nursery {
    /// So many.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let room = PidRoom::new(count)?;
        let bytes = count * STACK;
        // SAFETY: a mapping of its own, at an address of the kernel's choice.
        let stacks = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if stacks == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let mut nursery = Self {
            pids: Vec::with_capacity(count),
            stacks,
            bytes,
            _room: room,
        };
        for number in 1..=count {
            // SAFETY: within the mapping or one past its end; 16 bytes are kept
            // free above the stack, which keeps it aligned.
            let stack = unsafe { stacks.byte_add(number * STACK - 16) };
            // SAFETY: the child runs on a stack of its own, which is unmapped
            // when it has been reaped, and touches no other memory.
            let pid = unsafe {
                libc::clone(
                    wait_to_be_killed,
                    stack,
                    libc::CLONE_VM | libc::SIGCHLD,
                    ptr::null_mut(),
                )
            };
            if pid < 0 {
                return Err(Error::last_os_error());
            }
            nursery.pids.push(pid.cast_unsigned());
        }
        Ok(nursery)
    }

    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Kills and reaps all of them.
    pub(crate) fn kill(&mut self) {
        // Dead before the first is reaped: a pid is not used twice meanwhile.
        for &pid in &self.pids {
            // SAFETY: our own children, not reaped yet.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
        }
        for pid in self.pids.drain(..) {
            // SAFETY: as above; no status is wanted.
            unsafe { libc::waitpid(pid.cast_signed(), ptr::null_mut(), 0) };
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.kill();
        // SAFETY: nobody runs on it any more.
        unsafe { libc::munmap(self.stacks, self.bytes) };
    }
}
