//! Telling people: every notice becomes a log line and an event for those who
//! listen. Off the engine's thread, because writing can block.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

use super::{
    incident_views::microseconds,
    message::{Tale, Told},
};
use crate::{
    control::backend::WantedEvents,
    core::{notice::Notice, time::Time},
    source::selection,
    sys::clock,
    view::event::{EventView, Level},
};

/// Events a late listener can still ask for.
const RECENT: usize = 1000;
/// Events a slow listener may lag behind before it loses some.
const BACKLOG: usize = 4096;

/// Where events go.
#[derive(Debug)]
pub(super) struct Telling {
    state: Mutex<Recent>,
    /// Everything that is verified.
    listeners: broadcast::Sender<Arc<EventView>>,
    /// That, and what kernel sources say before it is.
    early_listeners: broadcast::Sender<Arc<EventView>>,
}

#[derive(Debug, Default)]
struct Recent {
    seq: u64,
    events: VecDeque<Arc<EventView>>,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            listeners: broadcast::channel(BACKLOG).0,
            early_listeners: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Telling {
    /// Tells one.
    pub(super) fn tell(&self, told: Told) {
        let Told {
            at,
            entity,
            incident,
            what,
        } = told;
        let (kind, level, pid, text) = match &what {
            Tale::Notice(notice) => (
                notice.kind(),
                level(notice),
                notice.pid(),
                notice.to_string(),
            ),
            Tale::Trouble(text) => ("trouble", Level::Warning, None, text.clone()),
            Tale::Source(notice) => (
                notice.kind(),
                level_of_source(notice),
                None,
                notice.to_string(),
            ),
        };
        match &entity {
            Some(entity) => log(level, entity, incident, pid, kind, &text),
            None => log_own(level, kind, &text),
        }
        let (early, died_at, known_at) = death(&what, at);
        self.publish(EventView {
            seq: 0,
            at: clock::wall(at),
            kind: kind.to_owned(),
            level,
            entity: entity.map(|entity| entity.to_string()),
            pid,
            incident,
            early,
            died_at: died_at.map(clock::wall),
            detect_latency_us: died_at.map(|died_at| microseconds(known_at.since(died_at))),
            text: if early {
                format!("{text}; not verified yet")
            } else {
                text
            },
        });
    }

    /// Numbers an event and sends it. An early one takes no number, so that those
    /// who are not sent it see no gap.
    fn publish(&self, mut event: EventView) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !event.early {
            state.seq += 1;
        }
        event.seq = state.seq;
        let event = Arc::new(event);
        if state.events.len() == RECENT {
            state.events.pop_front();
        }
        state.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that nobody gets an event twice or not at all.
        let _nobody_listens = self.early_listeners.send(Arc::clone(&event));
        if !event.early {
            let _nobody_listens = self.listeners.send(event);
        }
    }

    /// The last events, oldest first, and a receiver for all that follow.
    #[must_use]
    pub(super) fn listen(
        &self,
        wanted: WantedEvents,
    ) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        let WantedEvents { recent, early } = wanted;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events: Vec<_> = (state.events.iter().rev())
            .filter(|event| early || !event.early)
            .take(recent)
            .cloned()
            .collect();
        events.reverse();
        let listeners = if early {
            &self.early_listeners
        } else {
            &self.listeners
        };
        (events, listeners.subscribe())
    }
}

/// Whether it is a death that is not verified yet; with a death, the kernel's
/// time of it, and when we knew.
fn death(what: &Tale, now: Time) -> (bool, Option<Time>, Time) {
    match what {
        Tale::Notice(Notice::Hinted(hint)) => (true, hint.died_at, now),
        Tale::Notice(Notice::Died(death)) => (false, death.died_at, death.detected_at),
        Tale::Notice(_) | Tale::Trouble(_) | Tale::Source(_) => (false, None, now),
    }
}

fn log(
    level: Level,
    entity: &str,
    incident: Option<u64>,
    pid: Option<u32>,
    kind: &str,
    text: &str,
) {
    match level {
        Level::Debug => tracing::debug!(entity, incident, pid, kind, "{entity} {text}"),
        Level::Info => tracing::info!(entity, incident, pid, kind, "{entity} {text}"),
        Level::Warning => tracing::warn!(entity, incident, pid, kind, "{entity} {text}"),
        Level::Error => tracing::error!(entity, incident, pid, kind, "{entity} {text}"),
    }
}

/// Of the daemon itself.
fn log_own(level: Level, kind: &str, text: &str) {
    match level {
        Level::Debug => tracing::debug!(kind, "{text}"),
        Level::Info => tracing::info!(kind, "{text}"),
        Level::Warning => tracing::warn!(kind, "{text}"),
        Level::Error => tracing::error!(kind, "{text}"),
    }
}

