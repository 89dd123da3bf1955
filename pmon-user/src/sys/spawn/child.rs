//! Making the child, and what happens in it before execve.
//!
//! Must stay true: system calls only, on memory that the parent prepared; no
//! allocation, no lock, nothing of std that might take one (signal-safety(7)). The
//! memory may be the parent's own (`share`): nothing is written but the image and
//! the stack.

use std::{
    ffi::{CStr, CString, c_char, c_long},
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    ptr,
};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat},
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    process::{Pid, chdir, setpriority_process, setsid, umask},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    SpawnError, Step,
    fork::{self, Side},
    gate::Barrier,
    passed::Passed,
    share,
};
use crate::sys::{limits::restore_open_files, user::Credentials};

/// Strings as execve(2) takes them: pointers, ended by a null one.
pub(super) struct Pointers {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Pointers {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        Self {
            pointers: strings
                .iter()
                .map(|string| string.as_ptr())
                // The first one may make way for another string.
                .chain([ptr::null(), ptr::null()])
                .collect(),
            _strings: strings,
        }
    }

    /// One more, in the child, that outlives this; for the first time only.
    fn add(&mut self, string: *const c_char) {
        if let Some(free) = self.pointers.iter_mut().rev().nth(1) {
            *free = string;
        }
    }
}

// SAFETY: the pointers lead to the strings owned beside them, which nobody
// changes; moving a `CString` does not move its bytes.
unsafe impl Send for Pointers {}
// SAFETY: as above; there is no way to write through it.
unsafe impl Sync for Pointers {}

/// A cgroup to move into.
pub(super) struct Join {
    pub(super) directory: OwnedFd,
    pub(super) cpu: Option<OwnedFd>,
    /// An eventfd that takes the errno.
    pub(super) refused: OwnedFd,
}

impl Join {
    /// Moves this process; if that is refused, says so.
    fn enter(&self) {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = openat(&self.directory, c"cgroup.procs", flags, Mode::empty());
        if let Err(errno) = procs.and_then(|procs| rustix::io::write(procs, b"0")) {
            let errno = u64::from(errno.raw_os_error().unsigned_abs());
            // Cannot fail: the counter is 0 and the value small (eventfd(2)).
            let _ = rustix::io::write(&self.refused, &errno.to_ne_bytes());
        }
    }
}

/// Whom to become.
pub(super) struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Ids {
    pub(super) fn new(credentials: &Credentials) -> Self {
        let Credentials { uid, gid, groups } = credentials;
        Self {
            uid: Uid::from_raw(*uid),
            gid: Gid::from_raw(*gid),
            groups: groups.iter().copied().map(Gid::from_raw).collect(),
        }
    }
}

/// What the child needs between fork and execve.
pub(super) struct Image {
    pub(super) program: CString,
    pub(super) arguments: Pointers,
    pub(super) environment: Pointers,
    pub(super) directory: CString,
    pub(super) credentials: Option<Ids>,
    /// For stdin, and for stdout and stderr.
    pub(super) streams: [OwnedFd; 2],
    pub(super) cgroup: Option<Join>,
    pub(super) passed: Option<Passed>,
    pub(super) barrier: Option<Barrier>,
}

/// What a child that shares the memory is given.
struct Shared<'a> {
    image: &'a mut Image,
    in_cgroup: bool,
    failed: &'a OwnedFd,
}

/// # Safety
///
/// To be run in a child, with what nobody else uses meanwhile.
unsafe extern "C" fn run(shared: *mut Shared<'_>) -> ! {
    // SAFETY: the caller's promise.
    let Shared {
        image,
        in_cgroup,
        failed,
    } = unsafe { &mut *shared };
    image.become_program_or_end(*in_cgroup, failed)
}

