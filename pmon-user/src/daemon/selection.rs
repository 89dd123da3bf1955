//! Carries out what the selection of sources asks for: starting and stopping
//! them, sending out canaries, telling people.
//!
//! Loading and attaching blocks, so it is done on tokio; only what needs the
//! table is done here, on the engine's thread.

use std::time::Duration;

use super::{
    engine::Engine,
    message::{Inbox, Message, Tale, Told, Work},
};
use crate::{
    causes::in_full,
    config::settings::DaemonSettings,
    core::{death::SourceName, time::Time},
    source::{
        connector::Connector,
        ebpf::{Ebpf, MapSizes},
        pinning::PinHealth,
        selection::{Action, Event, Notice, Selection},
    },
    sys::{clock, memory},
};

/// For everything that the connector has queued, which others are kept waiting for.
const HEARING: Duration = Duration::from_millis(200);

/// What a source is started with.
#[derive(Clone, Debug)]
pub(super) struct Starter {
    settings: DaemonSettings,
}

/// A source that runs.
pub enum Started {
    /// The BPF programs.
    Ebpf(Box<Ebpf>),
    /// The netlink process connector.
    ProcConnector(Box<Connector>),
}

impl Started {
    const fn name(&self) -> SourceName {
        match self {
            Self::Ebpf(_) => SourceName::Ebpf,
            Self::ProcConnector(_) => SourceName::ProcConnector,
        }
    }
}

/// Something that takes its time, or may hang.
pub enum SourceWork {
    /// Start a source, after stopping what is left of it.
    Start {
        /// Which.
        name: SourceName,
        /// What is left of it.
        old: Option<Started>,
    },
    /// Stop a source.
    Stop(Started),
}

impl Starter {
    pub(super) const fn new(settings: DaemonSettings) -> Self {
        Self { settings }
    }

    /// Loads, attaches, listens. Blocks; needs tokio's context.
    pub(super) fn start(&self, name: SourceName) -> Result<Started, String> {
        let started = match name {
            SourceName::Ebpf => self.load().map(|kernel| Started::Ebpf(Box::new(kernel))),
            SourceName::ProcConnector => Connector::start()
                .map(|connector| Started::ProcConnector(Box::new(connector)))
                .map_err(|error| in_full(&error)),
            SourceName::Pidfd => Err("pidfds need no start".to_owned()),
        };
        match &started {
            Ok(_) => tracing::info!(source = name.as_str(), "source started"),
            Err(reason) => {
                tracing::warn!(source = name.as_str(), "source not started: {reason}");
            }
        }
        started
    }

    fn load(&self) -> Result<Ebpf, String> {
        let sizes = MapSizes {
            max_pids: self.settings.max_pids,
            ring_bytes: self.settings.ring_bytes,
        };
        let loaded = Ebpf::start(sizes, self.settings.pin_dir.as_deref());
        memory::trim();
        loaded.map_err(|error| in_full(&error))
    }

    /// Does it without anybody waiting.
    pub(super) fn submit(&self, work: SourceWork, inbox: &Inbox) {
        let (starter, inbox) = (self.clone(), inbox.clone());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let _context = runtime.enter();
            match work {
                SourceWork::Start { name, old } => {
                    old.into_iter().for_each(stop);
                    let started = starter.start(name).map_err(|reason| (name, reason));
                    inbox.send(Message::Source(started));
                }
                SourceWork::Stop(old) => stop(old),
            }
        });
    }
}

fn stop(started: Started) {
    let stopped = match started {
        Started::Ebpf(kernel) => kernel.stop().map_err(|error| in_full(&error)),
        Started::ProcConnector(connector) => connector.stop().map_err(|error| in_full(&error)),
    };
    if let Err(error) = stopped {
        tracing::warn!(error, "a source was not stopped in order");
    }
}

/// Starts the first sources, before there is an engine. Returns what could be
/// started and what is left to do.
pub(super) fn start_first(
    selection: &mut Selection,
    starter: &Starter,
) -> (Vec<Started>, Vec<Action>) {
    let mut started = Vec::new();
    let mut left = Vec::new();
    let mut actions = selection.begin();
    while !actions.is_empty() {
        for action in std::mem::take(&mut actions) {
            let Action::Start(name) = action else {
                left.push(action);
                continue;
            };
            let event = match starter.start(name) {
                Ok(source) => {
                    started.push(source);
                    Event::Started(name)
                }
                Err(reason) => Event::NotStarted(name, reason),
            };
            actions.extend(selection.step(event, clock::now()));
        }
    }
    (started, left)
}

