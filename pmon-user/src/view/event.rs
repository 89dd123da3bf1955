//! The live event stream.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One event of `pmon events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Rises by one per event of this daemon; a gap means a slow reader lost some.
    pub seq: u64,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Kind, snake case, see `core::notice::Notice::kind`.
    pub kind: String,
    /// How loud it is.
    pub level: Level,
    /// Entity, unless it concerns the daemon.
    pub entity: Option<String>,
    /// Process, where one is concerned.
    pub pid: Option<u32>,
    /// Incident, where one is open.
    pub incident: Option<u64>,
    /// For people.
    pub text: String,
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Detail.
    Debug,
    /// Normal course.
    Info,
    /// Somebody should look.
    Warning,
    /// Something is broken.
    Error,
}
