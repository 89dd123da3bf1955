//! Active monitoring of one process: requests, answers, misses and what
//! follows from them (spec/pmond.md §4.3, §4.4), as a pure function.
//!
//! # States, in prose
//!
//! * **Rest** — nobody is asked: there is no process, or it is being replaced.
//! * **Asking** — a request was given away, and it is not known yet whether it
//!   went out. That has no deadline: while the port of the answers is not ours,
//!   nothing goes out, and nothing is missed.
//! * **Waiting** — the request is out, and its window of `timeout` is open.
//! * **Answered** — an answer has come, right or wrong; the rest of the window
//!   is a pause. The cadence is therefore `timeout`, not `period`.
//! * **Collecting** — the window closed without an answer. Whoever receives
//!   them is asked for what has arrived and was not read yet, so that a busy
//!   host cannot make an answer a miss. Only when there is none it is one.
//! * **Gap** — the request could not be sent; the next one follows `period`
//!   later.
//!
//! # What must stay true
//!
//! * `threshold` misses in a row are a failure. Silence of a process that has
//!   never answered since it was started, or since it last failed, is forgiven
//!   until its misses reach 180 s divided by `period`: it may still be coming up.
//! * A wrong sequence number is a miss at once, and never forgiven. A right one
//!   ends the misses.
//! * While host initialisation is waited for (`full_init_required`), silence is
//!   no miss.
//! * After a failure, only `period` in seconds plus one right answers make it
//!   good. (FIX: the original counted wrong ones as well, by which a process
//!   that answers nothing but nonsense would be called good between its
//!   failures, and its failures would never add up.)

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{entity::ActiveSpec, identity::Identity, time::Time};

/// Until a process has answered for the first time, so much silence is forgiven:
/// as many misses as `period` goes into it (spec/pmond.md §4.3).
const STARTUP: Duration = Duration::from_secs(180);

/// The last sequence number before 1 comes again: responses write it signed
/// (`%d`, spec/pmond.md §4.1). 0 is none: the original takes it for "no answer".
const LAST_SEQUENCE: u32 = i32::MAX.cast_unsigned();

/// Misses in a row from which on people are told of each (spec/pmond.md §4.3).
pub const TOLD_FROM: u32 = 3;

/// Active monitoring of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    state: State,
    /// Who is asked.
    process: Option<Identity>,
    /// Number of the last request since the daemon started: tells what belongs
    /// to it from what is late.
    round: u64,
    /// Sequence number of the last request; restarts with every process.
    sequence: u32,
    misses: u32,
    /// It has answered since it was started or last failed.
    answered: bool,
    /// Who is known to have answered an earlier daemon.
    answered_before: Option<Identity>,
    /// Right answers that are still wanted after a failure.
    wanted: Option<u64>,
    counts: Counts,
    last_request: Option<Time>,
    last_answer: Option<Time>,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Rest,
    Asking,
    Waiting {
        until: Time,
    },
    Answered {
        until: Time,
    },
    Collecting,
    Gap {
        until: Time,
    },
}

/// What has been counted since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that went out.
    pub requests: u64,
    /// Answers with the right sequence number.
    pub answers: u64,
    /// Misses of every kind.
    pub misses: u64,
    /// Answers with a wrong sequence number; each is a miss.
    pub wrong_sequence: u64,
    /// Requests that could not be sent; each is a miss.
    pub unsent: u64,
    /// Failures: so many misses in a row.
    pub failures: u64,
}

/// What can happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PulseEvent {
    /// It went out.
    Sent {
        /// Which.
        round: u64,
    },
    /// It could not be sent.
    NotSent {
        /// Which.
        round: u64,
        /// Why, with the errno's name.
        reason: String,
    },
    /// The process answered for the first time since that request, under its own
    /// name and with the right magic.
    Answered {
        /// Since which.
        round: u64,
        /// The sequence number in the answer.
        sequence: u32,
    },
    /// Everything that had arrived was read, and there was no answer.
    Silent {
        /// To which.
        round: u64,
        /// The host is fully initialised, as far as that was asked for.
        initialised: bool,
    },
    /// Whether there was an answer cannot be known.
    Unheard {
        /// To which.
        round: u64,
    },
}

