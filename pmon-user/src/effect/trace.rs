//! What was really done to a process, deed by deed, in the order in which it
//! was done: the proof that nothing is signalled before it is unregistered and
//! its pidfile has been dealt with.
//!
//! Each deed is one debug line under the target `pmon_order`, written by
//! whoever does it, after the fact: by the engine for the pid table, by the
//! entity's lane for the rest. Must stay true: what is done later is written
//! later, across those threads, because the lane is told of a job only after
//! the engine has written its line. Nothing is decided here, and nobody reads
//! these lines but people and tests.

use std::fmt;

use crate::core::identity::Identity;

/// Something that was done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// It is in the pid table.
    Registered,
    /// It is in the pid table no more.
    Unregistered,
    /// What became of the pidfile that may have named it.
    Pidfile(&'a str),
    /// It was signalled.
    Signalled(i32),
    /// What it left behind was ended, if there was anything.
    LeftoversEnded,
}

/// Writes the line.
pub fn note(entity: &str, identity: Identity, deed: Deed<'_>) {
    tracing::debug!(target: "pmon_order", "order: {identity} {deed} of {entity}");
}

impl fmt::Display for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered => f.write_str("registered"),
            Self::Unregistered => f.write_str("unregistered"),
            Self::Pidfile(outcome) => write!(f, "pidfile {outcome}"),
            Self::Signalled(signal) => write!(f, "signal {signal}"),
            Self::LeftoversEnded => f.write_str("leftovers ended"),
        }
    }
}
