//! Alarms that receivers may believe to be raised, as they outlive the entity, its
//! configuration and the daemon.
//!
//! Must stay true: each alarm, told apart by sort and exact name, is on record
//! until everybody knows that it was cleared, whatever becomes of the entity or the
//! daemon in between; what an earlier daemon raised is told as raised no second
//! time, and is cleared by this one if the fault is gone.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    engine::Engine,
    further_alarms::{closes, is_that, opens},
    instances,
    message::Work,
};
use crate::{
    alarm::{
        event::{AlarmEvent, AlarmKind, instance},
        queue::Closed,
    },
    core::{
        degrade::degrades,
        recovery::{Quorum, Stage},
        time::Time,
    },
    state::{
        record::{AlarmRecord, AlarmSort, EntityRecord},
        registrations::Registrations,
    },
    sys::clock,
    table::EntityName,
};

/// Why an alarm is cleared whose fault may last.
const NOT_MONITORED: &str = "it is not monitored any more";
/// Why an alarm is cleared a second time, for those who have not heard the first.
const CLEARED_EARLIER: &str = "it was cleared before pmon was restarted";
/// Why an alarm of an earlier daemon is cleared that nothing is known of any more.
const OVER: &str = "there is no sign of it any more";

/// An alarm's record as an event.
fn event_of(
    record: &AlarmRecord,
    name: &str,
    host: &Arc<str>,
    kind: AlarmKind,
    at: Timestamp,
    reason: &str,
) -> AlarmEvent {
    let AlarmRecord {
        sort: _,
        severity,
        since,
        incident,
        text,
        cleared: _,
    } = record;
    AlarmEvent {
        kind,
        at,
        host: Arc::clone(host),
        entity: Some(Arc::from(name)),
        severity: *severity,
        instance: instance(host, name, text.as_deref()),
        reason: reason.to_owned(),
        since: *since,
        incident: *incident,
        recovers: false,
    }
}

/// All alarms of a record.
fn all(record: &EntityRecord) -> impl Iterator<Item = &AlarmRecord> {
    record.alarm.iter().chain(&record.further_alarms)
}

/// What an earlier daemon may have told receivers, as events.
pub(super) fn told_earlier(host: &str, registrations: &Registrations) -> Vec<AlarmEvent> {
    let host: Arc<str> = Arc::from(host);
    let mut told = Vec::new();
    // The host was as degraded as the worst of them made it.
    let mut worst: Option<AlarmEvent> = None;
    for (name, record) in &registrations.entities {
        for alarm in all(record) {
            let why = "an earlier daemon raised it";
            told.push(AlarmEvent {
                recovers: true,
                ..event_of(alarm, name, &host, opens(alarm.sort), alarm.since, why)
            });
        }
        if let (Some(_), Some(event)) = (&record.alarm, told.last())
            && let Some(severity) = record.alarm.as_ref().map(|alarm| alarm.severity)
            && degrades(severity)
            && worst.as_ref().is_none_or(|worst| worst.severity < severity)
        {
            worst = Some(AlarmEvent {
                kind: AlarmKind::HostDegraded,
                entity: None,
                severity,
                instance: format!("host={host}"),
                ..event.clone()
            });
        }
    }
    told.extend(worst);
    told
}

impl Engine {
    /// What receivers believe counts for the host until it is known to be over,
    /// and nobody is told again.
    pub(super) fn recall_alarms(&mut self, remembered: &Registrations) {
        for (name, record) in &remembered.entities {
            let name = EntityName::from(name.as_str());
            let raised = record.alarm.as_ref().map(|alarm| alarm.severity);
            self.alarms.degrade.alarm(&name, raised);
            let unrecoverable = record.quorum == Quorum::Unrecoverable;
            self.alarms.degrade.quorum(&name, unrecoverable);
        }
        let host: Arc<str> = Arc::from(self.facts.host.as_str());
        let _known = self.alarms.publish(&host, clock::wall(clock::now()));
    }

    /// A newly configured entity goes on with the alarms in its record, if there
    /// are any.
    pub(super) fn take_over_alarm(&mut self, name: &EntityName, quorum: Quorum, now: Time) {
        let owed = self.alarms.orphans.remove(name).unwrap_or_default();
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let over = |alarm: &&AlarmRecord| alarm.cleared.is_some();
        let further = entity.further_alarms.records();
        let ended: Vec<_> = further.iter().filter(over).cloned().collect();
        // Their end is on its way to the receivers already.
        for alarm in owed {
            entity.further_alarms.keep(alarm);
        }
        let cleared = entity.alarm.as_ref().is_some_and(|alarm| over(&alarm));
        let raised = entity
            .alarm
            .as_ref()
            .filter(|alarm| alarm.cleared.is_none());
        let raised = raised.map(|alarm| {
            let age = clock::wall(now).duration_since(alarm.since);
            (alarm.severity, now - age.unsigned_abs())
        });
        if raised.is_some() || !quorum.is_sound() || cleared {
            let text = entity.alarm.as_ref().and_then(|alarm| alarm.text.clone());
            entity.recovery.recall_failure_text(text);
            let spec = Arc::clone(&entity.spec);
            let effects = entity.recovery.resume_alarm(&spec, raised, quorum, now);
            if cleared {
                self.sound_because(name, &[AlarmKind::Clear], Some(CLEARED_EARLIER), now);
            }
            self.carry_out_alarm(name, effects, Some(NOT_MONITORED), now);
        }
        self.end_further(name, &ended, CLEARED_EARLIER, now);
        let groundless = self.groundless(name);
        self.end_further(name, &groundless, OVER, now);
    }