/// What is to be done or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Send a request.
    Request { round: u64, sequence: u32 },
    /// Read what has arrived, and say whether there is an answer.
    Collect { round: u64 },
    /// A miss that people should know of.
    Missed { misses: u32, why: String },
    /// It has failed: so many misses in a row.
    Failed { misses: u32 },
    /// It has answered often enough after a failure.
    Good,
}

impl Pulse {
    /// Who is asked.
    pub(super) const fn process(&self) -> Option<Identity> {
        self.process
    }

    /// This process has answered an earlier daemon.
    pub(super) const fn recall_answers(&mut self, process: Identity) {
        self.answered_before = Some(process);
    }

    /// Whether the one who is asked has answered.
    pub(super) fn has_answered(&self) -> bool {
        match self.process {
            Some(_) => self.answered,
            // Nobody has been asked yet.
            None => self.answered_before.is_some(),
        }
    }

    /// Asks nobody any more.
    pub(super) fn rest(&mut self) {
        self.state = State::Rest;
        self.process = None;
        self.misses = 0;
        self.wanted = None;
    }

    /// Begins with a process. After a failure it has to prove itself.
    pub(super) fn begin(
        &mut self,
        active: &ActiveSpec,
        process: Identity,
        after_failure: bool,
    ) -> Vec<Outcome> {
        self.process = Some(process);
        self.sequence = 0;
        self.misses = 0;
        // Nobody else can take that pid and start time.
        let before = self.answered_before.take();
        self.answered = before == Some(process) && !after_failure;
        self.last_request = None;
        self.last_answer = None;
        self.wanted = after_failure.then(|| Self::answers_wanted(active));
        vec![self.request()]
    }

