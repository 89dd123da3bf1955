//! The petting: a thread of its own that tells hostwd and hbsClient that this
//! host has a living process monitor, from the very start on.
//!
//! Must stay true: it waits for nothing but its own clock, and it says nothing
//! that it does not know: what it tells is proven by the core's answers
//! (`liveness`), not by its own running. What is sent is `watchdog`'s and
//! `pulse`'s. (Field stories S3, S20 and S22 of spec/pmond.md.)

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    daemon_config::PmondConfig,
    liveness::{Belief, Liveness},
    message,
    pulse::Pulse,
    troubles::{Concern, Troubles},
    watchdog::Watchdog,
};
use crate::{alarm::health::HostHealth, core::time::Time, sys::clock};

/// hostwd is told this often during `start_delay`, and tried this often while it
/// cannot be told.
const SECOND: Duration = Duration::from_secs(1);

/// Somebody who can prove that he lives.
pub trait Core: Send {
    /// Has the proof given by who is to be proven alive. Never blocks.
    fn ask(&self, proof: Proof);
}

/// A question; answering it is the proof.
#[derive(Clone, Debug)]
pub struct Proof {
    question: u64,
    answers: Arc<AtomicU64>,
}

impl Proof {
    /// To be called by the thread in question, and by nobody for it.
    pub fn give(&self) {
        self.answers.fetch_max(self.question, Ordering::Release);
    }
}

/// When what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Between pulses.
    pub pulse: Duration,
    /// Between messages to hostwd.
    pub watchdog: Duration,
    /// How long after the start hostwd is told every second, and how long the
    /// start may take.
    pub start_delay: Duration,
}

impl From<&PmondConfig> for Cadence {
    fn from(config: &PmondConfig) -> Self {
        Self {
            pulse: config.audit_period,
            watchdog: config.hostwd_update_period,
            start_delay: config.start_delay,
        }
    }
}

/// Whom to tell.
#[derive(Debug)]
pub struct Receivers {
    /// hostwd.
    pub watchdog: Watchdog,
    /// hbsClient.
    pub pulse: Pulse,
}

impl Receivers {
    /// Those of the host.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn of(config: &PmondConfig) -> io::Result<Self> {
        Ok(Self {
            watchdog: Watchdog::new()?,
            pulse: Pulse::new(config.pulse_port)?,
        })
    }
}

enum Order {
    Attach(Box<dyn Core>, HostHealth),
    Stop,
}

/// The thread.
#[derive(Debug)]
pub struct Petting {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

impl Petting {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn start(cadence: Cadence, receivers: Receivers, troubles: Troubles) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("pmon-petting".to_owned())
            .spawn(move || {
                let now = clock::now();
                Thread {
                    rounds: Rounds::new(cadence, now),
                    liveness: Liveness::starting(now + cadence.start_delay),
                    answers: Arc::default(),
                    receivers,
                    troubles,
                    attached: None,
                }
                .run(&inbox);
            })?;
        Ok(Self { orders, thread })
    }

    /// From now on this core has to answer, and this is how the host is.
    pub fn attach(&self, core: Box<dyn Core>, health: HostHealth) {
        // The thread ends only with us.
        let _sent: Result<(), _> = self.orders.send(Order::Attach(core, health));
    }

    /// Ends it, with a last message if all is well: then who starts pmon anew has
    /// all the time that hostwd allows.
    pub fn stop(self) {
        let _sent: Result<(), _> = self.orders.send(Order::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the petting did not end in order");
        }
    }
}

/// What is due when. Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rounds {
    cadence: Cadence,
    /// End of the start delay.
    started: Time,
    pulse_due: Time,
    watchdog_due: Time,
    /// The failure that hostwd has been told of.
    told: Option<Arc<str>>,
}

impl Rounds {
    /// The first of everything is due at once.
    fn new(cadence: Cadence, now: Time) -> Self {
        Self {
            cadence,
            started: now + cadence.start_delay,
            pulse_due: now,
            watchdog_due: now,
            told: None,
        }
    }