impl Image {
    /// Makes the child, with the memory of this process or, where that must not be,
    /// a copy of it. Why there is no program comes through `failed`.
    pub(super) fn start(&mut self, failed: &OwnedFd) -> io::Result<(Pid, OwnedFd)> {
        if self.credentials.is_none() {
            match self.start_sharing(failed) {
                Ok(child) => return Ok(child),
                Err(errno) if share::is_final(errno) => return Err(errno.into()),
                // The kernel, a filter, or the cgroup does not allow it.
                Err(_) => {}
            }
        }
        let cgroup = self.cgroup.as_ref().map(|cgroup| cgroup.directory.as_fd());
        // SAFETY: the child makes system calls only, on memory prepared before; it
        // takes no lock, allocates nothing, and ends in `become_program_or_end`.
        match unsafe { fork::fork(cgroup) }? {
            Side::Child { in_cgroup } => self.become_program_or_end(in_cgroup, failed),
            Side::Parent { pid, pidfd } => Ok((pid, pidfd)),
        }
    }

    fn start_sharing(&mut self, failed: &OwnedFd) -> Result<(Pid, OwnedFd), Errno> {
        let directory = self.cgroup.as_ref().map(|cgroup| &cgroup.directory);
        let dup = |directory| fcntl_dupfd_cloexec(directory, 3);
        let cgroup = directory.map(dup).transpose()?;
        let mut shared = Shared {
            image: self,
            in_cgroup: cgroup.is_some(),
            failed,
        };
        let cgroup = cgroup.as_ref().map(OwnedFd::as_fd);
        // SAFETY: `run` gets what it wants, which this thread lends it and does not look
        // at before the child has other memory; it makes system calls only and, as
        // there are no credentials, changes no user.
        unsafe { share::clone(run, &raw mut shared, cgroup) }
    }

    /// Runs in the child: ends it where there is no program to become.
    pub(super) fn become_program_or_end(&mut self, in_cgroup: bool, failed: &OwnedFd) -> ! {
        let error = match self.prepare(in_cgroup) {
            Ok(()) => SpawnError {
                step: Step::Execute,
                errno: self.execute(),
            },
            Err(error) => error,
        };
        // If nobody is told, the parent is gone.
        let _ = rustix::io::write(failed, &error.code().to_ne_bytes());
        // SAFETY: _exit(2) ends the process at once and runs nothing of it.
        unsafe { libc::_exit(127) }
    }

    fn prepare(&mut self, in_cgroup: bool) -> Result<(), SpawnError> {
        let at = |step| move |errno| SpawnError { step, errno };
        if let Some(barrier) = &self.barrier {
            barrier.announce().map_err(at(Step::Gate))?;
        }
        let [null, output] = &self.streams;
        dup2_stdin(null).map_err(at(Step::Fork))?;
        dup2_stdout(output).map_err(at(Step::Fork))?;
        dup2_stderr(output).map_err(at(Step::Fork))?;
        setsid().map_err(at(Step::Session))?;
        if let Some(Join { cpu: Some(cpu), .. }) = &self.cgroup {
            let _ = rustix::io::write(cpu, b"0");
        }
        if let Some(join) = &self.cgroup
            && !in_cgroup
        {
            join.enter();
        }
        normal_scheduling();
        restore_open_files();
        if let Some(Ids { uid, gid, groups }) = &self.credentials {
            set_thread_groups(groups).map_err(at(Step::SupplementaryGroups))?;
            set_thread_res_gid(*gid, *gid, *gid).map_err(at(Step::Group))?;
            set_thread_res_uid(*uid, *uid, *uid).map_err(at(Step::User))?;
        }
        chdir(self.directory.as_c_str()).map_err(at(Step::Directory))?;
        umask(Mode::from_raw_mode(0o022));
        default_signals();
        close_on_exec().map_err(at(Step::Descriptors))?;
        if let Some(passed) = &mut self.passed {
            passed.place().map_err(at(Step::Passing))?;
            self.environment.add(passed.variable());
        }
        match &self.barrier {
            Some(barrier) => barrier.pass().map_err(at(Step::Gate)),
            None => Ok(()),
        }
    }

    fn execute(&self) -> Errno {
        // SAFETY: a path and two null-terminated arrays of C strings, all owned
        // by `self`.
        unsafe {
            libc::execve(
                self.program.as_ptr(),
                self.arguments.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            )
        };
        let errno = io::Error::last_os_error().raw_os_error();
        Errno::from_raw_os_error(errno.unwrap_or(libc::EINVAL))
    }
}

