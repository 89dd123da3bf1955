//! The entity's alarm: raised at a threshold, refreshed while the fault lasts,
//! cleared with it (spec/pmond.md §2.6, §8.3).
//!
//! It outlives the daemon and changes of the configuration: who is found failed
//! after a restart has the alarm refreshed, not raised a second time, and who is
//! found healthy, or is not monitored any more, has it cleared. (FIX of
//! spec/pmond.md §11.1 no. 9: the original forgot its alarms at every reload.)

use std::time::Duration;

use super::{Quorum, Recovery, Stage, Step};
use crate::core::{
    effect::{AlarmChange, Effect},
    entity::{EntitySpec, Severity},
    notice::Notice,
    time::Time,
};

/// Receivers are told again this often while a major or critical fault lasts:
/// pmond's fourth degrade audit of 10 s (spec/pmond.md §2.6).
const REFRESH: Duration = Duration::from_secs(40);

/// Whether and how the alarm is raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Alarm {
    raised: Option<Raised>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raised {
    severity: Severity,
    since: Time,
    told_at: Time,
    /// By an earlier daemon or under an earlier configuration; this one has not
    /// told anybody yet that the fault lasts.
    unconfirmed: bool,
}

impl Alarm {
    pub(super) const fn raised(&self) -> Option<Severity> {
        match self.raised {
            Some(raised) => Some(raised.severity),
            None => None,
        }
    }

    pub(super) fn refresh_at(&self) -> Option<Time> {
        let raised = self.raised?;
        (raised.severity >= Severity::Major).then(|| raised.told_at + REFRESH)
    }
}

impl Recovery {
    /// Raises the alarm at the entity's severity. A critical threshold crossed
    /// again is told again at once (spec/pmond.md §2.4, branch 3).
    pub(super) fn assert_alarm(&mut self, step: &mut Step<'_>) {
        let severity = step.spec.severity;
        match self.alarm.raised {
            Some(raised) if raised.severity == severity => {
                if raised.unconfirmed || severity == Severity::Critical {
                    self.tell_again(step);
                }
            }
            Some(_) | None => self.raise(step, severity),
        }
    }

    /// The fault lasts, in the first step of this daemon that shows so.
    pub(super) fn confirm_alarm(&mut self, step: &mut Step<'_>) {
        if self.alarm.raised.is_some_and(|raised| raised.unconfirmed) {
            self.assert_alarm(step);
        }
    }

    pub(super) fn refresh_alarm(&mut self, step: &mut Step<'_>) {
        if self.alarm.refresh_at().is_some_and(|due| due <= step.now) {
            self.tell_again(step);
        }
    }

    pub(super) fn clear_alarm(&mut self, step: &mut Step<'_>) {
        if self.alarm.raised.take().is_some() {
            step.ask(Effect::Alarm(AlarmChange::Clear));
            step.say(Notice::AlarmCleared);
        }
    }

    fn raise(&mut self, step: &mut Step<'_>, severity: Severity) {
        let since = self.alarm.raised.map_or(step.now, |raised| raised.since);
        self.alarm.raised = Some(Raised {
            severity,
            since,
            told_at: step.now,
            unconfirmed: false,
        });
        step.ask(Effect::Alarm(AlarmChange::Raise(severity)));
        step.say(Notice::AlarmRaised(severity));
    }

    fn tell_again(&mut self, step: &mut Step<'_>) {
        let Some(raised) = &mut self.alarm.raised else {
            return;
        };
        raised.told_at = step.now;
        raised.unconfirmed = false;
        let severity = raised.severity;
        step.ask(Effect::Alarm(AlarmChange::Refresh(severity)));
        step.say(Notice::AlarmRefreshed(severity));
    }

    /// Takes over an alarm, raised `since` then, and strikes, from an earlier
    /// daemon or from before a change of mode: of no consequence until it is known
    /// how the entity is, unless it is nothing to worry about any more.
    pub fn resume_alarm(
        &mut self,
        spec: &EntitySpec,
        raised: Option<(Severity, Time)>,
        quorum: Quorum,
        now: Time,
    ) -> Vec<Effect> {
        self.alarm.raised = raised.map(|(severity, since)| Raised {
            severity,
            since,
            told_at: now,
            unconfirmed: true,
        });
        self.quorum = quorum;
        if raised.is_some() {
            // A script is asked at once.
            self.status.hurry();
        }
        let mut step = Step::new(spec, now);
        if matches!(self.stage, Stage::Stopped | Stage::Unmonitored) {
            self.clear_alarm(&mut step);
            self.forgive(&mut step);
        } else if !spec.quorum {
            self.forgive(&mut step);
        }
        step.effects
    }

    /// The entity's configuration is another one from now on.
    pub fn reconfigured(&mut self, spec: &EntitySpec, now: Time) -> Vec<Effect> {
        if let Some(status) = &spec.status {
            self.status.reconfigured(status, now);
        }
        let mut step = Step::new(spec, now);
        if self.alarm().is_some_and(|raised| raised != spec.severity) {
            self.raise(&mut step, spec.severity);
        }
        if !spec.quorum {
            self.forgive(&mut step);
        }
        step.effects
    }

    /// The entity is not monitored any more.
    pub fn dismissed(&mut self, spec: &EntitySpec, now: Time) -> Vec<Effect> {
        let mut step = Step::new(spec, now);
        self.clear_alarm(&mut step);
        self.forgive(&mut step);
        step.effects
    }

    /// Severity of the alarm, if it is raised.
    #[must_use]
    pub const fn alarm(&self) -> Option<Severity> {
        self.alarm.raised()
    }

    /// Since when it has been raised.
    #[must_use]
    pub fn alarm_since(&self) -> Option<Time> {
        self.alarm.raised.map(|raised| raised.since)
    }
}
