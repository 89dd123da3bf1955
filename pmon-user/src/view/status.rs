//! The daemon as a whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entity::EntityView;
use crate::core::entity::Severity;

/// `pmon status -o json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Version of this format.
    pub version: u32,
    /// Host name.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// The daemon.
    pub daemon: DaemonView,
    /// The kernel sources.
    pub sources: Vec<SourceView>,
    /// The ordering audit.
    pub audit: AuditView,
    /// Conditions in which something pmon relies on is missing; each names its remedy.
    pub degraded: Vec<String>,
    /// Worst severity of the alarms that degrade the host, major or critical.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub host_degraded: Option<Severity>,
    /// A quorum member that has used up its strikes: the host should not go on.
    #[serde(default)]
    pub unrecoverable: Option<String>,
    /// What is wrong with the configuration, `FILE:LINE:COLUMN: level: text`.
    pub config_findings: Vec<String>,
    /// The entities asked for, by name.
    pub entities: Vec<EntityView>,
}

/// The daemon process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonView {
    /// Its pid.
    pub pid: u32,
    /// Version of pmon.
    pub version: String,
    /// Rises with every configuration that was put into force.
    pub config_generation: u64,
    /// Scheduling of the receiver thread: `fifo:PRIORITY` or `other: REASON`.
    pub receiver_scheduling: String,
    /// Socket.
    pub socket: String,
    /// bpffs directory, when pinned.
    pub pin_dir: Option<String>,
    /// Whether it stands in for pmond on a StarlingX host.
    #[serde(default)]
    pub starlingx: bool,
}

/// One kernel source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceView {
    /// Name.
    pub name: String,
    /// Health.
    pub state: SourceState,
    /// Why it is not healthy, with the remedy.
    pub reason: Option<String>,
    /// Events received.
    pub events: u64,
    /// `ebpf`: records the ring had no room for; their deaths were found in the
    /// table. `proc-connector`: times the kernel had to drop messages, how many is
    /// not known; every registered process was looked at each time.
    pub lost: u64,
    /// Seconds since the last canary came through.
    pub last_canary_s: Option<f64>,
    /// What the last canary showed.
    pub canary: Option<CanaryWord>,
}

/// What a canary shows of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CanaryWord {
    /// Its death was told as it was.
    Passed,
    /// It was not, though it died.
    Missed,
    /// Nothing: `reason` says why.
    Unclear,
}

/// Health of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Working.
    Healthy,
    /// Running; no canary has shown yet whether it works.
    Unproven,
    /// Working in part.
    Degraded,
    /// Not in use, as a better one is; it is started when that one fails.
    Standby,
    /// Not in use.
    Off,
}

/// The ordering audit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    /// When the last sweep ended.
    #[schemars(with = "Option<String>")]
    pub last_sweep: Option<Timestamp>,
    /// Sweeps made.
    pub sweeps: u64,
    /// Times that an entity was found to have exactly one instance.
    #[serde(default)]
    pub one_instance: u64,
    /// Discrepancies found, by kind.
    pub discrepancies: BTreeMap<String, u64>,
}
