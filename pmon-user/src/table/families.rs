//! Which processes descend from a followed one: what is needed to let one of
//! them go on in its place.
//!
//! The kernel registers a followed process's child before it runs and rings; so
//! it does with the child's own children. All of them name their *root*, the
//! registration that user space made; it stays the name of this family when one of
//! its members has taken the place of the first process. A descendant counts
//! until it dies, the family's process ends other than by handing over, or
//! somebody registers it as his own process. Must stay true:
//!
//! * a follower's death is nobody's death; it is noted here, and the kernel's
//!   entry goes, as long as the family's process is alive;
//! * no conclusion is drawn while records are missing: that a process belongs to
//!   no family, and that nobody is left of one, is only certain once the ring is
//!   read and everything that it had no room for was looked for in the table;
//! * a follower is kept here only while it has an entry in the kernel's table,
//!   whose size is thus the limit to what is kept.

use pmon_common::{Event, KERNEL_GENERATIONS, Registration, flag};

use super::{
    EntityName, Table,
    entry::{Entry, EntryState},
    followers::{Child, Family, Follower},
};
use crate::{
    core::{identity::Identity, time::Time},
    source::ebpf::Inserted,
    sys::{
        clock,
        epoll::Epoll,
        pidfd::{KnownPid, Reopened},
    },
};

impl Table {
    /// Has an entity's process followed into the background, or not any more;
    /// from the next registration on, and from now on.
    pub fn follow(&mut self, entity: &EntityName, follow: bool, epoll: &Epoll) {
        let changed = if follow {
            self.following.insert(EntityName::clone(entity))
        } else {
            self.following.remove(entity)
        };
        if !changed {
            return;
        }
        let generations = self
            .by_entity
            .get(entity)
            .map(|all| all.as_slice().to_vec());
        for generation in generations.unwrap_or_default() {
            if !follow && let Some(entry) = self.entries.get(&generation) {
                self.drop_followers(entry.root);
            }
            self.write_anew(generation);
            // A death in the meantime was written nowhere.
            if self.is_gone(generation, epoll) == Some(true) {
                self.check_soon(generation);
            }
        }
    }

    /// Whether an entity's process is followed.
    pub(super) fn follows(&self, entity: &EntityName) -> bool {
        self.following.contains(entity)
    }

    /// Children that could not be followed, for want of room in the kernel's table.
    #[must_use]
    pub const fn unfollowed(&self) -> u64 {
        self.followers.unfollowed
    }

    /// What a registration's entry in the kernel's table says of its family.
    pub(super) fn family_of(&self, generation: u64) -> Family {
        let followed = |entry: &&Entry| self.follows(&entry.entity);
        match self.entries.get(&generation).filter(followed) {
            None => Family::default(),
            Some(entry) if entry.root == generation => Family {
                flags: flag::FOLLOW,
                root_generation: 0,
            },
            Some(entry) => Family {
                flags: flag::FOLLOW | flag::FOLLOWED,
                root_generation: entry.root,
            },
        }
    }

    /// Puts that right in the kernel's entry. Whoever was found alive just now may
    /// have died meanwhile.
    pub(super) fn write_anew(&mut self, generation: u64) {
        let Some(entry) = self.entries.get(&generation) else {
            return;
        };
        let identity = entry.identity;
        let wanted = self.family_of(generation);
        let found = self.kernel.as_ref().and_then(|it| it.get(identity.pid));
        let differs = found.is_some_and(|found| {
            found.generation == generation
                && Family::in_entry(&found) != wanted
                && found.flags & flag::DEAD == 0
        });
        if entry.in_kernel && differs {
            self.remove_from_kernel(generation);
            self.insert_into_kernel(identity, generation);
        }
    }

    /// Whether there is a family of this name.
    pub(super) fn is_family(&self, root: u64) -> bool {
        let head = self.followers.heads.get(&root).copied().unwrap_or(root);
        self.handovers.contains(root)
            || self
                .entries
                .get(&head)
                .is_some_and(|entry| entry.root == root && self.follows(&entry.entity))
    }

