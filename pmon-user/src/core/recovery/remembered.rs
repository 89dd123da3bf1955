//! What of an entity's restart storm outlives the daemon, and how the next one goes
//! on with it.
//!
//! Must stay true: attempts, back-off, intensity and flapping count on as if there
//! had been one daemon, and the pause that was under way goes on; what an operator
//! asks for ends that pause like any other.

use super::{Recovery, Stage, Step};
use crate::core::{
    entity::EntitySpec,
    storm::{record::StormRecord, reminder::Reminder},
    time::Time,
};

/// What in a [`StormRecord`] changes with every change of it, cheap to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StormMark {
    attempts: u32,
    steps: u32,
    next_attempt: Option<Time>,
    last_attempt: Option<Time>,
    last_fall: Option<Time>,
    flapping_since: Option<Time>,
    flapping_due: Option<Time>,
    well_since: Option<Time>,
    minor: Option<Reminder>,
}

impl Recovery {
    /// What is to be remembered; none where all has been calm of late.
    #[must_use]
    pub fn storm_record(&self) -> Option<StormRecord> {
        let storm = &self.storm;
        let record = StormRecord {
            attempts: self.attempts,
            steps: storm.backoff.steps(),
            next_attempt: self.next_attempt(),
            backs_off: storm.backs_off,
            intensity: storm.intensity.clone(),
            flapping: storm.flapping.clone(),
            well_since: storm.well_since,
            minor: storm.minor,
        };
        (!record.is_calm()).then_some(record)
    }

    /// Another one than before: there is something new to remember.
    #[must_use]
    pub fn storm_mark(&self) -> StormMark {
        let storm = &self.storm;
        StormMark {
            attempts: self.attempts,
            steps: storm.backoff.steps(),
            next_attempt: self.next_attempt(),
            last_attempt: storm.intensity.last(),
            last_fall: storm.flapping.last_fall(),
            flapping_since: storm.flapping.since(),
            flapping_due: storm.flapping.deadline(),
            well_since: storm.well_since,
            minor: storm.minor,
        }
    }

    fn next_attempt(&self) -> Option<Time> {
        match self.stage {
            Stage::RestartWait { until } => Some(until),
            // Nobody has looked yet.
            Stage::Unknown => self.storm.paused_until,
            _ => self.status.restraint(),
        }
    }

    /// Goes on where an earlier daemon stood, in the same boot of the host.
    pub fn resume_storm(&mut self, spec: &EntitySpec, record: StormRecord) {
        let StormRecord {
            attempts,
            steps,
            next_attempt,
            backs_off,
            intensity,
            flapping,
            well_since,
            minor,
        } = record;
        self.attempts = attempts;
        self.storm.backoff = self.storm.backoff.resumed(steps);
        self.storm.backs_off = backs_off && next_attempt.is_some();
        match (&spec.status, next_attempt) {
            (Some(_), Some(until)) => self.status.resume_restraint(until),
            (Some(_) | None, next_attempt) => self.storm.paused_until = next_attempt,
        }
        self.storm.intensity = intensity;
        self.storm.well_since = well_since;
        self.storm.minor = minor;
        // No policy, no flapping.
        if spec.storm.flapping.is_some() {
            self.storm.flapping = flapping;
        }
    }

    /// Nothing was seen by the first look, and an earlier daemon's pause before the
    /// next attempt is not over.
    pub(super) fn pauses_still(&mut self, step: &Step<'_>) -> bool {
        let Some(until) = self.storm.paused_until.take() else {
            return false;
        };
        if self.stage != Stage::Unknown || self.manual || until <= step.now {
            self.storm.backs_off = false;
            return false;
        }
        self.failed = true;
        self.enter(step, Stage::RestartWait { until });
        true
    }
}
