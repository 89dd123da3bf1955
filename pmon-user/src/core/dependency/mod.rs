//! What entities are to one another: who is started after whom, who needs whom, and
//! who is restarted together.
//!
//! * [`graph`]: the relations as configured, and their cycles.
//! * [`gate`]: who may start a successor now, and whom the others wait for.
//! * [`plan`]: the restart of a group, as one ordered plan.
//!
//! Must stay true: pure, like all of `core`; nobody waits in silence, and for
//! mere order nobody waits for ever. Operators' actions ask nobody here.

pub mod gate;
pub mod graph;
pub mod plan;

use std::{fmt, sync::Arc};

/// Name of an entity or a group.
pub type Name = Arc<str>;

/// What one entity is to others, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Entities after which it is started.
    pub after: Vec<String>,
    /// Entities without which it is not started; after them, too.
    pub requires: Vec<String>,
    /// The group that it is in.
    pub group: Option<Group>,
}

/// Entities that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Who is restarted when a member fails.
    pub strategy: Strategy,
    /// Its members, in the order in which they are started.
    pub members: Vec<String>,
}

/// Who is restarted when a member of a group fails; the strategies of Erlang/OTP's
/// supervisors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// That one (`one_for_one`).
    #[default]
    One,
    /// All members (`one_for_all`).
    All,
    /// That one and those that are started after it (`rest_for_one`).
    Rest,
}

/// How an entity stands, as far as others are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its process lives, and has survived its start.
    Up,
    /// It is being looked for, started, or waits for that.
    UnderWay,
    /// Its process is being ended.
    Ending,
    /// An attempt has failed, the next one is to come.
    Failing,
    /// It is down, and nothing will be done about it.
    Resting,
    /// Nothing is known of it, or there is no such entity: it stops nobody.
    Unknown,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "is up",
            Self::UnderWay => "is being started",
            Self::Ending => "is being ended",
            Self::Failing => "cannot be started at present",
            Self::Resting => "is down",
            Self::Unknown => "is not monitored",
        })
    }
}
