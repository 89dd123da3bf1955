//! Which of the ways to start a successor is usable on this host.
//!
//! The order is fixed: a systemd unit when systemd runs the host, otherwise the
//! LSB script, otherwise `/etc/init.d/<service>`, otherwise the native command.
//! A configured way that is not usable is a problem to be told, and the next
//! one is taken; with none left, deaths are reported and not recovered.
//!
//! The original rejects the whole file when the first way is unusable. It also
//! always runs `systemctl restart <service, or else process>`, even when only
//! a script is given; the unit named like the process therefore goes before
//! the one named like the script.

use std::path::{Path, PathBuf};

use crate::core::entity::{CommandSpec, StartMethod, UnitPolicy};

use super::{
    finding::Level,
    host::{Host, ScriptState, UnitState},
};

/// Where LSB scripts live.
pub const INIT_DIRECTORY: &str = "/etc/init.d";

/// What an entity offers for starting it.
#[derive(Clone, Debug, Default)]
pub struct Offer<'a> {
    /// Entity name.
    pub name: &'a str,
    /// `service` key.
    pub service: Option<&'a str>,
    /// `script` key.
    pub script: Option<&'a Path>,
    /// Native start command.
    pub command: Option<CommandSpec>,
    /// Who restarts its unit.
    pub policy: UnitPolicy,
    /// pmon.d only: the entity's name may serve as unit or script name.
    pub by_name: bool,
}

/// Which key a [`Problem`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `service`.
    Service,
    /// `script`.
    Script,
    /// `command`.
    Command,
    /// The entity as a whole.
    Entity,
}

/// Something unusable, for the caller to put a place on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key to blame.
    pub about: About,
    /// How bad.
    pub level: Level,
    /// What is wrong and what is done instead.
    pub message: String,
    /// How to put it right.
    pub hint: Option<String>,
}

/// The start method for `offer` on `host`, and what was wrong on the way to it.
pub fn start_method(offer: &Offer<'_>, host: &dyn Host) -> (StartMethod, Vec<Problem>) {
    let mut attempt = Attempt {
        offer,
        host,
        problems: Vec::new(),
    };
    let service = attempt.usable_service();
    let method = attempt
        .by_unit(service)
        .or_else(|| attempt.by_script())
        .or_else(|| attempt.by_init_directory(service))
        .or_else(|| attempt.by_command())
        .unwrap_or_else(|| attempt.nothing());
    (method, attempt.problems)
}

struct Attempt<'a> {
    offer: &'a Offer<'a>,
    host: &'a dyn Host,
    problems: Vec<Problem>,
}

impl<'a> Attempt<'a> {
    fn problem(&mut self, about: About, level: Level, message: String, hint: Option<String>) {
        self.problems.push(Problem {
            about,
            level,
            message,
            hint,
        });
    }