    /// A request has come to something.
    pub(super) fn step(
        &mut self,
        active: &ActiveSpec,
        event: PulseEvent,
        now: Time,
    ) -> Vec<Outcome> {
        match event {
            PulseEvent::Sent { round } => self.sent(active, round, now),
            PulseEvent::NotSent { round, reason } => {
                return self.not_sent(active, round, &reason, now);
            }
            PulseEvent::Answered { round, sequence } => {
                return self.heard(active, round, sequence, now);
            }
            PulseEvent::Silent { round, initialised } => {
                return self.silent(active, round, initialised);
            }
            PulseEvent::Unheard { round } => {
                if self.state == State::Collecting && self.round == round {
                    return vec![self.request()];
                }
            }
        }
        Vec::new()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) -> Vec<Outcome> {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Collecting;
                vec![Outcome::Collect { round: self.round }]
            }
            State::Answered { until } | State::Gap { until } if until <= now => {
                vec![self.request()]
            }
            State::Rest
            | State::Asking
            | State::Waiting { .. }
            | State::Answered { .. }
            | State::Collecting
            | State::Gap { .. } => Vec::new(),
        }
    }

    /// When [`Pulse::tick`] is due.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Waiting { until } | State::Answered { until } | State::Gap { until } => {
                Some(until)
            }
            State::Rest | State::Asking | State::Collecting => None,
        }
    }

    fn request(&mut self) -> Outcome {
        self.round += 1;
        self.sequence = self.sequence % LAST_SEQUENCE + 1;
        self.state = State::Asking;
        Outcome::Request {
            round: self.round,
            sequence: self.sequence,
        }
    }

    fn sent(&mut self, active: &ActiveSpec, round: u64, now: Time) {
        if self.state == State::Asking && self.round == round {
            self.counts.requests += 1;
            self.last_request = Some(now);
            self.state = State::Waiting {
                until: now + active.timeout,
            };
        }
    }

    fn not_sent(
        &mut self,
        active: &ActiveSpec,
        round: u64,
        reason: &str,
        now: Time,
    ) -> Vec<Outcome> {
        if self.state != State::Asking || self.round != round {
            return Vec::new();
        }
        self.counts.unsent += 1;
        self.state = State::Gap {
            until: now + active.period,
        };
        self.missed(active, false, format!("a request cannot be sent: {reason}"))
    }

    fn heard(&mut self, active: &ActiveSpec, round: u64, sequence: u32, now: Time) -> Vec<Outcome> {
        let until = match self.state {
            State::Waiting { until } if self.round == round => until,
            State::Collecting if self.round == round => now,
            State::Rest
            | State::Asking
            | State::Waiting { .. }
            | State::Answered { .. }
            | State::Collecting
            | State::Gap { .. } => return Vec::new(),
        };
        self.answered = true;
        self.state = State::Answered { until };
        if sequence != self.sequence {
            self.counts.wrong_sequence += 1;
            let wanted = self.sequence;
            let why = format!("its answer has sequence number {sequence}, not {wanted}");
            return self.missed(active, false, why);
        }
        self.counts.answers += 1;
        self.last_answer = Some(now);
        self.misses = 0;
        let Some(wanted) = &mut self.wanted else {
            return Vec::new();
        };
        *wanted = wanted.saturating_sub(1);
        if *wanted > 0 {
            return Vec::new();
        }
        self.wanted = None;
        vec![Outcome::Good]
    }

    fn silent(&mut self, active: &ActiveSpec, round: u64, initialised: bool) -> Vec<Outcome> {
        if self.state != State::Collecting || self.round != round {
            return Vec::new();
        }
        let mut outcomes = Vec::new();
        if initialised || !active.full_init_required {
            let may_be_starting = !self.answered;
            let why = format!("no answer within {:?}", active.timeout);
            outcomes = self.missed(active, may_be_starting, why);
        }
        if self.process.is_some() {
            outcomes.push(self.request());
        }
        outcomes
    }

    fn missed(&mut self, active: &ActiveSpec, may_be_starting: bool, why: String) -> Vec<Outcome> {
        self.misses = self.misses.saturating_add(1);
        self.counts.misses += 1;
        let misses = self.misses;
        let mut outcomes = Vec::new();
        if misses >= TOLD_FROM {
            outcomes.push(Outcome::Missed { misses, why });
        }
        let forgiven = may_be_starting && misses < forgiven_at_start(active);
        if misses >= active.threshold && !forgiven {
            self.counts.failures += 1;
            self.rest();
            outcomes.push(Outcome::Failed { misses });
        }
        outcomes
    }

    /// Right answers that make a failure good.
    #[must_use]
    pub const fn answers_wanted(active: &ActiveSpec) -> u64 {
        active.period.as_secs() + 1
    }

    /// Misses in a row.
    #[must_use]
    pub const fn misses(&self) -> u32 {
        self.misses
    }

    /// Misses in a row with which it fails.
    #[must_use]
    pub fn fails_at(&self, active: &ActiveSpec) -> u32 {
        if self.answered {
            active.threshold
        } else {
            active.threshold.max(forgiven_at_start(active))
        }
    }

    /// Whether anybody is asked.
    #[must_use]
    pub const fn is_asking(&self) -> bool {
        self.process.is_some()
    }

    /// Sequence number of the last request; 0 before the first.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// When the last request went out.
    #[must_use]
    pub const fn last_request(&self) -> Option<Time> {
        self.last_request
    }

    /// When the last right answer came.
    #[must_use]
    pub const fn last_answer(&self) -> Option<Time> {
        self.last_answer
    }

    /// Right answers that are still wanted after a failure.
    #[must_use]
    pub const fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// What has been counted.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

/// Misses in a row that the silence of a process that has never answered is
/// forgiven until: 36 with a period of 5 s.
fn forgiven_at_start(active: &ActiveSpec) -> u32 {
    let period = active.period.as_nanos().max(1);
    u32::try_from(STARTUP.as_nanos() / period).unwrap_or(u32::MAX)
}
