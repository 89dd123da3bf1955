//! The receiver's thread: the engine on it, with its table, sources and priority;
//! how it begins, and what is left in the kernel when it ends.
//!
//! Must stay true: the engine lives and dies on this thread. What it does there is
//! [`super::engine`]'s.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use anyhow::Context as _;

use super::{
    End,
    engine::{Engine, Facts},
    gates::Gates,
    hands::Hands,
    inheritance::Memory,
    message::Inbox,
    selection::{self, Started, Starter},
};
use crate::{
    alarm::health::HostHealth,
    causes::in_full,
    config::{Loaded, settings::Settings},
    source::selection::Selection,
    state::{record::EntityRecord, registrations},
    sys::{clock, limits, sched, wake::Wake},
    table::{Table, budget::Budget},
};

/// The engine on its thread.
pub(super) struct Running {
    pub(super) inbox: Inbox,
    /// The host's health, as the engine writes it.
    pub(super) health: HostHealth,
    thread: JoinHandle<Table>,
}

/// Loads the kernel program and starts the engine with the configured entities.
pub(super) fn start(
    settings: &Settings,
    starter: &Starter,
    socket: &Path,
    loaded: Loaded,
    remembered: Memory,
    degraded: Vec<String>,
    work: Hands,
) -> anyhow::Result<Running> {
    let budget = pidfd_budget(settings);
    let wake = Wake::new().context("cannot create an eventfd")?;
    let (inbox, messages) = Inbox::new(wake.clone());
    let daemon = &settings.daemon;
    let mut selection = Selection::new(daemon.source, daemon.canary_interval, clock::now());
    let (sources, actions) = selection::start_first(&mut selection, starter);
    let health = HostHealth::default();
    let facts = Facts {
        host: host_name(),
        boot_id: registrations::boot_id().unwrap_or_default(),
        started: clock::now(),
        scheduling: String::new(),
        socket: socket.display().to_string(),
        degraded,
        findings: Vec::new(),
        refused_configuration: None,
        unmonitored: Vec::new(),
        starlingx: settings.starlingx.enabled,
        config_generation: 0,
        units: crate::systemd::Facts::default(),
        health: health.clone(),
    };
    let priority = settings.daemon.receiver_priority;
    let (ready, started) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("pmon-receiver".to_owned())
        .spawn(move || {
            let mut facts = facts;
            facts.scheduling = schedule_receiver(priority, &mut facts.degraded);
            let next_incident = remembered.registrations.next_incident;
            let mut table = Table::new(None).with_budget(budget);
            for source in sources {
                match source {
                    Started::Ebpf(kernel) => drop(table.set_kernel(*kernel)),
                    Started::ProcConnector(connector) => {
                        table.set_connector(Some(*connector));
                    }
                }
            }
            match Engine::new(table, selection, facts, wake, messages, work, next_incident) {
                Ok(mut engine) => {
                    engine.begin(loaded, remembered);
                    // Not before everything is monitored.
                    engine.carry_out_selection(actions);
                    let _start_waits: Result<(), _> = ready.send(Ok(()));
                    engine.run()
                }
                Err(errno) => {
                    let _start_waits: Result<(), _> = ready.send(Err(errno));
                    Table::new(None)
                }
            }
        })
        .context("cannot start the receiver thread")?;
    started
        .recv()
        .context("the receiver thread ended")?
        .context("cannot set up epoll")?;
    Ok(Running {
        inbox,
        health,
        thread,
    })
}

/// How many pidfds the table may hold, of all the files that may be open.
fn pidfd_budget(settings: &Settings) -> Budget {
    let open_files = limits::raise_open_files().unwrap_or_else(|errno| {
        tracing::warn!(%errno, "the limit of open files stays where it is");
        limits::open_files()
    });
    let own = settings.daemon.pidfd_budget;
    Budget::of(open_files, own.and_then(|own| usize::try_from(own).ok()))
}

pub(super) async fn end(engine: Running, end: End) {
    let ended = tokio::task::spawn_blocking(move || engine.thread.join()).await;
    let Ok(Ok(mut table)) = ended else {
        tracing::error!("the receiver thread did not end in order");
        return;
    };
    if let Some(connector) = table.set_connector(None)
        && let Err(error) = connector.stop()
    {
        tracing::warn!(
            error = in_full(&error),
            "the proc connector was not told to stop"
        );
    }
    match (table.take_kernel(), end) {
        (Some(kernel), End::ForGood) => {
            if let Err(error) = kernel.stop() {
                tracing::warn!(error = in_full(&error), "pins are left behind");
            }
        }
        // The pins keep programs and maps at work.
        (Some(kernel), End::HandedOver) => drop(kernel),
        (None, End::ForGood | End::HandedOver) => {}
    }
}

/// Puts the calling thread under SCHED_FIFO if asked to, and says what it is.
fn schedule_receiver(priority: u8, degraded: &mut Vec<String>) -> String {
    if priority == 0 {
        return "other: `receiver_priority = 0`".to_owned();
    }
    match sched::set_fifo(i32::from(priority)) {
        Ok(()) => format!("fifo:{priority}"),
        Err(error) => {
            let reason = format!(
                "SCHED_FIFO is refused: {error} (needs CAP_SYS_NICE, and a real-time budget of \
                 the cgroup; `pmon doctor` tells which)"
            );
            degraded.push(format!("the receiver has normal priority: {reason}"));
            format!("other: {reason}")
        }
    }
}

pub(super) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

impl Engine {
    /// Puts the first configuration into force, with what is remembered.
    pub fn begin(&mut self, loaded: Loaded, remembered: Memory) {
        let Memory {
            registrations: remembered,
            past,
            host,
        } = remembered;
        self.gates = Gates::new(host);
        self.recall_alarms(&remembered);
        self.facts.findings = loaded.findings.iter().map(ToString::to_string).collect();
        self.facts.unmonitored = loaded.unmonitored;
        self.facts.config_generation = 1;
        self.limit(loaded.settings.daemon.recovery_budget);
        let mut records = remembered.entities;
        for spec in loaded.entities {
            let record = records.remove(&spec.name).unwrap_or_default();
            // What a file describes now is no ad-hoc entity any more.
            let record = EntityRecord {
                ad_hoc: None,
                ..record
            };
            self.add(Arc::new(spec), record);
        }
        for (name, record) in records {
            if let Some(ad_hoc) = record.ad_hoc.clone() {
                self.add_ad_hoc(&name, ad_hoc, record);
            } else {
                self.clear_orphan(&name, &record);
            }
        }
        self.relate();
        self.come_into(past);
    }
}
