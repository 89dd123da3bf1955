//! Start commands on record: one that is at work when the daemon ends is gone on
//! with by the next one, and never a second one started beside it.
//!
//! Must stay true: a start command executes nothing before its identity is on
//! record, and stays there until the core knows of its end.

use std::sync::Arc;

use super::{engine::Engine, entity::Entity, message::Work};
use crate::{
    core::{identity::Identity, recovery::Recovery, time::Time},
    effect::{Job, Passage, Role},
    state::{atomic::Reach, record::EntityRecord},
    sys::pidfd::VerifiedPid,
    table::EntityName,
};

/// A start that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resumed {
    command: Identity,
    run: u64,
}

/// What an earlier daemon has left at work for the entity, as the recovery takes
/// it over.
pub(super) fn resume(
    spec: &crate::core::entity::EntitySpec,
    recovery: &mut Recovery,
    record: &EntityRecord,
    now: Time,
) -> Option<Resumed> {
    let command = record.starting?;
    let run = recovery.resume_start(spec, command, now)?;
    Some(Resumed { command, run })
}

impl Entity {
    /// A start command that has ended is of no interest to the next daemon.
    pub(super) fn forget_ended_start(&mut self) {
        if !self.recovery.start_is_at_work() {
            self.starting = None;
        }
    }
}

impl Engine {
    /// A program waits to be executed for an entity.
    pub(super) fn launching(
        &mut self,
        name: EntityName,
        process: VerifiedPid,
        role: Role,
        passage: Passage,
    ) {
        match role {
            Role::Process => self.process_launching(name, process, passage),
            Role::StartCommand => {
                let entity = self.entities.get_mut(&name);
                // Cancelled meanwhile: who is not recorded gives up.
                let Some(entity) = entity.filter(|entity| entity.recovery.start_is_at_work())
                else {
                    return;
                };
                entity.starting = Some(process.identity());
                let memory = entity.memory_now();
                self.hand_out(Work::Record {
                    entity: name,
                    memory,
                    reach: Reach::Cache,
                    // A start that is recorded too late is better than none.
                    then: Box::new(move |_| passage.open()),
                });
            }
        }
    }

    /// Has the lane go on with a start of an earlier daemon.
    pub(super) fn go_on_with_start(&self, name: &EntityName, resumed: Resumed) {
        let Resumed { command, run } = resumed;
        let Some(entity) = self.entities.get(name) else {
            return;
        };
        tracing::info!(
            entity = &**name,
            "goes on with the start command {command} of an earlier daemon"
        );
        self.hand_out(Work::Job {
            entity: EntityName::clone(name),
            job: Job::ResumeStart {
                spec: Arc::clone(&entity.spec),
                command,
                run,
            },
        });
    }
}
