//! Flapping: an entity falls again and again although each recovery succeeds, so
//! that it is up whenever somebody looks and no down alarm ever comes.
//!
//! *Steady* → with the last of `deaths` falls within `within` → *flapping*,
//! which is told, and told again (`reminder`), → *steady* when it has been well
//! for `quiet`. Only falls from health count: what dies while it is being
//! recovered is a failed attempt, and the ladder deals with that.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::reminder::Reminder;
use crate::core::time::Time;

/// When an entity is called flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlappingPolicy {
    /// Falls from health; at least two, at most [`Self::MOST`].
    pub deaths: u32,
    /// Within this time.
    pub within: Duration,
    /// It is steady again after this time of health.
    pub quiet: Duration,
}

impl FlappingPolicy {
    /// What is remembered of an entity stays small.
    pub const MOST: u32 = 1000;
    /// Unless configured otherwise.
    pub const DEFAULT: Self = Self {
        deaths: 5,
        within: Duration::from_secs(600),
        quiet: Duration::from_secs(600),
    };
}

/// Whether it flaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flapping {
    falls: VecDeque<Time>,
    since: Option<Time>,
    reminder: Option<Reminder>,
    /// When it is steady again, if it stays well.
    ends: Option<Time>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It flaps.
    Begins,
    /// It still does.
    Lasts,
    /// It does not any more.
    Ends,
}

impl Flapping {
    /// Since when it has been flapping.
    #[must_use]
    pub const fn since(&self) -> Option<Time> {
        self.since
    }

    /// When it fell last.
    #[must_use]
    pub fn last_fall(&self) -> Option<Time> {
        self.falls.back().copied()
    }

    /// It was well, and is no longer.
    pub fn fell(&mut self, policy: &FlappingPolicy, now: Time) -> Option<Turn> {
        while self.falls.len() >= policy.deaths as usize {
            self.falls.pop_front();
        }
        self.falls.push_back(now);
        self.ends = None;
        let young = |at: &&Time| now.since(**at) < policy.within;
        let many = self.falls.iter().filter(young).count() >= policy.deaths as usize;
        (many && self.since.is_none()).then(|| {
            self.since = Some(now);
            self.reminder = Some(Reminder::new(now));
            Turn::Begins
        })
    }

    /// It is well.
    pub fn well(&mut self, policy: &FlappingPolicy, now: Time) {
        self.ends.get_or_insert(now + policy.quiet);
    }

    /// When time alone changes something.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.since?;
        let reminds = self.reminder.map(|reminder| reminder.due());
        self.ends.into_iter().chain(reminds).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) -> Option<Turn> {
        self.since?;
        if self.ends.is_some_and(|ends| ends <= now) {
            self.forget();
            return Some(Turn::Ends);
        }
        let rings = self.reminder.as_mut().is_some_and(|one| one.ring(now));
        rings.then_some(Turn::Lasts)
    }

    /// Forgets all. Whether it was flapping.
    pub fn forget(&mut self) -> bool {
        self.falls.clear();
        self.reminder = None;
        self.ends = None;
        self.since.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Time {
        Time::from_boot_ns(second * 1_000_000_000)
    }

    const POLICY: FlappingPolicy = FlappingPolicy {
        deaths: 3,
        within: Duration::from_secs(100),
        quiet: Duration::from_secs(200),
    };

    #[test]
    fn it_begins_with_so_many_falls_and_ends_when_it_is_quiet() {
        let mut flapping = Flapping::default();
        assert_eq!(flapping.fell(&POLICY, at(0)), None);
        flapping.well(&POLICY, at(5));
        assert_eq!(flapping.fell(&POLICY, at(40)), None);
        assert_eq!(flapping.fell(&POLICY, at(120)), None, "too far apart");
        assert_eq!(flapping.fell(&POLICY, at(130)), Some(Turn::Begins));
        assert_eq!(flapping.fell(&POLICY, at(131)), None, "told already");
        assert_eq!(flapping.since(), Some(at(130)));
        // Down is not quiet.
        assert_eq!(flapping.deadline(), Some(at(430)));
        assert_eq!(flapping.tick(at(430)), Some(Turn::Lasts));
        flapping.well(&POLICY, at(500));
        flapping.well(&POLICY, at(600));
        assert_eq!(flapping.deadline(), Some(at(700)));
        assert_eq!(flapping.tick(at(699)), None);
        assert_eq!(flapping.tick(at(700)), Some(Turn::Ends));
        assert_eq!(flapping.deadline(), None, "no timer when steady");
        assert_eq!(flapping.fell(&POLICY, at(701)), None, "it counts anew");
    }
}
