//! A condition: what may happen to an entity, and the actions for that case.

use serde::{Deserialize, Serialize};

use super::{
    action::{Action, Deed},
    flags::ConditionFlags,
    name::Name,
    refusal::Refusal,
};

/// `CONDSTATEANY`, `CONDRAISETYPEANY`, `CONDRAISECLASSANY`, `CONDRAISESEVERITYANY`.
pub const ANY: u32 = 0;

/// Kinds of conditions that need nothing more said, with HAM's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Whatever happens.
    Any = 0,
    /// The process died, in whatever way.
    Death = 1,
    /// It is no longer monitored, because somebody wants it so.
    Detach = 2,
    /// It was restarted by an action of this tree.
    Restart = 3,
    /// So many beats in a row were missed that one should look.
    HeartbeatMissedLow = 4,
    /// So many that it is taken for dead.
    HeartbeatMissedHigh = 5,
    /// The process died of a signal that makes a core file by default.
    AbnormalDeath = 6,
    /// The entity got its process.
    Attach = 7,
}

/// What must happen for a condition to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// One of the kinds.
    Kind(Kind),
    /// The entity reported a change of its state (`CONDSTATE`, 8).
    State {
        /// State before, or the set of them.
        from: u32,
        /// State after, or the set of them.
        to: u32,
    },
    /// Somebody raised this (`CONDRAISE`, 9); [`ANY`] is a wildcard.
    Raise {
        /// `rtype`.
        kind: u32,
        /// `rclass`.
        class: u32,
        /// `rseverity`.
        severity: u32,
    },
}

impl When {
    /// HAM's name of the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind(Kind::Any) => "CONDANY",
            Self::Kind(Kind::Death) => "CONDDEATH",
            Self::Kind(Kind::Detach) => "CONDDETACH",
            Self::Kind(Kind::Restart) => "CONDRESTART",
            Self::Kind(Kind::HeartbeatMissedLow) => "CONDHBEATMISSEDLOW",
            Self::Kind(Kind::HeartbeatMissedHigh) => "CONDHBEATMISSEDHIGH",
            Self::Kind(Kind::AbnormalDeath) => "CONDABNORMALDEATH",
            Self::Kind(Kind::Attach) => "CONDATTACH",
            Self::State { .. } => "CONDSTATE",
            Self::Raise { .. } => "CONDRAISE",
        }
    }

    /// Whether a restart may be asked for under it.
    #[must_use]
    pub const fn is_death(self) -> bool {
        matches!(self, Self::Kind(Kind::Death | Kind::AbnormalDeath))
    }
}

/// Names a condition as long as the daemon's state lives, so that another of the
/// same name is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConditionId(pub u64);

/// A condition of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which.
    pub id: ConditionId,
    /// Unique in its entity.
    pub name: Name,
    /// What makes it true.
    pub when: When,
    /// Its flags.
    pub flags: ConditionFlags,
    /// Whether anything is done when it is true.
    pub enabled: bool,
    /// What is done, in this order.
    pub actions: Vec<Action>,
    /// It has had an action: it goes when the last one does.
    pub had_actions: bool,
}

impl Condition {
    /// A new one, with no actions yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] when the flags are not for this kind.
    pub fn new(
        id: ConditionId,
        name: Name,
        when: When,
        flags: ConditionFlags,
    ) -> Result<Self, Refusal> {
        let condition = Self {
            id,
            name,
            when,
            flags: ConditionFlags::empty(),
            enabled: true,
            actions: Vec::new(),
            had_actions: false,
        };
        condition.check_flags(flags)?;
        Ok(Self { flags, ..condition })
    }

    /// Whether it could have these flags.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for flags of a state on something else, and for a lane
    /// that is never delayed when one of the actions waits.
    pub fn check_flags(&self, flags: ConditionFlags) -> Result<(), Refusal> {
        let of_state = matches!(self.when, When::State { .. });
        if flags.intersects(ConditionFlags::OF_STATE) && !of_state {
            return Err(Refusal::Invalid("flags"));
        }
        if flags.contains(ConditionFlags::NO_WAIT) && self.actions.iter().any(Action::waits) {
            return Err(Refusal::Invalid("flags"));
        }
        Ok(())
    }

    /// Whether it may get an action that does this.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] for a wait in a lane that is never delayed, and for a
    /// restart under anything but a death.
    pub fn check_deed(&self, deed: &Deed) -> Result<(), Refusal> {
        if self.flags.contains(ConditionFlags::NO_WAIT) && deed.waits() {
            return Err(Refusal::Invalid("wait in a condition with HCONDNOWAIT"));
        }
        if deed.restarts() && !self.when.is_death() {
            return Err(Refusal::Invalid("condition for a restart"));
        }
        Ok(())
    }

    /// Whether it goes now that it has no actions.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.actions.is_empty()
            && self.had_actions
            && !self.flags.contains(ConditionFlags::KEEP_ON_EMPTY)
    }

    /// The action of this name.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions
            .iter()
            .find(|action| action.name.as_str() == name)
    }
}
