//! Status monitoring of one entity: when its script is asked for the status,
//! when it is told to start, and what came of it (spec/pmond.md §5.2), as a pure
//! function. What a failure means for alarms is decided in `core::recovery`.
//!
//! # States, in prose
//!
//! * **Rest** — nobody is asked: the entity is not in status mode, or an operator
//!   took it out of monitoring.
//! * **Begin** — nothing runs; `period` has to pass until the next question. The
//!   first one comes a whole period after the entity was configured, because at
//!   boot somebody else may still be starting the service (field story S18).
//! * **ExecuteStatus** — `period` is over: the script is run with `status_arg`.
//!   Takes no time.
//! * **ExecuteStatusWait** — it runs, for `timeout` at most. Exit code 0 is good and
//!   leads to *Begin*; everything else (another code, a signal, a deadline missed,
//!   a script that cannot be executed) is bad and leads to *StartDue*.
//! * **StartDue** — a start is due and needs leave: of the host's gates, of what
//!   restrains the entity, of its turn. Nearly always that is given in the same moment, and
//!   *ExecuteStart* follows. If not, the status is asked again after a period, or
//!   when leave is given: a start that had to wait is made only if the status is
//!   still bad.
//! * **ExecuteStart** — the script is run with `start_arg`. Takes no time.
//! * **ExecuteStartWait** — it runs, for `timeout` at most. Well ended, it leads to
//!   *Begin*, so that the next question comes a period later; otherwise to
//!   *IntervalWait*.
//! * **IntervalWait** — the start failed; after `interval` follows *StartDue*. With
//!   a back-off the status is asked meanwhile (*Begin*), because somebody else may
//!   have started it long before a long pause is over.
//!
//! # What must stay true
//!
//! * At most one script of an entity runs at a time; the status is never asked
//!   before a start has ended.
//! * What is told of a run that is not the last one changes nothing.
//! * Nothing is started here: that is `core::recovery::status_start`'s decision.

use std::time::Duration;

use super::{effect::ScriptTask, entity::StatusSpec, time::Time};

/// Between a failed start and the next one there is a second at least, whatever
/// `interval` says: a script that is gone fails in no time. (FIX: the original
/// starts anew in the same moment with `interval = 0`.)
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Status monitoring of one entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusMonitor {
    state: State,
    /// Number of the last run.
    run: u64,
    last_status: Option<Run>,
    last_start: Option<Run>,
    counts: Counts,
    /// The question that is being asked is an operator's, who wants it to run.
    wished: bool,
    /// Before then nothing is started but for operators.
    restrained_until: Option<Time>,
}

/// See the module. The two states that take no time are transitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody is asked.
    #[default]
    Rest,
    /// The next question comes then.
    Begin {
        /// End of `period`.
        until: Time,
    },
    /// The status script runs.
    ExecuteStatusWait {
        /// Since then.
        since: Time,
    },
    /// The start script runs.
    ExecuteStartWait {
        /// Since then.
        since: Time,
        /// It runs because the status was bad, which is not accounted for yet.
        status_failed: bool,
    },
    /// The next start comes then.
    IntervalWait {
        /// End of `interval`.
        until: Time,
    },
    /// A start is due and waits for leave.
    StartDue {
        /// The status is asked again then.
        until: Time,
        /// It is due because the status was bad, which is not accounted for yet.
        status_failed: bool,
    },
}

/// A run of the script that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// When it began.
    pub began: Time,
    /// How long it took.
    pub took: Duration,
    /// Exit code 0, or how it ended instead.
    pub result: Result<(), String>,
}

/// What has been counted since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times the status was asked.
    pub asked: u64,
    /// Of these, times it was bad.
    pub bad: u64,
    /// Starts.
    pub starts: u64,
    /// Of these, those that failed.
    pub failed_starts: u64,
}