const fn level_of_source(notice: &selection::Notice) -> Level {
    match notice {
        selection::Notice::Proven(_) => Level::Debug,
        selection::Notice::Recovered(_) => Level::Info,
        selection::Notice::Repaired(_) => Level::Warning,
        selection::Notice::Failed { .. } => Level::Error,
    }
}

const fn level(notice: &Notice) -> Level {
    match notice {
        Notice::Registered(_)
        | Notice::Unregistered(_)
        | Notice::Signalled { .. }
        | Notice::Spawned { .. }
        | Notice::Successor { .. }
        | Notice::Followed { .. }
        | Notice::Monitoring(_)
        | Notice::Stable(_)
        | Notice::Recovered(_)
        | Notice::Restarted(_)
        | Notice::Operator(_)
        | Notice::StatusKnown { .. }
        | Notice::Stopped
        | Notice::StopExpired
        | Notice::Held { .. }
        | Notice::Resumed { .. }
        | Notice::Waiting { .. }
        | Notice::Gated { .. }
        | Notice::Yielding { .. }
        | Notice::StoppedElsewhere { .. }
        | Notice::AwaitingAnswers { .. }
        | Notice::StatusGood
        | Notice::FlappingEnded
        | Notice::Cycled { .. }
        | Notice::Delayed { .. }
        | Notice::AwaitingSuccessor { .. }
        | Notice::DuplicateCleared(_)
        | Notice::AlarmCleared
        | Notice::QuorumCleared => Level::Info,
        Notice::Hinted(_) | Notice::OneInstance(_) => Level::Debug,
        Notice::Died(_)
        | Notice::NotRegistered { .. }
        | Notice::Missing { .. }
        | Notice::Unverifiable { .. }
        | Notice::Leftovers { .. }
        | Notice::StartFailed { .. }
        | Notice::PidChanged { .. }
        | Notice::PulseMissed { .. }
        | Notice::Audited { .. }
        | Notice::Unanswered { .. }
        | Notice::AttemptFailed { .. }
        | Notice::StatusBad { .. }
        | Notice::Refused { .. }
        | Notice::Flapping { .. }
        | Notice::StillFlapping { .. }
        | Notice::WaitedInVain { .. }
        | Notice::GroupInVain { .. }
        | Notice::StillDelayed { .. }
        | Notice::FirstFailure => Level::Warning,
        Notice::Unkillable(_)
        | Notice::DuplicateInstance { .. }
        | Notice::GaveUp { .. }
        | Notice::AlarmRaised(_)
        | Notice::AlarmRefreshed(_)
        | Notice::QuorumFailure
        | Notice::QuorumUnrecoverable => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        core::{
            death::{Hint, SourceName},
            identity::Identity,
        },
        table::EntityName,
    };

    const PROCESS: Identity = Identity {
        pid: 4700,
        start_time: 1,
    };

    fn told(us: u64, notice: Notice) -> Told {
        Told {
            at: Time::from_boot_ns(us * 1000),
            entity: Some(EntityName::from("web")),
            incident: Some(1),
            what: Tale::Notice(notice),
        }
    }

    fn hinted(died_us: u64) -> Notice {
        Notice::Hinted(Hint {
            identity: PROCESS,
            generation: 1,
            source: SourceName::Ebpf,
            died_at: Some(Time::from_boot_ns(died_us * 1000)),
            status: None,
            last_thread: true,
        })
    }

    fn kinds(events: &[Arc<EventView>]) -> Vec<(u64, &str)> {
        events
            .iter()
            .map(|event| (event.seq, event.kind.as_str()))
            .collect()
    }

    #[test]
    fn hints_are_told_to_those_who_ask_and_leave_no_gap_with_the_others() {
        let telling = Telling::default();
        let wanted = |early| WantedEvents { recent: 2, early };
        let (_, mut plain) = telling.listen(wanted(false));
        let (_, mut early) = telling.listen(wanted(true));
        telling.tell(told(1, Notice::Registered(PROCESS)));
        telling.tell(told(100, hinted(86)));
        telling.tell(told(300, Notice::Stopped));

        let (recent, _) = telling.listen(wanted(true));
        assert_eq!(kinds(&recent), [(1, "hint"), (2, "stopped")]);
        let (recent, _) = telling.listen(wanted(false));
        assert_eq!(kinds(&recent), [(1, "registered"), (2, "stopped")]);

        for expected in ["registered", "stopped"] {
            assert_eq!(plain.try_recv().unwrap().kind, expected);
        }
        plain.try_recv().unwrap_err();
        for expected in ["registered", "hint", "stopped"] {
            let event = early.try_recv().unwrap();
            assert_eq!(event.kind, expected);
            assert_eq!(event.early, expected == "hint");
            if event.early {
                assert_eq!(event.pid, Some(4700));
                assert_eq!(event.detect_latency_us, Some(14));
                assert!(event.died_at.is_some());
                assert!(event.text.ends_with("not verified yet"), "{}", event.text);
            }
        }
    }
}
