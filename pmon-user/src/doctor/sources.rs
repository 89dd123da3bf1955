//! What a running daemon says of its sources, and what helps those that do not
//! work as they could.

use super::outcome::{count, degraded, failed, ok};
use crate::{
    core::death::SourceName,
    view::{
        diagnosis::{CheckResult, CheckView},
        status::{SourceState, SourceView, StatusView},
    },
};

/// Whether the kernel's table watches what is registered.
pub(super) fn kernel_watches(status: &StatusView) -> bool {
    let mut sources = status.sources.iter();
    sources.any(|source| {
        source.name == SourceName::Ebpf.as_str()
            && match source.state {
                SourceState::Healthy | SourceState::Unproven | SourceState::Degraded => true,
                SourceState::Standby | SourceState::Off => false,
            }
    })
}

/// `source-…`, one for each. `prerequisites` are the checks that a kernel source
/// depends on, done.
pub(super) fn check_sources(status: &StatusView, prerequisites: &[CheckView]) -> Vec<CheckView> {
    status
        .sources
        .iter()
        .map(|source| check_source(source, prerequisites))
        .collect()
}

fn check_source(source: &SourceView, prerequisites: &[CheckView]) -> CheckView {
    let name = format!("source-{}", source.name);
    let reason = source.reason.as_deref().unwrap_or("no reason is known");
    let fix = || match source.name.as_str() {
        "proc-connector" => fix_of_connector(reason),
        "ebpf" => fix_of_ebpf(reason).unwrap_or_else(|| fix_of(prerequisites)),
        _ => fix_of(prerequisites),
    };
    match source.state {
        SourceState::Healthy => match source.reason {
            None => ok(&name, counters(source)),
            Some(_) => ok(&name, format!("{}; {reason}", counters(source))),
        },
        SourceState::Unproven => degraded(
            &name,
            "it runs, and no canary has shown yet whether it works",
            "ask again in a minute: `pmon doctor`",
        ),
        SourceState::Standby => ok(&name, "stands by: a better source is in use"),
        SourceState::Off if source.name == "pidfd" => failed(
            &name,
            format!("off: {reason}; no death can be verified"),
            fix(),
        ),
        SourceState::Off if by_choice(reason) => ok(&name, format!("not in use: {reason}")),
        SourceState::Off => degraded(&name, format!("off: {reason}"), fix()),
        SourceState::Degraded => degraded(&name, format!("{reason}; {}", counters(source)), fix()),
    }
}

/// What disturbs the kernel programs while they run is in their reason
/// (`daemon::status_views`, `source::pinning`).
fn fix_of_ebpf(reason: &str) -> Option<String> {
    const FIXES: [(&str, &str); 5] = [
        (
            "ring records of another version",
            "see whose program it is: `bpftool map show name pmon_events`, then `bpftool prog show` \
             (its `map_ids` has that id); end who has it loaded; pmon goes on by itself",
        ),
        (
            "in use by another daemon",
            "give each daemon its own `--pin-dir`, or end the other one: this one pins within \
             `audit_interval` then",
        ),
        (
            "that was killed",
            "start that daemon again, or ask once more after an `audit_interval`: `pmon doctor`",
        ),
        (
            "is mounted read-only",
            "see `bpffs`; pmon pins within `audit_interval` then",
        ),
        (
            "silent: ",
            "pmon starts it anew by itself, once in `canary_interval`; sooner: `systemctl restart pmon`",
        ),
    ];
    let known = FIXES.iter().find(|(word, _)| reason.contains(word));
    known.map(|(_, fix)| (*fix).to_owned())
}

/// What the connector lacks is in its reason (`source::connector`).
pub(super) fn fix_of_connector(reason: &str) -> String {
    const FIXES: [(&str, &str); 4] = [
        (
            "CAP_NET_ADMIN",
            "run pmon as root: `sudo pmon daemon`; in a container: `--cap-add=NET_ADMIN`; \
             in `pmon.service`: `AmbientCapabilities=CAP_NET_ADMIN`",
        ),
        (
            "--network=host",
            "start the container with `--network=host` (Kubernetes: `hostNetwork: true`)",
        ),
        (
            "--pid=host",
            "start the container with `--pid=host` (Kubernetes: `hostPID: true`), \
             as the host's root: `sudo podman run …` or `--userns=host`",
        ),
        (
            "CONFIG_PROC_EVENTS",
            "boot a kernel built with CONFIG_CONNECTOR=y and CONFIG_PROC_EVENTS=y",
        ),
    ];
    let known = FIXES.iter().find(|(word, _)| reason.contains(word));
    known.map_or_else(
        || "pmon starts it anew by itself, once in `canary_interval`; sooner: `systemctl restart pmon`".to_owned(),
        |(_, fix)| (*fix).to_owned(),
    )
}

/// The daemon was told not to use it.
fn by_choice(reason: &str) -> bool {
    reason.contains("`source = ")
}

/// The first prerequisite that is not met says what to do; if all are, the daemon
/// has not seen that yet.
fn fix_of(prerequisites: &[CheckView]) -> String {
    let unmet = prerequisites
        .iter()
        .find(|check| check.result != CheckResult::Ok);
    match unmet {
        Some(CheckView {
            name,
            fix: Some(fix),
            ..
        }) => format!("see `{name}`: {fix}; then restart the daemon"),
        Some(_) | None => "what it needs is there now: `systemctl restart pmon`, \
                           or end `pmon daemon` and start it again"
            .to_owned(),
    }
}

fn counters(source: &SourceView) -> String {
    let mut text = count(
        usize::try_from(source.events).unwrap_or(usize::MAX),
        "event",
        "events",
    );
    if source.lost > 0 {
        let lost = if source.name == SourceName::ProcConnector.as_str() {
            let times = count(
                usize::try_from(source.lost).unwrap_or(usize::MAX),
                "overrun",
                "overruns",
            );
            format!(", {times} (all processes were looked at each time)")
        } else {
            format!(
                ", {} lost (found in the table; a larger `ring_bytes` in `[daemon]` avoids that)",
                source.lost
            )
        };
        text.push_str(&lost);
    }
    if let Some(seconds) = source.last_canary_s {
        text.push_str(&format!(", last canary came through {seconds:.1} s ago"));
    }
    text
}
