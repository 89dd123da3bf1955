//! What one receiver has still to be told, and what it has been told so far.
//!
//! * **In step** — events go to it in their order.
//! * **Failing** — an event could not be told. What it has been told may be true
//!   or not; nothing is tried before the next attempt is due.
//! * **Behind** — it failed, or more events came than are kept. The next
//!   attempt begins with the whole state as it is then: what was told and is not
//!   so any more is closed, everything that is so is told again. Changes that
//!   came and went meanwhile are not.
//!
//! Must stay true: it holds at most `CAPACITY` events beside one for each thing
//! that is so; what may have been told is closed sooner or later, and under the
//! name under which it was told. No thread, no clock and no receiver in here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::event::{AlarmEvent, AlarmKind};

/// Events that wait for a receiver before it is told the whole state instead.
pub(super) const CAPACITY: usize = 256;
/// From one failed attempt to the next, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// One thing that may be so or not, by the instance's exact name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Alarm(String),
    Quorum(String),
    Flapping(String),
    Host(String),
}

/// What an event says of its subject.
enum Says {
    Opens(Subject),
    Closes(Subject),
    /// It has happened, and nothing lasts.
    Passes,
}

fn says(kind: AlarmKind, instance: &str) -> Says {
    let name = || instance.to_owned();
    match kind {
        AlarmKind::FirstFailure => Says::Passes,
        AlarmKind::Raise | AlarmKind::Refresh => Says::Opens(Subject::Alarm(name())),
        AlarmKind::Clear => Says::Closes(Subject::Alarm(name())),
        AlarmKind::QuorumFailure | AlarmKind::QuorumUnrecoverable => {
            Says::Opens(Subject::Quorum(name()))
        }
        AlarmKind::QuorumClear => Says::Closes(Subject::Quorum(name())),
        AlarmKind::Flapping => Says::Opens(Subject::Flapping(name())),
        AlarmKind::FlappingClear => Says::Closes(Subject::Flapping(name())),
        AlarmKind::HostDegraded => Says::Opens(Subject::Host(name())),
        AlarmKind::HostClear => Says::Closes(Subject::Host(name())),
    }
}

/// A receiver's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What is so.
    current: BTreeMap<Subject, AlarmEvent>,
    /// What the receiver may believe to be so, and the event that ends it, where
    /// it has ended.
    told: BTreeMap<Subject, Option<AlarmEvent>>,
    pending: VecDeque<AlarmEvent>,
    behind: bool,
    /// Times that there was no room.
    overruns: u64,
    failing: Option<Failing>,
}

/// Since when and why a receiver cannot be told anything.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    pub(super) since: Timestamp,
    pub(super) why: String,
    pub(super) retry_at: Instant,
    pause: Duration,
}

/// An alarm's end that a receiver has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Of which entity.
    pub entity: Arc<str>,
    /// What ended it: [`AlarmKind::Clear`], [`AlarmKind::QuorumClear`] or
    /// [`AlarmKind::FlappingClear`].
    pub kind: AlarmKind,
    /// Its exact name.
    pub instance: String,
    /// When it ended.
    pub at: Timestamp,
}

impl Queue {
    /// Of a receiver that an earlier daemon has told this.
    pub(super) fn of(told: &[AlarmEvent]) -> Self {
        let mut queue = Self::default();
        for event in told {
            if let Says::Opens(subject) = says(event.kind, &event.instance) {
                queue.told.insert(subject.clone(), None);
                queue.current.insert(subject, event.clone());
            }
        }
        queue
    }

    pub(super) fn push(&mut self, event: AlarmEvent) {
        match says(event.kind, &event.instance) {
            Says::Opens(subject) => {
                if let Some(end) = self.told.get_mut(&subject) {
                    *end = None;
                }
                self.current.insert(subject, event.clone());
            }
            Says::Closes(subject) => {
                if let Some(end) = self.told.get_mut(&subject) {
                    *end = Some(event.clone());
                }
                self.current.remove(&subject);
            }
            Says::Passes => {}
        }
        if self.pending.len() >= CAPACITY {
            self.pending.clear();
            self.behind = true;
            self.overruns += 1;
        }
        self.pending.push_back(event);
    }

    /// What the receiver is to be told next; to be answered by [`Self::heard`] or
    /// [`Self::failed`].
    pub(super) fn next(&mut self, now: Instant) -> Option<AlarmEvent> {
        if self.retry_at().is_some_and(|at| now < at) {
            return None;
        }
        if std::mem::take(&mut self.behind) {
            self.begin_anew();
        }
        let event = self.pending.pop_front()?;
        if let Says::Opens(subject) = says(event.kind, &event.instance) {
            // Even if it fails, it may have been heard.
            self.told.entry(subject).or_default();
        }
        Some(event)
    }

    /// The whole state in place of the changes that led to it.
    fn begin_anew(&mut self) {
        let passing = std::mem::take(&mut self.pending);
        let closed = self.told.values().flatten();
        self.pending.extend(closed.cloned());
        for (subject, event) in &self.current {
            let again = match event.kind {
                AlarmKind::Raise if self.told.contains_key(subject) => AlarmKind::Refresh,
                kind => kind,
            };
            self.pending.push_back(AlarmEvent {
                kind: again,
                ..event.clone()
            });
        }
        let passes = |event: &AlarmEvent| matches!(says(event.kind, &event.instance), Says::Passes);
        self.pending.extend(passing.into_iter().filter(passes));
    }

    /// The receiver has been told. What that ends for it.
    pub(super) fn heard(&mut self, event: &AlarmEvent) -> Option<Closed> {
        self.failing = None;
        let Says::Closes(subject) = says(event.kind, &event.instance) else {
            return None;
        };
        // Opened again since: that waits.
        if !self.current.contains_key(&subject) {
            self.told.remove(&subject);
        }
        // The host's alarm follows from those of its entities.
        event.entity.as_ref().map(|entity| Closed {
            entity: Arc::clone(entity),
            kind: event.kind,
            instance: event.instance.clone(),
            at: event.at,
        })
    }

    /// The receiver may not have heard it.
    pub(super) fn failed(&mut self, event: AlarmEvent, why: String, at: Timestamp, now: Instant) {
        self.pending.push_front(event);
        self.behind = true;
        self.fail(why, at, now);
    }

    /// It failed at something of its own.
    pub(super) fn fail(&mut self, why: String, at: Timestamp, now: Instant) {
        let (since, pause) = match &self.failing {
            Some(failing) => (failing.since, (failing.pause * 2).min(LAST_RETRY)),
            None => (at, FIRST_RETRY),
        };
        self.failing = Some(Failing {
            since,
            why,
            retry_at: now + pause,
            pause,
        });
    }

    /// Something of its own went well.
    pub(super) fn succeeded(&mut self) {
        self.failing = None;
    }

    /// Whether this alarm has still to be closed, or is raised.
    pub(super) fn owes(&self, kind: AlarmKind, instance: &str) -> bool {
        match says(kind, instance) {
            Says::Opens(subject) | Says::Closes(subject) => {
                self.told.contains_key(&subject) || self.current.contains_key(&subject)
            }
            Says::Passes => false,
        }
    }

    /// When it is tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failing.as_ref().map(|failing| failing.retry_at)
    }

    pub(super) fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }

    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    pub(super) const fn overruns(&self) -> u64 {
        self.overruns
    }
}

#[cfg(test)]
#[path = "tests/queue.rs"]
mod tests;
