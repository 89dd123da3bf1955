//! Gates within the recovery (`core::gate`): who is asked before anything is
//! done about a failure, and who is not monitored at all for the time being.
//!
//! Must stay true: an operator passes every gate; whoever waits at one does
//! nothing else; and an answer is good for one decision, for the host may begin
//! to shut down at any moment.

use super::{AfterStop, Recovery, Stage, Step};
use crate::core::{
    effect::Effect,
    entity::EntitySpec,
    gate::{Condition, GateEvent, Verdict},
    identity::Identity,
    notice::Notice,
};

/// What an entity knows of the gates before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gates {
    /// There are gates, and they are asked about before every recovery.
    pub(super) guarded: bool,
    /// The look that is under way is followed by a decision that may be carried
    /// out.
    pub(super) admitted: bool,
    /// A live process that has failed, and how often it did not answer; what is
    /// done about it waits for the answer.
    unanswered: Option<(Identity, u32)>,
    /// A live process that its group wants to be ended, and which group; likewise.
    pub(super) cycle: Option<(Identity, String)>,
    /// An operator wants the process ended that the next look may show.
    pub(super) end_once_seen: Option<AfterStop>,
    /// An init script of somebody else's that has been waited for long enough.
    pub(super) waited_out: Option<u32>,
    /// What people were last told.
    told: Option<String>,
}

impl Gates {
    /// The recovery has come to another stage: leave to go on is good for the look
    /// that was made for it, and what an operator wants is so until there was one.
    pub(super) const fn entered(&mut self, stage: &Stage) {
        let looks = matches!(stage, Stage::Looking);
        let waits = matches!(stage, Stage::Waiting { .. });
        if !looks {
            self.admitted = false;
        }
        if !looks && !waits && !matches!(stage, Stage::Yielding { .. }) {
            self.end_once_seen = None;
        }
        if !looks && !waits && !matches!(stage, Stage::Gated) {
            self.waited_out = None;
        }
    }
}

impl Recovery {
    /// A newly configured entity that nobody has looked at is not monitored before
    /// `condition` holds. Whether it is such a one.
    pub fn defer(&mut self, spec: &EntitySpec, condition: Condition) -> bool {
        let fresh = match &spec.status {
            Some(_) => self.stage == Stage::Manage && self.status.counts().asked == 0,
            None => self.stage == Stage::Unknown,
        };
        if !fresh {
            return false;
        }
        self.status.rest();
        let subfunction = spec.subfunction.as_deref().unwrap_or_default();
        self.stage = Stage::Polling { condition };
        self.problem = Some(match condition {
            Condition::Flag(_) => {
                format!("not monitored before the `{subfunction}` part of the host is configured")
            }
            Condition::Never => format!(
                "never monitored: `subfunction = {subfunction}` has no meaning on this host"
            ),
        });
        true
    }

    /// From now on the gates are asked about before every recovery.
    pub const fn guard(&mut self) {
        self.gates.guarded = true;
    }

    /// Whether it is not monitored for the time being: nothing that is seen of
    /// its process is of any consequence.
    #[must_use]
    pub const fn is_deferred(&self) -> bool {
        matches!(self.stage, Stage::Polling { .. } | Stage::StartWait { .. })
    }

    /// Whether the recovery may go on now. If not, the gates are asked about, and
    /// it is gone on with when they open.
    pub(super) fn admitted(&mut self, step: &mut Step<'_>) -> bool {
        if self.is_at_liberty() {
            return true;
        }
        self.gates.told = None;
        self.enter(step, Stage::Gated);
        step.ask(Effect::AskGate);
        false
    }

    /// Whether a recovery needs no leave of the gates.
    pub(super) const fn is_at_liberty(&self) -> bool {
        !self.gates.guarded || self.manual || self.gates.admitted
    }

    /// The same for a process that lives and has failed.
    pub(super) fn admitted_to_end(
        &mut self,
        step: &mut Step<'_>,
        identity: Identity,
        misses: u32,
    ) -> bool {
        if !self.gates.guarded || std::mem::take(&mut self.gates.admitted) {
            return true;
        }
        self.gates.unanswered = Some((identity, misses));
        step.ask(Effect::AskGate);
        false
    }

    pub(super) fn gate(&mut self, step: &mut Step<'_>, event: GateEvent) {
        match event {
            GateEvent::Verdict(verdict) => self.verdict(step, verdict),
            GateEvent::ConditionMet { pause } => {
                if let Stage::Polling { .. } = self.stage {
                    self.problem = Some("its monitoring begins in a moment".to_owned());
                    let until = step.now + pause;
                    self.enter(step, Stage::StartWait { until });
                }
            }
        }
    }

    fn verdict(&mut self, step: &mut Step<'_>, verdict: Verdict) {
        if verdict == Verdict::Open
            && let Some((identity, group)) = self.gates.cycle.take()
            && self.is_cyclable(identity)
        {
            self.gates.told = None;
            return self.end_for_group(step, group);
        }
        if let Some((identity, misses)) = self.gates.unanswered.take()
            && self.stage == Stage::Manage
            && self.registered.is_some_and(|it| it.identity == identity)
        {
            return match verdict {
                Verdict::Open => {
                    self.gates.told = None;
                    self.gates.admitted = true;
                    self.unanswered(step, identity, misses);
                }
                // It is asked again, and fails again if it still doesn't answer.
                Verdict::Closed { why } => self.tell_gated(step, why),
            };
        }
        if self.stage != Stage::Gated {
            return;
        }
        match verdict {
            Verdict::Open if step.spec.status.is_some() => {
                let had_to_wait = self.gates.told.take().is_some();
                self.admitted_to_start(step, had_to_wait);
            }
            Verdict::Open => {
                self.gates.told = None;
                self.look(step);
                self.gates.admitted = true;
            }
            Verdict::Closed { why } => {
                self.problem = Some(format!("not recovered: {why}"));
                self.tell_gated(step, why);
            }
        }
    }

    /// Whether the answer was that the gates are closed.
    pub(super) const fn is_kept_out(&self) -> bool {
        self.gates.told.is_some()
    }

    fn tell_gated(&mut self, step: &mut Step<'_>, why: String) {
        if self.gates.told.as_ref() != Some(&why) {
            self.gates.told = Some(why.clone());
            step.say(Notice::Gated { why });
        }
    }

    /// START_WAIT is over.
    pub(super) fn begin_monitoring(&mut self, step: &mut Step<'_>) {
        self.problem = None;
        if let Some(status) = &step.spec.status {
            return self.begin_asking(step, status);
        }
        self.enter(step, Stage::Unknown);
        step.ask(Effect::Look {
            foreign_script: true,
        });
    }

    /// An operator wants it ended although nobody has looked at it, or only in
    /// passing; whether there is a process has to be seen first.
    pub(super) fn look_before_ending(&mut self, step: &mut Step<'_>, then: AfterStop) -> bool {
        if let Some(wanted) = &mut self.gates.end_once_seen {
            // The last word counts.
            *wanted = then;
            return true;
        }
        if !self.is_deferred() {
            return false;
        }
        self.look(step);
        self.gates.end_once_seen = Some(then);
        true
    }
}
