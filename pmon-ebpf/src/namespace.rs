//! Thread group ids as the daemon's own pid namespace sees them: the keys of
//! the table.
//!
//! In the initial pid namespace they are what the kernel itself uses. In any
//! other, `struct pid` holds a number for every namespace from the initial one
//! down to the process's own; the one that belongs to the daemon's is wanted.
//! A process that has no number there is invisible to the daemon, and ignored.

use aya_ebpf::{
    Global,
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_ns_current_pid_tgid,
        bpf_probe_read_kernel,
    },
};
use pmon_common::{Tgid, pid_numbers};

use crate::{field::Field, task::Task};

/// Inode of the daemon's pid namespace; 0 when it is the initial one.
#[unsafe(no_mangle)]
static PMON_NAMESPACE: Global<u32> = Global::new(0);
/// Device of that inode, as the kernel encodes it (`dev_t`).
#[unsafe(no_mangle)]
static PMON_NAMESPACE_DEVICE: Global<u32> = Global::new(0);
/// Whether there is `bpf_get_current_task_btf` (Linux 5.11).
#[unsafe(no_mangle)]
static PMON_CURRENT_TASK: Global<u32> = Global::new(0);
/// One of [`pid_numbers`].
#[unsafe(no_mangle)]
static PMON_PID_NUMBERS_KIND: Global<u32> = Global::new(pid_numbers::UNKNOWN);
/// `pid.level`.
#[unsafe(no_mangle)]
static PMON_PID_LEVEL: Field = Field::off();
/// `pid.numbers`.
#[unsafe(no_mangle)]
static PMON_PID_NUMBERS: Field = Field::off();
/// `upid.ns`; `upid.nr` lies at 0.
#[unsafe(no_mangle)]
static PMON_UPID_NS: Field = Field::off();
/// `pid_namespace.ns.inum`.
#[unsafe(no_mangle)]
static PMON_NAMESPACE_INUM: Field = Field::off();

/// Size of `struct upid`; the daemon switches the walk off where it differs.
const UPID_BYTES: usize = 16;
/// `MAX_PID_NS_LEVEL` of `include/linux/pid_namespace.h`.
const MAX_LEVEL: u32 = 32;

/// The key of the process that runs this program, for programs that know its task.
#[inline(always)]
pub(crate) fn current_tgid(task: Task) -> Option<Tgid> {
    match PMON_NAMESPACE.load() {
        0 => Some(initial_tgid()),
        inode => tgid_at(task, inode),
    }
}

/// The key of any process.
#[inline(always)]
pub(crate) fn tgid(task: Task) -> Option<Tgid> {
    match PMON_NAMESPACE.load() {
        0 => task.tgid(),
        inode => tgid_at(task, inode),
    }
}

/// The key of the process that runs this program, without its task: where the
/// kernel lacks a way to it, only of a process directly in the daemon's namespace.
#[inline(always)]
pub(crate) fn current_tgid_without_task() -> Option<Tgid> {
    match PMON_NAMESPACE.load() {
        0 => Some(initial_tgid()),
        inode => direct_tgid(inode),
    }
}

/// The key of the process that runs this program, by the best means there is.
#[inline(always)]
pub(crate) fn sender_tgid() -> Option<Tgid> {
    match PMON_NAMESPACE.load() {
        0 => Some(initial_tgid()),
        inode if PMON_CURRENT_TASK.load() == 0 => direct_tgid(inode),
        inode => {
            // SAFETY: the helper returns the current task, typed.
            let task = unsafe { Task::new(bpf_get_current_task_btf().cast::<u8>()) };
            tgid_at(task, inode)
        }
    }
}

/// A key of the initial namespace, which is all that some tracepoints tell.
#[inline(always)]
pub(crate) fn from_initial(pid: u32) -> Option<Tgid> {
    (PMON_NAMESPACE.load() == 0).then_some(pid)
}

#[inline(always)]
fn initial_tgid() -> Tgid {
    (bpf_get_current_pid_tgid() >> 32) as Tgid
}

#[inline(always)]
fn direct_tgid(inode: u32) -> Option<Tgid> {
    let device = PMON_NAMESPACE_DEVICE.load();
    let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: `info` is writable and has the size that is passed.
    let result = unsafe {
        bpf_get_ns_current_pid_tgid(
            u64::from(device),
            u64::from(inode),
            &raw mut info,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    (result == 0).then_some(info.tgid)
}

#[inline(always)]
fn tgid_at(task: Task, inode: u32) -> Option<Tgid> {
    match number_in(task.group_pid()?, inode) {
        0 => None,
        tgid => Some(tgid),
    }
}

/// The number of a struct pid in a namespace that is not the initial one, 0 when
/// it has none. A function of its own in the object, shared by the programs.
#[inline(never)]
fn number_in(pid: *const u8, inode: u32) -> u32 {
    // SAFETY: a struct pid by its type, an int field.
    let deepest: Option<u32> = unsafe { PMON_PID_LEVEL.read(pid) };
    let (Some(deepest), Some(numbers)) = (deepest, PMON_PID_NUMBERS.offset()) else {
        return 0;
    };
    let kind = PMON_PID_NUMBERS_KIND.load();
    // Level 0 is the initial namespace, which is not ours.
    let mut level = 1;
    while level <= MAX_LEVEL && level <= deepest {
        // SAFETY: within the numbers of this struct pid: `level` is not above
        // its own, and the array has one element for each up to that.
        let upid = unsafe { pid.add(numbers + level as usize * UPID_BYTES) };
        let found = match kind {
            // SAFETY: as above.
            pid_numbers::FLEXIBLE => unsafe { number_if_in(upid, inode) },
            // SAFETY: as above.
            pid_numbers::ONE => unsafe { probed_number_if_in(upid, inode) },
            _ => None,
        };
        if let Some(found) = found {
            return found;
        }
        level += 1;
    }
    0
}

/// The number in an upid, if its namespace is the wanted one.
///
/// # Safety
///
/// `upid` is an element of a flexible `pid.numbers` to the verifier.
#[inline(always)]
unsafe fn number_if_in(upid: *const u8, inode: u32) -> Option<u32> {
    // SAFETY: typed all the way: a pointer field, a u32 and an int.
    unsafe {
        let namespace: *const u8 = PMON_UPID_NS.read(upid)?;
        let found: u32 = PMON_NAMESPACE_INUM.read(namespace)?;
        (found == inode).then(|| upid.cast::<u32>().read_volatile())
    }
}

/// The same where the verifier doesn't allow to look behind the first element.
///
/// # Safety
///
/// `upid` is the address of one; a wrong one reads as nothing.
#[inline(always)]
unsafe fn probed_number_if_in(upid: *const u8, inode: u32) -> Option<u32> {
    let (ns, inum) = (PMON_UPID_NS.offset()?, PMON_NAMESPACE_INUM.offset()?);
    // SAFETY: the helper checks every address.
    unsafe {
        let namespace = bpf_probe_read_kernel(upid.add(ns).cast::<*const u8>()).ok()?;
        let found = bpf_probe_read_kernel(namespace.add(inum).cast::<u32>()).ok()?;
        if found == inode {
            bpf_probe_read_kernel(upid.cast::<u32>()).ok()
        } else {
            None
        }
    }
}
