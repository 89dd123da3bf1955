//! Whether the script of status mode may be told to start now: the same
//! questions, in the same order, that a dead process' successor has to pass.
//!
//! A start is *due* when the status was bad, or `interval` is over after a start that
//! failed. Then:
//!
//! * an operator who wants it to run waits for nothing;
//! * during a back-off (`storm`), and after too many starts within a time, nothing is
//!   started; the status is asked on, and a good one ends that;
//! * the gates of the host (`gated`) are asked about; while they are closed nothing is
//!   started, counted or raised, and the status is asked on;
//! * other entities and the host's budget give it its turn (`storm`).
//!
//! Must stay true: a start that had to wait is preceded by one more question, as
//! a successor is by one more look; and whoever waits is asked for again when
//! what it waits for has come, not only a period later.

use std::time::Duration;

use super::{Recovery, Stage, Step};
use crate::core::{entity::StatusSpec, status::State, time::Time};

impl Recovery {
    /// A start is due.
    pub(super) fn start_due(&mut self, step: &mut Step<'_>) {
        if self.manual {
            return self.attempt_by_script(step);
        }
        if self.stage == Stage::Ignore || self.status.is_restrained(step.now) {
            return self.ask_later(step);
        }
        if let Some(reason) = self.too_many_attempts(step) {
            if self.alarm().is_none() {
                self.failure_text = None;
            }
            self.assert_alarm(step);
            self.give_up(step, reason);
            return self.ask_later(step);
        }
        let asked_gates = self.stage == Stage::Gated && !self.gates.admitted;
        if asked_gates || (self.stage == Stage::Queued && self.waits_for_turn()) {
            // It is told.
            return;
        }
        if self.admitted(step) {
            self.attempt_in_turn(step);
        }
    }

    fn ask_later(&mut self, step: &Step<'_>) {
        if let Some(status) = &step.spec.status {
            self.status.begin(status, step.now);
        }
    }

    /// The gates are open. Whether they had been closed says if what is known of
    /// the status is old.
    pub(super) fn admitted_to_start(&mut self, step: &mut Step<'_>, had_to_wait: bool) {
        self.gates.admitted = true;
        if had_to_wait {
            self.problem = None;
            return self.ask_anew(step);
        }
        if let State::StartDue { .. } = self.status.state() {
            self.attempt_in_turn(step);
        }
        // Otherwise the status is being asked, and that decides.
    }

    /// What is known of the status is old; before anything is started, it is asked
    /// once more.
    pub(super) fn ask_anew(&mut self, step: &mut Step<'_>) {
        match self.status.state() {
            State::Begin { .. } | State::StartDue { .. } => {
                let outcome = self.status.ask(step.now);
                self.follow_status(step, outcome, None);
            }
            State::Rest
            | State::ExecuteStatusWait { .. }
            | State::ExecuteStartWait { .. }
            | State::IntervalWait { .. } => {}
        }
    }

    /// Nothing is in the way of the start any more.
    pub(super) fn attempt_by_script(&mut self, step: &mut Step<'_>) {
        let Some(outcome) = self.status.start_that_is_due(step.now) else {
            return;
        };
        self.judged = false;
        if !self.manual {
            self.count_attempt(step);
        }
        self.enter(step, Stage::Manage);
        self.follow_status(step, outcome, None);
    }

    /// A start has ended: when there may be another one.
    pub(super) fn rest_after_start(&mut self, step: &Step<'_>, failed: bool) -> Duration {
        let now = step.now;
        if let Some(status) = &step.spec.status
            && (self.failed || failed)
            && !self.manual
        {
            let pause = self.pause(step);
            if self.backs_off() {
                self.status.restrain(status, now + pause, now);
                return pause;
            }
        }
        match self.status.state() {
            State::IntervalWait { until } => until.since(now),
            State::Rest
            | State::Begin { .. }
            | State::ExecuteStatusWait { .. }
            | State::ExecuteStartWait { .. }
            | State::StartDue { .. } => step.spec.interval,
        }
    }

    /// Its part of the host is configured: the first question comes a period later.
    pub(super) fn begin_asking(&mut self, step: &Step<'_>, status: &StatusSpec) {
        self.enter(step, Stage::Manage);
        self.status.begin(status, step.now);
    }

    /// Before when nothing is started but for operators, in status mode.
    #[must_use]
    pub fn start_restrained_until(&self, now: Time) -> Option<Time> {
        self.status.restrained_until(now)
    }
}
