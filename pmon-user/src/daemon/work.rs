//! Carries out what the engine hands out: looks, jobs, and everything for people
//! and disks. Runs on tokio; nothing in here is waited for by the engine.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    backend::HISTORY,
    canary,
    looks::{Asked, Looks},
    message::{Inbox, Work},
    selection::Starter,
    telling::Telling,
};
use crate::{
    audit::AuditHandle,
    effect::Executor,
    state::{Store, changes::Change},
    view::incident::IncidentView,
};

/// Everything that works for the engine.
pub(super) struct Workers {
    /// Start commands, signals, pidfiles.
    pub executor: Arc<Executor>,
    /// When to look.
    pub audit: Option<AuditHandle>,
    /// Starts sources.
    pub starter: Starter,
    /// What survives.
    pub store: Store,
    /// What the next daemon needs to know should this one be killed.
    pub volatile: Store,
    /// Log and events.
    pub telling: Arc<Telling>,
    /// Closed incidents.
    pub history: Arc<Mutex<VecDeque<IncidentView>>>,
    /// Looks.
    pub looks: Looks,
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
                    if request.check_foreign_script {
                        request.own_scripts = Arc::new(self.executor.at_work());
                    }
                    let request = *request;
                    self.looks.look(Asked { entity, request });
                }
                Work::Hatch => {
                    tokio::spawn(canary::fly(self.inbox.clone()));
                }
                Work::Source(work) => self.starter.submit(work, &self.inbox),
                Work::Sweep(slice) => {
                    let asked = |(entity, request)| Asked { entity, request };
                    self.looks.sweep(slice.into_iter().map(asked).collect());
                }
                Work::Inquire(inquiries) => self.looks.inquire(inquiries),
                Work::Job { entity, job } => self.executor.submit(&entity, job),
                Work::Tell(told) => self.telling.tell(told),
                Work::Closed(incident) => self.closed(*incident),
                Work::Remember(entity, record) => {
                    let record = (!record.is_empty()).then_some(record);
                    self.remember(&Change::Entity(entity, record));
                }
                Work::Forget(entity) => {
                    self.executor.forget(&entity);
                    if let Some(audit) = &self.audit {
                        audit.watch(Arc::clone(&entity), None);
                    }
                    self.remember(&Change::Entity(entity, None));
                }
                Work::Watch(entity, pidfile) => {
                    if let Some(audit) = &self.audit {
                        audit.watch(entity, pidfile);
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