    /// Further alarms of an earlier daemon that nothing would end any more.
    fn groundless(&self, name: &EntityName) -> Vec<AlarmRecord> {
        let Some(entity) = self.entities.get(name) else {
            return Vec::new();
        };
        let counted =
            entity.spec.status.is_none() && *entity.recovery.stage() != Stage::Unmonitored;
        let has_ground = |alarm: &AlarmRecord| match alarm.sort {
            AlarmSort::Failure => alarm.text.as_deref() == Some(instances::NAME) && counted,
            AlarmSort::Quorum => !entity.recovery.quorum().is_sound(),
            AlarmSort::Flapping => entity.recovery.flapping_since().is_some(),
        };
        let further = entity.further_alarms.records().iter();
        let raised = further.filter(|alarm| alarm.cleared.is_none());
        raised.filter(|alarm| !has_ground(alarm)).cloned().collect()
    }

    /// Clears these further alarms of an entity.
    fn end_further(&mut self, name: &EntityName, ended: &[AlarmRecord], why: &str, now: Time) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        if ended.is_empty() {
            return;
        }
        let at = clock::wall(now);
        let host: Arc<str> = Arc::from(self.facts.host.as_str());
        let mut events = Vec::new();
        for alarm in ended {
            let further = &mut entity.further_alarms;
            further.clear(alarm.sort, alarm.text.as_deref(), at);
            events.push(AlarmEvent {
                recovers: entity.spec.recovers(),
                ..event_of(alarm, name, &host, closes(alarm.sort), at, why)
            });
        }
        let memory = entity.memory_now();
        self.hand_out(Work::Alarm {
            entity: EntityName::clone(name),
            memory,
            events,
        });
    }

    /// Forgets an entity and clears its alarms; its process is left alone.
    pub(super) fn remove(&mut self, name: &EntityName) {
        let now = clock::now();
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let spec = Arc::clone(&entity.spec);
        let effects = entity.recovery.dismissed(&spec, now);
        self.carry_out_alarm(name, effects, Some(NOT_MONITORED), now);
        let raised: Vec<AlarmRecord> = self.entities.get(name).map_or_else(Vec::new, |entity| {
            let further = entity.further_alarms.records().iter();
            let raised = further.filter(|alarm| alarm.cleared.is_none());
            raised.cloned().collect()
        });
        self.end_further(name, &raised, NOT_MONITORED, now);
        let owed = self.entities.get(name).map(|it| it.memory());
        self.abandon(name);
        let owed: Vec<AlarmRecord> = owed.iter().flat_map(all).cloned().collect();
        if !owed.is_empty() {
            self.alarms.orphans.insert(Arc::clone(name), owed);
            let memory = self.orphaned(name);
            self.hand_out(Work::Remember(Arc::clone(name), memory));
        }
    }

    /// What is remembered of an entity that is gone.
    pub(super) fn orphaned(&self, name: &str) -> Arc<EntityRecord> {
        let further_alarms = self.alarms.orphans.get(name).cloned();
        Arc::new(EntityRecord {
            further_alarms: further_alarms.unwrap_or_default(),
            ..EntityRecord::default()
        })
    }

    /// Clears the alarms of an entity that was configured before the daemon
    /// restarted and is not now.
    pub(super) fn clear_orphan(&mut self, name: &str, record: &EntityRecord) {
        let at = clock::wall(clock::now());
        let name = EntityName::from(name);
        let host: Arc<str> = Arc::from(self.facts.host.as_str());
        self.alarms.degrade.quorum(&name, false);
        self.alarms.degrade.alarm(&name, None);
        let host_is = self.alarms.publish(&host, at);
        let mut events = Vec::new();
        let mut owed = Vec::new();
        for alarm in all(record) {
            events.push(event_of(
                alarm,
                &name,
                &host,
                closes(alarm.sort),
                at,
                NOT_MONITORED,
            ));
            owed.push(AlarmRecord {
                cleared: Some(at),
                ..alarm.clone()
            });
        }
        if events.is_empty() {
            return;
        }
        self.alarms.orphans.insert(Arc::clone(&name), owed);
        let memory = self.orphaned(&name);
        self.hand_out(Work::Alarm {
            entity: name,
            memory,
            events: events.into_iter().chain(host_is).collect(),
        });
    }

    /// Every receiver knows that an alarm was cleared then.
    pub(super) fn alarm_settled(&mut self, closed: &Closed) {
        let host = self.facts.host.as_str();
        let name = &closed.entity;
        if let Some(orphans) = self.alarms.orphans.get_mut(name) {
            let before = orphans.len();
            orphans.retain(|alarm| !is_that(alarm, host, closed));
            if orphans.len() < before {
                if orphans.is_empty() {
                    self.alarms.orphans.remove(name);
                }
                let memory = self.orphaned(name);
                self.hand_out(Work::Remember(Arc::clone(name), memory));
            }
        }
        if let Some(entity) = self.entities.get_mut(name) {
            entity.alarm.take_if(|alarm| is_that(alarm, host, closed));
            entity.further_alarms.settle(host, closed);
            self.remember(name);
        }
    }
}
