//! One instance of each entity, verified: after every recovery and with every
//! sweep; and the alarm of its own for when there are more.
//!
//! States of an entity's alarm: none; *suspected*, when a count has found others
//! and is to be repeated in a moment, because overlapping restarts are common
//! and pass; *raised*, when those found before are found again; none once a
//! count finds nobody. Must stay true: counting is done elsewhere, one count at
//! a time for however many entities; nobody is ended for being a duplicate.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    engine::Engine,
    entity::Entity,
    executions::is_known_by_likeness,
    message::{Inbox, Message, Work},
};
use crate::{
    alarm::event::{AlarmEvent, AlarmKind, instance},
    core::{entity::Severity, identity::Identity, notice::Notice, recovery::Stage},
    look::{
        instances::{self, Census, Counted, Instance, Subject},
        likeness::Traits,
    },
    state::record::AlarmSort,
    sys::clock,
    table::EntityName,
};

/// Between the first sight of another instance and the count that confirms it.
const CONFIRM: Duration = Duration::from_secs(3);
/// A count that takes longer sits on a process that holds its memory map.
const DEADLINE: Duration = Duration::from_secs(10);
/// What makes the name of this alarm another one than the entity's.
pub(super) const NAME: &str = "duplicate instance";
/// Former processes of an entity that are remembered.
const FORMER: usize = 8;

/// Counts that are to be made.
#[derive(Default)]
pub(super) struct Counting {
    /// Of whom, and whether a recovery is to be confirmed by it.
    due: BTreeMap<EntityName, bool>,
    under_way: BTreeMap<EntityName, bool>,
    is_under_way: bool,
    /// Entities of which one instance was found, since the daemon started.
    pub(super) verified: u64,
}

/// What is known of an entity's instances.
#[derive(Clone, Debug, Default)]
pub struct Instances {
    /// Those that a first count has found.
    suspected: Vec<Instance>,
    /// Those for which the alarm is raised.
    pub duplicates: Vec<Instance>,
    /// Processes that were the entity's, replaced while they lived.
    former: Vec<Identity>,
    /// What the entity's process is like, where a successor is to be known by
    /// that.
    pub traits: Option<Arc<Traits>>,
}

impl Engine {
    /// The story of an entity has gone on: is it to be counted?
    pub(super) fn count_after(&mut self, name: &EntityName, notice: &Notice) {
        let recovered = match notice {
            Notice::Recovered(_) | Notice::Restarted(_) => true,
            Notice::PidChanged { old, .. } => {
                if let Some(entity) = self.entities.get_mut(name) {
                    let former = &mut entity.instances.former;
                    if former.len() == FORMER {
                        former.remove(0);
                    }
                    former.push(*old);
                }
                false
            }
            // What a successor without a pidfile will be known by; and whether an
            // earlier daemon's alarm has still its ground.
            Notice::Registered(_)
                if (self.entities.get(name))
                    .is_some_and(|it| is_known_by_likeness(it) || is_said_to_have_others(it)) =>
            {
                false
            }
            _ => return,
        };
        *self
            .counting
            .due
            .entry(EntityName::clone(name))
            .or_default() |= recovered;
    }

    /// With every sweep, everybody.
    pub(super) fn count_all(&mut self) {
        for name in self.entities.keys() {
            self.counting
                .due
                .entry(EntityName::clone(name))
                .or_default();
        }
    }

    /// Hands out what is to be counted, unless a count is under way.
    pub(super) fn count_instances(&mut self) {
        if self.counting.is_under_way || self.counting.due.is_empty() {
            return;
        }
        let due = std::mem::take(&mut self.counting.due);
        let mut subjects = Vec::new();
        let mut idle = Vec::new();
        for name in due.keys() {
            let Some(entity) = self.entities.get(name) else {
                continue;
            };
            match resting(entity) {
                Some(main) => subjects.push(Subject {
                    entity: EntityName::clone(name),
                    spec: Arc::clone(&entity.spec),
                    main,
                    before: former(entity, main),
                    wants_traits: is_known_by_likeness(entity),
                }),
                None if entity.recovery.current().is_none()
                    && *entity.recovery.stage() != Stage::Unknown =>
                {
                    idle.push(EntityName::clone(name));
                }
                None => {}
            }
        }
        // Without a process there is nobody beside it.
        for name in idle {
            if let Some(entity) = self.entities.get_mut(&name) {
                entity.instances.suspected.clear();
                entity.instances.duplicates.clear();
                if is_said_to_have_others(entity) {
                    let notice = Notice::DuplicateCleared(None);
                    self.sound_duplicate(&name, &notice);
                    self.tell(&name, notice, clock::now());
                }
            }
        }
        if subjects.is_empty() {
            return;
        }
        self.counting.under_way = due;
        self.counting.is_under_way = true;
        let census = Census {
            subjects,
            registered: self.registered_pids(),
        };
        self.hand_out(Work::Count(census));
    }

    /// The registered processes of all entities.
    pub(super) fn registered_pids(&self) -> Arc<HashSet<u32>> {
        let current = |entity: &Entity| Some(entity.recovery.current()?.identity.pid);
        Arc::new(self.entities.values().filter_map(current).collect())
    }

