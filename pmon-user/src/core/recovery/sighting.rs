//! What a look at the world means in each stage: adoption of processes that
//! somebody else started, and registration.

use std::time::Duration;

use super::adoption::next_look as next_look_for_successor;
use super::{AfterStop, Phase, Recovery, Registered, Stage, Step};
use crate::core::{
    death::Death,
    effect::Effect,
    event::{Occasion, Outcome, Sighting},
    identity::Identity,
    notice::Notice,
    time::Time,
    unit::UnitReport,
};

/// While a foreign init script is at work, we look again this often.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a cancelled start command may still fork before it is killed.
const CANCELLED_START: Duration = Duration::from_millis(50);

impl Recovery {
    pub(super) fn seen(&mut self, step: &mut Step<'_>, sighting: Sighting) {
        let Sighting {
            occasion,
            outcome,
            foreign_script,
            unit,
        } = sighting;
        let early = matches!(occasion, Occasion::PidfileStirred | Occasion::Executed);
        if early && !matches!(outcome, Outcome::Process(_)) {
            return;
        }
        match outcome {
            // Seen alive by a look that was overtaken by its end.
            Outcome::Process(identity)
                if self.ended == Some(identity) || self.releasing == Some(identity) =>
            {
                let reason = format!("({}) has ended since", identity.pid);
                self.seen_nothing(step, occasion, reason, foreign_script, unit);
            }
            Outcome::Process(identity) => self.seen_process(step, identity),
            Outcome::Nothing { reason } => {
                self.seen_nothing(step, occasion, reason, foreign_script, unit);
            }
            Outcome::Unverifiable { reason } => self.seen_unverifiable(step, occasion, reason),
        }
    }

