//! Telling people: every notice becomes a log line and an event for those who
//! listen. Off the engine's thread, because writing can block.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

use super::message::{Tale, Told};
use crate::{
    core::notice::Notice,
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
    listeners: broadcast::Sender<Arc<EventView>>,
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
        };
        log(level, &entity, incident, pid, kind, &text);
        self.publish(|seq| EventView {
            seq,
            at: clock::wall(at),
            kind: kind.to_owned(),
            level,
            entity: Some(entity.to_string()),
            pid,
            incident,
            text,
        });
    }

    fn publish(&self, event: impl FnOnce(u64) -> EventView) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seq += 1;
        let event = Arc::new(event(state.seq));
        if state.events.len() == RECENT {
            state.events.pop_front();
        }
        state.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that nobody gets an event twice or not at all.
        let _nobody_listens = self.listeners.send(event);
    }

    /// The last events, oldest first, and a receiver for all that follow.
    #[must_use]
    pub(super) fn listen(
        &self,
        recent: usize,
    ) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = state.events.len().saturating_sub(recent);
        let events = state.events.iter().skip(skip).cloned().collect();
        (events, self.listeners.subscribe())
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
        | Notice::Stopped
        | Notice::Waiting { .. }
        | Notice::AlarmCleared => Level::Info,
        Notice::Hinted(_) => Level::Debug,
        Notice::Died(_)
        | Notice::NotRegistered { .. }
        | Notice::Missing { .. }
        | Notice::Unverifiable { .. }
        | Notice::Leftovers { .. }
        | Notice::StartFailed { .. }
        | Notice::PidChanged { .. }
        | Notice::AttemptFailed { .. }
        | Notice::FirstFailure => Level::Warning,
        Notice::Unkillable(_)
        | Notice::GaveUp { .. }
        | Notice::AlarmRaised(_)
        | Notice::AlarmRefreshed(_) => Level::Error,
    }
}
