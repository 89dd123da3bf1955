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
    canary, instances,
    looks::{Asked, Looks},
    message::{Inbox, Message, Work},
    selection::Starter,
    telling::Telling,
};
use crate::{
    alarm::{dispatch::Dispatch, event::AlarmEvent},
    audit::AuditHandle,
    compat::starlingx::gates::Gates,
    core::{entity::StartMethod, event::Occasion, identity::Identity},
    effect::{Executor, Passage},
    look::LookRequest,
    pulse::endpoint,
    state::{
        Store,
        changes::Change,
        record::{EntityRecord, UnitStop},
    },
    systemd::Units,
    table::EntityName,
    view::incident::IncidentView,
};

/// An alarm that cannot be put on record is told all the same after that long.
const UNRECORDED: Duration = Duration::from_secs(2);

/// Everything that works for the engine.
pub(super) struct Workers {
    /// Start commands, signals, pidfiles.
    pub executor: Arc<Executor>,
    /// Requests of active monitoring, and their answers.
    pub pulses: endpoint::Handle,
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
    /// Looks after the gates of the host, where there are any.
    pub gates: Option<Gates>,
    /// Receivers of alarms.
    pub alarms: Dispatch,
    /// Looks that somebody waits for.
    pub looks: Looks,
    /// Those of the sweep, and the pid table's inquiries.
    pub sweeps: Looks,
    /// systemd, where it runs the host.
    pub units: Option<Units>,
    /// Back to the engine.
    pub inbox: Inbox,
}

impl Workers {
    /// Works until the engine has ended. Runs on two threads, with what each is to do.
    pub(super) async fn run(self: Arc<Self>, mut work: UnboundedReceiver<Work>) {
        while let Some(work) = work.recv().await {
            match work {
                Work::Look {
                    entity,
                    mut request,
                } => {
                    if request.check_foreign_script {
                        request.own_scripts = Arc::new(self.executor.at_work());
                    }
                    self.look(entity, *request);
                }
                Work::Sweep(slice) => {
                    let asked = |(entity, request)| Asked { entity, request };
                    self.sweeps.sweep(slice.into_iter().map(asked).collect());
                }
                Work::AskGate(question) => {
                    if let Some(gates) = &self.gates {
                        gates.ask(question);
                    }
                }
                Work::Hatch => {
                    tokio::spawn(canary::fly(self.inbox.clone()));
                }
                Work::Count(census) => instances::count(census, self.inbox.clone()),
                Work::CountAgain(names) => instances::count_again(names, self.inbox.clone()),
                Work::Source(work) => self.starter.submit(work, &self.inbox),
                Work::Inquire(inquiries) => self.sweeps.inquire(inquiries),
                Work::Pulse(order) => self.pulse(order),
                Work::Job { entity, job } => {
                    self.executor.submit(&entity, job);
                    // The lane first: what comes next is for people and disks.
                    tokio::task::yield_now().await;
                }
                Work::Tell(told) => self.telling.tell(told),
                Work::Opened(incident) => self.opened(&incident),
                Work::Closed(incident) => self.closed(*incident),
                Work::Died {
                    entity,
                    incident,
                    identity,
                } => self.died(entity, &incident, identity),
                Work::Remember(entity, record) => {
                    let record = (!record.is_empty()).then_some(record);
                    self.remember(&Change::Entity(entity, record));
                }
                Work::Record {
                    entity,
                    memory,
                    reach,
                    then,
                } => self.record(entity, memory, reach, then),
                Work::Launched {
                    entity,
                    identity,
                    passage,
                } => self.launched(entity, identity, passage),
                Work::HandedOver {
                    entity,
                    memory,
                    identity,
                } => self.handed_over(entity, memory, identity),
                Work::Forget(entity) => {
                    self.pulse(endpoint::Order::Forget(Arc::clone(&entity)));
                    self.executor.forget(&entity);
                    if let Some(units) = &self.units {
                        units.forget(&entity);
                    }
                    if let Some(audit) = &self.audit {
                        audit.watch(Arc::clone(&entity), None);
                        audit.await_execution(Arc::clone(&entity), None);
                    }
                    self.remember(&Change::Entity(entity, None));
                }
                Work::Unit(entity, start, stop) => self.unit(entity, start, stop),
                Work::Alarm {
                    entity,
                    memory,
                    events,
                } => self.alarm(entity, memory, events),
                Work::AwaitExecution(entity, program) => {
                    if let Some(audit) = &self.audit {
                        audit.await_execution(entity, program);
                    }
                }
                Work::Watch(entity, pidfile) => {
                    if let Some(audit) = &self.audit {
                        audit.watch(entity, pidfile);
                    }
                }
            }
        }
    }