    /// Others were found a moment ago.
    pub(super) fn count_again(&mut self, names: Vec<EntityName>) {
        for name in names {
            self.counting.due.entry(name).or_default();
        }
    }

    pub(super) fn counted(&mut self, counted: Vec<Counted>) {
        self.counting.is_under_way = false;
        let asked = std::mem::take(&mut self.counting.under_way);
        let mut unconfirmed = Vec::new();
        for Counted {
            entity: name,
            main,
            others,
            traits,
        } in counted
        {
            let Some(entity) = self.entities.get_mut(&name) else {
                continue;
            };
            // Of a process that has been replaced since it says nothing.
            if resting(entity) != Some(main) {
                continue;
            }
            let instances = &mut entity.instances;
            let is_said = (entity.further_alarms)
                .raised(AlarmSort::Failure, Some(NAME))
                .is_some();
            instances.traits = traits.map(Arc::new).or(instances.traits.take());
            let confirmed: Vec<Instance> = others
                .iter()
                .filter(|other| instances.suspected.contains(other))
                .copied()
                .collect();
            if confirmed.len() < others.len() {
                unconfirmed.push(EntityName::clone(&name));
            }
            instances.suspected = others;
            let is_alone = instances.suspected.is_empty();
            let before = std::mem::replace(&mut instances.duplicates, confirmed.clone());
            let notice = if is_alone && is_said {
                Some(Notice::DuplicateCleared(Some(main)))
            } else if confirmed.is_empty() || confirmed == before {
                None
            } else {
                let others = confirmed.iter();
                let others = others.map(|other| (other.identity, other.tie.to_string()));
                Some(Notice::DuplicateInstance {
                    main,
                    others: others.collect(),
                })
            };
            if is_alone {
                self.counting.verified += 1;
                entity.instances.former.clear();
            }
            if let Some(notice) = notice {
                self.sound_duplicate(&name, &notice);
                self.tell(&name, notice, clock::now());
            }
            if is_alone && asked.get(&name) == Some(&true) {
                self.tell(&name, Notice::OneInstance(main), clock::now());
            }
        }
        if !unconfirmed.is_empty() {
            self.hand_out(Work::CountAgain(unconfirmed));
        }
    }
}

impl Engine {
    /// Tells the receivers of alarms. It is an alarm of its own, under a name of
    /// its own: the entity's alarm, and the health of the host, stay as they are.
    fn sound_duplicate(&mut self, name: &EntityName, notice: &Notice) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let at = clock::wall(clock::now());
        let further = &mut entity.further_alarms;
        let earlier = further.raised(AlarmSort::Failure, Some(NAME));
        let earlier = earlier.map(|alarm| alarm.since);
        let (kind, since) = if matches!(notice, Notice::DuplicateInstance { .. }) {
            let since = further.raise(AlarmSort::Failure, Some(NAME), Severity::Minor, None, at);
            let again = earlier.is_some();
            (
                if again {
                    AlarmKind::Refresh
                } else {
                    AlarmKind::Raise
                },
                since,
            )
        } else {
            further.clear(AlarmSort::Failure, Some(NAME), at);
            (AlarmKind::Clear, earlier.unwrap_or(at))
        };
        let event = AlarmEvent {
            kind,
            at,
            host: Arc::from(self.facts.host.as_str()),
            entity: Some(EntityName::clone(name)),
            severity: Severity::Minor,
            instance: instance(&self.facts.host, name, Some(NAME)),
            reason: notice.to_string(),
            since,
            incident: None,
            recovers: false,
        };
        let memory = entity.memory_now();
        self.hand_out(Work::Alarm {
            entity: EntityName::clone(name),
            memory,
            events: vec![event],
        });
    }
}

/// Whether receivers of alarms have been told of others, by this daemon or an
/// earlier one.
fn is_said_to_have_others(entity: &Entity) -> bool {
    let further = &entity.further_alarms;
    further.raised(AlarmSort::Failure, Some(NAME)).is_some()
}

/// The process of an entity with which nothing is under way.
fn resting(entity: &Entity) -> Option<Identity> {
    let current = entity.recovery.current()?;
    let rests = matches!(
        entity.recovery.stage(),
        Stage::Manage | Stage::Monitor { .. }
    );
    (rests && current.generation.is_some() && !current.hinted).then_some(current.identity)
}

/// Former processes that may live still.
fn former(entity: &Entity, main: Identity) -> Vec<Identity> {
    let former = entity.instances.former.iter().copied();
    former.filter(|former| *former != main).collect()
}

/// Counts on a blocking thread, and says so even when that hangs.
pub(super) fn count(census: Census, inbox: Inbox) {
    tokio::spawn(async move {
        let counting = spawn_blocking(move || instances::count(&census));
        let counted = match timeout(DEADLINE, counting).await {
            Ok(counted) => counted.unwrap_or_default(),
            Err(_) => {
                tracing::warn!("instances could not be counted within {DEADLINE:?}");
                Vec::new()
            }
        };
        inbox.send(Message::Counted(counted));
    });
}

/// Has these counted again in a moment.
pub(super) fn count_again(names: Vec<EntityName>, inbox: Inbox) {
    tokio::spawn(async move {
        sleep(CONFIRM).await;
        inbox.send(Message::CountAgain(names));
    });
}
