//! systemd, where it runs the host: what it knows of entities' units, and jobs that
//! start and stop them.
//!
//! One task holds a connection (`bus`), makes a new one when it breaks, and
//! hears of every job on the host; `memory` keeps what jobs say of people's
//! wishes. Must stay true: the engine asks nothing here and is only told; every
//! question has a deadline; what systemd said before it answered a question is
//! known when the answer is used, so that a stop is never overlooked; no job of ours
//! cancels somebody else's, but for an operator's stop. What follows from it all is
//! decided in `core`.
//!
//! States: *unreachable* (tried again, ever more rarely) → *connected* → the units of
//! interest are asked for → jobs are heard of, until the connection breaks.

mod bus;
mod client;
mod job;
mod memory;
mod restarts;
mod signals;
mod task;
mod unit;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
};

use bus::{Bus, BusError};
pub use job::JobEnd;
use memory::Memory;
use restarts::Restarts;
use signals::Event;
use unit::UnitState;

use crate::{
    causes::in_full,
    core::{entity::UnitPolicy, unit::UnitReport},
    sys::pidfd,
    table::EntityName,
};

/// systemd may learn of a death a moment after us.
const CATCH_UP: Duration = Duration::from_millis(500);
/// How often it is asked in that time.
const CATCH_UP_STEP: Duration = Duration::from_millis(10);
/// Longest time that a question waits for a connection that is under way.
const CONNECT: Duration = Duration::from_secs(2);
/// Longest time until everything that was heard before is taken into account.
const SETTLE: Duration = Duration::from_secs(2);

/// Where systemd may be asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The system bus's socket (D-Bus specification).
    pub bus: PathBuf,
    /// systemctl(1), for where there is no bus.
    pub systemctl: PathBuf,
}

/// What is told without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A job of the entity's unit has ended: its process may be another one.
    Changed(EntityName),
    /// What people should know of units.
    Facts(Facts),
}

/// What people should know of units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Why systemd cannot be asked, while there are units to ask about.
    pub unreachable: Option<String>,
    /// Of single units, by name: who restarts them, and what went wrong with that.
    pub units: BTreeMap<String, String>,
}

/// Called from the runtime's threads; must not block.
pub type Teller = Box<dyn Fn(Told) + Send + Sync>;

/// What systemd says of an entity's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSeen {
    /// For the core.
    pub report: UnitReport,
    /// Its main name.
    pub id: String,
    /// The unit's main process, in systemd's pid namespace.
    pub main_pid: Option<u32>,
    /// The invocation that it is in, or was in last; empty where systemd has
    /// forgotten it.
    pub invocation: Vec<u8>,
    /// The process that is gone was the unit's main process, so that the one of
    /// now has taken its place.
    pub is_successor: bool,
}

/// The way to systemd; clones share it.
#[derive(Clone)]
pub struct Units {
    shared: Arc<Shared>,
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Units").finish_non_exhaustive()
    }
}

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    /// A job has ended.
    ended: Notify,
    /// There is a connection, or none can be had.
    connected: Notify,
    events: mpsc::UnboundedSender<Event>,
    teller: Teller,
}

#[derive(Default)]
struct State {
    bus: Option<Bus>,
    problem: Option<String>,
    memory: Memory,
    watched: HashMap<EntityName, Watched>,
    restarts: Restarts,
    told: Facts,
}

/// A unit of interest.
#[derive(Clone, Debug)]
struct Watched {
    /// As configured.
    unit: String,
    policy: UnitPolicy,
    /// Its main name, once systemd has told it.
    id: Option<String>,
    /// The invocation that was stopped when an earlier daemon ended, until systemd
    /// has been asked.
    stopped: Option<Vec<u8>>,
}

