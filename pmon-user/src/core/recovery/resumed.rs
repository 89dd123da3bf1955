//! Going on with a start that an earlier daemon began: its start command was at
//! work, or had just ended, when that daemon did.
//!
//! Must stay true: it is the attempt that it was, so that nothing is started
//! beside it and it is counted once; what it brings up is adopted; its deadline is
//! that of its beginning. The start window begins anew with this daemon, because
//! nobody knows when the command ended, if it has.

use super::{Phase, Recovery, Stage, StartCommand};
use crate::core::{effect::ScriptTask, entity::EntitySpec, identity::Identity, time::Time};

impl Recovery {
    /// `command` was on record as at work when the earlier daemon ended. Number of
    /// the run under which its end is to be told; none where it is of no
    /// consequence, because the entity was stopped or is not to be acted upon.
    pub fn resume_start(&mut self, spec: &EntitySpec, command: Identity, now: Time) -> Option<u64> {
        let began = Time::from_start_ticks(command.start_time);
        if spec.status.is_some() {
            return self.status.resume_start(began);
        }
        match self.stage {
            Stage::Unknown => {
                let ends = now + spec.startuptime;
                let deadline = (began + spec.start_timeout).max(ends);
                let phase = Phase::Window { ends };
                self.stage = Stage::MonitorWait { phase, deadline };
                self.since = now;
                self.problem = Some(format!(
                    "the start command ({}) of an earlier daemon is at work",
                    command.pid
                ));
            }
            // It runs on, and is waited for when the hold is over.
            Stage::Held { .. } => {}
            Stage::Manage
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
            | Stage::Unmonitored => return None,
        }
        self.run += 1;
        self.start = StartCommand::Running;
        Some(self.run)
    }

    /// Whether a start command is at work, or a script that starts the service.
    #[must_use]
    pub fn start_is_at_work(&self) -> bool {
        self.start == StartCommand::Running
            || matches!(self.status.running(), Some((ScriptTask::Start, _)))
    }
}