    fn seen_process(&mut self, step: &mut Step<'_>, identity: Identity) {
        if self.leaving == Some(identity) {
            // It has been signalled and its pidfile was written once more, or
            // the look was made before.
            return;
        }
        match self.registered {
            Some(registered) if registered.identity == identity => {
                if let Stage::MonitorWait {
                    phase: Phase::Verdict,
                    ..
                } = self.stage
                {
                    self.attempt_succeeded(step, identity);
                }
                return;
            }
            Some(registered) => return self.pid_changed(step, registered.identity, identity),
            None => {}
        }
        if let Some(then) = self.gates.end_once_seen.take() {
            self.register(step, identity);
            return self.end(step, identity, then);
        }
        match self.stage {
            // The daemon restarted in the middle of a recovery.
            Stage::Unknown if self.failed => {
                self.successor(step, identity, false);
                self.monitor(step, identity);
            }
            // It was not there before, or its end was on purpose.
            Stage::Gated if self.failed => {
                self.successor(step, identity, true);
                self.monitor(step, identity);
            }
            // The same, as far as the alarm tells.
            Stage::Unknown | Stage::Gated if self.alarm().is_some() && step.spec.recovers() => {
                self.failed = true;
                self.successor(step, identity, false);
                self.monitor(step, identity);
            }
            Stage::Unknown | Stage::Gated if self.alarm().is_some() => {
                self.successor(step, identity, true);
                self.finish(step, identity);
            }
            Stage::Unknown | Stage::Gated => {
                self.problem = None;
                self.enter(step, Stage::Manage);
                self.register(step, identity);
            }
            Stage::MonitorWait { phase, .. } => {
                self.successor(step, identity, false);
                if phase == Phase::Verdict {
                    self.attempt_succeeded(step, identity);
                }
            }
            Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::RestartWait { .. }
            | Stage::Queued => {
                self.successor(step, identity, true);
                self.monitor(step, identity);
            }
            Stage::Stopped if self.was_under_way(identity) => {
                self.register(step, identity);
                self.end(step, identity, AfterStop::StayDown);
            }
            Stage::Unverifiable if self.unwatched == Some(identity) => {
                self.register(step, identity);
            }
            Stage::Ignore | Stage::Stopped | Stage::Unverifiable => {
                self.successor(step, identity, true);
                self.finish(step, identity);
            }
            Stage::Manage | Stage::Monitor { .. } => self.successor(step, identity, true),
            Stage::Held { .. } => self.seen_while_held(step, identity),
            // Whatever it is, it is dealt with when the old one is gone.
            Stage::Stopping { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Unmonitored => {}
        }
    }

    /// Whether a process that appears after an operator's stop was started before
    /// it: by a start command that the stop has cancelled, and not by somebody
    /// who wants it up again.
    fn was_under_way(&self, identity: Identity) -> bool {
        let started = Time::from_start_ticks(identity.start_time);
        self.cancelled
            .is_some_and(|cancelled| started < cancelled + CANCELLED_START)
    }

    fn pid_changed(&mut self, step: &mut Step<'_>, old: Identity, new: Identity) {
        if matches!(self.stage, Stage::Stopping { .. } | Stage::Unmonitored) {
            return;
        }
        step.say(Notice::PidChanged { old, new });
        step.ask(Effect::Unregister { identity: old });
        step.ask(Effect::Release { identity: old });
        self.registered = None;
        if !matches!(self.stage, Stage::MonitorWait { .. }) {
            self.starts.external += 1;
        }
        self.register(step, new);
        if let Stage::MonitorWait {
            phase: Phase::Verdict,
            ..
        } = self.stage
        {
            self.attempt_succeeded(step, new);
        }
    }

    fn seen_nothing(
        &mut self,
        step: &mut Step<'_>,
        occasion: Occasion,
        reason: String,
        foreign_script: Option<u32>,
        unit: Option<UnitReport>,
    ) {
        if self.registered.is_some() {
            // The table is the truth; the audit counts the discrepancy.
            return;
        }
        match self.stage {
            Stage::Unknown | Stage::Looking | Stage::Waiting { .. } | Stage::Yielding { .. }
                if occasion == Occasion::Asked && self.releasing.is_none() =>
            {
                if self.heeds(step, unit) {
                    return;
                }
                if let Some(script) = foreign_script {
                    return self.wait_for(step, script);
                }
                if self.waits_for_what_it_started(step) || self.awaits_successor(step) {
                    return;
                }
                if self.gates.end_once_seen == Some(AfterStop::StayDown) {
                    return self.stay_down(step);
                }
                if self.pauses_still(step) || !self.admitted(step) {
                    return;
                }
                if !self.failed {
                    step.say(Notice::Missing {
                        reason: reason.clone(),
                    });
                }
                // After a death its cause says more than a missing pidfile.
                if self.last_death.is_none() {
                    self.problem = Some(format!("not running: {reason}"));
                }
                self.decide(step);
            }
            Stage::MonitorWait {
                phase: Phase::Verdict,
                ..
            } if occasion == Occasion::Asked => {
                if !self.heeds(step, unit) {
                    self.verdict_nothing(step, &reason);
                }
            }
            Stage::Unverifiable => {
                self.problem = Some(format!("not running: {reason}"));
                self.look(step);
            }
            Stage::Manage => {
                // The sweep found what no source reported.
                if !std::mem::replace(&mut self.failed, true) {
                    self.fell(step);
                }
                step.say(Notice::Missing { reason });
                self.look(step);
            }
            Stage::Held { .. } => self.nothing_seen_while_held(step, reason),
            Stage::Unknown
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Queued
            | Stage::Stopping { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Unmonitored => {}
        }
    }

    fn seen_unverifiable(&mut self, step: &mut Step<'_>, occasion: Occasion, reason: String) {
        if self.registered.is_some() {
            return;
        }
        match self.stage {
            Stage::Unknown
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Gated
            | Stage::Yielding { .. }
            | Stage::Manage => {
                self.problem = Some(reason.clone());
                step.say(Notice::Unverifiable { reason });
                self.enter(step, Stage::Unverifiable);
            }
            Stage::MonitorWait {
                phase: Phase::Verdict,
                ..
            } if occasion == Occasion::Asked => {
                self.verdict_nothing(step, &reason);
            }
            Stage::Unverifiable => self.problem = Some(reason),
            Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Queued
            | Stage::Stopping { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Held { .. }
            | Stage::Unmonitored => {}
        }
    }

    fn wait_for(&mut self, step: &mut Step<'_>, script: u32) {
        if self.gates.admitted && self.gates.waited_out == Some(script) {
            return self.decide(step);
        }
        let until = if let Stage::Waiting {
            script: Some(_),
            until,
            ..
        } = self.stage
        {
            until
        } else {
            step.say(Notice::Waiting { script });
            self.problem = Some(format!("init script ({script}) is at work"));
            step.now + step.spec.start_timeout
        };
        if step.now >= until {
            self.gates.waited_out = Some(script);
            if self.admitted(step) {
                self.decide(step);
            }
            return;
        }
        let next_look = step.now + LOOK_AGAIN;
        self.enter(
            step,
            Stage::Waiting {
                script: Some(script),
                next_look,
                until,
                ended: None,
            },
        );
    }

    /// The script that was waited for has ended: whether what it may have
    /// started still has time.
    fn waits_for_what_it_started(&mut self, step: &Step<'_>) -> bool {
        let Stage::Waiting {
            script: Some(script),
            ref mut next_look,
            ref mut ended,
            ..
        } = self.stage
        else {
            return false;
        };
        let ends = *ended.get_or_insert(step.now + step.spec.startuptime);
        *next_look = ends.min(step.now + LOOK_AGAIN);
        self.problem = Some(format!("init script ({script}) has ended; no process yet"));
        step.now < ends
    }

    pub(super) fn look_again(&mut self, step: &mut Step<'_>) {
        if let Stage::Yielding { next_look, .. } = &mut self.stage {
            *next_look = step.now + LOOK_AGAIN;
        }
        if let Stage::Waiting {
            script,
            next_look,
            until,
            ..
        } = &mut self.stage
        {
            *next_look = match script {
                Some(_) => step.now + LOOK_AGAIN,
                // Past the end of the window the look's answer decides.
                None if step.now >= *until => step.now + LOOK_AGAIN,
                None => next_look_for_successor(step.spec, step.now, *until),
            };
        }
        step.ask(Effect::Look {
            foreign_script: true,
        });
    }

    /// A process that takes the entity's place.
    pub(super) fn successor(&mut self, step: &mut Step<'_>, identity: Identity, external: bool) {
        match self.registered {
            // Seen before its start was told of.
            Some(registered) if registered.identity == identity => return,
            // Somebody has started one while ours was being started.
            Some(registered) => return self.pid_changed(step, registered.identity, identity),
            None => {}
        }
        if external {
            self.starts.external += 1;
        }
        step.say(Notice::Successor { identity, external });
        self.register(step, identity);
    }

    /// The entity lives on in a child: neither a death nor a restart.
    pub(super) fn followed(&mut self, step: &mut Step<'_>, death: &Death, child: Identity) {
        let old = death.identity;
        if let Stage::Stopping { then, .. } = self.stage
            && self.leaving == Some(old)
        {
            // It left while it was to be ended; that goes for the child as well.
            self.has_ended(old, step.now);
            step.say(Notice::Followed { old, new: child });
            self.register(step, child);
            return self.end(step, child, then);
        }
        if self.registered.is_none_or(|r| r.identity != old) {
            return;
        }
        self.has_ended(old, step.now);
        step.say(Notice::Followed { old, new: child });
        self.register(step, child);
        // While there was no daemon, or just after.
        match self.stage {
            Stage::Unknown if self.failed => self.monitor(step, child),
            Stage::Unknown => self.enter(step, Stage::Manage),
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
            | Stage::Held { .. }
            | Stage::Unverifiable
            | Stage::Unmonitored => {}
        }
    }

    pub(super) fn register(&mut self, step: &mut Step<'_>, identity: Identity) {
        self.registered = Some(Registered {
            identity,
            generation: None,
            hinted: false,
        });
        step.ask(Effect::Register { identity });
    }

    pub(super) fn registered(&mut self, step: &mut Step<'_>, identity: Identity, generation: u64) {
        if let Some(registered) = &mut self.registered
            && registered.identity == identity
        {
            registered.generation = Some(generation);
            let was_unwatched = self.unwatched.take() == Some(identity);
            if was_unwatched && self.stage == Stage::Unverifiable {
                step.say(Notice::Registered(identity));
                return self.finish(step, identity);
            }
            if self.stage == Stage::Manage && !self.failed {
                self.problem = None;
            }
            step.say(Notice::Registered(identity));
        }
    }

    /// It lives and is not registered: neither up nor down.
    pub(super) fn unwatchable(&mut self, step: &mut Step<'_>, identity: Identity, reason: &str) {
        if self.leaving == Some(identity) {
            return self.out_of_sight(step);
        }
        if self.registered.is_none_or(|r| r.identity != identity) {
            return;
        }
        self.registered = None;
        if self.unwatched.replace(identity) != Some(identity) {
            let reason = reason.to_owned();
            step.say(Notice::NotRegistered { identity, reason });
        }
        self.problem = Some(format!("not registered: {reason}"));
        self.manual = false;
        if self.stage != Stage::Unverifiable && !self.is_held() {
            self.enter(step, Stage::Unverifiable);
        }
    }

    /// A process that was to be ended at once could not even be registered:
    /// nobody would tell of its end. Later looks show what becomes of it.
    fn out_of_sight(&mut self, step: &mut Step<'_>) {
        self.leaving = None;
        if let Stage::Stopping { then, .. } = self.stage {
            self.stopped(step, then);
        }
    }

    /// It died before it could be registered.
    pub(super) fn register_failed(
        &mut self,
        step: &mut Step<'_>,
        identity: Identity,
        reason: String,
    ) {
        if self.leaving == Some(identity) {
            return self.out_of_sight(step);
        }
        if self.registered.is_none_or(|r| r.identity != identity) {
            return;
        }
        self.registered = None;
        step.say(Notice::NotRegistered {
            identity,
            reason: reason.clone(),
        });
        match self.stage {
            Stage::Monitor { .. } => self.attempt_failed(step, reason),
            Stage::Manage => {
                if !std::mem::replace(&mut self.failed, true) {
                    self.fell(step);
                }
                self.look(step);
            }
            Stage::Held { .. } => self.failed = true,
            Stage::Unknown
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::RestartWait { .. }
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Unverifiable
            | Stage::Unmonitored => {}
        }
    }
}
