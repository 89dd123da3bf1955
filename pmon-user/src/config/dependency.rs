//! Relations between entities: names that are nobody's, groups, and cycles, once all
//! files have been read.

use std::collections::BTreeMap;

use super::{
    Loaded,
    finding::{Finding, Level, did_you_mean},
};
use crate::core::{
    dependency::{Group, graph::Graph},
    entity::{EntitySpec, Origin},
};

/// A group, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The group.
    pub group: Group,
    /// Where it is configured.
    pub origin: Origin,
}

fn finding(level: Level, origin: &Origin, message: String) -> Finding {
    match origin {
        Origin::File { path, line } => Finding {
            line: Some(*line),
            ..Finding::new(level, path, message)
        },
        Origin::Operator => Finding::new(level, "register", message),
    }
}

/// Puts entities into their groups and says what is wrong. A cycle refuses the
/// configuration; what only is not there is left out.
pub(super) fn relate(loaded: &mut Loaded) {
    let names: Vec<String> = (loaded.entities.iter())
        .map(|entity| entity.name.clone())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut findings = unknown_names(&loaded.entities, &names);
    let groups = loaded.settings.groups.clone();
    let mut places: BTreeMap<String, &GroupSettings> = BTreeMap::new();
    for settings in groups.values() {
        let GroupSettings { group, origin } = settings;
        for member in &group.members {
            let Some(entity) = (loaded.entities.iter_mut()).find(|one| one.name == *member) else {
                let message = format!("group `{}`: there is no entity `{member}`", group.name);
                let hint = did_you_mean(member, &names);
                findings.push(finding(Level::Warning, origin, message).maybe_hint(hint));
                continue;
            };
            if let Some(first) = places.insert(member.clone(), settings) {
                let message = format!(
                    "`{member}` is in group `{}` already, at {}; one group is possible",
                    first.group.name, first.origin
                );
                findings.push(finding(Level::Error, origin, message));
                loaded.refused = true;
                continue;
            }
            entity.dependencies.group = Some(group.clone());
        }
    }
    let entities = loaded.entities.iter();
    let graph = Graph::of(
        entities.map(|entity| (entity.name.as_str(), entity.severity, &entity.dependencies)),
    );
    for cycle in graph.cycles() {
        let first = cycle.first().map(ToString::to_string).unwrap_or_default();
        let way: Vec<String> = (cycle.iter().map(|name| format!("`{name}`")))
            .chain([format!("`{first}`")])
            .collect();
        let entity = loaded.entities.iter().find(|entity| entity.name == first);
        let origin = entity.map_or(Origin::Operator, |entity| entity.origin.clone());
        let message = format!("they would wait for one another: {}", way.join(" after "));
        findings.push(
            finding(Level::Error, &origin, message)
                .hint("take one `after`, `requires` or place in a group away"),
        );
        loaded.refused = true;
    }
    loaded.findings.extend(findings);
}

fn unknown_names(entities: &[EntitySpec], names: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entity in entities {
        let relations = &entity.dependencies;
        for (key, list) in [
            ("after", &relations.after),
            ("requires", &relations.requires),
        ] {
            for name in list.iter().filter(|name| !names.contains(&name.as_str())) {
                let own = &entity.name;
                let message = format!("`{key}` of `{own}`: there is no entity `{name}`");
                let hint =
                    did_you_mean(name, names).unwrap_or_else(|| "it is not waited for".to_owned());
                findings.push(finding(Level::Warning, &entity.origin, message).hint(hint));
            }
        }
    }
    findings
}

#[cfg(test)]
#[path = "tests/dependency.rs"]
mod tests;
