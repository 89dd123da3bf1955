//! An entry of the table, and whom it is about.

use pmon_common::{Registration, Tgid, flag};

use crate::{filter, maps::PIDS, task::Task};

/// A registered process.
#[derive(Clone, Copy)]
pub(crate) struct Entry(*mut Registration);

/// Whether a task is the registered process.
pub(crate) enum Match {
    /// Same start time.
    Same,
    /// The start time can't be compared on this kernel.
    Unchecked,
    /// Somebody else with its pid.
    Stranger,
}

impl Entry {
    /// The entry of a thread group.
    #[inline(always)]
    pub(crate) fn of(tgid: Tgid) -> Option<Self> {
        if !filter::admits(tgid) {
            return None;
        }
        PIDS.get_ptr_mut(tgid).map(Self)
    }

    /// Compares a task with the entry.
    #[inline(always)]
    pub(crate) fn is(self, task: Task) -> Match {
        match task.start_time() {
            None => Match::Unchecked,
            Some(started) if started == self.start_time() => Match::Same,
            Some(_) => Match::Stranger,
        }
    }

    #[inline(always)]
    pub(crate) fn value(self) -> *mut Registration {
        self.0
    }

    #[inline(always)]
    pub(crate) fn start_time(self) -> u64 {
        // SAFETY: points into the map, which keeps the memory for this run.
        unsafe { (*self.0).start_time }
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u64 {
        // SAFETY: as in `start_time`.
        unsafe { (*self.0).generation }
    }

    #[inline(always)]
    pub(crate) fn flags(self) -> u32 {
        // SAFETY: as in `start_time`.
        unsafe { (&raw const (*self.0).flags).read_volatile() }
    }

    /// See [`Registration::root_generation`]; of a process that is no descendant,
    /// its own generation.
    #[inline(always)]
    pub(crate) fn root(self) -> u64 {
        if self.flags() & flag::FOLLOWED == 0 {
            return self.generation();
        }
        // SAFETY: as in `start_time`.
        unsafe { (*self.0).root_generation }
    }

    /// Sets flags, the lowest byte last. Only bytes that any of them is in are
    /// written: no program undoes what another, which owns other bytes, sets at
    /// the same time (see [`flag::SIGNAL_KNOWN`]).
    #[inline(always)]
    pub(crate) fn raise(self, flags: u32) {
        for index in [2, 1, 0] {
            let raised = (flags >> (8 * index)) as u8;
            if raised != 0 {
                // SAFETY: as in `start_time`; BPF is little-endian here, as the
                // only target that the object is built for.
                unsafe {
                    let byte = (&raw mut (*self.0).flags).cast::<u8>().add(index);
                    byte.write_volatile(byte.read_volatile() | raised);
                }
            }
        }
    }

    /// Whether its own death is written.
    #[inline(always)]
    pub(crate) fn is_dead(self) -> bool {
        // SAFETY: as in `start_time`.
        let of = unsafe { (*self.0).dead_generation };
        self.flags() & flag::DEAD != 0 && of == self.generation()
    }
}

/// Writes one field of a [`Registration`]. Volatile, so that the compiler keeps
/// the order: what a flag announces is there before the flag.
macro_rules! put {
    ($value:expr, $field:ident, $new:expr) => {
        (&raw mut (*$value).$field).write_volatile($new)
    };
}
pub(crate) use put;
