//! What the entities' alarms make of the host: degraded as long as a major or
//! critical one is raised, and unrecoverable as long as a quorum member is
//! (spec/pmond.md §2.6, §2.7).
//!
//! [`Degrade`] is the state of the whole host, [`DegradeAudit`] what a receiver is
//! sent that knows of a host only whether it is degraded, and forgets that unless
//! it is told again. Must stay true: what a change costs does not grow with the
//! number of entities. Neither asks for anything; whoever holds them sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{effect::AlarmChange, entity::Severity, time::Time};

/// pmond's default `degrade_period`: a host that is not degraded is told so this
/// often (spec/pmond.md §2.6).
pub const DEGRADE_PERIOD: Duration = Duration::from_secs(10);

/// The alarms of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Degrade {
    raised: BTreeMap<Arc<str>, Severity>,
    /// The same the other way round: only those that degrade the host.
    degrading: BTreeSet<(Severity, Arc<str>)>,
    unrecoverable: BTreeSet<Arc<str>>,
}

impl Degrade {
    /// The entity's alarm is raised at this severity now, or not at all.
    pub fn alarm(&mut self, entity: &Arc<str>, severity: Option<Severity>) {
        let before = match severity {
            Some(severity) => self.raised.insert(Arc::clone(entity), severity),
            None => self.raised.remove(entity),
        };
        if let Some(before) = before {
            self.degrading.remove(&(before, Arc::clone(entity)));
        }
        if let Some(severity) = severity.filter(|severity| degrades(*severity)) {
            self.degrading.insert((severity, Arc::clone(entity)));
        }
    }

    /// The entity has used up its strikes, or not any more.
    pub fn quorum(&mut self, entity: &Arc<str>, unrecoverable: bool) {
        if unrecoverable {
            self.unrecoverable.insert(Arc::clone(entity));
        } else {
            self.unrecoverable.remove(entity);
        }
    }

    /// The worst severity that degrades the host, if one does.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.degrading.last().map(|(severity, _)| *severity)
    }

    /// A quorum member without which the host must not go on, the first by name.
    #[must_use]
    pub fn unrecoverable(&self) -> Option<&Arc<str>> {
        self.unrecoverable.first()
    }
}

/// Whether an alarm of this severity degrades the host.
#[must_use]
pub const fn degrades(severity: Severity) -> bool {
    match severity {
        Severity::Minor => false,
        Severity::Major | Severity::Critical => true,
    }
}

/// What a receiver of host states is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DegradeMessage {
    /// The host is not degraded (PMON_CLEAR, without a process name).
    Clear,
    /// The host is degraded because of this entity (PMON_MAJOR).
    Major(Arc<str>),
    /// This entity's failure is critical (PMON_CRIT).
    Critical(Arc<str>),
}

/// When a receiver of host states is to be sent what.
///
/// Major and critical alarms are sent when they are raised and whenever the core
/// refreshes them, which for a major one is earlier than pmond did, and every
/// 40 s from then on (spec/pmond.md §2.6, §13.8); while there is none, a clear
/// is due each [`DEGRADE_PERIOD`].
#[derive(Clone, Debug)]
pub struct DegradeAudit {
    degrade: Degrade,
    due: Time,
}

impl DegradeAudit {
    /// Of a host without alarms; the first audit is one period away.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            degrade: Degrade::default(),
            due: now + DEGRADE_PERIOD,
        }
    }

    /// What an entity's alarm gives to send at once.
    pub fn hear(&mut self, entity: &Arc<str>, change: AlarmChange) -> Option<DegradeMessage> {
        match change {
            AlarmChange::Raise(severity) | AlarmChange::Refresh(severity) => {
                self.degrade.alarm(entity, Some(severity));
                match severity {
                    Severity::Minor => None,
                    Severity::Major => Some(DegradeMessage::Major(Arc::clone(entity))),
                    Severity::Critical => Some(DegradeMessage::Critical(Arc::clone(entity))),
                }
            }
            AlarmChange::Clear => {
                self.degrade.alarm(entity, None);
                None
            }
        }
    }

    /// When the next audit is due.
    #[must_use]
    pub const fn due(&self) -> Time {
        self.due
    }

    /// The audit, once it is due: what is to be sent, if anything.
    pub fn audit(&mut self, now: Time) -> Option<DegradeMessage> {
        if now < self.due {
            return None;
        }
        self.due = now + DEGRADE_PERIOD;
        self.degrade
            .worst()
            .is_none()
            .then_some(DegradeMessage::Clear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Time {
        Time::default() + Duration::from_secs(n)
    }

    #[test]
    fn the_worst_alarm_counts_and_minor_ones_do_not() {
        let (web, db): (Arc<str>, Arc<str>) = ("web".into(), "db".into());
        let mut host = Degrade::default();
        host.alarm(&web, Some(Severity::Minor));
        assert_eq!(host.worst(), None);
        host.alarm(&web, Some(Severity::Major));
        host.alarm(&db, Some(Severity::Critical));
        assert_eq!(host.worst(), Some(Severity::Critical));
        host.alarm(&db, Some(Severity::Minor));
        assert_eq!(host.worst(), Some(Severity::Major));
        host.alarm(&web, None);
        assert_eq!(host.worst(), None);
        host.alarm(&db, None);
        assert_eq!(host, Degrade::default(), "nothing is left behind");
    }

    #[test]
    fn one_unrecoverable_member_is_named_as_long_as_there_is_one() {
        let (sm, fm): (Arc<str>, Arc<str>) = ("sm".into(), "fm".into());
        let mut host = Degrade::default();
        assert_eq!(host.unrecoverable(), None);
        host.quorum(&sm, true);
        host.quorum(&fm, true);
        assert_eq!(host.unrecoverable(), Some(&fm));
        host.quorum(&fm, false);
        assert_eq!(host.unrecoverable(), Some(&sm));
        host.quorum(&sm, false);
        assert_eq!(host.unrecoverable(), None);
    }

    #[test]
    fn a_sound_host_is_told_so_every_ten_seconds_and_a_degraded_one_is_not() {
        let web: Arc<str> = "web".into();
        let mut audit = DegradeAudit::new(second(0));
        assert_eq!(audit.audit(second(9)), None, "not due");
        assert_eq!(audit.audit(second(10)), Some(DegradeMessage::Clear));
        let raised = audit.hear(&web, AlarmChange::Raise(Severity::Major));
        assert_eq!(raised, Some(DegradeMessage::Major(Arc::clone(&web))));
        assert_eq!(audit.due(), second(20));
        assert_eq!(audit.audit(second(20)), None, "it is degraded");
        let refreshed = audit.hear(&web, AlarmChange::Refresh(Severity::Major));
        assert_eq!(refreshed, Some(DegradeMessage::Major(Arc::clone(&web))));
        assert_eq!(audit.hear(&web, AlarmChange::Clear), None);
        assert_eq!(audit.audit(second(30)), Some(DegradeMessage::Clear));
    }

    #[test]
    fn a_minor_alarm_leaves_the_host_sound() {
        let mut audit = DegradeAudit::new(second(0));
        let minor = AlarmChange::Raise(Severity::Minor);
        assert_eq!(audit.hear(&"ntp".into(), minor), None);
        assert_eq!(audit.audit(second(10)), Some(DegradeMessage::Clear));
    }
}
