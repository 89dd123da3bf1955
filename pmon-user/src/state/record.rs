//! What is remembered of one entity, as it is written.
//!
//! Must stay true: a daemon reads what any earlier one wrote, so that a new field
//! is optional, and one that is given up is still read. Who writes records, and
//! where they go, is not decided here.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    core::{entity::Severity, identity::Identity, recovery::Quorum, storm::record::StormRecord},
    look::Remembered,
};

/// What is remembered of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRecord {
    /// Its process, and its pidfile at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Remembered>,
    /// An operator wants it to stay down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoppedByOperator>,
    /// An operator has taken it out of recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldByOperator>,
    /// It comes from `pmon register`, not from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ad_hoc: Option<AdHoc>,
    /// Processes before this one whose deaths may not be in the journal yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<Identity>,
    /// A program that was about to be executed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<Identity>,
    /// A start command that may be at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<Identity>,
    /// Where it stands in its restart storm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<StormRecord>,
    /// Its process has answered requests of active monitoring.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers: bool,
    /// Somebody has stopped its unit through systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_stop: Option<UnitStop>,
    /// Its alarm, as long as a receiver may believe it to be raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmRecord>,
    /// Others of its alarms, as long as a receiver may believe them to be raised:
    /// of another sort, or cleared under another name than the present one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_alarms: Vec<AlarmRecord>,
    /// Strikes of a quorum member.
    #[serde(default, skip_serializing_if = "Quorum::is_sound")]
    pub quorum: Quorum,
}

/// What an alarm is of; together with its name it tells alarms of one entity apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmSort {
    /// The entity fails, or there is another instance of it.
    #[default]
    Failure,
    /// It has struck out as a member of the quorum.
    Quorum,
    /// It fails again and again although each recovery succeeds.
    Flapping,
}

impl AlarmSort {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
    const fn is_failure(&self) -> bool {
        matches!(self, Self::Failure)
    }
}

/// An alarm that receivers may have heard of. It is kept over boots, as they may
/// be on other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// Of what.
    #[serde(default, skip_serializing_if = "AlarmSort::is_failure")]
    pub sort: AlarmSort,
    /// How bad.
    pub severity: Severity,
    /// When it was raised.
    pub since: Timestamp,
    /// In which incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<u64>,
    /// What a status script said, or what else is a part of the alarm's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was cleared; some receiver may not know yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared: Option<Timestamp>,
}

/// That a unit is down because somebody wanted that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStop {
    /// The unit's invocation that was stopped, as systemd names it (systemd.exec(5),
    /// `$INVOCATION_ID`): another one means that the unit was started since. Empty
    /// where systemd had forgotten it.
    pub invocation: Vec<u8>,
}

/// Why an entity is to stay down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedByOperator {
    /// Who, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// When it is over by itself; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Why an entity is out of recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldByOperator {
    /// Who, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
    /// When it is over by itself; never when absent.
    pub until: Option<Timestamp>,
}

/// All that makes an ad-hoc entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdHoc {
    /// File that names the process; without it only the remembered process counts.
    pub pidfile: Option<PathBuf>,
    /// Shell command that starts a successor.
    pub restart: Option<String>,
    /// Whether it is followed into the background.
    #[serde(default)]
    pub follow: bool,
    /// Who registered it, for instance `uid 0 (pid 4711)`.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl EntityRecord {
    /// Forgets what means nothing in another boot of the host; whether a process is
    /// among that.
    pub(super) fn forget_boot(&mut self) -> bool {
        self.unsettled.clear();
        self.launched = None;
        self.starting = None;
        self.storm = None;
        self.answers = false;
        self.unit_stop = None;
        self.process.take().is_some()
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self {
            process,
            stopped,
            held,
            ad_hoc,
            unsettled,
            launched,
            starting,
            storm,
            answers,
            unit_stop,
            alarm,
            further_alarms,
            quorum,
        } = self;
        alarm.is_none()
            && further_alarms.is_empty()
            && quorum.is_sound()
            && process.is_none()
            && stopped.is_none()
            && held.is_none()
            && ad_hoc.is_none()
            && unsettled.is_empty()
            && launched.is_none()
            && starting.is_none()
            && storm.is_none()
            && !*answers
            && unit_stop.is_none()
    }
}
