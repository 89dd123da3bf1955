//! What keeps failures from becoming storms: how one entity is restrained, as
//! policies and small counters. The host as a whole is [`super::budget`]'s.
//!
//! * [`backoff`]: longer and longer pauses once the ladder of pmond is exhausted.
//! * [`intensity`]: so many restarts within a time, and no more.
//! * [`flapping`]: it fails again and again although each recovery succeeds.
//! * [`reminder`]: who is told once is told again.
//! * [`record`]: what of all this outlives the daemon.
//!
//! Must stay true: nothing here concerns what an operator asks for, and chance
//! comes from a generator in the state, so that equal histories have equal
//! futures. When these are asked is the state machine's business
//! (`recovery::storm`).

pub mod backoff;
pub mod flapping;
pub mod intensity;
pub mod jitter;
pub mod record;
pub mod reminder;

pub use backoff::BackoffPolicy;
pub use flapping::FlappingPolicy;
pub use intensity::IntensityPolicy;

use std::time::Duration;

/// How one entity is restrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StormPolicy {
    /// Pauses once the ladder is exhausted; none = `interval` for ever, as pmond.
    pub backoff: Option<BackoffPolicy>,
    /// Most restarts within a time; none = no limit, as pmond.
    pub intensity: Option<IntensityPolicy>,
    /// When it is called flapping; none = never.
    pub flapping: Option<FlappingPolicy>,
}

impl StormPolicy {
    /// That of pmon.d files, whose cadence is a contract (spec/pmond.md §2.4):
    /// nothing is restrained, only told.
    pub const PMOND: Self = Self {
        backoff: None,
        intensity: None,
        flapping: Some(FlappingPolicy::DEFAULT),
    };

    /// That of an entity of pmon's own with such a pause between attempts.
    #[must_use]
    pub fn native(interval: Duration) -> Self {
        Self {
            backoff: Some(BackoffPolicy::after(interval)),
            ..Self::PMOND
        }
    }
}