    /// A followed process forked.
    pub(super) fn forked(&mut self, event: &Event) {
        let child = Child {
            identity: Identity {
                pid: event.tgid,
                start_time: event.start_time,
            },
            generation: event.generation,
            root: event.root_generation,
            died_at: None,
        };
        let has_entry = event.flags & flag::FOLLOWED != 0;
        if self.is_known(child.generation) {
            return;
        }
        if !self.is_family(child.root) {
            if has_entry {
                self.followers.unplaced.push(child);
            }
        } else if has_entry || self.take_up(child) {
            self.followers.insert(child);
        }
    }

    fn is_known(&self, generation: u64) -> bool {
        self.entries.contains_key(&generation) || self.followers.get(generation).is_some()
    }

    /// The kernel could not register a child, because its table was full or an
    /// earlier owner of the pid was in the way. Whether we can.
    fn take_up(&mut self, child: Child) -> bool {
        let Child {
            identity,
            generation,
            root,
            died_at: _,
        } = child;
        self.free_pid(identity);
        let entry = Registration {
            start_time: identity.start_time,
            generation,
            flags: flag::FOLLOW | flag::FOLLOWED,
            root_generation: root,
            ..Registration::default()
        };
        if !self.insert_follower(identity.pid, entry) {
            self.followers.unfollowed += 1;
            tracing::warn!("{identity} is not followed: the kernel's table is full (`max_pids`)");
            return false;
        }
        self.is_there(identity)
    }

    fn insert_follower(&mut self, pid: u32, entry: Registration) -> bool {
        let insert = |table: &mut Self| {
            let kernel = table.kernel.as_mut();
            kernel.and_then(|kernel| kernel.insert(pid, entry).ok())
        };
        let mut inserted = insert(self);
        if inserted == Some(Inserted::Full) && self.make_room() {
            inserted = insert(self);
        }
        inserted == Some(Inserted::Yes)
    }

    /// Whether a child whose entry we have just inserted is still alive; the
    /// kernel has told of its death already if not, and the entry goes.
    fn is_there(&mut self, identity: Identity) -> bool {
        let is_gone = matches!(KnownPid::of(identity).reopen(), Ok(Reopened::Gone));
        if is_gone && let Some(kernel) = &mut self.kernel {
            kernel.remove(identity.pid);
        }
        !is_gone
    }

    /// A process exited: whether it was a follower, or nobody we know.
    pub(super) fn follower_exited(&mut self, event: &Event) -> bool {
        let generation = event.generation;
        if self.entries.contains_key(&generation) {
            return false;
        }
        let Some(follower) = self.followers.get(generation) else {
            return generation >= KERNEL_GENERATIONS;
        };
        let known_dead = event.flags & flag::GROUP_DEAD != 0
            || matches!(KnownPid::of(follower.identity).reopen(), Ok(Reopened::Gone));
        if known_dead {
            self.followers
                .died(generation, Time::from_boot_ns(event.at));
        }
        true
    }

    /// An entry of the kernel's table that belongs to no registration: whether it
    /// is a follower's, or may be.
    pub(super) fn follower_seen(&mut self, pid: u32, found: &Registration, walk: u32) -> bool {
        if found.generation < KERNEL_GENERATIONS {
            return false;
        }
        let child = Child::in_entry(pid, found);
        match self.followers.known.get_mut(&found.generation) {
            Some(follower) => {
                follower.walk = walk;
                if let Some(at) = child.died_at {
                    self.followers.died(found.generation, at);
                }
            }
            None => self.followers.unplaced.push(child),
        }
        true
    }

    /// Followers whose entries a whole walk has not seen: somebody has removed
    /// them.
    pub(super) fn restore_followers(&mut self, walk: u32) {
        let unseen: Vec<u64> = (self.followers.known.iter())
            .filter(|(_, follower)| follower.walk != walk && follower.died_at.is_none())
            .map(|(generation, _)| *generation)
            .collect();
        for generation in unseen {
            self.restore_follower(generation);
        }
    }

    /// Has a kernel source that is new to them watch all followers.
    pub(super) fn move_followers(&mut self) {
        let all: Vec<u64> = self.followers.known.keys().copied().collect();
        for generation in all {
            self.restore_follower(generation);
        }
    }

