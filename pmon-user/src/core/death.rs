//! A verified death, and what is known about its cause.
//!
//! A [`Hint`] is what a kernel source said; a [`Death`] exists only after the
//! pidfd became readable. What is not known is `None`, never a default value.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    evidence::{Evidence, Sender, SentSignal, SignalOrigin},
    identity::Identity,
    time::Time,
};

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

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code(), self.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) if self.core_dumped() => write!(f, "signal {signal}, core dumped"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "wait status {:#x}", self.0),
        }
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
    /// In the moment of the exit the kernel side compared the process with the
    /// registered one, and found that this was its last thread: nothing of it runs
    /// user code any more. Only a record that came through the ring is as sure as
    /// this.
    pub last_thread: bool,
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
    /// What the kernel noted of the circumstances.
    pub evidence: Evidence,
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

    /// The signal that ended it, with its origin: only when the last signal that
    /// was sent is the one in the wait status.
    #[must_use]
    pub fn deadly_signal(&self) -> Option<&SentSignal> {
        let signal = u32::from(self.status?.signal()?);
        self.evidence
            .last_signal
            .as_deref()
            .filter(|sent| sent.signal == signal)
    }

    /// The process that sent that signal.
    #[must_use]
    pub fn killer(&self) -> Option<&Sender> {
        match &self.deadly_signal()?.origin {
            SignalOrigin::Process(sender) | SignalOrigin::Pmon { sender, .. } => Some(sender),
            SignalOrigin::Kernel | SignalOrigin::Unknown => None,
        }
    }

    /// Whether the OOM killer ended it, and nobody else was first.
    #[must_use]
    pub fn is_oom_kill(&self) -> bool {
        /// SIGKILL of signal(7), the only signal the OOM killer uses.
        const SIGKILL: u8 = 9;
        let killed = match self.status {
            Some(status) => status.signal() == Some(SIGKILL),
            None => true,
        };
        self.evidence.oom_victim == Some(true) && killed && self.killer().is_none()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn death(status: Option<u32>, sent: Option<(u32, SignalOrigin)>, oom: Option<bool>) -> Death {
        let now = Time::from_boot_ns(7);
        Death {
            identity: Identity {
                pid: 7,
                start_time: 0,
            },
            generation: 1,
            died_at: Some(now),
            detected_at: now,
            detected_by: SourceName::Ebpf,
            confirmed_at: now,
            status: status.map(WaitStatus),
            evidence: Evidence {
                oom_victim: oom,
                last_signal: sent.map(|(signal, origin)| {
                    Box::new(SentSignal {
                        signal,
                        code: 0,
                        origin,
                        at: now,
                    })
                }),
                ..Evidence::default()
            },
            last_seen: LastSeen::default(),
        }
    }

    fn somebody() -> SignalOrigin {
        SignalOrigin::Process(Sender {
            pid: Some(812),
            uid: 0,
            comm: Some("bash".to_owned()),
        })
    }

    #[test]
    fn a_killer_is_named_only_for_the_signal_that_killed() {
        let killed = death(Some(9), Some((9, somebody())), None);
        assert_eq!(killed.killer().and_then(|sender| sender.pid), Some(812));
        for other in [
            // Another signal was the last that was sent.
            death(Some(11), Some((9, somebody())), None),
            // It exited by itself.
            death(Some(0), Some((15, somebody())), None),
            death(None, Some((9, somebody())), None),
            death(Some(9), None, None),
            death(Some(11), Some((11, SignalOrigin::Kernel)), None),
            death(Some(9), Some((9, SignalOrigin::Unknown)), None),
        ] {
            assert_eq!(other.killer(), None, "{other:?}");
        }
    }

    #[test]
    fn an_oom_kill_is_a_kill_of_a_victim() {
        let kernel = || Some((9, SignalOrigin::Kernel));
        assert!(death(Some(9), kernel(), Some(true)).is_oom_kill());
        assert!(death(Some(9), None, Some(true)).is_oom_kill());
        assert!(death(None, None, Some(true)).is_oom_kill());
        assert!(!death(Some(9), kernel(), Some(false)).is_oom_kill());
        assert!(!death(Some(9), kernel(), None).is_oom_kill());
        // Chosen while it was exiting by itself, or after somebody else's kill.
        assert!(!death(Some(0), None, Some(true)).is_oom_kill());
        assert!(!death(Some(9), Some((9, somebody())), Some(true)).is_oom_kill());
    }

    #[test]
    fn statuses_are_told_as_they_are() {
        for (status, text) in [
            (0, "exit code 0"),
            (7 << 8, "exit code 7"),
            (9, "signal 9"),
            (0x8b, "signal 11, core dumped"),
            (0x7f, "wait status 0x7f"),
        ] {
            assert_eq!(WaitStatus(status).to_string(), text);
        }
    }
}
