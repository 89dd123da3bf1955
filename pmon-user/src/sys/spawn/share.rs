//! Making a child that shares pmon's memory until it executes its program.
//!
//! fork(2) copies the tables of all the memory that a daemon has, and each page
//! that is written to afterwards, while the successor could be starting. A child with
//! `CLONE_VM | CLONE_VFORK`, as posix_spawn(3) makes it, needs neither. Must stay
//! true:
//!
//! * it runs on a stack of its own, and the thread that made it is suspended until
//!   it has executed its program or ended (`CLONE_VFORK`); so it may use that
//!   thread's thread-local storage, which errno is in, and what that thread lent it;
//! * it makes system calls only; other threads go on, and may hold any lock;
//! * no handler of pmon's runs in it: all signals are blocked from before it is made
//!   until it has set all of them to their defaults, in its own table;
//! * it keeps pmon's own user. A process of another user that shared the memory
//!   of root's could be stopped or traced by that user, and changing users makes the
//!   kernel treat the memory, pmon's, as one that must not be dumped (`commit_creds`,
//!   kernel/cred.c). Such a child is forked;
//! * `CLONE_VFORK` is needed for one thing more: the kernel takes the OOM score that
//!   is set in a process for that of all who share its memory, except before the end
//!   of a vfork (`__set_oom_adj`, fs/proc/base.c).

use std::{
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    io::Errno,
    mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap},
    process::Pid,
};

/// Bytes of the child's stack: some frames and one buffer of 2 KiB, with room for
/// what an unoptimised build wastes. Only what is used becomes resident.
const STACK: usize = 128 << 10;
/// Its lowest part, which must not be touched; no page is larger (arm64 has 64 KiB).
const GUARD: usize = 64 << 10;

/// `include/uapi/linux/sched.h`; libc has them as narrower numbers.
const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child that calls `run` with `argument`, in this cgroup (its directory) if
/// one is given; returns when it has executed a program or ended. The pidfd is in
/// blocking mode.
///
/// # Safety
///
/// `run` makes system calls only, on memory that nobody else uses meanwhile, and does
/// not change the process's user; `argument` is what it wants.
///
/// # Errors
///
/// Those of clone3(2), and `ENOSYS` where that is not known here.
pub(super) unsafe fn clone<T>(
    run: unsafe extern "C" fn(*mut T) -> !,
    argument: *mut T,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Pid, OwnedFd), Errno> {
    let stack = Stack::new()?;
    let mut pidfd: RawFd = -1;
    let mut flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD;
    let mut directory = 0;
    if let Some(cgroup) = cgroup {
        flags |= CLONE_INTO_CGROUP;
        directory = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: (&raw mut pidfd).addr() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: stack.base.addr() as u64,
        stack_size: (GUARD + STACK) as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: directory,
    };
    let blocked = Blocked::all();
    // SAFETY: `arguments` asks for a child with a stack of its own, which outlives its
    // use of this memory, as this thread is suspended until then; the rest is the
    // caller's promise. The pointer to a function of one pointer is called with one.
    let result = unsafe {
        clone3_and_call(
            &raw const arguments,
            run as *const (),
            argument.cast::<libc::c_void>(),
        )
    };
    drop(blocked);
    let errno = |raw: isize| Errno::from_raw_os_error(i32::try_from(-raw).unwrap_or(libc::EINVAL));
    if result < 0 {
        return Err(errno(result));
    }
    // SAFETY: the kernel has just made it, with the close-on-exec flag.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(result).ok().and_then(Pid::from_raw);
    Ok((pid.ok_or(Errno::CHILD)?, pidfd))
}

