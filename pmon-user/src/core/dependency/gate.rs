//! Who may start a successor now: the relations between entities, asked before
//! the host's budget is.
//!
//! Whoever asks is *let through*, or *waits* for one other entity or for its
//! group's plan. When that changes, it is asked for once more; it may then wait for
//! another one.
//!
//! Must stay true: an event costs what those cost who wait for the entity that it
//! is about, not all entities; for mere order nobody waits longer than
//! [`PATIENCE`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Name, Standing,
    graph::Graph,
    plan::{Next, Plan},
};
use crate::core::{entity::Severity, time::Time};

/// Order is a wish, running is the purpose. Longer than any usual start with its
/// command's deadline of 30 s, and a retry.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whom somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocker {
    /// An entity that comes first.
    After(Name),
    /// An entity without which it is not started.
    Required(Name),
    /// Its group is being ended.
    Group(Name),
}

impl Blocker {
    const fn name(&self) -> &Name {
        match self {
            Self::After(name) | Self::Required(name) | Self::Group(name) => name,
        }
    }
}

/// What is to be done for an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It need not wait any longer; `in_vain` when whom it waited for has not come.
    LetThrough {
        /// Who.
        name: Name,
        /// Whom it does not wait for any longer.
        in_vain: Option<Name>,
    },
    /// It waits for somebody else now, or for the same in another state.
    Wait {
        /// Who.
        name: Name,
        /// For whom.
        blocker: Blocker,
    },
    /// It is to be ended, and starts again when it is let through.
    End {
        /// Who.
        name: Name,
        /// Whose plan wants that.
        group: Name,
    },
    /// The plan of its group is over, without one that could not be ended in time.
    GroupInVain {
        /// Who has failed, and is started now.
        name: Name,
        /// Its group.
        group: Name,
        /// Who has not gone.
        other: Name,
    },
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    graph: Graph,
    waiting: BTreeMap<Name, Waiting>,
    /// Who waits for whom, the other way round.
    waited_for: BTreeMap<Name, BTreeSet<Name>>,
    plans: BTreeMap<Name, Plan>,
    /// Until when those wait who wait for mere order.
    patience: BTreeSet<(Time, Name)>,
    /// Who is to be asked for again.
    again: BTreeSet<Name>,
    /// A standing has changed that a plan may wait for.
    plans_again: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    since: Time,
    blocker: Blocker,
}

impl Gate {
    /// Other relations from now on.
    pub fn set_graph(&mut self, graph: Graph) {
        self.graph = graph;
        self.again.extend(self.waiting.keys().cloned());
        let graph = &self.graph;
        self.plans.retain(|group, _| graph.group(group).is_some());
        self.plans_again = true;
    }

    /// The severity with which it is started.
    #[must_use]
    pub fn urgency(&self, name: &str) -> Option<Severity> {
        self.graph.urgency(name)
    }

