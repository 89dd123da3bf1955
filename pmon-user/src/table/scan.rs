//! Reading the kernel's table as a whole: deaths whose ring records were
//! dropped, and entries that are not what we wrote.
//!
//! Must stay true: a dropped record is looked for in a walk that begins after
//! the drop was counted; walks take a bounded part of the time however many
//! records are dropped; only we write entries, so one that differs was written
//! by somebody else and is put right, and no death is lost by that.

use std::time::Duration;

use pmon_common::{Registration, flag};

use super::{EntityName, Table, entry::EntryState, followers::Family};
use crate::{
    core::{
        death::{Hint, SourceName, WaitStatus},
        time::Time,
    },
    sys::{clock, epoll::Epoll, map_batch::Cursor},
};

/// Between two walks for drops lies at least this, and this many times what
/// the last one took: a storm of drops costs a tenth of the time.
const PAUSE: Duration = Duration::from_millis(2);
const PART: u32 = 9;
/// After the ring was found nearly full, a drop may be counted a moment later.
const SUSPICION: Duration = Duration::from_millis(5);

/// Drops of the ring, and when to look what they were.
#[derive(Debug, Default)]
pub(super) struct Drops {
    /// As many as the last walk took care of.
    seen: u64,
    /// No walk before this.
    not_before: Time,
    /// When to look at the count again.
    scan_at: Option<Time>,
    /// A walk is wanted whatever the count says.
    wanted: bool,
}

impl Drops {
    /// Drops from this count on are news.
    pub(super) fn since(seen: u64) -> Self {
        Self {
            seen,
            ..Self::default()
        }
    }

    pub(super) const fn scan_at(&self) -> Option<Time> {
        self.scan_at
    }

    /// The count is to be looked at next, if only to know that nothing was dropped.
    pub(super) fn look_at_count(&mut self, now: Time) {
        self.scan_at = Some(self.scan_at.map_or(now, |at| at.min(now)));
    }

    pub(super) const fn look_again(&mut self) {
        self.wanted = true;
        self.scan_at = Some(self.not_before);
    }
}

/// What a walk through the kernel's table found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Entries that belong to no registration; removed.
    pub orphans: Vec<Orphan>,
    /// Entries of these entities that somebody has changed, or taken away; put
    /// right.
    pub altered: Vec<EntityName>,
}

/// An entry of the kernel's table that belonged to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Whose.
    pub pid: u32,
    /// The generation that stood in it.
    pub generation: u64,
}

/// A walk under way that compares the kernel's table with ours.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    number: u32,
    cursor: Option<Cursor>,
}

impl Table {
    /// Deaths that are in the kernel's table although the ring had no room for
    /// their records. Cheap while nothing was dropped.
    pub fn hints_behind_drops(&mut self) -> Vec<(EntityName, Hint)> {
        let Some(kernel) = &self.kernel else {
            // Nothing to look for; what was due would be due for ever.
            self.drops = Drops::default();
            self.settle_followers();
            return Vec::new();
        };
        // A record that cannot be read told as little as one that was dropped.
        let drops = kernel.stats().drops + kernel.foreign_records().count;
        let began = clock::now();
        if drops == self.drops.seen && !self.drops.wanted {
            if self.drops.scan_at.is_some_and(|at| at <= began) {
                self.drops.scan_at = None;
            }
            self.settle_followers();
            return Vec::new();
        }
        if began < self.drops.not_before {
            self.drops.scan_at = Some(self.drops.not_before);
            return Vec::new();
        }
        self.drops.seen = drops;
        self.drops.wanted = false;
        let hints = self.hints_from_kernel();
        self.settle_followers();
        let took = clock::elapsed(began);
        let again = clock::now() + PAUSE + took * PART;
        self.drops.not_before = again;
        // One more look at the count: the last drops may have come meanwhile,
        // and would ring no bell.
        self.drops.scan_at = Some(again);
        hints
    }

    /// The ring was found nearly full: look at the count of drops in a moment.
    pub(super) fn suspect_drops(&mut self) {
        self.drops.look_at_count(clock::now() + SUSPICION);
    }

    pub(super) fn hints_from_kernel(&mut self) -> Vec<(EntityName, Hint)> {
        let mut hints = Vec::new();
        let mut cursor = Cursor::default();
        while let Some(more) = self.walk(&mut cursor, |table, pid, found| {
            let generation = table.in_kernel(pid).filter(|it| *it == found.generation);
            if generation.is_none() && !table.inherited.knows(pid) {
                table.follower_seen(pid, found, table.walk_number());
            }
            if found.flags & flag::DEAD != 0 {
                hints.extend(generation.and_then(|it| table.hint_from(it, found)));
            }
        }) {
            if !more {
                break;
            }
        }
        hints
    }

    /// Reads some entries; whether there may be more, `None` when they cannot
    /// be read at all.
    fn walk(
        &mut self,
        cursor: &mut Cursor,
        mut each: impl FnMut(&mut Self, u32, &Registration),
    ) -> Option<bool> {
        let (mut pids, mut found) = std::mem::take(&mut self.batch);
        pids.clear();
        found.clear();
        let result = self
            .kernel
            .as_ref()?
            .read_entries(cursor, &mut pids, &mut found);
        for (pid, entry) in pids.iter().zip(&found) {
            each(self, *pid, entry);
        }
        self.batch = (pids, found);
        match result {
            Ok(more) => Some(more),
            Err(errno) => {
                tracing::warn!(%errno, "the kernel's table cannot be read");
                None
            }
        }
    }

