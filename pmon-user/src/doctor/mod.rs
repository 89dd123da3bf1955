//! `pmon doctor`: everything pmon depends on, looked at, with the exact fix.
//!
//! A check is a pure decision over facts; each room reads its facts with one
//! function that takes a root directory or is given them by a test. Must stay
//! true: looking changes nothing, every check has a section in
//! `docs/troubleshooting.md`, and what is not `ok` has a fix. How results are
//! shown, and their exit code, is the client's business.

mod bpf;
mod daemon;
mod directories;
mod kernel;
mod limits;
mod namespaces;
mod outcome;
mod privileges;
mod scheduling;
mod surroundings;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use self::{
    bpf::{BpfProbes, PinPlace, check_bpffs, check_syscall},
    directories::{Directory, Purpose},
    kernel::Kernel,
    limits::{Limits, map_bytes},
    namespaces::Namespaces,
    privileges::Privileges,
    scheduling::Scheduling,
    surroundings::Surroundings,
};
use crate::{
    config::{self, Loaded, LocalHost, Sources, settings::DaemonSettings},
    control::client::ClientError,
    view::{
        diagnosis::CheckView,
        status::{SourceState, StatusView},
    },
};

/// Every name a check can have, in order. A source that is not listed appears as
/// `source-NAME`.
pub const NAMES: [&str; 26] = [
    "daemon",
    "user",
    "capabilities",
    "kernel",
    "pidfd",
    "btf",
    "bpf-syscall",
    "bpffs",
    "lockdown",
    "unprivileged-bpf",
    "pid-namespace",
    "time-namespace",
    "receiver-scheduling",
    "open-files",
    "locked-memory",
    "inotify",
    "cgroup",
    "systemd",
    "run-directory",
    "state-directory",
    "configuration",
    "source-ebpf",
    "source-pidfd",
    "conditions",
    "audit",
    "entities",
];

/// What a kernel source depends on, the most fundamental first.
const PREREQUISITES: [&str; 10] = [
    "kernel",
    "pidfd",
    "pid-namespace",
    "capabilities",
    "bpf-syscall",
    "btf",
    "locked-memory",
    "lockdown",
    "time-namespace",
    "bpffs",
];

/// Checks made inside the daemon, on a thread that may block. The state directory
/// is not known here and left out; see [`with_daemon_settings`].
#[must_use]
pub fn with_daemon(status: &StatusView) -> Vec<CheckView> {
    check_all(
        &Asked::of_status(status),
        Path::new("/"),
        &Situation::Running(status),
    )
}

/// The same, with the settings the daemon was started with.
#[must_use]
pub fn with_daemon_settings(status: &StatusView, settings: &DaemonSettings) -> Vec<CheckView> {
    check_all(
        &Asked::of_settings(settings, status.entities.len()),
        Path::new("/"),
        &Situation::Running(status),
    )
}

/// Checks for a daemon that this user would start now with the configuration at
/// its usual place. Why the daemon cannot be asked is left to the caller; see
/// [`without_daemon_at`].
#[must_use]
pub fn without_daemon() -> Vec<CheckView> {
    let loaded = config::load(&Sources::default(), &LocalHost::detect());
    check_all(
        &Asked::of_settings(&loaded.settings.daemon, loaded.entities.len()),
        Path::new("/"),
        &Situation::NotRunning {
            error: None,
            loaded: &loaded,
        },
    )
}

/// Checks for a daemon that this user would start now with this configuration,
/// the first saying why the daemon cannot be asked.
#[must_use]
pub fn without_daemon_at(loaded: &Loaded, error: &ClientError) -> Vec<CheckView> {
    check_all(
        &Asked::of_settings(&loaded.settings.daemon, loaded.entities.len()),
        Path::new("/"),
        &Situation::NotRunning {
            error: Some(error),
            loaded,
        },
    )
}

/// Whether there is a daemon, and what is known because of it.
enum Situation<'a> {
    Running(&'a StatusView),
    NotRunning {
        error: Option<&'a ClientError>,
        loaded: &'a Loaded,
    },
}

/// What a daemon is asked to do, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    run_dir: PathBuf,
    state_dir: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
    priority: u8,
    map_bytes: u64,
    audit_interval: Option<Duration>,
    entities: usize,
}