    /// How many wait.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.waiting.len()
    }

    /// It asks whether it may be started.
    pub fn ask(
        &mut self,
        name: &Name,
        now: Time,
        standing: impl Fn(&str) -> Standing,
    ) -> Option<Blocker> {
        let since = self.waiting.get(name).map_or(now, |waiting| waiting.since);
        let blocker = self.blocker(name, now.since(since) < PATIENCE, standing);
        self.leave(name);
        if let Some(blocker) = &blocker {
            let on = Name::clone(blocker.name());
            (self.waited_for.entry(on).or_default()).insert(Name::clone(name));
            if matches!(blocker, Blocker::After(_)) {
                self.patience.insert((since + PATIENCE, Name::clone(name)));
            }
            let blocker = Blocker::clone(blocker);
            let waiting = Waiting { since, blocker };
            self.waiting.insert(Name::clone(name), waiting);
        }
        blocker
    }

    fn blocker(
        &self,
        name: &Name,
        patient: bool,
        standing: impl Fn(&str) -> Standing,
    ) -> Option<Blocker> {
        if let Some(group) = self.graph.group_of(name)
            && let Some((group, _)) = self.plans.get_key_value(group.name.as_str())
        {
            return Some(Blocker::Group(Name::clone(group)));
        }
        let missing = self.graph.requires(name).find(|one| match standing(one) {
            Standing::UnderWay | Standing::Ending | Standing::Failing | Standing::Resting => true,
            Standing::Up | Standing::Unknown => false,
        });
        if let Some(missing) = missing {
            return Some(Blocker::Required(Name::clone(missing)));
        }
        let mut before = self.graph.after(name);
        let before = before.find(|one| match standing(one) {
            Standing::UnderWay | Standing::Ending => patient,
            // It has had its chance.
            Standing::Up | Standing::Failing | Standing::Resting | Standing::Unknown => false,
        });
        before.map(|before| Blocker::After(Name::clone(before)))
    }

    /// It does not want to be started any more.
    pub fn leave(&mut self, name: &Name) {
        self.again.remove(name);
        if let Some(waiting) = self.waiting.remove(name) {
            (self.patience).remove(&(waiting.since + PATIENCE, Name::clone(name)));
            let on = waiting.blocker.name();
            if let Some(others) = self.waited_for.get_mut(on) {
                others.remove(name);
                if others.is_empty() {
                    self.waited_for.remove(on);
                }
            }
        }
    }

    /// How an entity stands has changed.
    pub fn changed(&mut self, name: &Name) {
        if let Some(others) = self.waited_for.get(name) {
            self.again.extend(others.iter().cloned());
        }
        self.plans_again |= !self.plans.is_empty();
    }

    /// An entity was well and is so no longer.
    pub fn fell(&mut self, name: &Name, now: Time) {
        let Some(group) = self.graph.group_of(name) else {
            return;
        };
        if let Some(plan) = self.plans.get_mut(group.name.as_str()) {
            plan.fell(Name::clone(name));
            self.plans_again = true;
        } else if let Some(plan) = Plan::new(group, Name::clone(name), now) {
            self.plans.insert(group.name.as_str().into(), plan);
        }
    }

    /// When [`Self::advance`] has something to do, if nothing else happens; a
    /// time in the past means at once.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        if self.plans_again || !self.again.is_empty() {
            return Some(Time::default());
        }
        let plans = self.plans.values().map(|plan| plan.deadline());
        let patience = self.patience.first().map(|(until, _)| *until);
        plans.chain(patience).min()
    }

    /// What has become due or possible.
    pub fn advance(&mut self, now: Time, standing: impl Fn(&str) -> Standing) -> Vec<Order> {
        let mut orders = Vec::new();
        self.plans_again = false;
        let mut over = Vec::new();
        for (group, plan) in &mut self.plans {
            match plan.advance(now, &standing) {
                Next::Wait => {}
                Next::End(name) => {
                    // It may have nothing to end, and then nothing of it changes.
                    self.plans_again = true;
                    orders.push(Order::End {
                        name,
                        group: Name::clone(group),
                    });
                }
                Next::Over => over.push(Name::clone(group)),
                Next::InVain(other) => {
                    orders.extend(plan.fallen().map(|name| Order::GroupInVain {
                        name: Name::clone(name),
                        group: Name::clone(group),
                        other: Name::clone(&other),
                    }));
                    over.push(Name::clone(group));
                }
            }
        }
        for group in over {
            self.plans.remove(&group);
            if let Some(members) = self.waited_for.get(&group) {
                self.again.extend(members.iter().cloned());
            }
        }
        let late = self.patience.iter().take_while(|(until, _)| *until <= now);
        (self.again).extend(late.map(|(_, name)| Name::clone(name)));
        for name in std::mem::take(&mut self.again) {
            let Some(Waiting { since, blocker }) = self.waiting.get(&name).cloned() else {
                continue;
            };
            match self.ask(&name, now, &standing) {
                Some(blocker) => orders.push(Order::Wait { name, blocker }),
                None => {
                    let in_vain = match blocker {
                        Blocker::After(other) if since + PATIENCE <= now => Some(other),
                        Blocker::After(_) | Blocker::Required(_) | Blocker::Group(_) => None,
                    };
                    orders.push(Order::LetThrough { name, in_vain });
                }
            }
        }
        orders
    }
}

#[cfg(test)]
#[path = "tests/gate.rs"]
mod tests;
