//! A stream of deaths: what is registered is killed, again and again, and every
//! one is written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::{self, Daemon, pid_of},
    pins,
    place::Place,
    process::{self, Process},
};

/// What has been killed, as `PID@START`, by entity: each was registered then.
#[derive(Debug, Default)]
pub struct Killed {
    all: Mutex<BTreeMap<String, BTreeSet<String>>>,
    over: AtomicBool,
}

/// Ends the killing when dropped, also when a test fails.
#[derive(Debug)]
pub struct Over<'a>(&'a Killed);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Killed {
    /// Kills what the daemon says is registered, whenever there is a daemon,
    /// until [`Over`].
    pub fn kill_on(&self, place: &Place, pause: Duration) {
        while !self.over.load(Ordering::Relaxed) {
            self.all_of(place);
            thread::sleep(pause);
        }
    }

    /// Ends that.
    #[must_use]
    pub const fn until_dropped(&self) -> Over<'_> {
        Over(self)
    }

    fn all_of(&self, place: &Place) {
        let mut list = daemon::client(&place.socket(), &["list", "-o", "json"]);
        let answer = daemon::answer(&mut list);
        if answer.code != Some(0) {
            return;
        }
        for entity in answer.json()["entities"].as_array().into_iter().flatten() {
            if entity["registered"] == true && entity["pid"].is_u64() {
                self.one(entity);
            }
        }
    }

    fn one(&self, entity: &Value) {
        let pid = pid_of(entity);
        let (Some(name), Some(identity)) = (entity["name"].as_str(), entity["identity"].as_str())
        else {
            return;
        };
        let Ok(process) = Process::open(pid) else {
            return;
        };
        // Still the one that the daemon meant.
        if process::identity(pid).as_deref() == Some(identity)
            && process.is_alive()
            && process.signal(Signal::KILL).is_ok()
        {
            let mut all = self.all.lock().expect("no thread has panicked");
            all.entry(name.to_owned())
                .or_default()
                .insert(identity.to_owned());
        }
    }

    /// Compares with what the daemon tells, when everything is at rest: each
    /// death once, none beside them, and one instance of each entity. How many
    /// there were.
    ///
    /// # Panics
    ///
    /// When it is otherwise.
    pub fn compare(&self, daemon: &Daemon, names: &[String]) -> usize {
        let all = self.all.lock().expect("no thread has panicked");
        for name in names {
            let pid = daemon.up(name);
            let told = pins::deaths(daemon, name);
            let mut seen = BTreeSet::new();
            for (identity, _) in &told {
                assert!(seen.insert(identity.clone()), "{identity} twice: {told:#?}");
            }
            let killed = all.get(name).cloned().unwrap_or_default();
            let missing: Vec<_> = killed.difference(&seen).collect();
            assert!(missing.is_empty(), "{name}: not told: {missing:?}");
            let phantoms: Vec<_> = seen.difference(&killed).collect();
            assert!(phantoms.is_empty(), "{name}: nobody killed: {phantoms:?}");
            let untimed = told.iter().filter(|(_, at)| at.is_none()).count();
            assert_eq!(untimed, 0, "{name}: without the kernel's time: {told:#?}");
            assert_eq!(process::instances(name), [pid], "{name}");
        }
        all.values().map(BTreeSet::len).sum()
    }
}
