//! An event as hooks and files get it: one line of JSON, and the same as
//! variables of an environment. `docs/alarms.md` is for whoever reads them.
//!
//! Must stay true: fields are added, never changed, without a new version; a value
//! is one line, whatever a script or an operator has put into it.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    event::{AlarmEvent, AlarmKind},
    fm::FmAlarm,
};
use crate::core::entity::Severity;

/// Of the format.
const VERSION: u32 = 1;
/// More of a reason is of no use, and a pipe holds 64 KiB without its reader.
const MAX_REASON: usize = 1000;

#[derive(Serialize)]
struct Message<'a> {
    version: u32,
    kind: &'static str,
    at: Timestamp,
    host: &'a str,
    entity: Option<&'a str>,
    severity: Severity,
    instance: String,
    reason: String,
    since: Timestamp,
    incident: Option<u64>,
    recovers: bool,
    fm: Option<FmAlarm>,
}

fn message(event: &AlarmEvent) -> Message<'_> {
    let AlarmEvent {
        kind,
        at,
        host,
        entity,
        severity,
        instance,
        reason,
        since,
        incident,
        recovers,
    } = event;
    let reason = one_line(reason);
    Message {
        version: VERSION,
        kind: kind.as_str(),
        at: *at,
        host,
        entity: entity.as_deref(),
        severity: *severity,
        instance: one_line(instance),
        reason: cut(&reason, MAX_REASON).to_owned(),
        since: *since,
        incident: *incident,
        recovers: *recovers,
        fm: FmAlarm::of(event),
    }
}

/// The beginning of a text, of whole characters and at most so many bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Control characters, of which NUL ends a variable, become spaces.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// One line of JSON, with its end.
pub(super) fn json(event: &AlarmEvent) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(&message(event))?;
    line.push(b'\n');
    Ok(line)
}

/// `PMON_ALARM_*`; what there is not is empty.
pub(super) fn variables(event: &AlarmEvent) -> [(&'static str, String); 10] {
    let Message {
        version: _,
        kind,
        at,
        host,
        entity,
        severity,
        instance,
        reason,
        since,
        incident,
        recovers,
        // For who reads JSON.
        fm: _,
    } = message(event);
    [
        ("PMON_ALARM_KIND", kind.to_owned()),
        ("PMON_ALARM_AT", at.to_string()),
        ("PMON_ALARM_HOST", host.to_owned()),
        ("PMON_ALARM_ENTITY", entity.unwrap_or_default().to_owned()),
        ("PMON_ALARM_SEVERITY", severity.to_string()),
        ("PMON_ALARM_INSTANCE", instance),
        ("PMON_ALARM_REASON", reason),
        ("PMON_ALARM_SINCE", since.to_string()),
        (
            "PMON_ALARM_INCIDENT",
            incident
                .map(|number| number.to_string())
                .unwrap_or_default(),
        ),
        ("PMON_ALARM_RECOVERS", u8::from(recovers).to_string()),
    ]
}

impl AlarmEvent {
    /// For the log.
    pub(super) fn in_short(&self) -> String {
        let kind = match self.kind {
            AlarmKind::FirstFailure => "first failure",
            AlarmKind::Raise => "raise",
            AlarmKind::Refresh => "refresh",
            AlarmKind::Clear => "clear",
            AlarmKind::QuorumFailure | AlarmKind::QuorumUnrecoverable | AlarmKind::QuorumClear => {
                "quorum"
            }
            AlarmKind::Flapping | AlarmKind::FlappingClear => "flapping",
            AlarmKind::HostDegraded | AlarmKind::HostClear => "host",
        };
        format!("{kind} of {}", self.instance)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::alarm::tests::event;

    #[test]
    fn json_is_one_line_and_says_it_all() {
        let raised = AlarmEvent {
            reason: "first\nsecond\0third".to_owned(),
            ..event(AlarmKind::Raise, "web", 60)
        };
        let line = String::from_utf8(json(&raised).unwrap()).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fm = value["fm"].clone();
        assert_eq!(fm["alarm_state"], "set");
        assert_eq!(
            value,
            serde_json::json!({
                "version": 1,
                "kind": "raise",
                "at": "1970-01-01T00:01:00Z",
                "host": "host-1",
                "entity": "web",
                "severity": "major",
                "instance": "host=host-1.process=web",
                "reason": "first second third",
                "since": "1970-01-01T00:01:00Z",
                "incident": 7,
                "recovers": true,
                "fm": fm,
            })
        );
        let host = json(&event(AlarmKind::HostDegraded, "", 60)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&host).unwrap();
        assert_eq!(value["entity"], serde_json::Value::Null);
        assert_eq!(value["fm"], serde_json::Value::Null);
        assert_eq!(value["instance"], "host=host-1");
    }

    #[test]
    fn variables_hold_no_nul_and_no_line_feed() {
        let raised = AlarmEvent {
            reason: format!("a\0b\n{}", "c".repeat(10_000)),
            ..event(AlarmKind::Raise, "web", 60)
        };
        for (name, value) in variables(&raised) {
            assert!(name.starts_with("PMON_ALARM_"));
            assert!(!value.contains(['\0', '\n']), "{name}");
            assert!(value.len() <= MAX_REASON, "{name}");
        }
    }
}
