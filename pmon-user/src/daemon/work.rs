//! Carries out what the engine hands out: looks, jobs, and everything for people
//! and disks. Runs on tokio; nothing in here is waited for by the engine.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

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
        identity::Identity,
    },
    effect::Executor,
    look::{self, Look, LookRequest},
    state::{
        Store,
        registrations::{EntityRecord, Registrations},
    },
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
    /// What is to survive.
    pub registrations: Registrations,
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
    pub(super) async fn run(mut self, mut work: UnboundedReceiver<Work>) -> (Store, Store) {
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
                Work::Died {
                    entity,
                    incident,
                    identity,
                } => self.died(entity, &incident, identity),
                Work::Remember(entity, record) => {
                    self.remember(&entity, *record);
                    self.save();
                }
                Work::Launched {
                    entity,
                    identity,
                    recorded,
                } => self.launched(&entity, identity, recorded),
                Work::Forget(entity) => {
                    self.executor.forget(&entity);
                    self.registrations.entities.remove(&*entity);
                    self.save();
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

    fn closed(&mut self, incident: IncidentView) {
        self.registrations.next_incident =
            self.registrations.next_incident.max(incident.incident + 1);
        self.save();
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

    /// The death goes into the journal, and the engine is told when it is there.
    fn died(&mut self, entity: EntityName, incident: &IncidentView, identity: Identity) {
        self.registrations.next_incident =
            self.registrations.next_incident.max(incident.incident + 1);
        let inbox = self.inbox.clone();
        let settled = move || {
            inbox.send(Message::Settled { entity, identity });
        };
        if let Err(error) = self.store.append_then(incident, settled) {
            tracing::warn!(%error, incident = incident.incident, "incident not saved");
        }
    }

    fn remember(&mut self, entity: &EntityName, mut record: EntityRecord) {
        let entities = &mut self.registrations.entities;
        if let Some(before) = entities.get(&**entity)
            && before.process == record.process
        {
            record.launched = before.launched;
        }
        if record.is_empty() {
            entities.remove(&**entity);
        } else {
            entities.insert(entity.to_string(), record);
        }
    }

    fn launched(&mut self, entity: &EntityName, identity: Identity, recorded: oneshot::Sender<()>) {
        let record = self.registrations.entities.entry(entity.to_string());
        record.or_default().launched = Some(identity);
        self.store.save(self.registrations.clone());
        self.volatile
            .save_then(self.registrations.clone(), move || {
                // The start may have been cancelled meanwhile.
                let _cancelled: Result<(), ()> = recorded.send(());
            });
    }

    fn save(&self) {
        self.volatile.save(self.registrations.clone());
        self.store.save(self.registrations.clone());
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
        known_gone: false,
        names_gone: None,
    }
}
