//! A verified death, and what is known about its cause.
//!
//! A [`Hint`] is what a kernel source said; a [`Death`] exists only after the
//! pidfd became readable. What is not known is `None`, never a default value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{identity::Identity, time::Time};

/// A kernel source that can report a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceName {
    /// The BPF program on `sched_process_exit`.
    Ebpf,
    /// The netlink process connector.
    ProcConnector,
    /// A pidfd that became readable.
    Pidfd,
}

impl SourceName {
    /// The name used in JSON, on the command line and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::ProcConnector => "proc-connector",
            Self::Pidfd => "pidfd",
        }
    }
}

/// A raw wait status as `wait(2)` returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitStatus(pub u32);

impl WaitStatus {
    /// Exit code, if the process exited by itself (`WIFEXITED`).
    #[must_use]
    pub const fn exit_code(self) -> Option<u8> {
        if self.0 & 0x7f == 0 {
            Some(((self.0 >> 8) & 0xff) as u8)
        } else {
            None
        }
    }

    /// Signal that ended the process (`WIFSIGNALED`).
    #[must_use]
    pub const fn signal(self) -> Option<u8> {
        let signal = (self.0 & 0x7f) as u8;
        if signal != 0 && signal != 0x7f {
            Some(signal)
        } else {
            None
        }
    }

    /// Whether a core was dumped (`WCOREDUMP`).
    #[must_use]
    pub const fn core_dumped(self) -> bool {
        self.signal().is_some() && self.0 & 0x80 != 0
    }
}

/// What a kernel source said about a registered process; not yet a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The registered process.
    pub identity: Identity,
    /// The registration the hint belongs to.
    pub generation: u64,
    /// Who said it.
    pub source: SourceName,
    /// When the kernel says it died, where the source tells.
    pub died_at: Option<Time>,
    /// Wait status, where the source tells.
    pub status: Option<WaitStatus>,
}

/// A fact: the whole thread group is gone, its pidfd is readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Who died.
    pub identity: Identity,
    /// Of which registration.
    pub generation: u64,
    /// Kernel time of the death where a source told it.
    pub died_at: Option<Time>,
    /// When the first source reached us.
    pub detected_at: Time,
    /// Which source that was.
    pub detected_by: SourceName,
    /// When the pidfd was seen readable: memory, files and sockets are released.
    pub confirmed_at: Time,
    /// How it ended.
    pub status: Option<WaitStatus>,
    /// What was known of the process while it lived.
    pub last_seen: LastSeen,
}

impl Death {
    /// How long the process had lived.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        let started = Time::from_start_ticks(self.identity.start_time);
        self.died_at.unwrap_or(self.detected_at).since(started)
    }
}

/// What was last known of a process while it could still be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// `comm`, at death where the source tells, else at registration.
    pub comm: Option<String>,
    /// cgroup path (v2, else the first named hierarchy) at registration.
    pub cgroup: Option<String>,
    /// Resident set in bytes, read between the hint and the teardown.
    pub rss_bytes: Option<u64>,
    /// CPU time used, user and system.
    pub cpu: Option<Duration>,
}
