//! One kernel source after another under a table that stays.
//!
//! Must stay true: nothing of what the old one knew is lost, and every
//! registration is in the new one before anybody relies on it. The pidfds tell
//! of the deaths in between.

use std::sync::Arc;

use super::{EntityName, EntryState, Table};
use crate::{
    core::death::{Hint, SourceName},
    source::{canary::Verdict, ebpf::Ebpf},
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
    /// had noted and not told of.
    pub fn remove_kernel(&mut self) -> Option<(Ebpf, Vec<(EntityName, Hint)>)> {
        let generations: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == EntryState::Registered && entry.died_at.is_none())
            .map(|(generation, _)| *generation)
            .collect();
        let hints = generations
            .into_iter()
            .filter_map(|generation| self.hint_from_kernel(generation))
            .collect();
        let kernel = self.take_kernel()?;
        self.in_kernel.clear();
        let stopped = Verdict::Unclear("it was stopped meanwhile".to_owned());
        self.settle_canary(SourceName::Ebpf, stopped);
        Some((kernel, hints))
    }

    /// Uses this kernel source from now on: everything that is registered is
    /// put into its table.
    pub fn set_kernel(&mut self, kernel: Ebpf) -> Vec<Moved> {
        self.last_drops = kernel.stats().drops;
        self.kernel = Some(kernel);
        self.in_kernel.clear();
        let registered: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state == EntryState::Registered)
            .map(|(generation, entry)| {
                let identity = entry.process.identity();
                (*generation, identity, Arc::clone(&entry.entity))
            })
            .collect();
        registered
            .into_iter()
            .map(|(generation, identity, entity)| Moved {
                entity,
                pidfd_only: self.insert_into_kernel(identity, generation),
            })
            .collect()
    }
}
