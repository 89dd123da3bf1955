//! Into the table and out of it again.
//!
//! Must stay true: the order of steps that `table` tells of; whatever fails
//! half-way leaves nothing behind.

use std::{
    collections::{HashMap, hash_map},
    hash::Hash,
    sync::Arc,
};

use pmon_common::Registration;
use rustix::io::Errno;
use thiserror::Error;

use super::{
    EntityName, TABLE_FULL, Table,
    entry::{Entry, EntryState, Generations, Handle},
    followers::Family,
    thread_exits::ThreadExits,
};
use crate::{
    core::{death::LastSeen, identity::Identity},
    source::ebpf::{Ebpf, Inserted},
    sys::{clock, epoll::Epoll, pidfd::VerifiedPid},
};

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

impl Table {
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
        let generation = match self.generation_of(entity, identity, EntryState::Expected) {
            Some(expected) => {
                self.confirm(expected, last_seen);
                expected
            }
            None => {
                let claimed = self.claim(entity, identity);
                let named = claimed.unwrap_or_else(|| self.new_name());
                self.enter(entity, identity, Handle::Held(process), last_seen, named);
                self.held += 1;
                let (generation, root) = named;
                if let Some(entry) = self.entries.get_mut(&generation) {
                    entry.in_kernel = claimed.is_some();
                }
                if claimed.is_some() {
                    self.write_anew(generation);
                    self.inherit_followers(root);
                }
                generation
            }
        };
        let watched = self.entries.get(&generation).is_some_and(|it| it.in_kernel);
        let pidfd_only = if watched {
            None
        } else {
            self.insert_into_kernel(identity, generation)
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

    /// Has a process followed that waits to execute its program and is going to be
    /// registered: otherwise it might have gone into the background by then.
    /// Nothing else becomes of it here; for an entity that does not follow, nothing
    /// at all.
    pub fn expect(&mut self, entity: &EntityName, process: VerifiedPid) {
        if !self.follows(entity) {
            return;
        }
        self.expect_no_more(entity);
        let identity = process.identity();
        let named = self.new_name();
        let handle = Handle::Held(process);
        self.enter(entity, identity, handle, LastSeen::default(), named);
        self.held += 1;
        let (generation, _) = named;
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.state = EntryState::Expected;
        }
        self.registered -= 1;
        self.insert_into_kernel(identity, generation);
    }

    /// Nobody is going to register what was expected.
    pub fn expect_no_more(&mut self, entity: &EntityName) {
        let generations = self.by_entity.get(entity).map(Generations::as_slice);
        for generation in generations.unwrap_or_default().to_vec() {
            let entry = self.entries.get(&generation);
            if entry.is_some_and(|entry| entry.state == EntryState::Expected) {
                self.take_out(generation);
            }
        }
    }

    fn confirm(&mut self, generation: u64, last_seen: LastSeen) {
        if let Some(entry) = self.entries.get_mut(&generation) {
            entry.state = EntryState::Registered;
            entry.last_seen = last_seen;
            self.registered += 1;
        }
    }

    /// A generation and a family of its own.
    const fn new_name(&mut self) -> (u64, u64) {
        let generation = self.next_generation;
        self.next_generation += 1;
        (generation, generation)
    }

    /// Makes an entry for a registered process, under its generation and family.
    pub(super) fn enter(
        &mut self,
        entity: &EntityName,
        identity: Identity,
        handle: Handle,
        last_seen: LastSeen,
        (generation, root): (u64, u64),
    ) {
        let entry = Entry {
            entity: Arc::clone(entity),
            identity,
            last_seen,
            handle,
            state: EntryState::Registered,
            root,
            in_kernel: false,
            walk: self.walk_number(),
            is_due: false,
            first: None,
            died_at: None,
            status: None,
            // Alive a moment ago, so whatever exited before was not all of it.
            threads: ThreadExits::since(clock::now()),
        };
        self.entries.insert(generation, entry);
        push(&mut self.by_pid, identity.pid, generation);
        push(&mut self.by_entity, Arc::clone(entity), generation);
        self.followers.set_head(root, generation);
        self.registered += 1;
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
    pub(super) fn can_do_without_pidfds(&self) -> bool {
        self.kernel.as_ref().is_some_and(Ebpf::tells_deaths_apart)
    }

    /// The generation that the kernel's entry of a pid belongs to.
    pub(super) fn in_kernel(&self, pid: u32) -> Option<u64> {
        let mut generations = self.generations(pid).iter().copied();
        generations.find(|generation| {
            let entry = self.entries.get(generation);
            entry.is_some_and(|entry| entry.in_kernel)
        })
    }

    /// Why the kernel does not watch it, when it does not.
    pub(super) fn insert_into_kernel(
        &mut self,
        identity: Identity,
        generation: u64,
    ) -> Option<String> {
        if self.kernel.is_none() {
            return Some("the kernel source is off".to_owned());
        }
        self.free_pid(identity);
        let Family {
            flags,
            root_generation,
        } = self.family_of(generation);
        let entry = Registration {
            start_time: identity.start_time,
            generation,
            flags,
            root_generation,
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

    /// Has whoever had this pid before give it up in the kernel's table.
    pub(super) fn free_pid(&mut self, identity: Identity) {
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
        self.forget_follower_at(identity.pid);
        self.make_way(identity.pid);
    }

    pub(super) fn remove_from_kernel(&mut self, generation: u64) {
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

    pub(super) fn generations(&self, pid: u32) -> &[u64] {
        self.by_pid.get(&pid).map_or(&[], Generations::as_slice)
    }

    /// Takes an entry out, with everything that leads to it.
    pub(super) fn remove(&mut self, generation: u64, epoll: &Epoll) -> Option<Entry> {
        let entry = self.take_out(generation)?;
        if let Some(process) = entry.held() {
            epoll.remove(process.pidfd());
        }
        Some(entry)
    }

    /// The same for an entry whose pidfd epoll does not know.
    pub(super) fn take_out(&mut self, generation: u64) -> Option<Entry> {
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
        self.followers.remove_head(entry.root, generation);
        if !self.handovers.contains(entry.root) {
            self.drop_followers(entry.root);
        }
        Some(entry)
    }

    /// Forgets everything of an entity.
    pub fn forget(&mut self, entity: &EntityName, epoll: &Epoll) {
        let generations = self.by_entity.get(entity).map(Generations::as_slice);
        for generation in generations.unwrap_or_default().to_vec() {
            self.remove(generation, epoll);
        }
        self.forget_handovers(entity);
        self.following.remove(entity);
    }

    pub(super) fn generation_of(
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
