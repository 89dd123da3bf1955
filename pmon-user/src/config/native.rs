//! Native TOML files: the main one, then `conf.d/*.toml` beside it in lexical order.
//!
//! A later file is laid over the earlier ones setting by setting and entity by
//! entity (an entity is replaced as a whole). Unlike in pmon.d, nothing is
//! guessed: an unknown key or a value out of range is an error that refuses the
//! configuration. What only this host lacks (a program, a user) is said and
//! refuses nothing.

mod entity;
pub mod schema;
pub mod table;
pub mod value;

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

use super::{
    Loaded, Sources, Unmonitored,
    file::{self, ReadError},
    finding::{Finding, Level, Place, did_you_mean},
    host::Host,
    settings::{Override, Settings},
};
use crate::core::entity::Origin;
use table::{
    ControlTable, DaemonTable, DefaultsTable, EntityTable, NativeFile, OverrideTable, PmonDTable,
};

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
            pmon_d,
            overrides: tables,
            entity,
        } = parsed;
        let settings = &mut loaded.settings;
        let daemon = lay_daemon(settings, daemon, &source);
        lay_control(settings, control);
        lay_defaults(settings, &defaults);
        let PmonDTable { directory } = pmon_d;
        if let Some(directory) = directory {
            settings.pmon_d.directory = directory.path();
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
            } = exception;
            let known = exceptions.entry(name.into_inner()).or_default();
            known.stop = stop.or(known.stop);
            known.start_timeout = start_timeout.or(known.start_timeout);
        }
        for problem in daemon {
            refuse(loaded, problem);
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
                },
            )| {
                let stop = stop.map(|stop| stop.policy(default));
                let start_timeout = start_timeout.map(|given| given.0);
                (
                    name,
                    Override {
                        stop,
                        start_timeout,
                    },
                )
            },
        )
        .collect();
    add_entities(loaded, &files, host);
    overrides
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
    let mut additional = match additional(&conf_d) {
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

/// Lays `[daemon]` over what earlier files said. Returns what is out of range.
fn lay_daemon(settings: &mut Settings, table: DaemonTable, source: &Source) -> Vec<Finding> {
    let DaemonTable {
        run_dir,
        state_dir,
        pin_dir,
        socket_group,
        audit_interval,
        settle,
        source: choice,
        receiver_priority,
        max_pids,
        ring_bytes,
    } = table;
    let daemon = &mut settings.daemon;
    let mut problems = Vec::new();
    let mut problem = |span, message: &str| {
        problems.push(source.finding(Level::Error, span, message));
    };
    set(&mut daemon.run_dir, run_dir.map(|path| path.0));
    set(&mut daemon.state_dir, state_dir.map(|path| path.0));
    set(&mut daemon.pin_dir, pin_dir.map(value::PathOrNone::path));
    set(&mut daemon.socket_group, socket_group.map(|name| name.0));
    set(&mut daemon.settle, settle.map(|settle| settle.0));
    set(&mut daemon.source, choice);
    if let Some(interval) = audit_interval {
        if interval.get_ref().0 < Duration::from_secs(1) {
            problem(interval.span(), "`audit_interval` must be at least 1s");
        } else {
            daemon.audit_interval = interval.get_ref().0;
        }
    }
    // sched(7): SCHED_FIFO priorities are 1 to 99.
    if let Some(given) = in_range(
        receiver_priority,
        |value| value <= 99,
        |span| {
            problem(span, "`receiver_priority` must be 0 to 99");
        },
    ) {
        daemon.receiver_priority = given;
    }
    if let Some(given) = in_range(
        max_pids,
        |value| value >= 1,
        |span| {
            problem(span, "`max_pids` must be at least 1");
        },
    ) {
        daemon.max_pids = given;
    }
    // BPF_MAP_TYPE_RINGBUF wants a power of two of whole pages.
    let ring = |value: u32| value >= 4096 && value.is_power_of_two();
    if let Some(given) = in_range(ring_bytes, ring, |span| {
        problem(span, "`ring_bytes` must be a power of two, at least 4096");
    }) {
        daemon.ring_bytes = given;
    }
    problems
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// The value, unless it fails `test`, which is reported.
fn in_range<T: Copy>(
    given: Option<Spanned<T>>,
    test: impl Fn(T) -> bool,
    report: impl FnOnce(Range<usize>),
) -> Option<T> {
    let given = given?;
    let value = *given.get_ref();
    if test(value) {
        return Some(value);
    }
    report(given.span());
    None
}

fn lay_control(settings: &mut Settings, table: ControlTable) {
    let ControlTable {
        read_gids,
        write_uids,
        write_gids,
    } = table;
    set(&mut settings.control.read_gids, read_gids);
    set(&mut settings.control.write_uids, write_uids);
    set(&mut settings.control.write_gids, write_gids);
}

fn lay_defaults(settings: &mut Settings, table: &DefaultsTable) {
    let DefaultsTable {
        stop,
        start_timeout,
    } = table;
    let defaults = &mut settings.defaults;
    set(
        &mut defaults.stop,
        stop.map(|stop| stop.policy(Settings::default().defaults.stop)),
    );
    set(
        &mut defaults.start_timeout,
        start_timeout.map(|given| given.0),
    );
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
                loaded.entities.push(entity);
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
#[path = "tests/native.rs"]
mod tests;
