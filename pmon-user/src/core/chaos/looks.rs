//! Looks: what they show is told later, and may be of the past by then.

use super::{happening::Happening, world::World};
use crate::core::{
    death::WaitStatus,
    event::{Event, Occasion, Outcome, Sighting},
    identity::Identity,
};

impl World {
    pub(super) fn sweep(&mut self) {
        if self.spec.status.is_none() {
            self.soon(Happening::Look(Occasion::Sweep));
        }
    }

    pub(super) fn make_look(&mut self, occasion: Occasion) {
        let seen = self.look(occasion);
        let found = match &seen.outcome {
            Outcome::Process(identity) => Some(*identity),
            Outcome::Nothing { .. } | Outcome::Unverifiable { .. } => None,
        };
        self.soon(Happening::Tell(Event::Seen(seen), found));
    }

    fn look(&mut self, occasion: Occasion) -> Sighting {
        let named = match self.spec.pidfile {
            Some(_) => self.pidfile,
            None => self.known,
        };
        let alive = named.filter(|identity| self.exists(*identity));
        let outcome = if !self.calm && self.random.percent(1) {
            let reason = "there are no descriptors".to_owned();
            Outcome::Unverifiable { reason }
        } else {
            alive.map_or_else(
                || Outcome::Nothing {
                    reason: "it is gone".to_owned(),
                },
                Outcome::Process,
            )
        };
        let foreign_script = self.foreign_script.then_some(77);
        // The daemon asks the manager when it may have to start something.
        let asked = occasion == Occasion::Asked;
        let unit = if asked { self.unit_report() } else { None };
        Sighting {
            occasion,
            outcome,
            foreign_script,
            unit,
        }
    }

    /// As the engine tells a look: a death that the table knows comes first, and
    /// who has died since the look was made was not seen.
    pub(super) fn looked(
        &mut self,
        mut sighting: Sighting,
        found: Option<Identity>,
    ) -> Result<(), String> {
        if let Some(current) = self.recovery.current()
            && found != Some(current.identity)
            && !self.exists(current.identity)
        {
            self.released(current.identity, WaitStatus(9))?;
        }
        let mut found = found;
        if let Some(identity) = found
            && !self.exists(identity)
        {
            found = None;
            let reason = "it died since it was seen".to_owned();
            sighting.outcome = Outcome::Nothing { reason };
        }
        if found.is_none() && sighting.occasion == Occasion::Asked {
            found = self.known.filter(|known| self.exists(*known));
            if let Some(known) = found {
                sighting.outcome = Outcome::Process(known);
            }
        }
        self.step(Event::Seen(sighting), found)
    }
}
