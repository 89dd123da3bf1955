//! What is to be said of a configuration on a StarlingX host only: whose
//! `subfunction` has no meaning there (spec/pmond.md §1.6).

use super::{
    Loaded,
    finding::{Finding, Level, did_you_mean},
};
use crate::{
    compat::starlingx::platform::Platform,
    core::{
        entity::Origin,
        gate::{Condition, Conditions},
    },
};

/// Names the entities that are never monitored. (FIX: the original says so in its
/// log alone.)
pub(super) fn check(loaded: &mut Loaded) {
    let starlingx = &loaded.settings.starlingx;
    if !starlingx.enabled {
        return;
    }
    // As long as it is not known what the host is, it counts as all in one.
    let platform = Platform::read(&starlingx.root);
    let conditions = Conditions {
        several_functions: platform.map_or(true, |it| it.has_several_functions()),
        ..Conditions::default()
    };
    for entity in &loaded.entities {
        let (Some(subfunction), Origin::File { path, line }) =
            (entity.subfunction.as_deref(), &entity.origin)
        else {
            continue;
        };
        if conditions.awaited(Some(subfunction)) != Some(Condition::Never) {
            continue;
        }
        let name = &entity.name;
        let message = format!(
            "`{name}` is never monitored: `subfunction = {subfunction}` has no meaning on this host"
        );
        let hint = did_you_mean(subfunction, &Condition::KNOWN)
            .unwrap_or_else(|| format!("expected one of {}", Condition::KNOWN.join(", ")));
        loaded.findings.push(Finding {
            line: Some(*line),
            ..Finding::new(Level::Error, path, message).hint(hint)
        });
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::super::{Sources, host::invented::InventedHost, load};

    fn findings(directory: &Path, platform: &str, toml: &str) -> Vec<String> {
        let pmon_d = directory.join("pmon.d");
        let etc = directory.join("etc/platform");
        std::fs::create_dir_all(&pmon_d).unwrap();
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(etc.join("platform.conf"), platform).unwrap();
        let sources = Sources {
            pmon_toml: directory.join("pmon.toml"),
            explicit: true,
            pmon_d: Some(pmon_d),
        };
        let entities = ["compute", "worker"].map(|subfunction| {
            format!(
                "[[entity]]\nname = \"{subfunction}d\"\nservice = \"sshd\"\n\
                     pidfile = \"/run/{subfunction}.pid\"\nsubfunction = \"{subfunction}\"\n"
            )
        });
        let text = format!("{toml}\n{}", entities.concat());
        std::fs::write(&sources.pmon_toml, text).unwrap();
        let loaded = load(&sources, &InventedHost::with_systemd(&["sshd.service"]));
        loaded.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_subfunction_without_meaning_is_told_where_it_matters() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let on = format!("[compat.starlingx]\nenabled = true\nroot = {path:?}\n");
        let aio = "system_type=All-in-one\n";
        assert_eq!(findings(path, aio, ""), [""; 0]);
        assert_eq!(findings(path, "system_type=Standard\n", &on), [""; 0]);
        let told = findings(path, aio, &on);
        assert_eq!(told.len(), 1, "{told:?}");
        let expected = "error: `computed` is never monitored: `subfunction = compute` has no \
                        meaning on this host (expected one of worker, storage, last-config)";
        assert!(told[0].ends_with(expected), "{told:?}");
    }
}