    /// Looks, after systemd was asked where it knows more: not for each look of a
    /// sweep, which only compares.
    fn look(&self, entity: EntityName, mut request: LookRequest) {
        let unit = match &request.spec.start {
            StartMethod::Unit { unit, policy: _ } => Some(unit.clone()),
            StartMethod::Script { .. } | StartMethod::Command(_) | StartMethod::None { .. } => None,
        };
        let wanted = match request.occasion {
            Occasion::Asked => true,
            Occasion::PidfileChanged => request.spec.pidfile.is_none(),
            Occasion::PidfileStirred | Occasion::Executed | Occasion::Sweep => false,
        };
        let (Some(unit), Some(units), true) = (unit, &self.units, wanted) else {
            return self.looks.look(Asked { entity, request });
        };
        let (units, looks) = (units.clone(), self.looks.clone());
        tokio::spawn(async move {
            let gone = request.known.map(|known| known.identity.pid);
            request.unit = units.look(&unit, gone).await;
            looks.look(Asked { entity, request });
        });
    }

    fn unit(&self, entity: EntityName, start: StartMethod, stop: Option<UnitStop>) {
        let Some(units) = &self.units else {
            return;
        };
        match start {
            StartMethod::Unit { unit, policy } => {
                units.watch(entity, unit, policy, stop.map(|stop| stop.invocation));
            }
            StartMethod::Script { .. } | StartMethod::Command(_) | StartMethod::None { .. } => {
                units.forget(&entity);
            }
        }
    }

    fn pulse(&self, order: endpoint::Order) {
        if let Err(report) = self.pulses.submit(order) {
            self.inbox.send(Message::Pulse(report));
        }
    }

    fn opened(&self, incident: &IncidentView) {
        self.remember(&Change::NextIncident(incident.incident + 1));
        if let Err(error) = self.store.append(incident) {
            tracing::warn!(%error, incident = incident.incident, "incident not saved");
        }
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

    /// The death goes into the journal, and the engine is told when it is there.
    fn died(&self, entity: EntityName, incident: &IncidentView, identity: Identity) {
        let inbox = self.inbox.clone();
        let settled = move || {
            inbox.send(Message::Settled { entity, identity });
        };
        if let Err(error) = self.store.append_then(incident, settled) {
            tracing::warn!(%error, incident = incident.incident, "incident not saved");
        }
    }

    /// Receivers are told when it is on record, or when that takes too long.
    fn alarm(&self, entity: EntityName, memory: Arc<EntityRecord>, events: Vec<AlarmEvent>) {
        let ticket = self.alarms.submit(events);
        let record = (!memory.is_empty()).then_some(memory);
        let change = Change::Entity(entity, record);
        self.store.save(change.clone());
        let alarms = self.alarms.clone();
        self.volatile
            .save_then(change, move || alarms.release(ticket));
        let alarms = self.alarms.clone();
        tokio::spawn(async move {
            tokio::time::sleep(UNRECORDED).await;
            alarms.release(ticket);
        });
    }

    fn launched(&self, entity: EntityName, identity: Identity, passage: Passage) {
        let change = Change::Launched(entity, identity);
        // First who is waited for.
        self.volatile
            .save_then(change.clone(), move || passage.open());
        self.store.save(change);
    }

    /// Who goes on is recorded, and the engine is told when that is done.
    fn handed_over(&self, entity: EntityName, memory: Arc<EntityRecord>, identity: Identity) {
        let change = Change::Entity(EntityName::clone(&entity), Some(memory));
        let inbox = self.inbox.clone();
        self.store.save(change.clone());
        self.volatile.save_then(change, move || {
            inbox.send(Message::Settled { entity, identity });
        });
    }

    fn remember(&self, change: &Change) {
        self.volatile.save(change.clone());
        self.store.save(change.clone());
    }
}