/// clone3(2); the child calls `run` with `argument` on its own stack and never gets
/// here. The kernel's result: a pid, or an errno below 0.
///
/// # Safety
///
/// As for [`clone`]; `run` is an `extern "C"` function of one pointer that does not
/// return.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_and_call(
    arguments: *const libc::clone_args,
    run: *const (),
    argument: *mut libc::c_void,
) -> isize {
    let result: isize;
    // SAFETY: the parent's registers are as they were but for those named. The child has
    // the same ones and another stack, whose end is aligned as a call wants it
    // (a page's); it leaves by `call` and does not come back.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") argument,
            in("r13") run,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The same.
///
/// # Safety
///
/// The same.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3_and_call(
    arguments: *const libc::clone_args,
    run: *const (),
    argument: *mut libc::c_void,
) -> isize {
    let result: isize;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") argument,
            in("x21") run,
            options(nostack),
        );
    }
    result
}

/// Not written for this processor: the child is forked.
///
/// # Safety
///
/// None; nothing is done.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3_and_call(_: *const libc::clone_args, _: *const (), _: *mut libc::c_void) -> isize {
    -(libc::ENOSYS as isize)
}

/// Memory for a stack, above a part that must not be touched.
struct Stack {
    base: *mut libc::c_void,
}

impl Stack {
    fn new() -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::STACK;
        // SAFETY: new memory, wherever there is room.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), GUARD + STACK, protection, flags) }?;
        let stack = Self { base };
        // SAFETY: the lower part of what was just mapped, which nobody has a reference to.
        unsafe { mprotect(stack.base, GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; the child that used it has other memory by now, or is
        // gone. An error would leave it mapped.
        let _ = unsafe { munmap(self.base, GUARD + STACK) };
    }
}

/// This thread's signals, all of them blocked until this is dropped. By raw calls:
/// glibc's wrappers leave out the two signals it keeps for itself.
struct Blocked {
    before: u64,
}

/// Bytes of the kernel's `sigset_t`.
const SIGNAL_SET: libc::c_long = 8;

impl Blocked {
    fn all() -> Self {
        let mut before = 0;
        set_mask(&u64::MAX, &raw mut before);
        Self { before }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(&self.before, ptr::null_mut());
    }
}

fn set_mask(mask: &u64, before: *mut u64) {
    // SAFETY: rt_sigprocmask(2) reads 8 bytes from `mask` and writes as many to `before`,
    // if that is not null; it cannot fail with these arguments.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::c_long::from(libc::SIG_SETMASK),
            ptr::from_ref(mask),
            before,
            SIGNAL_SET,
        )
    };
}

/// An error of clone3(2) after which another way of making a child is no help.
pub(super) fn is_final(errno: Errno) -> bool {
    matches!(errno, Errno::AGAIN | Errno::NOMEM)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::os::fd::AsFd as _;

    use rustix::process::{WaitId, WaitIdOptions, getppid, waitid};

    use super::*;

    unsafe extern "C" fn tell_and_end(told: *mut i32) -> ! {
        let parent = getppid().map_or(0, Pid::as_raw_pid);
        // SAFETY: the test's own integer, which waits for this; _exit(2) ends the child.
        unsafe {
            told.write(parent);
            libc::_exit(7)
        }
    }

    #[test]
    fn the_child_has_this_memory_and_is_over_when_clone_returns() {
        let mut told = 0;
        // SAFETY: `tell_and_end` makes system calls only, and writes to `told`.
        let (pid, pidfd) = unsafe { clone(tell_and_end, &raw mut told, None) }.unwrap();
        assert_eq!(told, std::process::id().cast_signed());
        assert!(pid.as_raw_nonzero().get() > 0);
        let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        assert_eq!(status.unwrap().unwrap().exit_status(), Some(7));
    }

    #[test]
    fn the_mask_of_signals_is_what_it_was() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status
                .lines()
                .find(|line| line.starts_with("SigBlk"))
                .unwrap();
            line.to_owned()
        };
        let before = mask();
        let blocked = Blocked::all();
        // SIGKILL and SIGSTOP cannot be blocked.
        assert!(mask().ends_with("fffffffffffbfeff"), "{}", mask());
        drop(blocked);
        assert_eq!(mask(), before);
    }
}
