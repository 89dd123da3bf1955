//! Native TOML files: the main one, then `conf.d/*.toml` beside it in lexical order.
//!
//! A later file is laid over the earlier ones setting by setting and entity by
//! entity (an entity is replaced as a whole). Unlike in pmon.d, nothing is
//! guessed: an unknown key or a value out of range is an error that refuses the
//! configuration. What only this host lacks (a program, a user) is said and
//! refuses nothing.

mod entity;
mod overlay;
pub mod schema;
pub mod socket;
pub mod stop;
pub mod storm;
pub mod table;
pub mod value;

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    Loaded, ReadDirectory, Sources, Unmonitored,
    dependency::GroupSettings,
    file::{self, ReadError},
    finding::{Finding, Level, Place, did_you_mean},
    host::Host,
    settings::{Override, starlingx::StarlingxSettings},
    storm::StormKeys,
};
use crate::core::{
    dependency::{Group, Strategy},
    entity::Origin,
};
use table::{EntityTable, GroupTable, NativeFile, OverrideTable, PmonDTable};

/// A file's path and text, to find places in.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn place(&self, span: &Range<usize>) -> Place {
        Place::of_offset(&self.text, span.start)
    }

    fn finding(&self, level: Level, span: Range<usize>, message: impl Into<String>) -> Finding {
        Finding::new(level, &self.path, message).at(self.place(&span))
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line: self.place(&span).line,
        }
    }
}

/// Where an `[override.NAME]` table stands.
pub(super) struct OverridePlace {
    name: String,
    path: PathBuf,
    place: Place,
}

/// Reads all native files into `loaded`. Returns where overrides stand, for
/// [`check_overrides`].
pub(super) fn load(loaded: &mut Loaded, sources: &Sources, host: &dyn Host) -> Vec<OverridePlace> {
    let mut files: Vec<(Source, Vec<EntityTable>)> = Vec::new();
    let mut overrides = Vec::new();
    let mut exceptions: BTreeMap<String, OverrideTable> = BTreeMap::new();
    for (path, required) in paths(loaded, sources) {
        let Some(source) = read(loaded, path, required, host) else {
            continue;
        };
        let parsed: NativeFile = match toml::from_str(&source.text) {
            Ok(parsed) => parsed,
            Err(error) => {
                refuse(loaded, syntax(&source, &error));
                continue;
            }
        };
        let NativeFile {
            daemon,
            control,
            defaults,
            alarm,
            pmon_d,
            compat,
            overrides: tables,
            group,
            entity,
        } = parsed;
        let settings = &mut loaded.settings;
        let daemon = overlay::daemon(settings, daemon, &source);
        overlay::control(settings, control);
        overlay::defaults(settings, &defaults);
        let alarm = overlay::alarm(settings, alarm, &source, host);
        overlay::starlingx(settings, &compat.starlingx);
        let PmonDTable { directory } = pmon_d;
        if let Some(directory) = directory {
            settings.pmon_d.directory = directory.path();
        }
        for (name, table) in group {
            let GroupTable { strategy, members } = table;
            let origin = source.origin(name.span());
            let group = Group {
                name: name.get_ref().clone(),
                strategy: strategy.map_or_else(Strategy::default, Into::into),
                members: members.into_iter().map(|member| member.0).collect(),
            };
            let settings = GroupSettings { group, origin };
            loaded.settings.groups.insert(name.into_inner(), settings);
        }
        for (name, exception) in tables {
            overrides.push(OverridePlace {
                name: name.get_ref().clone(),
                path: source.path.clone(),
                place: source.place(&name.span()),
            });
            let OverrideTable {
                stop,
                start_timeout,
                systemd,
                backoff,
                intensity,
                flapping,
                after,
                requires,
                adoption_window,
            } = exception;
            let known = exceptions.entry(name.into_inner()).or_default();
            known.stop = stop.or(known.stop);
            known.start_timeout = start_timeout.or(known.start_timeout);
            known.systemd = systemd.or(known.systemd);
            known.backoff = backoff.or(known.backoff);
            known.intensity = intensity.or(known.intensity);
            known.flapping = flapping.or(known.flapping);
            known.after = after.or(known.after.take());
            known.requires = requires.or(known.requires.take());
            known.adoption_window = adoption_window.or(known.adoption_window);
        }
        for problem in daemon.into_iter().chain(alarm) {
            match problem.severity {
                Level::Error => refuse(loaded, problem),
                Level::Warning | Level::Note => loaded.findings.push(problem),
            }
        }
        files.push((source, entity));
    }
    let default = loaded.settings.defaults.stop;
    loaded.settings.overrides = exceptions
        .into_iter()
        .map(
            |(
                name,
                OverrideTable {
                    stop,
                    start_timeout,
                    systemd,
                    backoff,
                    intensity,
                    flapping,
                    after,
                    requires,
                    adoption_window,
                },
            )| {
                let stop = stop.map(|stop| stop.policy(default));
                let start_timeout = start_timeout.map(|given| given.0);
                let adoption_window = adoption_window.map(|given| given.0);
                (
                    name,
                    Override {
                        stop,
                        start_timeout,
                        systemd: systemd.map(Into::into),
                        storm: StormKeys {
                            backoff: backoff.map(|given| given.0),
                            intensity: intensity.map(|given| given.0),
                            flapping: flapping.map(|given| given.0),
                        },
                        after: after.map(|names| names.into_iter().map(|one| one.0).collect()),
                        requires: (requires)
                            .map(|names| names.into_iter().map(|one| one.0).collect()),
                        adoption_window,
                    },
                )
            },
        )
        .collect();
    add_entities(loaded, &files, host);
    overrides
}

