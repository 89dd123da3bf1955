//! The wait status of a dead process where no kernel source told it, and the
//! dead whose status can only be had once their parents reap them.
//!
//! A death is told when the pidfd becomes readable, with or without a status;
//! nothing waits for this. Must stay true: it is the pidfd's hangup that wakes
//! us, no timer; and a parent that never reaps costs a bounded number of
//! descriptors.

use std::{collections::BTreeMap, sync::Arc};

use super::{Ended, EntityName, Entry, zombie};
use crate::{
    core::death::WaitStatus,
    sys::{
        epoll::Epoll,
        pidfd::VerifiedPid,
        pidfd_info::{ExitInfo, exit_info},
    },
};

/// Descriptors kept for this; beyond, the oldest is given up.
pub(super) const MOST: usize = 64;

/// The deaths that were told without a status, by generation: the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unreaped {
    waiting: BTreeMap<u64, (EntityName, VerifiedPid)>,
}

impl Unreaped {
    /// The status of an entry that is dead and out of the epoll. If it is not to
    /// be had yet, it is told later, as [`Ended::StatusKnown`].
    pub(super) fn status(
        &mut self,
        generation: u64,
        entry: &Entry,
        epoll: &Epoll,
    ) -> Option<WaitStatus> {
        let Some(process) = entry.held() else {
            return zombie::status(entry.identity);
        };
        match exit_info(process.pidfd()) {
            ExitInfo::Known(status) => Some(status),
            ExitInfo::Unsupported => zombie::status(entry.identity),
            ExitInfo::NotYet => zombie::status(entry.identity).or_else(|| {
                self.wait_for(generation, &entry.entity, process, epoll);
                None
            }),
        }
    }

    /// The status, if it is to be had now.
    pub(super) fn status_now(entry: &Entry) -> Option<WaitStatus> {
        let known = match entry.held().map(|process| exit_info(process.pidfd())) {
            Some(ExitInfo::Known(status)) => Some(status),
            Some(ExitInfo::NotYet | ExitInfo::Unsupported) | None => None,
        };
        known.or_else(|| zombie::status(entry.identity))
    }

    /// Has the status told once it is to be had.
    pub(super) fn wait_for(
        &mut self,
        generation: u64,
        entity: &EntityName,
        process: &VerifiedPid,
        epoll: &Epoll,
    ) {
        if self.waiting.len() == MOST
            && let Some((_, (_, oldest))) = self.waiting.pop_first()
        {
            epoll.remove(oldest.pidfd());
        }
        match epoll.add_for_hangup(process.pidfd(), generation) {
            Ok(()) => {
                let waiting = (Arc::clone(entity), process.clone());
                self.waiting.insert(generation, waiting);
            }
            // Its status stays unknown, and that is all.
            Err(error) => tracing::debug!(%error, "not waited for: {}", process.identity()),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A process was reaped; its status, if the kernel tells it.
    pub(super) fn reaped(&mut self, generation: u64, epoll: &Epoll) -> Option<Ended> {
        let (entity, process) = self.waiting.remove(&generation)?;
        epoll.remove(process.pidfd());
        let ExitInfo::Known(status) = exit_info(process.pidfd()) else {
            return None;
        };
        Some(Ended::StatusKnown {
            entity,
            identity: process.identity(),
            generation,
            status,
        })
    }
}
