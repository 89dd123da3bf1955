//! Whom a pidfile names while a script starts the service: the daemon, or the
//! process that goes into the background and leaves the daemon behind.
//!
//! Many daemons write the pidfile, go into the background and write it once more.
//! Whoever takes the first one for the daemon sees it end, removes the pidfile that
//! names it, just when its child writes its own name into that, and starts a second
//! daemon. Must stay true: while somebody else's script is known to be at work, a
//! process is taken for the entity's when the script has ended, or when it has lived
//! for longer than launchers do; no later than 100 ms after it was seen.
//!
//! While a start command of ours is at work, `sighting` waits for its end.

use std::time::Duration;

use super::{Recovery, Stage, Step};
use crate::core::{event::Occasion, identity::Identity, notice::Notice};

/// How long a process has to live before it is taken although the script goes on.
const SETTLED: Duration = Duration::from_millis(80);
/// How often it is looked meanwhile whether the script has ended.
const LOOK: Duration = Duration::from_millis(20);

impl Recovery {
    /// Whether this process may be a launcher still; then it is looked again.
    /// `script`: somebody else's, as the look has found it; only one that was asked
    /// for looks for scripts.
    pub(super) fn may_be_launcher(
        &mut self,
        step: &mut Step<'_>,
        identity: Identity,
        occasion: Occasion,
        script: Option<u32>,
    ) -> bool {
        let waiting = match self.stage {
            Stage::Waiting {
                script: Some(script),
                until,
                ended: None,
                ..
            } => Some((script, until)),
            Stage::Looking | Stage::Waiting { .. } => None,
            Stage::Unknown
            | Stage::Manage
            | Stage::Yielding { .. }
            | Stage::Stopping { .. }
            | Stage::MonitorWait { .. }
            | Stage::Monitor { .. }
            | Stage::RestartWait { .. }
            | Stage::Queued
            | Stage::Polling { .. }
            | Stage::StartWait { .. }
            | Stage::Gated
            | Stage::Ignore
            | Stage::Stopped
            | Stage::Held { .. }
            | Stage::Unverifiable
            | Stage::Unmonitored => return false,
        };
        let at_work = match occasion {
            Occasion::Asked => script,
            Occasion::PidfileStirred
            | Occasion::PidfileChanged
            | Occasion::Executed
            | Occasion::Sweep => waiting.map(|(script, _)| script),
        };
        let Some(script) = at_work else {
            return false;
        };
        match self.glimpsed {
            Some((seen, since)) if seen == identity => {
                if step.now >= since + SETTLED {
                    return false;
                }
            }
            Some(_) | None => self.glimpsed = Some((identity, step.now)),
        }
        let until = waiting.map_or_else(
            || {
                step.say(Notice::Waiting { script });
                step.now + step.spec.start_timeout
            },
            |(_, until)| until,
        );
        let next_look = step.now + LOOK;
        self.enter(
            step,
            Stage::Waiting {
                script: Some(script),
                next_look,
                until,
                ended: None,
            },
        );
        true
    }
}
