//! One run of a condition's action list.
//!
//! Its states: the run is *at* an action, which is to be begun or is under way;
//! or, when that has failed, *failing*: at an item of the action's fail list;
//! and in the end it is *over*.
//!
//! Must stay true: what is carried out is the list as it stood when the
//! condition became true, one after another; an action's fail list comes before
//! the decision whether the rest is left out (D06).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    action::{Action, ActionId, Deed},
    condition::ConditionId,
    flags::ActionFlags,
    name::Name,
    trigger::Occurrence,
};
use crate::core::time::Time;

/// Names a run as long as the daemon's state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// Where an action stands in the tree, for people and for the environment of
/// executed programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// To whom something happened.
    pub subject: Name,
    /// The condition is one of the global entity's.
    pub global: bool,
    /// The condition.
    pub condition: Name,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// When it is over in any case.
    pub until: Time,
    /// When the path is looked at next; none without a path, or while a look is
    /// under way.
    pub look: Option<Time>,
}

/// How far it is with the deed that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Not begun.
    Due,
    /// Asked for; an answer will come.
    UnderWay,
    /// Time has to pass.
    Waiting(Waiting),
}

/// What a run leaves to be done to the tree when an action has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing.
    Nothing,
    /// The action goes (D07).
    Remove(ActionId),
}

/// See the top of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// Of which condition.
    pub condition: ConditionId,
    /// Where that stands.
    pub place: Place,
    /// What made it true.
    pub occurrence: Occurrence,
    /// What is left of the list, the current one first.
    actions: VecDeque<Action>,
    /// While the first action's failure is dealt with: its item.
    failing: Option<usize>,
    progress: Progress,
}

impl Run {
    /// A run of this list.
    #[must_use]
    pub fn new(
        id: RunId,
        condition: ConditionId,
        place: Place,
        occurrence: Occurrence,
        actions: impl IntoIterator<Item = Action>,
    ) -> Self {
        Self {
            id,
            condition,
            place,
            occurrence,
            actions: actions.into_iter().collect(),
            failing: None,
            progress: Progress::Due,
        }
    }

    /// The action that it is at, or whose failure it deals with; none when it is over.
    #[must_use]
    pub fn action(&self) -> Option<&Action> {
        self.actions.front()
    }

    /// What it is at; none when it is over.
    #[must_use]
    pub fn deed(&self) -> Option<&Deed> {
        let action = self.action()?;
        match self.failing {
            None => Some(&action.deed),
            Some(item) => action.on_failure.get(item).map(|item| &item.deed),
        }
    }

    /// Whether that is an item of a fail list.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// How far it is with it.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// It is so far with it.
    pub const fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Whether an action that it has not come past restarts the entity.
    #[must_use]
    pub fn may_restart(&self) -> bool {
        let ahead = usize::from(self.failing.is_some());
        self.actions
            .iter()
            .skip(ahead)
            .any(|action| action.deed.restarts())
    }

    /// The action that it is at is left out.
    pub fn skip(&mut self) {
        self.actions.pop_front();
        self.failing = None;
        self.progress = Progress::Due;
    }

    /// What it was at has come to its end.
    pub fn ended(&mut self, well: bool) -> Aftermath {
        self.progress = Progress::Due;
        self.failing = match self.failing {
            None if well => {
                self.skip();
                return Aftermath::Nothing;
            }
            None => Some(0),
            // A failing item has no fail list of its own.
            Some(item) => Some(item + 1),
        };
        if self.deed().is_some() {
            return Aftermath::Nothing;
        }
        self.failing = None;
        let Some(failed) = self.actions.pop_front() else {
            return Aftermath::Nothing;
        };
        if failed.flags.contains(ActionFlags::BREAK_ON_FAIL) {
            self.actions.clear();
        }
        if failed.flags.contains(ActionFlags::KEEP_ON_FAIL) {
            Aftermath::Nothing
        } else {
            Aftermath::Remove(failed.id)
        }
    }
}
