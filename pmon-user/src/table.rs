//! The register/unregister pid table: which processes' deaths are to be
//! reported, and to whom.
//!
//! Every entry holds a pidfd, watched by the receiver's epoll, and, where the
//! kernel source is up, an entry in the kernel's map. A death is delivered once
//! per generation, when its pidfd is readable; the kernel's entry and its ring
//! record add when and how. Must stay true:
//!
//! * register: the pidfd was opened first, then the start time read (see
//!   `sys::pidfd`), then the kernel's entry is inserted, then the pidfd is
//!   looked at again (adding it to the level-triggered epoll does that). A
//!   process dying anywhere in between is reported exactly once.
//! * unregister: the generation is retired first, then the kernel's entry is
//!   removed; a record in flight names a generation nobody has and is dropped.
//! * A record whose generation or start time is not the entry's is no hint.
//! * The kernel's entry of a death goes last: when the death is on record. What
//!   a killed daemon leaves is taken over by the next one, see `inherited`.

mod inherited;
#[cfg(test)]
mod tests;
mod zombie;

use std::{collections::HashMap, sync::Arc};

use pmon_common::{Event, Registration, flag};
use rustix::io::Errno;
use thiserror::Error;

use crate::{
    core::{
        death::{Death, Hint, LastSeen, SourceName, WaitStatus},
        identity::Identity,
        time::Time,
    },
    source::ebpf::{Ebpf, Inserted},
    sys::{clock, epoll::Epoll, pidfd::VerifiedPid},
};

/// Name of an entity, cheap to copy.
pub type EntityName = Arc<str>;

/// Epoll tokens below this one belong to the receiver; from here on they are
/// generations.
pub const FIRST_GENERATION: u64 = 16;

/// The table.
pub struct Table {
    kernel: Option<Ebpf>,
    entries: HashMap<u64, Entry>,
    /// The generations of a pid: one, or two while it changes hands or while
    /// several entities watch one process.
    by_pid: HashMap<u32, Vec<u64>>,
    /// The generation that the kernel's entry of a pid belongs to.
    in_kernel: HashMap<u32, u64>,
    /// Entries of an earlier daemon that nobody has claimed yet, by pid.
    inherited: HashMap<u32, Registration>,
    /// Deaths that were told and of which nothing is on record yet: their
    /// entries stay in the kernel (see `inherited`).
    unsettled: HashMap<u64, u32>,
    next_generation: u64,
    pidfd_events: u64,
    last_drops: u64,
}

struct Entry {
    entity: EntityName,
    process: VerifiedPid,
    state: EntryState,
    first: Option<(SourceName, Time)>,
    died_at: Option<Time>,
    status: Option<WaitStatus>,
    last_seen: LastSeen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryState {
    /// Its death is to be reported.
    Registered,
    /// It was unregistered to be ended; its end is to be told.
    Leaving,
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
}

impl Table {
    /// An empty table; without a kernel source the pidfds alone report.
    #[must_use]
    pub fn new(kernel: Option<Ebpf>) -> Self {
        let inherited: HashMap<u32, Registration> = kernel
            .as_ref()
            .map_or_else(Vec::new, Ebpf::table)
            .into_iter()
            .collect();
        let next_generation = inherited::first_free_generation(inherited.values());
        let last_drops = kernel.as_ref().map_or(0, |kernel| kernel.stats().drops);
        Self {
            kernel,
            entries: HashMap::new(),
            by_pid: HashMap::new(),
            in_kernel: HashMap::new(),
            inherited,
            unsettled: HashMap::new(),
            next_generation,
            pidfd_events: 0,
            last_drops,
        }
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
    pub fn registered(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.state == EntryState::Registered)
            .count()
    }

    /// The handle for signalling a process that is registered or being ended.
    #[must_use]
    pub fn process(&self, identity: Identity) -> Option<&VerifiedPid> {
        self.generations(identity.pid)
            .filter_map(|generation| self.entries.get(&generation))
            .find(|entry| entry.process.identity() == identity)
            .map(|entry| &entry.process)
    }

