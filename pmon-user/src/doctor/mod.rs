//! `pmon doctor`: everything pmon depends on, looked at, with the exact fix.
//!
//! A check is a pure decision over facts; each room reads its facts with one
//! function that takes a root directory or is given them by a test. Must stay
//! true: looking leaves nothing behind, every check has a section in
//! `docs/troubleshooting.md`, and what is not `ok` has a fix. How results are
//! shown, and their exit code, is the client's business.

mod bpf;
mod canary;
mod daemon;
mod directories;
mod kernel;
mod limits;
mod namespaces;
mod outcome;
mod policies;
mod privileges;
mod scheduling;
mod sources;
mod surroundings;
#[cfg(test)]
mod tests;

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use self::{
    bpf::{BpfProbes, PinPlace, check_bpffs, check_syscall},
    directories::{Directory, Purpose},
    kernel::Kernel,
    limits::Limits,
    namespaces::Namespaces,
    policies::Policies,
    privileges::Privileges,
    scheduling::Scheduling,
    surroundings::Surroundings,
};
use crate::{
    config::{Loaded, settings::DaemonSettings},
    control::client::ClientError,
    view::{diagnosis::CheckView, status::StatusView},
};

/// Every name a check can have, in order. A source that is not listed appears as
/// `source-NAME`.
pub const NAMES: [&str; 29] = [
    "daemon",
    "user",
    "capabilities",
    "kernel",
    "pidfd",
    "btf",
    "bpf-syscall",
    "bpffs",
    "lockdown",
    "security-modules",
    "unprivileged-bpf",
    "perf-event-paranoid",
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
    "source-proc-connector",
    "source-pidfd",
    "conditions",
    "audit",
    "entities",
];

/// What a kernel source depends on, the most fundamental first. Missing
/// capabilities are told by `bpf-syscall`, and only those that matter.
const PREREQUISITES: [&str; 9] = [
    "kernel",
    "pidfd",
    "pid-namespace",
    "bpf-syscall",
    "btf",
    "locked-memory",
    "lockdown",
    "security-modules",
    "bpffs",
];

/// Checks made inside the daemon, on a thread that may block. `settings` are those
/// it was started with.
#[must_use]
pub fn with_daemon(status: &StatusView, settings: &DaemonSettings) -> Vec<CheckView> {
    check_all(
        &Asked {
            settings,
            entities: status.entities.len(),
        },
        Path::new("/"),
        &Situation::Running(status),
    )
}

/// Checks for a daemon that this user would start now with this configuration,
/// the first (`daemon`) saying why the daemon cannot be asked.
#[must_use]
pub fn without_daemon(loaded: &Loaded, error: &ClientError) -> Vec<CheckView> {
    check_all(
        &Asked {
            settings: &loaded.settings.daemon,
            entities: loaded.entities.len(),
        },
        Path::new("/"),
        &Situation::NotRunning { error, loaded },
    )
}

/// Whether there is a daemon, and what is known because of it.
enum Situation<'a> {
    Running(&'a StatusView),
    NotRunning {
        error: &'a ClientError,
        loaded: &'a Loaded,
    },
}

/// What a daemon is asked to do.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    settings: &'a DaemonSettings,
    entities: usize,
}

/// All checks, in the order of [`NAMES`].
fn check_all(asked: &Asked<'_>, root: &Path, situation: &Situation<'_>) -> Vec<CheckView> {
    let running = matches!(situation, Situation::Running(_));
    let privileges = Privileges::read(root);
    let kernel = Kernel::read(root);
    let probes = BpfProbes::run();
    let namespaces = Namespaces::read(root);
    let policies = Policies::read(root);
    let settings = asked.settings;
    let scheduling = Scheduling::read(root, settings.receiver_priority);
    let kernel_watches = match situation {
        Situation::Running(status) => sources::kernel_watches(status),
        Situation::NotRunning { .. } => probes.work(),
    };
    let limits = Limits::read(root, asked, kernel_watches);
    let surroundings = Surroundings::read(root);
    let pins = settings.pin_dir.as_deref().map(PinPlace::look);
    let (first, receiver) = match situation {
        Situation::Running(status) => (
            daemon::check_running(status),
            Some(status.daemon.receiver_scheduling.as_str()),
        ),
        Situation::NotRunning { error, loaded: _ } => {
            (daemon::check_unreachable(error, &surroundings), None)
        }
    };

    let mut checks = vec![
        first,
        privileges.check_user(),
        privileges.check_capabilities(&kernel),
        kernel.check_version(),
        kernel.check_pidfd(),
        kernel.check_btf(),
        check_syscall(probes, &privileges),
        check_bpffs(pins.as_ref()),
        kernel.check_lockdown(probes),
        policies.check_modules(probes, &privileges),
        kernel.check_unprivileged_bpf(),
        policies.check_paranoid(),
        namespaces.check_pid(),
        namespaces.check_time(),
        scheduling.check(&privileges, receiver),
        limits.check_open_files(),
        limits.check_locked_memory(&kernel),
        limits.check_inotify(),
        surroundings.check_cgroup(),
        surroundings.check_systemd(),
        Directory::look(&settings.run_dir).check(Purpose::Run, privileges.euid, running),
        Directory::look(&settings.state_dir).check(Purpose::State, privileges.euid, running),
    ];
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
            let trials = canary::try_sources(settings.source);
            let prerequisites = prerequisites(&checks);
            checks.extend(canary::check(
                &trials,
                &prerequisites,
                sources::fix_of_connector,
            ));
        }
    }
    checks
}

/// Those of the checks that a kernel source depends on.
fn prerequisites(checks: &[CheckView]) -> Vec<CheckView> {
    PREREQUISITES
        .iter()
        .filter_map(|name| checks.iter().find(|check| check.name == *name))
        .cloned()
        .collect()
}

/// What only a running daemon can tell.
fn of_the_daemon(status: &StatusView, asked: &Asked<'_>, host: &[CheckView]) -> Vec<CheckView> {
    let prerequisites = prerequisites(host);
    let uptime = Duration::from_secs(status.uptime_s);
    let mut checks = vec![daemon::check_configuration(
        status.entities.len(),
        &status.config_findings,
        false,
        true,
    )];
    checks.extend(sources::check_sources(status, &prerequisites));
    checks.extend([
        daemon::check_conditions(&status.degraded),
        daemon::check_audit(
            &status.audit,
            uptime,
            asked.settings.audit_interval,
            Timestamp::now(),
        ),
        daemon::check_entities(status),
    ]);
    checks
}
