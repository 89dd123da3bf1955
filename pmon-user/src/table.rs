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
//! * The kernel's entry of a death goes last: when the death is on record. What
//!   a killed daemon leaves is taken over by the next one, see `inherited`.

pub mod budget;
mod canary;
mod checks;
mod connector;
mod entry;
mod evidence;
mod failover;
mod inherited;
mod scan;
#[cfg(test)]
mod tests;
mod thread_exits;
mod unreaped;
mod zombie;

use std::{
    collections::{HashMap, hash_map},
    hash::Hash,
    sync::Arc,
};

use pmon_common::{Event, Registration, Tgid, flag, kind};
use rustix::io::Errno;
use thiserror::Error;

use self::{
    budget::Budget,
    checks::Checks,
    entry::{Entry, EntryState, Generations, Handle},
    inherited::Inherited,
    scan::{Comparison, Drops},
    thread_exits::ThreadExits,
    unreaped::Unreaped,
};
pub use self::{
    checks::{Answer, Inquiry, Reach},
    connector::FromConnector,
    failover::Moved,
    scan::Reconciled,
};

use crate::{
    core::{
        death::{Death, Hint, LastSeen, SourceName, WaitStatus},
        identity::Identity,
        time::Time,
    },
    source::{
        canary::Watch,
        connector::Connector,
        ebpf::{Ebpf, Inserted},
    },
    sys::{
        clock,
        epoll::Epoll,
        pidfd::{Reopened, VerifiedPid},
    },
};

/// Name of an entity, cheap to copy.
pub type EntityName = Arc<str>;

/// Epoll tokens below this one belong to the receiver; from here on they are
/// generations.
pub const FIRST_GENERATION: u64 = 16;

/// Why only the pidfd watches a process when the kernel's table has no room.
pub const TABLE_FULL: &str = "the kernel's table is full (`max_pids`)";
/// Records read in one go after which the ring may have been full.
const RECORDS_PER_PAGE: usize = 4096 / 2 / size_of::<Event>();

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
    next_generation: u64,
    pidfd_events: u64,
    unreaped: Unreaped,
    connector_events: u64,
    canary: Option<Watch>,
}

/// Why a process could not be registered.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// Its pidfd cannot be watched.
    #[error("the pidfd of `{identity}` cannot be watched")]
    Watch {
        /// Who.
        identity: Identity,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// There is no pidfd left for it, and nothing else would tell its death.
    #[error(
        "all {own} pidfds of the budget are in use (`pidfd_budget`, `LimitNOFILE=`), and \
         `{identity}` cannot be watched without one: {reason}"
    )]
    Budget {
        /// Who.
        identity: Identity,
        /// How many there are.
        own: usize,
        /// Why the kernel does not watch it.
        reason: String,
    },
}

/// A successful registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its generation.
    pub generation: u64,
    /// Why only the pidfd watches it, when that is so.
    pub pidfd_only: Option<String>,
}

/// What a readable pidfd means.
#[derive(Debug)]
pub enum Ended {
    /// A registered process died.
    Died(EntityName, Death),
    /// A process that was being ended is gone.
    Gone(EntityName, Identity),
    /// The wait status of a death that was told without one.
    StatusKnown {
        /// Of whose process.
        entity: EntityName,
        /// Who had died.
        identity: Identity,
        /// Of which registration.
        generation: u64,
        /// How it had ended.
        status: WaitStatus,
    },
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