/// What is to be done or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Run the script.
    Execute { task: ScriptTask, run: u64 },
    /// The status is good.
    Good,
    /// The status is bad; `wished` when an operator wants it to run.
    Bad { reason: String, wished: bool },
    /// A start is due, if it is given leave.
    StartDue,
    /// A start ended; it counts as a failure if it failed or the status was bad.
    StartEnded {
        failed: Option<String>,
        status_failed: bool,
    },
}

impl StatusMonitor {
    /// The next question comes a period from now.
    pub(super) fn begin(&mut self, status: &StatusSpec, now: Time) {
        let usual = now + status.period;
        let until = match self.restrained_until {
            Some(until) if now < until => until.min(usual),
            Some(_) | None => usual,
        };
        self.state = State::Begin { until };
    }

    /// Nothing is to be started before then; the status is asked meanwhile.
    pub(super) fn restrain(&mut self, status: &StatusSpec, until: Time, now: Time) {
        self.restrained_until = Some(until);
        self.begin(status, now);
    }

    /// The same as an earlier daemon left it.
    pub(super) const fn resume_restraint(&mut self, until: Time) {
        self.restrained_until = Some(until);
    }

    /// Before when nothing is to be started, be that over or not.
    pub(super) const fn restraint(&self) -> Option<Time> {
        self.restrained_until
    }

    /// It may be started as soon as that is due.
    pub(super) const fn release(&mut self) {
        self.restrained_until = None;
    }

    /// Whether nothing is to be started yet.
    pub(super) fn is_restrained(&self, now: Time) -> bool {
        self.restrained_until.is_some_and(|until| now < until)
    }

    fn start_is_due(&mut self, status: &StatusSpec, status_failed: bool, now: Time) -> Outcome {
        self.state = State::StartDue {
            until: now + status.period,
            status_failed,
        };
        Outcome::StartDue
    }

    /// The status is asked now for an operator, who wants it to run.
    pub(super) fn ask_for_operator(&mut self, now: Time) -> Outcome {
        let outcome = self.ask(now);
        self.wished = true;
        outcome
    }

    /// The start that is due is given leave.
    pub(super) fn start_that_is_due(&mut self, now: Time) -> Option<Outcome> {
        match self.state {
            State::StartDue { status_failed, .. } => Some(self.start(status_failed, now)),
            State::Rest
            | State::Begin { .. }
            | State::ExecuteStatusWait { .. }
            | State::ExecuteStartWait { .. }
            | State::IntervalWait { .. } => None,
        }
    }

    /// `period` may be another one: the next question comes no later than it says.
    pub(super) fn reconfigured(&mut self, status: &StatusSpec, now: Time) {
        if let State::Begin { until } | State::StartDue { until, .. } = &mut self.state {
            *until = (*until).min(now + status.period);
        }
    }

    /// The next question is due at once, if nothing runs.
    pub(super) const fn hurry(&mut self) {
        if let State::Begin { until } = &mut self.state {
            *until = Time::from_boot_ns(0);
        }
    }

    /// Asks nobody any more. Whether a script is running, which has to be ended.
    pub(super) fn rest(&mut self) -> bool {
        let runs = self.running().is_some();
        self.state = State::Rest;
        runs
    }

    /// Asks for the status now.
    pub(super) fn ask(&mut self, now: Time) -> Outcome {
        self.counts.asked += 1;
        self.wished = false;
        self.state = State::ExecuteStatusWait { since: now };
        self.execute(ScriptTask::Status)
    }

    /// Starts now.
    pub(super) fn start(&mut self, status_failed: bool, now: Time) -> Outcome {
        self.counts.starts += 1;
        self.state = State::ExecuteStartWait {
            since: now,
            status_failed,
        };
        self.execute(ScriptTask::Start)
    }

    /// An earlier daemon's start, which began then, may be under way; the number of
    /// its run. None where nobody is asked.
    pub(super) fn resume_start(&mut self, began: Time) -> Option<u64> {
        match self.state {
            State::Begin { .. } => {}
            State::Rest
            | State::ExecuteStatusWait { .. }
            | State::ExecuteStartWait { .. }
            | State::StartDue { .. }
            | State::IntervalWait { .. } => return None,
        }
        self.run += 1;
        self.state = State::ExecuteStartWait {
            since: began,
            status_failed: false,
        };
        Some(self.run)
    }

