//! The clock of the daemon: `CLOCK_BOOTTIME`, the one the kernel side stamps
//! deaths with.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::core::time::Time;

/// The present point on `CLOCK_BOOTTIME`.
#[must_use]
pub fn now() -> Time {
    Time::from_boot_ns(read(ClockId::Boottime))
}

/// Nanoseconds that a clock shows.
fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let ns = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

/// The point on `CLOCK_BOOTTIME` that belongs to one on `CLOCK_MONOTONIC`, by
/// the present difference of the two. They differ by the time spent in suspend,
/// so it is too late by what was spent there since.
#[must_use]
pub fn from_monotonic_ns(ns: u64) -> Time {
    /// Reading the two takes some 50 ns; a larger gap is somebody else's.
    const TOGETHER: u64 = 2_000;
    let mut best = (u64::MAX, 0);
    for _ in 0..3 {
        let before = read(ClockId::Monotonic);
        let boot = read(ClockId::Boottime);
        let gap = read(ClockId::Monotonic).saturating_sub(before);
        best = best.min((gap, boot.saturating_sub(before)));
        if gap < TOGETHER {
            break;
        }
    }
    Time::from_boot_ns(ns.saturating_add(best.1))
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

/// The point on `CLOCK_BOOTTIME` that belongs to a wall-clock time, by the wall
/// clock as it stands now; the boot for what was before.
#[must_use]
pub fn of_wall(wall: Timestamp) -> Time {
    let apart = wall.duration_since(Timestamp::now());
    if apart.is_positive() {
        now() + apart.unsigned_abs()
    } else {
        now() - apart.unsigned_abs()
    }
}

/// How long ago `time` was.
#[must_use]
pub fn elapsed(time: Time) -> Duration {
    now().since(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_leads_to_the_boot_clock() {
        let before = now();
        let carried_over = from_monotonic_ns(read(ClockId::Monotonic));
        let after = now();
        // Reading two clocks is not atomic.
        let slack = Duration::from_micros(100);
        assert!(
            carried_over + slack >= before,
            "{carried_over:?} {before:?}"
        );
        assert!(carried_over <= after + slack, "{carried_over:?} {after:?}");
    }
}
