//! What a receiver of alarms is told: one typed event, complete in itself.
//!
//! Every event names the instance that it is about in full and carries all there
//! is to say, so that a receiver needs no memory and may join late. The formats
//! of particular receivers do not belong here.

use std::sync::Arc;

use jiff::Timestamp;

use crate::core::{effect::AlarmChange, entity::Severity};

/// Something that receivers of alarms are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmEvent {
    /// What.
    pub kind: AlarmKind,
    /// When.
    pub at: Timestamp,
    /// Of which host.
    pub host: Arc<str>,
    /// Of which entity; none where it is about the host as a whole.
    pub entity: Option<Arc<str>>,
    /// How bad: with [`AlarmKind::Clear`] and [`AlarmKind::HostClear`] how bad it was.
    pub severity: Severity,
    /// Exact name of what it is about: `host=HOST.process=ENTITY`, with
    /// ` (TEXT)` behind it where a status script gave the reason, or `host=HOST`.
    pub instance: String,
    /// Why, in one sentence.
    pub reason: String,
    /// Since when that has been so.
    pub since: Timestamp,
    /// In which incident.
    pub incident: Option<u64>,
    /// Whether pmon goes on trying to bring it back; otherwise an operator has to.
    pub recovers: bool,
}

/// What has become of an alarm, an entity or the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlarmKind {
    /// An entity has failed and is being brought back; no alarm is raised
    /// (PMON_LOG).
    FirstFailure,
    /// The entity's alarm is raised, or is raised at another severity.
    Raise,
    /// The entity's alarm is still raised: what it was raised with.
    Refresh,
    /// The entity's alarm is cleared.
    Clear,
    /// A quorum member has its first strike.
    QuorumFailure,
    /// A quorum member has its second strike: the host should not go on.
    QuorumUnrecoverable,
    /// A quorum member has recovered from its strikes.
    QuorumClear,
    /// An entity fails again and again although each recovery succeeds, or still
    /// does.
    Flapping,
    /// It does not any more.
    FlappingClear,
    /// The host is degraded, or is so at another severity.
    HostDegraded,
    /// The host is not degraded any more.
    HostClear,
}

impl AlarmKind {
    /// Stable snake-case name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstFailure => "first_failure",
            Self::Raise => "raise",
            Self::Refresh => "refresh",
            Self::Clear => "clear",
            Self::QuorumFailure => "quorum_failure",
            Self::QuorumUnrecoverable => "quorum_unrecoverable",
            Self::QuorumClear => "quorum_clear",
            Self::Flapping => "flapping",
            Self::FlappingClear => "flapping_clear",
            Self::HostDegraded => "host_degraded",
            Self::HostClear => "host_clear",
        }
    }
}

impl AlarmEvent {
    /// What it changes of the entity's alarm, if it is about that: what
    /// [`crate::core::degrade::DegradeAudit::hear`] wants.
    #[must_use]
    pub const fn change(&self) -> Option<AlarmChange> {
        match self.kind {
            AlarmKind::Raise => Some(AlarmChange::Raise(self.severity)),
            AlarmKind::Refresh => Some(AlarmChange::Refresh(self.severity)),
            AlarmKind::Clear => Some(AlarmChange::Clear),
            AlarmKind::FirstFailure
            | AlarmKind::QuorumFailure
            | AlarmKind::QuorumUnrecoverable
            | AlarmKind::QuorumClear
            | AlarmKind::Flapping
            | AlarmKind::FlappingClear
            | AlarmKind::HostDegraded
            | AlarmKind::HostClear => None,
        }
    }
}

/// The exact name of an entity's alarm (spec/pmond.md §8.1); `text` is what a
/// status script gave as the reason.
#[must_use]
pub fn instance(host: &str, entity: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("host={host}.process={entity} ({text})"),
        None => format!("host={host}.process={entity}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_have_names_of_their_own() {
        assert_eq!(instance("h", "sm", None), "host=h.process=sm");
        assert_eq!(instance("h", "sm-api", None), "host=h.process=sm-api");
        assert_eq!(
            instance("h", "ceph", Some("osd.0 down")),
            "host=h.process=ceph (osd.0 down)"
        );
    }
}
