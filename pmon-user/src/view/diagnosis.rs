//! What `pmon doctor`, `pmon bpf show` and `pmon reload` report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pmon doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorView {
    /// The checks, in order.
    pub checks: Vec<CheckView>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    /// Stable name, kebab case.
    pub name: String,
    /// Outcome.
    pub result: CheckResult,
    /// What was found.
    pub found: String,
    /// The exact fix, when there is something to fix.
    pub fix: Option<String>,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// As it should be.
    Ok,
    /// pmon works, with less.
    Degraded,
    /// pmon cannot do its job.
    Failed,
}

/// `pmon bpf show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BpfView {
    /// Why there is nothing to show.
    pub off: Option<String>,
    /// Whether the programs log what they do (`pmon bpf log`).
    pub log: Option<bool>,
    /// How long runs were counted for this reply, in seconds.
    pub counted_s: Option<f64>,
    /// Why runs were not counted.
    pub uncounted: Option<String>,
    /// Programs.
    pub programs: Vec<BpfProgramView>,
    /// Links, which hold programs to where they are attached.
    pub links: Vec<BpfLinkView>,
    /// Maps.
    pub maps: Vec<BpfMapView>,
    /// Pins, absolute paths.
    pub pins: Vec<String>,
    /// How a group death is recognised on this kernel.
    pub group_dead: Option<String>,
    /// Kernel struct offsets resolved from BTF, 0 = feature off.
    pub offsets: BTreeMap<String, u32>,
    /// Counters of the kernel side.
    pub stats: Option<BpfStatsView>,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BpfProgramView {
    /// Kernel id.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Attach point.
    pub attached_to: String,
    /// Kernel's hash of the instructions.
    pub tag: String,
    /// Instructions that the verifier left in it, where the kernel tells.
    pub instructions: Option<u32>,
    /// Runs during `counted_s`.
    pub run_count: Option<u64>,
    /// Mean time of these runs in nanoseconds, if there was one.
    pub ns_per_run: Option<f64>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BpfLinkView {
    /// Kernel id, where the kernel tells.
    pub id: Option<u32>,
    /// Name of its program.
    pub program: String,
    /// Kernel id of its program, where the kernel tells.
    pub program_id: Option<u32>,
    /// Attach point.
    pub attached_to: String,
    /// Its pin, when pinned.
    pub pin: Option<String>,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BpfMapView {
    /// Kernel id.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Entries in use, where they can be counted.
    pub entries: Option<u64>,
    /// Capacity in entries, or bytes for the ring buffer.
    pub max_entries: u32,
}

/// Sum over all CPUs of the kernel side's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BpfStatsView {
    /// Deaths written into the table.
    pub deaths: u64,
    /// Ring records that found no room.
    pub drops: u64,
    /// Exits whose start time was a stranger's.
    pub strangers: u64,
    /// Further group-dead exits of a dead entry.
    pub repeats: u64,
    /// Children of followed processes that were registered as they were forked.
    pub followed: u64,
    /// Children of followed processes that were not, for want of room.
    pub unfollowed: u64,
}

/// `pmon bpf log on|off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BpfLogView {
    /// Whether the programs log what they do now.
    pub on: bool,
    /// Whether they did before.
    pub was_on: bool,
}

/// `pmon reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadView {
    /// Whether the new configuration is in force.
    pub applied: bool,
    /// It was only asked what would change.
    #[serde(default)]
    pub plan: bool,
    /// Why what was in force before stays so.
    #[serde(default)]
    pub refused: Option<String>,
    /// Generation in force now.
    pub config_generation: u64,
    /// New entities.
    pub added: Vec<String>,
    /// Entities with a changed configuration.
    pub changed: Vec<String>,
    /// Entities that are no longer monitored.
    pub removed: Vec<String>,
    /// What changes in the changed ones.
    #[serde(default)]
    pub changes: Vec<EntityChangeView>,
    /// Changed settings that wait until the daemon restarts.
    #[serde(default)]
    pub daemon_restart: Vec<String>,
    /// What is wrong with the configuration.
    pub findings: Vec<String>,
}

/// One entity that a reload changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntityChangeView {
    /// Its name.
    pub name: String,
    /// What changes.
    pub keys: Vec<KeyChangeView>,
}

/// One setting that a reload changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyChangeView {
    /// Its name.
    pub key: String,
    /// What it was, for people; of the environment only the names.
    pub from: String,
    /// What it is.
    pub to: String,
    /// A process that runs goes on as it is; its successor will not.
    pub at_next_start: bool,
}
