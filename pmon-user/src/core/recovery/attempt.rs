//! From a failure to a stable successor: the decision whether to try, the
//! attempt itself, and its verdict (spec/pmond.md §2.4).

use super::{Phase, Recovery, Stage, StartCommand, Step};
use crate::core::{
    effect::{Effect, StartVerb},
    entity::{Severity, StartMethod},
    event::StartEnd,
    identity::Identity,
    notice::Notice,
};

impl Recovery {
    /// There is no process and nobody else is bringing one up: pmond's MANAGE
    /// decision, in its order.
    pub(super) fn decide(&mut self, step: &mut Step<'_>) {
        if self.manual {
            return self.attempt(step);
        }
        if self.cycled {
            return self.attempt_in_turn(step);
        }
        self.failed = true;
        let judged = std::mem::take(&mut self.judged);
        if !judged && let Some(reason) = self.judge(step) {
            return self.give_up(step, reason);
        }
        self.attempt_in_turn(step);
    }

    /// Tells of a failure as its severity and the attempts so far want it. Why
    /// nothing is to be tried, if that is so.
    pub(super) fn judge(&mut self, step: &mut Step<'_>) -> Option<String> {
        let restarts = step.spec.restarts;
        let critical = step.spec.severity == Severity::Critical;
        let nothing_to_try = match &step.spec.start {
            StartMethod::None { reason } => Some((reason.clone(), true)),
            StartMethod::Unit { .. } | StartMethod::Script { .. } | StartMethod::Command(_) => {
                (restarts == 0).then(|| ("`restarts = 0`".to_owned(), !critical))
            }
        };
        if let Some((reason, first_told)) = nothing_to_try {
            if first_told && self.alarm().is_none() {
                step.say(Notice::FirstFailure);
            }
            self.assert_alarm(step);
            self.strike_out(step);
            return Some(reason);
        }
        if self.attempts >= restarts {
            self.assert_alarm(step);
            self.strike(step);
            self.attempts = 0;
            return None;
        }
        self.confirm_alarm(step);
        if self.attempts == 0 && self.alarm().is_none() {
            step.say(Notice::FirstFailure);
        }
        if let Some(reason) = self.too_many_attempts(step) {
            self.assert_alarm(step);
            return Some(reason);
        }
        None
    }

    /// One attempt. The caller has made sure that no process is known alive.
    pub(super) fn attempt(&mut self, step: &mut Step<'_>) {
        if step.spec.status.is_some() {
            return self.attempt_by_script(step);
        }
        // The first try assumes a clean slate; later ones that something may be half up.
        let verb = if self.attempts == 0 {
            StartVerb::Start
        } else {
            StartVerb::Restart
        };
        if self.manual {
            self.starts.operator += 1;
        } else if self.cycled {
            self.starts.dependency += 1;
        } else {
            self.count_attempt(step);
            self.starts.auto += 1;
            self.attempts += 1;
        }
        step.say(Notice::Spawned {
            attempt: self.attempts.max(1),
            verb,
        });
        if verb == StartVerb::Restart {
            self.end_leftovers(step);
        }
        // The one of an earlier attempt may be at work still, where what it has
        // started could not be watched.
        self.cancel_start(step);
        self.cancelled = None;
        self.judged = false;
        self.run += 1;
        let run = self.run;
        step.ask(Effect::Start { verb, run });
        self.start = StartCommand::Running;
        let deadline = step.now + step.spec.start_timeout.max(step.spec.startuptime);
        self.enter(
            step,
            Stage::MonitorWait {
                phase: Phase::Window {
                    ends: step.now + step.spec.startuptime,
                },
                deadline,
            },
        );
    }

    /// An attempt has failed already, perhaps because workers of the dead
    /// process keep its port.
    fn end_leftovers(&mut self, step: &mut Step<'_>) {
        match step.spec.start {
            // systemd clears a unit's cgroup itself, as the unit wants it.
            StartMethod::Unit { .. } | StartMethod::None { .. } => self.leftovers_of.clear(),
            StartMethod::Script { .. } | StartMethod::Command(_) => {
                for (identity, died) in self.leftovers_of.drain(..) {
                    step.ask(Effect::EndLeftovers { identity, died });
                }
            }
        }
    }

