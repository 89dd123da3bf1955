//! Turns to start a successor: the host's recovery budget, for the entities.
//!
//! Must stay true: an entity for which there is room starts in the step in which
//! it asks, so that a single failure waits for nothing.

use super::engine::Engine;
use crate::{
    core::{
        budget::Limits,
        entity::EntitySpec,
        event::{Delay, Event},
        time::Time,
    },
    sys::clock,
    table::EntityName,
};

impl Engine {
    /// The answer to an entity that asks for its turn.
    pub(super) fn ask_turn(&mut self, name: &EntityName, spec: &EntitySpec, now: Time) -> Event {
        if self.budget.ask(EntityName::clone(name), spec.severity, now) {
            return Event::Turn;
        }
        let ahead = self.budget.ahead_of(name).unwrap_or(0);
        Event::Delayed(Delay::Budget { ahead })
    }

    /// Gives turns that have become free.
    pub(super) fn give_turns(&mut self) {
        let now = clock::now();
        for name in self.budget.grant(now) {
            self.happen(&name, Event::Turn, now);
        }
    }

    /// Puts these limits into force.
    pub(super) const fn limit(&mut self, limits: Limits) {
        self.budget.set_limits(limits);
    }
}
