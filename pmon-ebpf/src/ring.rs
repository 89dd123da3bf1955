//! The doorbell and the counters.

use pmon_common::{Event, LAYOUT_VERSION, Stats};

use crate::maps::{EVENTS, STATS};

/// Rings the daemon. A full ring loses the wake-up, not what it is about.
#[inline(always)]
pub(crate) fn ring(event: Event) {
    match EVENTS.reserve(0) {
        Some(mut record) => {
            record.write(Event {
                layout: LAYOUT_VERSION,
                ..event
            });
            record.submit(0);
        }
        None => count(|stats| &mut stats.drops),
    }
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(field: impl FnOnce(&mut Stats) -> &mut u64) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: this CPU's own element; a tracing program is neither moved to
        // another CPU nor interrupted by another run that touches it, but for
        // one in an interrupt, which may cost a count.
        let counter = field(unsafe { &mut *stats });
        *counter = counter.wrapping_add(1);
    }
}