impl Engine {
    /// Carries the selection on.
    pub(super) fn source_event(&mut self, event: Event) {
        let actions = self.selection.step(event, clock::now());
        self.carry_out_selection(actions);
    }

    pub(super) fn carry_out_selection(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Hatch => self.hand_out(Work::Hatch),
                Action::Start(name) => {
                    let old = self.take_source(name);
                    self.hand_out(Work::Source(SourceWork::Start { name, old }));
                }
                Action::Stop(name) => {
                    if let Some(old) = self.take_source(name) {
                        self.hand_out(Work::Source(SourceWork::Stop(old)));
                    }
                }
                Action::Tell(notice) => self.tell_of_source(notice),
            }
        }
    }

    /// A source is there, or is not.
    pub(super) fn source_started(&mut self, started: Result<Started, (SourceName, String)>) {
        let event = match started {
            Ok(started) => {
                let name = started.name();
                match self.use_source(started) {
                    Ok(()) => Event::Started(name),
                    Err(reason) => Event::NotStarted(name, reason),
                }
            }
            Err((name, reason)) => Event::NotStarted(name, reason),
        };
        self.source_event(event);
    }

    fn use_source(&mut self, started: Started) -> Result<(), String> {
        match started {
            Started::Ebpf(kernel) => {
                self.watch_ring(&kernel)
                    .map_err(|errno| errno.to_string())?;
                let moved = self.table.set_kernel(*kernel);
                self.forget_what_nobody_knows();
                for moved in moved {
                    if let Some(entity) = self.entities.get_mut(&moved.entity) {
                        entity.pidfd_only = moved.pidfd_only;
                    }
                }
            }
            Started::ProcConnector(connector) => {
                self.watch_connector(&connector)
                    .map_err(|errno| errno.to_string())?;
                self.table.set_connector(Some(*connector));
            }
        }
        // Who died while nobody listened is told now.
        self.resync();
        Ok(())
    }

    /// Takes a source out of use; what it had to tell is told first.
    pub(super) fn take_source(&mut self, name: SourceName) -> Option<Started> {
        match name {
            SourceName::Ebpf => {
                self.drain_ring();
                let (kernel, hints) = self.table.remove_kernel()?;
                self.epoll.remove(kernel.ring_fd());
                for (entity, hint) in hints {
                    self.hinted(&entity, hint);
                }
                // Also what no pidfd watches must be told by somebody.
                self.resync();
                Some(Started::Ebpf(Box::new(kernel)))
            }
            SourceName::ProcConnector => {
                let connector = self.table.set_connector(None)?;
                self.table.lost_to_canary(name, "it was stopped meanwhile");
                self.epoll.remove(connector.fd());
                Some(Started::ProcConnector(Box::new(connector)))
            }
            SourceName::Pidfd => None,
        }
    }

    /// Looks after the pins, which somebody may have removed.
    pub(super) fn check_pins(&mut self) {
        let Some(kernel) = self.table.kernel_mut() else {
            return;
        };
        let PinHealth {
            unpinned: _,
            repaired,
        } = kernel.check_pins();
        for what in repaired {
            self.tell_of_source(Notice::Repaired(what));
        }
    }

    fn tell_of_source(&self, notice: Notice) {
        self.hand_out(Work::Tell(Told {
            at: clock::now(),
            entity: None,
            incident: None,
            what: Tale::Source(notice),
        }));
    }

    /// When the sources want to be looked at.
    pub(super) fn sources_due(&self) -> Option<Time> {
        match self.canary {
            Some(_) => self.table.canary_due(),
            None => self.selection.due(),
        }
    }

    /// Does what is due.
    pub(super) fn tick_sources(&mut self) {
        let is_due = |engine: &Self| engine.sources_due().is_some_and(|due| due <= clock::now());
        if self.canary.is_some() && is_due(self) {
            // This thread itself may have been late: nobody is called silent
            // before everything that has been said is heard.
            self.receive(Some(Duration::ZERO));
            let begun = clock::now();
            while !self.hear_connector() && clock::elapsed(begun) < HEARING {}
        }
        self.judge_canary();
        if self.canary.is_none() && is_due(self) {
            self.source_event(Event::Tick);
        }
    }
}
