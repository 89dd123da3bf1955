//! Which process: identity that survives pid reuse.
//!
//! A bare pid never leaves the parsers. Within one boot a process is named by
//! its thread group id and its start time; holding a pidfd on top (see `sys`)
//! is what makes it signalable.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process of this boot: pid plus start time.
///
/// Written `PID@START` in logs, for instance `4711@1893320`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Thread group id in the daemon's pid namespace.
    pub pid: u32,
    /// `/proc/PID/stat` field 22, in clock ticks since boot (proc_pid_stat(5)).
    pub start_time: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, start_time } = self;
        write!(f, "{pid}@{start_time}")
    }
}
