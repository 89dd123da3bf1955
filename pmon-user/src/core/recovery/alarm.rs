//! The entity's alarm: raised at a threshold, refreshed while the fault lasts,
//! cleared with it (spec/pmond.md §2.6, §8.3).

use std::time::Duration;

use super::{Recovery, Step};
use crate::core::{
    effect::{AlarmChange, Effect},
    entity::Severity,
    notice::Notice,
    time::Time,
};

/// Receivers are told again this often while a major or critical fault lasts:
/// pmond's fourth degrade audit of 10 s (spec/pmond.md §2.6).
const REFRESH: Duration = Duration::from_secs(40);

/// Whether and how the alarm is raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Alarm {
    raised: Option<(Severity, Time)>,
}

impl Alarm {
    pub(super) const fn raised(&self) -> Option<Severity> {
        match self.raised {
            Some((severity, _)) => Some(severity),
            None => None,
        }
    }

    pub(super) fn refresh_at(&self) -> Option<Time> {
        let (severity, told_at) = self.raised?;
        (severity >= Severity::Major).then(|| told_at + REFRESH)
    }
}

impl Recovery {
    /// Raises the alarm at the entity's severity. A critical threshold crossed
    /// again is told again at once (spec/pmond.md §2.4, branch 3).
    pub(super) fn assert_alarm(&mut self, step: &mut Step<'_>) {
        let severity = step.spec.severity;
        if self.alarm.raised().is_none() {
            self.alarm.raised = Some((severity, step.now));
            step.ask(Effect::Alarm(AlarmChange::Raise(severity)));
            step.say(Notice::AlarmRaised(severity));
        } else if severity == Severity::Critical {
            self.tell_again(step, severity);
        }
    }

    pub(super) fn refresh_alarm(&mut self, step: &mut Step<'_>) {
        if let Some(severity) = self.alarm.raised()
            && self.alarm.refresh_at().is_some_and(|due| due <= step.now)
        {
            self.tell_again(step, severity);
        }
    }

    pub(super) fn clear_alarm(&mut self, step: &mut Step<'_>) {
        if self.alarm.raised.take().is_some() {
            step.ask(Effect::Alarm(AlarmChange::Clear));
            step.say(Notice::AlarmCleared);
        }
    }

    fn tell_again(&mut self, step: &mut Step<'_>, severity: Severity) {
        self.alarm.raised = Some((severity, step.now));
        step.ask(Effect::Alarm(AlarmChange::Refresh(severity)));
        step.say(Notice::AlarmRefreshed(severity));
    }
}
