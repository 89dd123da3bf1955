//! What a daemon takes over from the one before it: incidents under way, and
//! processes that the kernel has watched in between.
//!
//! Until the first look at an entity nobody knows what became of its process.
//! With that look there are three cases, and in each the kernel's entry is dealt
//! with before anything else is concluded:
//!
//! * alive: it is registered as ever, and keeps entry and generation;
//! * gone, and the kernel wrote its death: the death is told as it happened,
//!   unless the journal has it already (see `table::inherited`);
//! * gone unseen: the look says what a look can say.
//!
//! When every entity has been looked at, entries that nobody claimed go.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{engine::Engine, message::Work};
use crate::{
    core::{
        death::Death, event::Event, gate::Knowledge, identity::Identity, notice::Notice,
        recovery::Stage, time::Time,
    },
    look::Look,
    state::registrations::Registrations,
    sys::clock,
    table::EntityName,
    view::incident::{DeathMark, IncidentResult, IncidentView, TimelineEntry},
};

/// Timeline entries of an earlier daemon that are kept of an incident under way.
const KEPT: usize = 200;

/// All that is known before the engine begins: mostly what survives a daemon in
/// files.
pub struct Memory {
    /// Registrations.
    pub registrations: Registrations,
    /// Incidents.
    pub past: Past,
    /// The host, where recoveries have to wait for it.
    pub host: Option<Knowledge>,
}

/// What the journal says.
#[derive(Debug, Default)]
pub struct Past {
    /// The incident that was under way, by entity.
    open: HashMap<String, IncidentView>,
    /// Deaths on record, by entity.
    on_record: HashMap<String, Vec<DeathMark>>,
}

impl Past {
    /// Parts the journal's incidents, oldest first, into what is under way and
    /// the newest `count` of the others.
    #[must_use]
    pub fn of(incidents: Vec<IncidentView>, count: usize) -> (Self, VecDeque<IncidentView>) {
        let mut past = Self::default();
        let mut history = Vec::new();
        for incident in incidents {
            past.on_record
                .entry(incident.entity.clone())
                .or_default()
                .extend(incident.deaths.iter().cloned());
            if incident.result == IncidentResult::Open {
                let earlier = past.open.insert(incident.entity.clone(), incident);
                history.extend(earlier.map(interrupted));
            } else {
                history.push(incident);
            }
        }
        history.sort_by_key(|incident| incident.incident);
        let older = history.len().saturating_sub(count);
        (past, history.into_iter().skip(older).collect())
    }
}

/// Nobody goes on with it.
fn interrupted(incident: IncidentView) -> IncidentView {
    IncidentView {
        result: IncidentResult::Interrupted,
        ..incident
    }
}

/// What has not been dealt with yet.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    on_record: HashMap<String, Vec<DeathMark>>,
    /// Entities whose first look is still to come.
    awaited: HashSet<EntityName>,
    /// Processes of which it is remembered whose they are.
    owned: HashSet<Identity>,
}

impl Engine {
    /// Goes on with incidents and notes whose deaths may have to be told. To be
    /// called when all entities are there and before the first look is answered.
    pub(super) fn come_into(&mut self, past: Past) {
        let Past { open, on_record } = past;
        self.inheritance.on_record = on_record;
        for (name, entity) in &mut self.entities {
            // In status mode no look is made.
            if *entity.recovery.stage() == Stage::Unmonitored || entity.spec.status.is_some() {
                continue;
            }
            let mut mine = std::mem::take(&mut entity.unsettled);
            mine.extend(entity.known.map(|known| known.identity));
            mine.retain(|identity| self.table.is_inherited(*identity));
            entity.unsettled.clone_from(&mine);
            entity
                .unsettled
                .retain(|dead| entity.known.is_none_or(|known| known.identity != *dead));
            self.inheritance.owned.extend(&mine);
            self.inheritance.awaited.insert(EntityName::clone(name));
            entity.inherited = mine;
        }
        for (name, incident) in open {
            let name = EntityName::from(name);
            let asked =
                (self.entities.get(&name)).is_some_and(|entity| entity.spec.status.is_some());
            if asked || self.inheritance.awaited.contains(&name) {
                self.go_on_with(&name, incident);
            } else {
                self.hand_out(Work::Closed(Box::new(interrupted(incident))));
            }
        }
        self.forget_what_nobody_knows();
    }

