//! From the core's changes of alarms to events for their receivers, and to what
//! survives of them.
//!
//! Must stay true: an alarm is on record from before anybody is told of it until
//! everybody knows that it was cleared, whatever becomes of the entity or the
//! daemon in between; the host's health is written before anybody is told.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{engine::Engine, entity::Entity, message::Work};
use crate::{
    alarm::{
        event::{AlarmEvent, AlarmKind, instance},
        health::{Health, HostHealth},
    },
    core::{
        degrade::{Degrade, degrades},
        effect::{AlarmChange, Effect},
        entity::Severity,
        notice::Notice,
        recovery::{FLAPPING, Quorum, Stage},
        time::Time,
    },
    state::registrations::{AlarmRecord, EntityRecord, Registrations},
    sys::clock,
    table::EntityName,
};

/// Why an alarm is cleared whose fault may last.
const NOT_MONITORED: &str = "it is not monitored any more";

/// The host's alarms, within the engine.
pub(super) struct Alarms {
    degrade: Degrade,
    health: HostHealth,
    /// When the host was degraded, and how badly.
    degraded: Option<(Severity, Timestamp)>,
    /// Cleared alarms of entities that are gone, as long as somebody may not know.
    orphans: HashMap<EntityName, AlarmRecord>,
}

impl Alarms {
    pub(super) fn new(health: HostHealth) -> Self {
        Self {
            degrade: Degrade::default(),
            health,
            degraded: None,
            orphans: HashMap::new(),
        }
    }

    /// What of the host has changed is published at once; the event that tells it.
    fn publish(&mut self, host: &Arc<str>, at: Timestamp) -> Option<AlarmEvent> {
        let health = Health {
            unrecoverable: self.degrade.unrecoverable().cloned(),
            degraded: self.degrade.worst(),
        };
        let worst = health.degraded;
        if *self.health.read() != health {
            self.health.write(health);
        }
        let before = self.degraded;
        if worst == before.map(|(severity, _)| severity) {
            return None;
        }
        let since = before.map_or(at, |(_, since)| since);
        self.degraded = worst.map(|severity| (severity, since));
        let (kind, severity, reason) = match (worst, before) {
            (Some(severity), _) => (
                AlarmKind::HostDegraded,
                severity,
                format!("a {severity} alarm is raised"),
            ),
            (None, Some((severity, _))) => (
                AlarmKind::HostClear,
                severity,
                "no major or critical alarm is raised any more".to_owned(),
            ),
            (None, None) => return None,
        };
        Some(AlarmEvent {
            kind,
            at,
            host: Arc::clone(host),
            entity: None,
            severity,
            instance: format!("host={host}"),
            reason,
            since,
            incident: None,
            recovers: true,
        })
    }
}

/// What receivers of alarms have to know of a notice.
pub(super) const fn of_notice(notice: &Notice) -> Option<AlarmKind> {
    match notice {
        Notice::FirstFailure => Some(AlarmKind::FirstFailure),
        Notice::QuorumFailure => Some(AlarmKind::QuorumFailure),
        Notice::QuorumUnrecoverable => Some(AlarmKind::QuorumUnrecoverable),
        Notice::QuorumCleared => Some(AlarmKind::QuorumClear),
        // Alarms come as effects.
        _ => None,
    }
}

/// The severity is in the recovery.
pub(super) const fn of_change(change: AlarmChange) -> AlarmKind {
    match change {
        AlarmChange::Raise(_) => AlarmKind::Raise,
        AlarmChange::Refresh(_) => AlarmKind::Refresh,
        AlarmChange::Clear => AlarmKind::Clear,
    }
}

/// The same of the alarm that says that an entity flaps.
pub(super) const fn of_flapping(change: AlarmChange) -> AlarmKind {
    match change {
        AlarmChange::Raise(_) | AlarmChange::Refresh(_) => AlarmKind::Flapping,
        AlarmChange::Clear => AlarmKind::FlappingClear,
    }
}

