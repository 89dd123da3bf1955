//! Executions of the programs of entities that are missing: a successor that
//! somebody else starts, where no pidfile tells of it, shows when its program is
//! opened to be executed.
//!
//! inotify on the program's file (ADR 14). A file is opened before it is executed,
//! and for other purposes as well, so that what follows is no more than a few looks
//! within 75 ms. States of an entity: *quiet*; *looking*, those looks are due
//! one after the other; *pausing* for the rest of a second, at the end of which they
//! begin anew if the program was opened meanwhile. Must stay true: the watch is
//! there before the first looks, so that nothing is missed that happens after it; a
//! program that everybody opens all the time costs three looks in a second.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{fs::inotify::WatchFlags, io::Errno};

use crate::sys::{
    inotify::{Inotify, Record},
    readable::Readable,
};

/// When it is looked after the file was opened: execve(2) takes less than a
/// millisecond where the file is in memory, and longer where it has to be read.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(75),
];
/// From one beginning to the next.
const PAUSE: Duration = Duration::from_secs(1);

const FILE: WatchFlags = WatchFlags::OPEN
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// The watched programs.
pub(super) struct Executions {
    inotify: Inotify,
    readable: Readable,
    /// Whose program is where, with its watch if there is one.
    programs: HashMap<Arc<str>, (PathBuf, Option<i32>)>,
    watched: HashMap<i32, BTreeSet<Arc<str>>>,
    rounds: Rounds,
}

impl Executions {
    pub(super) fn begin() -> io::Result<Self> {
        let inotify = Inotify::new()?;
        Ok(Self {
            readable: Readable::new(inotify.descriptor())?,
            inotify,
            programs: HashMap::new(),
            watched: HashMap::new(),
            rounds: Rounds::default(),
        })
    }

    /// Waits for executions of an entity's program, in place of an earlier one; it
    /// is looked for once in any case.
    pub(super) fn await_one(&mut self, entity: &Arc<str>, program: PathBuf, now: Instant) {
        self.forget(entity);
        let watch = self.watch(entity, &program);
        self.programs.insert(Arc::clone(entity), (program, watch));
        self.rounds.opened(entity, now);
    }

    /// Waits for them no more.
    pub(super) fn forget(&mut self, entity: &str) {
        self.rounds.forget(entity);
        let Some((_, Some(watch))) = self.programs.remove(entity) else {
            return;
        };
        if let Some(entities) = self.watched.get_mut(&watch) {
            entities.remove(entity);
            if entities.is_empty() {
                self.watched.remove(&watch);
                self.inotify.remove(watch);
            }
        }
    }

    /// Watches anew what is at a path again.
    pub(super) fn refresh(&mut self) {
        let lost: Vec<(Arc<str>, PathBuf)> = self
            .programs
            .iter()
            .filter(|(_, (_, watch))| watch.is_none())
            .map(|(entity, (program, _))| (Arc::clone(entity), program.clone()))
            .collect();
        for (entity, program) in lost {
            let watch = self.watch(&entity, &program);
            self.programs.insert(entity, (program, watch));
        }
    }

    fn watch(&mut self, entity: &Arc<str>, program: &Path) -> Option<i32> {
        match self.inotify.add(program, FILE) {
            Ok(watch) => {
                let entities = self.watched.entry(watch).or_default();
                entities.insert(Arc::clone(entity));
                Some(watch)
            }
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(errno) => {
                let program = program.display();
                tracing::warn!(%errno, "executions of `{program}` are not seen");
                None
            }
        }
    }

    /// Waits until something was opened.
    pub(super) async fn read(&mut self) -> io::Result<()> {
        let mut opened = BTreeSet::new();
        let mut ended = BTreeSet::new();
        let (inotify, watched) = (&self.inotify, &self.watched);
        self.readable
            .read(|_| {
                inotify.read(|record| match record {
                    Record::Overflow => opened.extend(watched.keys().copied()),
                    Record::Ended { watch, .. } => {
                        ended.insert(watch);
                    }
                    Record::Entry { watch, .. } | Record::Itself { watch } => {
                        opened.insert(watch);
                    }
                })
            })
            .await?;
        let now = Instant::now();
        for watch in opened {
            for entity in self.watched.get(&watch).into_iter().flatten() {
                self.rounds.opened(entity, now);
            }
        }
        for watch in ended {
            let entities = self.watched.remove(&watch);
            if entities.is_some() {
                self.inotify.remove(watch);
            }
            for entity in entities.into_iter().flatten() {
                if let Some((_, watch)) = self.programs.get_mut(&entity) {
                    *watch = None;
                }
            }
        }
        self.refresh();
        Ok(())
    }

