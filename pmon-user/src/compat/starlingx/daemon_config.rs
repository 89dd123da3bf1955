//! How pmond was configured: `/etc/mtc/pmond.conf` (spec/pmond.md §1.8), in the
//! dialect of pmon.d files.
//!
//! The file stays where it is, because hostwd and scripts read it as well. The
//! original does not start when a key is missing; here the shipped value holds,
//! and that is told (FIX): a host without its monitor is worse than one with
//! usual ports.

use std::{num::NonZeroU16, path::Path, time::Duration};

use super::root::Root;
use crate::config::{
    file::{self, ReadError},
    finding::{Finding, Level},
    ini,
    number::judge,
};

/// The file.
pub const PMOND_CONF: &str = "/etc/mtc/pmond.conf";

/// Its settings, all of them in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmondConfig {
    /// Period of the pulse to hbsClient.
    pub audit_period: Duration,
    /// Period of the message to hostwd.
    pub hostwd_update_period: Duration,
    /// UDP port of the command inbox.
    pub command_port: u16,
    /// UDP port of mtcAgent.
    pub event_port: u16,
    /// UDP port of hbsClient on 127.0.0.1.
    pub pulse_port: u16,
    /// UDP port where processes in active mode answer.
    pub active_port: u16,
    /// How long after the start hostwd is told every second, and how long a
    /// process that has just been configured gets before it is monitored.
    pub start_delay: Duration,
}

impl Default for PmondConfig {
    /// As shipped.
    fn default() -> Self {
        Self {
            audit_period: Duration::from_millis(500),
            hostwd_update_period: Duration::from_secs(30),
            command_port: 2117,
            event_port: 2101,
            pulse_port: 2109,
            active_port: 2200,
            start_delay: Duration::from_secs(30),
        }
    }
}

/// One mandatory key: where it stands, its range, and its unit for people.
struct Key {
    section: &'static str,
    name: &'static str,
    range: std::ops::RangeInclusive<u32>,
    unit: &'static str,
}

const fn key(
    section: &'static str,
    name: &'static str,
    range: std::ops::RangeInclusive<u32>,
    unit: &'static str,
) -> Key {
    Key {
        section,
        name,
        range,
        unit,
    }
}

const PORTS: std::ops::RangeInclusive<u32> = 1..=65535;

/// pmond means to keep it to 50..999 (spec/pmond.md §1.8) and uses the raw value
/// all the same, with which 1000 and more stop its pulses.
const AUDIT_PERIOD: Key = key("config", "audit_period", 50..=999, "ms");
/// hostwd expects a message within twice this; more than an hour is a mistake.
const HOSTWD_UPDATE_PERIOD: Key = key("config", "hostwd_update_period", 1..=3600, "s");
const COMMAND_PORT: Key = key("config", "pmon_cmd_port", PORTS, "");
const EVENT_PORT: Key = key("config", "pmon_event_port", PORTS, "");
const PULSE_PORT: Key = key("config", "pmon_pulse_port", PORTS, "");
const ACTIVE_PORT: Key = key("config", "pmon_amon_port", PORTS, "");
const START_DELAY: Key = key("timeouts", "start_delay", 1..=120, "s");

impl PmondConfig {
    /// Reads the file. Blocking, on a file system that no network can hang.
    #[must_use]
    pub fn read(root: &Root, privileged: bool) -> (Self, Vec<Finding>) {
        let path = root.path(PMOND_CONF);
        match file::read(&path, privileged) {
            Ok(bytes) => Self::parse(&path, &bytes),
            Err(ReadError::Vanished) => {
                let message = "does not exist; the values that StarlingX ships are assumed";
                let finding = Finding::new(Level::Warning, path, message);
                (Self::default(), vec![finding])
            }
            Err(error) => (Self::default(), vec![error.finding(Level::Error, &path)]),
        }
    }