/// Undoes a daemon's privileges over the scheduler and the OOM killer. Each is
/// a request: without the right to it the program keeps what pmon has.
fn normal_scheduling() {
    if let Ok(file) = openat(
        CWD,
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(file, b"0");
    }
    let priority: libc::c_int = 0;
    // SAFETY: sched_setscheduler(2) reads a `struct sched_param`, which is one
    // int; the raw call, as musl's wrapper refuses to make it.
    unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0 as c_long,
            c_long::from(libc::SCHED_OTHER),
            &raw const priority,
        )
    };
    let _ = setpriority_process(None, 0);
    /// `IOPRIO_WHO_PROCESS` (ioprio_set(2)); priority 0 is "none", derived
    /// from the nice value.
    const IOPRIO_WHO_PROCESS: c_long = 1;
    // SAFETY: ioprio_set(2) takes three integers.
    unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0 as c_long,
            0 as c_long,
        )
    };
}

/// Every signal to its default disposition, then none blocked. By raw calls:
/// glibc's wrappers refuse the two signals it keeps for itself, which may have
/// been inherited as ignored all the same.
fn default_signals() {
    /// `_NSIG` of Linux, the size of the kernel's `sigset_t` in bits.
    const SIGNALS: c_long = 64;
    // The kernel's `struct sigaction` is at most this many words on any
    // architecture; all zero is `SIG_DFL`, no flags, an empty mask.
    let zero = [0u64; 8];
    for signal in 1..=SIGNALS {
        // SAFETY: rt_sigaction(2) reads a `struct sigaction` from `zero`, which
        // is larger, and writes nothing; SIGKILL and SIGSTOP give EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                zero.as_ptr(),
                ptr::null::<u64>(),
                SIGNALS / 8,
            )
        };
    }
    // SAFETY: rt_sigprocmask(2) reads 8 bytes from `zero` and writes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            c_long::from(libc::SIG_SETMASK),
            zero.as_ptr(),
            ptr::null::<u64>(),
            SIGNALS / 8,
        )
    };
}

/// Marks every descriptor from 3 on close-on-exec, whoever opened it and how.
fn close_on_exec() -> Result<(), Errno> {
    // SAFETY: close_range(2) takes three integers; with CLOEXEC (Linux 5.11)
    // it closes nothing yet.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as c_long,
            c_long::from(u32::MAX),
            c_long::from(libc::CLOSE_RANGE_CLOEXEC),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        close_on_exec_listed()
    }
}

/// The same before Linux 5.11: one by one as `/proc/self/fd` lists them, never
/// by counting up to a limit that may be a billion.
fn close_on_exec_listed() -> Result<(), Errno> {
    let directory = openat(
        CWD,
        c"/proc/self/fd",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let Some(number) = descriptor_number(entry?.file_name()).filter(|number| *number > 2)
        else {
            continue;
        };
        // SAFETY: used for one fcntl(2), which is refused if the number is not open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match fcntl_setfd(descriptor, FdFlags::CLOEXEC) {
            // Closed is as good.
            Ok(()) | Err(Errno::BADF) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn descriptor_number(name: &CStr) -> Option<i32> {
    let mut number: i32 = 0;
    for byte in name.to_bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(i32::from(byte - b'0'))?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs::File;

    use rustix::io::fcntl_getfd;

    use super::*;

    #[test]
    fn the_way_for_old_kernels_marks_a_descriptor_too() {
        // dup(2) clears the flag; the pair is this test's own.
        let open = rustix::io::dup(File::open("/dev/null").unwrap()).unwrap();
        assert_eq!(fcntl_getfd(&open).unwrap(), FdFlags::empty());
        close_on_exec_listed().unwrap();
        assert_eq!(fcntl_getfd(&open).unwrap(), FdFlags::CLOEXEC);
    }

    #[test]
    fn descriptor_numbers() {
        assert_eq!(descriptor_number(c"17"), Some(17));
        assert_eq!(descriptor_number(c"."), None);
        assert_eq!(descriptor_number(c"99999999999"), None);
    }
}
