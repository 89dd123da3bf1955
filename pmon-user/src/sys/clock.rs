//! The clock of the daemon: `CLOCK_BOOTTIME`, the one the kernel side stamps
//! deaths with.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::core::time::Time;

/// The present point on `CLOCK_BOOTTIME`.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let ns = u64::try_from(now.tv_nsec).unwrap_or(0);
    Time::from_boot_ns(seconds.saturating_mul(1_000_000_000).saturating_add(ns))
}

/// The wall-clock time that belongs to a point on `CLOCK_BOOTTIME`, by the wall
/// clock as it stands now.
#[must_use]
pub fn wall(time: Time) -> Timestamp {
    let present = now();
    let wall = Timestamp::now();
    let shifted = if time > present {
        wall.checked_add(time.since(present))
    } else {
        wall.checked_sub(present.since(time))
    };
    shifted.unwrap_or(wall)
}

/// How long ago `time` was.
#[must_use]
pub fn elapsed(time: Time) -> Duration {
    now().since(time)
}
