//! The live event stream.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One event of `pmon events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Rises by one per event of this daemon; a gap means a slow reader lost some.
    /// An early event has the number of the event before it.
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
    /// A kernel source's word that is not verified yet. Only those are sent such
    /// events who ask for them; the verified death follows as an event of its own.
    pub early: bool,
    /// With a death, early or verified: its kernel time, where a source told it.
    #[schemars(with = "Option<String>")]
    pub died_at: Option<Timestamp>,
    /// From that time to our knowledge of it.
    pub detect_latency_us: Option<u64>,
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
