//! What no safe interface offers: a process with a chosen pid, a thread that
//! ends alone, a fault.
//!
//! The only file of this package with `unsafe`.

use std::{
    ffi::CString,
    io::{Error, Result},
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

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
