//! An alarm in the terms of StarlingX's fault manager (spec/pmond.md §8.1, §8.2),
//! as far as they can be had without its library: a hook makes one call of these.
//!
//! Must stay true: an alarm is set and cleared under the same instance, letter by
//! letter, and that names one process only. The original cleared by a prefix, and
//! so the alarms of `sm-api` with those of `sm` (FIX of §8.3).

use serde::Serialize;

use super::{
    event::{AlarmEvent, AlarmKind},
    message,
};
use crate::core::entity::Severity;

/// Process monitoring's alarm in the fault manager's catalogue.
const ALARM_ID: &str = "200.006";
/// What the instance is one of.
const ENTITY_TYPE: &str = "system.host";
/// Bytes of a string, as the fault manager keeps it in 255 with its NUL.
const MAX_TEXT: usize = 254;
/// `operational`.
const TYPE_OPERATIONAL: u8 = 7;
/// `unknown`.
const CAUSE_UNKNOWN: u8 = 0;

/// Everything that the fault manager wants to know of one alarm, by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FmAlarm {
    /// `set` or `clear`.
    pub alarm_state: &'static str,
    /// Number in the catalogue.
    pub alarm_id: &'static str,
    /// Kind of instance.
    pub entity_type_id: &'static str,
    /// Exact name of the instance; with `clear`, too.
    pub entity_instance_id: String,
    /// 2 minor, 3 major, 4 critical; with `clear`, what it was.
    pub severity: u8,
    /// Why.
    pub reason_text: String,
    /// 7: operational.
    pub alarm_type: u8,
    /// 0: unknown.
    pub probable_cause: u8,
    /// What to do.
    pub proposed_repair_action: String,
    /// It affects service.
    pub service_affecting: bool,
    /// Operators may suppress it.
    pub suppression: bool,
    /// It is not inhibited.
    pub inhibit_alarms: bool,
}

impl FmAlarm {
    /// None where the event is no alarm of an entity.
    #[must_use]
    pub fn of(event: &AlarmEvent) -> Option<Self> {
        let alarm_state = match event.kind {
            AlarmKind::Raise | AlarmKind::Refresh => "set",
            AlarmKind::Clear => "clear",
            AlarmKind::FirstFailure
            | AlarmKind::QuorumFailure
            | AlarmKind::QuorumUnrecoverable
            | AlarmKind::QuorumClear
            | AlarmKind::Flapping
            | AlarmKind::FlappingClear
            | AlarmKind::HostDegraded
            | AlarmKind::HostClear => return None,
        };
        Some(Self {
            alarm_state,
            alarm_id: ALARM_ID,
            entity_type_id: ENTITY_TYPE,
            entity_instance_id: cut(&event.instance),
            severity: severity(event.severity),
            reason_text: cut(&reason(event)),
            alarm_type: TYPE_OPERATIONAL,
            probable_cause: CAUSE_UNKNOWN,
            proposed_repair_action:
                "If the alarm outlasts a lock and unlock of the host, ask support for help."
                    .to_owned(),
            service_affecting: true,
            suppression: true,
            inhibit_alarms: false,
        })
    }
}

/// The fault manager's numbers.
const fn severity(severity: Severity) -> u8 {
    match severity {
        Severity::Minor => 2,
        Severity::Major => 3,
        Severity::Critical => 4,
    }
}

fn reason(event: &AlarmEvent) -> String {
    let host = &event.host;
    // Named with the status text, if there is one.
    let prefix = format!("host={host}.process=");
    let process = event.instance.strip_prefix(&prefix);
    let process = process.or(event.entity.as_deref()).unwrap_or_default();
    match event.severity {
        Severity::Critical => format!(
            "Process '{process}' on {host} is critical and could not be recovered without \
             harm; the host is to be rebooted. It may have to be locked and unlocked by hand."
        ),
        Severity::Major => format!(
            "Host {host} is degraded, because its process '{process}' has failed; {}.",
            what_is_done(event)
        ),
        Severity::Minor => format!(
            "Process '{process}' on {host} has failed; {}.",
            what_is_done(event)
        ),
    }
}

const fn what_is_done(event: &AlarmEvent) -> &'static str {
    if event.recovers {
        "its recovery is under way"
    } else {
        "it has to be recovered by hand"
    }
}

/// As much of a text as the fault manager keeps.
fn cut(text: &str) -> String {
    message::cut(text, MAX_TEXT).to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::alarm::{event::instance, tests::event};

    #[test]
    fn an_alarm_is_set_and_cleared_under_the_same_name_with_the_catalogues_figures() {
        let set = FmAlarm::of(&event(AlarmKind::Raise, "sm", 1)).unwrap();
        let json = serde_json::to_value(&set).unwrap();
        assert_eq!(json["alarm_id"], "200.006");
        assert_eq!(json["entity_type_id"], "system.host");
        assert_eq!(json["entity_instance_id"], "host=host-1.process=sm");
        assert_eq!(json["severity"], 3);
        assert_eq!(json["alarm_type"], 7);
        assert_eq!(json["probable_cause"], 0);
        assert_eq!(json["service_affecting"], true);
        assert_eq!(json["suppression"], true);
        assert_eq!(json["inhibit_alarms"], false);
        let clear = FmAlarm::of(&event(AlarmKind::Clear, "sm", 2)).unwrap();
        assert_eq!((set.alarm_state, clear.alarm_state), ("set", "clear"));
        assert_eq!(clear.entity_instance_id, set.entity_instance_id);
        let sibling = FmAlarm::of(&event(AlarmKind::Raise, "sm-api", 1)).unwrap();
        assert_ne!(clear.entity_instance_id, sibling.entity_instance_id);
        assert_eq!(FmAlarm::of(&event(AlarmKind::FirstFailure, "sm", 1)), None);
    }

    #[test]
    fn the_reason_tells_how_bad_it_is_and_who_has_to_act() {
        let told = |severity, recovers| {
            let alarm = AlarmEvent {
                severity,
                recovers,
                ..event(AlarmKind::Raise, "ntp", 1)
            };
            FmAlarm::of(&alarm).unwrap()
        };
        for (severity, number) in [
            (Severity::Minor, 2),
            (Severity::Major, 3),
            (Severity::Critical, 4),
        ] {
            let alarm = told(severity, true);
            assert_eq!(alarm.severity, number);
            for name in ["ntp", "host-1"] {
                assert!(alarm.reason_text.contains(name), "{}", alarm.reason_text);
            }
        }
        assert!(told(Severity::Minor, false).reason_text.contains("by hand"));
        assert!(
            told(Severity::Minor, true)
                .reason_text
                .contains("under way")
        );
        assert!(told(Severity::Major, true).reason_text.contains("degraded"));
        assert!(
            told(Severity::Critical, true)
                .reason_text
                .contains("reboot")
        );
    }

    #[test]
    fn texts_are_cut_at_254_bytes_and_not_within_a_character() {
        let text = "ä".repeat(300);
        let long = AlarmEvent {
            instance: instance("host-1", "ceph", Some(&text)),
            ..event(AlarmKind::Raise, "ceph", 1)
        };
        let alarm = FmAlarm::of(&long).unwrap();
        assert!((253..=254).contains(&alarm.entity_instance_id.len()));
        assert!(alarm.entity_instance_id.ends_with('ä'));
        assert!(alarm.reason_text.len() <= 254);
        let cleared = AlarmEvent {
            kind: AlarmKind::Clear,
            ..long
        };
        let cleared = FmAlarm::of(&cleared).unwrap();
        assert_eq!(cleared.entity_instance_id, alarm.entity_instance_id);
    }
}
