//! The stages, with what each of them waits for. Their meaning is told in
//! prose at the top of the module.

use crate::core::{gate::Condition, time::Time};

/// Where the recovery of an entity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Just configured; the first look is under way.
    Unknown,
    /// Resting.
    Manage,
    /// A look is under way before anything is started.
    Looking,
    /// Somebody else's init script is at work, or may start a successor in a
    /// way that does not show.
    Waiting {
        /// The script's pid; none while only the adoption window is open.
        script: Option<u32>,
        /// When we look again.
        next_look: Time,
        /// When we stop waiting for it.
        until: Time,
        /// It has ended, and a process that it started has until then to be
        /// seen.
        ended: Option<Time>,
    },
    /// The service manager, or somebody through it, is at work on the unit.
    Yielding {
        /// When we look again.
        next_look: Time,
        /// The work is done, and the process has until then to be seen.
        ends: Option<Time>,
    },
    /// A process is being ended.
    Stopping {
        /// What comes afterwards.
        then: AfterStop,
        /// When the next harsher step is due.
        due: Time,
        /// SIGKILL has been sent.
        killed: bool,
    },
    /// The start method is at work.
    MonitorWait {
        /// What it waits for.
        phase: Phase,
        /// The deadline of the start command.
        deadline: Time,
    },
    /// A successor must stay alive until then.
    Monitor {
        /// End of `debounce`.
        stable_at: Time,
    },
    /// Pause between attempts.
    RestartWait {
        /// End of `interval`.
        until: Time,
    },
    /// Not monitored before its condition holds.
    Polling {
        /// Which.
        condition: Condition,
    },
    /// Its condition holds; what was just configured gets a moment to come up.
    StartWait {
        /// When monitoring begins.
        until: Time,
    },
    /// There is no process, and the gates of the host are closed.
    Gated,
    /// An attempt is due and waits for its turn.
    Queued,
    /// No automatic recovery.
    Ignore,
    /// Stopped by an operator, or by somebody through the service manager.
    Stopped,
    /// Taken out of recovery by an operator.
    Held {
        /// What comes afterwards.
        then: AfterHold,
        /// When the hold is over by itself.
        until: Option<Time>,
    },
    /// There is something that cannot be verified.
    Unverifiable,
    /// Shown, never acted upon.
    Unmonitored,
}

/// What the start window waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The end of `startuptime`.
    Window {
        /// When that is.
        ends: Time,
    },
    /// The start command, which is still at work after `startuptime`.
    Overtime,
    /// The last look.
    Verdict,
}

/// What follows when a process that is being ended is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterStop {
    /// Start a successor.
    Respawn,
    /// Leave it down.
    StayDown,
}

/// What follows when an operator's hold is over and no process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterHold {
    /// It is recovered.
    Recover,
    /// An operator had stopped it, and it stays down.
    StayDown,
}

impl Stage {
    /// pmond's word for the stage, ours where it has none.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Manage => "manage",
            Self::Looking => "looking",
            Self::Waiting { .. } | Self::Yielding { .. } => "waiting",
            Self::Stopping { .. } => "stopping",
            Self::MonitorWait { .. } => "monitor_wait",
            Self::Monitor { .. } => "monitor",
            Self::RestartWait { .. } => "restart_wait",
            Self::Polling { .. } => "polling",
            Self::StartWait { .. } => "start_wait",
            Self::Gated => "gated",
            Self::Queued => "queued",
            Self::Ignore => "ignore",
            Self::Stopped => "stopped",
            Self::Held { .. } => "held",
            Self::Unverifiable => "unverifiable",
            Self::Unmonitored => "unmonitored",
        }
    }

    /// When time alone moves it on.
    #[must_use]
    pub const fn deadline(&self) -> Option<Time> {
        match self {
            Self::Waiting { next_look, .. } | Self::Yielding { next_look, .. } => Some(*next_look),
            Self::MonitorWait { phase, deadline } => match phase {
                Phase::Window { ends } => Some(*ends),
                Phase::Overtime => Some(*deadline),
                Phase::Verdict => None,
            },
            Self::Stopping { due, .. } => Some(*due),
            Self::Monitor { stable_at } => Some(*stable_at),
            Self::RestartWait { until } | Self::StartWait { until } => Some(*until),
            Self::Held { until, .. } => *until,
            Self::Unknown
            | Self::Manage
            | Self::Looking
            | Self::Polling { .. }
            | Self::Gated
            | Self::Queued
            | Self::Ignore
            | Self::Stopped
            | Self::Unverifiable
            | Self::Unmonitored => None,
        }
    }
}
