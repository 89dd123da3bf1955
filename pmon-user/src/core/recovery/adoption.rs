//! The adoption window: after a death, time for a successor that somebody else
//! starts, before one of ours is started.
//!
//! For services whose own wrapper restarts them, in ways that leave no init
//! script to be seen at work. The window begins with the death of a healthy
//! process and ends with the first successor that is seen; while it is open we
//! wait in *Waiting*, without a script to name. An operator's request closes it.

use std::time::Duration;

use super::{Recovery, Stage, Step};
use crate::core::{entity::EntitySpec, notice::Notice, time::Time};

/// A successor without a pidfile shows in no directory: it is looked for this
/// often. With one, the change of the pidfile tells.
const LOOK: Duration = Duration::from_millis(50);

impl Recovery {
    /// A healthy process has died.
    pub(super) fn open_adoption_window(&mut self, step: &Step<'_>) {
        let window = step.spec.adoption_window;
        self.adoption_until = (!window.is_zero()).then(|| step.now + window);
    }

    /// There is no process: whether one is still waited for.
    pub(super) fn awaits_successor(&mut self, step: &mut Step<'_>) -> bool {
        let open = self.adoption_until.filter(|_| !self.manual);
        let Some(until) = open.filter(|until| step.now < *until) else {
            self.adoption_until = None;
            return false;
        };
        if !matches!(self.stage, Stage::Waiting { script: None, .. }) {
            step.say(Notice::AwaitingSuccessor {
                window: until.since(step.now),
            });
            if self.last_death.is_none() {
                self.problem = Some("waiting for a successor of somebody else's".to_owned());
            }
        }
        self.enter(
            step,
            Stage::Waiting {
                script: None,
                next_look: next_look(step.spec, step.now, until),
                until,
                ended: None,
            },
        );
        true
    }

    /// Whether a successor that somebody else starts is waited for.
    #[must_use]
    pub const fn is_adopting(&self) -> bool {
        self.adoption_until.is_some() && self.registered.is_none()
    }
}

pub(super) fn next_look(spec: &EntitySpec, now: Time, until: Time) -> Time {
    if spec.pidfile.is_some() {
        until
    } else {
        until.min(now + LOOK)
    }
}
