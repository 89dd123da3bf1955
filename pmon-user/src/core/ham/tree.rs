//! The tree, and how clients change it.
//!
//! Must stay true: names are unique where they stand; there is one restart at
//! most over all death conditions of an entity (`ham.md` §1.4.8); no client can
//! make the tree larger than [`Quota`] allows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    action::{Action, ActionId, Deed, FailItem},
    condition::{Condition, ConditionId, When},
    entity::Entity,
    flags::{ActionFlags, ConditionFlags, EntityFlags},
    name::{GLOBAL, Name, fits},
    refusal::Refusal,
};
use crate::core::time::Time;

/// How large the tree may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Entities.
    pub entities: usize,
    /// Conditions of one entity.
    pub conditions: usize,
    /// Actions of one condition.
    pub actions: usize,
    /// Items of one fail list.
    pub fail_items: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            entities: 100_000,
            conditions: 1024,
            actions: 1024,
            fail_items: 64,
        }
    }
}

/// Whose conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// Those that are true whichever entity something happens to.
    Global,
    /// An entity's.
    Entity(&'a str),
}

impl<'a> Owner<'a> {
    const fn as_str(self) -> &'a str {
        match self {
            Self::Global => GLOBAL,
            Self::Entity(name) => name,
        }
    }
}

/// What a control call does to an object's flag word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagChange {
    /// `HADDFLAGS`.
    Add(u32),
    /// `HREMOVEFLAGS`.
    Remove(u32),
    /// `HSETFLAGS`.
    Set(u32),
}

impl FlagChange {
    const fn applied(self, to: u32) -> u32 {
        match self {
            Self::Add(flags) => to | flags,
            Self::Remove(flags) => to & !flags,
            Self::Set(flags) => flags,
        }
    }
}

/// Entities with their conditions, and those of the global entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    entities: BTreeMap<Name, Entity>,
    global: Vec<Condition>,
    last_id: u64,
    quota: Quota,
}

