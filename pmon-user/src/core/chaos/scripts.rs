//! The script of an entity in status mode, as the executor runs it: it answers as it
//! likes, or hangs and is killed at its deadline.

use std::time::Duration;

use super::{happening::Happening, world::World};
use crate::core::{
    effect::ScriptTask,
    event::{Event, StartEnd},
};

/// A script that is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScriptRun {
    pub(super) run: u64,
    pub(super) task: ScriptTask,
}

fn exited(code: i32) -> StartEnd {
    StartEnd::Exited {
        code,
        last_line: None,
    }
}

impl World {
    pub(super) fn run_script(&mut self, task: ScriptTask, run: u64) -> Result<(), String> {
        if let Some(other) = self.script {
            return Err(format!("a script is run beside {other:?}"));
        }
        let Some(status) = &self.spec.status else {
            return Err("a script is run of an entity that is not in status mode".to_owned());
        };
        let deadline = status.timeout;
        self.saw(match task {
            ScriptTask::Status => "status asked",
            ScriptTask::Start => "started by script",
        });
        self.script = Some(ScriptRun { run, task });
        let luck = if self.calm { 0 } else { self.random.below(100) };
        if luck >= 90 {
            self.saw("script killed at its deadline");
            let end = Happening::ScriptEnds(run, StartEnd::TimedOut);
            self.later(deadline, end);
            return Ok(());
        }
        let end = match task {
            ScriptTask::Status if self.serves && luck < 85 => exited(0),
            ScriptTask::Status => exited(3),
            ScriptTask::Start if luck < 60 => exited(0),
            ScriptTask::Start if luck < 75 => StartEnd::NotExecuted {
                reason: "ETXTBSY".to_owned(),
            },
            ScriptTask::Start => exited(1),
        };
        let takes = self.random.up_to(deadline);
        self.later(takes, Happening::ScriptEnds(run, end));
        Ok(())
    }

    pub(super) fn script_ends(&mut self, run: u64, end: StartEnd) -> Result<(), String> {
        let Some(script) = self.script.filter(|script| script.run == run) else {
            return Ok(());
        };
        self.script = None;
        if script.task == ScriptTask::Start && end == exited(0) {
            self.serves = self.calm || self.random.percent(90);
        }
        let failure_text = None;
        self.step(
            Event::ScriptEnded {
                run,
                end,
                failure_text,
            },
            None,
        )
    }

    /// Its end may still be told, when it is not heard any more.
    pub(super) fn cancel_script(&mut self) {
        if let Some(ScriptRun { run, .. }) = self.script.take()
            && self.random.percent(50)
        {
            let end = StartEnd::Signalled { signal: 9 };
            let failure_text = None;
            let event = Event::ScriptEnded {
                run,
                end,
                failure_text,
            };
            let delay = self.random.up_to(Duration::from_millis(100));
            self.later(delay, Happening::Tell(event, None));
        }
    }
}
