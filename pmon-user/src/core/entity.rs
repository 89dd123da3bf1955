//! What an operator asked for: one monitored entity as configuration describes
//! it, whatever dialect it was written in.
//!
//! Plain data, already validated by `config`: nothing here is half set. Which
//! start method is usable on this host has been decided, too, so that the core
//! never looks at the host.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{dependency::Dependencies, socket::SocketSpec, storm::StormPolicy};

/// Everything the core needs to know about one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitySpec {
    /// Name used in commands, events and alarms (pmon.d `process`).
    pub name: String,
    /// How it is monitored.
    pub mode: Mode,
    /// How bad a lasting failure is.
    pub severity: Severity,
    /// Failed recoveries before the alarm; 0 = no automatic recovery.
    pub restarts: u32,
    /// Pause between recovery attempts; zero = none.
    pub interval: Duration,
    /// How long a successor must stay alive, after `startuptime`, to count as recovered.
    pub debounce: Duration,
    /// Window for the start command to finish and the process to appear.
    pub startuptime: Duration,
    /// Deadline of the start command itself; never less than `startuptime`.
    pub start_timeout: Duration,
    /// After a death, how long a successor that somebody else starts is waited
    /// for before one is started; zero = not at all.
    pub adoption_window: Duration,
    /// File that names the process, where there is one.
    pub pidfile: Option<PathBuf>,
    /// How a successor is started.
    pub start: StartMethod,
    /// How a live process is ended.
    pub stop: StopPolicy,
    /// When the process exits by itself with status 0 and has a living child
    /// that it forked while it was watched, the child takes its place.
    pub follow: bool,
    /// Member of the host watchdog quorum.
    pub quorum: bool,
    /// Platform condition under which monitoring begins (pmon.d `subfunction`).
    pub subfunction: Option<String>,
    /// Settings of active monitoring, with [`Mode::Active`] only.
    pub active: Option<ActiveSpec>,
    /// Script settings, with [`Mode::Status`] only.
    pub status: Option<StatusSpec>,
    /// What it is to other entities.
    pub dependencies: Dependencies,
    /// How it is restrained when it fails again and again.
    pub storm: StormPolicy,
    /// Where it was configured.
    pub origin: Origin,
}

impl EntitySpec {
    /// Whether a successor is started when the process fails; in status mode one is
    /// started whatever `restarts` says.
    #[must_use]
    pub const fn recovers(&self) -> bool {
        (self.restarts > 0 || self.status.is_some())
            && !matches!(self.start, StartMethod::None { .. })
    }

    /// The sockets that pmon holds for it.
    #[must_use]
    pub fn sockets(&self) -> &[SocketSpec] {
        match &self.start {
            StartMethod::Command(command) => &command.sockets,
            StartMethod::Unit { .. } | StartMethod::Script { .. } | StartMethod::None { .. } => &[],
        }
    }

    /// The pidfile, where it is of any consequence: in status mode it is neither
    /// read nor touched.
    #[must_use]
    pub fn watched_pidfile(&self) -> Option<&PathBuf> {
        self.pidfile.as_ref().filter(|_| self.mode != Mode::Status)
    }

    /// How a successor is started, in one line.
    #[must_use]
    pub fn describe_start(&self) -> String {
        match (&self.status, &self.start) {
            (Some(status), StartMethod::Script { path }) => {
                format!("{} {}", path.display(), status.start_arg)
            }
            (Some(_) | None, start) => start.describe(),
        }
    }
}

/// Monitoring modes of pmond (`mode` key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Death of the process.
    Passive,
    /// Death, and request/response messaging.
    Active,
    /// A script tells.
    Status,
    /// Shown, never acted upon.
    Ignore,
}

/// Alarm severity, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Minor,
    /// The host is degraded.
    Major,
    /// The host should not carry service.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        })
    }
}

