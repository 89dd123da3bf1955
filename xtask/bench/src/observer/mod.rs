//! The ways to learn of a death, side by side. Each is told whom to watch,
//! sleeps on a thread of its own until that process dies, and gives the time at
//! which it knew. What they have in common is in `post`; waitid(2) is the
//! nursery's, because only a parent can call it.

pub(crate) mod connector;
pub(crate) mod floor;
pub(crate) mod pidfd;
pub(crate) mod pmon;
pub(crate) mod post;

use std::time::Instant;

use anyhow::Result;
use pmon_user::core::time::Time;
use serde::Serialize;

/// A row of the table. One observer may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Row {
    /// A bare loop on the ring buffer.
    Floor,
    /// pmon, just before its core is stepped with the kernel's hint.
    PmonHint,
    /// pmon, just before its core is stepped with the verified death.
    PmonConfirmed,
    /// pidfd and epoll.
    Pidfd,
    /// The same without real-time priority, where the others have it; under load only.
    PidfdNormal,
    /// waitid(2) in the parent.
    Waitpid,
    /// The proc connector.
    ProcConnector,
}

impl Row {
    /// All, in the table's order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Floor,
        Self::PmonHint,
        Self::PmonConfirmed,
        Self::Pidfd,
        Self::PidfdNormal,
        Self::Waitpid,
        Self::ProcConnector,
    ];

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Floor => "bare ring loop (floor)",
            Self::PmonHint => "pmon: core stepped",
            Self::PmonConfirmed => "pmon: death verified",
            Self::Pidfd => "pidfd + epoll",
            Self::PidfdNormal => "pidfd, SCHED_OTHER",
            Self::Waitpid => "waitid in the parent",
            Self::ProcConnector => "proc connector",
        }
    }
}

/// When a row's observer knew; `None` if it never did.
pub(crate) type Sighting = (Row, Option<Time>);

/// One way to learn of a death.
pub(crate) trait Observer {
    /// Watches a process; returns when its death would be noticed.
    fn watch(&mut self, pid: u32) -> Result<()>;

    /// What was seen of its death, once that has happened.
    fn collect(&mut self, deadline: Instant) -> Result<Vec<Sighting>>;

    /// Stops watching. The process may still be a zombie.
    fn forget(&mut self) -> Result<()>;

    /// Thread id of the thread that learns of deaths.
    fn thread(&self) -> i32;
}
