//! A daemon for tests: entities in a map, events on demand, every verb answered.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::broadcast;

use super::backend::{Backend, Refusal, RegisterRequest, WantedEvents};
use crate::{
    core::event::OperatorAction,
    view::{
        diagnosis::{BpfLogView, BpfView, DoctorView, ReloadView},
        entity::{EntityView, ExplainView, HeartbeatView, ShowView, StateWord},
        event::EventView,
        incident::IncidentView,
        samples::{
            bpf, death, doctor, early_event, entity, event, explain, incident, noon, show, status,
        },
        status::StatusView,
    },
};

/// What the fake was asked to do, with who asked.
pub(crate) type Asked = Vec<(String, String)>;

/// The fake daemon.
pub(crate) struct Fake {
    state: Mutex<State>,
    events: broadcast::Sender<Arc<EventView>>,
    with_early: broadcast::Sender<Arc<EventView>>,
}

struct State {
    entities: BTreeMap<String, EntityView>,
    past: VecDeque<Arc<EventView>>,
    asked: Asked,
    seq: u64,
}

impl Fake {
    /// With entities `web` (up), `db` (failed) and `log` (down).
    pub(crate) fn new() -> Arc<Self> {
        let mut web = entity("web", StateWord::Up);
        web.last_death = Some(death());
        web.heartbeat = Some(HeartbeatView::default());
        let entities = [
            web,
            entity("db", StateWord::Failed),
            entity("log", StateWord::Down),
        ];
        Arc::new(Self {
            state: Mutex::new(State {
                entities: entities
                    .into_iter()
                    .map(|entity| (entity.name.clone(), entity))
                    .collect(),
                past: VecDeque::new(),
                asked: Vec::new(),
                seq: 0,
            }),
            events: broadcast::channel(16).0,
            with_early: broadcast::channel(16).0,
        })
    }

    pub(crate) fn asked(&self) -> Asked {
        self.state.lock().unwrap().asked.clone()
    }

    pub(crate) fn set(&self, entity: EntityView) {
        let mut state = self.state.lock().unwrap();
        state.entities.insert(entity.name.clone(), entity);
    }

    /// Number of clients that follow the events.
    pub(crate) fn followers(&self) -> usize {
        self.events.receiver_count() + self.with_early.receiver_count()
    }

    pub(crate) fn say(&self, entity: &str, text: &str) {
        let mut state = self.state.lock().unwrap();
        state.seq += 1;
        let event = Arc::new(event(state.seq, entity, text));
        state.past.push_back(Arc::clone(&event));
        // Without a follower there is nobody to tell.
        self.with_early.send(Arc::clone(&event)).ok();
        self.events.send(event).ok();
    }

    /// Says something that is not verified yet.
    pub(crate) fn hint(&self, entity: &str, text: &str) {
        let mut state = self.state.lock().unwrap();
        let event = Arc::new(early_event(state.seq, entity, text));
        state.past.push_back(Arc::clone(&event));
        self.with_early.send(event).ok();
    }

    fn get(&self, name: &str) -> Result<EntityView, Refusal> {
        let state = self.state.lock().unwrap();
        state
            .entities
            .get(name)
            .cloned()
            .ok_or_else(|| Refusal::UnknownEntity {
                name: name.to_owned(),
                nearest: state
                    .entities
                    .keys()
                    .find(|key| key.starts_with(&name[..name.len().min(1)]))
                    .cloned(),
            })
    }

    fn note(&self, what: String, by: String) {
        self.state.lock().unwrap().asked.push((what, by));
    }
}

impl Backend for Fake {
    async fn status(&self, names: Vec<String>) -> Result<StatusView, Refusal> {
        if names.is_empty() {
            let entities = self
                .state
                .lock()
                .unwrap()
                .entities
                .values()
                .cloned()
                .collect();
            return Ok(status(entities));
        }
        let found: Result<_, _> = names.iter().map(|name| self.get(name)).collect();
        found.map(status)
    }

    async fn show(&self, name: String) -> Result<ShowView, Refusal> {
        self.get(&name).map(show)
    }

    async fn operate(
        &self,
        name: String,
        action: OperatorAction,
        reason: Option<String>,
        by: String,
    ) -> Result<EntityView, Refusal> {
        let mut entity = self.get(&name)?;
        match name.as_str() {
            // Entities whose name says what they do in tests.
            "panics" => panic!("asked to"),
            "hangs" => std::future::pending().await,
            _ => {}
        }
        let reason = reason.unwrap_or_default();
        self.note(format!("{action:?} {name} {reason}"), by);
        entity.since = Some(noon());
        entity.state = match action {
            OperatorAction::Start | OperatorAction::Restart => StateWord::Starting,
            OperatorAction::Stop | OperatorAction::StopFor { .. } => StateWord::Down,
            OperatorAction::Hold { .. } => StateWord::Held,
            OperatorAction::Resume => StateWord::Up,
        };
        self.set(entity.clone());
        Ok(entity)
    }

    async fn register(&self, request: RegisterRequest, by: String) -> Result<EntityView, Refusal> {
        if self.get(&request.name).is_ok() {
            return Err(Refusal::Refused {
                reason: format!("`{}` exists already", request.name),
            });
        }
        self.note(format!("register {}", request.name), by);
        let entity = entity(&request.name, StateWord::Up);
        self.set(entity.clone());
        Ok(entity)
    }

    async fn unregister(&self, name: String, by: String) -> Result<(), Refusal> {
        self.get(&name)?;
        self.note(format!("unregister {name}"), by);
        self.state.lock().unwrap().entities.remove(&name);
        Ok(())
    }

    async fn history(&self, name: Option<String>) -> Result<Vec<IncidentView>, Refusal> {
        if let Some(name) = name {
            self.get(&name)?;
        }
        Ok(vec![incident()])
    }

    async fn explain(&self, name: String) -> Result<ExplainView, Refusal> {
        self.get(&name).map(explain)
    }

    async fn reload(&self, plan: bool, by: String) -> Result<ReloadView, Refusal> {
        let what = if plan { "plan" } else { "reload" };
        self.note(what.to_owned(), by);
        Ok(ReloadView {
            applied: !plan,
            plan,
            refused: None,
            changes: Vec::new(),
            daemon_restart: Vec::new(),
            config_generation: 5,
            added: vec!["mail".to_owned()],
            changed: Vec::new(),
            removed: Vec::new(),
            findings: Vec::new(),
        })
    }

    async fn handoff(&self, by: String) -> Result<(), Refusal> {
        self.note("handoff".to_owned(), by);
        Ok(())
    }

    async fn doctor(&self) -> Result<DoctorView, Refusal> {
        Ok(doctor())
    }

    async fn bpf(&self, time: Duration) -> Result<BpfView, Refusal> {
        let mut view = bpf();
        view.counted_s = Some(time.as_secs_f64());
        Ok(view)
    }

    async fn bpf_log(&self, on: bool, by: String) -> Result<BpfLogView, Refusal> {
        self.note(format!("bpf log {on}"), by);
        Ok(BpfLogView { on, was_on: !on })
    }

    fn events(
        &self,
        wanted: WantedEvents,
    ) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        let WantedEvents { recent, early } = wanted;
        let state = self.state.lock().unwrap();
        let past: Vec<_> = (state.past.iter())
            .filter(|event| early || !event.early)
            .cloned()
            .collect();
        let past = past[past.len().saturating_sub(recent)..].to_vec();
        let further = if early {
            &self.with_early
        } else {
            &self.events
        };
        (past, further.subscribe())
    }
}
