//! A death, from the hint to its status: what it means in every stage.
//!
//! Must stay true: a hint changes nothing but what is shown, except as `early`
//! tells.

use super::{Recovery, Stage, Step};
use crate::core::{
    death::{Death, Hint, WaitStatus},
    effect::Effect,
    identity::Identity,
    notice::Notice,
    time::Time,
};

/// Signals with which init scripts end processes: SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const STOP_SIGNALS: [u8; 4] = [1, 2, 3, 15];

/// Dead processes whose leftovers are remembered: more than one only where
/// successors died within their start window.
const ENDED: usize = 8;

impl Recovery {
    pub(super) fn hinted(&mut self, step: &mut Step<'_>, hint: Hint) {
        if let Some(registered) = &mut self.registered
            && registered.identity == hint.identity
            && !registered.hinted
        {
            registered.hinted = true;
            step.say(Notice::Hinted(hint));
            self.start_early(step, hint);
        }
    }

    pub(super) fn died(&mut self, step: &mut Step<'_>, death: Death) {
        let identity = death.identity;
        if self.released(step, &death) {
            return;
        }
        if self.leaving == Some(identity) {
            // It had gone before it was to be ended, while it was found out whether
            // somebody goes on in its place.
            return self.gone(step, identity);
        }
        if self.registered.is_none_or(|r| r.identity != identity) {
            return;
        }
        self.registered = None;
        self.problem = None;
        self.deaths.push(step.now);
        step.say(Notice::Died(death.clone()));
        self.last_death = Some(death);
        self.has_ended(identity, step.now);
        step.ask(Effect::Unregister { identity });
        if !self.is_held() {
            step.ask(Effect::RemovePidfile { identity });
        }
        match self.stage {
            // Unknown: it died before the daemon restarted.
            Stage::Manage | Stage::Unknown => {
                if !std::mem::replace(&mut self.failed, true) {
                    self.fell(step);
                }
                self.open_adoption_window(step);
                self.look(step);
            }
            Stage::MonitorWait { .. } => {}
            Stage::Monitor { .. } => {
                let reason = format!("({}) died while being monitored", identity.pid);
                self.attempt_failed(step, reason);
            }
            Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::RestartWait { .. }
            | Stage::Queued
            | Stage::Unverifiable => self.look(step),
            Stage::Held { .. } => self.died_while_held(identity),
            Stage::Stopping { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Unmonitored => {}
        }
    }

    /// Only the story becomes more complete; what is done was decided at the death.
    pub(super) fn status_known(
        &mut self,
        step: &mut Step<'_>,
        identity: Identity,
        generation: u64,
        status: WaitStatus,
    ) {
        if let Some(death) = &mut self.last_death
            && death.generation == generation
        {
            // Two may come to know it: who reaps, and who waits for that.
            if death.status.is_some() {
                return;
            }
            death.status = Some(status);
        }
        step.say(Notice::StatusKnown {
            identity,
            generation,
            status,
        });
    }

    /// Whether this step brought a death that no init script causes, so that
    /// no time need be spent on looking for one.
    pub(super) fn crashed_just_now(&self, step: &Step<'_>) -> bool {
        step.effects.iter().any(|effect| match effect {
            Effect::Say(Notice::Died(death)) => death
                .status
                .and_then(WaitStatus::signal)
                .is_some_and(|signal| !STOP_SIGNALS.contains(&signal)),
            Effect::Look { .. }
            | Effect::Register { .. }
            | Effect::Unregister { .. }
            | Effect::Release { .. }
            | Effect::RemovePidfile { .. }
            | Effect::Signal { .. }
            | Effect::EndLeftovers { .. }
            | Effect::Start { .. }
            | Effect::StopUnit
            | Effect::RunScript { .. }
            | Effect::CancelStart
            | Effect::RequestPulse { .. }
            | Effect::CollectPulse { .. }
            | Effect::AskGate
            | Effect::AskTurn
            | Effect::ReturnTurn
            | Effect::Fell
            | Effect::Alarm(_)
            | Effect::FlappingAlarm(_)
            | Effect::Say(_) => false,
        })
    }

    pub(super) fn has_ended(&mut self, identity: Identity, now: Time) {
        self.ended = Some(identity);
        if self.leftovers_of.len() == ENDED {
            self.leftovers_of.pop_front();
        }
        self.leftovers_of.push_back((identity, now));
    }
}
