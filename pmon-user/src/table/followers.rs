//! The processes that descend from followed ones, by family: a light record.
//!
//! All of a family name their *root*, the registration that user space made; it
//! stays the family's name when one of them has taken the place of the first
//! process. What is concluded from the record is in `families`.

use std::collections::{BTreeSet, HashMap};

use pmon_common::{Registration, flag};

use crate::core::{identity::Identity, time::Time};

/// A descendant of a followed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    pub(super) identity: Identity,
    /// Its family.
    pub(super) root: u64,
    /// When it died, if it did.
    pub(super) died_at: Option<Time>,
    /// The walk through the kernel's table in which its entry was last seen.
    pub(super) walk: u32,
}

/// What an entry of the kernel's table says of a process's family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Family {
    /// [`flag::FOLLOW`] and [`flag::FOLLOWED`].
    pub(super) flags: u32,
    /// Whose descendant it is, with [`flag::FOLLOWED`].
    pub(super) root_generation: u64,
}

impl Family {
    pub(super) const fn in_entry(entry: &Registration) -> Self {
        Self {
            flags: entry.flags & (flag::FOLLOW | flag::FOLLOWED),
            root_generation: entry.root_generation,
        }
    }
}

/// The family of whoever has this entry.
pub(super) const fn root_in_entry(entry: &Registration) -> u64 {
    if entry.flags & flag::FOLLOWED == 0 {
        entry.generation
    } else {
        entry.root_generation
    }
}

/// A child as the kernel told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) identity: Identity,
    pub(super) generation: u64,
    pub(super) root: u64,
    pub(super) died_at: Option<Time>,
}

impl Child {
    pub(super) fn in_entry(pid: u32, entry: &Registration) -> Self {
        let is_dead = entry.flags & flag::DEAD != 0;
        Self {
            identity: Identity {
                pid,
                start_time: entry.start_time,
            },
            generation: entry.generation,
            root: entry.root_generation,
            died_at: is_dead.then(|| Time::from_boot_ns(entry.died_at)),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Followers {
    pub(super) known: HashMap<u64, Follower>,
    pub(super) by_pid: HashMap<u32, u64>,
    /// The generations of a family's followers. They begin with the start time,
    /// so the eldest comes first.
    by_root: HashMap<u64, BTreeSet<u64>>,
    /// The processes of families that are not called after them, by family.
    pub(super) heads: HashMap<u64, u64>,
    /// Children whose families are not known, or not yet.
    pub(super) unplaced: Vec<Child>,
    /// Those who died, until their entries may go.
    pub(super) dead: Vec<u64>,
    /// Children that the kernel's table had no room for.
    pub(super) unfollowed: u64,
}

impl Followers {
    pub(super) fn get(&self, generation: u64) -> Option<&Follower> {
        self.known.get(&generation)
    }

    /// The generation of a process that is a follower.
    pub(super) fn generation_of(&self, identity: Identity) -> Option<u64> {
        let generation = *self.by_pid.get(&identity.pid)?;
        (self.known.get(&generation)?.identity == identity).then_some(generation)
    }

    /// A family's followers, the eldest first.
    pub(super) fn of(&self, root: u64) -> impl Iterator<Item = (u64, &Follower)> {
        let generations = self.by_root.get(&root).into_iter().flatten();
        generations.filter_map(|generation| Some((*generation, self.known.get(generation)?)))
    }

    pub(super) fn insert(&mut self, child: Child) {
        let Child {
            identity,
            generation,
            root,
            died_at,
        } = child;
        let follower = Follower {
            identity,
            root,
            died_at,
            walk: 0,
        };
        if self.known.insert(generation, follower).is_none() {
            self.by_pid.insert(identity.pid, generation);
            self.by_root.entry(root).or_default().insert(generation);
            if died_at.is_some() {
                self.dead.push(generation);
            }
        }
    }

    pub(super) fn remove(&mut self, generation: u64) -> Option<Follower> {
        let follower = self.known.remove(&generation)?;
        if self.by_pid.get(&follower.identity.pid) == Some(&generation) {
            self.by_pid.remove(&follower.identity.pid);
        }
        if let Some(all) = self.by_root.get_mut(&follower.root) {
            all.remove(&generation);
            if all.is_empty() {
                self.by_root.remove(&follower.root);
            }
        }
        Some(follower)
    }

    pub(super) fn died(&mut self, generation: u64, at: Time) {
        if let Some(follower) = self.known.get_mut(&generation)
            && follower.died_at.is_none()
        {
            follower.died_at = Some(at);
            self.dead.push(generation);
        }
    }

    /// A process takes its place at the head of a family.
    pub(super) fn set_head(&mut self, root: u64, generation: u64) {
        if root != generation {
            self.heads.insert(root, generation);
        }
    }

    /// A process is at the head of its family no more.
    pub(super) fn remove_head(&mut self, root: u64, generation: u64) {
        if self.heads.get(&root) == Some(&generation) {
            self.heads.remove(&root);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