    /// Registers a process for an entity.
    ///
    /// # Errors
    ///
    /// When its pidfd cannot be watched, or may not be held while nothing else
    /// tells of its death. A process that is dead already is registered and at
    /// once reported dead.
    pub fn register(
        &mut self,
        entity: &EntityName,
        process: VerifiedPid,
        last_seen: LastSeen,
        epoll: &Epoll,
    ) -> Result<Registered, RegisterError> {
        let identity = process.identity();
        let claimed = self.claim(identity);
        let generation = claimed.unwrap_or(self.next_generation);
        self.next_generation = self.next_generation.max(generation + 1);
        // Alive a moment ago, so whatever exited before was not all of it.
        let threads = ThreadExits::since(clock::now());
        let entry = Entry {
            entity: Arc::clone(entity),
            identity,
            last_seen,
            handle: Handle::Held(process),
            state: EntryState::Registered,
            in_kernel: claimed.is_some(),
            walk: 0,
            is_due: false,
            first: None,
            died_at: None,
            status: None,
            threads,
        };
        self.entries.insert(generation, entry);
        push(&mut self.by_pid, identity.pid, generation);
        push(&mut self.by_entity, Arc::clone(entity), generation);
        self.registered += 1;
        self.held += 1;
        let pidfd_only = match claimed {
            Some(_) => None,
            None => self.insert_into_kernel(identity, generation),
        };
        if let Err(reason) = self.affordable(pidfd_only.as_deref()) {
            let own = self.budget.own;
            self.take_out(generation);
            return Err(RegisterError::Budget {
                identity,
                own,
                reason,
            });
        }
        let held = self.entries.get(&generation).and_then(Entry::held);
        if let Some(Err(source)) = held.map(|it| epoll.add(it.pidfd(), generation)) {
            self.take_out(generation);
            return Err(RegisterError::Watch { identity, source });
        }
        self.settle(generation);
        Ok(Registered {
            generation,
            pidfd_only,
        })
    }

    /// Whether one more registration can be had, or why not.
    fn affordable(&self, pidfd_only: Option<&str>) -> Result<(), String> {
        if self.held <= self.budget.own {
            return Ok(());
        }
        match pidfd_only {
            Some(reason) => Err(reason.to_owned()),
            None if !self.can_do_without_pidfds() => {
                Err("this kernel's BTF does not say how to know a process's death".to_owned())
            }
            None => Ok(()),
        }
    }

    /// Whether a kernel's entry is as good as a pidfd.
    fn can_do_without_pidfds(&self) -> bool {
        self.kernel.as_ref().is_some_and(Ebpf::tells_deaths_apart)
    }

    /// The generation that the kernel's entry of a pid belongs to.
    fn in_kernel(&self, pid: u32) -> Option<u64> {
        let mut generations = self.generations(pid).iter().copied();
        generations.find(|generation| {
            let entry = self.entries.get(generation);
            entry.is_some_and(|entry| entry.in_kernel)
        })
    }

