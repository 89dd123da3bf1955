//! From the core's changes of alarms to events for their receivers, and to what
//! survives of them.
//!
//! Must stay true: an alarm is on record before anybody is told of it; the host's
//! health is written before anybody is told. How alarms outlive the entity and the
//! daemon is `owed_alarms`' business.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{engine::Engine, entity::Entity, message::Work};
use crate::{
    alarm::{
        event::{AlarmEvent, AlarmKind, instance},
        health::{Health, HostHealth},
    },
    core::{
        degrade::Degrade,
        effect::{AlarmChange, Effect},
        entity::Severity,
        notice::Notice,
        recovery::{FLAPPING, Quorum, Stage},
        time::Time,
    },
    state::record::{AlarmRecord, AlarmSort},
    sys::clock,
    table::EntityName,
};

/// The host's alarms, within the engine.
pub(super) struct Alarms {
    pub(super) degrade: Degrade,
    health: HostHealth,
    /// When the host was degraded, and how badly.
    degraded: Option<(Severity, Timestamp)>,
    /// Cleared alarms of entities that are gone, as long as somebody may not know.
    pub(super) orphans: HashMap<EntityName, Vec<AlarmRecord>>,
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
    pub(super) fn publish(&mut self, host: &Arc<str>, at: Timestamp) -> Option<AlarmEvent> {
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

impl Engine {
    /// Puts on record what has become of an entity's alarm, and has it told.
    pub(super) fn sound(&mut self, name: &EntityName, kinds: &[AlarmKind], now: Time) {
        self.sound_because(name, kinds, None, now);
    }

    pub(super) fn sound_because(
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
        let memory = entity.memory_now();
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
    pub(super) fn carry_out_alarm(
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

    /// An entity has another configuration.
    pub(super) fn reconfigure_alarm(&mut self, name: &EntityName) {
        let now = clock::now();
        if let Some(entity) = self.entities.get_mut(name) {
            let spec = Arc::clone(&entity.spec);
            let effects = entity.recovery.reconfigured(&spec, now);
            self.carry_out_alarm(name, effects, None, now);
        }
    }
}

/// Keeps the records in step with the recovery.
fn note(entity: &mut Entity, kind: AlarmKind, at: Timestamp) {
    let incident = entity.incidents.newest().map(|incident| incident.number);
    let further = &mut entity.further_alarms;
    match (kind, entity.recovery.alarm()) {
        (AlarmKind::Raise | AlarmKind::Refresh, Some(severity)) => {
            let (earlier, over) = match entity.alarm.take() {
                Some(alarm) if alarm.cleared.is_some() => (None, Some(alarm)),
                alarm => (alarm, None),
            };
            // A raised alarm keeps its name (field story S7).
            let text = match &earlier {
                Some(alarm) => alarm.text.clone(),
                None => entity.recovery.failure_text().map(str::to_owned),
            };
            // Under another name it is another one, whose end may not be known yet.
            if let Some(over) = over {
                further.keep(over);
            }
            further.drop_named(AlarmSort::Failure, text.as_deref());
            entity.alarm = Some(AlarmRecord {
                sort: AlarmSort::Failure,
                severity,
                since: earlier.as_ref().map_or(at, |alarm| alarm.since),
                incident: (earlier.as_ref())
                    .and_then(|alarm| alarm.incident)
                    .or(incident),
                text,
                cleared: None,
            });
        }
        (AlarmKind::Clear, _) => {
            if let Some(alarm) = &mut entity.alarm {
                alarm.cleared = Some(at);
            }
        }
        (AlarmKind::Flapping, _) => {
            further.raise(AlarmSort::Flapping, None, FLAPPING, incident, at);
        }
        (AlarmKind::FlappingClear, _) => further.clear(AlarmSort::Flapping, None, at),
        (AlarmKind::QuorumFailure | AlarmKind::QuorumUnrecoverable, _) => {
            let severity = entity.spec.severity;
            further.raise(AlarmSort::Quorum, None, severity, incident, at);
        }
        (AlarmKind::QuorumClear, _) => further.clear(AlarmSort::Quorum, None, at),
        (AlarmKind::Raise | AlarmKind::Refresh, None)
        | (AlarmKind::FirstFailure | AlarmKind::HostDegraded | AlarmKind::HostClear, _) => {}
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
        further_alarms,
        incidents,
        ..
    } = entity;
    let newest = incidents.newest().map(|incident| incident.number);
    // Those of another sort have a name of their own, which no text is a part of.
    let further = match kind {
        AlarmKind::Flapping | AlarmKind::FlappingClear => Some(AlarmSort::Flapping),
        AlarmKind::QuorumFailure | AlarmKind::QuorumUnrecoverable | AlarmKind::QuorumClear => {
            Some(AlarmSort::Quorum)
        }
        AlarmKind::FirstFailure
        | AlarmKind::Raise
        | AlarmKind::Refresh
        | AlarmKind::Clear
        | AlarmKind::HostDegraded
        | AlarmKind::HostClear => None,
    };
    let (text, since) = match further {
        None => (
            alarm.as_ref().and_then(|alarm| alarm.text.as_deref()),
            alarm.as_ref().map(|alarm| alarm.since),
        ),
        Some(sort) => (None, further_alarms.since(sort)),
    };
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
        since: since.unwrap_or(at),
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
