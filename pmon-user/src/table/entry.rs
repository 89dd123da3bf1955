//! One registration, and how it is found.

use super::{EntityName, thread_exits::ThreadExits};
use crate::{
    core::{
        death::{LastSeen, SourceName, WaitStatus},
        identity::Identity,
        time::Time,
    },
    sys::pidfd::{KnownPid, VerifiedPid},
};

/// One registration.
pub(super) struct Entry {
    pub(super) entity: EntityName,
    pub(super) identity: Identity,
    pub(super) handle: Handle,
    pub(super) state: EntryState,
    /// The family that it is at the head of, see `families`; its own generation
    /// unless it has taken another process's place.
    pub(super) root: u64,
    /// The kernel's entry of its pid is this registration's.
    pub(super) in_kernel: bool,
    /// The walk through the kernel's table in which its entry was last seen.
    pub(super) walk: u32,
    /// It is among those that are due for verification.
    pub(super) is_due: bool,
    pub(super) first: Option<(SourceName, Time)>,
    pub(super) died_at: Option<Time>,
    pub(super) status: Option<WaitStatus>,
    /// What the proc connector told.
    pub(super) threads: ThreadExits,
    pub(super) last_seen: LastSeen,
}

/// How the process can be reached.
#[derive(Debug)]
pub(super) enum Handle {
    /// By a pidfd, which epoll watches.
    Held(VerifiedPid),
    /// By opening one when it is needed.
    OnDemand(KnownPid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryState {
    /// It waits to execute its program, and is going to be registered. Whatever
    /// happens to it until then is told after that.
    Expected,
    /// Its death is to be reported.
    Registered,
    /// It was unregistered to be ended; its end is to be told.
    Leaving,
}

impl Entry {
    /// The pidfd, where it is held.
    pub(super) const fn held(&self) -> Option<&VerifiedPid> {
        match &self.handle {
            Handle::Held(process) => Some(process),
            Handle::OnDemand(_) => None,
        }
    }
}

/// The generations under one pid or entity: one, hardly ever more.
#[derive(Debug)]
pub(super) enum Generations {
    One(u64),
    Several(Vec<u64>),
}

impl Generations {
    pub(super) fn push(&mut self, generation: u64) {
        match self {
            Self::One(first) => *self = Self::Several(vec![*first, generation]),
            Self::Several(all) => all.push(generation),
        }
    }

    /// Takes one out; whether none is left.
    pub(super) fn remove(&mut self, generation: u64) -> bool {
        match self {
            Self::One(only) => *only == generation,
            Self::Several(all) => {
                all.retain(|other| *other != generation);
                all.is_empty()
            }
        }
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Several(all) => all,
        }
    }
}