    fn restore_follower(&mut self, generation: u64) {
        let Some(Follower {
            identity,
            root,
            died_at: None,
            walk: _,
        }) = self.followers.get(generation).copied()
        else {
            return;
        };
        let Some(kernel) = &self.kernel else {
            return;
        };
        if kernel
            .get(identity.pid)
            .is_some_and(|found| found.generation == generation)
        {
            self.inherited.forget(identity.pid);
            return;
        }
        let entry = Registration {
            start_time: identity.start_time,
            generation,
            flags: flag::FOLLOW | flag::FOLLOWED,
            root_generation: root,
            ..Registration::default()
        };
        if !self.insert_follower(identity.pid, entry) || !self.is_there(identity) {
            self.followers.died(generation, clock::now());
        }
    }

    /// Everything that was told is heard, and what was not told is seen: whoever
    /// has no place by now has none, and the dead are not needed any more.
    pub(super) fn settle_followers(&mut self) {
        self.handovers.everything_is_heard();
        if !self.followers.unplaced.is_empty() {
            self.place_children();
        }
        for generation in std::mem::take(&mut self.followers.dead) {
            let Some(follower) = self.followers.get(generation) else {
                continue;
            };
            if self.may_hand_over(follower.root) {
                self.followers.dead.push(generation);
            } else {
                self.drop_follower(generation);
            }
        }
    }

    /// Whether it may matter who of a family died last.
    fn may_hand_over(&self, root: u64) -> bool {
        let head = self.followers.heads.get(&root).copied().unwrap_or(root);
        self.handovers.contains(root)
            || self
                .entries
                .get(&head)
                .is_some_and(|entry| match entry.state {
                    EntryState::Expected => true,
                    EntryState::Registered => entry.died_at.is_some(),
                    EntryState::Leaving => false,
                })
    }

    fn place_children(&mut self) {
        for child in std::mem::take(&mut self.followers.unplaced) {
            let Child {
                identity,
                generation,
                root,
                died_at: _,
            } = child;
            if self.is_known(generation) || self.inherited.knows(identity.pid) {
                continue;
            }
            let found = self.kernel.as_ref().and_then(|it| it.get(identity.pid));
            let Some(found) = found.filter(|found| found.generation == generation) else {
                continue;
            };
            if self.is_family(root) {
                self.followers.insert(Child::in_entry(identity.pid, &found));
            } else if self.inherited.has_family(root) {
                // It waits with the others for somebody who claims them.
                self.inherited.add(identity.pid, found);
            } else if let Some(kernel) = &mut self.kernel {
                kernel.remove(identity.pid);
            }
        }
    }

    /// A family of an earlier daemon, as it left it.
    pub(super) fn inherit_followers(&mut self, root: u64) {
        for (pid, entry) in self.take_inherited_family(root) {
            if !self.is_known(entry.generation) {
                self.followers.insert(Child::in_entry(pid, &entry));
            }
        }
    }

    /// A family's process is at an end, and so is the family.
    pub(super) fn drop_followers(&mut self, root: u64) {
        let all: Vec<u64> = self
            .followers
            .of(root)
            .map(|(generation, _)| generation)
            .collect();
        for generation in all {
            self.drop_follower(generation);
        }
    }

    fn drop_follower(&mut self, generation: u64) {
        if let Some(follower) = self.followers.remove(generation) {
            self.remove_follower_entry(follower.identity.pid, generation);
        }
    }

    fn remove_follower_entry(&mut self, pid: u32, generation: u64) {
        let is_there = |found: Registration| found.generation == generation;
        if !self.is_known(generation)
            && !self.inherited.knows(pid)
            && let Some(kernel) = &mut self.kernel
            && kernel.get(pid).is_some_and(is_there)
        {
            kernel.remove(pid);
        }
    }

    /// A pid has another owner: a follower that had it is dead.
    pub(super) fn forget_follower_at(&mut self, pid: u32) {
        if let Some(generation) = self.followers.by_pid.get(&pid).copied() {
            self.drop_follower(generation);
        }
    }
}
