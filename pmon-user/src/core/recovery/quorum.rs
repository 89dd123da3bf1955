//! The two strikes of a quorum member (spec/pmond.md §2.7).
//!
//! * **Sound** — nothing has been used up.
//! * **Failure** — the threshold of attempts has been crossed once, or the
//!   entity is critical and nothing is tried.
//! * **Unrecoverable** — it was crossed once more, or nothing is tried and the
//!   entity is not critical (of a critical one the alarm says enough): the host
//!   should not go on.
//!
//! Recovery, or an operator's stop, leads back from both. Must stay true: of an
//! entity that is no member nothing is counted.

use serde::{Deserialize, Serialize};

use super::{Recovery, Step};
use crate::core::{entity::Severity, notice::Notice};

/// How many strikes a quorum member has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quorum {
    /// None.
    #[default]
    Sound,
    /// One (pmond's `quorum_failure`).
    Failure,
    /// Both (pmond's `quorum_unrecoverable`).
    Unrecoverable,
}

impl Quorum {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        matches!(self, Self::Sound)
    }
}

impl Recovery {
    /// A threshold was crossed, and it is tried again all the same.
    pub(super) fn strike(&mut self, step: &mut Step<'_>) {
        let next = match self.quorum {
            Quorum::Sound => Quorum::Failure,
            Quorum::Failure | Quorum::Unrecoverable => Quorum::Unrecoverable,
        };
        self.strike_to(step, next);
    }

    /// Nothing is tried.
    pub(super) fn strike_out(&mut self, step: &mut Step<'_>) {
        let end = match step.spec.severity {
            Severity::Minor | Severity::Major => Quorum::Unrecoverable,
            Severity::Critical => Quorum::Failure,
        };
        self.strike_to(step, self.quorum.max(end));
    }

    fn strike_to(&mut self, step: &mut Step<'_>, next: Quorum) {
        if !step.spec.quorum || self.quorum == next {
            return;
        }
        if self.quorum == Quorum::Sound {
            step.say(Notice::QuorumFailure);
        }
        if next == Quorum::Unrecoverable {
            step.say(Notice::QuorumUnrecoverable);
        }
        self.quorum = next;
    }

    /// It has recovered, is wanted down, or is no member any more.
    pub(super) fn forgive(&mut self, step: &mut Step<'_>) {
        if std::mem::take(&mut self.quorum) != Quorum::Sound {
            step.say(Notice::QuorumCleared);
        }
    }

    /// Strikes of a quorum member.
    #[must_use]
    pub const fn quorum(&self) -> Quorum {
        self.quorum
    }
}