    fn go_on_with(&mut self, name: &EntityName, mut incident: IncidentView) {
        let now = clock::now();
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let age = clock::wall(now).duration_since(incident.opened_at);
        let opened_at = now - age.unsigned_abs();
        entity
            .incidents
            .resume(incident.incident, opened_at, incident.attempts);
        entity.recovery.resume();
        if let Some(surplus) = incident.timeline.len().checked_sub(KEPT) {
            incident.timeline.drain(KEPT / 2..KEPT / 2 + surplus);
        }
        incident.timeline.push(TimelineEntry {
            at: clock::wall(now),
            after_us: u64::try_from(age.unsigned_abs().as_micros()).unwrap_or(u64::MAX),
            kind: "daemon_restarted".to_owned(),
            text: "pmon was restarted and goes on".to_owned(),
        });
        entity.continued = Some(incident);
        let stopped = *entity.recovery.stage() == Stage::Stopped;
        if stopped {
            self.tell(name, Notice::Stopped, now);
        }
        // A script is asked at once.
        self.reschedule(name);
    }

    /// Tells the deaths that the kernel wrote while there was no daemon. Whether
    /// what the look showed is of no use any more, because the core has been told
    /// of a death and asks for a new one.
    pub(super) fn inherit(&mut self, name: &EntityName, look: &Look) -> bool {
        if !self.inheritance.awaited.contains(name) {
            return false;
        }
        let mut told = false;
        for death in self.inherited_deaths(name, look) {
            self.table.told(&death);
            if self.inheritance.has(name, &death) {
                self.table.on_record(death.identity);
                if let Some(entity) = self.entities.get_mut(name) {
                    entity.unsettled.retain(|dead| *dead != death.identity);
                }
                continue;
            }
            told |= self.inherit_handover(name, &death) || self.tell_inherited(name, death);
        }
        told
    }

    /// The deaths of the entity's processes, oldest first.
    fn inherited_deaths(&mut self, name: &EntityName, look: &Look) -> Vec<Death> {
        let Some(entity) = self.entities.get_mut(name) else {
            return Vec::new();
        };
        let known = entity.known.map(|known| known.identity);
        let mut processes = std::mem::take(&mut entity.inherited);
        // The pidfile says whose it was, though it was not remembered any more.
        let named = look
            .names_gone
            .and_then(|pid| self.table.inherited_as(pid))
            .filter(|identity| self.inheritance.owned.insert(*identity));
        processes.extend(named);
        let alive = |identity| {
            let seen = [&look.process, &look.known_alive];
            seen.into_iter()
                .flatten()
                .any(|process| process.identity() == identity)
        };
        let mut deaths = Vec::new();
        for identity in processes {
            if alive(identity) {
                continue;
            }
            if Some(identity) == known && !look.known_gone {
                // Nobody can tell; a later look will.
                entity.inherited.push(identity);
                continue;
            }
            deaths.extend(self.table.inherited_death(identity));
        }
        deaths.sort_by_key(|death| death.died_at);
        deaths
    }

    /// Whether the core has asked for a new look.
    fn tell_inherited(&mut self, name: &EntityName, death: Death) -> bool {
        let now = clock::now();
        let Some(entity) = self.entities.get_mut(name) else {
            return false;
        };
        let superseded = entity.unsettled.contains(&death.identity);
        if !superseded && entity.recovery.recall(death.identity, death.generation) {
            self.happen(name, Event::Died(death), now);
            return true;
        }
        let stopped = match entity.recovery.stage() {
            Stage::Unknown => {
                entity.recovery.resume();
                false
            }
            stage => *stage == Stage::Stopped,
        };
        entity.unsettled.retain(|dead| *dead != death.identity);
        entity.recovery.record(death.clone(), now);
        self.tell(name, Notice::Died(death), now);
        if stopped {
            self.tell(name, Notice::Stopped, now);
        }
        false
    }

    /// The entity has been looked at.
    pub(super) fn has_inherited(&mut self, name: &EntityName) {
        let settled = self
            .entities
            .get(name)
            .is_none_or(|entity| entity.inherited.is_empty());
        if settled && self.inheritance.awaited.remove(name) {
            self.forget_what_nobody_knows();
        }
    }

    pub(super) fn forget_what_nobody_knows(&mut self) {
        if self.inheritance.awaited.is_empty() {
            self.inheritance = Inheritance::default();
            self.table.forget_unclaimed();
        }
    }
}

impl Inheritance {
    /// Whether the journal has this death.
    fn has(&self, name: &EntityName, death: &Death) -> bool {
        let identity = death.identity.to_string();
        let died_at = death.died_at.map(Time::as_boot_ns);
        self.on_record.get(&**name).is_some_and(|deaths| {
            deaths.iter().any(|mark| {
                mark.identity == identity
                    && (mark.died_at_boot_ns == died_at || mark.died_at_boot_ns.is_none())
            })
        })
    }
}
