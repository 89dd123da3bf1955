//! Entries that outlive a daemon: how a death is told exactly once although the
//! daemon may be killed at any moment.
//!
//! The kernel's entry of a dead process is what knows of the death until it is
//! on record in the journal. In this order, and never in another:
//!
//! 1. The kernel writes the death into the entry.
//! 2. The daemon tells it, and the journal gets a line with the process's
//!    identity and the kernel's time.
//! 3. Only then the entry is removed ([`Table::on_record`]).
//!
//! A daemon that finds entries therefore tells those deaths that are not in the
//! journal, and no others. A crash before 2 loses nothing, because the entry is
//! there and the remembered registrations say whose it was; one between 2 and 3
//! doubles nothing, because the journal has the line.
//!
//! A live process that is found again keeps its entry and its generation, so
//! that there is no moment in which the kernel does not watch it.

use std::collections::{HashMap, HashSet, hash_map};

use pmon_common::{KERNEL_GENERATIONS, Registration, flag};

use super::{EntityName, EntryState, FIRST_GENERATION, Table, followers::root_in_entry};
use crate::{
    core::{
        death::{Death, LastSeen, SourceName, WaitStatus},
        evidence::Evidence,
        identity::Identity,
        time::Time,
    },
    source::ebpf::Ebpf,
    sys::clock,
    table::zombie,
};

/// Entries in the kernel's table that belong to no live registration.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// What an earlier daemon left, as it was seen last, by pid.
    entries: HashMap<u32, Registration>,
    /// Of these, the pids of followers, by family.
    families: HashMap<u64, Vec<u32>>,
    /// Deaths that were told and are not on record yet, by pid.
    unrecorded: HashMap<u32, u32>,
    /// Pids whose entry is that of a told death.
    kept: HashSet<u32>,
}

impl Inherited {
    /// Above every generation of user space in these entries.
    fn first_free_generation(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| entry.generation)
            .filter(|generation| *generation < KERNEL_GENERATIONS)
            .map(|generation| generation + 1)
            .fold(FIRST_GENERATION, u64::max)
    }

    /// One more.
    pub(super) fn add(&mut self, pid: u32, entry: Registration) {
        if entry.flags & flag::FOLLOWED != 0 {
            let family = self.families.entry(entry.root_generation).or_default();
            family.push(pid);
        }
        self.entries.insert(pid, entry);
    }

    /// As it was seen last.
    pub(super) fn get(&self, pid: u32) -> Option<&Registration> {
        self.entries.get(&pid)
    }

    /// It is known whose it is.
    pub(super) fn forget(&mut self, pid: u32) {
        self.entries.remove(&pid);
    }

    /// Whether it has left followers of this family.
    pub(super) fn has_followers(&self, root: u64) -> bool {
        self.families.contains_key(&root)
    }

    /// Whether there may be a process of this family.
    pub(super) fn has_family(&self, root: u64) -> bool {
        self.families.contains_key(&root)
            || self.entries.values().any(|entry| entry.generation == root)
    }

    /// Whether the entry of this pid is there for a reason.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.kept.contains(&pid) || self.entries.contains_key(&pid)
    }
}

impl Table {
    /// Whether an earlier daemon had the kernel watch this process, and nobody
    /// has claimed the entry yet.
    #[must_use]
    pub fn is_inherited(&self, identity: Identity) -> bool {
        self.inherited_as(identity.pid) == Some(identity)
    }

    /// Who has an entry of an earlier daemon under this pid.
    #[must_use]
    pub fn inherited_as(&self, pid: u32) -> Option<Identity> {
        let start_time = self.inherited.entries.get(&pid)?.start_time;
        Some(Identity { pid, start_time })
    }