    /// From the file's bytes, and what is wrong with them.
    #[must_use]
    pub fn parse(path: &Path, bytes: &[u8]) -> (Self, Vec<Finding>) {
        let shipped = Self::default();
        let mut reader = Reader {
            path,
            document: ini::parse(bytes),
            findings: Vec::new(),
        };
        let milliseconds = |number| Duration::from_millis(u64::from(number));
        let seconds = |number| Duration::from_secs(u64::from(number));
        let port = |number: u32, shipped: u16| {
            let given = u16::try_from(number).ok().and_then(NonZeroU16::new);
            given.map_or(shipped, NonZeroU16::get)
        };
        let config = Self {
            audit_period: milliseconds(reader.number(&AUDIT_PERIOD, 500)),
            hostwd_update_period: seconds(reader.number(&HOSTWD_UPDATE_PERIOD, 30)),
            command_port: port(reader.number(&COMMAND_PORT, 2117), shipped.command_port),
            event_port: port(reader.number(&EVENT_PORT, 2101), shipped.event_port),
            pulse_port: port(reader.number(&PULSE_PORT, 2109), shipped.pulse_port),
            active_port: port(reader.number(&ACTIVE_PORT, 2200), shipped.active_port),
            start_delay: seconds(reader.number(&START_DELAY, 30)),
        };
        (config, reader.findings)
    }
}

struct Reader<'a> {
    path: &'a Path,
    document: ini::Document<'a>,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    /// The last value of a key, as pmond takes it, brought into its range.
    fn number(&mut self, key: &Key, shipped: u32) -> u32 {
        let Key {
            section,
            name,
            range,
            unit,
        } = key;
        let mut items = self.document.items.iter().rev();
        let found =
            items.find(|item| item.section == section.as_bytes() && item.key == name.as_bytes());
        let Some(item) = found else {
            let message =
                format!("key `{name}` is missing from `[{section}]`; {shipped}{unit} assumed");
            let finding = Finding::new(Level::Error, self.path, message);
            self.findings
                .push(finding.hint("the original pmond does not start without it"));
            return shipped;
        };
        let judged = judge(item.value, shipped, u32::MAX, unit);
        let value = judged.value.clamp(*range.start(), *range.end());
        let remark = if value == judged.value {
            judged.remark
        } else {
            let (least, most) = (range.start(), range.end());
            let given = judged.value;
            let message = format!(
                "`{name}` is {given}{unit}, expected {least} to {most}; {value}{unit} assumed"
            );
            Some((Level::Error, message))
        };
        if let Some((level, message)) = remark {
            let finding = Finding::new(level, self.path, message).at(item.value_place);
            self.findings.push(finding);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As StarlingX ships it, without its comments.
    const SHIPPED: &str = "[config]\naudit_period = 500 ; milliseconds\nhostwd_update_period = 30\n\
        pmon_amon_port = 2200\npmon_event_port = 2101\npmon_pulse_port = 2109\n\
        pmon_cmd_port = 2117\ndaemon_log_port = 2121\n\n[timeouts]\nstart_delay = 30\n\n\
        [debug]\ndebug_timer = 0\nflush = 0\n";

    fn parse(text: &str) -> (PmondConfig, Vec<String>) {
        let (config, findings) = PmondConfig::parse(Path::new("/c"), text.as_bytes());
        let findings = findings.iter().map(ToString::to_string).collect();
        (config, findings)
    }

    #[test]
    fn the_shipped_file_is_the_default() {
        assert_eq!(parse(SHIPPED), (PmondConfig::default(), Vec::new()));
    }

    #[test]
    fn values_are_taken_and_brought_into_their_range() {
        let text = SHIPPED
            .replace("audit_period = 500", "audit_period = 1000")
            .replace("start_delay = 30", "start_delay = 0")
            .replace("2109", "12109");
        let (config, findings) = parse(&text);
        assert_eq!(config.audit_period, Duration::from_millis(999));
        assert_eq!(config.start_delay, Duration::from_secs(1));
        assert_eq!(config.pulse_port, 12109);
        assert_eq!(
            findings,
            [
                "/c:2:16: error: `audit_period` is 1000ms, expected 50 to 999; 999ms assumed",
                "/c:11:15: error: `start_delay` is 0s, expected 1 to 120; 1s assumed",
            ]
        );
    }

    #[test]
    fn a_missing_key_has_its_shipped_value_and_is_told() {
        let (config, findings) = parse("[config]\npmon_cmd_port = 1\n");
        let expected = PmondConfig {
            command_port: 1,
            ..PmondConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(findings.len(), 6, "{findings:#?}");
        let told = "/c: error: key `start_delay` is missing from `[timeouts]`; 30s assumed \
                    (the original pmond does not start without it)";
        assert!(findings.iter().any(|it| it == told), "{findings:#?}");
    }

    #[test]
    fn a_key_of_another_section_is_another_key() {
        let (config, _) = parse("[timeouts]\naudit_period = 100\n");
        assert_eq!(config.audit_period, PmondConfig::default().audit_period);
    }
}
