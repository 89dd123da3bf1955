//! What the sweep concludes: whether an entity's registration, its pidfile and
//! reality agree, and, where they don't, the record of what was seen and done.
//!
//! Must stay true: nothing is put right here. The same sighting that disagreed
//! goes to the core, which puts it right in its order; what that brought about
//! is gathered and told. A disagreement that lasts is counted and told once. An
//! entity with which something is under way is not audited.

use super::{engine::Engine, entity::Entity};
use crate::{
    audit::discrepancy::{Discrepancy, Registered, compare},
    core::{
        effect::Effect,
        event::{Outcome, Sighting},
        identity::Identity,
        notice::Notice,
        recovery::Stage,
    },
    sys::clock,
    table::EntityName,
};

/// A disagreement, on its way to be told.
pub(super) struct Finding {
    discrepancy: Discrepancy,
    seen: String,
}

/// What is being done about it.
pub(super) struct Deeds {
    entity: EntityName,
    done: Vec<String>,
}

impl Engine {
    /// Counts what events should have told and did not. Whatever is done for
    /// the entity from here on is gathered, until [`Engine::audited`].
    pub(super) fn audit(
        &mut self,
        name: &EntityName,
        sighting: &Sighting,
        knew: Option<Identity>,
    ) -> Option<Finding> {
        let entity = self.entities.get(name)?;
        let current = entity.recovery.current().and_then(|it| it.generation);
        let hands_over = current.is_some_and(|generation| self.table.hands_over(generation));
        if hands_over || is_deferred(entity) {
            return None;
        }
        let known = entity.recovery.current().and_then(|current| {
            let generation = current.generation?;
            let seen = sighting.outcome == Outcome::Process(current.identity);
            Some(Registered {
                identity: current.identity,
                alive: seen || self.table.is_alive(generation),
            })
        });
        let found = compare(known, knew, sighting);
        let subject = known.map(|known| known.identity);
        let episode = found.map(|discrepancy| (discrepancy, subject));
        let before = {
            let entity = self.entities.get_mut(name)?;
            std::mem::replace(&mut entity.disagreement, episode)
        };
        let discrepancy = found.filter(|_| before != episode)?;
        self.discrepancies.count(discrepancy);
        self.deeds = Some(Deeds {
            entity: EntityName::clone(name),
            done: Vec::new(),
        });
        Some(Finding {
            discrepancy,
            seen: seen(known, sighting),
        })
    }

    /// Tells a disagreement, with what was done since it was found.
    pub(super) fn audited(&mut self, name: &EntityName, finding: Finding) {
        let Finding { discrepancy, seen } = finding;
        let done = self.deeds.take().map(|deeds| deeds.done);
        let notice = Notice::Audited {
            discrepancy,
            seen,
            done: done.unwrap_or_default(),
        };
        self.tell(name, notice, clock::now());
    }

    /// Gathers what is done for an entity that is being audited.
    pub(super) fn gather(&mut self, name: &EntityName, effect: &Effect) {
        if let Some(deeds) = &mut self.deeds
            && deeds.entity == *name
        {
            deeds.done.extend(deed(effect));
        }
    }
}

/// Something is under way, or nothing is expected to agree.
fn is_deferred(entity: &Entity) -> bool {
    let recovery = &entity.recovery;
    // Not looked at yet, not to be monitored yet, waiting for its turn, an
    // operator's alone, or nobody's to look at.
    let unsettled = matches!(
        recovery.stage(),
        Stage::Unknown | Stage::Gated | Stage::Queued | Stage::Held { .. } | Stage::Unmonitored
    );
    unsettled || recovery.is_failed() || recovery.stage().deadline().is_some()
}

fn seen(known: Option<Registered>, sighting: &Sighting) -> String {
    let table = match known {
        None => "nothing is registered".to_owned(),
        Some(Registered {
            identity,
            alive: true,
        }) => format!("{identity} is registered and alive"),
        Some(Registered {
            identity,
            alive: false,
        }) => format!("{identity} is registered and dead"),
    };
    match &sighting.outcome {
        Outcome::Process(found) => format!("{table}, and {found} was found"),
        Outcome::Nothing { reason } | Outcome::Unverifiable { reason } => {
            format!("{table}, and {reason}")
        }
    }
}

/// An effect in the words of what was done; none where nothing of the process,
/// its pidfile or its registration is touched.
fn deed(effect: &Effect) -> Option<String> {
    let text = match effect {
        Effect::Look { .. } => "looked once more".to_owned(),
        Effect::Register { identity } => format!("{identity} registered"),
        Effect::Unregister { identity } => format!("{identity} unregistered"),
        Effect::Release { identity } => format!("{identity} let go"),
        Effect::RemovePidfile { identity } => {
            format!("the pidfile removed if it named {}", identity.pid)
        }
        Effect::Signal { identity, signal } => format!("signal {signal} to {identity}"),
        Effect::EndLeftovers { identity, .. } => format!("what {identity} left behind ended"),
        Effect::Start { verb, .. } => format!("a successor asked for ({})", verb.as_str()),
        Effect::StopUnit => "systemd asked to stop the unit".to_owned(),
        Effect::CancelStart => "the start command cancelled".to_owned(),
        Effect::RunScript { .. }
        | Effect::RequestPulse { .. }
        | Effect::CollectPulse { .. }
        | Effect::AskTurn
        | Effect::ReturnTurn
        | Effect::Fell
        | Effect::Alarm(_)
        | Effect::AskGate
        | Effect::FlappingAlarm(_)
        | Effect::Say(_) => return None,
    };
    Some(text)
}
