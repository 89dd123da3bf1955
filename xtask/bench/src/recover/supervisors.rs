//! Whom is measured, and how each is told to keep one program alive.
//!
//! All are configured as their manuals begin: a `run` script of one line for the
//! daemontools family, one `[program]` for supervisord, a pidfile and the shortest
//! cycle that there is (1 s) for monit. Nothing is installed here; who is not in
//! `PATH` is left out, with the reason. Where systemd does not run the host, it runs a
//! container of the tests.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use pmon_tests::{
    place::Place,
    systemd::{Host, Unit},
};
use serde::Serialize;

use crate::{daemon::Daemon, keeper::Keeper};

/// Who keeps the program alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Supervisor {
    /// waitpid and posix_spawn, no more.
    Floor,
    /// pmon as it is by default.
    Pmon,
    /// pmon with `start = "early"`.
    PmonEarly,
    /// `supervise` of daemontools.
    Daemontools,
    /// `runsv` of runit.
    Runit,
    /// `s6-supervise`.
    S6,
    /// A service with `Restart=always`, `RestartSec=0`.
    Systemd,
    /// monit with a cycle of 1 s.
    Monit,
    /// supervisord.
    Supervisord,
}

impl Supervisor {
    pub(crate) const ALL: [Self; 9] = [
        Self::Floor,
        Self::Pmon,
        Self::PmonEarly,
        Self::Daemontools,
        Self::Runit,
        Self::S6,
        Self::Systemd,
        Self::Monit,
        Self::Supervisord,
    ];

    /// For the table, and for its victims.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Pmon => "pmon",
            Self::PmonEarly => "pmon-early",
            Self::Daemontools => "daemontools",
            Self::Runit => "runit",
            Self::S6 => "s6",
            Self::Systemd => "systemd",
            Self::Monit => "monit",
            Self::Supervisord => "supervisord",
        }
    }

    /// The program that must be there, other than ours.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::Pmon | Self::PmonEarly => None,
            Self::Daemontools => Some("supervise"),
            Self::Runit => Some("runsv"),
            Self::S6 => Some("s6-supervise"),
            Self::Systemd if runs_this_host() => Some("systemd-run"),
            // What the container is made with.
            Self::Systemd => Some("podman"),
            Self::Monit => Some("monit"),
            Self::Supervisord => Some("supervisord"),
        }
    }

    /// Why it cannot be measured here.
    pub(crate) fn missing(self) -> Option<String> {
        let program = self.program()?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|it| it.join(program).is_file());
        (!found).then(|| format!("`{program}` is not in PATH"))
    }

    /// Pid, for its victim, of a process that ends with the measurement.
    pub(crate) fn ends_with(self) -> u32 {
        if self == Self::Systemd && !runs_this_host() {
            1
        } else {
            std::process::id()
        }
    }

    /// Has it keep a program alive; it writes the pidfile where it is given one.
    pub(crate) fn start(self, directory: &Path, victim: &[String]) -> Result<Running> {
        let own = directory.join(self.name());
        fs::create_dir(&own)?;
        let words: Vec<OsString> = match self {
            Self::Floor => {
                let mut words: Vec<OsString> = vec![std::env::current_exe()?.into()];
                words.extend(["respawn", "--"].map(Into::into));
                words.extend(victim.iter().map(Into::into));
                words
            }
            Self::Pmon => return pmon(victim, "released"),
            Self::PmonEarly => return pmon(victim, "early"),
            Self::Daemontools | Self::Runit | Self::S6 => {
                let script = format!("#!/bin/sh\nexec {}\n", victim.join(" "));
                executable(&own.join("run"), &script)?;
                vec![
                    self.program().context("a program")?.into(),
                    own.clone().into(),
                ]
            }
            Self::Systemd if !runs_this_host() => return Ok(container(directory, victim)),
            Self::Systemd => {
                let unit = format!("pmon-bench-{}.service", std::process::id());
                let mut words: Vec<OsString> = ["systemd-run", "--quiet", "--unit", &unit]
                    .map(Into::into)
                    .to_vec();
                words.extend(["-p", "Restart=always", "-p", "RestartSec=0"].map(Into::into));
                words.extend(["-p", "StartLimitIntervalSec=0"].map(Into::into));
                words.push("--".into());
                words.extend(victim.iter().map(Into::into));
                run(&words)?;
                return Ok(Running::Unit(unit));
            }
            Self::Monit => monit(&own, victim)?,
            Self::Supervisord => supervisord(&own, victim)?,
        };
        let mut arguments: Vec<OsString> = vec!["--log".into(), own.join("log").into()];
        arguments.push("--".into());
        arguments.extend(words);
        Ok(Running::Kept(Keeper::start(arguments)?))
    }
}

