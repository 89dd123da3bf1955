//! What a look at an entity's process showed, on its way to the core.
//!
//! Must stay true: a death that the kernel has told comes before what was seen
//! since.

use std::sync::Arc;

use super::{engine::Engine, message::Work, steps::Found};
use crate::{
    core::{
        death::LastSeen,
        discrepancy::Discrepancy,
        event::{Event, Occasion, Outcome},
        identity::Identity,
        notice::Notice,
        recovery::Registered,
    },
    effect::Job,
    look::Look,
    state::record::UnitStop,
    sys::{clock, pidfd::VerifiedPid},
    table::EntityName,
};

impl Engine {
    pub(super) fn looked(&mut self, name: &EntityName, look: Look) {
        if !self.inherit(name, &look) {
            self.saw(name, look);
        }
        self.has_inherited(name);
    }

    fn saw(&mut self, name: &EntityName, look: Look) {
        let Look {
            mut sighting,
            mut process,
            stamp,
            mut last_seen,
            stranger,
            knew,
            exhausted: _,
            known_alive,
            known_gone: _,
            names_gone: _,
            unit_stopped,
            other_main,
        } = look;
        if let (Some(invocation), Some(entity)) = (unit_stopped, self.entities.get_mut(name)) {
            entity.unit_stop = Some(UnitStop { invocation });
        }
        if self
            .entities
            .get(name)
            .is_some_and(|entity| entity.recovery.is_deferred())
        {
            return;
        }
        let finding = (sighting.occasion == Occasion::Sweep)
            .then(|| self.audit(name, &sighting, knew))
            .flatten();
        // A death that is known to the kernel comes before what was seen since.
        if let Some(current) = self.current(name)
            && sighting.outcome != Outcome::Process(current.identity)
            && let Some(generation) = current.generation
            && !self.table.is_alive(generation)
        {
            self.drain_ring();
            self.pidfd_readable(generation);
        }
        // Looks overtake each other, and processes may die on the way here.
        if self.current(name).map(|current| current.identity)
            != process.as_ref().map(VerifiedPid::identity)
            && process.as_ref().is_some_and(VerifiedPid::is_dead)
            && let Some(died) = process.take()
        {
            let reason = format!("{} died since it was seen", died.identity());
            sighting.outcome = Outcome::Nothing { reason };
        }
        if let (Some(identity), Some(entity)) = (stranger, self.entities.get(name))
            && !entity.recovery.is_held()
            && sighting.occasion != Occasion::PidfileStirred
            && let Some(path) = &entity.spec.pidfile
        {
            self.hand_out(Work::Job {
                entity: Arc::clone(name),
                job: Job::RemovePidfile {
                    path: path.clone(),
                    identity,
                },
            });
        }
        if process.is_none() && sighting.occasion == Occasion::Asked {
            // A lost pidfile is no reason to start a second instance.
            process = known_alive.filter(|alive| !alive.is_dead());
            if let Some(alive) = &process {
                sighting.outcome = Outcome::Process(alive.identity());
                last_seen = LastSeen::default();
            }
        }
        if let Outcome::Process(identity) = sighting.outcome
            && let Some(entity) = self.entities.get_mut(name)
            && let Some(known) = &mut entity.known
            && known.identity == identity
            && stamp.is_some()
        {
            known.stamp = stamp;
        }
        if let Some(current) = self.current(name)
            && sighting.outcome == Outcome::Process(current.identity)
            && let Some(generation) = current.generation
        {
            self.table.note(generation, last_seen.clone());
        }
        if let (Outcome::Process(identity), Some(main)) = (&sighting.outcome, other_main) {
            self.main_differs(name, *identity, main);
        }
        let found = Found {
            process,
            stamp,
            last_seen,
        };
        self.happen_with(name, Event::Seen(sighting), Some(&found));
        if let Some(finding) = finding {
            self.audited(name, finding);
        }
    }

    /// A pidfile begins to change. While no process is known it is looked at at
    /// once: the sooner a successor is known that somebody else has started, the
    /// better. A live one's is let come to rest.
    pub(super) fn stirred(&self, name: &EntityName) {
        if self.current(name).is_none() {
            self.look(name, Occasion::PidfileStirred, false);
        }
    }

    /// systemd's idea of the main process is another one than the pidfile's, which
    /// is what the service's own tools and pmon go by: told once of each pair.
    fn main_differs(&mut self, name: &EntityName, identity: Identity, main: u32) {
        let Some(entity) = self.entities.get_mut(name) else {
            return;
        };
        let pair = Some((identity, main));
        if std::mem::replace(&mut entity.other_main, pair) == pair {
            return;
        }
        let discrepancy = Discrepancy::OtherMainProcess;
        self.discrepancies.count(discrepancy);
        let notice = Notice::Audited {
            discrepancy,
            seen: format!(
                "systemd holds {main} for the unit's main process, and the pidfile names {identity}"
            ),
            done: vec![format!("{identity} is monitored, as the pidfile says")],
        };
        self.tell(name, notice, clock::now());
    }

    pub(super) fn current(&self, name: &EntityName) -> Option<Registered> {
        self.entities.get(name)?.recovery.current()
    }
}
