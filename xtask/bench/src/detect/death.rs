//! One death: watch, release, collect, reap, and put it down.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    latency::Sample,
    machine,
    nursery::Nursery,
    observer::{Observer, Row, Sighting},
};

/// From the release to the death: time for everybody to fall asleep.
const QUIET: Duration = Duration::from_millis(1);
/// Added at random, so that deaths keep no step with any timer.
const JITTER_NS: u64 = 2_000_000;
/// A death that is not seen within this time is missed. The slowest measured
/// here takes 0.4 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who watches a death.
pub(super) enum Watcher {
    /// One with its own thread in this process.
    Own(Box<dyn Observer>),
    /// The parent, in waitid(2).
    Nursery,
}

/// All deaths of one size.
pub(crate) struct Measurement {
    /// What was seen.
    pub(crate) samples: BTreeMap<Row, Vec<Sample>>,
    /// What was not.
    pub(crate) missed: BTreeMap<Row, usize>,
    /// Load average at the beginning and the end.
    pub(crate) load: [Option<f32>; 2],
    /// How long it took.
    pub(crate) took: Duration,
    began: Instant,
}

impl Measurement {
    pub(super) fn begin() -> Self {
        Self {
            samples: BTreeMap::new(),
            missed: BTreeMap::new(),
            load: [machine::load(), None],
            took: Duration::ZERO,
            began: Instant::now(),
        }
    }

    pub(super) fn end(&mut self) {
        self.took = self.began.elapsed();
        self.load[1] = machine::load();
    }

    /// Lets one victim, which is pinned to `cpu`, die before these watchers.
    pub(super) fn death(
        &mut self,
        nursery: &mut Nursery,
        watchers: &mut [Watcher],
        pid: u32,
        cpu: usize,
    ) -> Result<()> {
        let mut parent_watches = false;
        for watcher in &mut *watchers {
            match watcher {
                Watcher::Own(observer) => observer.watch(pid)?,
                Watcher::Nursery => parent_watches = true,
            }
        }
        let delay = QUIET + Duration::from_nanos(fastrand::u64(..JITTER_NS));
        nursery.release(pid, delay, parent_watches)?;
        let deadline = Instant::now() + PATIENCE;
        let own = i32::try_from(std::process::id())?;
        let parent = i32::try_from(nursery.pid())?;
        let mut sightings: Vec<(Sighting, Option<usize>)> = Vec::new();
        for watcher in &mut *watchers {
            match watcher {
                Watcher::Own(observer) => {
                    let seen = observer.collect(deadline)?;
                    let ran_on = machine::cpu_of(own, observer.thread());
                    sightings.extend(seen.into_iter().map(|sighting| (sighting, ran_on)));
                }
                Watcher::Nursery => {
                    let sighting = (Row::Waitpid, Some(nursery.waited()?));
                    sightings.push((sighting, machine::cpu_of(parent, parent)));
                }
            }
        }
        let last_instruction = nursery.reap(pid)?;
        for watcher in &mut *watchers {
            match watcher {
                Watcher::Own(observer) => observer.forget()?,
                Watcher::Nursery => {}
            }
        }
        for ((row, at), ran_on) in sightings {
            let Some(at) = at else {
                *self.missed.entry(row).or_default() += 1;
                continue;
            };
            ensure!(at > last_instruction, "{row:?} knew before the death");
            let ns = u64::try_from(at.since(last_instruction).as_nanos())
                .context("a latency of centuries")?;
            self.samples.entry(row).or_default().push(Sample {
                ns,
                same_cpu: ran_on == Some(cpu),
            });
        }
        Ok(())
    }
}
