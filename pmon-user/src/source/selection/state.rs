//! The state of one source, and what it says for itself.
//!
//! What leads from one state to another is the parent's.

use crate::{
    core::{death::SourceName, time::Time},
    source::canary::Verdict,
};

/// Why a source does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Off {
    /// The configuration says so: with these words.
    Unwanted(String),
    /// A better one is healthy, or has not failed yet.
    StandsBy,
    /// It could not be started.
    Failed(String),
}

/// See [`super`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Does not run.
    Off(Off),
    /// Runs.
    Unproven,
    /// Runs well.
    Healthy,
    /// Missed its canary, in these words.
    Silent(String),
    /// Went away, in these words.
    Lost(String),
}

impl State {
    /// What is wrong with it, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Off(Off::Failed(why)) | Self::Silent(why) | Self::Lost(why) => Some(why),
            Self::Off(Off::Unwanted(_) | Off::StandsBy) | Self::Unproven | Self::Healthy => None,
        }
    }

    /// The state as a word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Off(_) => "off",
            Self::Unproven => "unproven",
            Self::Healthy => "healthy",
            Self::Silent(_) => "silent",
            Self::Lost(_) => "lost",
        }
    }
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which.
    pub name: SourceName,
    /// Its state.
    pub state: State,
    /// It is being started.
    pub starting: bool,
    /// What its last canary said.
    pub verdict: Option<Verdict>,
    /// When its last canary came through.
    pub passed: Option<Time>,
    /// People know that it does not work.
    pub(super) told: bool,
}
