//! What the sweep found that the kernel sources and inotify should have told.
//!
//! A healthy host has none: each kind is counted for good, and a rising counter
//! says which part of the detection is not doing its work. Pure: what to do
//! about a discrepancy is the core's business, through the same sighting.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::core::discrepancy::Discrepancy;
use crate::core::{
    event::{Outcome, Sighting},
    identity::Identity,
};

/// What the pid table says of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The registered process.
    pub identity: Identity,
    /// Whether its pidfd says that it lives, read *after* the look. A death
    /// that has reached the daemon already must not be presented as
    /// registered at all.
    pub alive: bool,
}

/// Compares one entity's registration with what the sweep saw.
///
/// Meaningful only while nothing is under way for the entity: no recovery, no
/// start command, no death being delivered. `knew` is who was known when the
/// look was asked for: of a process registered since, it says nothing.
#[must_use]
pub fn compare(
    known: Option<Registered>,
    knew: Option<Identity>,
    sighting: &Sighting,
) -> Option<Discrepancy> {
    let Sighting {
        occasion: _,
        outcome,
        foreign_script,
        unit: _,
    } = sighting;
    let Some(Registered { identity, alive }) = known else {
        return match outcome {
            Outcome::Process(_) => Some(Discrepancy::Unregistered),
            Outcome::Nothing { .. } | Outcome::Unverifiable { .. } => None,
        };
    };
    if knew != Some(identity) {
        return None;
    }
    match (outcome, alive) {
        // Alive when it was seen: a death after that is still on its way.
        (Outcome::Process(seen), _) if *seen == identity => None,
        (Outcome::Process(_), true) => Some(Discrepancy::Duplicate),
        (Outcome::Process(_), false) => Some(Discrepancy::PidChanged),
        // A script at work removes the pidfile before the process is gone.
        (Outcome::Nothing { .. } | Outcome::Unverifiable { .. }, true) => foreign_script
            .is_none()
            .then_some(Discrepancy::StalePidfile),
        (Outcome::Nothing { .. } | Outcome::Unverifiable { .. }, false) => {
            Some(Discrepancy::MissedExit)
        }
    }
}

/// How often each kind was found since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discrepancies {
    /// See [`Discrepancy::MissedExit`].
    pub missed_exit: u64,
    /// See [`Discrepancy::PidChanged`].
    pub pid_changed: u64,
    /// See [`Discrepancy::StalePidfile`].
    pub stale_pidfile: u64,
    /// See [`Discrepancy::Unregistered`].
    pub unregistered: u64,
    /// See [`Discrepancy::OrphanRegistration`].
    pub orphan_registration: u64,
    /// See [`Discrepancy::AlteredRegistration`].
    pub altered_registration: u64,
    /// See [`Discrepancy::Duplicate`].
    pub duplicate: u64,
    /// See [`Discrepancy::OtherMainProcess`].
    pub other_main_process: u64,
}

impl Discrepancies {
    /// Counts one.
    pub const fn count(&mut self, discrepancy: Discrepancy) {
        let counter = match discrepancy {
            Discrepancy::MissedExit => &mut self.missed_exit,
            Discrepancy::PidChanged => &mut self.pid_changed,
            Discrepancy::StalePidfile => &mut self.stale_pidfile,
            Discrepancy::Unregistered => &mut self.unregistered,
            Discrepancy::OrphanRegistration => &mut self.orphan_registration,
            Discrepancy::AlteredRegistration => &mut self.altered_registration,
            Discrepancy::Duplicate => &mut self.duplicate,
            Discrepancy::OtherMainProcess => &mut self.other_main_process,
        };
        *counter = counter.saturating_add(1);
    }

    /// Each kind with its count.
    #[must_use]
    pub const fn counts(&self) -> [(Discrepancy, u64); 8] {
        let Self {
            missed_exit,
            pid_changed,
            stale_pidfile,
            unregistered,
            orphan_registration,
            altered_registration,
            duplicate,
            other_main_process,
        } = *self;
        [
            (Discrepancy::MissedExit, missed_exit),
            (Discrepancy::PidChanged, pid_changed),
            (Discrepancy::StalePidfile, stale_pidfile),
            (Discrepancy::Unregistered, unregistered),
            (Discrepancy::OrphanRegistration, orphan_registration),
            (Discrepancy::AlteredRegistration, altered_registration),
            (Discrepancy::Duplicate, duplicate),
            (Discrepancy::OtherMainProcess, other_main_process),
        ]
    }

    /// By name, as `status` shows them.
    #[must_use]
    pub fn by_kind(&self) -> std::collections::BTreeMap<String, u64> {
        self.counts()
            .into_iter()
            .map(|(kind, count)| (kind.as_str().to_owned(), count))
            .collect()
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts().iter().map(|(_, count)| count).sum()
    }
}

/// `none`, or the kinds that were found, as in `missed_exit 1, duplicate 2`.
impl fmt::Display for Discrepancies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (discrepancy, count) in self.counts() {
            if count > 0 {
                write!(f, "{separator}{discrepancy} {count}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::core::event::Occasion;

    const KNOWN: Identity = Identity {
        pid: 100,
        start_time: 1,
    };
    const OTHER: Identity = Identity {
        pid: 100,
        start_time: 2,
    };

    #[test]
    fn every_combination_has_its_kind() {
        use Discrepancy::{Duplicate, MissedExit, PidChanged, StalePidfile, Unregistered};
        let nothing = || Outcome::Nothing {
            reason: String::new(),
        };
        let unverifiable = || Outcome::Unverifiable {
            reason: String::new(),
        };
        // seen; not registered, registered and alive, registered and dead
        for (outcome, expected) in [
            (Outcome::Process(KNOWN), [Some(Unregistered), None, None]),
            (
                Outcome::Process(OTHER),
                [Some(Unregistered), Some(Duplicate), Some(PidChanged)],
            ),
            (nothing(), [None, Some(StalePidfile), Some(MissedExit)]),
            (unverifiable(), [None, Some(StalePidfile), Some(MissedExit)]),
        ] {
            for foreign_script in [None, Some(7)] {
                let sighting = Sighting {
                    occasion: Occasion::Sweep,
                    outcome: outcome.clone(),
                    foreign_script,
                    unit: None,
                };
                let registered = |alive| Registered {
                    identity: KNOWN,
                    alive,
                };
                let found = [None, Some(registered(true)), Some(registered(false))]
                    .map(|known| compare(known, Some(KNOWN), &sighting));
                let expected = expected.map(|kind| {
                    kind.filter(|kind| *kind != StalePidfile || foreign_script.is_none())
                });
                assert_eq!(found, expected, "{sighting:?}");
                // The look was asked for before the registration.
                for knew in [None, Some(OTHER)] {
                    for alive in [true, false] {
                        let known = Some(registered(alive));
                        assert_eq!(compare(known, knew, &sighting), None);
                    }
                }
            }
        }
    }

    #[test]
    fn counts_are_shown_and_serialised() {
        let mut counts = Discrepancies::default();
        assert_eq!(counts.to_string(), "none");
        counts.count(Discrepancy::Duplicate);
        counts.count(Discrepancy::Duplicate);
        counts.count(Discrepancy::MissedExit);
        assert_eq!(counts.to_string(), "missed_exit 1, duplicate 2");
        assert_eq!(counts.total(), 3);
        let json = serde_json::to_value(counts).unwrap();
        for (discrepancy, count) in counts.counts() {
            assert_eq!(json[discrepancy.as_str()], count);
            assert_eq!(
                serde_json::to_value(discrepancy).unwrap(),
                discrepancy.as_str()
            );
        }
    }
}
