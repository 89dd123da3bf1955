//! One pmon.d file to one entity.
//!
//! The original drops a file with a missing key, and ignores a process with a
//! misspelt mode or severity; either way nobody is told and nothing is watched.
//! Here whatever can be watched is watched: a missing or bad value gets the
//! default below and an error finding. Only three things keep an entity from
//! being loaded: no usable name, no pidfile, no script in status mode. An
//! explicit `mode = ignore` is obeyed.
//!
//! | missing or bad | assumed |
//! |---|---|
//! | `severity` | the last valid one in the file, else `major` |
//! | `mode` | the spelling at most two letters away, else the last valid one, else `passive` |
//! | `restarts`, `interval`, `debounce` | 3, 5 s, 20 s |
//! | `start_arg`, `status_arg`, and `period`, `timeout` of status mode | `start`, `status`, 30 s, 120 s |
//! | `port`, `period`, `timeout` or `threshold` of active mode | passive mode |
//!
//! Values are read by C's `atoi` (see `number`): a value without digits is 0.

mod active;
mod keys;
mod status;

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::core::entity::{EntitySpec, Mode, Origin, Severity, StartMethod};

use super::{
    Unmonitored,
    finding::{Finding, Level, Place, did_you_mean},
    host::Host,
    ini,
    name::bad_name,
    number,
    resolve::{self, About, Offer},
    settings::Settings,
};
use keys::{Given, Keys};

/// Severity where the file gives none.
pub const DEFAULT_SEVERITY: Severity = Severity::Major;
/// `restarts` where the file gives none; the most frequent value of shipped files.
pub const DEFAULT_RESTARTS: u32 = 3;
/// `interval` where the file gives none, in seconds.
pub const DEFAULT_INTERVAL_S: u32 = 5;
/// `debounce` where the file gives none, in seconds.
pub const DEFAULT_DEBOUNCE_S: u32 = 20;
/// `startuptime` where the file gives none or 0, in seconds; pmond's own default.
pub const DEFAULT_STARTUPTIME_S: u32 = 1;
/// Longest time, in seconds; pmond's timers do not wait at all above it.
pub const MAX_SECONDS: u32 = 30_000;
/// Most `restarts`.
pub const MAX_RESTARTS: u32 = 65_535;
/// Longest and default `period` of active monitoring, in seconds (pmond's limit).
pub const MAX_ACTIVE_PERIOD_S: u32 = 120;

/// What became of a file.
#[derive(Debug)]
pub enum Outcome {
    /// An entity.
    Entity(Box<EntitySpec>),
    /// A process is meant, but cannot be monitored.
    Unmonitored(Unmonitored),
    /// The file describes no process at all.
    Nothing,
}

/// Makes an entity of the file `path` with content `bytes`. Findings are in
/// line order; those about the file as a whole come last.
pub fn load(
    path: &Path,
    bytes: &[u8],
    settings: &Settings,
    host: &dyn Host,
) -> (Outcome, Vec<Finding>) {
    let document = ini::parse(bytes);
    let mut builder = Builder {
        path,
        settings,
        host,
        keys: Keys::collect(path, &document),
        // Until the name is known.
        home: Place { line: 1, column: 1 },
        mode: Mode::Passive,
    };
    let outcome = builder.outcome();
    let mut findings = builder.keys.findings;
    findings.sort_by_key(|finding| (finding.line.unwrap_or(u32::MAX), finding.column));
    (outcome, findings)
}

/// `mode` value of a mode.
fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Passive => "passive",
        Mode::Active => "active",
        Mode::Status => "status",
        Mode::Ignore => "ignore",
    }
}

struct Builder<'a> {
    path: &'a Path,
    settings: &'a Settings,
    host: &'a dyn Host,
    keys: Keys<'a>,
    /// Where the name stands; missing keys are reported there.
    home: Place,
    mode: Mode,
}