impl Tree {
    /// An empty one.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            ..Self::default()
        }
    }

    pub(super) const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// All entities, by name.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.entities.values()
    }

    pub(super) fn entities_mut(&mut self) -> impl Iterator<Item = &mut Entity> {
        self.entities.values_mut()
    }

    /// The global entity's conditions.
    #[must_use]
    pub fn global(&self) -> &[Condition] {
        &self.global
    }

    /// The entity of this name.
    #[must_use]
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entities.get(name)
    }

    pub(super) fn entity_mut(&mut self, name: &str) -> Option<&mut Entity> {
        self.entities.get_mut(name)
    }

    pub(super) fn remove_entity(&mut self, name: &str) -> Option<Entity> {
        self.entities.remove(name)
    }

    /// The conditions of one owner.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn conditions(&self, owner: Owner<'_>) -> Result<&[Condition], Refusal> {
        match owner {
            Owner::Global => Ok(&self.global),
            Owner::Entity(name) => self
                .entity(name)
                .map(|entity| entity.conditions.as_slice())
                .ok_or(Refusal::Missing("entity")),
        }
    }

    fn conditions_mut(&mut self, owner: Owner<'_>) -> Result<&mut Vec<Condition>, Refusal> {
        match owner {
            Owner::Global => Ok(&mut self.global),
            Owner::Entity(name) => self
                .entity_mut(name)
                .map(|entity| &mut entity.conditions)
                .ok_or(Refusal::Missing("entity")),
        }
    }

    fn condition_mut(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
    ) -> Result<&mut Condition, Refusal> {
        (self.conditions_mut(owner)?.iter_mut())
            .find(|found| found.name.as_str() == condition)
            .ok_or(Refusal::Missing("condition"))
    }

    fn action_mut(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        action: &str,
    ) -> Result<&mut Action, Refusal> {
        let actions = &mut self.condition_mut(owner, condition)?.actions;
        (actions.iter_mut())
            .find(|found| found.name.as_str() == action)
            .ok_or(Refusal::Missing("action"))
    }

    /// The entity of this name; where there is none, a placeholder is made
    /// (`ham_entity`, D19).
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`], [`Refusal::TooLong`], [`Refusal::Quota`].
    pub fn add_placeholder(
        &mut self,
        name: &str,
        flags: EntityFlags,
        now: Time,
    ) -> Result<&mut Entity, Refusal> {
        let name = Name::new(name)?;
        if !self.entities.contains_key(&name) && self.entities.len() >= self.quota.entities {
            return Err(Refusal::Quota(self.quota.entities));
        }
        let entity = (self.entities.entry(name.clone()))
            .or_insert_with(|| Entity::placeholder(name, flags, now));
        Ok(entity)
    }

    /// `ham_condition` and its kin.
    ///
    /// # Errors
    ///
    /// [`Refusal::Exists`], [`Refusal::Missing`], [`Refusal::Invalid`],
    /// [`Refusal::TooLong`], [`Refusal::Quota`].
    pub fn add_condition(
        &mut self,
        owner: Owner<'_>,
        name: &str,
        when: When,
        flags: ConditionFlags,
    ) -> Result<ConditionId, Refusal> {
        let name = Name::new(name)?;
        fits(&[owner.as_str(), name.as_str()])?;
        let id = ConditionId(self.next_id());
        let quota = self.quota.conditions;
        let conditions = self.conditions_mut(owner)?;
        if conditions.iter().any(|found| found.name == name) {
            return Err(Refusal::Exists);
        }
        if conditions.len() >= quota {
            return Err(Refusal::Quota(quota));
        }
        conditions.push(Condition::new(id, name, when, flags)?);
        Ok(id)
    }

    /// `ham_action_*`: behind the actions that the condition has.
    ///
    /// # Errors
    ///
    /// As [`Tree::add_condition`]; [`Refusal::Exists`] also for a second restart.
    pub fn add_action(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        name: &str,
        deed: Deed,
        flags: ActionFlags,
    ) -> Result<&Action, Refusal> {
        let name = Name::new(name)?;
        fits(&[owner.as_str(), condition, name.as_str()])?;
        if deed.restarts() {
            match owner {
                Owner::Global => return Err(Refusal::Invalid("entity for a restart")),
                Owner::Entity(entity) if self.entity(entity).is_some_and(Entity::has_restart) => {
                    return Err(Refusal::Exists);
                }
                Owner::Entity(_) => {}
            }
        }
        let id = ActionId(self.next_id());
        let quota = self.quota.actions;
        let condition = self.condition_mut(owner, condition)?;
        condition.check_deed(&deed)?;
        if condition.action(name.as_str()).is_some() {
            return Err(Refusal::Exists);
        }
        if condition.actions.len() >= quota {
            return Err(Refusal::Quota(quota));
        }
        let action = Action::new(id, name, deed, flags)?;
        condition.had_actions = true;
        condition.actions.push(action);
        condition.actions.last().ok_or(Refusal::Missing("action"))
    }

    /// `ham_action_fail_*`: behind the items that the action has.
    ///
    /// # Errors
    ///
    /// As [`Tree::add_condition`].
    pub fn add_fail_item(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        action: &str,
        name: &str,
        deed: Deed,
    ) -> Result<(), Refusal> {
        let name = Name::new(name)?;
        fits(&[owner.as_str(), condition, action, name.as_str()])?;
        self.condition_mut(owner, condition)?.check_deed(&deed)?;
        let quota = self.quota.fail_items;
        let action = self.action_mut(owner, condition, action)?;
        if action.on_failure.iter().any(|item| item.name == name) {
            return Err(Refusal::Exists);
        }
        if action.on_failure.len() >= quota {
            return Err(Refusal::Quota(quota));
        }
        action.on_failure.push(FailItem::new(name, deed)?);
        Ok(())
    }

    /// `ham_condition_remove`; its actions go, too.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn remove_condition(&mut self, owner: Owner<'_>, name: &str) -> Result<(), Refusal> {
        let conditions = self.conditions_mut(owner)?;
        let before = conditions.len();
        conditions.retain(|condition| condition.name.as_str() != name);
        if conditions.len() == before {
            return Err(Refusal::Missing("condition"));
        }
        Ok(())
    }

    /// `ham_action_remove`; a condition goes with its last action, unless it is to stay.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn remove_action(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let id = self.action_mut(owner, condition, name)?.id;
        let conditions = self.conditions_mut(owner)?;
        drop_action(conditions, id);
        Ok(())
    }

    /// `ham_action_fail_remove`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn remove_fail_item(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        action: &str,
        name: &str,
    ) -> Result<(), Refusal> {
        let items = &mut self.action_mut(owner, condition, action)?.on_failure;
        let before = items.len();
        items.retain(|item| item.name.as_str() != name);
        if items.len() == before {
            return Err(Refusal::Missing("item"));
        }
        Ok(())
    }

    /// An action has failed, and goes, wherever it stands now.
    pub(super) fn drop_failed(&mut self, id: ActionId) {
        drop_action(&mut self.global, id);
        for entity in self.entities.values_mut() {
            drop_action(&mut entity.conditions, id);
        }
    }

    /// Whether something would be done for this action now. One that is in the tree
    /// no more was taken as it stood.
    pub(super) fn is_enabled(&self, subject: &str, id: ActionId) -> bool {
        let entity = self.entity(subject);
        let of_entity = entity.map_or(&[][..], |entity| &entity.conditions);
        let found = of_entity.iter().chain(&self.global).find_map(|condition| {
            let action = condition.actions.iter().find(|action| action.id == id)?;
            Some(condition.enabled && action.enabled)
        });
        found.unwrap_or(true) && entity.is_none_or(|entity| entity.enabled)
    }

    /// `HENABLE` and `HDISABLE` on an entity; with `recurse` on everything below
    /// it, too (`HRECURSE`).
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn enable_entity(
        &mut self,
        name: &str,
        enabled: bool,
        recurse: bool,
    ) -> Result<(), Refusal> {
        let entity = self.entity_mut(name).ok_or(Refusal::Missing("entity"))?;
        if enabled
            && !entity.enabled
            && let Some(heartbeat) = &mut entity.heartbeat
        {
            heartbeat.count_anew();
        }
        entity.enabled = enabled;
        if recurse {
            for condition in &mut entity.conditions {
                enable_all(condition, enabled);
            }
        }
        Ok(())
    }

    /// The same on a condition.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn enable_condition(
        &mut self,
        owner: Owner<'_>,
        name: &str,
        enabled: bool,
        recurse: bool,
    ) -> Result<(), Refusal> {
        let condition = self.condition_mut(owner, name)?;
        if recurse {
            enable_all(condition, enabled);
        } else {
            condition.enabled = enabled;
        }
        Ok(())
    }

    /// The same on an action.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`].
    pub fn enable_action(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        name: &str,
        enabled: bool,
    ) -> Result<(), Refusal> {
        self.action_mut(owner, condition, name)?.enabled = enabled;
        Ok(())
    }

    /// Changes an entity's flags.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`]; [`Refusal::Invalid`] for flags that it cannot have.
    pub fn change_entity_flags(&mut self, name: &str, change: FlagChange) -> Result<(), Refusal> {
        let entity = self.entity_mut(name).ok_or(Refusal::Missing("entity"))?;
        let flags = change.applied(entity.flags.bits());
        entity.flags = EntityFlags::from_bits(flags).ok_or(Refusal::Invalid("flags"))?;
        Ok(())
    }

    /// Changes a condition's flags.
    ///
    /// # Errors
    ///
    /// As [`Tree::change_entity_flags`]; also for `HCONDNOWAIT` with an action that waits.
    pub fn change_condition_flags(
        &mut self,
        owner: Owner<'_>,
        name: &str,
        change: FlagChange,
    ) -> Result<(), Refusal> {
        let condition = self.condition_mut(owner, name)?;
        let flags = change.applied(condition.flags.bits());
        let flags = ConditionFlags::from_bits(flags).ok_or(Refusal::Invalid("flags"))?;
        condition.check_flags(flags)?;
        condition.flags = flags;
        Ok(())
    }

    /// Changes an action's flags.
    ///
    /// # Errors
    ///
    /// As [`Tree::change_entity_flags`]; also for `HACTIONDONOW`.
    pub fn change_action_flags(
        &mut self,
        owner: Owner<'_>,
        condition: &str,
        name: &str,
        change: FlagChange,
    ) -> Result<(), Refusal> {
        let action = self.action_mut(owner, condition, name)?;
        let flags = change.applied(action.flags.bits());
        let flags = ActionFlags::from_bits(flags).ok_or(Refusal::Invalid("flags"))?;
        if (flags ^ action.flags).contains(ActionFlags::DO_NOW) {
            return Err(Refusal::Invalid("flags"));
        }
        action.flags = flags;
        Ok(())
    }
}

fn drop_action(conditions: &mut Vec<Condition>, id: ActionId) {
    conditions.retain_mut(|condition| {
        let before = condition.actions.len();
        condition.actions.retain(|action| action.id != id);
        before == condition.actions.len() || !condition.is_spent()
    });
}

fn enable_all(condition: &mut Condition, enabled: bool) {
    condition.enabled = enabled;
    for action in &mut condition.actions {
        action.enabled = enabled;
    }
}
