//! Heeding the service manager: what it says of the unit when there is no process
//! (spec/pmond.md, field stories S8, S9, S11 to S13, S21).
//!
//! Must stay true: nothing is started while somebody's job is at work, while the
//! manager restarts the unit by itself, or while the host goes down; a unit that
//! somebody has stopped through the manager stays down without an alarm. Only an
//! operator of pmon's own overrules the latter.

use std::time::Duration;

use super::{Phase, Recovery, Stage, StartCommand, Step, sighting::LOOK_AGAIN};
use crate::core::{effect::Effect, notice::Notice, unit::UnitReport};

impl Recovery {
    /// Whether what the manager says is reason enough to start nothing, now or at
    /// all.
    pub(super) fn heeds(&mut self, step: &mut Step<'_>, unit: Option<UnitReport>) -> bool {
        match unit {
            Some(UnitReport::AtWork { what }) => self.yield_to(step, &what),
            Some(UnitReport::GoingDown) => {
                self.yield_to(step, "the shutdown of the host");
            }
            Some(UnitReport::Stopped { by }) => {
                // Asked for through pmon, later than whoever stopped it.
                if self.manual {
                    return false;
                }
                self.start = StartCommand::None;
                // That of an earlier stop of our own does not end this one.
                self.returns_at = None;
                self.rest_down(step, Notice::StoppedElsewhere { by });
            }
            Some(UnitReport::Active { up_for }) => return self.has_time_to_appear(step, up_for),
            Some(UnitReport::Down { .. }) | None => return false,
        }
        true
    }

    fn yield_to(&mut self, step: &mut Step<'_>, what: &str) {
        if !matches!(self.stage, Stage::Yielding { ends: None, .. }) {
            let what = what.to_owned();
            step.say(Notice::Yielding { what });
        }
        self.problem = Some(format!("gives way to {what}"));
        self.start = StartCommand::None;
        let next_look = step.now + LOOK_AGAIN;
        if let Stage::Yielding {
            next_look: due,
            ends,
        } = &mut self.stage
        {
            *due = next_look;
            *ends = None;
        } else {
            let ends = None;
            self.enter(step, Stage::Yielding { next_look, ends });
        }
    }

    /// The unit is up, perhaps because what we gave way to is done: whether its
    /// process still has time to be seen. A pidfile may be written later.
    fn has_time_to_appear(&mut self, step: &Step<'_>, up_for: Duration) -> bool {
        let ends = match self.stage {
            Stage::Yielding { ends, .. } => ends,
            // The last look of an attempt, which has had its time.
            Stage::MonitorWait { .. } => return false,
            _ if up_for < step.spec.startuptime => None,
            _ => return false,
        };
        let ends = ends.unwrap_or(step.now + step.spec.startuptime);
        self.problem = Some("its unit is up; no process yet".to_owned());
        let next_look = ends.min(step.now + LOOK_AGAIN);
        let ends = Some(ends);
        match &mut self.stage {
            Stage::Yielding {
                next_look: due,
                ends: until,
            } => (*due, *until) = (next_look, ends),
            _ => self.enter(step, Stage::Yielding { next_look, ends }),
        }
        ends.is_some_and(|ends| step.now < ends)
    }

    /// The start gave way to somebody else's wish: it was no attempt.
    pub(super) fn yielded(&mut self, step: &mut Step<'_>, to: &str) {
        self.start = StartCommand::None;
        if !matches!(self.stage, Stage::MonitorWait { .. }) {
            return;
        }
        if let Some(registered) = self.registered {
            return self.attempt_succeeded(step, registered.identity);
        }
        if self.manual {
            self.starts.operator = self.starts.operator.saturating_sub(1);
        } else {
            self.starts.auto = self.starts.auto.saturating_sub(1);
            self.attempts = self.attempts.saturating_sub(1);
        }
        // It was judged before this attempt, and is not to be told of again.
        self.judged = true;
        self.yield_to(step, to);
    }

    /// The job of a unit is still under way past `start_timeout`. systemd has its
    /// own deadline for it (`TimeoutStartSec=`) and knows what the service waits for:
    /// a slow start is not a failed one.
    pub(super) fn job_is_slow(&mut self, step: &mut Step<'_>) {
        let what = "the unit's own start, which takes long".to_owned();
        if self.problem.as_deref() != Some(&*what) {
            step.say(Notice::Yielding { what: what.clone() });
            self.problem = Some(what);
        }
        self.stage = Stage::MonitorWait {
            phase: Phase::Overtime,
            deadline: step.now + step.spec.start_timeout,
        };
        // Its process may be there already; up it is when the job is done.
        if self.registered.is_none() {
            step.ask(Effect::Look {
                foreign_script: false,
            });
        }
    }
}
