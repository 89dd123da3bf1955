//! The running kernel: its version, and what no safe interface offers of it: a
//! process with a chosen pid, a thread that ends alone, a fault, what a pidfd can
//! tell, fork(2), processes by the ten thousand.
//!
//! The only file of this package with `unsafe`.

use std::{
    ffi::CString,
    fmt, fs,
    io::{Error, Result},
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

/// `MAJOR.MINOR` of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor) = self;
        write!(f, "{major}.{minor}")
    }
}

/// Whether nobody may read kernel memory: `lockdown=confidentiality`,
/// kernel_lockdown(7).
#[must_use]
pub fn is_locked_down() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|modes| modes.contains("[confidentiality]"))
}

/// Of the running kernel.
///
/// # Panics
///
/// When its release does not begin with two numbers.
#[must_use]
pub fn version() -> Version {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => Version(major, minor),
        _ => panic!("release `{release}`"),
    }
}

/// Tells what this kernel offers: a line of the table in
/// `docs/kernel-support.md`.
pub fn fact(name: &str, value: impl fmt::Display) {
    println!("FACT: {name}: {value}");
}

/// A pidfd of this process.
///
/// # Panics
///
/// When there is none to be had.
#[must_use]
pub fn own_pidfd() -> OwnedFd {
    rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )
    .expect("Linux 5.3")
}

/// Whether its inode is its process's own, and not that of all anonymous files.
#[must_use]
pub fn is_on_pidfs(pidfd: &OwnedFd) -> bool {
    /// `PID_FS_MAGIC` of `include/uapi/linux/magic.h`.
    const MAGIC: u64 = 0x5049_4446;
    rustix::fs::fstatfs(pidfd).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC))
}

/// Whether the kernel knows `PIDFD_GET_INFO`.
#[must_use]
pub fn has_pidfd_info(pidfd: &OwnedFd) -> bool {
    /// `_IOWR(0xFF, 11, struct pidfd_info)` in its first version of 64 bytes
    /// (`include/uapi/linux/pidfd.h`).
    const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
    // The first member asks for fields; more than asked for may be given.
    let mut info = [0_u64; 8];
    // SAFETY: an open descriptor, and the 64 bytes that the request's number tells.
    unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) == 0 }
}

/// Starts `program` with `arguments` under exactly this pid, stdin and stdout
/// as given. It is a child of the caller (see [`reap`]).
///
/// # Errors
///
/// `EEXIST` when the pid is in use; `EPERM` without CAP_CHECKPOINT_RESTORE
/// (Linux 5.9).
pub fn spawn_with_pid(
    pid: u32,
    program: &Path,
    arguments: &[&str],
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
) -> Result<()> {
    let program = CString::new(program.as_os_str().as_bytes())?;
    let arguments = arguments
        .iter()
        .map(|argument| CString::new(*argument))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let argv: Vec<_> = [program.as_ptr()]
        .into_iter()
        .chain(arguments.iter().map(|argument| argument.as_ptr()))
        .chain([ptr::null()])
        .collect();
    let environment = [ptr::null::<libc::c_char>()];
    let (stdin, stdout) = (stdin.as_raw_fd(), stdout.as_raw_fd());
    let wanted = libc::pid_t::try_from(pid).map_err(Error::other)?;
    // SAFETY: all-zero is a valid value of this plain struct of integers.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = u64::try_from(libc::SIGCHLD).map_err(Error::other)?;
    how.set_tid = ptr::from_ref(&wanted) as u64;
    how.set_tid_size = 1;
    // SAFETY: without CLONE_VM this is a fork; `how` and `wanted` outlive the
    // call. The child calls only async-signal-safe functions (dup2, execve,
    // _exit; signal-safety(7)) on memory prepared before.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_ref(&how),
            size_of::<libc::clone_args>(),
        )
    };
    match child {
        -1 => Err(Error::last_os_error()),
        0 => {
            // SAFETY: open descriptors and NULL-terminated arrays of C strings;
            // see above for the rest.
            unsafe {
                libc::dup2(stdin, 0);
                libc::dup2(stdout, 1);
                libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr());
                libc::_exit(127)
            }
        }
        _ => Ok(()),
    }
}

/// Ends the calling thread alone, as exit(2) does and no C library offers:
/// other threads of the process live on.
pub fn exit_this_thread(code: i32) -> ! {
    // SAFETY: the thread never returns, so nothing of its stack is used again
    // except by itself; memory is left to the process.
    unsafe {
        libc::syscall(libc::SYS_exit, code);
    }
    unreachable!("exit(2) does not return")
}

/// Reads from where no process has memory: the kernel sends SIGSEGV.
pub fn fault() -> ! {
    // Below `vm.mmap_min_addr`, aligned, and not null.
    let nowhere = ptr::without_provenance::<u64>(64);
    // SAFETY: none can be given, and that is the point: the page at this address
    // can't be mapped, so the read never gives a value to anybody.
    unsafe {
        nowhere.read_volatile();
    }
    unreachable!("the kernel ends the process")
}

/// The child's pid, or 0 in the child. For programs with one thread.
///
/// # Errors
///
/// What the kernel said.
pub fn fork() -> Result<i32> {
    // SAFETY: with one thread, the child's copy of this program is whole.
    match unsafe { libc::fork() } {
        pid if pid >= 0 => Ok(pid),
        _ => Err(Error::last_os_error()),
    }
}

/// daemon(3): goes on in a child, in a session of its own, and exits. For programs
/// with one thread.
///
/// # Errors
///
/// What the kernel said.
pub fn daemon() -> Result<()> {
    // SAFETY: as in `fork`; the parent ends in the C library.
    match unsafe { libc::daemon(0, 0) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Reaps a child, waiting for its end.
///
/// # Errors
///
/// When it is no child of ours.
pub fn reap(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| Error::other("not a pid"))?;
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
    Ok(())
}

/// Has a function called when the test program exits.
pub fn at_exit(function: extern "C" fn()) {
    // SAFETY: any safe function without arguments will do.
    unsafe { libc::atexit(function) };
}

/// Bytes of stack that each of a [`Crowd`] has for its one system call.
const STACK: usize = 4096;

/// Processes that share the caller's memory and do nothing but wait to be
/// killed; they die with the thread that made them.
#[derive(Debug)]
pub struct Crowd {
    pids: Vec<u32>,
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

impl Crowd {
    /// So many.
    ///
    /// # Errors
    ///
    /// `EAGAIN` at a limit of processes, `ENOMEM`.
    pub fn new(count: usize) -> Result<Self> {
        // SAFETY: a mapping of its own, at an address of the kernel's choice.
        let stacks = unsafe {
            libc::mmap(
                ptr::null_mut(),
                count * STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if stacks == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let mut crowd = Self { pids: Vec::new() };
        for number in 1..=count {
            // SAFETY: within the mapping; 16 bytes are kept free above the
            // stack, which keeps it aligned.
            let stack = unsafe { stacks.byte_add(number * STACK - 16) };
            // SAFETY: the child runs on a stack of its own, which stays mapped,
            // and touches no other memory.
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
            crowd.pids.push(pid.cast_unsigned());
        }
        Ok(crowd)
    }

    /// Their pids.
    #[must_use]
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Kills all of them, then reaps them: no pid is used twice meanwhile.
    pub fn kill(&mut self) {
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
