//! Names under which an entity may be asked for, beside its own: its systemd
//! unit or init script, where no other entity has that name or the same unit.
//!
//! Operators and tools know the service (`pmon-restart docker`) and not what
//! the process is called (`dockerd`); the original does nothing then, in
//! silence (spec/pmond.md §11.2, S15).

use super::{engine::Engine, entity::Entity};
use crate::{
    config::finding::nearest,
    control::backend::Refusal,
    core::entity::{EntitySpec, StartMethod},
};

/// Whether the entity's service goes by that name.
fn serves_as(spec: &EntitySpec, name: &str) -> bool {
    match &spec.start {
        StartMethod::Unit { unit, policy: _ } => {
            unit == name || unit.strip_suffix(".service") == Some(name)
        }
        StartMethod::Script { path } => {
            path.file_name().and_then(|file| file.to_str()) == Some(name)
        }
        StartMethod::Command(_) | StartMethod::None { .. } => false,
    }
}

impl Engine {
    /// The entity of that name, or the only one whose service has it.
    pub(super) fn entity(&self, name: &str) -> Result<&Entity, Refusal> {
        if let Some(entity) = self.entities.get(name) {
            return Ok(entity);
        }
        let mut serving: Vec<&Entity> = (self.entities.values())
            .filter(|entity| serves_as(&entity.spec, name))
            .collect();
        match serving[..] {
            [entity] => Ok(entity),
            [] => {
                let names: Vec<&str> = self.entities.keys().map(|name| &**name).collect();
                Err(Refusal::UnknownEntity {
                    name: name.to_owned(),
                    nearest: nearest(name, &names).map(str::to_owned),
                })
            }
            [..] => {
                serving.sort_unstable_by_key(|entity| &entity.spec.name);
                let names: Vec<_> = (serving.iter())
                    .map(|entity| format!("`{}`", entity.spec.name))
                    .collect();
                Err(Refusal::Refused {
                    reason: format!(
                        "`{name}` is the service of {}; name one of them",
                        names.join(" and ")
                    ),
                })
            }
        }
    }

    /// The names of these entities, however they were asked for.
    pub(super) fn names_of(&self, names: &[String]) -> Result<Vec<String>, Refusal> {
        let own = |name: &String| Ok(self.entity(name)?.spec.name.clone());
        names.iter().map(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::daemon::requests::ad_hoc_spec;

    #[test]
    fn a_service_is_known_by_its_unit_or_its_script() {
        let with = |start| EntitySpec {
            start,
            ..ad_hoc_spec("dockerd", None, None)
        };
        let unit = with(StartMethod::Unit {
            unit: "docker.service".to_owned(),
            policy: crate::core::entity::UnitPolicy::Leave,
        });
        let script = with(StartMethod::Script {
            path: PathBuf::from("/etc/init.d/docker"),
        });
        for (spec, name, expected) in [
            (&unit, "docker", true),
            (&unit, "docker.service", true),
            (&unit, "docker.servic", false),
            (&unit, "Docker", false),
            (&unit, "", false),
            (&script, "docker", true),
            (&script, "docker.service", false),
            (&script, "/etc/init.d/docker", false),
        ] {
            assert_eq!(serves_as(spec, name), expected, "{name}");
        }
        assert!(!serves_as(&ad_hoc_spec("web", None, None), ""));
    }
}
