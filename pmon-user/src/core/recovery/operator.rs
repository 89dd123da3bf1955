//! What operators ask for, and how a live process is ended.
//!
//! An operator's request always takes effect at once, whatever the recovery
//! was doing, and is never limited by earlier failures.

use std::time::Duration;

use super::{AfterStop, Recovery, Stage, StartCommand, Step};
use crate::core::{
    effect::Effect,
    entity::{StartMethod, StopPolicy},
    event::{OperatorAction, OperatorRequest, StartEnd},
    identity::Identity,
    notice::Notice,
};

/// SIGKILL of signal(7).
const SIGKILL: i32 = 9;
/// A killed process that is still there after this long is in state D or
/// stopped in the kernel; people are told.
pub(super) const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);
/// systemd's own `DefaultTimeoutStopSec` is 90 s; past that and a margin we kill.
const UNIT_STOP_TIMEOUT: Duration = Duration::from_secs(100);

impl Recovery {
    pub(super) fn operator(&mut self, step: &mut Step<'_>, request: OperatorRequest) {
        let action = request.action;
        step.say(Notice::Operator(request));
        if self.stage == Stage::Unmonitored {
            return;
        }
        match action {
            OperatorAction::Hold { lasts } => self.operator_hold(step, lasts),
            OperatorAction::Resume => self.operator_resume(step),
            // Who asks is told so.
            OperatorAction::Start
            | OperatorAction::Restart
            | OperatorAction::Stop
            | OperatorAction::StopFor { .. }
                if self.is_held() => {}
            OperatorAction::Start => self.operator_start(step),
            OperatorAction::Restart => self.operator_restart(step),
            OperatorAction::Stop => self.operator_stop(step, None),
            OperatorAction::StopFor { lasts } => self.operator_stop(step, Some(lasts)),
        }
    }

    fn operator_start(&mut self, step: &mut Step<'_>) {
        if let Some(AfterStop::StayDown) = self.gates.end_once_seen {
            // It was to be stopped as soon as it was seen.
            self.gates.end_once_seen = None;
            self.manual = true;
            return;
        }
        self.storm.paused_until = None;
        match &mut self.stage {
            Stage::Stopping { then, .. } => {
                *then = AfterStop::Respawn;
                self.manual = true;
            }
            Stage::Ignore
            | Stage::Stopped
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Unverifiable => {
                // What is started from nothing has to stay alive to count as up
                // (spec/pmond.md §6.2).
                self.failed |= self.stage == Stage::Stopped;
                self.manual = true;
                self.attempts = 0;
                self.forget_attempts();
                self.look(step);
            }
            Stage::Unknown
            | Stage::Manage
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::Held { .. }
            | Stage::Unmonitored => {}
        }
    }

    fn operator_restart(&mut self, step: &mut Step<'_>) {
        if self.manual {
            // Already on its way; a second request changes nothing.
            return;
        }
        self.manual = true;
        self.attempts = 0;
        self.forget_attempts();
        if self.is_coming_up() {
            // It would come up beside another one.
            return;
        }
        self.cancel_start(step);
        self.end_what_lives(step, AfterStop::Respawn);
    }

    /// The start command has ended well, and its process still has time to be
    /// seen.
    fn is_coming_up(&self) -> bool {
        matches!(self.stage, Stage::MonitorWait { .. })
            && self.registered.is_none()
            && matches!(
                self.start,
                StartCommand::Ended(StartEnd::Exited { code: 0, .. } | StartEnd::Untold)
            )
    }

    /// Stops it for good, or for some time.
    fn operator_stop(&mut self, step: &mut Step<'_>, lasts: Option<Duration>) {
        self.returns_at = lasts.map(|lasts| step.now + lasts);
        self.manual = false;
        self.cycled = false;
        if matches!(self.stage, Stage::MonitorWait { .. }) {
            self.cancelled = Some(step.now);
        }
        self.cancel_start(step);
        self.end_what_lives(step, AfterStop::StayDown);
    }

