//! What the control service asks of the daemon: the seam between the socket
//! and the engine.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::sync::broadcast;

use crate::{
    core::event::OperatorAction,
    view::{
        diagnosis::{BpfLogView, BpfView, DoctorView, ReloadView},
        entity::{EntityView, ExplainView, ShowView},
        event::EventView,
        incident::IncidentView,
        status::StatusView,
    },
};

/// The daemon as the control service sees it. Access has been checked before
/// any of these is called.
pub trait Backend: Send + Sync + 'static {
    /// The daemon and its entities; all of them when `names` is empty.
    fn status(
        &self,
        names: Vec<String>,
    ) -> impl Future<Output = Result<StatusView, Refusal>> + Send;
    /// One entity in detail.
    fn show(&self, name: String) -> impl Future<Output = Result<ShowView, Refusal>> + Send;
    /// An operator's action; returns once it has been accepted.
    fn operate(
        &self,
        name: String,
        action: OperatorAction,
        reason: Option<String>,
        by: String,
    ) -> impl Future<Output = Result<EntityView, Refusal>> + Send;
    /// Monitors a process that no file describes.
    fn register(
        &self,
        request: RegisterRequest,
        by: String,
    ) -> impl Future<Output = Result<EntityView, Refusal>> + Send;
    /// Forgets an ad-hoc entity; its process is left alone.
    fn unregister(
        &self,
        name: String,
        by: String,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
    /// Incidents, newest first; of one entity when `name` is given.
    fn history(
        &self,
        name: Option<String>,
    ) -> impl Future<Output = Result<Vec<IncidentView>, Refusal>> + Send;
    /// Why an entity is in its state, and what would happen if it died now.
    fn explain(&self, name: String) -> impl Future<Output = Result<ExplainView, Refusal>> + Send;
    /// Reads the configuration again and puts it into force, or only says what
    /// that would change.
    fn reload(
        &self,
        plan: bool,
        by: String,
    ) -> impl Future<Output = Result<ReloadView, Refusal>> + Send;
    /// Ends, leaving the kernel side and every process to another daemon; returns
    /// once it has been accepted.
    fn handoff(&self, by: String) -> impl Future<Output = Result<(), Refusal>> + Send;
    /// Every prerequisite, from inside the daemon.
    fn doctor(&self) -> impl Future<Output = Result<DoctorView, Refusal>> + Send;
    /// Our programs, links, maps and pins, with runs counted for so long; not at
    /// all for no time.
    fn bpf(&self, time: Duration) -> impl Future<Output = Result<BpfView, Refusal>> + Send;
    /// Switches the programs' own log.
    fn bpf_log(
        &self,
        on: bool,
        by: String,
    ) -> impl Future<Output = Result<BpfLogView, Refusal>> + Send;
    /// The last events and a receiver for all that follow.
    fn events(
        &self,
        wanted: WantedEvents,
    ) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>);
}

/// Which events somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedEvents {
    /// At most so many of the past ones.
    pub recent: usize,
    /// Also what is not verified yet.
    pub early: bool,
}

/// An ad-hoc entity: a live process, named by its pid or its pidfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterRequest {
    /// Name of the new entity.
    pub name: String,
    /// Process id, unless a pidfile names it.
    pub pid: Option<u32>,
    /// File that names the process.
    pub pidfile: Option<String>,
    /// Shell command that starts a successor.
    pub restart: Option<String>,
    /// Whether it is followed into the background.
    pub follow: bool,
}

/// Why the daemon does not do what was asked.
#[derive(Debug, Error)]
pub enum Refusal {
    /// No such entity.
    #[error("unknown entity `{name}`")]
    UnknownEntity {
        /// The name asked for.
        name: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// A parameter is not acceptable.
    #[error("`{field}`: {reason}")]
    InvalidParameter {
        /// The parameter.
        field: String,
        /// What was expected.
        reason: String,
    },
    /// The state of the entity forbids it.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The engine did not answer in time.
    #[error("the daemon did not answer within {seconds} s")]
    TimedOut {
        /// The deadline.
        seconds: u64,
    },
}
