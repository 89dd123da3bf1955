//! Incidents: an entity's notices, gathered from the first sign of trouble to
//! its end. Pure bookkeeping; nothing is decided here.

use std::collections::VecDeque;

use super::{
    death::{Death, WaitStatus},
    identity::Identity,
    notice::Notice,
    time::Time,
};

/// Notices kept per incident; a fault that lasts for days keeps its beginning
/// and its latest part.
const TIMELINE: usize = 200;
/// Deaths of which who and when is kept per incident, the latest.
const DEATHS: usize = 200;

/// One incident of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Number, unique within the state directory.
    pub number: u64,
    /// When it began.
    pub opened_at: Time,
    /// When and how it ended.
    pub closed: Option<(Time, End)>,
    /// Recovery attempts made.
    pub attempts: u32,
    /// The death it began with, if it began with one.
    pub death: Option<Death>,
    /// When a successor of that death was verified.
    pub recovered_at: Option<Time>,
    /// Who died in it, and when by the kernel's clock, oldest first.
    pub deaths: VecDeque<(Identity, Option<Time>)>,
    /// What happened.
    pub timeline: Vec<(Time, Notice)>,
    external: bool,
    /// Whose death the first hint was of. A successor may be started before that
    /// death is verified.
    hinted: Option<Identity>,
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// pmon brought it back.
    Recovered,
    /// Somebody else did.
    RecoveredExternally,
    /// An operator stopped it.
    Stopped,
    /// Nothing more is done automatically.
    GaveUp,
    /// The audit found a discrepancy while the entity was healthy, and put it
    /// right: the incident begins and ends with that.
    PutRight,
}

/// The incidents of one entity: the open one, and the last one that was closed.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    open: Option<Incident>,
    last: Option<Incident>,
    /// The last discrepancy that was an incident of its own.
    audited: Option<Incident>,
}

impl Incidents {
    /// Goes on with an incident that began before the daemon restarted.
    pub fn resume(&mut self, number: u64, opened_at: Time, attempts: u32) {
        self.open = Some(Incident {
            attempts,
            ..Incident::new(number, opened_at)
        });
    }

    /// The incident under way.
    #[must_use]
    pub const fn open(&self) -> Option<&Incident> {
        self.open.as_ref()
    }

    /// The incident under way, else the last one.
    #[must_use]
    pub fn newest(&self) -> Option<&Incident> {
        self.open.as_ref().or(self.last.as_ref())
    }

    /// The incident of this number, if it is remembered here.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Option<&Incident> {
        let known = self.open.iter().chain(&self.last).chain(&self.audited);
        known.into_iter().find(|incident| incident.number == number)
    }

    /// Takes note; `next_number` is used, and raised, when an incident begins.
    /// Returns the number of the incident the notice belongs to, and whether it
    /// is now closed and has to be kept as it is.
    pub fn record(
        &mut self,
        notice: &Notice,
        now: Time,
        next_number: &mut u64,
    ) -> Option<(u64, bool)> {
        if let Notice::StatusKnown {
            generation, status, ..
        } = notice
        {
            return self.amend(*generation, *status, notice, now);
        }
        if self.open.is_none() && matches!(notice, Notice::Audited { .. }) {
            let mut incident = Incident::new(*next_number, now);
            *next_number += 1;
            incident.note(notice, now);
            incident.closed = Some((now, End::PutRight));
            let number = incident.number;
            self.audited = Some(incident);
            return Some((number, true));
        }
        if self.open.is_none() && begins(notice) {
            let opened_at = began_at(notice).unwrap_or(now);
            self.open = Some(Incident::new(*next_number, opened_at));
            *next_number += 1;
        }
        let incident = self.open.as_mut()?;
        incident.note(notice, now);
        let number = incident.number;
        let Some(end) = incident.ends_with(notice) else {
            return Some((number, false));
        };
        incident.closed = Some((now, end));
        self.last = self.open.take();
        Some((number, true))
    }
}

impl Incidents {
    /// Completes a death, also of an incident that has been closed since; a
    /// death that nobody remembers any more is left as it was told.
    fn amend(
        &mut self,
        generation: u64,
        status: WaitStatus,
        notice: &Notice,
        now: Time,
    ) -> Option<(u64, bool)> {
        let told = |incident: &&mut Incident| {
            incident.timeline.iter().any(|(_, earlier)| {
                matches!(earlier, Notice::Died(death) if death.generation == generation)
            })
        };
        let incident = (self.open.iter_mut().chain(&mut self.last)).find(told)?;
        if let Some(death) = &mut incident.death
            && death.generation == generation
        {
            death.status.get_or_insert(status);
        }
        incident.note(notice, now);
        Some((incident.number, incident.closed.is_some()))
    }
}

impl Incident {
    const fn new(number: u64, opened_at: Time) -> Self {
        Self {
            number,
            opened_at,
            closed: None,
            attempts: 0,
            death: None,
            recovered_at: None,
            deaths: VecDeque::new(),
            timeline: Vec::new(),
            external: false,
            hinted: None,
        }
    }