/// What an earlier daemon may have told receivers, as events.
pub(super) fn told_earlier(host: &str, registrations: &Registrations) -> Vec<AlarmEvent> {
    let host: Arc<str> = Arc::from(host);
    let raised = |(name, record): (&String, &EntityRecord)| {
        let AlarmRecord {
            severity,
            since,
            incident,
            text,
            cleared: _,
        } = record.alarm.as_ref()?;
        Some(AlarmEvent {
            kind: AlarmKind::Raise,
            at: *since,
            host: Arc::clone(&host),
            entity: Some(Arc::from(name.as_str())),
            severity: *severity,
            instance: instance(&host, name, text.as_deref()),
            reason: "an earlier daemon raised it".to_owned(),
            since: *since,
            incident: *incident,
            recovers: true,
        })
    };
    let mut told: Vec<AlarmEvent> = registrations.entities.iter().filter_map(raised).collect();
    // The host was as degraded as the worst of them made it.
    let worst = told.iter().max_by_key(|event| event.severity);
    let degraded = worst.filter(|worst| degrades(worst.severity));
    let degraded = degraded.map(|worst| AlarmEvent {
        kind: AlarmKind::HostDegraded,
        entity: None,
        instance: format!("host={host}"),
        ..worst.clone()
    });
    told.extend(degraded);
    told
}

impl Engine {
    /// Puts on record what has become of an entity's alarm, and has it told.
    pub(super) fn sound(&mut self, name: &EntityName, kinds: &[AlarmKind], now: Time) {
        self.sound_because(name, kinds, None, now);
    }