    const fn pulse_is_due(&self, now: Time) -> bool {
        self.pulse_due.as_boot_ns() <= now.as_boot_ns()
    }

    fn pulsed(&mut self, now: Time) {
        self.pulse_due = now + self.cadence.pulse;
    }

    /// A failure does not wait for its turn, nor does its end.
    fn watchdog_is_due(&self, failure: Option<&Arc<str>>, now: Time) -> bool {
        self.watchdog_due <= now || self.told.as_ref() != failure
    }

    fn watchdog_told(&mut self, sent: bool, failure: Option<Arc<str>>, now: Time) {
        let pause = if !sent || now < self.started {
            SECOND
        } else {
            self.cadence.watchdog
        };
        // In time with what was meant, unless that was missed.
        let next = self.watchdog_due + pause;
        self.watchdog_due = if next > now { next } else { now + pause };
        self.told = failure;
    }

    /// When something may be due. While nobody may be told, the core is asked in
    /// the pulse's time all the same.
    fn wake_at(&self, now: Time) -> Time {
        let next = self.pulse_due.min(self.watchdog_due);
        if next > now {
            next
        } else {
            now + self.cadence.pulse
        }
    }
}

struct Thread {
    rounds: Rounds,
    liveness: Liveness,
    answers: Arc<AtomicU64>,
    receivers: Receivers,
    troubles: Troubles,
    attached: Option<(Box<dyn Core>, HostHealth)>,
}

impl Thread {
    fn run(&mut self, orders: &mpsc::Receiver<Order>) {
        loop {
            self.round();
            let now = clock::now();
            let pause = self.rounds.wake_at(now).since(now);
            match orders.recv_timeout(pause) {
                Ok(Order::Attach(core, health)) => {
                    self.attached = Some((core, health));
                    self.liveness.begin();
                }
                Ok(Order::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return self.last_words();
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn round(&mut self) {
        let now = clock::now();
        self.liveness.answered(self.answers.load(Ordering::Acquire));
        if let Some((core, _)) = &self.attached
            && let Some(question) = self.liveness.ask(now)
        {
            let answers = Arc::clone(&self.answers);
            core.ask(Proof { question, answers });
        }
        if !self.is_believed(now) {
            return;
        }
        if self.rounds.pulse_is_due(now) {
            let sent = self.receivers.pulse.send();
            let trouble = sent.err().map(|error| error.to_string());
            self.troubles.report(Concern::Pulse, trouble);
            self.rounds.pulsed(now);
        }
        let failure = self.failure();
        if self.rounds.watchdog_is_due(failure.as_ref(), now) {
            self.tell_watchdog(failure, now);
        }
    }

    fn is_believed(&self, now: Time) -> bool {
        match self.liveness.belief(now) {
            Belief::Alive => {
                self.troubles.report(Concern::Core, None);
                true
            }
            Belief::Doubtful { why } => {
                self.troubles.report(Concern::Core, Some(why.to_owned()));
                false
            }
        }
    }

    /// The quorum member with whose failure the host is beyond recovery.
    fn failure(&self) -> Option<Arc<str>> {
        let (_, health) = self.attached.as_ref()?;
        health.read().unrecoverable.clone()
    }

    fn tell_watchdog(&mut self, failure: Option<Arc<str>>, now: Time) {
        let message = message::watchdog(failure.as_deref());
        let sent = self.receivers.watchdog.send(&message);
        let trouble = sent.as_ref().err().map(ToString::to_string);
        self.troubles.report(Concern::Watchdog, trouble);
        self.rounds.watchdog_told(sent.is_ok(), failure, now);
    }

    fn last_words(&mut self) {
        let now = clock::now();
        if self.liveness.belief(now) == Belief::Alive {
            self.tell_watchdog(self.failure(), now);
        }
    }
}

#[cfg(test)]
#[path = "tests/petting.rs"]
mod tests;
