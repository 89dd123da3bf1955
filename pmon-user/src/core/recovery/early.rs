//! Early start: the successor is started when the old process can run no code
//! any more, and not only when it has released what it holds.
//!
//! What becomes of the old process, in prose: *registered*, as every process →
//! *releasing*, from the hint on which the successor was started: it has no
//! thread left that would run user code, while its memory, files and sockets may
//! still be held → *gone*, when its pidfd is readable. Only then its death is a
//! fact; it is told with its certificate, and starts nothing, because that has
//! been done.
//!
//! Must stay true: a successor is started early at most once for a death, only
//! for an entity that wants it, and only on a hint of which the kernel side has
//! checked the identity and that the exit was the last thread's. If that attempt
//! fails, the next one waits until the old process is gone; until then the
//! entity does not count as recovered, either. So a process that never lets go,
//! or a hint that was wrong, leads to one early attempt and then to waiting, as
//! without early start.

use super::{Recovery, Stage, Step};
use crate::core::{
    death::{Death, Hint},
    effect::Effect,
    entity::StartMethod,
    identity::Identity,
    notice::Notice,
};

impl Recovery {
    /// The hint has been told: starts the successor at once, if that is wanted
    /// and safe.
    pub(super) fn start_early(&mut self, step: &mut Step<'_>, hint: Hint) {
        let wanted = match &step.spec.start {
            StartMethod::Command(command) => command.early && !command.daemonizes,
            StartMethod::Unit { .. } | StartMethod::Script { .. } | StartMethod::None { .. } => {
                false
            }
        };
        // Who stands before gates has to ask first, and that takes as long.
        let safe = hint.last_thread && self.releasing.is_none() && !self.gates.guarded;
        if !(wanted && safe && self.stage == Stage::Manage && step.spec.recovers()) {
            return;
        }
        let identity = hint.identity;
        self.registered = None;
        self.releasing = Some(identity);
        self.problem = Some(still_holds(identity));
        // A later attempt may have to end what it left behind.
        self.has_ended(identity, step.now);
        // Before the successor writes its own.
        step.ask(Effect::RemovePidfile { identity });
        self.decide(step);
    }

    /// The process whose successor was started early is gone. Whether this was
    /// its death.
    pub(super) fn released(&mut self, step: &mut Step<'_>, death: &Death) -> bool {
        let identity = death.identity;
        if self.releasing != Some(identity) {
            return false;
        }
        self.releasing = None;
        if self.problem.as_deref() == Some(&*still_holds(identity)) {
            self.problem = None;
        }
        self.deaths.push(step.now);
        step.say(Notice::Died(death.clone()));
        self.last_death = Some(death.clone());
        step.ask(Effect::Unregister { identity });
        match self.stage {
            // The attempt failed meanwhile, and the next one waited for this.
            Stage::Looking => self.look(step),
            // The successor may have been stable before.
            Stage::Monitor { stable_at } if step.now >= stable_at => self.stable(step),
            // This death belongs to an incident that has ended.
            Stage::Stopped => step.say(Notice::Stopped),
            Stage::Ignore => {
                let reason = self.problem.clone().unwrap_or_default();
                step.say(Notice::GaveUp { reason });
            }
            Stage::Manage | Stage::Held { .. } if !self.failed => {
                if let Some(registered) = self.registered {
                    step.say(Notice::Recovered(registered.identity));
                }
            }
            Stage::Monitor { .. }
            | Stage::Unknown
            | Stage::Manage
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::Held { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Unverifiable
            | Stage::Unmonitored => {}
        }
        true
    }

    /// The process that a successor was started beside, because it runs no code
    /// any more; its death is not verified yet.
    #[must_use]
    pub const fn releasing(&self) -> Option<Identity> {
        self.releasing
    }
}

fn still_holds(identity: Identity) -> String {
    format!(
        "({}) has ended and not yet released its memory, files and sockets",
        identity.pid
    )
}
