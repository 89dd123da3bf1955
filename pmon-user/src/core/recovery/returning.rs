//! A stop that is over after some time, as all of the original pmond's are:
//! after 1800 s it monitors the process again (spec/pmond.md §6.3).
//!
//! Must stay true: a stop for good is never undone by time.

use super::{Recovery, Stage, Step};
use crate::core::{notice::Notice, time::Time};

impl Recovery {
    /// An earlier daemon's stop is over then, once it is no longer held.
    pub const fn set_returns_at(&mut self, returns_at: Option<Time>) {
        self.returns_at = returns_at;
    }

    /// When a stop is over by itself, if it is one that ends.
    #[must_use]
    pub fn returns_at(&self) -> Option<Time> {
        self.returns_at.filter(|_| self.stage == Stage::Stopped)
    }

    /// The stop is over: somebody may have started it; otherwise it is recovered
    /// like anything that is down.
    pub(super) fn return_if_due(&mut self, step: &mut Step<'_>) {
        if self.returns_at().is_none_or(|due| step.now < due) {
            return;
        }
        self.returns_at = None;
        step.say(Notice::StopExpired);
        self.look(step);
    }
}
