//! The shape of a native TOML file, key by key.
//!
//! These structs are the format's definition: the JSON Schema is generated from
//! them and their comments. Everything optional is an `Option`, so that a later
//! file can be laid over an earlier one. Meaning is given in `native::settings`
//! and `native::entity`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

use super::{
    socket::SocketTable,
    stop::StopText,
    storm::{BudgetTable, OrNone},
    value::{AbsolutePath, Argument, DurationText, EntityName, PathOrNone, VariableName},
};
use crate::{
    config::{
        settings::SourceChoice,
        storm::{BackoffKeys, FlappingKeys},
    },
    core::{
        dependency::Strategy,
        entity::{Mode, Severity, UnitPolicy},
        storm::IntensityPolicy,
    },
};

/// A configuration file of pmon: `/etc/pmon/pmon.toml` or `/etc/pmon/conf.d/*.toml`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "pmon configuration")]
pub struct NativeFile {
    /// How the daemon runs.
    pub daemon: DaemonTable,
    /// Who may use the control socket.
    pub control: ControlTable,
    /// What holds for every entity that does not say otherwise.
    pub defaults: DefaultsTable,
    /// Who is told of alarms, beside log and `pmon status`.
    pub alarm: AlarmTable,
    /// Files in the dialect of the original pmond.
    pub pmon_d: PmonDTable,
    /// Other systems' programs that expect another process monitor.
    pub compat: CompatTable,
    /// Exceptions for single entities of pmon.d files, by process name.
    #[serde(rename = "override")]
    #[schemars(with = "BTreeMap<String, OverrideTable>")]
    pub overrides: BTreeMap<Spanned<String>, OverrideTable>,
    /// Entities that belong together, by the group's name.
    #[schemars(with = "BTreeMap<String, GroupTable>")]
    pub group: BTreeMap<Spanned<String>, GroupTable>,
    /// Monitored entities.
    pub entity: Vec<EntityTable>,
}

/// How the daemon runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonTable {
    /// Directory of the control socket. Default: /run/pmon
    pub run_dir: Option<AbsolutePath>,
    /// Directory of lasting state. Default: /var/lib/pmon
    pub state_dir: Option<AbsolutePath>,
    /// bpffs directory for pinned maps and links, or "none". Default: /sys/fs/bpf/pmon
    pub pin_dir: Option<PathOrNone>,
    /// Group, by name or number, that may read through the control socket. Default: pmon
    pub socket_group: Option<Argument>,
    /// Period of the sweep that catches what events missed. Default: 30s
    #[schemars(with = "Option<DurationText>")]
    pub audit_interval: Option<Spanned<DurationText>>,
    /// How long a changed pidfile or directory must rest before it is read. Default: 50ms
    pub settle: Option<DurationText>,
    /// Put changed configuration files into force without being asked to. Default: true
    pub auto_reload: Option<bool>,
    /// How long configuration files must rest before that. Default: 1s
    pub reload_settle: Option<DurationText>,
    /// Kernel source of deaths. Default: auto
    pub source: Option<SourceChoice>,
    /// Period in which every source must tell of a canary's death. Default: 5min
    #[schemars(with = "Option<DurationText>")]
    pub canary_interval: Option<Spanned<DurationText>>,
    /// SCHED_FIFO priority of the receiver thread, 0 for normal scheduling. Default: 10
    #[schemars(with = "Option<u8>", range(min = 0, max = 99))]
    pub receiver_priority: Option<Spanned<u8>>,
    /// Entries of the kernel's pid table. Default: 65536
    #[schemars(with = "Option<u32>", range(min = 1))]
    pub max_pids: Option<Spanned<u32>>,
    /// Bytes of the kernel's ring buffer, a power of two from 4096. Default: 262144
    #[schemars(with = "Option<u32>", range(min = 4096))]
    pub ring_bytes: Option<Spanned<u32>>,
    /// Registrations that keep a pidfd of their own; further ones are watched by
    /// the kernel's table alone. Default: what the limit of open files allows
    pub pidfd_budget: Option<u32>,
    /// UDP port on 127.0.0.1 where processes in active mode answer. Clients of the
    /// original pmond have 2200 compiled in. Default: 2200
    pub active_reply_port: Option<std::num::NonZeroU16>,
    /// File whose existence says that the host is fully initialised, for
    /// `full_init_required`. Default: the goenabled flag of StarlingX
    pub initialised_file: Option<AbsolutePath>,
    /// How many recoveries may begin at once. Default: { at_once = 32, starts = 100, within = "1s" }
    #[schemars(with = "Option<BudgetTable>")]
    pub recovery_budget: Option<Spanned<BudgetTable>>,
}