impl Asked {
    fn of_settings(settings: &DaemonSettings, entities: usize) -> Self {
        Self {
            run_dir: settings.run_dir.clone(),
            state_dir: Some(settings.state_dir.clone()),
            pin_dir: settings.pin_dir.clone(),
            priority: settings.receiver_priority,
            map_bytes: map_bytes(settings.max_pids, settings.ring_bytes),
            audit_interval: Some(settings.audit_interval),
            entities,
        }
    }

    /// What is not in the status is taken to be as it is by default.
    fn of_status(status: &StatusView) -> Self {
        let default = DaemonSettings::default();
        let daemon = &status.daemon;
        let unpinned = status
            .sources
            .iter()
            .any(|source| source.state == SourceState::Degraded);
        Self {
            run_dir: Path::new(&daemon.socket)
                .parent()
                .map_or_else(|| default.run_dir.clone(), Path::to_owned),
            state_dir: None,
            pin_dir: match &daemon.pin_dir {
                Some(pinned) => Some(pinned.into()),
                None if unpinned => default.pin_dir.clone(),
                None => None,
            },
            audit_interval: None,
            ..Self::of_settings(&default, status.entities.len())
        }
    }
}

/// All checks, in the order of [`NAMES`].
fn check_all(asked: &Asked, root: &Path, situation: &Situation<'_>) -> Vec<CheckView> {
    let running = matches!(situation, Situation::Running(_));
    let privileges = Privileges::read(root);
    let kernel = Kernel::read(root);
    let probes = BpfProbes::run();
    let namespaces = Namespaces::read(root);
    let scheduling = Scheduling::read(root, asked.priority);
    let limits = Limits::read(root, asked.entities, asked.map_bytes);
    let surroundings = Surroundings::read(root);
    let pins = asked.pin_dir.as_deref().map(PinPlace::look);
    let (first, receiver) = match situation {
        Situation::Running(status) => (
            Some(daemon::check_running(status)),
            Some(status.daemon.receiver_scheduling.as_str()),
        ),
        Situation::NotRunning { error, loaded: _ } => (
            error.map(|error| daemon::check_unreachable(error, &surroundings)),
            None,
        ),
    };

    let mut checks: Vec<CheckView> = first.into_iter().collect();
    checks.extend([
        privileges.check_user(),
        privileges.check_capabilities(&kernel),
        kernel.check_version(),
        kernel.check_pidfd(),
        kernel.check_btf(),
        check_syscall(probes, &privileges),
        check_bpffs(pins.as_ref()),
        kernel.check_lockdown(probes),
        kernel.check_unprivileged_bpf(),
        namespaces.check_pid(),
        namespaces.check_time(),
        scheduling.check(&privileges, receiver),
        limits.check_open_files(),
        limits.check_locked_memory(&kernel),
        limits.check_inotify(),
        surroundings.check_cgroup(),
        surroundings.check_systemd(),
        Directory::look(&asked.run_dir).check(Purpose::Run, privileges.euid, running),
    ]);
    if let Some(state_dir) = &asked.state_dir {
        let state = Directory::look(state_dir);
        checks.push(state.check(Purpose::State, privileges.euid, running));
    }
    match situation {
        Situation::Running(status) => checks.extend(of_the_daemon(status, asked, &checks)),
        Situation::NotRunning { error: _, loaded } => {
            let findings: Vec<String> = loaded.findings.iter().map(ToString::to_string).collect();
            checks.push(daemon::check_configuration(
                loaded.entities.len(),
                &findings,
                loaded.refused(),
                running,
            ));
        }
    }
    checks
}

/// What only a running daemon can tell.
fn of_the_daemon(status: &StatusView, asked: &Asked, host: &[CheckView]) -> Vec<CheckView> {
    let prerequisites: Vec<CheckView> = PREREQUISITES
        .iter()
        .filter_map(|name| host.iter().find(|check| check.name == *name))
        .cloned()
        .collect();
    let uptime = Duration::from_secs(status.uptime_s);
    let mut checks = vec![daemon::check_configuration(
        status.entities.len(),
        &status.config_findings,
        false,
        true,
    )];
    checks.extend(daemon::check_sources(status, &prerequisites));
    checks.extend([
        daemon::check_conditions(&status.degraded),
        daemon::check_audit(
            &status.audit,
            uptime,
            asked.audit_interval,
            Timestamp::now(),
        ),
        daemon::check_entities(status),
    ]);
    checks
}