    fn sound_because(
        &mut self,
        name: &EntityName,
        kinds: &[AlarmKind],
        why: Option<&str>,
        now: Time,
    ) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        if kinds.is_empty() {
            return;
        }
        let at = clock::wall(now);
        let host: Arc<str> = Arc::from(self.facts.host.as_str());
        let mut events = Vec::new();
        for kind in kinds {
            note(entity, *kind, at);
            let reason = why.map_or_else(|| reason(entity, *kind), str::to_owned);
            events.push(event_of(entity, *kind, &host, reason, at));
        }
        let (alarm, quorum) = (entity.recovery.alarm(), entity.recovery.quorum());
        let memory = Arc::new(entity.memory());
        entity.remembered = Some(entity.record_of());
        self.alarms.degrade.alarm(name, alarm);
        self.alarms
            .degrade
            .quorum(name, quorum == Quorum::Unrecoverable);
        events.extend(self.alarms.publish(&host, at));
        self.hand_out(Work::Alarm {
            entity: Arc::clone(name),
            memory,
            events,
        });
    }

    /// Tells what the recovery has decided outside of a step.
    fn carry_out_alarm(
        &mut self,
        name: &EntityName,
        effects: Vec<Effect>,
        why: Option<&str>,
        now: Time,
    ) {
        let mut kinds = Vec::new();
        for effect in effects {
            match effect {
                Effect::Alarm(change) => kinds.push(of_change(change)),
                Effect::Say(notice) => {
                    kinds.extend(of_notice(&notice));
                    self.tell(name, notice, now);
                }
                // The alarm's own functions ask for nothing else.
                other => debug_assert!(false, "{other:?}"),
            }
        }
        self.sound_because(name, &kinds, why, now);
        self.reschedule(name);
    }

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

    /// A newly configured entity goes on with the alarm in its record, if there is
    /// one.
    pub(super) fn take_over_alarm(&mut self, name: &EntityName, quorum: Quorum, now: Time) {
        let owed = self.alarms.orphans.remove(name);
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let cleared = match &entity.alarm {
            Some(alarm) => alarm.cleared.is_some(),
            None => {
                // Its end is on its way to the receivers already.
                entity.alarm = owed;
                false
            }
        };
        let raised = entity
            .alarm
            .as_ref()
            .filter(|alarm| alarm.cleared.is_none());
        let raised = raised.map(|alarm| {
            let age = clock::wall(now).duration_since(alarm.since);
            (alarm.severity, now - age.unsigned_abs())
        });
        if raised.is_none() && quorum.is_sound() && !cleared {
            return;
        }
        let text = entity.alarm.as_ref().and_then(|alarm| alarm.text.clone());
        entity.recovery.recall_failure_text(text);
        let spec = Arc::clone(&entity.spec);
        let effects = entity.recovery.resume_alarm(&spec, raised, quorum, now);
        if cleared {
            let why = "it was cleared before pmon was restarted";
            self.sound_because(name, &[AlarmKind::Clear], Some(why), now);
        }
        self.carry_out_alarm(name, effects, Some(NOT_MONITORED), now);
    }

    /// An entity has another configuration.
    pub(super) fn reconfigure_alarm(&mut self, name: &EntityName) {
        let now = clock::now();
        if let Some(entity) = self.entities.get_mut(name) {
            let spec = Arc::clone(&entity.spec);
            let effects = entity.recovery.reconfigured(&spec, now);
            self.carry_out_alarm(name, effects, None, now);
        }
    }

    /// Forgets an entity and clears its alarm; its process is left alone.
    pub(super) fn remove(&mut self, name: &EntityName) {
        let now = clock::now();
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let spec = Arc::clone(&entity.spec);
        let effects = entity.recovery.dismissed(&spec, now);
        self.carry_out_alarm(name, effects, Some(NOT_MONITORED), now);
        let owed = self.entities.get(name).and_then(|it| it.alarm.clone());
        self.abandon(name);
        if let Some(owed) = owed {
            self.remember_orphan(name, owed);
        }
    }

    fn remember_orphan(&mut self, name: &EntityName, owed: AlarmRecord) {
        let memory = EntityRecord {
            alarm: Some(owed.clone()),
            ..EntityRecord::default()
        };
        self.alarms.orphans.insert(Arc::clone(name), owed);
        self.hand_out(Work::Remember(Arc::clone(name), Arc::new(memory)));
    }

    /// Clears the alarm of an entity that was configured before the daemon
    /// restarted and is not now.
    pub(super) fn clear_orphan(&mut self, name: &str, record: EntityRecord) {
        let at = clock::wall(clock::now());
        let name = EntityName::from(name);
        let host: Arc<str> = Arc::from(self.facts.host.as_str());
        self.alarms.degrade.quorum(&name, false);
        self.alarms.degrade.alarm(&name, None);
        let host_is = self.alarms.publish(&host, at);
        let Some(mut alarm) = record.alarm else {
            return;
        };
        alarm.cleared = Some(at);
        let event = AlarmEvent {
            kind: AlarmKind::Clear,
            at,
            severity: alarm.severity,
            instance: instance(&host, &name, alarm.text.as_deref()),
            host,
            entity: Some(Arc::clone(&name)),
            reason: NOT_MONITORED.to_owned(),
            since: alarm.since,
            incident: alarm.incident,
            recovers: false,
        };
        let memory = EntityRecord {
            alarm: Some(alarm.clone()),
            ..EntityRecord::default()
        };
        self.alarms.orphans.insert(Arc::clone(&name), alarm);
        self.hand_out(Work::Alarm {
            entity: name,
            memory: Arc::new(memory),
            events: [event].into_iter().chain(host_is).collect(),
        });
    }

    /// Every receiver knows that the alarm was cleared then.
    pub(super) fn alarm_settled(&mut self, name: &EntityName, cleared: Timestamp) {
        let is_that = |alarm: &AlarmRecord| alarm.cleared == Some(cleared);
        if self.alarms.orphans.get(name).is_some_and(is_that) {
            self.alarms.orphans.remove(name);
            let nothing = Arc::new(EntityRecord::default());
            self.hand_out(Work::Remember(Arc::clone(name), nothing));
        }
        if let Some(entity) = self.entities.get_mut(name)
            && entity.alarm.as_ref().is_some_and(is_that)
        {
            entity.alarm = None;
            self.remember(name);
        }
    }
}