/// A supervisor at work. Dropping it ends it, and may leave its victim behind.
#[expect(dead_code, reason = "held until it is dropped")]
pub(crate) enum Running {
    Kept(Keeper),
    Daemon(Box<Daemon>),
    Unit(String),
    Container(Box<(Host, Place)>),
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Unit(unit) => {
                if let Err(error) = run(&["systemctl".into(), "stop".into(), (&**unit).into()]) {
                    eprintln!("{unit}: {error:#}");
                }
            }
            Self::Kept(_) | Self::Daemon(_) | Self::Container(_) => {}
        }
    }
}

fn run(words: &[OsString]) -> Result<()> {
    let (program, arguments) = words.split_first().context("a program")?;
    let status = std::process::Command::new(program)
        .args(arguments)
        .status()?;
    anyhow::ensure!(status.success(), "{words:?}: {status}");
    Ok(())
}

fn runs_this_host() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// A container with systemd as its first process.
fn container(directory: &Path, victim: &[String]) -> Running {
    const NAME: &str = "victim.service";
    let place = Place::new();
    let unit = Unit {
        name: NAME.to_owned(),
        text: format!(
            "[Unit]\nStartLimitIntervalSec=0\n\
             [Service]\nExecStart={}\nRestart=always\nRestartSec=0\n",
            victim.join(" ")
        ),
    };
    let host = Host::boot_sharing(&place, &[unit], &[directory]);
    host.systemctl(&["start", NAME]);
    Running::Container(Box::new((host, place)))
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

fn pmon(victim: &[String], start: &str) -> Result<Running> {
    // Back at rest before the next kill, as everybody else is.
    let entity = format!(
        "[[entity]]\nname = \"victim\"\ncommand = {victim:?}\nstart = {start:?}\n\
         startuptime = \"50ms\"\ndebounce = \"50ms\"\ninterval = \"1s\"\n"
    );
    let daemon = Daemon::with_entities(&entity)?;
    Ok(Running::Daemon(Box::new(daemon)))
}

fn monit(own: &Path, victim: &[String]) -> Result<Vec<OsString>> {
    let pidfile = own.join("victim.pid");
    let command = format!("{} --pidfile {}", victim.join(" "), pidfile.display());
    // It waits for the script's end.
    let script = own.join("start");
    executable(&script, &format!("#!/bin/sh\n{command} </dev/null &\n"))?;
    let file = |name: &str| own.join(name).display().to_string();
    let config = format!(
        "set daemon 1\nset pidfile {}\nset idfile {}\nset statefile {}\n\
         check process victim with pidfile {}\n  start program = \"{}\"\n",
        file("pid"),
        file("id"),
        file("state"),
        pidfile.display(),
        script.display(),
    );
    let path: PathBuf = own.join("monitrc");
    fs::write(&path, config)?;
    // It reads no other.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(vec!["monit".into(), "-I".into(), "-c".into(), path.into()])
}

fn supervisord(own: &Path, victim: &[String]) -> Result<Vec<OsString>> {
    let file = |name: &str| own.join(name).display().to_string();
    let config = format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={}\npidfile={}\nchildlogdir={}\n\
         [program:victim]\ncommand={}\nautorestart=true\n",
        file("supervisord.log"),
        file("supervisord.pid"),
        own.display(),
        victim.join(" "),
    );
    let path = own.join("supervisord.conf");
    fs::write(&path, config)?;
    Ok(vec!["supervisord".into(), "-c".into(), path.into()])
}