    /// Ends the process, if there is one, and then goes on.
    pub(super) fn end_what_lives(&mut self, step: &mut Step<'_>, next: AfterStop) {
        if self.look_before_ending(step, next) {
            return;
        }
        if let Some(registered) = self.registered {
            self.end(step, registered.identity, next);
        } else if let Stage::Stopping { then, .. } = &mut self.stage {
            *then = next;
        } else {
            self.stopped(step, next);
        }
    }

    pub(super) fn cancel_start(&mut self, step: &mut Step<'_>) {
        if self.start == StartCommand::Running {
            step.ask(Effect::CancelStart);
        }
        self.start = StartCommand::None;
    }

    /// Ends a live process, in the one order that is safe.
    pub(super) fn end(&mut self, step: &mut Step<'_>, identity: Identity, then: AfterStop) {
        self.registered = None;
        self.leaving = Some(identity);
        step.ask(Effect::Unregister { identity });
        step.say(Notice::Unregistered(identity));
        let unit = matches!(step.spec.start, StartMethod::Unit { .. });
        let (due, killed) = match step.spec.stop {
            StopPolicy::Graceful { .. } if unit => {
                // systemd knows how to end its units, and must not be surprised.
                step.ask(Effect::StopUnit);
                (step.now + UNIT_STOP_TIMEOUT, false)
            }
            StopPolicy::Graceful { signal, timeout } => {
                self.signal(step, identity, signal);
                (step.now + timeout, signal == SIGKILL)
            }
            StopPolicy::KillFirst => {
                self.signal(step, identity, SIGKILL);
                (step.now + UNKILLABLE_AFTER, true)
            }
        };
        self.enter(step, Stage::Stopping { then, due, killed });
    }

    fn signal(&self, step: &mut Step<'_>, identity: Identity, signal: i32) {
        step.ask(Effect::RemovePidfile { identity });
        step.ask(Effect::Signal { identity, signal });
        step.say(Notice::Signalled { identity, signal });
    }

    /// It has not gone in time.
    pub(super) fn stop_overdue(&mut self, step: &mut Step<'_>, then: AfterStop, killed: bool) {
        let Some(identity) = self.leaving else {
            return self.stopped(step, then);
        };
        if killed {
            self.problem = Some(format!("({}) does not die of SIGKILL", identity.pid));
            step.say(Notice::Unkillable(identity));
            self.assert_alarm(step);
        } else {
            self.signal(step, identity, SIGKILL);
        }
        let due = step.now + UNKILLABLE_AFTER;
        self.stage = Stage::Stopping {
            then,
            due,
            killed: true,
        };
    }

    /// A process that was being ended is gone.
    pub(super) fn gone(&mut self, step: &mut Step<'_>, identity: Identity) {
        if self.leaving != Some(identity) {
            return;
        }
        self.leaving = None;
        self.has_ended(identity, step.now);
        if let Stage::Stopping { then, .. } = self.stage {
            self.stopped(step, then);
        }
    }

    pub(super) fn stopped(&mut self, step: &mut Step<'_>, then: AfterStop) {
        match then {
            // Its own end may have brought up a successor; look first.
            AfterStop::Respawn => self.look(step),
            AfterStop::StayDown => self.stay_down(step),
        }
    }

    pub(super) fn stay_down(&mut self, step: &mut Step<'_>) {
        self.rest_down(step, Notice::Stopped);
    }

    /// It is down because somebody wants that: nothing is wrong with it.
    pub(super) fn rest_down(&mut self, step: &mut Step<'_>, told: Notice) {
        self.failed = false;
        self.judged = false;
        self.attempts = 0;
        self.problem = None;
        self.forget_attempts();
        self.end_flapping(step);
        self.clear_alarm(step);
        self.forgive(step);
        step.say(told);
        self.enter(step, Stage::Stopped);
    }
}
