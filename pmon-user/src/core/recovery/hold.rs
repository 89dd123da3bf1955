//! Taken out of recovery by an operator, and back.
//!
//! While an entity is *Held* its process stays registered and its death is told
//! and counted; a process that appears is registered. Must stay true: nothing
//! is started, signalled or removed, and no alarm is raised, until the hold is
//! over, by request or by time. A start command that was at work when the hold
//! began runs on, and so does a stop that had been signalled: both end by
//! themselves.

use std::time::Duration;

use super::{
    AfterHold, AfterStop, Recovery, Stage, StartCommand, Step, operator::UNKILLABLE_AFTER,
};
use crate::core::{
    effect::Effect, entity::EntitySpec, event::StartEnd, identity::Identity, notice::Notice,
    recovery::Phase, time::Time,
};

impl Recovery {
    /// A newly configured entity that was held when the daemon ended; whether an
    /// operator had stopped it before, and when the hold is over.
    #[must_use]
    pub fn new_held(
        spec: &EntitySpec,
        now: Time,
        then: AfterHold,
        until: Option<Time>,
    ) -> (Self, Vec<Effect>) {
        let (mut recovery, effects) = Self::new(spec, now);
        if recovery.stage != Stage::Unmonitored {
            recovery.stage = Stage::Held { then, until };
            recovery.status.rest();
        }
        (recovery, effects)
    }

    /// Whether an operator has taken it out of recovery.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held { .. })
    }

    /// A further hold takes the place of the one before.
    pub(super) fn operator_hold(&mut self, step: &mut Step<'_>, lasts: Option<Duration>) {
        let then = match self.stage {
            Stage::Held { then, .. } => then,
            Stage::Stopped
            | Stage::Stopping {
                then: AfterStop::StayDown,
                ..
            } => AfterHold::StayDown,
            // A stop that waits for the look that shows whether there is a process.
            _ if self.gates.end_once_seen == Some(AfterStop::StayDown) => AfterHold::StayDown,
            // An operator's word ends a deferral, too.
            Stage::Unknown | Stage::Polling { .. } | Stage::StartWait { .. } => AfterHold::Recover,
            Stage::Manage
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping {
                then: AfterStop::Respawn,
                ..
            }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Unverifiable => {
                // Whoever takes its place is a successor.
                self.failed |= self.registered.is_none();
                AfterHold::Recover
            }
            Stage::Unmonitored => return,
        };
        // What follows is a new cycle.
        self.manual = false;
        self.attempts = 0;
        self.judged = false;
        self.clear_alarm(step);
        self.forgive(step);
        step.say(Notice::Held { lasts });
        let until = lasts.map(|lasts| step.now + lasts);
        self.enter(step, Stage::Held { then, until });
    }

    pub(super) fn operator_resume(&mut self, step: &mut Step<'_>) {
        self.end_hold(step, false);
    }

    pub(super) fn hold_expired(&mut self, step: &mut Step<'_>) {
        self.end_hold(step, true);
    }

    fn end_hold(&mut self, step: &mut Step<'_>, expired: bool) {
        let Stage::Held { then, .. } = self.stage else {
            return;
        };
        step.say(Notice::Resumed { expired });
        if step.spec.status.is_some() {
            // The script will tell.
            self.failed = false;
            return self.enter(step, Stage::Manage);
        }
        // Unless somebody has started another one meanwhile.
        if self.leaving.is_some() && self.registered.is_none() {
            let then = match then {
                AfterHold::Recover => AfterStop::Respawn,
                AfterHold::StayDown => AfterStop::StayDown,
            };
            let due = step.now + UNKILLABLE_AFTER;
            let killed = false;
            return self.enter(step, Stage::Stopping { then, due, killed });
        }
        match (self.registered, then) {
            (Some(registered), _) if self.failed => self.monitor(step, registered.identity),
            (Some(_), _) => self.enter(step, Stage::Manage),
            (None, AfterHold::StayDown) => self.enter(step, Stage::Stopped),
            (None, AfterHold::Recover) if self.may_bring_one_up() => {
                // Never a second start beside it.
                let ends = step.now + step.spec.startuptime;
                let deadline = step.now + step.spec.start_timeout.max(step.spec.startuptime);
                let phase = Phase::Window { ends };
                self.enter(step, Stage::MonitorWait { phase, deadline });
            }
            (None, AfterHold::Recover) if self.failed => self.look(step),
            // Nobody has looked yet.
            (None, AfterHold::Recover) => {
                self.enter(step, Stage::Unknown);
                step.ask(Effect::Look {
                    foreign_script: true,
                });
            }
        }
    }

    /// Whether a start from before the hold may still show a process.
    const fn may_bring_one_up(&self) -> bool {
        match &self.start {
            StartCommand::Running => true,
            StartCommand::Ended(end) => {
                matches!(end, StartEnd::Exited { code: 0, .. } | StartEnd::Untold)
            }
            StartCommand::None => false,
        }
    }

    /// A process is there, and none is registered.
    pub(super) fn seen_while_held(&mut self, step: &mut Step<'_>, identity: Identity) {
        let Stage::Held { then, until } = self.stage else {
            return;
        };
        let is_successor = self.failed || then == AfterHold::StayDown;
        if !is_successor || self.unwatched == Some(identity) {
            return self.register(step, identity);
        }
        if self.may_bring_one_up() {
            return self.successor(step, identity, false);
        }
        self.successor(step, identity, true);
        self.stage = Stage::Held {
            then: AfterHold::Recover,
            until,
        };
        // Otherwise that is told when the old one is gone (`early`).
        if std::mem::take(&mut self.failed) && self.releasing.is_none() {
            step.say(Notice::Recovered(identity));
        }
        self.judged = false;
        self.attempts = 0;
        self.problem = None;
        self.leftovers_of.clear();
    }

    /// There is no process, and none is registered.
    pub(super) fn nothing_seen_while_held(&mut self, step: &mut Step<'_>, reason: String) {
        let Stage::Held { then, .. } = self.stage else {
            return;
        };
        if then == AfterHold::Recover && !self.failed {
            self.failed = true;
            self.problem = Some(format!("not running: {reason}"));
            step.say(Notice::Missing { reason });
        }
    }

    /// Its death has been told.
    pub(super) fn died_while_held(&mut self, identity: Identity) {
        self.failed = true;
        if let StartCommand::Ended(_) = self.start {
            // It was what had been started.
            self.start = StartCommand::None;
        }
        self.problem = Some(format!("({}) died while held", identity.pid));
    }
}