    /// `service`, unless it could be taken for a path or an option.
    fn usable_service(&mut self) -> Option<&'a str> {
        let service = self.offer.service?;
        if is_unit_name(service) {
            return Some(service);
        }
        self.problem(
            About::Service,
            Level::Error,
            format!("`{service}` is not a service name; key ignored"),
            Some("expected a unit name such as `sshd`, without path or blanks".to_owned()),
        );
        None
    }

    fn by_unit(&mut self, service: Option<&str>) -> Option<StartMethod> {
        if !self.host.systemd() {
            return None;
        }
        let policy = self.offer.policy;
        if let Some(service) = service {
            let unit = unit_name(service);
            match self.host.unit(&unit) {
                UnitState::Present => return Some(StartMethod::Unit { unit, policy }),
                UnitState::Masked => self.problem(
                    About::Service,
                    Level::Error,
                    format!("systemd unit `{unit}` is masked, so that it cannot be started"),
                    Some(format!("fix: systemctl unmask {unit}")),
                ),
                UnitState::Absent => self.problem(
                    About::Service,
                    Level::Error,
                    format!("systemd unit `{unit}` does not exist on this host"),
                    Some("install the unit or correct `service`".to_owned()),
                ),
            }
            return None;
        }
        if !self.offer.by_name {
            return None;
        }
        let basename = self.offer.script.and_then(Path::file_name);
        [
            Some(self.offer.name),
            basename.and_then(|name| name.to_str()),
        ]
        .into_iter()
        .flatten()
        .filter(|name| is_unit_name(name))
        .map(unit_name)
        .find(|unit| self.host.unit(unit) == UnitState::Present)
        .map(|unit| StartMethod::Unit { unit, policy })
    }

    fn by_script(&mut self) -> Option<StartMethod> {
        let path = self.offer.script?;
        if !path.is_absolute() {
            self.problem(
                About::Script,
                Level::Error,
                format!(
                    "script `{}` is not an absolute path; key ignored",
                    path.display()
                ),
                None,
            );
            return None;
        }
        match self.host.script(path) {
            ScriptState::Executable => {
                return Some(StartMethod::Script {
                    path: path.to_path_buf(),
                });
            }
            ScriptState::NotExecutable => self.problem(
                About::Script,
                Level::Error,
                format!("script `{}` is not executable", path.display()),
                Some(format!("fix: chmod +x {}", path.display())),
            ),
            ScriptState::Absent => self.problem(
                About::Script,
                Level::Error,
                format!("script `{}` does not exist", path.display()),
                None,
            ),
        }
        None
    }

    fn by_init_directory(&mut self, service: Option<&str>) -> Option<StartMethod> {
        let fallback = self.offer.by_name.then_some(self.offer.name);
        let name = service.or(fallback).filter(|name| is_unit_name(name))?;
        let name = name.strip_suffix(".service").unwrap_or(name);
        let path = PathBuf::from(INIT_DIRECTORY).join(name);
        if self.offer.script == Some(path.as_path())
            || self.host.script(&path) != ScriptState::Executable
        {
            return None;
        }
        Some(StartMethod::Script { path })
    }

    fn by_command(&mut self) -> Option<StartMethod> {
        let command = self.offer.command.clone()?;
        if let Some(program) = command.argv.first() {
            let missing = match self.host.script(Path::new(program)) {
                ScriptState::Executable => None,
                ScriptState::NotExecutable => Some("is not executable"),
                ScriptState::Absent => Some("does not exist"),
            };
            if let Some(missing) = missing {
                self.problem(
                    About::Command,
                    Level::Warning,
                    format!("program `{program}` {missing} on this host at present"),
                    None,
                );
            }
        }
        Some(StartMethod::Command(command))
    }

    fn nothing(&mut self) -> StartMethod {
        let Offer {
            name,
            service,
            script,
            command: _,
            policy: _,
            by_name: _,
        } = self.offer;
        let reason = match (service, script) {
            (None, None) => "no start method is configured".to_owned(),
            (Some(service), None) => format!("no unit or init script for service `{service}`"),
            (None, Some(script)) => format!("script `{}` is not usable", script.display()),
            (Some(service), Some(script)) => format!(
                "neither service `{service}` nor script `{}` is usable",
                script.display()
            ),
        };
        self.problem(
            About::Entity,
            Level::Error,
            format!("{reason}: deaths of `{name}` will be reported but not recovered"),
            match (service, script) {
                (None, None) => Some("give `service` or `script`".to_owned()),
                (Some(_), _) | (_, Some(_)) => None,
            },
        );
        StartMethod::None { reason }
    }
}

/// `service`, with `.service` appended unless it contains that already.
fn unit_name(service: &str) -> String {
    if service.contains(".service") {
        service.to_owned()
    } else {
        format!("{service}.service")
    }
}

/// Characters of systemd.unit(5) unit names, and not an option of systemctl.
fn is_unit_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['-', '.'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c))
}

#[cfg(test)]
#[path = "tests/resolve.rs"]
mod tests;