/// How a successor is started; chosen at load time for this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartMethod {
    /// `systemctl restart UNIT`, on a host run by systemd.
    Unit {
        /// Unit name with its suffix.
        unit: String,
        /// Who restarts a unit that systemd would restart by itself.
        policy: UnitPolicy,
    },
    /// An LSB init script, called with `start`, `restart` or `stop`.
    Script {
        /// Absolute path.
        path: PathBuf,
    },
    /// A program that pmon executes itself.
    Command(CommandSpec),
    /// Nothing usable: deaths are reported, not recovered.
    None {
        /// Why, for `status` and the log.
        reason: String,
    },
}

impl StartMethod {
    /// In one line, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Unit { unit, policy: _ } => format!("systemctl restart {unit}"),
            Self::Script { path } => format!("{} start", path.display()),
            Self::Command(command) => command.argv.join(" "),
            Self::None { reason } => format!("none: {reason}"),
        }
    }

    /// Whether pmon runs a command that ends when the process has gone into the
    /// background. Of a unit's processes systemd knows.
    #[must_use]
    pub const fn leaves_a_daemon(&self) -> bool {
        match self {
            Self::Script { .. } => true,
            Self::Command(command) => command.daemonizes,
            Self::Unit { .. } | Self::None { .. } => false,
        }
    }
}

/// Who restarts a unit whose `Restart=` says that systemd does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitPolicy {
    /// systemd; pmon watches, and starts it only when systemd has given it up.
    #[default]
    Leave,
    /// pmon; `Restart=` is set aside while it monitors the unit.
    TakeOver,
}

/// A native start command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSpec {
    /// Program (absolute path) and arguments; never empty.
    pub argv: Vec<String>,
    /// Variables set on top of a minimal environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory, `/` unless given.
    pub directory: PathBuf,
    /// User name or numeric uid to run as; pmon's own unless given.
    pub user: Option<String>,
    /// Group name or numeric gid; the user's primary group unless given.
    pub group: Option<String>,
    /// The command puts itself into the background and writes the pidfile;
    /// otherwise the started process is the monitored one.
    pub daemonizes: bool,
    /// File that takes stdout and stderr instead of the default log.
    pub log: Option<PathBuf>,
    /// A successor is started as soon as the old process can run no code any more,
    /// although its memory, files and sockets are still held. Never with
    /// `daemonizes`.
    pub early: bool,
    /// Listening sockets that pmon holds, in the order in which they are passed.
    pub sockets: Vec<SocketSpec>,
}

/// How a live process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopPolicy {
    /// `signal`, then SIGKILL when `timeout` has passed.
    Graceful {
        /// Signal number, SIGTERM (15) by default.
        signal: i32,
        /// Time to go by itself.
        timeout: Duration,
    },
    /// SIGKILL at once, as the original pmond does.
    KillFirst,
}

/// Request/response messaging, [`Mode::Active`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveSpec {
    /// UDP port on which the process listens.
    pub port: u16,
    /// Monitor period, 1 to 120 s.
    pub period: Duration,
    /// Cadence and answer window, at most `period`.
    pub timeout: Duration,
    /// Consecutive misses that mean failure.
    pub threshold: u32,
    /// Misses count only once the host is fully initialised.
    pub full_init_required: bool,
}

/// Script settings of [`Mode::Status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSpec {
    /// The script.
    pub script: PathBuf,
    /// Its one argument that starts the service.
    pub start_arg: String,
    /// Its one argument that asks for the status.
    pub status_arg: String,
    /// Time between status runs.
    pub period: Duration,
    /// Longest run time of the script.
    pub timeout: Duration,
    /// File whose first line explains a failure.
    pub failure_text: Option<PathBuf>,
}

/// Where an entity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file.
    File {
        /// Its path as found in the directory (links not resolved).
        path: PathBuf,
        /// Line of the entity's name, from 1.
        line: u32,
    },
    /// `pmon register`.
    Operator,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Operator => f.write_str("register"),
        }
    }
}
