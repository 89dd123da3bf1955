//! The ways in which kernel table, user table, pidfile and reality can disagree.
//!
//! Only their names; what is compared is `audit::discrepancy`'s business. They
//! live here because notices tell of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way in which the pid table and the host disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discrepancy {
    /// A registered process is dead and no source has told.
    MissedExit,
    /// A registered process is dead, no source has told, and another one has
    /// taken over.
    PidChanged,
    /// A registered process is alive, but its pidfile does not name it (or
    /// anything else that lives).
    StalePidfile,
    /// A live process is not in the pid table.
    Unregistered,
    /// An entry of the kernel's pid table belongs to no registration.
    OrphanRegistration,
    /// An entry of the kernel's pid table is not as pmon wrote it, or missing.
    AlteredRegistration,
    /// The pidfile names another process than the registered one, and both live.
    Duplicate,
    /// The pidfile names another process than systemd holds for the main one of the
    /// unit, and both live.
    OtherMainProcess,
}

impl Discrepancy {
    /// The name used in JSON, metrics and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissedExit => "missed_exit",
            Self::PidChanged => "pid_changed",
            Self::StalePidfile => "stale_pidfile",
            Self::Unregistered => "unregistered",
            Self::OrphanRegistration => "orphan_registration",
            Self::AlteredRegistration => "altered_registration",
            Self::Duplicate => "duplicate",
            Self::OtherMainProcess => "other_main_process",
        }
    }
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
