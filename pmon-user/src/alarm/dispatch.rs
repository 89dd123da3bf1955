//! From the engine's helpers to the receivers: a thread and a queue for each.
//!
//! An event is first submitted and then released, when what it says is on record,
//! so that the next daemon knows of every alarm that somebody may have heard of.
//! Must stay true: nobody who submits, releases or asks for the status waits for a
//! receiver; no lock is held while one is told.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    AlarmSink,
    event::AlarmEvent,
    queue::{Closed, Queue},
};
use crate::{causes::in_full, sys::clock};

/// The way to all receivers; cheap to clone.
#[derive(Clone)]
pub struct Dispatch(Arc<Shared>);

/// Which events may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Told when every receiver knows that an alarm is over.
type Settled = Box<dyn Fn(Closed) + Send + Sync>;

struct Shared {
    receivers: Vec<Arc<Receiver>>,
    submitted: Mutex<Submitted>,
    settled: Settled,
}

#[derive(Default)]
struct Submitted {
    next: u64,
    waiting: VecDeque<(u64, AlarmEvent)>,
}

/// One receiver, as others see it.
struct Receiver {
    name: String,
    /// At one event for longer, it is said to hang.
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: Queue,
    /// Since when it has been at one event.
    busy: Option<Instant>,
    closing: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dispatch {
    /// Starts a thread for each receiver. `told` is what an earlier daemon has
    /// told them and is not known to be over; `settled` is called with an alarm
    /// that was cleared, when all of them know.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub fn start(
        sinks: Vec<Box<dyn AlarmSink>>,
        told: &[AlarmEvent],
        settled: impl Fn(Closed) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let receiver = |sink: &dyn AlarmSink| {
            Arc::new(Receiver {
                name: sink.name(),
                patience: sink.patience(),
                state: Mutex::new(State {
                    queue: Queue::of(told),
                    busy: None,
                    closing: false,
                }),
                changed: Condvar::new(),
            })
        };
        let dispatch = Self(Arc::new(Shared {
            receivers: sinks.iter().map(|sink| receiver(&**sink)).collect(),
            submitted: Mutex::default(),
            settled: Box::new(settled),
        }));
        for (index, sink) in sinks.into_iter().enumerate() {
            let dispatch = dispatch.clone();
            thread::Builder::new()
                .name("pmon-alarm".to_owned())
                .spawn(move || {
                    if let Some(receiver) = dispatch.0.receivers.get(index) {
                        dispatch.serve(receiver, sink);
                    }
                })?;
        }
        Ok(dispatch)
    }

    /// Hands over events, in order. They are told once the ticket is released.
    #[must_use]
    pub fn submit(&self, events: Vec<AlarmEvent>) -> Ticket {
        let mut submitted = lock(&self.0.submitted);
        for event in events {
            let number = submitted.next;
            submitted.next += 1;
            submitted.waiting.push_back((number, event));
        }
        Ticket(submitted.next)
    }

    /// Everything submitted until then may be told. May be called more than once,
    /// and in any order.
    pub fn release(&self, until: Ticket) {
        // Held until all queues have them, so that they keep their order.
        let mut submitted = lock(&self.0.submitted);
        while (submitted.waiting.front()).is_some_and(|(number, _)| *number < until.0)
            && let Some((_, event)) = submitted.waiting.pop_front()
        {
            for receiver in &self.0.receivers {
                lock(&receiver.state).queue.push(event.clone());
                receiver.changed.notify_all();
            }
            if self.0.receivers.is_empty() {
                self.settle_unheard(&event);
            }
        }
    }

    /// With nobody to tell, everything has been told.
    fn settle_unheard(&self, event: &AlarmEvent) {
        let mut queue = Queue::default();
        if let Some(closed) = queue.heard(event) {
            (self.0.settled)(closed);
        }
    }

