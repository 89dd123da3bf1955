//! The relations between entities as a directed graph: an edge from each entity to
//! whom it is started after.
//!
//! Names that are nobody's are left out; members of a group follow one another
//! in its order, whatever its strategy.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dependencies, Group, Name};
use crate::core::entity::Severity;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<Name, Node>,
    groups: BTreeMap<Name, Group>,
}

#[derive(Clone, Debug)]
struct Node {
    /// Whom it is started after, without those of `requires`.
    after: BTreeSet<Name>,
    requires: BTreeSet<Name>,
    group: Option<Name>,
    urgency: Severity,
}

impl Graph {
    /// Of these entities: name, severity, relations.
    pub fn of<'a>(
        entities: impl Iterator<Item = (&'a str, Severity, &'a Dependencies)> + Clone,
    ) -> Self {
        let names: BTreeMap<&str, Name> = (entities.clone())
            .map(|(name, ..)| (name, Name::from(name)))
            .collect();
        let known = |list: &[String]| -> BTreeSet<Name> {
            let found = list.iter().filter_map(|name| names.get(name.as_str()));
            found.cloned().collect()
        };
        let mut graph = Self::default();
        for (name, urgency, dependencies) in entities {
            let Dependencies {
                after,
                requires,
                group,
            } = dependencies;
            let requires = known(requires);
            let mut after = known(after);
            if let Some(group) = group {
                let former = group.members.iter().take_while(|member| *member != name);
                let former = former.filter_map(|former| names.get(former.as_str()));
                after.extend(former.last().cloned());
                (graph.groups.entry(group.name.as_str().into())).or_insert_with(|| group.clone());
            }
            after.retain(|one| !requires.contains(one));
            let node = Node {
                after,
                requires,
                group: group.as_ref().map(|group| group.name.as_str().into()),
                urgency,
            };
            graph.nodes.insert(Name::from(name), node);
        }
        graph.inherit_urgency();
        graph
    }

    /// Whoever is waited for is as urgent as who waits.
    fn inherit_urgency(&mut self) {
        let severities: Vec<(Name, Severity)> = (self.nodes.iter())
            .map(|(name, node)| (Name::clone(name), node.urgency))
            .collect();
        for (name, severity) in severities {
            let mut pending: Vec<Name> = self.needs(&name).cloned().collect();
            while let Some(one) = pending.pop() {
                let Some(node) = self.nodes.get_mut(&one) else {
                    continue;
                };
                if node.urgency < severity {
                    node.urgency = severity;
                    pending.extend(self.needs(&one).cloned());
                }
            }
        }
    }

    fn needs(&self, name: &str) -> impl Iterator<Item = &Name> {
        let node = self.nodes.get(name);
        node.into_iter()
            .flat_map(|node| node.requires.iter().chain(&node.after))
    }

    /// Whom it is started after, and need not be up.
    pub fn after(&self, name: &str) -> impl Iterator<Item = &Name> {
        self.nodes
            .get(name)
            .into_iter()
            .flat_map(|node| &node.after)
    }

    /// Without whom it is not started.
    pub fn requires(&self, name: &str) -> impl Iterator<Item = &Name> {
        let node = self.nodes.get(name);
        node.into_iter().flat_map(|node| &node.requires)
    }

    /// Its group.
    #[must_use]
    pub fn group_of(&self, name: &str) -> Option<&Group> {
        self.groups.get(self.nodes.get(name)?.group.as_ref()?)
    }

    /// A group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// The severity with which it is started: its own, or that of the severest
    /// entity that is started after it.
    #[must_use]
    pub fn urgency(&self, name: &str) -> Option<Severity> {
        self.nodes.get(name).map(|node| node.urgency)
    }

    /// A cycle for each set of entities that would wait for one another, in the
    /// order of waiting, beginning with the first by name.
    #[must_use]
    pub fn cycles(&self) -> Vec<Vec<Name>> {
        let mut cycles = Vec::new();
        let mut done: BTreeSet<&Name> = BTreeSet::new();
        for start in self.nodes.keys() {
            // Depth first, with the way there; whoever is met again on it closes a cycle.
            let mut way: Vec<(&Name, Vec<&Name>)> = Vec::new();
            if done.insert(start) {
                way.push((start, self.needs(start).collect()));
            }
            while let Some((_, left)) = way.last_mut() {
                let Some(next) = left.pop() else {
                    way.pop();
                    continue;
                };
                if let Some(first) = way.iter().position(|(name, _)| *name == next) {
                    let cycle = way[first..].iter().map(|(name, _)| Name::clone(name));
                    cycles.push(from_first(cycle.collect()));
                } else if done.insert(next) {
                    way.push((next, self.needs(next).collect()));
                }
            }
        }
        cycles
    }
}

fn from_first(mut cycle: Vec<Name>) -> Vec<Name> {
    let first = (0..cycle.len()).min_by_key(|index| Name::clone(&cycle[*index]));
    cycle.rotate_left(first.unwrap_or(0));
    cycle
}

#[cfg(test)]
#[path = "tests/graph.rs"]
mod tests;
