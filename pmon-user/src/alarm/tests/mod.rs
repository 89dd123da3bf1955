//! Invented events for this module's tests.

use std::sync::Arc;

use jiff::Timestamp;

use super::event::{AlarmEvent, AlarmKind, instance};
use crate::core::entity::Severity;

/// An event of `entity` on `host-1`, this many seconds after the epoch.
pub(super) fn event(kind: AlarmKind, entity: &str, at: i64) -> AlarmEvent {
    let host = "host-1";
    let of_host = matches!(kind, AlarmKind::HostDegraded | AlarmKind::HostClear);
    AlarmEvent {
        kind,
        at: Timestamp::constant(at, 0),
        host: host.into(),
        entity: (!of_host).then(|| Arc::from(entity)),
        severity: Severity::Major,
        instance: if of_host {
            format!("host={host}")
        } else {
            instance(host, entity, None)
        },
        reason: "it was an example".to_owned(),
        since: Timestamp::constant(at, 0),
        incident: Some(7),
        recovers: true,
    }
}
