//! How the daemon itself is to run: every setting, decided.
//!
//! Plain values with the defaults of a host where nothing is configured. How
//! they are written in TOML is `native`'s business.

pub mod difference;
pub mod starlingx;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{dependency::GroupSettings, storm::StormKeys};
use crate::core::{
    budget::Limits, dependency::Dependencies, entity::StopPolicy, storm::StormPolicy,
};
use starlingx::StarlingxSettings;

/// Everything outside of entities.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// `[daemon]`.
    pub daemon: DaemonSettings,
    /// `[control]`.
    pub control: ControlSettings,
    /// `[defaults]`.
    pub defaults: EntityDefaults,
    /// `[alarm]`.
    pub alarm: AlarmSettings,
    /// `[pmon_d]`.
    pub pmon_d: PmonDSettings,
    /// `[compat.starlingx]`.
    pub starlingx: StarlingxSettings,
    /// `[override.NAME]`: exceptions for entities of pmon.d files, by name.
    pub overrides: BTreeMap<String, Override>,
    /// `[group.NAME]`: entities that belong together, by name.
    pub groups: BTreeMap<String, GroupSettings>,
}

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSettings {
    /// Directory of the control socket and other volatile files.
    pub run_dir: PathBuf,
    /// Directory of holds, incidents and generations.
    pub state_dir: PathBuf,
    /// bpffs directory under which maps and links are pinned; `None` = no pins.
    pub pin_dir: Option<PathBuf>,
    /// Group that may read through the control socket, by name or gid.
    pub socket_group: String,
    /// Period of the sweep that catches what events missed.
    pub audit_interval: Duration,
    /// How long a changed pidfile or directory must rest before it is read.
    pub settle: Duration,
    /// Whether changed configuration files are put into force without being asked
    /// to, as pmond does.
    pub auto_reload: bool,
    /// How long configuration files must rest before that.
    pub reload_settle: Duration,
    /// Kernel source of deaths.
    pub source: SourceChoice,
    /// Period in which the sources are tried by a canary.
    pub canary_interval: Duration,
    /// SCHED_FIFO priority of the receiver thread, 1 to 99; 0 = normal scheduling.
    pub receiver_priority: u8,
    /// Size of the kernel's pid table, in entries.
    pub max_pids: u32,
    /// Size of the kernel's ring buffer, in bytes: a power of two, whole pages.
    pub ring_bytes: u32,
    /// Registrations that keep a pidfd of their own; further ones are watched by
    /// the kernel's table alone. `None` = as many as the limit of open files
    /// allows.
    pub pidfd_budget: Option<u32>,
    /// UDP port on 127.0.0.1 where processes in active mode answer.
    pub active_reply_port: u16,
    /// The file that says that the host is fully initialised; `None` = that of
    /// the platform.
    pub initialised_file: Option<PathBuf>,
    /// How many recoveries may begin at once.
    pub recovery_budget: Limits,
}

impl Default for DaemonSettings {
    fn default() -> Self {
        Self {
            run_dir: "/run/pmon".into(),
            state_dir: "/var/lib/pmon".into(),
            pin_dir: Some("/sys/fs/bpf/pmon".into()),
            socket_group: "pmon".into(),
            audit_interval: Duration::from_secs(30),
            settle: Duration::from_millis(50),
            auto_reload: true,
            reload_settle: Duration::from_secs(1),
            source: SourceChoice::Auto,
            canary_interval: Duration::from_secs(5 * 60),
            receiver_priority: 10,
            max_pids: pmon_common::DEFAULT_MAX_PIDS,
            ring_bytes: pmon_common::DEFAULT_RING_BYTES,
            pidfd_budget: None,
            active_reply_port: crate::pulse::endpoint::REPLY_PORT,
            initialised_file: None,
            recovery_budget: Limits::default(),
        }
    }
}

/// Which kernel source tells of deaths.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum SourceChoice {
    /// The best one that works here.
    #[default]
    Auto,
    /// eBPF or nothing.
    Ebpf,
    /// The netlink process events connector.
    ProcConnector,
    /// Polling of pidfds only.
    Pidfd,
}

