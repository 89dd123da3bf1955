//! What the service manager says of an entity's unit: the core's word for it.
//!
//! A manager knows what a look at processes cannot show: that somebody asked for
//! the process's end. What follows from it is decided in `recovery`; how it is
//! found out is `crate::systemd`'s business.

use std::time::Duration;

/// The unit, as it was when there was a look for the entity's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitReport {
    /// Somebody's job is queued or under way, or the manager is about to restart
    /// the unit by itself: whatever is wanted of the unit, it is being done.
    AtWork {
        /// Which work, for people.
        what: String,
    },
    /// The host is being shut down: nothing is to be started any more.
    GoingDown,
    /// It is down because somebody wanted that.
    Stopped {
        /// At whose hands, for people.
        by: String,
    },
    /// It is up, whatever the look for the process showed.
    Active {
        /// Since so long.
        up_for: Duration,
    },
    /// It is down, and nobody has asked for that.
    Down {
        /// The manager's word for how it ended, for instance `start-limit-hit`.
        result: String,
    },
}
