//! Processes that go into the background: what the table tells of them, and what
//! has to be done so that none is lost when a daemon ends in between.
//!
//! Must stay true: a program that may go into the background executes nothing
//! before the kernel follows it; who exited stays in the kernel's table until it
//! is on record who goes on.

use std::sync::Arc;

use super::{engine::Engine, message::Work, steps::Found};
use crate::{
    core::{death::Death, event::Event},
    effect::Passage,
    sys::pidfd::VerifiedPid,
    table::{EntityName, Followed},
};

impl Engine {
    /// A program waits to be executed that is an entity's process.
    pub(super) fn process_launching(
        &mut self,
        entity: EntityName,
        process: VerifiedPid,
        passage: Passage,
    ) {
        let identity = process.identity();
        self.table.expect(&entity, process);
        self.hand_out(Work::Launched {
            entity,
            identity,
            passage,
        });
    }

    /// A followed process exited, and a descendant goes on in its place.
    pub(super) fn handed_over(&mut self, followed: Followed) {
        let Followed {
            entity: name,
            death,
            child,
            process,
            last_seen,
        } = followed;
        let old = death.identity;
        let found = Found {
            process,
            stamp: None,
            last_seen,
        };
        self.happen_with(&name, Event::Followed { death, child }, Some(&found));
        self.table.followed(&name, child);
        if let Some(entity) = self.entities.get(&name) {
            self.hand_out(Work::HandedOver {
                memory: Arc::new(entity.memory()),
                entity: name,
                identity: old,
            });
        } else {
            self.table.on_record(old);
        }
    }

    /// The same where the process exited while there was no daemon. Whether
    /// somebody may have gone on in its place: that, or the death, is told then.
    pub(super) fn inherit_handover(&mut self, name: &EntityName, death: &Death) -> bool {
        let Some(entity) = self.entities.get_mut(name) else {
            return false;
        };
        if entity.unsettled.contains(&death.identity)
            || !self.table.may_have_inherited_followers(name, death)
            || !entity.recovery.recall(death.identity, death.generation)
        {
            return false;
        }
        self.table.begin_inherited_handover(name, death);
        true
    }

    /// Entities that ask to be followed where that is not to be had, and why.
    pub(super) fn not_followed(&self) -> Option<(String, Vec<&str>)> {
        let mut names: Vec<&str> = (self.entities.values())
            .filter(|entity| entity.spec.follow)
            .map(|entity| entity.spec.name.as_str())
            .collect();
        names.sort_unstable();
        let missing = match self.table.kernel() {
            None => Some("the eBPF source is not in use".to_owned()),
            Some(kernel) => (kernel.missing().iter())
                .find(|missing| missing.program == pmon_common::FORK_PROGRAM)
                .map(|missing| missing.reason.clone()),
        };
        (!names.is_empty()).then_some(())?;
        Some((missing?, names))
    }

    /// An entity's configuration says whether its process is followed.
    pub(super) fn follow(&mut self, name: &EntityName) {
        let follow = self
            .entities
            .get(name)
            .is_some_and(|entity| entity.spec.follow);
        self.table.follow(name, follow, &self.epoll);
    }
}
