//! One entity as users see it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    incident::{DeathCertificate, IncidentView},
    script::{ScriptView, StatusSettingsView},
};
use crate::core::{
    entity::{Mode, Severity},
    recovery::Quorum,
};

/// The state words of `pmon status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateWord {
    /// Running, verified, registered.
    Up,
    /// Being ended, on purpose.
    Stopping,
    /// Not running, on purpose.
    Down,
    /// Being started for the first time or by an operator.
    Starting,
    /// Failed, and being brought back.
    Recovering,
    /// Taken out of recovery by an operator.
    Held,
    /// Failed, and nothing more will be done automatically.
    Failed,
    /// There is something that cannot be verified; nothing is done to it.
    Unverifiable,
    /// Not looked at yet, or not monitored.
    Unknown,
}

/// One entity in `pmon status` and `pmon list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntityView {
    /// Name.
    pub name: String,
    /// How it is monitored.
    #[schemars(with = "String")]
    pub mode: Mode,
    /// State in one word.
    pub state: StateWord,
    /// Since when it has been in that state.
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// The stage of the recovery, in pmond's words.
    pub stage: String,
    /// Process id, when there is a verified process.
    pub pid: Option<u32>,
    /// When the process started.
    #[schemars(with = "Option<String>")]
    pub start_time: Option<Timestamp>,
    /// `PID@TICKS`: pid and `/proc/PID/stat` start time.
    pub identity: Option<String>,
    /// Whether its death would be reported by the kernel.
    pub registered: bool,
    /// The table's name for this registration.
    pub generation: Option<u64>,
    /// Severity of a lasting failure.
    #[schemars(with = "String")]
    pub severity: Severity,
    /// Severity of the alarm that is raised, if one is.
    #[schemars(with = "Option<String>")]
    pub alarm: Option<Severity>,
    /// Instances that run beside the registered process, `PID@TICKS`: the alarm
    /// `duplicate_instance` is raised while there are any.
    #[serde(default)]
    pub duplicates: Vec<String>,
    /// Since when it has been raised.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub alarm_since: Option<Timestamp>,
    /// Starts by who caused them.
    pub restarts: RestartsView,
    /// Deaths in the last hour.
    pub deaths_1h: u32,
    /// Deaths in the last 24 hours.
    pub deaths_24h: u32,
    /// Since when it has been failing again and again although each recovery
    /// succeeds.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub flapping_since: Option<Timestamp>,
    /// What is wrong, in one sentence.
    pub problem: Option<String>,
    /// What pmon will do next, in one sentence.
    pub next_action: Option<String>,
    /// When it will do that.
    #[schemars(with = "Option<String>")]
    pub next_action_at: Option<Timestamp>,
    /// The last death.
    pub last_death: Option<DeathCertificate>,
    /// Requests and answers; none unless in active mode.
    pub heartbeat: Option<HeartbeatView>,
    /// The script and its runs; none unless in status mode.
    #[serde(default)]
    pub script: Option<ScriptView>,
    /// Who has taken it out of recovery; none unless held.
    #[serde(default)]
    pub held: Option<HoldView>,
    /// Member of the host watchdog quorum.
    pub quorum: bool,
    /// Strikes of a quorum member: `sound`, `failure`, `unrecoverable`.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub quorum_state: Option<Quorum>,
    /// `FILE:LINE` it was configured in, or `register`.
    pub source_file: String,
}

/// An operator's hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldView {
    /// Who, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When it is over by itself; when it is resumed if absent.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

/// Starts by who caused them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartsView {
    /// Recovery attempts of pmon.
    pub auto: u64,
    /// Asked for through the control socket.
    pub operator: u64,
    /// Somebody else started a successor.
    pub external: u64,
    /// Restarted because another member of its group had failed.
    #[serde(default)]
    pub dependency: u64,
}

