//! Configuration: files in two dialects to one validated model.
//!
//! `native` reads TOML, `directory` and `pmond` read pmon.d files; both end in
//! [`crate::core::entity::EntitySpec`]. Must stay true: nothing is dropped without
//! a [`Finding`], a bad pmon.d file never affects another one, and a bad TOML file
//! refuses the configuration as a whole (see [`Loaded::refused`]). Everything
//! here is blocking; nothing here changes the host.

pub mod dependency;
pub mod directory;
pub mod file;
pub mod finding;
pub mod host;
pub mod ini;
pub mod name;
pub mod native;
pub mod number;
pub mod plan;
pub mod pmond;
pub mod resolve;
pub mod settings;
mod starlingx;
pub mod storm;
pub mod watch;
pub mod watched;

use std::path::{Path, PathBuf};

use crate::core::entity::{EntitySpec, Origin};
use settings::starlingx::StarlingxSettings;

pub use finding::{Finding, Level};
pub use host::{Host, LocalHost};
pub use native::schema::schema;
pub use settings::Settings;

/// Where configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The main TOML file. `conf.d/*.toml` beside it is read, too.
    pub pmon_toml: PathBuf,
    /// Somebody named the main file, so that its absence is an error.
    pub explicit: bool,
    /// Directory of pmon.d files, in place of the one that `[pmon_d]` names.
    pub pmon_d: Option<PathBuf>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            pmon_toml: "/etc/pmon/pmon.toml".into(),
            explicit: false,
            pmon_d: None,
        }
    }
}

impl Sources {
    /// The directory of additional TOML files.
    pub fn conf_d(&self) -> PathBuf {
        self.pmon_toml.with_file_name("conf.d")
    }

    /// The directory of pmon.d files, if any are read.
    pub fn pmon_d<'a>(&'a self, settings: &'a Settings) -> Option<&'a Path> {
        self.pmon_d
            .as_deref()
            .or(settings.pmon_d.directory.as_deref())
    }
}

/// A process that configuration names but that cannot be monitored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmonitored {
    /// Its name, or the file's where that is what is missing.
    pub name: String,
    /// Where it was configured.
    pub origin: Origin,
    /// Why not.
    pub reason: String,
}

/// A directory of configuration files, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadDirectory {
    /// Which.
    pub path: PathBuf,
    /// How many entries it had, or why it could not be read.
    pub entries: Result<usize, String>,
}

/// All that was read.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// How the daemon is to run.
    pub settings: Settings,
    /// Entities of TOML files, then those of pmon.d files; names are unique.
    pub entities: Vec<EntitySpec>,
    /// What cannot be monitored, and why.
    pub unmonitored: Vec<Unmonitored>,
    /// The directories it was read from.
    pub directories: Vec<ReadDirectory>,
    /// Everything there is to say, file by file.
    pub findings: Vec<Finding>,
    refused: bool,
}

impl Loaded {
    /// A TOML file is broken, or a named one is missing: what was read must not
    /// replace a running configuration, nor start a daemon that was given this
    /// configuration by name. What could be read is there all the same.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Level::Error)
    }

    /// Adds an entity, unless its name is taken.
    fn add_entity(&mut self, entity: EntitySpec, path: &Path) {
        let line = match &entity.origin {
            Origin::File { line, path: _ } => Some(*line),
            Origin::Operator => None,
        };
        let name = &entity.name;
        let mut say = |level, message: String, hint: &str| {
            self.findings.push(Finding {
                line,
                ..Finding::new(level, path, message).hint(hint)
            });
        };
        for other in &self.entities {
            if other.name == *name {
                let first = &other.origin;
                let message = format!(
                    "process `{name}` is already configured at {first}; this one is not loaded"
                );
                say(Level::Error, message, "remove one of the two or rename it");
                return;
            }
            if other.pidfile.is_some() && other.pidfile == entity.pidfile {
                let (twin, place) = (&other.name, &other.origin);
                let message = format!("`{name}` has the same pidfile as `{twin}` at {place}");
                say(Level::Warning, message, "both will act on one process");
            }
            if let (Some(own), Some(theirs)) = (&entity.active, &other.active)
                && own.port == theirs.port
            {
                let (twin, place) = (&other.name, &other.origin);
                let message = format!("`{name}` has the same port as `{twin}` at {place}");
                say(Level::Warning, message, "one of the two will not be asked");
            }
        }
        let reply_port = self.settings.daemon.active_reply_port;
        if (entity.active.as_ref()).is_some_and(|active| active.port == reply_port) {
            let message = format!("`{name}` has the port {reply_port}, where processes answer");
            say(Level::Error, message, "give it a port of its own");
        }
        self.entities.push(entity);
    }
}

/// Reads `[compat.starlingx]` alone, with nothing that could hang: what is to be
/// at work before anything else. Mistakes are [`load`]'s to tell.
pub fn starlingx(sources: &Sources, host: &dyn Host) -> StarlingxSettings {
    native::starlingx(sources, host)
}

/// Reads everything. Blocking: file system and, for user names, name services.
pub fn load(sources: &Sources, host: &dyn Host) -> Loaded {
    let mut loaded = Loaded::default();
    let overrides = native::load(&mut loaded, sources, host);
    let native = loaded.entities.len();
    if let Some(directory) = sources.pmon_d(&loaded.settings).map(Path::to_path_buf) {
        let explicit = sources.pmon_d.is_some()
            || loaded.settings.pmon_d != settings::PmonDSettings::default();
        directory::load(&mut loaded, &directory, explicit, host);
    }
    native::check_overrides(&mut loaded, &overrides, native);
    starlingx::check(&mut loaded);
    dependency::relate(&mut loaded);
    loaded
}

#[cfg(test)]
#[path = "tests/documentation.rs"]
mod documentation_tests;
#[cfg(test)]
#[path = "tests/load.rs"]
mod load_tests;
#[cfg(test)]
#[path = "tests/samples.rs"]
mod sample_tests;
