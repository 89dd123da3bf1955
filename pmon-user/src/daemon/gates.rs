//! The host's gates between the entities that stand before them and the thread
//! that looks after them (`compat::starlingx::gates`). What follows from an answer
//! is decided in `core::gate` and `core::recovery`.
//!
//! Must stay true: whoever asked is answered by what was seen after it asked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{engine::Engine, message::Work};
use crate::{
    compat::starlingx::gates::Report,
    core::{
        effect::Effect,
        entity::EntitySpec,
        event::Event,
        gate::{Conditions, GateEvent, Knowledge, Verdict},
        recovery::{Recovery, Stage},
        time::Time,
    },
    sys::clock,
    table::EntityName,
};

/// The gates; none where nothing has to be waited for.
#[derive(Debug, Default)]
pub(super) struct Gates(Option<Guarded>);

#[derive(Debug)]
struct Guarded {
    conditions: Conditions,
    verdict: Verdict,
    /// Number of the last question that was put.
    question: u64,
    /// Number of the last question that was answered.
    answered: u64,
    /// Who waits, with the number of its question.
    waiting: BTreeMap<EntityName, u64>,
}

impl Gates {
    /// As the host is at the start; none if pmon takes nobody's place.
    pub(super) fn new(host: Option<Knowledge>) -> Self {
        Self(host.map(|knowledge| Guarded {
            verdict: knowledge.verdict(),
            conditions: knowledge.conditions,
            question: 0,
            answered: 0,
            waiting: BTreeMap::new(),
        }))
    }

    /// Puts a newly configured entity before these gates; its first effects, if
    /// it may begin at once.
    pub(super) fn place(
        &self,
        spec: &EntitySpec,
        recovery: &mut Recovery,
        effects: Vec<Effect>,
    ) -> Vec<Effect> {
        let Some(guarded) = &self.0 else {
            return effects;
        };
        recovery.guard();
        match guarded.conditions.awaited(spec.subfunction.as_deref()) {
            Some(condition) if recovery.defer(spec, condition) => Vec::new(),
            Some(_) | None => effects,
        }
    }
}

impl Engine {
    /// An entity wants to know whether the gates are open.
    pub(super) fn ask_gate(&mut self, name: &EntityName) {
        let Some(guarded) = &mut self.gates.0 else {
            return;
        };
        guarded.question += 1;
        let question = guarded.question;
        guarded.waiting.insert(Arc::clone(name), question);
        self.hand_out(Work::AskGate(question));
    }

    /// The host was looked at.
    pub(super) fn gates_seen(&mut self, report: Report) {
        let Report {
            question,
            knowledge,
        } = report;
        let Some(guarded) = &mut self.gates.0 else {
            return;
        };
        let verdict = knowledge.verdict();
        let changed = guarded.verdict != verdict;
        let conditions_changed = guarded.conditions != knowledge.conditions;
        let answered = std::mem::replace(&mut guarded.answered, question);
        guarded.verdict = verdict.clone();
        guarded.conditions = knowledge.conditions;
        let told: Vec<EntityName> = guarded
            .waiting
            .iter()
            .filter(|(_, asked)| **asked <= question && (changed || **asked > answered))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        if verdict == Verdict::Open {
            for name in &told {
                guarded.waiting.remove(name);
            }
        }
        let now = clock::now();
        for name in told {
            let event = Event::Gate(GateEvent::Verdict(verdict.clone()));
            self.happen(&name, event, now);
        }
        if conditions_changed {
            self.release_deferred(now);
        }
    }

    /// Lets those begin whose condition holds now; that happens a few times in
    /// the life of a host.
    fn release_deferred(&mut self, now: Time) {
        let Some(guarded) = &self.gates.0 else {
            return;
        };
        let conditions = &guarded.conditions;
        let pause = if conditions.several_functions {
            conditions.pause
        } else {
            Duration::ZERO
        };
        let released: Vec<EntityName> = self
            .entities
            .iter()
            .filter(|(_, entity)| match entity.recovery.stage() {
                Stage::Polling { condition } => conditions.holds(*condition),
                _ => false,
            })
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in released {
            let event = Event::Gate(GateEvent::ConditionMet { pause });
            self.happen(&name, event, now);
        }
    }
}
