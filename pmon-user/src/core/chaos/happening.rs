//! What can come to pass on the simulated host.

use super::units::UnitWork;
use crate::core::{
    death::WaitStatus,
    event::{Event, Occasion, StartEnd},
    identity::Identity,
};

/// What comes to pass at some time.
#[derive(Debug)]
pub(super) enum Happening {
    /// The core is told. Lost when the daemon is killed.
    Tell(Event, Option<Identity>),
    /// A look is made; what it shows is told later. Lost with the daemon.
    Look(Occasion),
    /// The entity's next job is done.
    Work,
    /// A process begins and its pidfile names it; by which run of the start method.
    Appear(Identity, Option<u64>),
    Die(Identity, WaitStatus),
    /// A process leaves a child behind and exits with status 0.
    IntoBackground(Identity),
    /// The pidfd of a process that died is readable.
    Released(Identity, WaitStatus),
    /// It has been found out who goes on in its place.
    HandedOver(Identity),
    /// A foreign init script ends, perhaps with a process.
    ForeignScriptEnds(bool),
    /// The script of an entity in status mode ends so.
    ScriptEnds(u64, StartEnd),
    /// The host is looked at, for the question with this number. Lost with the daemon.
    GatesLookedAt(u64),
    /// What was seen is told: that they were open. Likewise.
    GatesTold(u64, bool),
    /// The gates of the host open or close.
    GatesTurn(bool),
    /// The service manager has done what somebody wanted of it.
    UnitWork(UnitWork),
}

impl Happening {
    /// Whether a killed daemon takes it along.
    pub(super) const fn is_the_daemons(&self) -> bool {
        match self {
            Self::Tell(..)
            | Self::Look(_)
            | Self::Work
            | Self::HandedOver(_)
            | Self::ScriptEnds(..)
            | Self::GatesLookedAt(_)
            | Self::GatesTold(..) => true,
            Self::Appear(..)
            | Self::Die(..)
            | Self::IntoBackground(_)
            | Self::Released(..)
            | Self::ForeignScriptEnds(_)
            | Self::GatesTurn(_)
            | Self::UnitWork(_) => false,
        }
    }
}
