//! One entity inside the engine: its configuration, its recovery, its incidents.

use std::sync::Arc;

use super::message::Memory;
use crate::{
    core::{
        entity::EntitySpec, event::Occasion, incident::Incidents, recovery::{Recovery, Stage},
        time::Time,
    },
    look::{LookRequest, Remembered},
};

/// Everything the engine holds of one entity.
pub struct Entity {
    /// Configuration.
    pub spec: Arc<EntitySpec>,
    /// State machine.
    pub recovery: Recovery,
    /// Incidents.
    pub incidents: Incidents,
    /// The last process that was registered, with its pidfile as it was then.
    pub known: Option<Remembered>,
    /// Why only the pidfd watches the process, when that is so.
    pub pidfd_only: Option<String>,
    /// The deadline that is in the engine's schedule.
    pub scheduled: Option<Time>,
    /// The last thing an executor could not do for it.
    pub last_trouble: Option<String>,
    /// What was last given away to be remembered.
    pub remembered: Option<Memory>,
}

impl Entity {
    /// A newly configured one.
    #[must_use]
    pub const fn new(spec: Arc<EntitySpec>, recovery: Recovery, known: Option<Remembered>) -> Self {
        Self {
            spec,
            recovery,
            incidents: Incidents::new(),
            known,
            pidfd_only: None,
            scheduled: None,
            last_trouble: None,
            remembered: None,
        }
    }

    /// What to look for.
    #[must_use]
    pub fn look_request(&self, occasion: Occasion, foreign_script: bool) -> LookRequest {
        LookRequest {
            spec: Arc::clone(&self.spec),
            known: self.known,
            occasion,
            check_foreign_script: foreign_script,
            own_scripts: Arc::default(),
        }
    }

    /// What is to survive the daemon.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            known: self.known,
            stopped: *self.recovery.stage() == Stage::Stopped,
        }
    }
}