    /// What is wrong with receivers, for people.
    #[must_use]
    pub fn status(&self) -> Vec<String> {
        let now = Instant::now();
        let receivers = self.0.receivers.iter();
        receivers
            .filter_map(|receiver| receiver.problem(now))
            .collect()
    }

    /// No more events will come: waits until everybody has been told, but not
    /// longer than `patience`. What is not told until then is on record.
    pub fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for receiver in &self.0.receivers {
            let mut state = lock(&receiver.state);
            state.closing = true;
            receiver.changed.notify_all();
            while state.busy.is_some()
                || state.queue.waiting() > 0 && state.queue.failing().is_none()
            {
                let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                    break;
                };
                let waited = receiver.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// The receiver's thread.
    fn serve(&self, receiver: &Receiver, mut sink: Box<dyn AlarmSink>) {
        let mut state = lock(&receiver.state);
        loop {
            let now = Instant::now();
            if let Some(event) = state.queue.next(now) {
                state.busy = Some(now);
                drop(state);
                let outcome = sink.deliver(&event);
                state = lock(&receiver.state);
                state.busy = None;
                let was_failing = state.queue.failing().is_some();
                let closed = match outcome {
                    Ok(()) => {
                        if was_failing {
                            tracing::info!("{} takes alarms again", receiver.name);
                        }
                        state.queue.heard(&event)
                    }
                    Err(error) => {
                        let why = in_full(&error);
                        if !was_failing {
                            tracing::warn!("{} was not told of an alarm: {why}", receiver.name);
                        }
                        state
                            .queue
                            .failed(event, why, Timestamp::now(), Instant::now());
                        None
                    }
                };
                receiver.changed.notify_all();
                if let Some(closed) = closed {
                    drop(state);
                    self.heard_of_the_end(closed);
                    state = lock(&receiver.state);
                }
                continue;
            }
            if state.closing {
                return;
            }
            let retry = (state.queue.retry_at()).map(|at| at.saturating_duration_since(now));
            let retry = retry.filter(|pause| !pause.is_zero());
            // Whatever it fails at, it is not tried before that.
            let due = sink.due().map(|due| due.since(clock::now()));
            let due = due.filter(|_| retry.is_none());
            if due == Some(Duration::ZERO) {
                state.busy = Some(now);
                drop(state);
                let outcome = sink.tick(clock::now());
                state = lock(&receiver.state);
                state.busy = None;
                match outcome {
                    Ok(()) => state.queue.succeeded(),
                    Err(error) => {
                        let why = in_full(&error);
                        state.queue.fail(why, Timestamp::now(), Instant::now());
                    }
                }
                continue;
            }
            state = match [due, retry].into_iter().flatten().min() {
                Some(pause) => {
                    let waited = receiver.changed.wait_timeout(state, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = receiver.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn heard_of_the_end(&self, closed: Closed) {
        let owed = |receiver: &Arc<Receiver>| {
            let queue = &lock(&receiver.state).queue;
            queue.owes(closed.kind, &closed.instance)
        };
        if !self.0.receivers.iter().any(owed) {
            (self.0.settled)(closed);
        }
    }
}

impl Receiver {
    fn problem(&self, now: Instant) -> Option<String> {
        let State {
            queue,
            busy,
            closing: _,
        } = &*lock(&self.state);
        let name = &self.name;
        let waiting = queue.waiting();
        if let Some(busy) = busy.map(|since| now.saturating_duration_since(since))
            && busy > self.patience
        {
            let seconds = busy.as_secs();
            return Some(format!(
                "{name} hangs: it has been at one alarm for {seconds} s; {waiting} events wait"
            ));
        }
        if let Some(failing) = queue.failing() {
            return Some(format!(
                "{name} is not told of alarms since {}: {}; it is tried again, and told \
                 everything that is so then",
                failing.since, failing.why
            ));
        }
        (queue.overruns() > 0 && waiting > 0)
            .then(|| format!("{name} is too slow for all events; it is told what they have led to"))
    }
}

#[cfg(test)]
#[path = "tests/dispatch.rs"]
mod tests;
