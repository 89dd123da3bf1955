//! The core's only notion of time: a point on `CLOCK_BOOTTIME`.
//!
//! The kernel stamps deaths on the same clock, it never steps, and it counts
//! through suspend. Tests make points up; nothing in `core` reads a clock.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds of `CLOCK_BOOTTIME`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// The point `ns` nanoseconds after boot.
    #[must_use]
    pub const fn from_boot_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// The start of a process, from `/proc/PID/stat` field 22 (`starttime`).
    #[must_use]
    pub const fn from_start_ticks(ticks: u64) -> Self {
        Self(ticks.saturating_mul(pmon_common::START_TICK_NS))
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_boot_ns(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`, zero if that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates at the end of time (584 years after boot).
    fn add(self, duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    /// Saturates at boot.
    fn sub(self, duration: Duration) -> Self {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(ns))
    }
}
