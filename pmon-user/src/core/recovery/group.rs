//! The entity among others: how it stands for them, and its restart because one of
//! its group has failed.
//!
//! Must stay true: being restarted for others is no failure of its own. It uses
//! up no attempt and raises nothing; only if its successor does not come up does
//! its own recovery begin. A live process stands before the host's gates like a dead
//! one: while it waits there it stands for others as if it were being ended.

use super::{AfterStop, Recovery, Stage, Step};
use crate::core::{dependency::Standing, effect::Effect, identity::Identity, notice::Notice};

impl Recovery {
    /// Its group wants it to be ended, and started again when it is its turn.
    pub(super) fn cycle(&mut self, step: &mut Step<'_>, group: String) {
        let Some(registered) = self.registered else {
            // There is no process to end, as in status mode.
            return;
        };
        let identity = registered.identity;
        if !self.is_cyclable(identity) {
            return;
        }
        if !self.gates.guarded {
            return self.end_for_group(step, group);
        }
        self.gates.cycle = Some((identity, group));
        step.ask(Effect::AskGate);
    }

    /// Whether this process can be ended for its group.
    pub(super) fn is_cyclable(&self, identity: Identity) -> bool {
        let rests = match self.stage {
            Stage::Manage | Stage::Monitor { .. } => true,
            // There is nothing to end, or it is being ended, or it is only just
            // being started.
            Stage::Unknown
            | Stage::Looking
            | Stage::Queued
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Held { .. }
            | Stage::Unverifiable
            | Stage::Unmonitored => false,
        };
        // An operator may be restarting it already.
        rests && !self.manual && self.registered.is_some_and(|it| it.identity == identity)
    }

    pub(super) fn end_for_group(&mut self, step: &mut Step<'_>, group: String) {
        step.say(Notice::Cycled { group });
        self.cycled = true;
        self.end_what_lives(step, AfterStop::Respawn);
    }

    /// How it stands for others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if let Some((identity, _)) = &self.gates.cycle
            && self.is_cyclable(*identity)
        {
            return Standing::Ending;
        }
        if self.registered.is_some_and(|registered| registered.hinted) {
            return Standing::UnderWay;
        }
        match self.stage {
            // It does not answer, or its script says that it is not well.
            Stage::Manage if self.failed => Standing::Failing,
            Stage::Manage | Stage::Monitor { .. } => Standing::Up,
            Stage::Unknown
            | Stage::Looking
            | Stage::Queued
            | Stage::Gated
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::MonitorWait { .. } => Standing::UnderWay,
            Stage::Stopping { .. } => Standing::Ending,
            Stage::RestartWait { .. } => Standing::Failing,
            Stage::Held { .. } if self.registered.is_some() => Standing::Up,
            Stage::Ignore | Stage::Stopped | Stage::Held { .. } => Standing::Resting,
            // It may well be there.
            Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Unverifiable
            | Stage::Unmonitored => Standing::Unknown,
        }
    }
}
