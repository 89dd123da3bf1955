//! Active monitoring within the recovery (spec/pmond.md §4.4): who is asked and
//! when, and what follows from an answer or from its absence.
//!
//! Must stay true: only a process that rests in *Manage*, registered, is asked;
//! a process that does not answer is ended in the order of every kill, and what
//! follows is the recovery after a death; what was counted and raised stays so
//! until answers, not mere existence, have made it good. (FIX of
//! spec/pmond.md §4.4: the original forgot its failed attempts as soon as the
//! process existed, and restarted one that never answers for ever, without an
//! alarm.)

use super::{AfterStop, Recovery, Stage, Step};
use crate::core::{
    effect::Effect,
    entity::ActiveSpec,
    identity::Identity,
    notice::Notice,
    pulse::{Outcome, Pulse, PulseEvent},
    time::Time,
};

impl Recovery {
    /// After every step: whoever rests in *Manage* is asked, and nobody else.
    pub(super) fn attend_pulse(&mut self, step: &mut Step<'_>) {
        let to_ask = self
            .registered
            .filter(|registered| self.stage == Stage::Manage && registered.generation.is_some());
        match (&step.spec.active, to_ask) {
            (Some(active), Some(registered)) => {
                if self.pulse.process() != Some(registered.identity) {
                    let outcomes = self.pulse.begin(active, registered.identity, self.failed);
                    self.follow_pulse(step, outcomes);
                }
            }
            (None, _) | (_, None) => {
                if self.pulse.is_asking() {
                    self.pulse.rest();
                }
            }
        }
    }

    pub(super) fn pulse_event(&mut self, step: &mut Step<'_>, event: PulseEvent) {
        if let Some(active) = &step.spec.active {
            let outcomes = self.pulse.step(active, event, step.now);
            self.follow_pulse(step, outcomes);
        }
    }

    pub(super) fn pulse_tick(&mut self, step: &mut Step<'_>) {
        let outcomes = self.pulse.tick(step.now);
        self.follow_pulse(step, outcomes);
    }

    fn follow_pulse(&mut self, step: &mut Step<'_>, outcomes: Vec<Outcome>) {
        let Some(registered) = self.registered else {
            return;
        };
        let identity = registered.identity;
        for outcome in outcomes {
            match outcome {
                Outcome::Request { round, sequence } => {
                    step.ask(Effect::RequestPulse { round, sequence });
                }
                Outcome::Collect { round } => step.ask(Effect::CollectPulse { round }),
                // Of one that is left alone everything has been said.
                Outcome::Missed { .. } if self.failed && !step.spec.recovers() => {}
                Outcome::Missed { misses, why } => step.say(Notice::PulseMissed {
                    identity,
                    misses,
                    why,
                }),
                Outcome::Failed { misses } => self.unanswered(step, identity, misses),
                Outcome::Good => self.recovered(step, identity),
            }
        }
    }

    /// It lives and does not answer.
    pub(super) fn unanswered(&mut self, step: &mut Step<'_>, identity: Identity, misses: u32) {
        if !self.admitted_to_end(step, identity, misses) {
            return;
        }
        let again = std::mem::replace(&mut self.failed, true);
        if !again {
            self.fell(step);
        }
        if again && !step.spec.recovers() {
            // It still does not; everything has been said.
            return self.assert_alarm(step);
        }
        let what = format!("({}) missed {misses} requests in a row", identity.pid);
        step.say(Notice::Unanswered { identity, misses });
        if let Some(reason) = self.judge(step) {
            // Nobody would start another one, so that this one is the best there
            // is. It may come round.
            self.problem = Some(format!("{what}; no automatic recovery: {reason}"));
            // While the gates were asked it was not known for failed.
            self.pulse.rest();
            return;
        }
        self.judged = true;
        self.problem = Some(what);
        self.silenced = Some((identity, step.now));
        self.end(step, identity, AfterStop::Respawn);
    }

    /// The process exists again; now it must answer.
    pub(super) fn await_answers(
        &mut self,
        step: &mut Step<'_>,
        identity: Identity,
        active: &ActiveSpec,
    ) {
        let wanted = Pulse::answers_wanted(active);
        step.say(Notice::AwaitingAnswers { identity, wanted });
        self.problem = Some(format!("({}) has to answer requests", identity.pid));
        self.failed = true;
        self.manual = false;
        self.judged = false;
        self.leftovers_of.clear();
        self.enter(step, Stage::Manage);
    }

    /// An earlier daemon had an answer from that process: its silence is not
    /// forgiven as that of one which may still be coming up. Its misses count anew,
    /// as nobody knows whether requests were lost with the daemon.
    pub const fn recall_answers(&mut self, process: Identity) {
        self.pulse.recall_answers(process);
    }

    /// Whether its process has answered since it was started or last failed.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.pulse.has_answered()
    }

    /// Its last process that was ended because it did not answer, and when that
    /// was decided.
    #[must_use]
    pub const fn silenced(&self) -> Option<(Identity, Time)> {
        self.silenced
    }

    /// Active monitoring, for people.
    #[must_use]
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}
