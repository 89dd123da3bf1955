//! What must be true when everything has gone well for long: nothing is stuck,
//! lost or doubled, no alarm left behind, and what operators want is so.

use super::{wishes::lasts, world::World};
use crate::core::recovery::{Quorum, Stage};

impl World {
    /// What is wrong, if anything is.
    pub(super) fn check_rest(&self) -> Result<(), String> {
        let wrong = |what: String| Err(format!("at rest, {what}"));
        if self.recovery.alarm().is_some() && self.spec.recovers() {
            return wrong("there is an alarm".to_owned());
        }
        match self.recovery.stage() {
            Stage::Manage if self.spec.status.is_some() => self.check_service(),
            Stage::Manage => self.check_process(),
            // Or its unit was stopped by others, and no process was seen since: one that
            // came and went in between two looks is not known of.
            Stage::Stopped
                if lasts(self.wishes.stop, self.now) || self.rules.is_stopped_elsewhere() =>
            {
                if !self.meddled && !self.processes.is_empty() {
                    return wrong(format!("stopped, and yet {:?} run", self.processes));
                }
                Ok(())
            }
            // Whether that is wanted is checked after every step.
            Stage::Held { .. } => Ok(()),
            Stage::Ignore if !self.spec.recovers() => Ok(()),
            stage @ (Stage::Unknown
            | Stage::Looking
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
            | Stage::Stopped
            | Stage::Unverifiable
            | Stage::Unmonitored) => wrong(format!("it is stuck in {}", stage.as_str())),
        }
    }

    fn check_service(&self) -> Result<(), String> {
        if !self.serves || self.recovery.is_failed() {
            return Err(format!(
                "at rest, the service is up: {}, and held for failed: {}",
                self.serves,
                self.recovery.is_failed()
            ));
        }
        Ok(())
    }

    fn check_process(&self) -> Result<(), String> {
        let wrong = |what: String| Err(format!("at rest, {what}"));
        let Some(registered) = self.recovery.current() else {
            return wrong("managed and not registered".to_owned());
        };
        if registered.generation.is_none() {
            return wrong("registered without a generation".to_owned());
        }
        if !self.processes.contains(&registered.identity) {
            return wrong(format!("{} is dead", registered.identity));
        }
        // Of two that live the other one may have written it last.
        if self.spec.pidfile.is_some() && self.pidfile != Some(registered.identity) && !self.meddled
        {
            return wrong(format!("the pidfile names {:?}", self.pidfile));
        }
        if self.recovery.is_failed() || self.recovery.alarm().is_some() {
            return wrong("healthy and yet failed or with an alarm".to_owned());
        }
        if self.recovery.quorum() != Quorum::Sound {
            return wrong("healthy and yet with a strike".to_owned());
        }
        if !self.meddled && self.processes.len() > 1 {
            return wrong(format!("there are {} processes", self.processes.len()));
        }
        Ok(())
    }
}