/// `[compat.starlingx]` of all native files that can be read.
pub(super) fn starlingx(sources: &Sources, host: &dyn Host) -> StarlingxSettings {
    let mut loaded = Loaded::default();
    for (path, required) in paths(&mut loaded, sources) {
        let source = read(&mut loaded, path, required, host);
        let parsed = source.map(|source| toml::from_str(&source.text));
        if let Some(Ok(NativeFile { compat, .. })) = parsed {
            overlay::starlingx(&mut loaded.settings, &compat.starlingx);
        }
    }
    loaded.settings.starlingx
}

/// Says which overrides meet no pmon.d entity. `native` entities come first in
/// `loaded.entities` and have no use for overrides.
pub(super) fn check_overrides(loaded: &mut Loaded, overrides: &[OverridePlace], native: usize) {
    for OverridePlace { name, path, place } in overrides {
        let index = loaded
            .entities
            .iter()
            .position(|entity| entity.name == *name);
        let (message, hint) = match index {
            Some(index) if index >= native => continue,
            Some(_) => (
                format!("override of `{name}` has no effect: it comes from a TOML file"),
                Some("set the keys in its `[[entity]]` table".to_owned()),
            ),
            None => {
                let names: Vec<&str> = loaded.entities[native..]
                    .iter()
                    .map(|entity| entity.name.as_str())
                    .collect();
                (
                    format!("override of `{name}` has no effect: no pmon.d file has that process"),
                    did_you_mean(name, &names),
                )
            }
        };
        loaded.findings.push(
            Finding::new(Level::Warning, path, message)
                .at(*place)
                .maybe_hint(hint),
        );
    }
}

/// Adds an error that refuses the configuration.
fn refuse(loaded: &mut Loaded, finding: Finding) {
    loaded.refused = true;
    loaded.findings.push(finding);
}

/// Files to read, in order, and whether each must exist.
fn paths(loaded: &mut Loaded, sources: &Sources) -> Vec<(PathBuf, bool)> {
    let mut paths = vec![(sources.pmon_toml.clone(), sources.explicit)];
    let conf_d = sources.conf_d();
    let listed = additional(&conf_d);
    loaded.directories.push(ReadDirectory {
        path: conf_d.clone(),
        entries: match &listed {
            Ok(paths) => Ok(paths.len()),
            Err(error) => Err(error.to_string()),
        },
    });
    if let Some(directory) = sources.pmon_toml.parent()
        && let Err(error) = std::fs::metadata(directory)
    {
        loaded.directories.push(ReadDirectory {
            path: directory.to_path_buf(),
            entries: Err(error.to_string()),
        });
    }
    let mut additional = match listed {
        Ok(additional) => additional,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let message = format!("directory cannot be read: {error}");
            refuse(loaded, Finding::new(Level::Error, conf_d, message));
            Vec::new()
        }
    };
    additional.sort();
    paths.extend(additional.into_iter().map(|path| (path, false)));
    paths
}