    /// Whether a generation's process is registered and alive by its pidfd.
    #[must_use]
    pub fn is_alive(&self, generation: u64) -> bool {
        self.entries
            .get(&generation)
            .is_some_and(|entry| !entry.process.is_dead())
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
    /// Only when its pidfd cannot be watched. A process that is dead already is
    /// registered and at once reported dead.
    pub fn register(
        &mut self,
        entity: &EntityName,
        process: VerifiedPid,
        last_seen: LastSeen,
        epoll: &Epoll,
    ) -> Result<Registered, RegisterError> {
        let identity = process.identity();
        let (generation, pidfd_only) = match self.claim(identity) {
            Some(generation) => (generation, None),
            None => {
                let generation = self.next_generation;
                self.next_generation += 1;
                (generation, self.insert_into_kernel(identity, generation))
            }
        };
        if let Err(source) = epoll.add(process.pidfd(), generation) {
            self.remove_from_kernel(identity.pid, generation);
            return Err(RegisterError::Watch { identity, source });
        }
        let entry = Entry {
            entity: Arc::clone(entity),
            last_seen,
            process,
            state: EntryState::Registered,
            first: None,
            died_at: None,
            status: None,
        };
        self.entries.insert(generation, entry);
        self.by_pid
            .entry(identity.pid)
            .or_default()
            .push(generation);
        Ok(Registered {
            generation,
            pidfd_only,
        })
    }

    fn insert_into_kernel(&mut self, identity: Identity, generation: u64) -> Option<String> {
        if self.kernel.is_none() {
            return Some("the kernel source is off".to_owned());
        }
        let entry = Registration {
            start_time: identity.start_time,
            generation,
            ..Registration::default()
        };
        self.make_way(identity.pid);
        let occupied_by = self.in_kernel.get(&identity.pid).copied();
        let Some(kernel) = &mut self.kernel else {
            return None;
        };
        if occupied_by.is_some_and(|other| self.entries.get(&other).is_none_or(Entry::is_stale)) {
            // An earlier owner of the pid whose end is not processed yet.
            kernel.remove(identity.pid);
        }
        let mut inserted = kernel.insert(identity.pid, entry);
        if matches!(inserted, Ok(Inserted::Full)) && self.release_unsettled() {
            inserted = self.kernel.as_mut().map_or(Ok(Inserted::Full), |kernel| {
                kernel.insert(identity.pid, entry)
            });
        }
        match inserted {
            Ok(Inserted::Yes) => {
                self.in_kernel.insert(identity.pid, generation);
                None
            }
            Ok(Inserted::Occupied) => Some("another entity watches the same process".to_owned()),
            Ok(Inserted::Full) => Some("the kernel's table is full (`max_pids`)".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    fn remove_from_kernel(&mut self, pid: u32, generation: u64) {
        if self.in_kernel.get(&pid) == Some(&generation) {
            self.in_kernel.remove(&pid);
            if let Some(kernel) = &mut self.kernel {
                kernel.remove(pid);
            }
        }
    }

    /// Retires a registration; the process stays watched until it is gone or
    /// released. Unknown identities are ignored: the death came first.
    pub fn unregister(&mut self, entity: &EntityName, identity: Identity) {
        let Some(generation) = self.generation_of(entity, identity, EntryState::Registered) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.state = EntryState::Leaving;
        }
        self.remove_from_kernel(identity.pid, generation);
    }

    /// Stops watching an unregistered process.
    pub fn release(&mut self, entity: &EntityName, identity: Identity, epoll: &Epoll) {
        if let Some(generation) = self.generation_of(entity, identity, EntryState::Leaving) {
            self.remove(generation, epoll);
        }
    }

    fn generations(&self, pid: u32) -> impl Iterator<Item = u64> {
        self.by_pid.get(&pid).into_iter().flatten().copied()
    }

    /// Takes an entry out, with everything that leads to it.
    fn remove(&mut self, generation: u64, epoll: &Epoll) -> Option<Entry> {
        let entry = self.take_out(generation, epoll)?;
        self.remove_from_kernel(entry.process.identity().pid, generation);
        Some(entry)
    }

    /// The same, but for the kernel's entry.
    fn take_out(&mut self, generation: u64, epoll: &Epoll) -> Option<Entry> {
        let entry = self.entries.remove(&generation)?;
        epoll.remove(entry.process.pidfd());
        let pid = entry.process.identity().pid;
        if let Some(generations) = self.by_pid.get_mut(&pid) {
            generations.retain(|other| *other != generation);
            if generations.is_empty() {
                self.by_pid.remove(&pid);
            }
        }
        Some(entry)
    }

    /// Forgets everything of an entity.
    pub fn forget(&mut self, entity: &EntityName, epoll: &Epoll) {
        let generations: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.entity == *entity)
            .map(|(generation, _)| *generation)
            .collect();
        for generation in generations {
            self.remove(generation, epoll);
        }
    }

    fn generation_of(
        &self,
        entity: &EntityName,
        identity: Identity,
        state: EntryState,
    ) -> Option<u64> {
        self.generations(identity.pid).find(|generation| {
            self.entries.get(generation).is_some_and(|entry| {
                entry.state == state
                    && entry.process.identity() == identity
                    && entry.entity == *entity
            })
        })
    }

    /// The next hint from the ring, `None` when it is empty. Records of retired
    /// generations are dropped here.
    pub fn next_hint(&mut self) -> Option<(EntityName, Hint)> {
        loop {
            let event = self.kernel.as_mut()?.next_event()?;
            if let Some(hint) = self.hint(&event) {
                return Some(hint);
            }
        }
    }

    fn hint(&mut self, event: &Event) -> Option<(EntityName, Hint)> {
        let entry = self.entries.get_mut(&event.generation)?;
        let identity = entry.process.identity();
        let is_ours = entry.state == EntryState::Registered
            && identity.pid == event.tgid
            && identity.start_time == event.start_time;
        if !is_ours {
            return None;
        }
        let status =
            (event.flags & flag::EXIT_CODE_KNOWN != 0).then_some(WaitStatus(event.exit_code));
        let died_at = Time::from_boot_ns(event.at);
        let known_dead = event.flags & flag::GROUP_DEAD != 0;
        if known_dead {
            entry.died_at.get_or_insert(died_at);
            entry.status = entry.status.or(status);
            entry.last_seen.comm = zombie::comm(&event.comm).or(entry.last_seen.comm.take());
        } else if !entry.process.is_dead() {
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
                died_at: Some(died_at),
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

    /// Deaths that are in the kernel's table although the ring had no room for
    /// their records. Cheap while nothing was dropped.
    pub fn hints_behind_drops(&mut self) -> Vec<(EntityName, Hint)> {
        let Some(kernel) = &self.kernel else {
            return Vec::new();
        };
        let drops = kernel.stats().drops;
        if drops == self.last_drops {
            return Vec::new();
        }
        self.last_drops = drops;
        let unreported: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == EntryState::Registered && entry.died_at.is_none())
            .map(|(generation, _)| *generation)
            .collect();
        unreported
            .into_iter()
            .filter_map(|generation| self.hint_from_kernel(generation))
            .collect()
    }

    /// The death that the kernel wrote into its entry, if it did.
    fn hint_from_kernel(&mut self, generation: u64) -> Option<(EntityName, Hint)> {
        let entry = self.entries.get_mut(&generation)?;
        let identity = entry.process.identity();
        let kernel = self.kernel.as_ref()?.get(identity.pid)?;
        if kernel.generation != generation || kernel.flags & flag::DEAD == 0 {
            return None;
        }
        let died_at = Time::from_boot_ns(kernel.died_at);
        let status =
            (kernel.flags & flag::EXIT_CODE_KNOWN != 0).then_some(WaitStatus(kernel.exit_code));
        entry.died_at.get_or_insert(died_at);
        entry.status = entry.status.or(status);
        entry.first.get_or_insert((SourceName::Ebpf, clock::now()));
        Some((
            Arc::clone(&entry.entity),
            Hint {
                identity,
                generation,
                source: SourceName::Ebpf,
                died_at: Some(died_at),
                status,
            },
        ))
    }

    /// A pidfd became readable: the process is dead, and this is told once.
    pub fn ended(&mut self, generation: u64, epoll: &Epoll) -> Option<Ended> {
        let entry = self.entries.get_mut(&generation)?;
        if !entry.process.is_dead() {
            return None;
        }
        if entry.state == EntryState::Registered && entry.first.is_none() {
            let now = clock::now();
            entry.first = Some((SourceName::Pidfd, now));
            self.pidfd_events += 1;
            if self
                .in_kernel
                .contains_key(&self.entries[&generation].process.identity().pid)
            {
                // The entry knows when and how, even if its record is still on the way.
                self.hint_from_kernel(generation);
            }
        }
        let entry = self.take_out(generation, epoll)?;
        let identity = entry.process.identity();
        match entry.state {
            EntryState::Leaving => {
                self.remove_from_kernel(identity.pid, generation);
                Some(Ended::Gone(entry.entity, identity))
            }
            EntryState::Registered => {
                self.unsettled.insert(generation, identity.pid);
                let now = clock::now();
                let (detected_by, detected_at) = entry.first.unwrap_or((SourceName::Pidfd, now));
                let death = Death {
                    identity,
                    generation,
                    died_at: entry.died_at,
                    detected_at,
                    detected_by,
                    confirmed_at: now,
                    status: entry.status.or_else(|| zombie::status(identity)),
                    last_seen: entry.last_seen,
                };
                Some(Ended::Died(entry.entity, death))
            }
        }
    }
}

impl Entry {
    /// Dead, but its end has not been processed yet.
    fn is_stale(&self) -> bool {
        self.process.is_dead()
    }
}
