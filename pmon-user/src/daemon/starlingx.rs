//! pmon in the place of StarlingX's pmond: what of `compat::starlingx` is started
//! when, and what ends with the daemon.
//!
//! Must stay true: the petting begins before anything that could block.

use std::{num::NonZeroU16, path::PathBuf};

use jiff::Timestamp;

use super::{
    backend::Daemon,
    message::{Inbox, Message},
    receiver::host_name,
};
use crate::{
    alarm::{AlarmSink, health::HostHealth},
    compat::starlingx::{
        daemon_config::PmondConfig,
        events::{Addressing, MtcAgent, Subfunctions},
        files::{self, Pidfile},
        gates::{self, Gates, Watch},
        petting::{Cadence, Core, Petting, Proof, Receivers},
        platform::Platform,
        root::Root,
        syslog::Syslog,
        system_state::{OverBus, Systemctl},
        troubles::{Concern, Troubles},
    },
    config::{
        finding::Finding,
        settings::{Settings, starlingx::StarlingxSettings},
    },
    control::backend::Backend as _,
    core::gate::{Knowledge, System},
    render,
    systemd::Units,
};

/// Where the engine is asked whether it lives.
struct Engine(Inbox);

impl Core for Engine {
    fn ask(&self, proof: Proof) {
        self.0.send(Message::Alive(proof));
    }
}

/// What is at work for StarlingX; nothing where that is not configured.
#[derive(Default)]
pub(super) struct StarlingX {
    at_work: Option<AtWork>,
    /// What does not work.
    pub(super) troubles: Troubles,
    /// What events to mtcAgent say of entities.
    pub(super) subfunctions: Subfunctions,
}

struct AtWork {
    settings: StarlingxSettings,
    config: PmondConfig,
    petting: Option<Petting>,
    pidfile: Option<Pidfile>,
}

impl StarlingX {
    /// Begins with the petting.
    pub(super) fn start(settings: StarlingxSettings) -> (Self, Vec<Finding>) {
        if !settings.enabled {
            return (Self::default(), Vec::new());
        }
        let troubles = Troubles::default();
        let privileged = rustix::process::geteuid().is_root();
        let (config, findings) = PmondConfig::read(&settings.root, privileged);
        let petting = Receivers::of(&config)
            .and_then(|them| Petting::start(Cadence::from(&config), them, troubles.clone()));
        let petting = petting
            .map_err(|error| troubles.report(Concern::Watchdog, Some(error.to_string())))
            .ok();
        let at_work = AtWork {
            settings,
            config,
            petting,
            pidfile: None,
        };
        let starlingx = Self {
            at_work: Some(at_work),
            troubles,
            subfunctions: Subfunctions::default(),
        };
        (starlingx, findings)
    }

    /// pmond's place in the host's log.
    pub(super) fn syslog(&self) -> Option<Syslog> {
        let AtWork { settings, .. } = self.at_work.as_ref()?;
        match Syslog::of(&settings.root) {
            Ok(syslog) => Some(syslog),
            Err(error) => {
                self.troubles
                    .report(Concern::Files, Some(error.to_string()));
                None
            }
        }
    }

    /// The original, if it runs beside us.
    pub(super) fn original(&self) -> Option<u32> {
        files::original(&self.at_work.as_ref()?.settings.root)
    }

    /// What pmond.conf says, where pmon's own configuration leaves it open.
    pub(super) fn overlay(&self) -> Overlay {
        let Some(AtWork {
            settings, config, ..
        }) = &self.at_work
        else {
            return Overlay::default();
        };
        let elsewhere = settings.root != Root::default();
        let platform = elsewhere.then(|| Platform::read(&settings.root).ok());
        Overlay {
            active_port: Some(config.active_port),
            command_port: NonZeroU16::new(config.command_port),
            initialised_file: platform
                .flatten()
                .map(|platform| settings.root.path(platform.initialised_flag())),
        }
    }

    /// The gates as they are before the engine begins; their thread is started
    /// with [`StarlingX::watch_gates`].
    pub(super) fn first_look(&self) -> Option<(Watch, Knowledge)> {
        let AtWork {
            settings, config, ..
        } = self.at_work.as_ref()?;
        let mut watch = Watch::new(settings.root.clone(), config.start_delay);
        let knowledge = watch.look(System::Unasked);
        Some((watch, knowledge))
    }

