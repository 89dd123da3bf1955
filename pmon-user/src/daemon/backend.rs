//! The daemon as the control service sees it: questions go to the engine,
//! history and events are kept here, configuration is read here.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, broadcast, watch};

use super::{
    kernel_side::{self, KernelLog},
    message::{Inbox, Request},
    options::Options,
    starlingx::Overlay,
    telling::Telling,
};
use crate::{
    alarm::{dispatch::Dispatch, health::HostHealth},
    audit::AuditStatus,
    causes::in_full,
    compat::starlingx::{events::Subfunctions, troubles::Troubles},
    config::{
        self, Sources,
        plan::Wanted,
        settings::{Settings, difference},
    },
    control::backend::{Backend, Refusal, RegisterRequest, WantedEvents},
    core::{event::OperatorAction, identity::Identity},
    doctor, look,
    state::StoreStatus,
    sys::pidfd::verify,
    view::{
        diagnosis::{BpfLogView, BpfView, DoctorView, ReloadView},
        entity::{EntityView, ExplainView, ShowView},
        event::EventView,
        incident::IncidentView,
        status::StatusView,
    },
};

/// Incidents kept in memory.
pub(super) const HISTORY: usize = 1000;

/// Everything the control service may ask.
pub(super) struct Daemon {
    /// The engine.
    pub inbox: Inbox,
    /// Events.
    pub telling: Arc<Telling>,
    /// Closed incidents, oldest first.
    pub history: Arc<Mutex<VecDeque<IncidentView>>>,
    /// Where the configuration comes from.
    pub sources: Sources,
    /// How it was told to run.
    pub running: Settings,
    /// What the command line says goes before what is configured.
    pub options: Options,
    /// The directory of pmon.d files, as the configuration in force has it.
    pub pmon_d: Mutex<Option<PathBuf>>,
    /// Held while one is under way.
    pub reloading: tokio::sync::Mutex<()>,
    /// The threads beside the engine.
    pub helpers: Helpers,
    /// Told when another daemon is to take over.
    pub handed_over: Arc<Notify>,
    /// Switches the kernel side's own log.
    pub kernel_log: KernelLog,
}

/// How the threads beside the engine are doing.
pub(super) struct Helpers {
    /// The audit; none if it could not be started.
    pub audit: Option<watch::Receiver<AuditStatus>>,
    /// Receivers of alarms.
    pub alarms: Dispatch,
    /// The host's health.
    pub health: HostHealth,
    /// The state writer.
    pub store: watch::Receiver<StoreStatus>,
    /// Those that work for StarlingX.
    pub starlingx: Troubles,
    /// What events to mtcAgent say of entities.
    pub subfunctions: Subfunctions,
    /// What pmond.conf says of the settings.
    pub overlay: Overlay,
}

impl Helpers {
    /// What is wrong with them.
    fn degraded(&self) -> Vec<String> {
        let mut degraded = Vec::new();
        match &self.audit {
            Some(audit) => degraded.extend(audit.borrow().degraded.clone()),
            None => degraded.push("there is no audit; see the log".to_owned()),
        }
        degraded.extend(self.alarms.status());
        let store = self.store.borrow();
        degraded.extend(store.degraded.clone());
        if store.lost > 0 {
            degraded.push(format!("{} incidents could not be saved", store.lost));
        }
        degraded.extend(self.starlingx.list());
        degraded
    }
}

impl Daemon {
    /// The directory of pmon.d files, if any are read.
    pub(super) fn pmon_d(&self) -> Option<PathBuf> {
        let pmon_d = self.pmon_d.lock().unwrap_or_else(PoisonError::into_inner);
        pmon_d.clone()
    }

    /// Reads the configuration, and plans it or puts it into force.
    pub(super) async fn reload_for(
        &self,
        wanted: Wanted,
        by: String,
    ) -> Result<ReloadView, Refusal> {
        let _one_at_a_time = self.reloading.lock().await;
        let sources = self.sources.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            config::load(&sources, &config::LocalHost::detect())
        })
        .await
        .map_err(|error| Refusal::Refused {
            reason: format!("the configuration could not be read: {error}"),
        })?;
        let mut settings = loaded.settings.clone();
        self.options.apply_to(&mut settings);
        self.helpers.overlay.apply_to(&mut settings);
        let subfunctions = Subfunctions::default();
        subfunctions.learn(&loaded.entities);
        let pmon_d = self.sources.pmon_d(&settings).map(Path::to_path_buf);
        let waiting = if loaded.refused() {
            Vec::new()
        } else {
            difference::waiting_for_restart(&self.running, &settings)
        };
        let asked = (self.inbox)
            .ask(|reply| Request::Reload(Box::new(loaded), wanted, reply))
            .await;
        let mut view = asked?;
        view.daemon_restart = waiting.into_iter().map(str::to_owned).collect();
        if wanted != Wanted::Plan {
            if view.applied {
                self.helpers.subfunctions.take_from(&subfunctions);
                *self.pmon_d.lock().unwrap_or_else(PoisonError::into_inner) = pmon_d;
            }
            tell(&view, &by);
        }
        Ok(view)
    }
}

