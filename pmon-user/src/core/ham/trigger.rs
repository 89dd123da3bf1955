//! What happens to entities, and which conditions that makes true.

use serde::{Deserialize, Serialize};

use super::{
    condition::{ANY, Condition, Kind, When},
    flags::ConditionFlags,
};

/// One thing that happened to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occurrence {
    /// Its process died.
    Death {
        /// Of a signal that makes a core file by default, whether or not it made one.
        abnormal: bool,
    },
    /// It is no longer monitored.
    Detach,
    /// It was restarted by an action.
    Restart,
    /// It got its process.
    Attach,
    /// Its low mark was reached.
    MissedLow,
    /// Its high mark was.
    MissedHigh,
    /// It reported another state.
    State {
        /// The one before.
        from: u32,
        /// The new one.
        to: u32,
    },
    /// Somebody raised something about it.
    Raise {
        /// `rtype`.
        kind: u32,
        /// `rclass`.
        class: u32,
        /// `rseverity`.
        severity: u32,
    },
}

impl Occurrence {
    /// As it is called in logs and in the environment of executed programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Death { abnormal: false } => "death",
            Self::Death { abnormal: true } => "abnormal death",
            Self::Detach => "detach",
            Self::Restart => "restart",
            Self::Attach => "attach",
            Self::MissedLow => "missed heartbeats, low",
            Self::MissedHigh => "missed heartbeats, high",
            Self::State { .. } => "state",
            Self::Raise { .. } => "raise",
        }
    }
}

/// Whether this makes that condition true.
#[must_use]
pub fn is_true(condition: &Condition, occurrence: Occurrence) -> bool {
    match condition.when {
        When::Kind(kind) => of_kind(kind, occurrence),
        When::State { from, to } => match occurrence {
            Occurrence::State {
                from: before,
                to: after,
            } => {
                let flags = condition.flags;
                let set = |flag| flags.contains(flag);
                matches_state(
                    from,
                    before,
                    set(ConditionFlags::FROM_SET),
                    set(ConditionFlags::FROM_INVERTED),
                ) && matches_state(
                    to,
                    after,
                    set(ConditionFlags::TO_SET),
                    set(ConditionFlags::TO_INVERTED),
                )
            }
            Occurrence::Death { .. }
            | Occurrence::Detach
            | Occurrence::Restart
            | Occurrence::Attach
            | Occurrence::MissedLow
            | Occurrence::MissedHigh
            | Occurrence::Raise { .. } => false,
        },
        When::Raise {
            kind: wanted_kind,
            class: wanted_class,
            severity: wanted_severity,
        } => match occurrence {
            Occurrence::Raise {
                kind,
                class,
                severity,
            } => [
                (wanted_kind, kind),
                (wanted_class, class),
                (wanted_severity, severity),
            ]
            .into_iter()
            .all(|(wanted, raised)| wanted == ANY || wanted == raised),
            Occurrence::Death { .. }
            | Occurrence::Detach
            | Occurrence::Restart
            | Occurrence::Attach
            | Occurrence::MissedLow
            | Occurrence::MissedHigh
            | Occurrence::State { .. } => false,
        },
    }
}

fn of_kind(kind: Kind, occurrence: Occurrence) -> bool {
    match occurrence {
        Occurrence::Death { abnormal } => match kind {
            Kind::Any | Kind::Death => true,
            Kind::AbnormalDeath => abnormal,
            Kind::Detach
            | Kind::Restart
            | Kind::HeartbeatMissedLow
            | Kind::HeartbeatMissedHigh
            | Kind::Attach => false,
        },
        Occurrence::Detach => matches!(kind, Kind::Any | Kind::Detach),
        Occurrence::Restart => matches!(kind, Kind::Any | Kind::Restart),
        Occurrence::Attach => matches!(kind, Kind::Any | Kind::Attach),
        Occurrence::MissedLow => matches!(kind, Kind::Any | Kind::HeartbeatMissedLow),
        Occurrence::MissedHigh => matches!(kind, Kind::Any | Kind::HeartbeatMissedHigh),
        Occurrence::State { .. } | Occurrence::Raise { .. } => kind == Kind::Any,
    }
}

/// A wanted state is one value, with [`ANY`] for all of them, or as a set the map
/// whose bit *n* stands for state *n* (D22).
fn matches_state(wanted: u32, state: u32, is_set: bool, inverted: bool) -> bool {
    let among = if is_set {
        1_u32
            .checked_shl(state)
            .is_some_and(|bit| wanted & bit != 0)
    } else {
        wanted == ANY || wanted == state
    };
    among != inverted
}