    /// Has somebody look after the gates.
    pub(super) fn watch_gates(
        &self,
        watch: Watch,
        units: Option<&Units>,
        inbox: &Inbox,
    ) -> Option<Gates> {
        let root = &self.at_work.as_ref()?.settings.root;
        let inbox = inbox.clone();
        let report = move |report| inbox.send(Message::Gates(report));
        let troubles = self.troubles.clone();
        let started = match units.filter(|_| *root == Root::default()) {
            Some(units) => {
                let runtime = tokio::runtime::Handle::current();
                let source = OverBus::new(units.clone(), runtime, root);
                gates::start(watch, source, troubles, report)
            }
            None => gates::start(watch, Systemctl::new(root), troubles, report),
        };
        started
            .map_err(|error| {
                let trouble = format!("the gates are not looked after: {error}");
                self.troubles.report(Concern::SystemState, Some(trouble));
            })
            .ok()
    }

    /// mtcAgent, as a receiver of alarms.
    pub(super) fn sink(&self) -> Option<Box<dyn AlarmSink>> {
        let AtWork {
            settings, config, ..
        } = self.at_work.as_ref()?;
        let addressing = Addressing {
            controller: settings.controller.clone(),
            port: config.event_port,
            hostname: host_name(),
            root: settings.root.clone(),
        };
        match MtcAgent::new(addressing, self.subfunctions.clone()) {
            Ok(agent) => Some(Box::new(agent)),
            Err(error) => {
                self.troubles
                    .report(Concern::Events, Some(error.to_string()));
                None
            }
        }
    }

    /// The engine is there: from now on the petting depends on its answers.
    pub(super) fn engine_is_up(&mut self, inbox: &Inbox, health: HostHealth) {
        let Some(at_work) = &mut self.at_work else {
            return;
        };
        if let Some(petting) = &at_work.petting {
            petting.attach(Box::new(Engine(inbox.clone())), health);
        }
        match Pidfile::write(&at_work.settings.root) {
            Ok(pidfile) => at_work.pidfile = Some(pidfile),
            Err(error) => self
                .troubles
                .report(Concern::Files, Some(error.to_string())),
        }
    }

    /// Writes how the daemon is into pmond.info.
    pub(super) async fn write_info(&self, daemon: &Daemon) {
        let Some(at_work) = &self.at_work else {
            return;
        };
        let text = in_words(daemon).await;
        let root = at_work.settings.root.clone();
        let written = tokio::task::spawn_blocking(move || files::write_info(&root, &text)).await;
        let trouble = match written {
            Ok(written) => written.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        self.troubles.report(Concern::Files, trouble);
    }

    /// The end of the daemon.
    pub(super) fn stop(&mut self) {
        if let Some(at_work) = self.at_work.take()
            && let Some(petting) = at_work.petting
        {
            petting.stop();
        }
    }
}

/// What pmond.conf says of pmon's own settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    active_port: Option<u16>,
    command_port: Option<NonZeroU16>,
    /// Where the host is below a directory of its own; elsewhere it is looked up.
    initialised_file: Option<PathBuf>,
}

impl Overlay {
    /// Lays it over settings that are at their defaults.
    pub(super) fn apply_to(&self, settings: &mut Settings) {
        let Self {
            active_port,
            command_port,
            initialised_file,
        } = self;
        let default = Settings::default();
        let daemon = &mut settings.daemon;
        if let Some(port) = active_port
            && daemon.active_reply_port == default.daemon.active_reply_port
        {
            daemon.active_reply_port = *port;
        }
        if let Some(port) = command_port
            && settings.starlingx.command_port == default.starlingx.command_port
        {
            settings.starlingx.command_port = *port;
        }
        if daemon.initialised_file.is_none() {
            daemon.initialised_file.clone_from(initialised_file);
        }
    }
}

/// Everything that `pmon status` shows.
pub(super) async fn in_words(daemon: &Daemon) -> String {
    let look = render::Look {
        colour: false,
        width: None,
        now: Timestamp::now(),
    };
    match daemon.status(Vec::new()).await {
        Ok(status) => render::status::status(&status, &look),
        Err(refusal) => format!("{refusal}\n"),
    }
}
