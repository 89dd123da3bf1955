//! Reminders instead of silence: the same trouble is told again, less and less
//! often, for as long as it lasts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::time::Time;

/// The first repetition comes after this time, each later one after twice the
/// time of the one before.
pub const FIRST: Duration = Duration::from_secs(5 * 60);
/// The longest time between two.
pub const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// When people are told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    due: Time,
    pause: Duration,
}

impl Reminder {
    /// They were told just now.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            due: now + FIRST,
            pause: FIRST,
        }
    }

    /// When the next one is due.
    #[must_use]
    pub const fn due(&self) -> Time {
        self.due
    }

    /// Whether one is due; if so it counts as told.
    pub fn ring(&mut self, now: Time) -> bool {
        let rings = self.due <= now;
        if rings {
            self.pause = (self.pause * 2).min(LONGEST);
            self.due = now + self.pause;
        }
        rings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_less_and_less_often_and_never_stop() {
        let mut reminder = Reminder::new(Time::default());
        let mut minutes = Vec::new();
        for _ in 0..9 {
            let due = reminder.due();
            assert!(!reminder.ring(due - Duration::from_nanos(1)));
            assert!(reminder.ring(due));
            minutes.push(due.since(Time::default()).as_secs() / 60);
        }
        assert_eq!(minutes, [5, 15, 35, 75, 155, 315, 555, 795, 1035]);
    }
}