    /// The death that the kernel wrote into its entry, if it did.
    pub(super) fn hint_from_kernel(&mut self, generation: u64) -> Option<(EntityName, Hint)> {
        let pid = self.entries.get(&generation)?.identity.pid;
        let found = self.kernel.as_ref()?.get(pid)?;
        if found.generation != generation {
            return None;
        }
        self.hint_from(generation, &found)
    }

    /// The death in a kernel's entry, if it is news.
    fn hint_from(&mut self, generation: u64, found: &Registration) -> Option<(EntityName, Hint)> {
        let entry = self.entries.get_mut(&generation)?;
        let is_news = found.flags & flag::DEAD != 0
            && found.start_time == entry.identity.start_time
            && entry.state == EntryState::Registered
            && entry.died_at.is_none();
        if !is_news {
            return None;
        }
        let died_at = Time::from_boot_ns(found.died_at);
        let status =
            (found.flags & flag::EXIT_CODE_KNOWN != 0).then_some(WaitStatus(found.exit_code));
        entry.died_at = Some(died_at);
        entry.status = entry.status.or(status);
        entry.first.get_or_insert((SourceName::Ebpf, clock::now()));
        let (entity, identity) = (EntityName::clone(&entry.entity), entry.identity);
        self.canary_in_table(generation, died_at, status);
        Some((
            entity,
            Hint {
                identity,
                generation,
                source: SourceName::Ebpf,
                died_at: Some(died_at),
                status,
                // It may have been written long ago.
                last_thread: false,
            },
        ))
    }

    /// The walk that what is entered now is taken to be seen in.
    pub(super) const fn walk_number(&self) -> u32 {
        self.comparison.number
    }

    /// Begins to compare the kernel's table with ours; [`Table::compare_some`]
    /// does it.
    pub fn begin_comparison(&mut self) {
        self.comparison = Comparison {
            number: self.comparison.number.wrapping_add(1),
            cursor: self.kernel.is_some().then(Cursor::default),
        };
    }

    /// Compares some entries and puts right what is wrong. `None` when there is
    /// nothing more to compare.
    pub fn compare_some(&mut self, epoll: &Epoll) -> Option<Reconciled> {
        let mut cursor = self.comparison.cursor?;
        let number = self.comparison.number;
        let mut wrong = Vec::new();
        let mut reconciled = Reconciled::default();
        let more = self.walk(&mut cursor, |table, pid, found| {
            match table.in_kernel(pid) {
                Some(generation) => {
                    if let Some(entry) = table.entries.get_mut(&generation) {
                        entry.walk = number;
                        let start_time = entry.identity.start_time;
                        let family = table.family_of(generation);
                        if !is_ours(start_time, generation, family, found) {
                            wrong.push((generation, Some(*found)));
                        }
                    }
                }
                // Told, and not on record yet; or an earlier daemon's.
                None if table.inherited.knows(pid) => {}
                None if table.follower_seen(pid, found, number) => {}
                None => {
                    tracing::warn!(
                        pid,
                        generation = found.generation,
                        "nobody's entry in the kernel's table"
                    );
                    reconciled.orphans.push(Orphan {
                        pid,
                        generation: found.generation,
                    });
                    if let Some(kernel) = &mut table.kernel {
                        kernel.remove(pid);
                    }
                }
            }
        });
        self.comparison.cursor = (more == Some(true)).then_some(cursor);
        if more == Some(false) {
            let unseen =
                (self.entries.iter()).filter(|(_, entry)| entry.in_kernel && entry.walk != number);
            wrong.extend(unseen.map(|(generation, _)| (*generation, None)));
        }
        for (generation, found) in wrong {
            let entity = self.put_right(generation, found, epoll);
            reconciled.altered.extend(entity);
        }
        if more == Some(false) {
            self.restore_followers(number);
        }
        Some(reconciled)
    }

    /// Writes a registration's entry anew; whose it is, if something was wrong
    /// with it.
    fn put_right(
        &mut self,
        generation: u64,
        found: Option<Registration>,
        epoll: &Epoll,
    ) -> Option<EntityName> {
        let entry = self.entries.get(&generation)?;
        let identity = entry.identity;
        let entity = EntityName::clone(&entry.entity);
        let now = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.get(identity.pid));
        let family = self.family_of(generation);
        if now.is_some_and(|now| is_ours(identity.start_time, generation, family, &now)) {
            return None;
        }
        tracing::warn!(
            pid = identity.pid,
            ?found,
            "somebody else has changed an entry of the kernel's table"
        );
        // What the kernel wrote into it about this very process is still true.
        if let Some(found) = found {
            self.hint_from(generation, &found);
        }
        self.remove_from_kernel(generation);
        if let Some(kernel) = &mut self.kernel {
            kernel.remove(identity.pid);
        }
        self.insert_into_kernel(identity, generation);
        // A death meanwhile was written nowhere.
        if self.is_gone(generation, epoll) == Some(true) {
            self.check_soon(generation);
        }
        Some(entity)
    }
}

/// Whether the part of an entry that user space writes is as we wrote it.
fn is_ours(start_time: u64, generation: u64, family: Family, found: &Registration) -> bool {
    found.start_time == start_time
        && found.generation == generation
        && Family::in_entry(found) == family
}