    /// The start command ended, or became the process itself.
    pub(super) fn start_ended(&mut self, step: &mut Step<'_>, run: u64, end: StartEnd) {
        if self.start != StartCommand::Running || run != self.run {
            return;
        }
        if let StartEnd::Yielded { to } = &end {
            return self.yielded(step, to);
        }
        let started = match &end {
            // It may have ended, or gone into the background, before this was told.
            StartEnd::Running(identity) => {
                Some(*identity).filter(|identity| self.ended != Some(*identity))
            }
            StartEnd::Exited { code: 0, .. } | StartEnd::Untold => None,
            StartEnd::Exited { .. }
            | StartEnd::Signalled { .. }
            | StartEnd::TimedOut
            | StartEnd::NotExecuted { .. }
            | StartEnd::JobFailed { .. }
            | StartEnd::Yielded { .. } => {
                step.say(Notice::StartFailed {
                    reason: describe(&end),
                });
                None
            }
        };
        let succeeded = matches!(end, StartEnd::Exited { code: 0, .. } | StartEnd::Untold);
        self.start = StartCommand::Ended(end);
        if let (Some(identity), Stage::MonitorWait { .. } | Stage::Held { .. }) =
            (started, self.stage)
        {
            self.successor(step, identity, false);
        }
        let Stage::MonitorWait { phase, .. } = self.stage else {
            return;
        };
        match phase {
            Phase::Overtime => self.ask_for_verdict(step),
            Phase::Window { .. } if succeeded && self.registered.is_none() => {
                // Needs no inotify to be found.
                step.ask(Effect::Look {
                    foreign_script: false,
                });
            }
            Phase::Window { .. } | Phase::Verdict => {}
        }
    }

    /// `startuptime` is over, or the start command is past its deadline.
    pub(super) fn window_closed(&mut self, step: &mut Step<'_>) {
        let Stage::MonitorWait { deadline, .. } = self.stage else {
            return;
        };
        if self.start == StartCommand::Running {
            if step.now < deadline {
                // A slow start is not a failed start (field stories S9 to S11).
                let phase = Phase::Overtime;
                self.stage = Stage::MonitorWait { phase, deadline };
                return;
            }
            if matches!(step.spec.start, StartMethod::Unit { .. }) {
                return self.job_is_slow(step);
            }
            step.ask(Effect::CancelStart);
            step.say(Notice::StartFailed {
                reason: describe(&StartEnd::TimedOut),
            });
            self.start = StartCommand::Ended(StartEnd::TimedOut);
        }
        self.ask_for_verdict(step);
    }

    fn ask_for_verdict(&mut self, step: &mut Step<'_>) {
        if let Some(registered) = self.registered {
            return self.attempt_succeeded(step, registered.identity);
        }
        if let Stage::MonitorWait { deadline, .. } = self.stage {
            let phase = Phase::Verdict;
            self.stage = Stage::MonitorWait { phase, deadline };
            step.ask(Effect::Look {
                foreign_script: false,
            });
        }
    }

    /// The last look found nothing: the attempt failed, and this is why.
    pub(super) fn verdict_nothing(&mut self, step: &mut Step<'_>, seen: &str) {
        let reason = match &self.start {
            StartCommand::Ended(StartEnd::Exited { code: 0, .. }) => {
                format!("the start command exited 0, but no process appeared: {seen}")
            }
            StartCommand::Ended(StartEnd::Running(identity)) => {
                format!("({}) did not survive `startuptime`", identity.pid)
            }
            StartCommand::Ended(end) => format!("the start command {}", describe(end)),
            StartCommand::None | StartCommand::Running => seen.to_owned(),
        };
        self.attempt_failed(step, reason);
    }