    fn note(&mut self, notice: &Notice, now: Time) {
        if let Notice::Died(death) = notice {
            if self.deaths.len() == DEATHS {
                self.deaths.pop_front();
            }
            self.deaths.push_back((death.identity, death.died_at));
        }
        match notice {
            Notice::Hinted(hint) if self.attempts == 0 => {
                self.hinted.get_or_insert(hint.identity);
            }
            Notice::Died(death)
                if self.death.is_none()
                    && (self.attempts == 0 || self.hinted == Some(death.identity)) =>
            {
                self.death = Some(death.clone());
            }
            Notice::Spawned { .. } => {
                self.attempts += 1;
                self.external = false;
            }
            Notice::Successor { external, .. } => {
                self.external = *external;
                self.recovered_at.get_or_insert(now);
            }
            Notice::PidChanged { .. } => self.external = true,
            Notice::AttemptFailed { .. } => self.recovered_at = None,
            _ => {}
        }
        if self.timeline.len() == TIMELINE {
            self.timeline.remove(TIMELINE / 2);
        }
        self.timeline.push((now, notice.clone()));
    }

    fn ends_with(&self, notice: &Notice) -> Option<End> {
        match notice {
            Notice::Recovered(_) | Notice::Restarted(_) if self.external => {
                Some(End::RecoveredExternally)
            }
            Notice::Recovered(_) | Notice::Restarted(_) | Notice::StatusGood => {
                Some(End::Recovered)
            }
            Notice::Stopped => Some(End::Stopped),
            Notice::GaveUp { .. } => Some(End::GaveUp),
            _ => None,
        }
    }
}

const fn begins(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::Hinted(_)
            | Notice::Died(_)
            | Notice::Missing { .. }
            | Notice::Unanswered { .. }
            | Notice::StatusBad { .. }
    )
}

const fn began_at(notice: &Notice) -> Option<Time> {
    match notice {
        Notice::Hinted(hint) => hint.died_at,
        Notice::Died(death) => death.died_at,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::core::{
        death::{LastSeen, SourceName},
        effect::StartVerb,
        evidence::Evidence,
        identity::Identity,
    };

    const PROCESS: Identity = Identity {
        pid: 7,
        start_time: 1,
    };

    fn at(second: u64) -> Time {
        Time::from_boot_ns(second * 1_000_000_000)
    }

    fn missing() -> Notice {
        Notice::Missing {
            reason: "no pidfile".to_owned(),
        }
    }

    #[test]
    fn an_incident_runs_from_the_first_sign_to_the_recovery() {
        let mut incidents = Incidents::default();
        let mut next = 5;
        let registered = Notice::Registered(PROCESS);
        assert_eq!(incidents.record(&registered, at(1), &mut next), None);
        let begun = incidents.record(&missing(), at(2), &mut next);
        assert_eq!((begun, next), (Some((5, false)), 6));
        let spawned = Notice::Spawned {
            attempt: 1,
            verb: StartVerb::Start,
        };
        incidents.record(&spawned, at(2), &mut next);
        let successor = Notice::Successor {
            identity: PROCESS,
            external: false,
        };
        incidents.record(&successor, at(3), &mut next);
        let closed = incidents.record(&Notice::Recovered(PROCESS), at(9), &mut next);
        assert_eq!(closed, Some((5, true)));
        let incident = incidents.newest().unwrap();
        assert_eq!(incident.closed, Some((at(9), End::Recovered)));
        assert_eq!(incident.recovered_at, Some(at(3)));
        assert_eq!(incident.attempts, 1);
        assert_eq!(incident.timeline.len(), 4);
        assert!(incidents.open().is_none());
    }

    fn unexplained_death(generation: u64) -> Death {
        Death {
            identity: PROCESS,
            generation,
            died_at: None,
            detected_at: at(2),
            detected_by: SourceName::Pidfd,
            confirmed_at: at(2),
            status: None,
            evidence: Evidence::default(),
            last_seen: LastSeen::default(),
        }
    }

    #[test]
    fn a_status_that_comes_late_completes_its_own_death_wherever_that_is() {
        let status = WaitStatus(7 << 8);
        let known = |generation| Notice::StatusKnown {
            identity: PROCESS,
            generation,
            status,
        };
        let mut incidents = Incidents::default();
        let mut next = 5;
        assert_eq!(incidents.record(&known(1), at(1), &mut next), None);
        let died = Notice::Died(unexplained_death(1));
        incidents.record(&died, at(2), &mut next);
        assert_eq!(incidents.record(&known(2), at(2), &mut next), None);
        assert_eq!(
            incidents.record(&known(1), at(3), &mut next),
            Some((5, false))
        );
        let status_of = |incidents: &Incidents| {
            let incident = incidents.newest().unwrap();
            incident.death.as_ref().unwrap().status
        };
        assert_eq!(status_of(&incidents), Some(status));

        let mut incidents = Incidents::default();
        incidents.record(&died, at(2), &mut next);
        incidents.record(&Notice::Recovered(PROCESS), at(3), &mut next);
        assert!(incidents.open().is_none());
        assert_eq!(status_of(&incidents), None);
        // It is to be kept once more.
        assert_eq!(
            incidents.record(&known(1), at(4), &mut next),
            Some((6, true))
        );
        assert_eq!(status_of(&incidents), Some(status));
        assert_eq!(next, 7, "no incident begins with it");
    }

    #[test]
    fn a_timeline_is_bounded_and_keeps_both_ends() {
        let mut incidents = Incidents::default();
        let mut next = 1;
        incidents.record(&missing(), at(0), &mut next);
        for second in 1..1000 {
            incidents.record(&Notice::FirstFailure, at(second), &mut next);
        }
        let incident = incidents.newest().unwrap();
        assert_eq!(incident.timeline.len(), TIMELINE);
        assert_eq!(incident.timeline[0].1, missing());
        assert_eq!(incident.timeline.last().unwrap().0, at(999));
    }
}
