//! When has a changing pidfile come to rest?
//!
//! A daemon creates, truncates, writes and renames its pidfile in several
//! steps; looking after each would show half a file. A change is due once the
//! pidfile has been quiet for the settle delay, and five delays after the first
//! change at the latest, so that a file that never rests is looked at, too.
//! Pure: the caller brings the time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest wait since the first change, in settle delays.
const PATIENCE: u32 = 5;

/// A change that is told at once is not told so again for this long: a file that
/// never rests is looked at a hundred times a second at most.
const PAUSE: Duration = Duration::from_millis(10);

/// Entities whose pidfiles have changed and have not been reported yet.
#[derive(Debug)]
pub struct Settle {
    delay: Duration,
    changing: HashMap<Arc<str>, Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    first: Instant,
    last: Instant,
    /// When it was last told at once.
    stirred: Instant,
}

impl Settle {
    /// Nothing has changed yet.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self {
            delay,
            changing: HashMap::new(),
        }
    }

    /// An entity's pidfile has changed; whether that is to be told at once:
    /// the first time, and again after each pause.
    pub fn changed(&mut self, entity: Arc<str>, now: Instant) -> bool {
        match self.changing.entry(entity) {
            Entry::Occupied(mut change) => {
                let change = change.get_mut();
                change.last = now;
                let again = now >= change.stirred + PAUSE;
                if again {
                    change.stirred = now;
                }
                again
            }
            Entry::Vacant(place) => {
                place.insert(Change {
                    first: now,
                    last: now,
                    stirred: now,
                });
                true
            }
        }
    }

    /// Takes those that are due, in order of name.
    pub fn take_due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let delay = self.delay;
        let mut due: Vec<_> = self
            .changing
            .extract_if(|_, change| change.due(delay) <= now)
            .map(|(entity, _)| entity)
            .collect();
        due.sort_unstable();
        due
    }

    /// When the next one will be due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.changing
            .values()
            .map(|change| change.due(self.delay))
            .min()
    }

    /// Forgets an entity.
    pub fn forget(&mut self, entity: &str) {
        self.changing.remove(entity);
    }
}

impl Change {
    fn due(self, delay: Duration) -> Instant {
        let Self {
            first,
            last,
            stirred: _,
        } = self;
        (last + delay).min(first + delay * PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    fn names(due: &[Arc<str>]) -> Vec<&str> {
        due.iter().map(|name| &**name).collect()
    }

    #[test]
    fn a_change_is_due_after_a_quiet_delay() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settle = Settle::new(DELAY);
        assert_eq!(settle.next(), None);
        assert!(settle.changed("b".into(), at(0)));
        assert!(settle.changed("a".into(), at(0)));
        assert!(settle.changed("c".into(), at(50)));
        assert_eq!(settle.next(), Some(at(100)));
        assert!(settle.take_due(at(99)).is_empty());
        assert_eq!(names(&settle.take_due(at(100))), ["a", "b"]);
        assert_eq!(settle.next(), Some(at(150)));
        assert!(!settle.changed("c".into(), at(59)), "a moment ago");
        assert!(settle.changed("c".into(), at(140)));
        assert_eq!(settle.next(), Some(at(240)));
        assert_eq!(names(&settle.take_due(at(1000))), ["c"]);
        assert_eq!(settle.next(), None);
    }

    #[test]
    fn a_file_that_never_rests_is_due_after_five_delays() {
        let start = Instant::now();
        let mut settle = Settle::new(DELAY);
        let mut due_at = None;
        for ms in (0..2000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            if !settle.take_due(now).is_empty() {
                due_at = Some(ms);
                break;
            }
            settle.changed("a".into(), now);
        }
        assert_eq!(due_at, Some(500));
        assert_eq!(settle.next(), None);
    }

    #[test]
    fn forgotten_entities_are_not_due() {
        let start = Instant::now();
        let mut settle = Settle::new(DELAY);
        settle.changed("a".into(), start);
        settle.changed("b".into(), start);
        settle.forget("a");
        assert_eq!(names(&settle.take_due(start + DELAY)), ["b"]);
    }
}