/// Keeps the record in step with the recovery.
fn note(entity: &mut Entity, kind: AlarmKind, at: Timestamp) {
    let incident = entity.incidents.newest().map(|incident| incident.number);
    match (kind, entity.recovery.alarm()) {
        (AlarmKind::Raise | AlarmKind::Refresh, Some(severity)) => {
            let earlier = entity.alarm.take().filter(|alarm| alarm.cleared.is_none());
            entity.alarm = Some(AlarmRecord {
                severity,
                since: earlier.as_ref().map_or(at, |alarm| alarm.since),
                incident: earlier
                    .as_ref()
                    .and_then(|alarm| alarm.incident)
                    .or(incident),
                // A raised alarm keeps its name (field story S7).
                text: match earlier {
                    Some(alarm) => alarm.text,
                    None => entity.recovery.failure_text().map(str::to_owned),
                },
                cleared: None,
            });
        }
        (AlarmKind::Clear, _) => {
            if let Some(alarm) = &mut entity.alarm {
                alarm.cleared = Some(at);
            }
        }
        (AlarmKind::Raise | AlarmKind::Refresh, None)
        | (
            AlarmKind::FirstFailure
            | AlarmKind::QuorumFailure
            | AlarmKind::QuorumUnrecoverable
            | AlarmKind::QuorumClear
            | AlarmKind::Flapping
            | AlarmKind::FlappingClear
            | AlarmKind::HostDegraded
            | AlarmKind::HostClear,
            _,
        ) => {}
    }
}

fn event_of(
    entity: &Entity,
    kind: AlarmKind,
    host: &Arc<str>,
    reason: String,
    at: Timestamp,
) -> AlarmEvent {
    let Entity {
        spec,
        alarm,
        incidents,
        ..
    } = entity;
    let newest = incidents.newest().map(|incident| incident.number);
    let text = alarm.as_ref().and_then(|alarm| alarm.text.as_deref());
    AlarmEvent {
        kind,
        at,
        host: Arc::clone(host),
        entity: Some(Arc::from(spec.name.as_str())),
        severity: match kind {
            AlarmKind::Flapping | AlarmKind::FlappingClear => FLAPPING,
            _ => alarm.as_ref().map_or(spec.severity, |alarm| alarm.severity),
        },
        instance: instance(host, &spec.name, text),
        reason,
        since: alarm.as_ref().map_or(at, |alarm| alarm.since),
        incident: alarm.as_ref().and_then(|alarm| alarm.incident).or(newest),
        recovers: spec.recovers(),
    }
}

fn reason(entity: &Entity, kind: AlarmKind) -> String {
    let recovery = &entity.recovery;
    match kind {
        AlarmKind::Clear | AlarmKind::QuorumClear => {
            if *recovery.stage() == Stage::Stopped {
                "an operator stopped it".to_owned()
            } else {
                "it has recovered".to_owned()
            }
        }
        AlarmKind::Flapping => "it fails again and again, each time after a recovery".to_owned(),
        AlarmKind::FlappingClear => "it has been well for long enough".to_owned(),
        AlarmKind::FirstFailure
        | AlarmKind::Raise
        | AlarmKind::Refresh
        | AlarmKind::QuorumFailure
        | AlarmKind::QuorumUnrecoverable
        | AlarmKind::HostDegraded
        | AlarmKind::HostClear => {
            let died = recovery.last_death().map(|death| {
                let status = death.status.map(|status| status.to_string());
                let status = status.as_deref().unwrap_or("cause unknown");
                format!("({}) died: {status}", death.identity.pid)
            });
            let parts = [recovery.problem().map(str::to_owned), died];
            let known: Vec<String> = parts.into_iter().flatten().collect();
            let reason = if known.is_empty() {
                "it is not running".to_owned()
            } else {
                known.join("; ")
            };
            let alarm = entity.alarm.as_ref();
            match alarm.and_then(|alarm| alarm.text.as_deref()) {
                Some(text) => format!("{reason} ({text})"),
                None => reason,
            }
        }
    }
}
