//! Entries that outlive a daemon: how a death is told exactly once although the
//! daemon may be killed at any moment.
//!
//! The kernel's entry of a dead process is what knows of the death until it is
//! on record in the journal. In this order, and never in another:
//!
//! 1. The kernel writes the death into the entry.
//! 2. The daemon tells it, and the journal gets a line with the process's
//!    identity and the kernel's time.
//! 3. Only then the entry is removed ([`Table::settle`]).
//!
//! A daemon that finds entries therefore tells those deaths that are not in the
//! journal, and no others. A crash before 2 loses nothing, because the entry is
//! there and the remembered registrations say whose it was; one between 2 and 3
//! doubles nothing, because the journal has the line.
//!
//! A live process that is found again keeps its entry and its generation, so
//! that there is no moment in which the kernel does not watch it.

use pmon_common::{KERNEL_GENERATIONS, Registration, flag};

use super::{FIRST_GENERATION, Table};
use crate::{
    core::{
        death::{Death, LastSeen, SourceName, WaitStatus},
        identity::Identity,
        time::Time,
    },
    sys::clock,
    table::zombie,
};

/// Above every generation of user space in these entries.
pub(super) fn first_free_generation<'a>(
    entries: impl IntoIterator<Item = &'a Registration>,
) -> u64 {
    entries
        .into_iter()
        .map(|entry| entry.generation)
        .filter(|generation| generation & KERNEL_GENERATIONS == 0)
        .map(|generation| generation + 1)
        .fold(FIRST_GENERATION, u64::max)
}

impl Table {
    /// Whether an earlier daemon had the kernel watch this process, and nobody
    /// has claimed the entry yet.
    #[must_use]
    pub fn is_inherited(&self, identity: Identity) -> bool {
        self.inherited
            .get(&identity.pid)
            .is_some_and(|entry| entry.start_time == identity.start_time)
    }

    /// Who has an unclaimed entry under this pid.
    #[must_use]
    pub fn inherited_as(&self, pid: u32) -> Option<Identity> {
        let start_time = self.inherited.get(&pid)?.start_time;
        Some(Identity { pid, start_time })
    }

    /// The death of a process that the kernel watched for an earlier daemon, if
    /// it wrote one. The caller knows that the process is gone.
    #[must_use]
    pub fn inherited_death(&self, identity: Identity) -> Option<Death> {
        let found = self.inherited.get(&identity.pid)?;
        let entry = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.get(identity.pid))
            .filter(|entry| entry.generation == found.generation)
            .unwrap_or(*found);
        if entry.start_time != identity.start_time || entry.flags & flag::DEAD == 0 {
            return None;
        }
        let now = clock::now();
        let status =
            (entry.flags & flag::EXIT_CODE_KNOWN != 0).then_some(WaitStatus(entry.exit_code));
        Some(Death {
            identity,
            generation: entry.generation,
            died_at: Some(Time::from_boot_ns(entry.died_at)),
            detected_at: now,
            detected_by: SourceName::Ebpf,
            confirmed_at: now,
            status,
            last_seen: LastSeen {
                comm: zombie::comm(&entry.comm),
                ..LastSeen::default()
            },
        })
    }

    /// A death of an earlier daemon's registration has been told.
    pub fn told(&mut self, death: &Death) {
        let pid = death.identity.pid;
        if self.is_inherited(death.identity) {
            self.inherited.remove(&pid);
            self.in_kernel.entry(pid).or_insert(death.generation);
        }
        self.unsettled.insert(death.generation, pid);
    }

    /// A death that was told is on record: the kernel need not know it any more.
    pub fn settle(&mut self, generation: u64) {
        let Some(pid) = self.unsettled.remove(&generation) else {
            return;
        };
        // Several entities may watch one process.
        if self.unsettled.values().any(|other| *other == pid) {
            return;
        }
        if let Some(owner) = self.in_kernel.get(&pid).copied()
            && !self.entries.contains_key(&owner)
        {
            self.remove_from_kernel(pid, owner);
        }
    }

    /// Removes what an earlier daemon left and nobody has claimed.
    pub fn forget_unclaimed(&mut self) {
        for (pid, entry) in std::mem::take(&mut self.inherited) {
            tracing::debug!(pid, entry.generation, "nobody knows this entry");
            if let Some(kernel) = &mut self.kernel
                && kernel
                    .get(pid)
                    .is_some_and(|last| last.generation == entry.generation)
            {
                kernel.remove(pid);
            }
        }
    }

    /// The generation of a process that the kernel watches already.
    pub(super) fn claim(&mut self, identity: Identity) -> Option<u64> {
        if !self.is_inherited(identity) {
            return None;
        }
        let entry = self.inherited.remove(&identity.pid)?;
        if entry.generation & KERNEL_GENERATIONS != 0 || entry.generation < FIRST_GENERATION {
            // Not a number that this table could have given.
            if let Some(kernel) = &mut self.kernel {
                kernel.remove(identity.pid);
            }
            return None;
        }
        self.in_kernel.insert(identity.pid, entry.generation);
        Some(entry.generation)
    }

    /// The number of a process that is gone has another owner now: what is
    /// known of the old one is kept here, the entry becomes free.
    pub(super) fn make_way(&mut self, pid: u32) {
        let Some(kernel) = &mut self.kernel else {
            return;
        };
        if let Some(entry) = self.inherited.get_mut(&pid) {
            if let Some(last) = kernel.get(pid) {
                *entry = last;
            }
            kernel.remove(pid);
        }
    }

    /// Makes room in a full table; whether there was any to make.
    pub(super) fn release_unsettled(&mut self) -> bool {
        let generations: Vec<u64> = self.unsettled.keys().copied().collect();
        for generation in &generations {
            self.settle(*generation);
        }
        !generations.is_empty()
    }
}