/// Requests to a process in active mode, and its answers. Counts are since the
/// daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatView {
    /// Consecutive misses.
    pub misses: u32,
    /// Consecutive misses with which it fails: `threshold`, and until its first
    /// answer after a start at least 180 s divided by `period`.
    pub fails_at: u32,
    /// Sequence number of the last request; 0 before the first.
    pub sequence: u32,
    /// When the last request went out.
    #[schemars(with = "Option<String>")]
    pub last_request: Option<Timestamp>,
    /// When the last right answer to this process's requests came.
    #[schemars(with = "Option<String>")]
    pub last_answer: Option<Timestamp>,
    /// Right answers that it must still give to count as recovered.
    pub answers_wanted: Option<u64>,
    /// Requests that went out.
    pub requests: u64,
    /// Right answers.
    pub answers: u64,
    /// Misses of every kind.
    pub missed: u64,
    /// Requests that could not be sent; each is a miss.
    pub unsent: u64,
    /// Failures: so many misses in a row that it was given up.
    pub failures: u64,
    /// Answers with a wrong sequence number; each is a miss.
    pub wrong_sequence: u64,
    /// Answers with a wrong magic; disregarded.
    pub bad_magic: u64,
    /// Answers that nobody waited for; disregarded.
    pub not_waiting: u64,
    /// Datagrams of the whole host that belonged to no entity.
    pub strays: StraysView,
}

/// Datagrams on the port of the answers that belonged to no entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StraysView {
    /// They carried the name of nobody who was asked.
    pub wrong_name: u64,
    /// They were no responses.
    pub malformed: u64,
}

/// `pmon show NAME`: the entity, its configuration as understood, and its last incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShowView {
    /// State now.
    pub entity: EntityView,
    /// Configuration as understood.
    pub spec: SpecView,
    /// Command, `comm` and cgroup of the process at registration.
    pub process: Option<ProcessView>,
    /// Newest first.
    pub incidents: Vec<IncidentView>,
}

/// The process behind an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessView {
    /// `comm`.
    pub comm: Option<String>,
    /// cgroup path.
    pub cgroup: Option<String>,
    /// Id of the container it is in, when its cgroup's name tells.
    pub container: Option<String>,
}

/// Configuration of an entity as understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SpecView {
    /// Failed recoveries before the alarm.
    pub restarts: u32,
    /// Pause between attempts, in milliseconds.
    pub interval_ms: u64,
    /// Stable time that ends a recovery, in milliseconds.
    pub debounce_ms: u64,
    /// Start window, in milliseconds.
    pub startuptime_ms: u64,
    /// Deadline of the start command, in milliseconds.
    pub start_timeout_ms: u64,
    /// How long a successor of somebody else's is waited for after a death, in
    /// milliseconds.
    #[serde(default)]
    pub adoption_window_ms: u64,
    /// File that names the process.
    pub pidfile: Option<String>,
    /// Whether the process is followed into the background.
    #[serde(default)]
    pub follow: bool,
    /// How a successor is started, in one line.
    pub start: String,
    /// Whether that is done as soon as the old process runs no code any more.
    #[serde(default)]
    pub early: bool,
    /// Sockets that pmon holds for it.
    #[serde(default)]
    pub sockets: Vec<String>,
    /// How the process is ended, in one line.
    pub stop: String,
    /// Platform condition.
    pub subfunction: Option<String>,
    /// Request/response messaging, in active mode.
    pub active: Option<ActiveView>,
    /// The script, in status mode.
    #[serde(default)]
    pub status: Option<StatusSettingsView>,
}

/// Request/response messaging as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveView {
    /// UDP port on which the process listens.
    pub port: u16,
    /// `period`, in milliseconds.
    pub period_ms: u64,
    /// Cadence and time for an answer, in milliseconds.
    pub timeout_ms: u64,
    /// Consecutive misses that mean failure.
    pub threshold: u32,
    /// Misses count only once the host is fully initialised.
    pub full_init_required: bool,
}

/// `pmon explain NAME`: why it is in this state, and what would happen if it died now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// State now.
    pub entity: EntityView,
    /// The reasons, one sentence each.
    pub because: Vec<String>,
    /// What the policy would do on a death at this moment: made by stepping the
    /// real state machine on a copy, one line per effect or deadline.
    pub if_it_died_now: Vec<ForecastStep>,
    /// The same for status mode, where no process is watched: what would be done
    /// if the status were bad from now on.
    #[serde(default)]
    pub if_its_status_were_bad: Vec<ForecastStep>,
    /// The newest incident.
    pub last_incident: Option<IncidentView>,
}

/// One line of a forecast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForecastStep {
    /// Milliseconds after the death.
    pub after_ms: u64,
    /// What would be done.
    pub what: String,
}
