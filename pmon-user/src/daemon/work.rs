//! Carries out what the engine hands out: looks, jobs, and everything for people
//! and disks. Runs on tokio; nothing in here is waited for by the engine.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    backend::HISTORY,
    message::{Inbox, Message, Work},
    telling::Telling,
};
use crate::{
    audit::AuditHandle,
    core::{
        death::LastSeen,
        event::{Outcome, Sighting},
    },
    effect::Executor,
    look::{self, Look, LookRequest},
    state::{Store, changes::Change},
    sys::clock,
    table::{EntityName, Inquiry},
    view::incident::IncidentView,
};

/// A look that takes longer sits on a disk or mount that hangs.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// Everything that works for the engine.
pub(super) struct Workers {
    /// Start commands, signals, pidfiles.
    pub executor: Arc<Executor>,
    /// When to look.
    pub audit: Option<AuditHandle>,
    /// What survives.
    pub store: Store,
    /// What the next daemon needs to know should this one be killed.
    pub volatile: Store,
    /// Log and events.
    pub telling: Arc<Telling>,
    /// Closed incidents.
    pub history: Arc<Mutex<VecDeque<IncidentView>>>,
    /// Back to the engine.
    pub inbox: Inbox,
}

impl Workers {
    /// Works until the engine has ended; gives back the stores, of which the
    /// second is volatile.
    pub(super) async fn run(self, mut work: UnboundedReceiver<Work>) -> (Store, Store) {
        while let Some(work) = work.recv().await {
            match work {
                Work::Look {
                    entity,
                    mut request,
                } => {
                    request.own_scripts = Arc::new(self.executor.at_work());
                    tokio::spawn(look_within_deadline(self.inbox.clone(), entity, *request));
                }
                Work::Inquire(inquiries) => {
                    let inbox = self.inbox.clone();
                    tokio::task::spawn_blocking(move || {
                        let answers = inquiries.into_iter().map(Inquiry::answer).collect();
                        inbox.send(Message::Answered(answers));
                    });
                }
                Work::Job { entity, job } => self.executor.submit(&entity, job),
                Work::Tell(told) => self.telling.tell(told),
                Work::Closed(incident) => self.closed(*incident),
                Work::Remember(entity, record) => {
                    let record = (!record.is_empty()).then_some(record);
                    self.remember(&Change::Entity(entity, record));
                }
                Work::Forget(entity) => {
                    self.executor.forget(&entity);
                    self.remember(&Change::Entity(entity, None));
                }
                Work::Entities(entities) => {
                    if let Some(audit) = &self.audit {
                        audit.set_entities(entities).await;
                    }
                }
            }
        }
        (self.store, self.volatile)
    }

    fn closed(&self, incident: IncidentView) {
        self.remember(&Change::NextIncident(incident.incident + 1));
        if let Err(error) = self.store.append(&incident) {
            tracing::warn!(%error, incident = incident.incident, "incident not saved");
        }
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have been closed before and be complete only now.
        if let Some(known) =
            (history.iter_mut().rev()).find(|one| one.incident == incident.incident)
        {
            *known = incident;
            return;
        }
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(incident);
    }

    fn remember(&self, change: &Change) {
        self.volatile.save(change.clone());
        self.store.save(change.clone());
    }
}

async fn look_within_deadline(inbox: Inbox, entity: EntityName, request: LookRequest) {
    let occasion = request.occasion;
    let begun = clock::now();
    let looking = tokio::task::spawn_blocking(move || look::look(&request));
    let look = match tokio::time::timeout(LOOK_DEADLINE, looking).await {
        Ok(Ok(look)) => look,
        Ok(Err(error)) => blind(occasion, format!("the look failed: {error}")),
        Err(_) => blind(
            occasion,
            format!("its pidfile could not be read within {LOOK_DEADLINE:?}"),
        ),
    };
    let took = clock::elapsed(begun);
    tracing::trace!(entity = &*entity, ?occasion, ?took, outcome = ?look.sighting.outcome, "looked");
    inbox.send(Message::Looked { entity, look });
}

fn blind(occasion: crate::core::event::Occasion, reason: String) -> Look {
    Look {
        sighting: Sighting {
            occasion,
            outcome: Outcome::Unverifiable { reason },
            foreign_script: None,
        },
        process: None,
        last_seen: LastSeen::default(),
        stamp: None,
        stranger: None,
        known_alive: None,
    }
}
