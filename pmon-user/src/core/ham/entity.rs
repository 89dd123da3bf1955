//! An entity of the tree: a name, its process, and its conditions.

use serde::{Deserialize, Serialize};

use super::{
    condition::Condition,
    flags::{ActionFlags, ConditionFlags, EntityFlags},
    heartbeat::Heartbeat,
    name::Name,
    run::RunId,
};
use crate::core::{identity::Identity, time::Time};

/// How it came to its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attachment {
    /// It has none yet.
    Placeholder,
    /// Somebody attached it, or the daemon started it.
    External,
    /// The process attached itself.
    Itself,
}

impl Attachment {
    /// As HAM's tree shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placeholder => "UNATTACHED",
            Self::External => "ATTACHED",
            Self::Itself => "ATTACHEDSELF",
        }
    }
}

/// What has become of its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// There is none.
    None,
    /// It lives.
    Running(Identity),
    /// It is dead; these runs may still restart it.
    Dying {
        /// Who died.
        was: Identity,
        /// Runs with a restart that have not come to it.
        hopes: Vec<RunId>,
    },
}

/// An entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its name.
    pub name: Name,
    /// How it came to its process.
    pub attachment: Attachment,
    /// What has become of that.
    pub life: Life,
    /// Its flags.
    pub flags: EntityFlags,
    /// Whether anything is done about what happens to it.
    pub enabled: bool,
    /// The state that it last reported.
    pub state: u32,
    /// Its beats, if it has committed itself.
    pub heartbeat: Option<Heartbeat>,
    /// In the order in which they were added.
    pub conditions: Vec<Condition>,
    /// How often it was restarted by an action of this tree.
    pub restarts: u64,
    /// When it was attached, or registered as a placeholder.
    pub created: Time,
}

impl Entity {
    /// A name without a process.
    #[must_use]
    pub const fn placeholder(name: Name, flags: EntityFlags, now: Time) -> Self {
        Self {
            name,
            attachment: Attachment::Placeholder,
            life: Life::None,
            flags,
            enabled: true,
            state: 0,
            heartbeat: None,
            conditions: Vec::new(),
            restarts: 0,
            created: now,
        }
    }

    /// The living process.
    #[must_use]
    pub const fn process(&self) -> Option<Identity> {
        match self.life {
            Life::Running(identity) => Some(identity),
            Life::None | Life::Dying { .. } => None,
        }
    }

    /// The condition of this name.
    #[must_use]
    pub fn condition(&self, name: &str) -> Option<&Condition> {
        (self.conditions.iter()).find(|condition| condition.name.as_str() == name)
    }

    /// Whether one of its conditions restarts it.
    #[must_use]
    pub fn has_restart(&self) -> bool {
        let actions = self
            .conditions
            .iter()
            .flat_map(|condition| &condition.actions);
        actions.into_iter().any(|action| action.deed.restarts())
    }

    /// What does not outlive a restart goes (`ham.md` §1.5).
    pub(super) fn prune(&mut self) {
        self.conditions.retain_mut(|condition| {
            (condition.actions).retain(|action| action.flags.contains(ActionFlags::REARM));
            condition.flags.contains(ConditionFlags::REARM) && !condition.is_spent()
        });
    }
}
