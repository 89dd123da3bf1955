//! The host-wide recovery budget: who may start a successor now, and who waits
//! until others are through.
//!
//! Whoever asks is *holding* a turn at once while there is room, else *waiting*;
//! a turn is given back when the start is over, whatever came of it. Room is a
//! free place (`at_once`) and a start that is still free within the time
//! (`starts` within `within`).
//!
//! Must stay true: among those who ask at once the severer go first; nobody
//! waits for those who ask much later, however severe they are (see
//! [`handicap`]); a single failure never waits. Operators' starts are not
//! counted here and ask nobody.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{entity::Severity, time::Time};

/// How much may happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Starts under way; at least one.
    pub at_once: u32,
    /// Starts within `within`; at least one, at most [`Self::MOST`].
    pub starts: u32,
    /// See there.
    pub within: Duration,
}

impl Limits {
    /// What is remembered stays small.
    pub const MOST: u32 = 10_000;
}

impl Default for Limits {
    /// Far beyond what single failures need, and what two cores can do: a fork
    /// and an exec cost about a millisecond, an init script tens of them.
    fn default() -> Self {
        Self {
            at_once: 32,
            starts: 100,
            within: Duration::from_secs(1),
        }
    }
}

/// So much later than a critical one that asks with it an entity counts as
/// having asked. It bounds what the severer may be preferred by, so that nobody
/// waits for ever.
#[must_use]
pub const fn handicap(severity: Severity) -> Duration {
    match severity {
        Severity::Critical => Duration::ZERO,
        Severity::Major => Duration::from_secs(30),
        Severity::Minor => Duration::from_secs(60),
    }
}

/// Who holds turns and who waits for one, by name.
#[derive(Clone, Debug)]
pub struct Budget<Name: Ord + Clone> {
    limits: Limits,
    holding: BTreeSet<Name>,
    /// By the time they count as having asked at, then in the order of asking.
    waiting: BTreeSet<(Time, u64, Name)>,
    places: BTreeMap<Name, (Time, u64)>,
    asked: u64,
    /// When the latest turns were given.
    given: VecDeque<Time>,
}

impl<Name: Ord + Clone> Budget<Name> {
    /// Nobody has asked yet.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            holding: BTreeSet::new(),
            waiting: BTreeSet::new(),
            places: BTreeMap::new(),
            asked: 0,
            given: VecDeque::new(),
        }
    }

    /// Other limits from now on; turns that are held are kept.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The limits in force.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Turns held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.holding.len()
    }

    /// How many wait.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.waiting.len()
    }

    /// Asks for a turn. Whether it is given at once; otherwise [`Self::grant`]
    /// names it later. Asking again changes nothing.
    pub fn ask(&mut self, name: Name, severity: Severity, now: Time) -> bool {
        if self.holding.contains(&name) {
            return true;
        }
        if self.places.contains_key(&name) {
            return false;
        }
        if self.waiting.is_empty() && self.has_room(now) {
            self.give(name, now);
            return true;
        }
        let place = (now + handicap(severity), self.asked);
        self.asked += 1;
        self.places.insert(name.clone(), place);
        self.waiting.insert((place.0, place.1, name));
        false
    }

    /// A turn is over, or no longer wanted.
    pub fn give_back(&mut self, name: &Name) {
        self.holding.remove(name);
        if let Some((at, number)) = self.places.remove(name) {
            self.waiting.remove(&(at, number, name.clone()));
        }
    }

    /// Those whose turn it is now, first things first.
    pub fn grant(&mut self, now: Time) -> Vec<Name> {
        let mut granted = Vec::new();
        while self.has_room(now)
            && let Some((_, _, name)) = self.waiting.pop_first()
        {
            self.places.remove(&name);
            self.give(name.clone(), now);
            granted.push(name);
        }
        granted
    }

    /// When [`Self::grant`] would name somebody, if nothing else happens; a time
    /// in the past means at once.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        if self.waiting.is_empty() || self.holding.len() >= self.limits.at_once as usize {
            return None;
        }
        if self.given.len() < self.limits.starts as usize {
            return Some(Time::default());
        }
        let index = self.given.len() - self.limits.starts as usize;
        Some(*self.given.get(index)? + self.limits.within)
    }

    /// Those who would go before it, if it waits.
    #[must_use]
    pub fn ahead_of(&self, name: &Name) -> Option<usize> {
        let (at, number) = *self.places.get(name)?;
        let place = (at, number, name.clone());
        Some(self.waiting.range(..place).count())
    }

    fn has_room(&self, now: Time) -> bool {
        let starts = self.limits.starts as usize;
        let young = |at: &&Time| now.since(**at) < self.limits.within;
        self.holding.len() < self.limits.at_once as usize
            && self.given.iter().rev().take_while(young).count() < starts
    }

    fn give(&mut self, name: Name, now: Time) {
        while self.given.len() >= self.limits.starts as usize {
            self.given.pop_front();
        }
        self.given.push_back(now);
        self.holding.insert(name);
    }
}

#[cfg(test)]
#[path = "budget/tests.rs"]
mod tests;
