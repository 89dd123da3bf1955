//! Status monitoring within the recovery (spec/pmond.md §5.3): what a bad status
//! and a failed start mean for attempts and alarm, and what operators may ask.
//!
//! In status mode there is no process that would be watched: the entity rests in
//! *Manage*, or in *Stopped* where nobody is asked, and `core::status` tells where
//! it stands; whether a start that is due may be made is `status_start`'s. Must stay true: a failure is counted when its start has ended, once;
//! the alarm is raised with the text that the script left at that moment, and
//! that text stays until the alarm is raised anew, so that whoever clears it
//! names the same alarm (field story S7); no pidfile is touched. (FIX: the
//! original deleted it with a script that hung.)

use std::time::Duration;

use super::{Recovery, Stage, Step};
use crate::core::{
    effect::{Effect, ScriptTask, StartVerb},
    entity::{EntitySpec, StatusSpec},
    event::{OperatorAction, OperatorRequest, StartEnd},
    notice::Notice,
    status::{Outcome, State, StatusMonitor},
};

impl Recovery {
    /// A newly configured entity in status mode.
    pub(super) fn begin_status(&mut self, status: &StatusSpec) {
        self.stage = Stage::Manage;
        self.status.begin(status, self.since);
    }

    /// After every step: the script is asked as long as the entity is monitored.
    pub(super) fn attend_status(&mut self, step: &mut Step<'_>) {
        let Some(status) = &step.spec.status else {
            return;
        };
        let monitored = match self.stage {
            // What has begun to start it goes on, as any start command does.
            Stage::Held { .. } if self.is_starting() => return,
            Stage::Stopped
            | Stage::Held { .. }
            | Stage::Unmonitored
            | Stage::Polling { .. }
            | Stage::StartWait { .. } => false,
            Stage::Unknown
            | Stage::Manage
            | Stage::Looking
            | Stage::Waiting { .. }
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Gated
            | Stage::Queued
            | Stage::Ignore
            | Stage::Unverifiable => true,
        };
        let rests = self.status.state() == State::Rest;
        if monitored && rests {
            self.enter(step, Stage::Manage);
            self.status.begin(status, step.now);
            self.status.hurry();
        } else if !monitored && !rests && self.status.rest() {
            step.ask(Effect::CancelStart);
        }
    }

    pub(super) fn status_tick(&mut self, step: &mut Step<'_>) {
        let Some(status) = &step.spec.status else {
            return;
        };
        if let Some(outcome) = self.status.tick(status, step.now) {
            self.follow_status(step, outcome, None);
        }
    }

    /// A script came to its end; `text` is what it left for the alarm, if that
    /// was wanted.
    pub(super) fn script_ended(
        &mut self,
        step: &mut Step<'_>,
        run: u64,
        end: &StartEnd,
        text: Option<&str>,
    ) {
        let Some(status) = &step.spec.status else {
            return;
        };
        let result = match end {
            // Whether it was of any use, the next question shows.
            StartEnd::Exited { code: 0, .. } | StartEnd::Untold => Ok(()),
            StartEnd::Running(_)
            | StartEnd::Exited { .. }
            | StartEnd::Signalled { .. }
            | StartEnd::TimedOut
            | StartEnd::JobFailed { .. }
            | StartEnd::Yielded { .. }
            | StartEnd::NotExecuted { .. } => Err(super::attempt::describe(end)),
        };
        let outcomes = self
            .status
            .ended(status, step.spec.interval, run, result, step.now);
        if self.is_held() {
            // Nothing follows from it.
            return;
        }
        for outcome in outcomes {
            self.follow_status(step, outcome, text);
        }
    }

    pub(super) fn follow_status(
        &mut self,
        step: &mut Step<'_>,
        outcome: Outcome,
        text: Option<&str>,
    ) {
        match outcome {
            Outcome::Execute { task, run } => self.execute(step, task, run),
            Outcome::Good => self.status_good(step),
            Outcome::Bad { reason, wished } => self.status_bad(step, reason, wished),
            Outcome::StartDue => self.start_due(step),
            Outcome::StartEnded {
                failed,
                status_failed,
            } => {
                // That what an operator wants started was down is no failure.
                if failed.is_some() || (status_failed && !self.manual) {
                    self.account_for_failure(step, text);
                }
                // Its wish has been done; the next answer is as good as any.
                self.manual &= !status_failed;
                let next_in = self.rest_after_start(step, failed.is_some());
                if let Some(reason) = failed {
                    self.start_script_failed(step, reason, next_in);
                }
            }
        }
    }

    fn execute(&mut self, step: &mut Step<'_>, task: ScriptTask, run: u64) {
        let failure_text = match task {
            ScriptTask::Status => false,
            ScriptTask::Start => {
                if self.manual {
                    self.starts.operator += 1;
                } else {
                    self.starts.auto += 1;
                }
                step.say(Notice::Spawned {
                    attempt: self.attempts + 1,
                    verb: StartVerb::Start,
                });
                // Its end may raise the alarm, and it alone.
                self.attempts >= step.spec.restarts && self.alarm().is_none()
            }
        };
        step.ask(Effect::RunScript {
            task,
            run,
            failure_text,
        });
    }

    fn status_good(&mut self, step: &mut Step<'_>) {
        // Before the incident ends, so that it tells of it.
        self.clear_alarm(step);
        self.forgive(step);
        self.is_well(step);
        let first = self.status.counts().asked == 1;
        if self.failed || self.manual || first {
            step.say(Notice::StatusGood);
            self.since = step.now;
        }
        if self.stage != Stage::Manage {
            // It waited for leave to be started, and needs none any more.
            self.enter(step, Stage::Manage);
        }
        self.failed = false;
        self.manual = false;
        self.attempts = 0;
        self.problem = None;
    }