impl<'a> Builder<'a> {
    fn outcome(&mut self) -> Outcome {
        let name = match self.name() {
            Ok(name) => name,
            Err(outcome) => return outcome,
        };
        self.mode = self.keys.mode.unwrap_or(Mode::Passive);
        if !self.keys.has("style") {
            self.keys.say_with(
                Level::Warning,
                self.home,
                "`style` is missing; the original pmond would not monitor this process",
                Some("add `style = lsb`".to_owned()),
            );
        }
        let severity = self.severity();
        let restarts = self.count("restarts", Some(DEFAULT_RESTARTS), 0, MAX_RESTARTS, "");
        let interval = self.seconds("interval", Some(DEFAULT_INTERVAL_S), 0);
        // Status monitoring has no debounce.
        let wanted = (self.mode != Mode::Status).then_some(DEFAULT_DEBOUNCE_S);
        let debounce = self.seconds("debounce", wanted, DEFAULT_DEBOUNCE_S);
        let startuptime = self.startuptime();
        let active = self.active(&name);
        self.remark_on_dropped();
        let status = match self.status(&name) {
            Ok(status) => status,
            Err(outcome) => return outcome,
        };
        let pidfile = match self.pidfile(&name) {
            Ok(pidfile) => pidfile,
            Err(outcome) => return outcome,
        };
        let start = match &status {
            Some(status) => self.start_of_status(status),
            None => self.start(&name),
        };
        Outcome::Entity(Box::new(EntitySpec {
            mode: self.mode,
            severity,
            restarts,
            interval,
            debounce,
            startuptime,
            start_timeout: self.settings.start_timeout_of(&name, startuptime),
            adoption_window: self.settings.adoption_window_of(&name),
            pidfile,
            start,
            stop: self.settings.stop_of(&name),
            follow: false,
            quorum: self.keys.quorum,
            subfunction: self.subfunction(),
            active,
            status,
            dependencies: self.settings.dependencies_of(&name),
            storm: self.settings.storm_of(&name, interval),
            origin: self.origin(),
            name,
        }))
    }

    fn origin(&self) -> Origin {
        Origin::File {
            path: self.path.to_path_buf(),
            line: self.home.line,
        }
    }

    fn unmonitored(&self, name: &str, reason: impl Into<String>) -> Outcome {
        Outcome::Unmonitored(Unmonitored {
            name: name.to_owned(),
            origin: self.origin(),
            reason: reason.into(),
        })
    }

    /// Errors about an entity that is to be ignored anyway are only notes.
    fn level(&self) -> Level {
        match self.mode {
            Mode::Passive | Mode::Active | Mode::Status => Level::Error,
            Mode::Ignore => Level::Note,
        }
    }

    fn name(&mut self) -> Result<String, Outcome> {
        if let Some(given) = self.keys.get("process") {
            self.home = given.value_place;
            let name = given.text().into_owned();
            let Some(why) = bad_name(&name) else {
                return Ok(name);
            };
            let shown = name.escape_default().to_string();
            let reason = format!("process name `{shown}` {why}");
            self.keys.say(
                Level::Error,
                given.value_place,
                format!("{reason}; not monitored"),
            );
            return Err(self.unmonitored(&shown, reason));
        }
        if let (false, Some(elsewhere)) = (self.keys.any, self.keys.name_elsewhere) {
            self.home = elsewhere.value_place;
            let name = elsewhere.text();
            let reason = "its keys are not in a `[process]` section";
            self.keys.say_with(
                Level::Error,
                elsewhere.place,
                format!("process `{name}` is not monitored: {reason}"),
                Some("head the section `[process]`".to_owned()),
            );
            return Err(self.unmonitored(&name, reason));
        }
        if !self.keys.any {
            self.keys.findings.push(
                Finding::new(
                    Level::Error,
                    self.path,
                    "no `[process]` section with keys; the file has no effect",
                )
                .hint("remove the file if it is not a configuration"),
            );
            return Err(Outcome::Nothing);
        }
        let reason = "`process`, the name, is missing";
        self.keys.findings.push(
            Finding::new(Level::Error, self.path, format!("{reason}; not monitored"))
                .hint("add `process = NAME` to `[process]`"),
        );
        let file_name = self.path.file_name().unwrap_or(self.path.as_os_str());
        Err(self.unmonitored(&file_name.to_string_lossy(), reason))
    }

    fn severity(&mut self) -> Severity {
        if let Some(severity) = self.keys.severity {
            return severity;
        }
        let level = self.level();
        self.keys.say_with(
            level,
            self.home,
            format!("`severity` is missing; `{DEFAULT_SEVERITY}` assumed"),
            Some("expected `minor`, `major` or `critical`".to_owned()),
        );
        DEFAULT_SEVERITY
    }

    /// A number; `wanted` is what is assumed, with a finding, when the key is
    /// missing, and `otherwise` what is used silently then.
    fn count(
        &mut self,
        key: &'static str,
        wanted: Option<u32>,
        otherwise: u32,
        maximum: u32,
        unit: &str,
    ) -> u32 {
        let Some(given) = self.keys.get(key) else {
            if let Some(default) = wanted {
                let level = self.level();
                self.keys.say_with(
                    level,
                    self.home,
                    format!("`{key}` is missing; {default}{unit} assumed"),
                    Some(format!("add `{key} = {default}`")),
                );
            }
            return wanted.unwrap_or(otherwise);
        };
        let judged = number::judge(given.value, wanted.unwrap_or(otherwise), maximum, unit);
        if let Some((level, message)) = judged.remark {
            self.keys
                .say(level, given.value_place, format!("{key}: {message}"));
        }
        judged.value
    }