/// What has become of a reload, for the log.
fn tell(view: &ReloadView, by: &str) {
    for finding in &view.findings {
        tracing::warn!("{finding}");
    }
    match &view.refused {
        Some(why) => tracing::error!(
            by,
            "the configuration on disk is refused, and the one before stays in force: {why}"
        ),
        None => tracing::info!(
            by,
            added = view.added.len(),
            changed = view.changed.len(),
            removed = ?view.removed,
            "configuration {} is in force",
            view.config_generation
        ),
    }
    for setting in &view.daemon_restart {
        tracing::warn!("`{setting}` has changed, which the daemon heeds when it is restarted");
    }
}

impl Backend for Daemon {
    async fn status(&self, names: Vec<String>) -> Result<StatusView, Refusal> {
        let asked = self.inbox.ask(|reply| Request::Status(names, reply)).await;
        asked.map(|mut view| {
            view.degraded.extend(self.helpers.degraded());
            let health = self.helpers.health.read();
            view.host_degraded = health.degraded;
            view.unrecoverable = health.unrecoverable.as_deref().map(str::to_owned);
            view
        })
    }

    async fn show(&self, name: String) -> Result<ShowView, Refusal> {
        /// The rest is for `pmon history`.
        const INCIDENTS: usize = 5;
        let asked = name.clone();
        let mut view = self.inbox.ask(|reply| Request::Show(asked, reply)).await?;
        let mut incidents = self.history(Some(name)).await?;
        incidents.truncate(INCIDENTS);
        view.incidents = incidents;
        Ok(view)
    }

    async fn operate(
        &self,
        name: String,
        action: OperatorAction,
        reason: Option<String>,
        by: String,
    ) -> Result<EntityView, Refusal> {
        self.inbox
            .ask(|reply| Request::Operate {
                name,
                action,
                reason,
                by,
                reply,
            })
            .await
    }

    async fn register(&self, request: RegisterRequest, by: String) -> Result<EntityView, Refusal> {
        let process = match request.pid {
            Some(pid) => Some(identify(pid).await?),
            None => None,
        };
        self.inbox
            .ask(|reply| Request::Register {
                request,
                process,
                by,
                reply,
            })
            .await
    }

    async fn unregister(&self, name: String, by: String) -> Result<(), Refusal> {
        self.inbox
            .ask(|reply| Request::Unregister { name, by, reply })
            .await
    }

    async fn history(&self, name: Option<String>) -> Result<Vec<IncidentView>, Refusal> {
        let asked = name.clone();
        let open = self
            .inbox
            .ask(|reply| Request::OpenIncidents(asked, reply))
            .await;
        let wanted =
            |incident: &&IncidentView| name.as_ref().is_none_or(|name| incident.entity == *name);
        let mut incidents: Vec<IncidentView> = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.iter().filter(wanted).cloned().collect()
        };
        match open {
            Ok(open) => incidents.extend(open),
            // An entity that is gone may still have a history.
            Err(Refusal::UnknownEntity { .. }) if !incidents.is_empty() => {}
            Err(refusal) => return Err(refusal),
        }
        incidents.sort_by_key(|incident| std::cmp::Reverse(incident.incident));
        Ok(incidents)
    }

    async fn explain(&self, name: String) -> Result<ExplainView, Refusal> {
        self.inbox.ask(|reply| Request::Explain(name, reply)).await
    }

    async fn reload(&self, plan: bool, by: String) -> Result<ReloadView, Refusal> {
        let wanted = if plan { Wanted::Plan } else { Wanted::ByHand };
        self.reload_for(wanted, by).await
    }

    async fn handoff(&self, by: String) -> Result<(), Refusal> {
        self.inbox.ask(Request::MayHandOver).await?;
        tracing::info!(by, "another daemon takes over");
        self.handed_over.notify_one();
        Ok(())
    }

    async fn doctor(&self) -> Result<DoctorView, Refusal> {
        let status = self.status(Vec::new()).await?;
        let settings = self.running.daemon.clone();
        let checks = tokio::task::spawn_blocking(move || doctor::with_daemon(&status, &settings))
            .await
            .map_err(|error| Refusal::Refused {
                reason: format!("the checks did not end: {error}"),
            })?;
        Ok(DoctorView { checks })
    }

    async fn bpf(&self, time: Duration) -> Result<BpfView, Refusal> {
        kernel_side::show(&self.inbox, time).await
    }

    async fn bpf_log(&self, on: bool, by: String) -> Result<BpfLogView, Refusal> {
        tracing::info!(by, on, "the kernel side's log is switched");
        self.kernel_log.switch(on, &self.inbox).await
    }

    fn events(
        &self,
        wanted: WantedEvents,
    ) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        self.telling.listen(wanted)
    }
}

/// Who has this pid now. Not for the engine's thread: see `look::last_seen`.
async fn identify(pid: u32) -> Result<Identity, Refusal> {
    let refused = |reason| Refusal::InvalidParameter {
        field: "pid".to_owned(),
        reason,
    };
    let verified = tokio::task::spawn_blocking(move || verify(pid))
        .await
        .map_err(|error| refused(error.to_string()))?;
    let identity = verified
        .map(|process| process.identity())
        .map_err(|error| refused(in_full(&error)))?;
    match look::never_accepted(pid) {
        Some(what) => Err(refused(format!(
            "`{pid}` is {what}, which is never monitored"
        ))),
        None => Ok(identity),
    }
}
