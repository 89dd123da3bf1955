//! Entities that are missing and that no pidfile tells of: when their program is
//! executed they are looked for, by their likeness to the process before.
//!
//! Must stay true: while a process is registered, or one of ours is on its way,
//! nobody waits for an execution, so that a recovery costs nothing of this.

use std::{path::PathBuf, sync::Arc};

use super::{engine::Engine, entity::Entity, message::Work};
use crate::{
    core::{
        entity::{Mode, StartMethod},
        event::Occasion,
        recovery::Stage,
    },
    table::EntityName,
};

impl Engine {
    /// After every step: does it begin or cease to wait for an execution?
    pub(super) fn attend_execution(&mut self, name: &EntityName) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let program = awaited_program(entity);
        if std::mem::replace(&mut entity.awaits_execution, program.is_some()) != program.is_some() {
            self.hand_out(Work::AwaitExecution(Arc::clone(name), program));
        }
    }

    /// Its program may have been executed.
    pub(super) fn executed(&self, name: &EntityName) {
        if (self.entities.get(name)).is_some_and(|entity| entity.awaits_execution) {
            self.look(name, Occasion::Executed, false);
        }
    }
}

/// Whether nothing but its likeness to the one before would tell a successor
/// that somebody else has started. A unit's process is named by systemd.
pub(super) fn is_known_by_likeness(entity: &Entity) -> bool {
    let of_unit = matches!(entity.spec.start, StartMethod::Unit { .. });
    entity.spec.pidfile.is_none()
        && !matches!(entity.spec.mode, Mode::Status)
        && (!of_unit || !entity.spec.adoption_window.is_zero())
}

/// What is executed when somebody else starts it, while that is waited for.
fn awaited_program(entity: &Entity) -> Option<PathBuf> {
    let recovery = &entity.recovery;
    let missing = match recovery.stage() {
        Stage::Waiting { .. }
        | Stage::RestartWait { .. }
        | Stage::Gated
        | Stage::Queued
        | Stage::Ignore
        | Stage::Stopped
        | Stage::Held { .. } => recovery.current().is_none(),
        Stage::Unknown
        | Stage::Manage
        | Stage::Looking
        | Stage::Yielding { .. }
        | Stage::Stopping { .. }
        | Stage::MonitorWait { .. }
        | Stage::Monitor { .. }
        | Stage::Polling { .. }
        | Stage::StartWait { .. }
        | Stage::Unverifiable
        | Stage::Unmonitored => false,
    };
    if !missing || !is_known_by_likeness(entity) {
        return None;
    }
    entity.instances.traits.as_ref()?.program.clone()
}
