//! The only unsafe code of the bench: fork without exec, memory that a fork
//! shares, and memory that a victim occupies; `bpf` is an empty BPF program.

pub(crate) mod bpf;

use std::{
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use pmon_user::sys::clock;
use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous},
    process::Pid,
};

/// Proof that this process has one thread, and so may fork and go on in the
/// child as if nothing had happened (fork(2), signal-safety(7)).
pub(crate) struct SingleThreaded {
    // Threads are started with this type out of reach of them.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl SingleThreaded {
    /// `None` when there are other threads. Whoever holds the proof must not
    /// start any.
    pub(crate) fn prove() -> Option<Self> {
        let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
        (stat.num_threads == 1).then_some(Self {
            _not_send: std::marker::PhantomData,
        })
    }

    /// Runs `child` in a new process, which ends with status 1 if `child`
    /// returns.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, `ENOMEM`.
    pub(crate) fn fork(&self, child: impl FnOnce()) -> Result<Pid, Errno> {
        // SAFETY: there is one thread (see `prove`), so no lock can be left
        // held for ever in the child.
        match unsafe { libc::fork() } {
            -1 => {
                Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN))
            }
            0 => {
                child();
                exit_at_once(1)
            }
            pid => Pid::from_raw(pid).ok_or(Errno::SRCH),
        }
    }
}

/// A page that forked children share with their parent: one number each.
pub(crate) struct SharedPage {
    slots: &'static [AtomicU64],
}

impl SharedPage {
    /// Bytes of the page.
    const BYTES: usize = 4096;

    /// A page of zeroes; it stays for the life of the process.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page =
            unsafe { mmap_anonymous(ptr::null_mut(), Self::BYTES, protection, MapFlags::SHARED) }?;
        // SAFETY: the mapping is page-aligned, zeroed, as long as the slice,
        // never unmapped, and only reached through atomics.
        let slots = unsafe {
            std::slice::from_raw_parts(
                page.cast::<AtomicU64>(),
                Self::BYTES / size_of::<AtomicU64>(),
            )
        };
        Ok(Self { slots })
    }

    /// One number.
    pub(crate) fn slot(&self, index: usize) -> Option<&'static AtomicU64> {
        self.slots.get(index)
    }
}

/// Notes the time, in nanoseconds of `CLOCK_BOOTTIME`, as the last thing this
/// process does.
pub(crate) fn die(last_instruction: &AtomicU64) -> ! {
    last_instruction.store(clock::now().as_boot_ns(), Ordering::Release);
    exit_at_once(0)
}

/// `exit_group(2)`, without running anything of this process's.
pub(crate) fn exit_at_once(status: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(status) }
}

/// Occupies memory, all of it resident, until the process ends.
///
/// # Errors
///
/// `ENOMEM`; `EINVAL` before Linux 5.14, and for huge pages where there are none.
pub(crate) fn occupy(bytes: usize, huge_pages: bool) -> Result<(), Errno> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let memory = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }?;
    let pages = if huge_pages {
        Advice::LinuxHugepage
    } else {
        Advice::LinuxNoHugepage
    };
    // SAFETY: this mapping, which nothing refers to.
    unsafe { madvise(memory, bytes, pages) }?;
    // SAFETY: as above; writing zeroes over zeroes.
    unsafe { madvise(memory, bytes, Advice::LinuxPopulateWrite) }
}