    /// Why the kernel does not watch it, when it does not.
    fn insert_into_kernel(&mut self, identity: Identity, generation: u64) -> Option<String> {
        if self.kernel.is_none() {
            return Some("the kernel source is off".to_owned());
        }
        if let Some(other) = self.in_kernel(identity.pid)
            && self
                .entries
                .get(&other)
                .is_none_or(|entry| entry.identity != identity)
        {
            // An earlier owner of the pid whose end is not processed yet; what
            // the kernel knows of it goes with its entry.
            self.hint_from_kernel(other);
            self.remove_from_kernel(other);
            self.check_soon(other);
        }
        self.make_way(identity.pid);
        let entry = Registration {
            start_time: identity.start_time,
            generation,
            ..Registration::default()
        };
        let mut inserted = self.kernel.as_mut()?.insert(identity.pid, entry);
        if matches!(inserted, Ok(Inserted::Full)) && self.make_room() {
            inserted = self.kernel.as_mut()?.insert(identity.pid, entry);
        }
        match inserted {
            Ok(Inserted::Yes) => {
                if let Some(entry) = self.entries.get_mut(&generation) {
                    entry.in_kernel = true;
                }
                None
            }
            Ok(Inserted::Occupied) => Some("another entity watches the same process".to_owned()),
            Ok(Inserted::Full) => Some(TABLE_FULL.to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn remove_from_kernel(&mut self, generation: u64) {
        if let Some(entry) = self.entries.get_mut(&generation)
            && std::mem::take(&mut entry.in_kernel)
            && let Some(kernel) = &mut self.kernel
        {
            kernel.remove(entry.identity.pid);
        }
    }

    /// Retires a registration; the process stays watched until it is gone or
    /// released. Unknown identities are ignored: the death came first.
    pub fn unregister(&mut self, entity: &EntityName, identity: Identity, epoll: &Epoll) {
        let Some(generation) = self.generation_of(entity, identity, EntryState::Registered) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.state = EntryState::Leaving;
            self.registered -= 1;
        }
        self.remove_from_kernel(generation);
        // From here on nothing but a pidfd tells of its end.
        if self.is_gone(generation, epoll) == Some(true) {
            self.check_soon(generation);
        }
    }

    /// Stops watching an unregistered process.
    pub fn release(&mut self, entity: &EntityName, identity: Identity, epoll: &Epoll) {
        if let Some(generation) = self.generation_of(entity, identity, EntryState::Leaving) {
            self.remove(generation, epoll);
        }
    }

    fn generations(&self, pid: u32) -> &[u64] {
        self.by_pid.get(&pid).map_or(&[], Generations::as_slice)
    }

    /// Takes an entry out, with everything that leads to it.
    fn remove(&mut self, generation: u64, epoll: &Epoll) -> Option<Entry> {
        let entry = self.take_out(generation)?;
        if let Some(process) = entry.held() {
            epoll.remove(process.pidfd());
        }
        Some(entry)
    }

    /// The same for an entry whose pidfd epoll does not know.
    fn take_out(&mut self, generation: u64) -> Option<Entry> {
        self.remove_from_kernel(generation);
        let entry = self.entries.remove(&generation)?;
        remove(&mut self.by_pid, entry.identity.pid, generation);
        remove(&mut self.by_entity, Arc::clone(&entry.entity), generation);
        if entry.state == EntryState::Registered {
            self.registered -= 1;
        }
        if entry.held().is_some() {
            self.pidfd_closed();
        }
        Some(entry)
    }

    /// Forgets everything of an entity.
    pub fn forget(&mut self, entity: &EntityName, epoll: &Epoll) {
        let generations = self.by_entity.get(entity).map(Generations::as_slice);
        for generation in generations.unwrap_or_default().to_vec() {
            self.remove(generation, epoll);
        }
    }

    fn generation_of(
        &self,
        entity: &EntityName,
        identity: Identity,
        state: EntryState,
    ) -> Option<u64> {
        let mut generations = self.generations(identity.pid).iter().copied();
        generations.find(|generation| {
            self.entries.get(generation).is_some_and(|entry| {
                entry.state == state && entry.identity == identity && entry.entity == *entity
            })
        })
    }

    /// The next hint from the ring, `None` when it is empty. Records of retired
    /// generations are dropped here.
    pub fn next_hint(&mut self) -> Option<(EntityName, Hint)> {
        loop {
            let Some(event) = self.kernel.as_mut()?.next_event() else {
                if std::mem::take(&mut self.records) >= RECORDS_PER_PAGE {
                    self.suspect_drops();
                }
                return None;
            };
            self.records += 1;
            self.canary_in_ring(&event);
            if event.kind == kind::EXIT
                && let Some(hint) = self.hint(&event)
            {
                return Some(hint);
            }
        }
    }

    fn hint(&mut self, event: &Event) -> Option<(EntityName, Hint)> {
        let Some(entry) = self.entries.get_mut(&event.generation) else {
            // Retired, or somebody else has changed the kernel's entry.
            let generation = self.in_kernel(event.tgid)?;
            self.check_soon(generation);
            return None;
        };
        let identity = entry.identity;
        let is_ours = entry.state == EntryState::Registered
            && identity.pid == event.tgid
            && identity.start_time == event.start_time;
        if !is_ours {
            return None;
        }
        let known_dead = event.flags & flag::GROUP_DEAD != 0;
        // Otherwise it is one thread's exit, perhaps not the last one's.
        let died_at = known_dead.then(|| Time::from_boot_ns(event.at));
        let status = (known_dead && event.flags & flag::EXIT_CODE_KNOWN != 0)
            .then_some(WaitStatus(event.exit_code));
        if known_dead {
            entry.died_at = entry.died_at.or(died_at);
            entry.status = entry.status.or(status);
            entry.last_seen.comm = zombie::comm(&event.comm).or(entry.last_seen.comm.take());
        } else if entry.held().is_some_and(|process| !process.is_dead()) {
            // One thread of several; the pidfd will tell the rest.
            return None;
        }
        entry.first.get_or_insert((SourceName::Ebpf, clock::now()));
        Some((
            Arc::clone(&entry.entity),
            Hint {
                identity,
                generation: event.generation,
                source: SourceName::Ebpf,
                died_at,
                status,
            },
        ))
    }

    /// Keeps what was seen of a registered process, for its certificate.
    pub fn note(&mut self, generation: u64, seen: LastSeen) {
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.last_seen = seen;
        }
    }

    /// A process was reaped by us: its status, for when its death is told.
    pub fn reaped(&mut self, process: Identity, status: WaitStatus) {
        let Some(generations) = self.by_pid.get(&process.pid) else {
            return;
        };
        for generation in generations.as_slice() {
            if let Some(entry) = self.entries.get_mut(generation)
                && entry.identity == process
            {
                entry.status.get_or_insert(status);
            }
        }
    }

    /// There is reason to believe that a process is dead: its pidfd became
    /// readable, or a source has told of the death of one that has none. If it
    /// is, this is told once.
    pub fn ended(&mut self, generation: u64, epoll: &Epoll) -> Option<Ended> {
        if !self.entries.contains_key(&generation) {
            return self.unreaped.reaped(generation, epoll);
        }
        if self.is_gone(generation, epoll)? {
            self.died(generation, epoll)
        } else {
            None
        }
    }

    /// Takes a dead process out and tells its end.
    fn died(&mut self, generation: u64, epoll: &Epoll) -> Option<Ended> {
        let counts = u64::from(!self.is_canary(generation));
        let entry = self.entries.get_mut(&generation)?;
        if entry.state == EntryState::Registered {
            if entry.first.is_none() {
                entry.first = Some((SourceName::Pidfd, clock::now()));
                self.pidfd_events += counts;
            }
            if entry.died_at.is_none() && entry.in_kernel {
                // The entry knows when and how, even if its record is still on the way.
                self.hint_from_kernel(generation);
            }
        }
        self.canary_died(generation);
        let evidence = self.evidence(generation);
        self.keep_until_recorded(generation);
        let entry = self.remove(generation, epoll)?;
        let identity = entry.identity;
        match entry.state {
            EntryState::Leaving => Some(Ended::Gone(entry.entity, identity)),
            EntryState::Registered => {
                let now = clock::now();
                let (detected_by, detected_at) = entry.first.unwrap_or((SourceName::Pidfd, now));
                let status = entry
                    .status
                    .or(entry.threads.status())
                    .or_else(|| self.unreaped.status(generation, &entry, epoll));
                let death = Death {
                    identity,
                    generation,
                    died_at: entry.died_at.or(entry.threads.died_at()),
                    detected_at,
                    detected_by,
                    confirmed_at: now,
                    status,
                    evidence,
                    last_seen: entry.last_seen,
                };
                Some(Ended::Died(entry.entity, death))
            }
        }
    }
}

fn push<K: Eq + Hash>(index: &mut HashMap<K, Generations>, key: K, generation: u64) {
    match index.entry(key) {
        hash_map::Entry::Occupied(mut found) => found.get_mut().push(generation),
        hash_map::Entry::Vacant(free) => {
            free.insert(Generations::One(generation));
        }
    }
}

fn remove<K: Eq + Hash>(index: &mut HashMap<K, Generations>, key: K, generation: u64) {
    if let hash_map::Entry::Occupied(mut found) = index.entry(key)
        && found.get_mut().remove(generation)
    {
        found.remove();
    }
}
