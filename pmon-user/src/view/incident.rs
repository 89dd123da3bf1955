//! Incidents: from the first hint of a death to the verified successor.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One incident of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentView {
    /// Number, unique within the state directory.
    pub incident: u64,
    /// Entity.
    pub entity: String,
    /// When it began.
    #[schemars(with = "String")]
    pub opened_at: Timestamp,
    /// When the entity was healthy again or given up.
    #[schemars(with = "Option<String>")]
    pub closed_at: Option<Timestamp>,
    /// How it ended, or `open`.
    pub result: IncidentResult,
    /// Recovery attempts made.
    pub attempts: u32,
    /// The death, when it began with one.
    pub death: Option<DeathCertificate>,
    /// Who died in it, oldest first, the latest 200.
    #[serde(default)]
    pub deaths: Vec<DeathMark>,
    /// What happened, oldest first.
    pub timeline: Vec<TimelineEntry>,
}

/// Which death: enough to tell it from every other one, of this boot or another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeathMark {
    /// The process, `PID@START` as in the entity's `identity`.
    pub identity: String,
    /// Kernel time of the death, in nanoseconds since boot, where a source told it.
    pub died_at_boot_ns: Option<u64>,
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentResult {
    /// Still being worked on.
    Open,
    /// pmon brought it back.
    Recovered,
    /// Somebody else started a successor.
    RecoveredExternally,
    /// An operator stopped it.
    Stopped,
    /// Nothing more will be done automatically.
    GaveUp,
    /// The audit found a discrepancy while all was well, and put it right.
    PutRight,
    /// The daemon ended meanwhile.
    Interrupted,
}

/// One line of an incident's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// Wall-clock time.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Microseconds after the incident began; the first entry may precede our
    /// knowledge of it.
    pub after_us: u64,
    /// Kind of notice, snake case.
    pub kind: String,
    /// For people.
    pub text: String,
}

/// Everything known about one death.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeathCertificate {
    /// Incident number.
    pub incident: u64,
    /// Process id.
    pub pid: u32,
    /// When the process had started.
    #[schemars(with = "Option<String>")]
    pub start_time: Option<Timestamp>,
    /// Kernel time of the death; the time of detection where no source told it.
    #[schemars(with = "Option<String>")]
    pub died_at: Option<Timestamp>,
    /// How long it had lived, in seconds.
    pub uptime_s: Option<f64>,
    /// Why.
    pub cause: Cause,
    /// With [`Cause::Exit`].
    pub exit_code: Option<i32>,
    /// With [`Cause::Signal`] and [`Cause::Core`].
    pub signal: Option<i32>,
    /// Whether a core was dumped.
    pub core_dumped: Option<bool>,
    /// Who sent that signal, where it was a process.
    pub killer: Option<Killer>,
    /// The last signal that was sent to it, whether or not it ended it.
    pub last_signal: Option<LastSignal>,
    /// Whether the OOM killer chose it.
    pub oom_victim: Option<bool>,
    /// Its `comm`.
    pub comm: Option<String>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// Id of the container it was in, when its cgroup's name tells.
    pub container: Option<String>,
    /// Peak of its resident set, as it was at death, in bytes; counted as getrusage(2)
    /// counts it, with what the process was before it executed its program.
    pub rss_bytes: Option<u64>,
    /// CPU time of all its threads until death, in seconds.
    pub cpu_s: Option<f64>,
    /// First source that reported it.
    pub detected_by: String,
    /// From the kernel's time of death to our knowledge of it.
    pub detect_latency_us: Option<u64>,
    /// From the kernel's time of death until its memory, files and sockets were
    /// seen to be released: an upper bound where that was seen together with the death.
    pub resources_released_us: Option<u64>,
    /// When a successor was verified.
    #[schemars(with = "Option<String>")]
    pub recovered_at: Option<Timestamp>,
    /// From the death to the verified successor.
    pub recovery_latency_us: Option<u64>,
}

/// Why a process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// It exited.
    Exit,
    /// A signal ended it.
    Signal,
    /// A signal ended it and a core was dumped.
    Core,
    /// The OOM killer.
    Oom,
    /// Ended because its heartbeat was missed.
    Heartbeat,
    /// No source told.
    Unknown,
}

/// A process that sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Killer {
    /// Process id; absent for one that the daemon's pid namespace does not show.
    pub pid: Option<u32>,
    /// Real user id.
    pub uid: u32,
    /// `comm`.
    pub comm: Option<String>,
}

/// A signal that was sent to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastSignal {
    /// Number.
    pub signal: i32,
    /// Who sent it.
    pub from: SignalFrom,
    /// The process, with [`SignalFrom::Process`] and [`SignalFrom::Pmon`].
    pub sender: Option<Killer>,
    /// With [`SignalFrom::Pmon`], why, where that is known.
    pub why: Option<String>,
    /// With [`SignalFrom::Kernel`], whether it was for a fault of the process:
    /// an address or an instruction that it may not use.
    pub fault: bool,
    /// From the signal to the kernel's time of death.
    pub before_death_us: Option<u64>,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignalFrom {
    /// A process.
    Process,
    /// This daemon.
    Pmon,
    /// The kernel.
    Kernel,
    /// It does not tell.
    Unknown,
}
