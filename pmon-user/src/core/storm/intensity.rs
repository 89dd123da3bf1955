//! Restart intensity, as Erlang/OTP's supervisors have it: more than so many
//! restarts within a time, and automatic recovery ends until an operator asks
//! for the entity.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::core::time::Time;

/// The most there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntensityPolicy {
    /// Automatic attempts; at least one, at most [`Self::MOST`].
    pub restarts: u32,
    /// Within this time.
    pub within: Duration,
}

impl IntensityPolicy {
    /// What is remembered of an entity stays small.
    pub const MOST: u32 = 1000;
}

/// Times of the latest automatic attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity(VecDeque<Time>);

impl Intensity {
    /// Takes note of an attempt.
    pub fn note(&mut self, policy: &IntensityPolicy, now: Time) {
        while self.0.len() >= policy.restarts as usize {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// Whether one more attempt would be too many.
    #[must_use]
    pub fn is_reached(&self, policy: &IntensityPolicy, now: Time) -> bool {
        let young = |at: &&Time| now.since(**at) < policy.within;
        self.0.iter().filter(young).count() >= policy.restarts as usize
    }

    /// When the last one was.
    #[must_use]
    pub fn last(&self) -> Option<Time> {
        self.0.back().copied()
    }

    /// Forgets all.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time::from_boot_ns(second * 1_000_000_000)
    }

    #[test]
    fn the_window_slides() {
        let policy = IntensityPolicy {
            restarts: 3,
            within: Duration::from_secs(60),
        };
        let mut intensity = Intensity::default();
        for second in [0, 10, 50] {
            assert!(!intensity.is_reached(&policy, at(second)), "{second}");
            intensity.note(&policy, at(second));
        }
        assert!(intensity.is_reached(&policy, at(59)));
        assert!(!intensity.is_reached(&policy, at(60)), "the first is old");
        intensity.note(&policy, at(61));
        assert!(intensity.is_reached(&policy, at(69)));
        intensity.forget();
        assert!(!intensity.is_reached(&policy, at(69)));
    }
}