/// Who may use the control socket, beside root.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlTable {
    /// Numbers of groups that may look. Default: none
    pub read_gids: Option<Vec<u32>>,
    /// Numbers of users that may act. Default: none
    pub write_uids: Option<Vec<u32>>,
    /// Numbers of groups that may act. Default: none
    pub write_gids: Option<Vec<u32>>,
}

/// What holds for every entity that does not say otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DefaultsTable {
    /// How a live process is ended. Default: { signal = "TERM", timeout = "10s" }
    pub stop: Option<StopText>,
    /// Deadline of a start command; `startuptime` raises it. Default: 30s
    pub start_timeout: Option<DurationText>,
    /// Who restarts a unit that has `Restart=`: systemd ("leave") or pmon ("take-over").
    /// Default: leave
    pub systemd: Option<UnitPolicyText>,
    /// Longer and longer pauses between attempts once the alarm is raised, or "none". Default:
    /// on for entities of TOML files, none for those of pmon.d
    pub backoff: Option<OrNone<BackoffKeys>>,
    /// Most restarts within a time; then it rests until an operator starts it. Default: none
    pub intensity: Option<OrNone<IntensityPolicy>>,
    /// When it is called flapping, or "none". Default: 5 failures in 10min
    pub flapping: Option<OrNone<FlappingKeys>>,
    /// After a death, how long a successor that somebody else starts is waited for.
    /// Default: 0s
    pub adoption_window: Option<DurationText>,
}

/// Who is told of alarms, beside log and `pmon status`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmTable {
    /// Program (absolute path) and arguments that are executed for each event;
    /// empty for none. Default: []
    #[schemars(with = "Option<Vec<Argument>>")]
    pub hook: Option<Spanned<Vec<Argument>>>,
    /// After that long the hook is killed, 100ms to 60s. Default: 10s
    #[schemars(with = "Option<DurationText>")]
    pub hook_timeout: Option<Spanned<DurationText>>,
    /// File that gets a line of JSON for each event, or "none". Default: none
    pub file: Option<PathOrNone>,
}

/// Files in the dialect of the original pmond.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PmonDTable {
    /// Their directory, or "none". Default: /etc/pmon.d
    pub directory: Option<PathOrNone>,
}

/// Other systems' programs that expect another process monitor.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompatTable {
    /// Standing in for pmond on a StarlingX host.
    pub starlingx: StarlingxTable,
}

/// Standing in for pmond on a StarlingX host.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StarlingxTable {
    /// What has no switch of its own. Default: false
    pub enabled: Option<bool>,
    /// Directory below which all files of StarlingX are. Default: /
    pub root: Option<AbsolutePath>,
    /// Host name or address of the active controller. Default: controller
    pub controller: Option<Argument>,
    /// Take commands from UDP datagrams on 127.0.0.1, as pmond does. There is no
    /// authentication: anybody on the host can stop whatever is monitored. Default: false
    pub command_inbox: Option<bool>,
    /// UDP port of these commands. Default: 2117
    pub command_port: Option<std::num::NonZeroU16>,
    /// When a stop by such a command is over, and the process is monitored again.
    /// Default: 30min
    pub stop_recovers_after: Option<DurationText>,
}

/// What a pmon.d file cannot express.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OverrideTable {
    /// How a live process is ended.
    pub stop: Option<StopText>,
    /// Deadline of the start command; `startuptime` raises it.
    pub start_timeout: Option<DurationText>,
    /// Who restarts a unit that has `Restart=`: systemd ("leave") or pmon ("take-over").
    pub systemd: Option<UnitPolicyText>,
    /// After a death, how long a successor that somebody else starts is waited for.
    pub adoption_window: Option<DurationText>,
    /// Entities after which it is started.
    pub after: Option<Vec<EntityName>>,
    /// Entities without which it is not started, and after which it is.
    pub requires: Option<Vec<EntityName>>,
    /// Longer and longer pauses between attempts once the alarm is raised, or "none".
    pub backoff: Option<OrNone<BackoffKeys>>,
    /// Most restarts within a time; then it rests until an operator starts it. Default: none
    pub intensity: Option<OrNone<IntensityPolicy>>,
    /// When it is called flapping, or "none".
    pub flapping: Option<OrNone<FlappingKeys>>,
}

