//! Turns to start a successor: whom an entity has to wait for, and the host's recovery
//! budget.
//!
//! Must stay true: an entity that waits for nobody, and for which there is room,
//! starts in the step in which it asks, so that a single failure waits for nothing.

use std::collections::HashMap;

use super::{engine::Engine, entity::Entity};
use crate::{
    core::{
        budget::Limits,
        dependency::{
            Standing,
            gate::{Blocker, Order},
            graph::Graph,
        },
        entity::EntitySpec,
        event::{Delay, Event},
        notice::Notice,
        time::Time,
    },
    sys::clock,
    table::EntityName,
};

fn standing(entities: &HashMap<EntityName, Entity>, name: &str) -> Standing {
    let entity = entities.get(name);
    entity.map_or(Standing::Unknown, |entity| entity.recovery.standing())
}

impl Engine {
    /// The answer to an entity that asks for its turn.
    pub(super) fn ask_turn(&mut self, name: &EntityName, spec: &EntitySpec, now: Time) -> Event {
        let entities = &self.entities;
        let blocker = self.gate.ask(name, now, |other| standing(entities, other));
        match blocker {
            Some(blocker) => Event::Delayed(self.delay(blocker)),
            None => self.ask_budget(name, spec, now),
        }
    }

    fn ask_budget(&mut self, name: &EntityName, spec: &EntitySpec, now: Time) -> Event {
        let urgency = self.gate.urgency(name).unwrap_or(spec.severity);
        if self.budget.ask(EntityName::clone(name), urgency, now) {
            return Event::Turn;
        }
        let ahead = self.budget.ahead_of(name).unwrap_or(0);
        Event::Delayed(Delay::Budget { ahead })
    }

    fn delay(&self, blocker: Blocker) -> Delay {
        match blocker {
            Blocker::After(name) => Delay::After {
                name: name.to_string(),
            },
            Blocker::Required(name) => Delay::Requires {
                standing: standing(&self.entities, &name),
                name: name.to_string(),
            },
            Blocker::Group(name) => Delay::Group {
                name: name.to_string(),
            },
        }
    }

    /// An entity has no more use for its turn.
    pub(super) fn return_turn(&mut self, name: &EntityName) {
        self.gate.leave(name);
        self.budget.give_back(name);
    }

    /// Tells those who wait for an entity when it stands otherwise than before.
    pub(super) fn note_standing(&mut self, name: &EntityName) {
        if let Some(entity) = self.entities.get_mut(name) {
            let standing = entity.recovery.standing();
            if std::mem::replace(&mut entity.standing, standing) != standing {
                self.gate.changed(name);
            }
        }
    }

    /// When [`Self::give_turns`] has something to do.
    pub(super) fn turns_due(&self) -> Option<Time> {
        self.gate.due().into_iter().chain(self.budget.due()).min()
    }

    /// Gives turns that have become free, and carries out plans of groups.
    pub(super) fn give_turns(&mut self) {
        let now = clock::now();
        let due = self.gate.due().is_some_and(|due| due <= now);
        let entities = &self.entities;
        let orders = if due {
            (self.gate).advance(now, |other| standing(entities, other))
        } else {
            Vec::new()
        };
        for order in orders {
            match order {
                Order::LetThrough { name, in_vain } => {
                    let Some(entity) = self.entities.get(&name) else {
                        continue;
                    };
                    let spec = std::sync::Arc::clone(&entity.spec);
                    if let Some(other) = in_vain {
                        let other = other.to_string();
                        self.tell(&name, Notice::WaitedInVain { name: other }, now);
                    }
                    let event = self.ask_budget(&name, &spec, now);
                    self.happen(&name, event, now);
                }
                Order::Wait { name, blocker } => {
                    let delay = self.delay(blocker);
                    self.happen(&name, Event::Delayed(delay), now);
                }
                Order::GroupInVain { name, group, other } => {
                    let (group, other) = (group.to_string(), other.to_string());
                    self.tell(&name, Notice::GroupInVain { group, name: other }, now);
                }
                Order::End { name, group } => {
                    let group = group.to_string();
                    self.happen(&name, Event::Cycle { group }, now);
                }
            }
        }
        for name in self.budget.grant(now) {
            // Others may have failed while it waited.
            let entities = &self.entities;
            let blocker = (self.gate).ask(&name, now, |other| standing(entities, other));
            let event = match blocker {
                None => Event::Turn,
                Some(blocker) => {
                    self.budget.give_back(&name);
                    Event::Delayed(self.delay(blocker))
                }
            };
            self.happen(&name, event, now);
        }
    }

    /// Puts these limits into force.
    pub(super) const fn limit(&mut self, limits: Limits) {
        self.budget.set_limits(limits);
    }

    /// Puts the relations between the entities into force.
    pub(super) fn relate(&mut self) {
        let entities = self.entities.values().map(|entity| {
            let EntitySpec {
                name,
                severity,
                dependencies,
                ..
            } = &*entity.spec;
            (name.as_str(), *severity, dependencies)
        });
        self.gate.set_graph(Graph::of(entities));
    }
}
