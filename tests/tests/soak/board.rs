//! What `pmon status` says of all entities, read again and again by one thread
//! for all testers; and the deaths that `pmon history` has.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pmon_tests::{
    daemon::{answer, client},
    wait::patience,
};
use serde_json::Value;

use crate::ledger::Ledger;

/// An operation that takes longer is stuck: far beyond what a source's failure
/// and a daemon's restart take together on a busy machine.
const STUCK: Duration = Duration::from_secs(120);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(40);
/// The daemon remembers a thousand incidents, far more than happen in between.
const HISTORY: Duration = Duration::from_secs(2);

/// One answer of the daemon.
#[derive(Default)]
struct Snapshot {
    /// Rises with each.
    number: u64,
    /// Of the daemon that answered.
    daemon: u64,
    entities: HashMap<String, Value>,
}

/// See the module.
pub(crate) struct Board {
    socket: PathBuf,
    snapshot: Mutex<Snapshot>,
    news: Condvar,
    stopped: AtomicBool,
}

/// An entity that rests, healthy and registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Up {
    /// Its process.
    pub(crate) pid: u32,
    /// The daemon that says so.
    pub(crate) daemon: u64,
}

impl Board {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            snapshot: Mutex::default(),
            news: Condvar::new(),
            stopped: AtomicBool::new(false),
        }
    }

    /// What a client says to these arguments: exit code and stderr.
    pub(crate) fn ask(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let answer = answer(&mut client(&self.socket, arguments));
        (answer.code, answer.stderr)
    }

    /// Reads until told to stop.
    pub(crate) fn watch(&self, ledger: &Ledger) {
        let mut history = Instant::now();
        while !self.stopped.load(Ordering::Acquire) {
            self.read_status();
            if history.elapsed() > HISTORY {
                self.read_history(ledger);
                history = Instant::now();
            }
            thread::sleep(PAUSE);
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Has the watch end with the guard, also when a test fails.
    pub(crate) fn stop_when_dropped(&self) -> impl Drop + use<'_> {
        struct Guard<'a>(&'a Board);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        Guard(self)
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A daemon that was killed says nothing; the next one will.
    fn read_status(&self) {
        let answer = answer(&mut client(&self.socket, &["status", "-o", "json"]));
        let Ok(status) = serde_json::from_str::<Value>(&answer.stdout) else {
            return;
        };
        let Some(entities) = status["entities"].as_array() else {
            return;
        };
        let mut snapshot = self.lock();
        snapshot.number += 1;
        snapshot.daemon = status["daemon"]["pid"].as_u64().unwrap_or_default();
        snapshot.entities = entities
            .iter()
            .filter_map(|entity| Some((entity["name"].as_str()?.to_owned(), entity.clone())))
            .collect();
        self.news.notify_all();
    }

    fn read_history(&self, ledger: &Ledger) {
        let answer = answer(&mut client(&self.socket, &["history", "-o", "json"]));
        if let Ok(history) = serde_json::from_str::<Value>(&answer.stdout) {
            ledger.told(&history);
        }
    }

    /// Waits until every kill has been told, as far as that takes time.
    pub(crate) fn settle(&self, ledger: &Ledger) {
        let limit = Instant::now() + STUCK * patience();
        while !ledger.verdict().lost.is_empty() && Instant::now() < limit {
            self.read_history(ledger);
            thread::sleep(HISTORY);
        }
    }

    /// Waits until the entity rests, healthy and registered, as `wanted`, by an
    /// answer that was given after this call.
    pub(crate) fn up(&self, name: &str, what: &str, wanted: impl Fn(Up) -> bool) -> Up {
        let mut snapshot = self.lock();
        // The next answer may have been on its way.
        let fresh = snapshot.number + 2;
        let limit = Instant::now() + STUCK * patience();
        loop {
            if snapshot.number >= fresh
                && let Some(up) = is_up(&snapshot, name)
                && wanted(up)
            {
                return up;
            }
            let left = limit.saturating_duration_since(Instant::now());
            assert!(!self.stopped.load(Ordering::Acquire), "the soak has failed");
            assert!(
                !left.is_zero(),
                "stuck: `{name}` {what}: {:#}",
                snapshot.entities.get(name).unwrap_or(&Value::Null)
            );
            let waited = self.news.wait_timeout(snapshot, left.min(HISTORY));
            snapshot = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn is_up(snapshot: &Snapshot, name: &str) -> Option<Up> {
    let entity = snapshot.entities.get(name)?;
    let rests = entity["state"] == "up" && entity["registered"] == true;
    let pid = entity["pid"].as_u64()?.try_into().ok()?;
    rests.then_some(Up {
        pid,
        daemon: snapshot.daemon,
    })
}
