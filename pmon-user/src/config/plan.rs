//! What a configuration that has been read would change, and whether it may.
//! Pure: the configuration in force is compared with the one on disk.
//!
//! Must stay true: it is accepted as a whole or not at all. A directory that is
//! gone, or a file that cannot be used any more, is a reason to keep what is in
//! force, never to stop monitoring what was configured there (spec/pmond.md
//! §11.2, S16); a file that is gone is obeyed.

use std::{fmt::Debug, path::Path};

use super::{Level, Loaded};
use crate::core::entity::{CommandSpec, EntitySpec, Origin, StartMethod};

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An operator, to see what it would do.
    Plan,
    /// An operator.
    ByHand,
    /// Changed files.
    ByChange,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// New entities, as read.
    pub added: Vec<String>,
    /// Entities of which something changes, as read.
    pub changed: Vec<Change>,
    /// Entities that are configured no more, by name.
    pub removed: Vec<String>,
}

/// One entity with another configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What of it.
    pub keys: Vec<KeyChange>,
}

/// One setting of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Its name.
    pub key: &'static str,
    /// What it was, for people.
    pub from: String,
    /// What it is.
    pub to: String,
    /// A process that runs goes on as it is; its successor will not.
    pub at_next_start: bool,
}

/// Compares what is in force with what was read.
///
/// # Errors
///
/// Why what is in force stays so.
pub fn plan<'a>(
    current: impl Iterator<Item = &'a EntitySpec>,
    loaded: &Loaded,
    wanted: Wanted,
) -> Result<Plan, String> {
    if loaded.refused() {
        let first = loaded.errors().next().map(ToString::to_string);
        return Err(first.unwrap_or_else(|| "it has errors".to_owned()));
    }
    let new: std::collections::HashMap<&str, &EntitySpec> = (loaded.entities.iter())
        .map(|spec| (spec.name.as_str(), spec))
        .collect();
    let mut plan = Plan::default();
    let mut known = std::collections::HashSet::new();
    for old in current {
        known.insert(old.name.as_str());
        let Some(spec) = new.get(old.name.as_str()) else {
            if let Origin::File { path, .. } = &old.origin {
                may_go(&old.name, path, loaded, wanted)?;
                plan.removed.push(old.name.clone());
            }
            continue;
        };
        let keys = changes(old, spec);
        if !keys.is_empty() {
            let name = old.name.clone();
            plan.changed.push(Change { name, keys });
        }
    }
    let names = loaded.entities.iter().map(|spec| &spec.name);
    plan.added = (names.filter(|name| !known.contains(name.as_str())))
        .cloned()
        .collect();
    plan.changed.sort_by(|one, other| one.name.cmp(&other.name));
    plan.removed.sort();
    Ok(plan)
}

/// Whether an entity of this file may be dropped.
fn may_go(name: &str, path: &Path, loaded: &Loaded, wanted: Wanted) -> Result<(), String> {
    for directory in &loaded.directories {
        if path.parent() != Some(directory.path.as_path()) {
            continue;
        }
        let place = directory.path.display();
        match &directory.entries {
            Err(why) => {
                return Err(format!(
                    "`{place}` cannot be read ({why}), and `{name}` is configured there"
                ));
            }
            // Somebody is about to fill it, or has lost it.
            Ok(0) if wanted == Wanted::ByChange => {
                return Err(format!(
                    "`{place}` is empty, and `{name}` is configured there; `pmon reload` if \
                     that is meant"
                ));
            }
            Ok(_) => {}
        }
    }
    let broken =
        |finding: &&super::Finding| finding.severity == Level::Error && finding.file == path;
    match loaded.findings.iter().find(broken) {
        Some(finding) => Err(finding.to_string()),
        None => Ok(()),
    }
}

/// The keys in which two configurations of one entity differ. Where in its file
/// it stands is none.
fn changes(old: &EntitySpec, new: &EntitySpec) -> Vec<KeyChange> {
    let mut keys = Keys::default();
    let EntitySpec {
        name: _,
        mode,
        severity,
        restarts,
        interval,
        debounce,
        startuptime,
        start_timeout,
        adoption_window,
        pidfile,
        start,
        stop,
        follow,
        quorum,
        subfunction,
        active,
        status,
        dependencies,
        storm,
        origin,
    } = old;
    keys.compare("mode", mode, &new.mode);
    keys.compare("severity", severity, &new.severity);
    keys.compare("restarts", restarts, &new.restarts);
    keys.compare("interval", interval, &new.interval);
    keys.compare("debounce", debounce, &new.debounce);
    keys.compare("startuptime", startuptime, &new.startuptime);
    keys.compare("start_timeout", start_timeout, &new.start_timeout);
    keys.compare("adoption_window", adoption_window, &new.adoption_window);
    keys.compare("pidfile", pidfile, &new.pidfile);
    keys.start(start, &new.start);
    keys.compare("stop", stop, &new.stop);
    keys.compare("follow", follow, &new.follow);
    keys.compare("quorum", quorum, &new.quorum);
    keys.compare("subfunction", subfunction, &new.subfunction);
    keys.compare("active", active, &new.active);
    keys.compare("status", status, &new.status);
    keys.compare("dependencies", dependencies, &new.dependencies);
    keys.compare("storm", storm, &new.storm);
    if file(origin) != file(&new.origin) {
        keys.say("file", origin.to_string(), new.origin.to_string(), false);
    }
    keys.0
}

fn file(origin: &Origin) -> Option<&Path> {
    match origin {
        Origin::File { path, line: _ } => Some(path),
        Origin::Operator => None,
    }
}

#[derive(Default)]
struct Keys(Vec<KeyChange>);

impl Keys {
    fn say(&mut self, key: &'static str, from: String, to: String, at_next_start: bool) {
        self.0.push(KeyChange {
            key,
            from,
            to,
            at_next_start,
        });
    }

    fn compare<T: PartialEq + Debug>(&mut self, key: &'static str, old: &T, new: &T) {
        if old != new {
            self.say(key, format!("{old:?}"), format!("{new:?}"), false);
        }
    }

    /// How a successor is started is of no concern to the process that runs.
    fn start(&mut self, old: &StartMethod, new: &StartMethod) {
        let (StartMethod::Command(old), StartMethod::Command(new)) = (old, new) else {
            if old != new {
                self.say("start", old.describe(), new.describe(), true);
            }
            return;
        };
        let CommandSpec {
            argv,
            environment,
            directory,
            user,
            group,
            daemonizes,
            log,
            early,
            sockets,
        } = old;
        let first = self.0.len();
        self.compare("command", argv, &new.argv);
        if *environment != new.environment {
            // Values may be secrets.
            let names = |of: &std::collections::BTreeMap<String, String>| {
                format!("{:?}", of.keys().collect::<Vec<_>>())
            };
            let (from, to) = (names(environment), names(&new.environment));
            self.say("environment", from, to, true);
        }
        self.compare("directory", directory, &new.directory);
        self.compare("user", user, &new.user);
        self.compare("group", group, &new.group);
        self.compare("daemonizes", daemonizes, &new.daemonizes);
        self.compare("log", log, &new.log);
        self.compare("socket", sockets, &new.sockets);
        for key in self.0.iter_mut().skip(first) {
            key.at_next_start = true;
        }
        self.compare("start", early, &new.early);
    }
}

#[cfg(test)]
#[path = "tests/plan.rs"]
mod tests;