    /// The window closed over a live successor.
    pub(super) fn attempt_succeeded(&mut self, step: &mut Step<'_>, identity: Identity) {
        self.start = StartCommand::None;
        if (self.manual || self.cycled) && !self.failed {
            self.manual = false;
            self.cycled = false;
            self.problem = None;
            // It may have been raised for the old one, which did not go.
            self.clear_alarm(step);
            self.forgive(step);
            step.say(Notice::Restarted(identity));
            self.attempts = 0;
            self.leftovers_of.clear();
            self.is_well(step);
            return self.enter(step, Stage::Manage);
        }
        self.monitor(step, identity);
    }

    /// The successor must now stay alive.
    pub(super) fn monitor(&mut self, step: &mut Step<'_>, identity: Identity) {
        step.say(Notice::Monitoring(identity));
        let stable_at = step.now + step.spec.debounce;
        self.enter(step, Stage::Monitor { stable_at });
    }

    pub(super) fn attempt_failed(&mut self, step: &mut Step<'_>, reason: String) {
        // From here on it is a failure like any other, with alarm and count.
        self.manual = false;
        self.cycled = false;
        self.failed = true;
        if self.start == StartCommand::Running {
            step.ask(Effect::CancelStart);
        }
        self.start = StartCommand::None;
        self.problem = Some(reason.clone());
        let next_in = self.pause(step);
        step.say(Notice::AttemptFailed { reason, next_in });
        let until = step.now + next_in;
        self.enter(step, Stage::RestartWait { until });
    }

    /// `debounce` is over: pmond's FINISH.
    pub(super) fn stable(&mut self, step: &mut Step<'_>) {
        let Some(registered) = self.registered else {
            return self.attempt_failed(step, "no process is registered".to_owned());
        };
        step.say(Notice::Stable(registered.identity));
        self.finish(step, registered.identity);
    }

    /// It exists again: healthy, unless it has to answer first.
    pub(super) fn finish(&mut self, step: &mut Step<'_>, identity: Identity) {
        if self.releasing.is_some() {
            // Not before the old one is gone (`early`).
            return self.monitor(step, identity);
        }
        match &step.spec.active {
            Some(active) if self.failed || self.alarm().is_some() => {
                self.await_answers(step, identity, active);
            }
            Some(_) | None => self.recovered(step, identity),
        }
    }

    /// Healthy again.
    pub(super) fn recovered(&mut self, step: &mut Step<'_>, identity: Identity) {
        // Before the incident ends, so that it tells of it.
        self.clear_alarm(step);
        self.forgive(step);
        if self.failed || self.manual {
            step.say(Notice::Recovered(identity));
        }
        self.failed = false;
        self.manual = false;
        self.cycled = false;
        self.judged = false;
        self.attempts = 0;
        self.problem = None;
        self.leftovers_of.clear();
        self.is_well(step);
        self.enter(step, Stage::Manage);
    }

    pub(super) fn give_up(&mut self, step: &mut Step<'_>, reason: String) {
        self.problem = Some(format!("no automatic recovery: {reason}"));
        step.say(Notice::GaveUp { reason });
        self.enter(step, Stage::Ignore);
    }
}

pub(super) fn describe(end: &StartEnd) -> String {
    match end {
        StartEnd::Running(identity) => format!("runs as ({})", identity.pid),
        StartEnd::Exited { code, last_line } => match last_line {
            Some(line) => format!("exited with code {code}: {line}"),
            None => format!("exited with code {code}"),
        },
        StartEnd::Signalled { signal } => format!("was ended by signal {signal}"),
        StartEnd::JobFailed { reason } => format!("failed: {reason}"),
        StartEnd::Yielded { to } => format!("gave way to {to}"),
        StartEnd::Untold => "of an earlier daemon ended, and no process appeared".to_owned(),
        StartEnd::TimedOut => "hung past its deadline and was killed".to_owned(),
        StartEnd::NotExecuted { reason } => format!("could not be executed: {reason}"),
    }
}
