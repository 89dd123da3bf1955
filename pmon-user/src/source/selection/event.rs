//! What the selection is told, what it wants done, and what people hear of it.
//!
//! Words only; which of them follow from which is the parent's.

use std::fmt;

use crate::{core::death::SourceName, source::canary::Verdict};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A source runs (anew).
    Started(SourceName),
    /// It could not be started.
    NotStarted(SourceName, String),
    /// It went away.
    Lost(SourceName, String),
    /// A canary has come to its end; tells of those that ran when it was released.
    Canary(Vec<(SourceName, Verdict)>),
    /// There could be no canary.
    NoCanary(String),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send out a canary.
    Hatch,
    /// Start a source, after stopping what is left of it.
    Start(SourceName),
    /// Stop a source.
    Stop(SourceName),
    /// Tell people.
    Tell(Notice),
}

/// What people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first canary came through.
    Proven(SourceName),
    /// A source does not work any more.
    Failed {
        /// Which.
        source: SourceName,
        /// What happened.
        reason: String,
        /// The best that is left.
        instead: SourceName,
    },
    /// It works again.
    Recovered(SourceName),
    /// Pins were missing, and are there again.
    Repaired(String),
}

impl Notice {
    /// Stable snake-case name, for JSON and the journal.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Proven(_) => "source_proven",
            Self::Failed { .. } => "source_failed",
            Self::Recovered(_) => "source_recovered",
            Self::Repaired(_) => "pins_repaired",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven(source) => {
                write!(f, "source {}: its canary came through", source.as_str())
            }
            Self::Failed {
                source,
                reason,
                instead,
            } => write!(
                f,
                "source {} does not work: {reason}; deaths are reported by {}",
                source.as_str(),
                instead.as_str()
            ),
            Self::Recovered(source) => write!(f, "source {} works again", source.as_str()),
            Self::Repaired(what) => f.write_str(what),
        }
    }
}
