//! One kernel source after another under a table that stays.
//!
//! Must stay true: nothing of what the old one knew is lost, and every
//! registration is in the new one before anybody relies on it. The pidfds tell
//! of the deaths in between.

use std::sync::Arc;

use super::{Comparison, Drops, EntityName, EntryState, Table};
use crate::{
    core::death::{Hint, SourceName},
    source::ebpf::Ebpf,
};

/// A registration in a new kernel source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whose.
    pub entity: EntityName,
    /// Why only the pidfd watches it, when that is so.
    pub pidfd_only: Option<String>,
}

impl Table {
    /// Does without the kernel source from now on. Also gives the deaths that it
    /// had noted and not told of. [`Table::resync`] is due: what no pidfd watches
    /// is verified again and again from then on.
    pub fn remove_kernel(&mut self) -> Option<(Ebpf, Vec<(EntityName, Hint)>)> {
        let hints = self.hints_from_kernel();
        self.part_with_kernel();
        let kernel = self.take_kernel()?;
        for entry in self.entries.values_mut() {
            entry.in_kernel = false;
        }
        self.lost_to_canary(SourceName::Ebpf, "it was stopped meanwhile");
        Some((kernel, hints))
    }

    /// Uses this kernel source from now on: everything that is registered is
    /// put into its table, unless an earlier daemon has done so. [`Table::resync`] is due for what died before.
    pub fn set_kernel(&mut self, kernel: Ebpf) -> Vec<Moved> {
        self.drops = Drops::since(kernel.stats().drops);
        self.comparison = Comparison::default();
        self.inherit_from(&kernel);
        self.kernel = Some(kernel);
        self.move_followers();
        let registered: Vec<_> = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.state == EntryState::Registered)
            .map(|(generation, entry)| {
                entry.in_kernel = false;
                (*generation, entry.identity, Arc::clone(&entry.entity))
            })
            .collect();
        registered
            .into_iter()
            .map(|(generation, identity, entity)| {
                let pidfd_only = if self.reclaim(identity, generation) {
                    None
                } else {
                    self.insert_into_kernel(identity, generation)
                };
                self.settle(generation);
                Moved { entity, pidfd_only }
            })
            .collect()
    }
}