    /// When [`Self::take_due`] has something to give.
    pub(super) fn next(&self) -> Option<Instant> {
        self.rounds.next()
    }

    /// Who is to be looked for now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Arc<str>> {
        self.rounds.take_due(now)
    }

    pub(super) fn watches(&self) -> usize {
        self.watched.len()
    }
}

/// When is looked; pure.
#[derive(Debug, Default)]
struct Rounds(HashMap<Arc<str>, Round>);

#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// Looks that were made.
    looks: usize,
    /// It was opened after the last look was due.
    again: bool,
}

impl Round {
    fn due(&self) -> Instant {
        self.began + LOOKS.get(self.looks).copied().unwrap_or(PAUSE)
    }
}

impl Rounds {
    fn opened(&mut self, entity: &Arc<str>, now: Instant) {
        let begun = Round {
            began: now,
            looks: 0,
            again: false,
        };
        // What is opened while it is looked may be executed only after that.
        (self.0.entry(Arc::clone(entity)))
            .and_modify(|round| round.again = true)
            .or_insert(begun);
    }

    fn forget(&mut self, entity: &str) {
        self.0.remove(entity);
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().map(Round::due).min()
    }

    fn take_due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        self.0.retain(|entity, round| {
            if now < round.due() {
                return true;
            }
            if round.looks == LOOKS.len() {
                // The pause is over.
                let again = round.again;
                *round = Round {
                    began: now,
                    looks: 0,
                    again: false,
                };
                return again;
            }
            due.push(Arc::clone(entity));
            // A thread that comes late makes one look for all that are due.
            while round.looks < LOOKS.len() && round.due() <= now {
                round.looks += 1;
            }
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds at which `entity` is looked for, up to `end`, when its program is
    /// opened at these.
    fn looks(opened: &[u64], end: u64) -> Vec<u64> {
        let start = Instant::now();
        let entity: Arc<str> = Arc::from("web");
        let mut rounds = Rounds::default();
        let mut looks = Vec::new();
        for ms in 0..=end {
            let now = start + Duration::from_millis(ms);
            if opened.contains(&ms) {
                rounds.opened(&entity, now);
            }
            looks.extend(rounds.take_due(now).iter().map(|_| ms));
        }
        looks
    }

    #[test]
    fn three_looks_follow_an_execution() {
        assert_eq!(looks(&[10], 5000), [15, 35, 85]);
        assert_eq!(looks(&[10, 3000], 5000), [15, 35, 85, 3005, 3025, 3075]);
    }

    #[test]
    fn what_is_opened_all_the_time_is_looked_for_three_times_in_a_second() {
        let all: Vec<u64> = (0..3000).collect();
        let expected = [5, 25, 75, 1005, 1025, 1075, 2005, 2025, 2075];
        assert_eq!(looks(&all, 2999), expected);
    }

    #[test]
    fn what_is_opened_while_it_pauses_is_looked_for_after_the_pause() {
        assert_eq!(looks(&[0, 500], 1500), [5, 25, 75, 1005, 1025, 1075]);
    }

    #[test]
    fn who_comes_late_looks_once() {
        let start = Instant::now();
        let entity: Arc<str> = Arc::from("web");
        let mut rounds = Rounds::default();
        rounds.opened(&entity, start);
        assert_eq!(rounds.next(), Some(start + LOOKS[0]));
        assert_eq!(rounds.take_due(start + PAUSE / 2).len(), 1);
        assert!(rounds.take_due(start + PAUSE / 2).is_empty());
        rounds.take_due(start + PAUSE);
        assert_eq!(rounds.next(), None, "it is quiet");
    }
}