impl Units {
    /// Begins to look for systemd on this runtime.
    #[must_use]
    pub fn start(runtime: &Handle, settings: Settings, teller: Teller) -> Self {
        let (events, heard) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            settings,
            state: Mutex::default(),
            ended: Notify::new(),
            connected: Notify::new(),
            events,
            teller,
        });
        runtime.spawn(task::run(Arc::downgrade(&shared), heard));
        Self { shared }
    }

    /// An entity's unit is of interest from now on. `stopped` is the invocation that
    /// somebody had stopped when an earlier daemon ended.
    pub fn watch(
        &self,
        entity: EntityName,
        unit: String,
        policy: UnitPolicy,
        stopped: Option<Vec<u8>>,
    ) {
        let watched = Watched {
            unit,
            policy,
            id: None,
            stopped,
        };
        self.shared
            .lock()
            .watched
            .insert(EntityName::clone(&entity), watched);
        self.shared.send(Event::Watch(entity));
    }

    /// The entity has no unit any more.
    pub fn forget(&self, entity: &str) {
        if self.shared.lock().watched.remove(entity).is_some() {
            self.shared.send(Event::Forgotten);
        }
    }

    /// systemd gets back what was taken from it: nobody is left to restart those
    /// units. Takes some seconds at most.
    pub async fn give_back(&self) {
        let (done, given_back) = oneshot::channel();
        self.shared.send(Event::GiveBack(done));
        // An error is a task that has no connection.
        let _ = tokio::time::timeout(SETTLE, given_back).await;
    }

    /// Keeps a connection although there are no units.
    pub fn connect(&self) {
        self.shared.send(Event::Wanted);
    }

    /// `running`, `degraded`, `stopping`, … (systemctl(1), is-system-running);
    /// none where there is no bus. Without units, [`Units::connect`] comes first.
    pub async fn system_state(&self) -> Option<String> {
        self.connected().await;
        let bus = self.bus()?;
        let state = bus.system_state().await;
        state
            .inspect_err(|error| tracing::debug!(error = in_full(error), "no system state"))
            .ok()
    }

    /// What systemd says of a unit whose process is not there as far as we know;
    /// `gone` is the pid of that process. None where systemd cannot be asked.
    pub async fn look(&self, unit: &str, gone: Option<u32>) -> Option<UnitSeen> {
        self.connected().await;
        let mut state = self.ask(unit).await?;
        let patience = tokio::time::Instant::now() + CATCH_UP;
        while state.main_pid.is_some()
            && state.main_pid == gone
            && state.job.is_none()
            && tokio::time::Instant::now() < patience
            && is_dead(gone).await
        {
            tokio::time::sleep(CATCH_UP_STEP).await;
            state = self.ask(unit).await?;
        }
        self.settled().await;
        let (stopped, is_successor) = {
            let memory = &mut self.shared.lock().memory;
            let was_main = |pid| state.main_pid != gone && memory.was_main(&state.id, pid);
            let is_successor = gone.is_some_and(was_main);
            (memory.stopped(&state), is_successor)
        };
        Some(UnitSeen {
            report: state.report(stopped),
            is_successor,
            id: state.id,
            invocation: state.invocation,
            main_pid: state.main_pid,
        })
    }

    /// By the bus, or else by the client.
    async fn ask(&self, unit: &str) -> Option<UnitState> {
        if let Some(bus) = self.bus() {
            match bus.unit(unit).await {
                Ok(state) => return Some(state),
                Err(error) => {
                    tracing::warn!(unit, error = in_full(&error), "systemd does not say");
                }
            }
        }
        match client::unit(&self.shared.settings.systemctl, unit).await {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::warn!(unit, error = in_full(&error), "systemd does not say");
                None
            }
        }
    }

    /// Waits until everything is taken into account that was heard so far.
    async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        self.shared.send(Event::Settle(done));
        let _ = tokio::time::timeout(SETTLE, settled).await;
    }

    /// The connection, which may be under way.
    async fn connected(&self) {
        let mut connected = std::pin::pin!(self.shared.connected.notified());
        // From here on it is not missed.
        connected.as_mut().enable();
        let waits = {
            let state = self.shared.lock();
            state.bus.is_none() && state.problem.is_none()
        };
        if waits {
            let _ = tokio::time::timeout(CONNECT, connected).await;
        }
    }

    fn bus(&self) -> Option<Bus> {
        self.shared.lock().bus.clone()
    }
}

/// Whether the process of that pid is dead, or another one has the number.
async fn is_dead(pid: Option<u32>) -> bool {
    let Some(pid) = pid else {
        return false;
    };
    let verified = tokio::task::spawn_blocking(move || pidfd::verify(pid)).await;
    matches!(verified, Ok(Err(pidfd::VerifyError::NoProcess { .. })))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, event: Event) {
        // Its receiver lives as long as the task, which ends with the runtime.
        let _ended: Result<(), _> = self.events.send(event);
    }

    /// Tells what people should know, if that has changed.
    fn tell_facts(&self) {
        let facts = {
            let mut state = self.lock();
            let facts = Facts {
                unreachable: state
                    .problem
                    .clone()
                    .filter(|_| !state.watched.is_empty() && state.bus.is_none()),
                units: state.restarts.findings(),
            };
            if facts == state.told {
                return;
            }
            state.told = facts.clone();
            facts
        };
        (self.teller)(Told::Facts(facts));
    }

    fn unreachable(&self, error: &BusError) {
        let problem = format!(
            "{}; units are handled through systemctl, and a stop by somebody else may be taken \
             for a failure",
            in_full(error)
        );
        self.lock().problem = Some(problem);
        self.connected.notify_waiters();
        self.tell_facts();
    }
}