    fn seconds(&mut self, key: &'static str, wanted: Option<u32>, otherwise: u32) -> Duration {
        Duration::from_secs(self.count(key, wanted, otherwise, MAX_SECONDS, " s").into())
    }

    fn at_least_one(&mut self, key: &'static str, unit: &str) -> u32 {
        let value = self.count(key, None, 1, MAX_SECONDS, unit);
        if value == 0 {
            self.clamped(key, &format!("0 makes no sense here; 1{unit} assumed"));
        }
        value.max(1)
    }

    /// Says that the value of `key` was replaced.
    fn clamped(&mut self, key: &'static str, why: &str) {
        if let Some(given) = self.keys.get(key) {
            self.keys
                .say(Level::Error, given.value_place, format!("{key}: {why}"));
        }
    }

    fn startuptime(&mut self) -> Duration {
        let given = self.seconds("startuptime", None, DEFAULT_STARTUPTIME_S);
        given.max(Duration::from_secs(DEFAULT_STARTUPTIME_S.into()))
    }

    /// An absolute path; a relative one is taken from `/`, where a daemon lives.
    fn path_of(&mut self, key: &'static str, given: Given<'a>) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(given.value));
        if path.is_absolute() {
            return path.to_path_buf();
        }
        let assumed = Path::new("/").join(path);
        self.keys.say(
            Level::Warning,
            given.value_place,
            format!(
                "{key}: `{}` is not an absolute path; `{}` assumed",
                path.display(),
                assumed.display()
            ),
        );
        assumed
    }

    fn pidfile(&mut self, name: &str) -> Result<Option<PathBuf>, Outcome> {
        if let Some(given) = self.keys.get("pidfile") {
            return Ok(Some(self.path_of("pidfile", given)));
        }
        match self.mode {
            Mode::Status | Mode::Ignore => Ok(None),
            Mode::Passive | Mode::Active => {
                let reason = "`pidfile` is missing, and nothing else tells which process is meant";
                self.keys.say_with(
                    Level::Error,
                    self.home,
                    format!("{reason}; not monitored"),
                    Some(format!("add `pidfile = /run/{name}.pid`")),
                );
                Err(self.unmonitored(name, reason))
            }
        }
    }

    fn subfunction(&mut self) -> Option<String> {
        let known = ["worker", "storage", "last-config"];
        let given = self.keys.get("subfunction")?;
        let text = given.text().into_owned();
        if !known.contains(&&*text) {
            self.keys.say_with(
                Level::Warning,
                given.value_place,
                format!("`{text}` is not a known subfunction"),
                did_you_mean(&text, &known)
                    .or_else(|| Some("expected `worker`, `storage` or `last-config`".to_owned())),
            );
        }
        Some(text)
    }

    fn start(&mut self, name: &str) -> StartMethod {
        let service = self.keys.get("service").map(|given| given.text());
        let script = self.keys.get("script").map(|given| given.value);
        let offer = Offer {
            name,
            service: service.as_deref(),
            script: script.map(|bytes| Path::new(OsStr::from_bytes(bytes))),
            command: None,
            policy: self.settings.systemd_of(name),
            by_name: true,
        };
        let (method, problems) = resolve::start_method(&offer, self.host);
        for problem in problems {
            let key = match problem.about {
                About::Service => self.keys.get("service"),
                About::Script => self.keys.get("script"),
                About::Command | About::Entity => None,
            };
            let place = key.map_or(self.home, |given| given.value_place);
            let level = problem.level.max(self.level());
            self.keys
                .say_with(level, place, problem.message, problem.hint);
        }
        if service.is_none() && script.is_none() && !matches!(method, StartMethod::None { .. }) {
            self.keys.say_with(
                Level::Warning,
                self.home,
                "neither `service` nor `script` is given; the one named like the process is used",
                Some(format!("add `service = {name}`")),
            );
        }
        method
    }

    /// Notes on keys that another mode would have used.
    fn remark_on_dropped(&mut self) {
        let used: &[&str] = match self.keys.mode {
            // Told as errors already, where they matter.
            Some(Mode::Active) => &["port", "period", "timeout", "threshold"],
            Some(Mode::Status) => &["period", "timeout", "start_arg", "status_arg"],
            Some(Mode::Passive | Mode::Ignore) | None => &[],
        };
        let mode = mode_name(self.mode);
        for (key, place) in self.keys.all_dropped() {
            if !used.contains(&key) {
                self.keys.say(
                    Level::Note,
                    place,
                    format!("`{key}` has no effect here in mode `{mode}`"),
                );
            } else if self.keys.has(key) {
                self.keys.say(
                    Level::Note,
                    place,
                    format!("`{key}` before `mode = {mode}` does not count; a later one does"),
                );
            }
        }
    }
}

#[cfg(test)]
#[path = "tests/pmond.rs"]
mod tests;