/// Entities that belong together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupTable {
    /// Who is restarted when a member fails: `one`, that one; `all`, all members;
    /// `rest`, that one and those that are started after it. Default: one
    pub strategy: Option<StrategyText>,
    /// The members, in the order in which they are started.
    pub members: Vec<EntityName>,
}

/// One monitored entity.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityTable {
    /// Name used in commands, events and alarms.
    #[schemars(with = "EntityName")]
    pub name: Spanned<EntityName>,
    /// How it is monitored. Default: passive
    pub mode: Option<ModeText>,
    /// How bad a lasting failure is. Default: major
    pub severity: Option<SeverityText>,
    /// Failed recoveries before the alarm; 0 = no automatic recovery. Default: 3
    pub restarts: Option<u32>,
    /// Pause between recovery attempts. Default: 5s
    pub interval: Option<DurationText>,
    /// How long a successor must stay alive, after `startuptime`. Default: 20s
    pub debounce: Option<DurationText>,
    /// Window for the start command to finish and the process to appear. Default: 5s
    pub startuptime: Option<DurationText>,
    /// Deadline of the start command; never less than `startuptime`. Default: 30s
    pub start_timeout: Option<DurationText>,
    /// After a death, how long a successor that somebody else starts is waited for.
    /// Default: 0s
    pub adoption_window: Option<DurationText>,
    /// How a live process is ended. Default: { signal = "TERM", timeout = "10s" }
    pub stop: Option<StopText>,
    /// File that names the process. Not needed with a `command` that stays in the
    /// foreground, nor with a `service` whose main process it is.
    pub pidfile: Option<AbsolutePath>,
    /// systemd unit, used where systemd runs the host.
    #[schemars(with = "Option<String>")]
    pub service: Option<Spanned<Argument>>,
    /// Who restarts `service` if it has `Restart=`: systemd ("leave") or pmon
    /// ("take-over"). Default: leave
    pub systemd: Option<UnitPolicyText>,
    /// LSB init script, used otherwise.
    #[schemars(with = "Option<AbsolutePath>")]
    pub script: Option<Spanned<AbsolutePath>>,
    /// Program (absolute path) and its arguments, used otherwise.
    #[schemars(with = "Option<Vec<Argument>>", length(min = 1))]
    pub command: Option<Spanned<Vec<Argument>>>,
    /// Environment variables of `command`, on top of a minimal environment.
    pub environment: Option<BTreeMap<VariableName, Argument>>,
    /// Working directory of `command`. Default: /
    pub directory: Option<AbsolutePath>,
    /// User that `command` runs as, by name or number. Default: pmon's own
    #[schemars(with = "Option<Argument>")]
    pub user: Option<Spanned<Argument>>,
    /// Group that `command` runs as, by name or number. Default: the user's
    #[schemars(with = "Option<Argument>")]
    pub group: Option<Spanned<Argument>>,
    /// `command` goes into the background and writes `pidfile`. Default: false
    pub daemonizes: Option<bool>,
    /// The process goes into the background without a pidfile: when it exits
    /// with status 0, a living process that descends from it takes its place.
    /// Default: false
    #[schemars(with = "Option<bool>")]
    pub follow: Option<Spanned<bool>>,
    /// When a successor is started: once the old process has released what it held, or
    /// as soon as it runs no code any more. Default: released
    #[schemars(with = "Option<StartText>")]
    pub start: Option<Spanned<StartText>>,
    /// Sockets that pmon holds and passes to `command`.
    pub socket: Option<Vec<SocketTable>>,
    /// File for the output of `command`. Default: the log
    pub log: Option<AbsolutePath>,
    /// Member of the host watchdog quorum. Default: false
    pub quorum: Option<bool>,
    /// Platform condition under which monitoring begins: worker, storage or last-config.
    pub subfunction: Option<Argument>,
    /// Entities after which it is started. Default: none
    pub after: Option<Vec<EntityName>>,
    /// Entities without which it is not started, and after which it is. Default: none
    pub requires: Option<Vec<EntityName>>,
    /// Longer and longer pauses between attempts once the alarm is raised, or "none". Default: on
    pub backoff: Option<OrNone<BackoffKeys>>,
    /// Most restarts within a time; then it rests until an operator starts it. Default: none
    pub intensity: Option<OrNone<IntensityPolicy>>,
    /// When it is called flapping, or "none". Default: 5 failures in 10min
    pub flapping: Option<OrNone<FlappingKeys>>,
    /// Request/response messaging, with `mode = "active"`.
    #[schemars(with = "Option<ActiveTable>")]
    pub active: Option<Spanned<ActiveTable>>,
    /// Script settings, with `mode = "status"`.
    #[schemars(with = "Option<StatusTable>")]
    pub status: Option<Spanned<StatusTable>>,
}