    /// The death of a process that the kernel watched for an earlier daemon, if
    /// it wrote one. The caller knows that the process is gone.
    pub fn inherited_death(&mut self, identity: Identity) -> Option<Death> {
        let oom_watched = self.watches_oom();
        let entry = self.inherited.entries.get_mut(&identity.pid)?;
        if let Some(kernel) = &self.kernel
            && let Some(last) = kernel.get(identity.pid)
            && last.generation == entry.generation
        {
            *entry = last;
        }
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
            evidence: Evidence::from_entry(entry, oom_watched),
            last_seen: LastSeen {
                comm: zombie::comm(&entry.comm),
                ..LastSeen::default()
            },
        })
    }

    /// A death of an earlier daemon's registration is told.
    pub fn told(&mut self, death: &Death) {
        let pid = death.identity.pid;
        *self.inherited.unrecorded.entry(pid).or_default() += 1;
        // Unless the pid has a new owner.
        if self.is_inherited(death.identity) && self.in_kernel(pid).is_none() {
            self.inherited.kept.insert(pid);
        }
    }

    /// A death that was told is on record: the kernel need not know it any more.
    pub fn on_record(&mut self, dead: Identity) {
        let hash_map::Entry::Occupied(mut count) = self.inherited.unrecorded.entry(dead.pid) else {
            return;
        };
        // Several entities may watch one process.
        *count.get_mut() -= 1;
        if *count.get() > 0 {
            return;
        }
        count.remove();
        if self.inherited.kept.remove(&dead.pid)
            && let Some(kernel) = &mut self.kernel
        {
            kernel.remove(dead.pid);
        }
    }

    /// What is left of a family, as it is now.
    pub(super) fn take_inherited_family(&mut self, root: u64) -> Vec<(u32, Registration)> {
        let Inherited {
            entries,
            families,
            unrecorded: _,
            kept,
        } = &mut self.inherited;
        let mut family = Vec::new();
        for pid in families.remove(&root).unwrap_or_default() {
            // Told as somebody's death, or its pid is another's now.
            let is_of_it = |entry: &mut Registration| {
                entry.flags & flag::FOLLOWED != 0 && entry.root_generation == root
            };
            if kept.contains(&pid) || !entries.get_mut(&pid).is_some_and(is_of_it) {
                continue;
            }
            let last = self.kernel.as_ref().and_then(|kernel| kernel.get(pid));
            if let Some(entry) = entries.remove(&pid)
                && let Some(last) = last.filter(|last| last.generation == entry.generation)
            {
                family.push((pid, last));
            }
        }
        family
    }

    /// Removes what an earlier daemon left and nobody has claimed.
    pub fn forget_unclaimed(&mut self) {
        self.inherited.families.clear();
        for (pid, entry) in std::mem::take(&mut self.inherited.entries) {
            let Some(kernel) = &mut self.kernel else {
                return;
            };
            let is_there = |kernel: &Ebpf| {
                kernel
                    .get(pid)
                    .is_some_and(|last| last.generation == entry.generation)
            };
            if !self.inherited.kept.contains(&pid) && is_there(kernel) {
                tracing::debug!(pid, entry.generation, "nobody knows this entry");
                kernel.remove(pid);
            }
        }
    }

    /// What is in the table of a kernel source that is about to be used.
    pub(super) fn inherit_from(&mut self, kernel: &Ebpf) {
        let entries = kernel.registrations().unwrap_or_else(|errno| {
            tracing::error!(%errno, "the kernel's table cannot be read");
            Vec::new()
        });
        for (pid, entry) in entries {
            // What an earlier source knew was seen last there.
            if self.inherited.get(pid).is_none() {
                self.inherited.add(pid, entry);
            }
        }
        let free = self.inherited.first_free_generation();
        self.next_generation = self.next_generation.max(free);
    }

    /// The kernel source is about to go: what it knows of earlier daemons'
    /// processes is kept here.
    pub(super) fn part_with_kernel(&mut self) {
        let Some(kernel) = &self.kernel else {
            return;
        };
        for (pid, entry) in &mut self.inherited.entries {
            if let Some(last) = kernel.get(*pid)
                && last.generation == entry.generation
            {
                *entry = last;
            }
        }
        self.inherited.kept.clear();
    }

    /// Whether the kernel has the entry of this registration already.
    pub(super) fn reclaim(&mut self, identity: Identity, generation: u64) -> bool {
        let is_there = self.kernel.as_ref().is_some_and(|kernel| {
            kernel.get(identity.pid).is_some_and(|entry| {
                entry.generation == generation && entry.start_time == identity.start_time
            })
        });
        if is_there && let Some(entry) = self.entries.get_mut(&generation) {
            entry.in_kernel = true;
            self.inherited.entries.remove(&identity.pid);
        }
        is_there
    }

    /// The generation of a process that the kernel watches already, and its family.
    pub(super) fn claim(&mut self, entity: &EntityName, identity: Identity) -> Option<(u64, u64)> {
        if let Some(generation) = self.followers.generation_of(identity) {
            let follower = self.followers.remove(generation)?;
            let found = self.kernel.as_ref()?.get(identity.pid)?;
            let family = self.family_brought(entity, follower.root);
            let is_there = found.generation == generation;
            return is_there.then_some((generation, family.unwrap_or(generation)));
        }
        if !self.is_inherited(identity) {
            return None;
        }
        let found = self.inherited.entries.remove(&identity.pid)?;
        let kernel = self.kernel.as_mut()?;
        let is_there = kernel
            .get(identity.pid)
            .is_some_and(|last| last.generation == found.generation);
        let generation = found.generation;
        if !is_there || self.inherited.kept.contains(&identity.pid) {
            return None;
        }
        // Not a number that this table could have given, or given twice.
        let usable = generation >= FIRST_GENERATION && !self.entries.contains_key(&generation);
        if !usable {
            kernel.remove(identity.pid);
        }
        let root = match root_in_entry(&found) {
            root if self.follows(entity) && !self.is_family(root) => root,
            _ => generation,
        };
        usable.then_some((generation, root))
    }

    /// The entry of a death that is about to be told stays for now.
    pub(super) fn keep_until_recorded(&mut self, generation: u64) {
        if let Some(entry) = self.entries.get_mut(&generation)
            && entry.state == EntryState::Registered
        {
            let pid = entry.identity.pid;
            if std::mem::take(&mut entry.in_kernel) {
                self.inherited.kept.insert(pid);
            }
            *self.inherited.unrecorded.entry(pid).or_default() += 1;
        }
    }

    /// A pid has another owner now: what is known of the old one is kept here,
    /// the entry becomes free.
    pub(super) fn make_way(&mut self, pid: u32) {
        let Some(kernel) = &mut self.kernel else {
            return;
        };
        let kept = self.inherited.kept.remove(&pid);
        if let Some(entry) = self.inherited.entries.get_mut(&pid) {
            match kernel.get(pid) {
                Some(last) if last.generation == entry.generation => {
                    *entry = last;
                    kernel.remove(pid);
                }
                Some(_) | None => {}
            }
        }
        if kept {
            kernel.remove(pid);
        }
    }

    /// Makes room in a full table by giving up what a crash would need; whether
    /// there was any.
    pub(super) fn make_room(&mut self) -> bool {
        let Some(kernel) = &mut self.kernel else {
            return false;
        };
        let kept = std::mem::take(&mut self.inherited.kept);
        for pid in &kept {
            kernel.remove(*pid);
        }
        !kept.is_empty()
    }
}