    const fn execute(&mut self, task: ScriptTask) -> Outcome {
        self.run += 1;
        Outcome::Execute {
            task,
            run: self.run,
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, status: &StatusSpec, now: Time) -> Option<Outcome> {
        match self.state {
            State::Begin { until } | State::StartDue { until, .. } if until <= now => {
                Some(self.ask(now))
            }
            State::IntervalWait { until } if until <= now => {
                Some(self.start_is_due(status, false, now))
            }
            State::Rest
            | State::Begin { .. }
            | State::ExecuteStatusWait { .. }
            | State::ExecuteStartWait { .. }
            | State::StartDue { .. }
            | State::IntervalWait { .. } => None,
        }
    }

    /// A run has ended, with exit code 0 or otherwise.
    pub(super) fn ended(
        &mut self,
        status: &StatusSpec,
        interval: Duration,
        run: u64,
        result: Result<(), String>,
        now: Time,
    ) -> Vec<Outcome> {
        if run != self.run {
            return Vec::new();
        }
        match self.state {
            State::ExecuteStatusWait { since } => {
                self.last_status = Some(Run {
                    began: since,
                    took: now.since(since),
                    result: result.clone(),
                });
                match result {
                    Ok(()) => {
                        self.restrained_until = None;
                        self.begin(status, now);
                        vec![Outcome::Good]
                    }
                    Err(reason) => {
                        self.counts.bad += 1;
                        let wished = std::mem::take(&mut self.wished);
                        let due = self.start_is_due(status, true, now);
                        vec![Outcome::Bad { reason, wished }, due]
                    }
                }
            }
            State::ExecuteStartWait {
                since,
                status_failed,
            } => {
                self.last_start = Some(Run {
                    began: since,
                    took: now.since(since),
                    result: result.clone(),
                });
                let failed = result.err();
                if failed.is_some() {
                    self.counts.failed_starts += 1;
                    let pause = interval.max(SHORTEST_INTERVAL);
                    self.state = State::IntervalWait { until: now + pause };
                } else {
                    self.begin(status, now);
                }
                vec![Outcome::StartEnded {
                    failed,
                    status_failed,
                }]
            }
            State::Rest
            | State::Begin { .. }
            | State::IntervalWait { .. }
            | State::StartDue { .. } => Vec::new(),
        }
    }

    /// When [`StatusMonitor::tick`] is due.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Begin { until }
            | State::IntervalWait { until }
            | State::StartDue { until, .. } => Some(until),
            State::Rest | State::ExecuteStatusWait { .. } | State::ExecuteStartWait { .. } => None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The run that is under way.
    #[must_use]
    pub const fn running(&self) -> Option<(ScriptTask, u64)> {
        match self.state {
            State::ExecuteStatusWait { .. } => Some((ScriptTask::Status, self.run)),
            State::ExecuteStartWait { .. } => Some((ScriptTask::Start, self.run)),
            State::Rest
            | State::Begin { .. }
            | State::IntervalWait { .. }
            | State::StartDue { .. } => None,
        }
    }

    /// Before when nothing is started but for operators.
    #[must_use]
    pub fn restrained_until(&self, now: Time) -> Option<Time> {
        self.restrained_until.filter(|until| now < *until)
    }

    /// The last question that was answered, in one way or another.
    #[must_use]
    pub const fn last_status(&self) -> Option<&Run> {
        self.last_status.as_ref()
    }

    /// The last start that has ended.
    #[must_use]
    pub const fn last_start(&self) -> Option<&Run> {
        self.last_start.as_ref()
    }

    /// What has been counted.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

impl State {
    /// pmond's word for the state.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Begin { .. } => "begin",
            Self::ExecuteStatusWait { .. } => "execute_status_wait",
            Self::ExecuteStartWait { .. } => "execute_start_wait",
            Self::IntervalWait { .. } => "interval_wait",
            Self::StartDue { .. } => "start_due",
        }
    }
}
