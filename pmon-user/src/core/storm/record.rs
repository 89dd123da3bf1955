//! Where an entity stands in its restart storm, as it outlives the daemon: one
//! that fails again and again gets no fresh start because pmon has one.
//!
//! Times are those of one boot of the host; another boot is a fresh start. Must
//! stay true: what a later version adds is optional.

use serde::{Deserialize, Serialize};

use super::{flapping::Flapping, intensity::Intensity, reminder::Reminder};
use crate::core::time::Time;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StormRecord {
    /// Attempts of the cycle that is under way.
    pub attempts: u32,
    /// Pauses of the back-off since it began anew.
    pub steps: u32,
    /// When the next attempt is due, while one is waited for.
    pub next_attempt: Option<Time>,
    /// Whether that pause is one of the back-off's.
    pub backs_off: bool,
    /// Its latest automatic attempts.
    pub intensity: Intensity,
    /// Its falls from health.
    pub flapping: Flapping,
    /// Since when it has been well, if it is.
    pub well_since: Option<Time>,
    /// When it is told again that its minor alarm is raised.
    pub minor: Option<Reminder>,
}

impl StormRecord {
    /// Whether nothing has gone wrong of late, so that there is nothing to remember.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let Self {
            attempts,
            steps,
            next_attempt,
            // Says when others are over.
            backs_off: _,
            intensity,
            flapping,
            well_since: _,
            minor,
        } = self;
        *attempts == 0
            && *steps == 0
            && next_attempt.is_none()
            && intensity.last().is_none()
            && flapping.last_fall().is_none()
            && flapping.since().is_none()
            && minor.is_none()
    }
}