/// Request/response messaging.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActiveTable {
    /// UDP port on which the process listens.
    pub port: std::num::NonZeroU16,
    /// Pause after a request that could not be sent, 1s to 120s. It also decides how
    /// long a process may be silent after its start, and how many answers make a
    /// failure good.
    #[schemars(with = "DurationText")]
    pub period: Spanned<DurationText>,
    /// Cadence of the requests, and the time for an answer; at most `period`.
    #[schemars(with = "DurationText")]
    pub timeout: Spanned<DurationText>,
    /// Consecutive misses that mean failure.
    pub threshold: std::num::NonZeroU32,
    /// Misses count only once the host is fully initialised. Default: false
    #[serde(default)]
    pub full_init_required: bool,
}

/// Script settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusTable {
    /// The script.
    pub script: AbsolutePath,
    /// Its one argument that starts the service. Default: start
    pub start_arg: Option<Argument>,
    /// Its one argument that asks for the status. Default: status
    pub status_arg: Option<Argument>,
    /// Time between status runs.
    #[schemars(with = "DurationText")]
    pub period: Spanned<DurationText>,
    /// Longest run time of the script.
    #[schemars(with = "DurationText")]
    pub timeout: Spanned<DurationText>,
    /// File whose first line explains a failure.
    pub failure_text: Option<AbsolutePath>,
}

/// `strategy` of a group.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StrategyText {
    /// The member that failed.
    One,
    /// All members.
    All,
    /// The member that failed and those that are started after it.
    Rest,
}

impl From<StrategyText> for Strategy {
    fn from(strategy: StrategyText) -> Self {
        match strategy {
            StrategyText::One => Self::One,
            StrategyText::All => Self::All,
            StrategyText::Rest => Self::Rest,
        }
    }
}

/// `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartText {
    /// Memory, files and sockets of the old process are released.
    Released,
    /// No thread of the old process can run its code any more.
    Early,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeText {
    /// Death of the process.
    Passive,
    /// Death, and request/response messaging.
    Active,
    /// A script tells.
    Status,
    /// Shown, never acted upon.
    Ignore,
}

impl From<ModeText> for Mode {
    fn from(mode: ModeText) -> Self {
        match mode {
            ModeText::Passive => Self::Passive,
            ModeText::Active => Self::Active,
            ModeText::Status => Self::Status,
            ModeText::Ignore => Self::Ignore,
        }
    }
}

/// `systemd`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitPolicyText {
    /// systemd; pmon watches, and starts it only when systemd has given it up.
    Leave,
    /// pmon; `Restart=` is set aside while it monitors the unit.
    TakeOver,
}

impl From<UnitPolicyText> for UnitPolicy {
    fn from(policy: UnitPolicyText) -> Self {
        match policy {
            UnitPolicyText::Leave => Self::Leave,
            UnitPolicyText::TakeOver => Self::TakeOver,
        }
    }
}

/// `severity`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SeverityText {
    /// Worth knowing.
    Minor,
    /// The host is degraded.
    Major,
    /// The host should not carry service.
    Critical,
}

impl From<SeverityText> for Severity {
    fn from(severity: SeverityText) -> Self {
        match severity {
            SeverityText::Minor => Self::Minor,
            SeverityText::Major => Self::Major,
            SeverityText::Critical => Self::Critical,
        }
    }
}
