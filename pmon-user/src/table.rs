//! The register/unregister pid table: which processes' deaths are to be
//! reported, and to whom.
//!
//! Every entry holds a pidfd, watched by the receiver's epoll, and, where the
//! kernel source is up, an entry in the kernel's map. Beyond a budget of pidfds
//! the kernel's entry watches alone, and a pidfd is opened on demand (`checks`).
//! A death is delivered once per generation, when its pidfd is readable or none
//! can be opened any more; the kernel's entry and its ring record, or the proc
//! connector, add when and how. Must stay true:
//!
//! * register: the pidfd was opened first, then the start time read (see
//!   `sys::pidfd`), then the kernel's entry is inserted, then the pidfd is
//!   looked at again (adding it to the level-triggered epoll does that). A
//!   process dying anywhere in between is reported exactly once. A pidfd is
//!   only given up when a thread was seen running after the insertion.
//! * unregister: the generation is retired first, then the kernel's entry is
//!   removed; a record in flight names a generation nobody has and is dropped.
//! * A record whose generation or start time is not the entry's is no hint.
//! * Of a followed process the descendants are known as well (`families`); that
//!   it exited with status 0 is told when it is known who goes on (`handover`).
//! * The kernel's entry of a death goes last: when the death is on record. What
//!   a killed daemon leaves is taken over by the next one, see `inherited`.

pub mod budget;
mod canary;
mod checks;
mod connector;
mod deaths;
mod entry;
mod evidence;
mod failover;
mod families;
mod followers;
mod handover;
mod inherited;
mod registering;
mod scan;
#[cfg(test)]
mod tests;
mod thread_exits;
mod unreaped;
mod zombie;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use pmon_common::{Registration, Tgid};

use self::{
    budget::Budget,
    checks::Checks,
    entry::{Entry, EntryState, Generations, Handle},
    followers::Followers,
    handover::Handovers,
    inherited::Inherited,
    scan::{Comparison, Drops},
    unreaped::Unreaped,
};
pub use self::{
    checks::{Answer, Inquiry, Reach},
    connector::FromConnector,
    deaths::Ended,
    failover::Moved,
    handover::Followed,
    registering::{RegisterError, Registered},
    scan::{Orphan, Reconciled},
};

use crate::{
    core::death::LastSeen,
    source::{canary::Watch, connector::Connector, ebpf::Ebpf},
    sys::pidfd::Reopened,
};

/// Name of an entity, cheap to copy.
pub type EntityName = Arc<str>;

/// Epoll tokens below this one belong to the receiver; from here on they are
/// generations.
pub const FIRST_GENERATION: u64 = 16;

/// Why only the pidfd watches a process when the kernel's table has no room.
pub const TABLE_FULL: &str = "the kernel's table is full (`max_pids`)";

/// The table.
pub struct Table {
    kernel: Option<Ebpf>,
    connector: Option<Connector>,
    entries: HashMap<u64, Entry>,
    /// The generations of a pid: one, or two while it changes hands or while
    /// several entities watch one process.
    by_pid: HashMap<u32, Generations>,
    /// The generations of an entity: one, or two while one process is ended.
    by_entity: HashMap<EntityName, Generations>,
    budget: Budget,
    /// Entries that hold a pidfd.
    held: usize,
    /// Entries whose deaths would be reported.
    registered: usize,
    checks: Checks,
    drops: Drops,
    comparison: Comparison,
    /// Buffers for reading the kernel's table.
    batch: (Vec<Tgid>, Vec<Registration>),
    /// Records read since the ring was last empty.
    records: usize,
    inherited: Inherited,
    /// Entities whose processes are followed into the background.
    following: HashSet<EntityName>,
    followers: Followers,
    handovers: Handovers,
    next_generation: u64,
    pidfd_events: u64,
    unreaped: Unreaped,
    connector_events: u64,
    canary: Option<Watch>,
}

impl Table {
    /// An empty table; without a kernel source the pidfds alone report.
    #[must_use]
    pub fn new(kernel: Option<Ebpf>) -> Self {
        let table = Self::without_kernel();
        match kernel {
            None => table,
            Some(kernel) => {
                let mut table = table;
                // Nothing is registered yet that could be moved.
                table.set_kernel(kernel);
                table
            }
        }
    }

    fn without_kernel() -> Self {
        Self {
            next_generation: FIRST_GENERATION,
            inherited: Inherited::default(),
            following: HashSet::new(),
            followers: Followers::default(),
            handovers: Handovers::default(),
            drops: Drops::default(),
            kernel: None,
            connector: None,
            entries: HashMap::new(),
            by_pid: HashMap::new(),
            by_entity: HashMap::new(),
            budget: Budget::UNLIMITED,
            held: 0,
            registered: 0,
            checks: Checks::default(),
            comparison: Comparison::default(),
            batch: (Vec::new(), Vec::new()),
            records: 0,
            pidfd_events: 0,
            unreaped: Unreaped::default(),
            connector_events: 0,
            canary: None,
        }
    }

    /// With a limit to the pidfds that it holds.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// The kernel source.
    #[must_use]
    pub const fn kernel(&self) -> Option<&Ebpf> {
        self.kernel.as_ref()
    }

    /// The kernel source, to be looked after.
    #[must_use]
    pub const fn kernel_mut(&mut self) -> Option<&mut Ebpf> {
        self.kernel.as_mut()
    }

    /// Gives the kernel source back for an orderly end.
    pub const fn take_kernel(&mut self) -> Option<Ebpf> {
        self.kernel.take()
    }

    /// Deaths that a pidfd reported before any other source.
    #[must_use]
    pub const fn pidfd_events(&self) -> u64 {
        self.pidfd_events
    }

    /// Number of processes whose deaths would be reported.
    #[must_use]
    pub const fn registered(&self) -> usize {
        self.registered
    }

    /// Pidfds that are held now.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Registrations without one.
    #[must_use]
    pub fn without_pidfd(&self) -> usize {
        self.entries.len().saturating_sub(self.held)
    }

    /// How many there may be.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// Whether a generation's process is registered and, as far as can be told,
    /// alive.
    #[must_use]
    pub fn is_alive(&self, generation: u64) -> bool {
        let handle = self.entries.get(&generation).map(|entry| &entry.handle);
        handle.is_some_and(|handle| match handle {
            Handle::Held(process) => !process.is_dead(),
            Handle::OnDemand(known) => !matches!(known.reopen(), Ok(Reopened::Gone)),
        })
    }

    /// Whether a generation's process is watched without a pidfd of its own.
    #[must_use]
    pub fn is_on_demand(&self, generation: u64) -> bool {
        let entry = self.entries.get(&generation);
        entry.is_some_and(|entry| entry.held().is_none())
    }

    /// What was last known of a registered process.
    #[must_use]
    pub fn last_seen(&self, generation: u64) -> Option<&LastSeen> {
        Some(&self.entries.get(&generation)?.last_seen)
    }
}