    fn status_bad(&mut self, step: &mut Step<'_>, reason: String, wished: bool) {
        self.manual &= wished;
        if !std::mem::replace(&mut self.failed, true) {
            self.since = step.now;
            if !self.manual {
                self.fell(step);
            }
        }
        let said_why_not =
            self.stage == Stage::Ignore || (self.stage == Stage::Gated && self.is_kept_out());
        if !said_why_not {
            self.problem = Some(format!("the status script {reason}"));
        }
        step.say(Notice::StatusBad { reason });
        self.confirm_alarm(step);
    }

    fn start_script_failed(&mut self, step: &mut Step<'_>, reason: String, next_in: Duration) {
        // From here on it is a failure like any other, with alarm and count.
        self.manual = false;
        self.failed = true;
        self.problem = Some(format!("the start script {reason}"));
        step.say(Notice::AttemptFailed { reason, next_in });
    }

    /// pmond's count: told at the first failure, the alarm at the one that follows
    /// `restarts` of them, or at the first if that is 0. The count begins anew
    /// with each alarm.
    fn account_for_failure(&mut self, step: &mut Step<'_>, text: Option<&str>) {
        if self.attempts >= step.spec.restarts {
            if self.alarm().is_none() {
                self.failure_text = text.map(str::to_owned);
            }
            self.assert_alarm(step);
            self.strike(step);
            self.attempts = 0;
        } else if self.attempts == 0 && self.alarm().is_none() {
            step.say(Notice::FirstFailure);
        }
        self.confirm_alarm(step);
        self.attempts += 1;
    }

    pub(super) fn status_operator(&mut self, step: &mut Step<'_>, request: OperatorRequest) {
        let action = request.action;
        if let Some(why) = Self::refuses(step.spec, action) {
            return step.say(Notice::Refused { request, why });
        }
        step.say(Notice::Operator(request));
        match action {
            // Who asks is told so.
            OperatorAction::Start | OperatorAction::Restart if self.is_held() => {}
            OperatorAction::Start => self.operator_asks(step),
            OperatorAction::Restart => self.operator_starts(step),
            OperatorAction::Hold { lasts } => self.operator_hold(step, lasts),
            OperatorAction::Resume => self.operator_resume(step),
            OperatorAction::Stop | OperatorAction::StopFor { .. } => {}
        }
    }

    /// What is up needs no start, and whether it is up the script can tell.
    fn operator_asks(&mut self, step: &mut Step<'_>) {
        match self.status.state() {
            State::IntervalWait { .. } => self.operator_starts(step),
            State::Rest if self.stage == Stage::Stopped || self.is_deferred() => {
                self.ask_now(step);
            }
            State::StartDue { .. } => self.ask_now(step),
            State::Begin { .. } if self.failed || self.status.last_status().is_none() => {
                self.ask_now(step);
            }
            State::Rest
            | State::Begin { .. }
            | State::ExecuteStatusWait { .. }
            | State::ExecuteStartWait { .. } => {}
        }
    }

    /// For an operator, who wants it to run.
    fn ask_now(&mut self, step: &mut Step<'_>) {
        self.act_for_operator(step);
        let outcome = self.status.ask_for_operator(step.now);
        self.follow_status(step, outcome, None);
    }

    /// What restrained it before does so no longer.
    fn act_for_operator(&mut self, step: &Step<'_>) {
        self.manual = true;
        self.attempts = 0;
        self.forget_attempts();
        self.status.release();
        self.problem = None;
        self.enter(step, Stage::Manage);
    }

    fn operator_starts(&mut self, step: &mut Step<'_>) {
        let running = self.status.running();
        if self.stage == Stage::Unmonitored || matches!(running, Some((ScriptTask::Start, _))) {
            // Shown only, or already on its way.
            return;
        }
        if running.is_some() {
            step.ask(Effect::CancelStart);
        }
        self.act_for_operator(step);
        let outcome = self.status.start(false, step.now);
        self.follow_status(step, outcome, None);
    }

    /// Why an operator's request cannot be carried out, if that is so.
    #[must_use]
    pub fn refuses(spec: &EntitySpec, action: OperatorAction) -> Option<String> {
        spec.status.as_ref()?;
        match action {
            OperatorAction::Start
            | OperatorAction::Restart
            | OperatorAction::Hold { .. }
            | OperatorAction::Resume => None,
            OperatorAction::Stop | OperatorAction::StopFor { .. } => Some(format!(
                "in status mode pmon knows a script that starts `{}` and none that stops it; \
                 stop it with its own tools, and have pmon hold it before, so that it is not \
                 started again",
                spec.name
            )),
        }
    }

    /// Whether the script is at work to start the service.
    pub(super) const fn is_starting(&self) -> bool {
        matches!(self.status.running(), Some((ScriptTask::Start, _)))
    }

    /// Status monitoring, for people.
    #[must_use]
    pub const fn status(&self) -> &StatusMonitor {
        &self.status
    }

    /// What the script had to say when the alarm was raised last: part of that
    /// alarm's name until another one is raised.
    #[must_use]
    pub fn failure_text(&self) -> Option<&str> {
        self.failure_text.as_deref()
    }

    /// The alarm was raised with this text before the daemon restarted.
    pub fn recall_failure_text(&mut self, text: Option<String>) {
        self.failure_text = text;
    }
}
