//! The event stream of a daemon, read by a thread as `pmon events -f` tells it.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    daemon::{Daemon, LONG, answer, client},
    wait::patience,
};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Rises by one per event.
    pub seq: u64,
    /// RFC 3339.
    pub at: String,
    /// Snake case.
    pub kind: String,
    /// Whose.
    pub entity: Option<String>,
    /// Which process.
    pub pid: Option<u32>,
    /// Which incident.
    pub incident: Option<u64>,
    /// Not verified yet.
    pub early: bool,
    /// Of a death, where known.
    pub died_at: Option<String>,
    /// Of a death, where known.
    pub detect_latency_us: Option<u64>,
    /// For people.
    pub text: String,
}

impl Event {
    /// Whether it is this kind of event of this entity.
    #[must_use]
    pub fn is(&self, entity: &str, kind: &str) -> bool {
        self.entity.as_deref() == Some(entity) && self.kind == kind
    }
}

/// See the module.
#[derive(Debug)]
pub struct Events {
    reader: Child,
    heard: Arc<Heard>,
    socket: PathBuf,
}

#[derive(Debug, Default)]
struct Heard {
    events: Mutex<Vec<Event>>,
    news: Condvar,
    /// The daemon has ended, and with it the stream.
    ended: AtomicBool,
}

impl Events {
    /// Everything this daemon has told (of the last 1,000) and will tell, early
    /// events included.
    #[must_use]
    pub fn of(daemon: &Daemon) -> Self {
        Self::asked_with(daemon, &["--early"])
    }

    /// What `pmon events -f` tells with these further arguments.
    ///
    /// # Panics
    ///
    /// When the stream cannot be had.
    #[must_use]
    pub fn asked_with(daemon: &Daemon, arguments: &[&str]) -> Self {
        let all = ["events", "-f", "-n", "1000", "-o", "jsonl"];
        let mut reader = daemon
            .client(&[&all, arguments].concat())
            .stdout(Stdio::piped())
            // Says that the daemon ended, in the end.
            .stderr(Stdio::null())
            .spawn()
            .expect("pmon runs");
        let stdout = reader.stdout.take().expect("piped");
        let heard = Arc::new(Heard::default());
        let telling = Arc::clone(&heard);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else {
                    eprintln!("not an event: {line}");
                    continue;
                };
                let mut events = lock(&telling.events);
                events.push(event);
                telling.news.notify_all();
            }
            telling.ended.store(true, Ordering::Release);
            telling.news.notify_all();
        });
        Self {
            reader,
            heard,
            socket: daemon.socket().to_owned(),
        }
    }

    /// Waits until everything has been heard that the daemon has told by now: the
    /// stream comes through another process and may lag behind a reply. A daemon
    /// that has ended tells nothing more.
    fn catch_up(&self) {
        let arguments = ["events", "-n", "1", "-o", "jsonl"];
        let newest = answer(&mut client(&self.socket, &arguments)).stdout;
        let Ok(Event { seq: newest, .. }) = serde_json::from_str(&newest) else {
            return;
        };
        let behind = |events: &mut Vec<Event>| {
            !self.heard.ended.load(Ordering::Acquire)
                && events.last().is_none_or(|last| last.seq < newest)
        };
        let events = lock(&self.heard.events);
        let limit = LONG * patience();
        let waited = self.heard.news.wait_timeout_while(events, limit, behind);
        let (events, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(events);
        assert!(
            !waited.timed_out(),
            "the event stream stopped before {newest}"
        );
    }

    /// Everything told so far.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.catch_up();
        lock(&self.heard.events).clone()
    }

    /// Those that match.
    #[must_use]
    pub fn matching(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        self.catch_up();
        let events = lock(&self.heard.events);
        events
            .iter()
            .filter(|event| wanted(event))
            .cloned()
            .collect()
    }

    /// How many events of a kind an entity had.
    #[must_use]
    pub fn count(&self, entity: &str, kind: &str) -> usize {
        self.matching(|event| event.is(entity, kind)).len()
    }

    /// How many events were told: a place to wait from.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.catch_up();
        lock(&self.heard.events).len()
    }

    /// The first event after `mark` that matches, waited for.
    ///
    /// # Panics
    ///
    /// With what was heard instead when there is none within `limit`.
    pub fn after(
        &self,
        mark: usize,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Event {
        let limit = limit * patience();
        let deadline = Instant::now() + limit;
        let mut looked_at = mark;
        let mut events = lock(&self.heard.events);
        loop {
            let new = events.get(looked_at..).unwrap_or_default();
            if let Some(event) = new.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            looked_at = events.len().max(mark);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let heard: Vec<_> = events.iter().skip(mark).map(line).collect();
                drop(events);
                panic!(
                    "waited {limit:?} in vain: {what}; heard:\n{}",
                    heard.join("\n")
                );
            }
            events = self
                .heard
                .news
                .wait_timeout(events, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// An event in one line, for failure messages.
#[must_use]
pub fn line(event: &Event) -> String {
    format!(
        "{} {} {}: {}",
        event.at,
        event.entity.as_deref().unwrap_or("-"),
        event.kind,
        event.text
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Events {
    fn drop(&mut self) {
        // Ended already when the daemon is.
        self.reader.kill().ok();
        self.reader.wait().ok();
    }
}
