//! An action: one thing that is done when its condition is true, and what is
//! done instead of nothing when it fails.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{flags::ActionFlags, name::Name, refusal::Refusal};
use crate::core::identity::Identity;

/// Who is notified: a process, not a number that another may have tomorrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// The process.
    pub process: Identity,
    /// Its endpoint (`chid`), of its own choice.
    pub channel: u32,
}

/// What an action, or an item of its fail list, does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Restart the entity. Fails when no process could be started.
    Restart {
        /// The command line; none where the entity's own start method is used.
        line: Option<String>,
    },
    /// Start a program and let it run. Fails when it could not be started.
    Execute {
        /// The command line.
        line: String,
    },
    /// Send a pulse. Fails when the receiver is gone.
    Pulse {
        /// To whom.
        to: Receiver,
        /// Of the receiver's choice.
        code: i8,
        /// Of the receiver's choice.
        value: i32,
    },
    /// Send a signal. Fails when the receiver is gone.
    Signal {
        /// To whom.
        to: Identity,
        /// Which.
        signal: i32,
        /// `si_code` as registered; the kernel lets us send `SI_QUEUE` only.
        code: i32,
        /// `si_value.sival_int`.
        value: i32,
    },
    /// Let time pass; with a path, until that is there. Fails when it is not there
    /// in time.
    Wait {
        /// What must appear.
        path: Option<PathBuf>,
        /// How long at most, or exactly without a path; never zero.
        delay: Duration,
    },
    /// Count missed beats from the start. Never fails.
    HeartbeatHealthy,
    /// Tell the log. Never fails.
    Log {
        /// What.
        message: String,
        /// Say which action of which condition of which entity it is.
        prefix: bool,
        /// Told when the daemon is at least so verbose.
        verbosity: u32,
    },
}

impl Deed {
    /// Checks what does not depend on where it stands.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for a wait of no time (`ham_action_waitfor`) and a
    /// command line with no program.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Wait { delay, .. } if delay.is_zero() => Err(Refusal::Invalid("delay")),
            Self::Execute { line } | Self::Restart { line: Some(line) }
                if line.trim().is_empty() =>
            {
                Err(Refusal::Invalid("command line"))
            }
            Self::Wait { .. }
            | Self::Execute { .. }
            | Self::Restart { .. }
            | Self::Pulse { .. }
            | Self::Signal { .. }
            | Self::HeartbeatHealthy
            | Self::Log { .. } => Ok(()),
        }
    }

    /// Whether it can hold up what comes after it.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self, Self::Wait { .. })
    }

    /// Whether it restarts the entity.
    #[must_use]
    pub const fn restarts(&self) -> bool {
        matches!(self, Self::Restart { .. })
    }
}

/// Names an action as long as the daemon's state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId(pub u64);

/// An action of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Which.
    pub id: ActionId,
    /// Unique in its condition.
    pub name: Name,
    /// Its flags.
    pub flags: ActionFlags,
    /// Whether it is carried out.
    pub enabled: bool,
    /// What it does.
    pub deed: Deed,
    /// What is done when it has failed, in this order.
    pub on_failure: Vec<FailItem>,
}

impl Action {
    /// A new one, with no fail list yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] when the deed is not valid, and for
    /// [`ActionFlags::DO_NOW`] on anything but [`Deed::Execute`].
    pub fn new(id: ActionId, name: Name, deed: Deed, flags: ActionFlags) -> Result<Self, Refusal> {
        deed.check()?;
        let can_be_done_now = matches!(deed, Deed::Execute { .. });
        if flags.contains(ActionFlags::DO_NOW) && !can_be_done_now {
            return Err(Refusal::Invalid("flags"));
        }
        Ok(Self {
            id,
            name,
            flags,
            enabled: true,
            deed,
            on_failure: Vec::new(),
        })
    }

    /// Whether it, or what is done on its failure, can hold up what comes after it.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.deed.waits() || self.on_failure.iter().any(|item| item.deed.waits())
    }
}

/// One item of an action's fail list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailItem {
    /// Unique in its action.
    pub name: Name,
    /// What it does: anything but [`Deed::Restart`] and [`Deed::HeartbeatHealthy`].
    pub deed: Deed,
}

impl FailItem {
    /// # Errors
    ///
    /// [`Refusal::Invalid`] when the deed is not valid, or not for a fail list.
    pub fn new(name: Name, deed: Deed) -> Result<Self, Refusal> {
        deed.check()?;
        match deed {
            Deed::Restart { .. } | Deed::HeartbeatHealthy => {
                Err(Refusal::Invalid("action for a fail list"))
            }
            Deed::Execute { .. }
            | Deed::Pulse { .. }
            | Deed::Signal { .. }
            | Deed::Wait { .. }
            | Deed::Log { .. } => Ok(Self { name, deed }),
        }
    }
}