/// `[control]`: who may do what over the control socket, beside root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlSettings {
    /// Groups that may look, beside `socket_group`.
    pub read_gids: Vec<u32>,
    /// Users that may act.
    pub write_uids: Vec<u32>,
    /// Groups that may act.
    pub write_gids: Vec<u32>,
}

/// `[defaults]`: for every entity that does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityDefaults {
    /// How a live process is ended.
    pub stop: StopPolicy,
    /// Deadline of a start command; an entity's `startuptime` raises it.
    pub start_timeout: Duration,
    /// How entities are restrained.
    pub storm: StormKeys,
    /// How long a successor of somebody else's is waited for after a death.
    pub adoption_window: Duration,
}

/// Time that a process gets to end by itself. systemd's is 90 s; a monitored
/// process that is being replaced is wanted back much sooner.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for EntityDefaults {
    fn default() -> Self {
        Self {
            stop: StopPolicy::Graceful {
                signal: rustix::process::Signal::TERM.as_raw(),
                timeout: STOP_TIMEOUT,
            },
            start_timeout: Duration::from_secs(30),
            storm: StormKeys::default(),
            adoption_window: Duration::ZERO,
        }
    }
}

/// `[alarm]`: who is told of alarms, beside log and `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmSettings {
    /// Program (absolute path) and arguments, executed for each event; empty =
    /// none.
    pub hook: Vec<String>,
    /// After that long it is killed.
    pub hook_timeout: Duration,
    /// File that gets a line of JSON for each event.
    pub file: Option<PathBuf>,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        Self {
            hook: Vec::new(),
            hook_timeout: Duration::from_secs(10),
            file: None,
        }
    }
}

/// `[pmon_d]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmonDSettings {
    /// Directory of pmon.d files; `None` = none are read.
    pub directory: Option<PathBuf>,
}

impl Default for PmonDSettings {
    fn default() -> Self {
        Self {
            directory: Some("/etc/pmon.d".into()),
        }
    }
}

/// `[override.NAME]`: what a pmon.d file cannot express.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// How a live process is ended.
    pub stop: Option<StopPolicy>,
    /// Deadline of the start command.
    pub start_timeout: Option<Duration>,
    /// How it is restrained.
    pub storm: StormKeys,
    /// Entities after which it is started.
    pub after: Option<Vec<String>>,
    /// Entities without which it is not started.
    pub requires: Option<Vec<String>>,
    /// How long a successor of somebody else's is waited for after a death.
    pub adoption_window: Option<Duration>,
}

impl Settings {
    /// Stop policy of a pmon.d entity.
    pub fn stop_of(&self, name: &str) -> StopPolicy {
        self.overrides
            .get(name)
            .and_then(|exception| exception.stop)
            .unwrap_or(self.defaults.stop)
    }

    /// Adoption window of a pmon.d entity.
    pub fn adoption_window_of(&self, name: &str) -> Duration {
        self.overrides
            .get(name)
            .and_then(|exception| exception.adoption_window)
            .unwrap_or(self.defaults.adoption_window)
    }

    /// What a pmon.d entity is to others.
    pub fn dependencies_of(&self, name: &str) -> Dependencies {
        let exception = self.overrides.get(name);
        let (after, requires) = exception.map_or((&None, &None), |exception| {
            (&exception.after, &exception.requires)
        });
        Dependencies {
            after: after.clone().unwrap_or_default(),
            requires: requires.clone().unwrap_or_default(),
            group: None,
        }
    }

    /// How a pmon.d entity with this `interval` is restrained.
    pub fn storm_of(&self, name: &str, interval: Duration) -> StormPolicy {
        let exception = self.overrides.get(name);
        exception
            .map_or_else(StormKeys::default, |exception| exception.storm)
            .over(self.defaults.storm)
            .policy(StormPolicy::PMOND, interval)
    }

    /// Start deadline of a pmon.d entity; never under its `startuptime`.
    pub fn start_timeout_of(&self, name: &str, startuptime: Duration) -> Duration {
        self.overrides
            .get(name)
            .and_then(|exception| exception.start_timeout)
            .unwrap_or(self.defaults.start_timeout)
            .max(startuptime)
    }
}
