//! That somebody has stopped an entity's unit, as it is remembered.
//!
//! Must stay true: it is forgotten as soon as the entity is no longer down for
//! that reason, and before that it is on record, so that the next daemon does not
//! fight a stop of which it has not heard.

use super::entity::Entity;
use crate::core::recovery::Stage;

impl Entity {
    /// Forgets a stop that is over.
    pub(super) fn forget_ended_unit_stop(&mut self) {
        match self.recovery.stage() {
            Stage::Stopped | Stage::Held { .. } => {}
            // Nobody has looked yet, or the look is being told.
            Stage::Unknown | Stage::Looking => {}
            Stage::Manage
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Unverifiable
            | Stage::Unmonitored => self.unit_stop = None,
        }
    }
}