/// `*.toml` in `directory`, but for hidden ones.
fn additional(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn read(loaded: &mut Loaded, path: PathBuf, required: bool, host: &dyn Host) -> Option<Source> {
    let bytes = match file::read(&path, host.privileged()) {
        Ok(bytes) => bytes,
        Err(ReadError::Vanished) if !required => return None,
        Err(ReadError::Vanished) => {
            let finding = Finding::new(Level::Error, path, "configuration file does not exist");
            refuse(loaded, finding);
            return None;
        }
        Err(error) => {
            refuse(loaded, error.finding(Level::Error, &path));
            return None;
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source { path, text }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let place = Place::of_offset(&text, valid);
            refuse(
                loaded,
                Finding::new(Level::Error, path, "not valid UTF-8").at(place),
            );
            None
        }
    }
}

/// An error of the TOML reader, in one line and with the nearest valid spelling.
fn syntax(source: &Source, error: &toml::de::Error) -> Finding {
    let text = error.message().trim().replace('\n', ", ");
    let mut quoted = text.split('`').skip(1).step_by(2);
    let (message, hint) = if text.starts_with("unknown ") {
        let unknown = quoted.next().unwrap_or_default();
        let valid: Vec<&str> = quoted.collect();
        let list = valid.join("`, `");
        let what = if text.starts_with("unknown field") {
            format!("unknown key `{unknown}`")
        } else {
            format!("unknown value `{unknown}`")
        };
        let hint =
            did_you_mean(unknown, &valid).unwrap_or_else(|| format!("expected one of `{list}`"));
        (what, Some(hint))
    } else {
        (text.replace("missing field", "missing key"), None)
    };
    let finding = Finding::new(Level::Error, &source.path, message).maybe_hint(hint);
    match error.span() {
        Some(span) => finding.at(source.place(&span)),
        None => finding,
    }
}

/// Builds the entities of all files, the last one of each name.
fn add_entities(loaded: &mut Loaded, files: &[(Source, Vec<EntityTable>)], host: &dyn Host) {
    let mut chosen: Vec<(&Source, &EntityTable)> = Vec::new();
    for (source, tables) in files {
        for table in tables {
            let name = table.name.get_ref();
            let known = chosen
                .iter_mut()
                .find(|(_, other)| other.name.get_ref() == name);
            let Some(known) = known else {
                chosen.push((source, table));
                continue;
            };
            let first = entity::origin(known.0, known.1);
            let span = table.name.span();
            if known.0.path == source.path {
                let message = format!("entity `{}` is already configured at {first}", name.0);
                let finding = source.finding(Level::Error, span, message);
                refuse(loaded, finding.hint("rename or remove one of the two"));
            } else {
                let message = format!("entity `{}` replaces the one at {first}", name.0);
                loaded
                    .findings
                    .push(source.finding(Level::Note, span, message));
                *known = (source, table);
            }
        }
    }
    for (source, table) in chosen {
        match entity::build(source, table, &loaded.settings, host) {
            Ok((entity, findings)) => {
                loaded.findings.extend(findings);
                loaded.add_entity(entity, &source.path);
            }
            Err(finding) => {
                loaded.unmonitored.push(Unmonitored {
                    name: table.name.get_ref().0.clone(),
                    origin: entity::origin(source, table),
                    reason: finding.message.clone(),
                });
                refuse(loaded, finding);
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/early.rs"]
mod early_tests;
#[cfg(test)]
#[path = "tests/native.rs"]
mod tests;
