//! Status monitoring as users see it: the script and its runs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The script of an entity in status mode, and what came of its runs. Counts are
/// since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScriptView {
    /// What it runs for now: `status` or `start`.
    pub running: Option<String>,
    /// Since when.
    #[schemars(with = "Option<String>")]
    pub running_since: Option<Timestamp>,
    /// The last question for the status that was answered.
    pub last_status: Option<ScriptRunView>,
    /// The last start that has ended.
    pub last_start: Option<ScriptRunView>,
    /// Times the status was asked.
    pub asked: u64,
    /// Of these, times it was bad.
    pub bad: u64,
    /// Starts.
    pub starts: u64,
    /// Of these, those that failed.
    pub failed_starts: u64,
    /// Failures that count towards the next alarm.
    pub failures: u32,
    /// What the script had to say when the alarm was raised, while it is raised.
    pub alarm_text: Option<String>,
}

/// A run of the script that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScriptRunView {
    /// When it began.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// It exited with code 0.
    pub good: bool,
    /// How it ended, for people.
    pub end: String,
}

/// Status monitoring as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusSettingsView {
    /// The script.
    pub script: String,
    /// Its one argument that starts the service.
    pub start_arg: String,
    /// Its one argument that asks for the status.
    pub status_arg: String,
    /// Time between questions, in milliseconds.
    pub period_ms: u64,
    /// Longest run time, in milliseconds.
    pub timeout_ms: u64,
    /// File whose first line explains a failure.
    pub failure_text: Option<String>,
}
