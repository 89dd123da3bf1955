use crate::{
    doctor::{
        outcome::{
            degraded,
            expect::{is_degraded, is_failed, is_ok},
            ok,
        },
        sources::{check_sources, kernel_watches},
    },
    view::{
        diagnosis::CheckView,
        samples,
        status::{SourceState, SourceView},
    },
};

const RESTART: &str =
    "what it needs is there now: `systemctl restart pmon`, or end `pmon daemon` and start it again";

fn source(name: &str, state: SourceState, reason: Option<&str>) -> SourceView {
    SourceView {
        name: name.to_owned(),
        state,
        reason: reason.map(str::to_owned),
        events: 1,
        lost: 0,
        last_canary_s: None,
        canary: None,
    }
}

fn checked(sources: Vec<SourceView>, prerequisites: &[CheckView]) -> Vec<CheckView> {
    let mut status = samples::status(Vec::new());
    status.sources = sources;
    check_sources(&status, prerequisites)
}

#[test]
fn healthy_sources() {
    let checks = check_sources(&samples::status(Vec::new()), &[]);
    assert_eq!(checks.len(), 3);
    assert_eq!(checks[0].name, "source-ebpf");
    is_ok(&checks[0], "42 events, last canary came through 12.5 s ago");
    assert_eq!(checks[1].name, "source-proc-connector");
    is_ok(&checks[1], "stands by: a better source is in use");
    assert_eq!(checks[2].name, "source-pidfd");
    is_ok(&checks[2], "42 events, last canary came through 12.5 s ago");
    let mut lossy = source("ebpf", SourceState::Healthy, None);
    lossy.lost = 7;
    is_ok(
        &checked(vec![lossy], &[])[0],
        "1 event, 7 lost (found in the table; a larger `ring_bytes` in `[daemon]` avoids that)",
    );
    let mut deaf = source("proc-connector", SourceState::Healthy, None);
    deaf.lost = 2;
    is_ok(
        &checked(vec![deaf], &[])[0],
        "1 event, 2 overruns (all processes were looked at each time)",
    );
}

#[test]
fn a_source_that_is_off_points_to_what_it_lacks() {
    let off = || source("ebpf", SourceState::Off, Some("cannot create the maps"));
    let pidfd = || source("pidfd", SourceState::Healthy, None);
    let prerequisites = [
        ok("kernel", "Linux 6.1"),
        degraded("capabilities", "missing: CAP_BPF", "`sudo pmon daemon`"),
        degraded("btf", "no BTF", "another kernel"),
    ];
    let checks = checked(vec![off(), pidfd()], &prerequisites);
    is_degraded(
        &checks[0],
        "off: cannot create the maps",
        "see `capabilities`: `sudo pmon daemon`; then restart the daemon",
    );
    is_ok(&checks[1], "1 event");
    is_degraded(
        &checked(vec![off(), pidfd()], &prerequisites[..1])[0],
        "off: cannot create the maps",
        RESTART,
    );
}

#[test]
fn a_source_that_is_not_wanted_is_no_complaint() {
    let chosen = source("ebpf", SourceState::Off, Some("`source = pidfd`"));
    is_ok(
        &checked(vec![chosen], &[])[0],
        "not in use: `source = pidfd`",
    );
}

#[test]
fn a_source_on_trial_and_one_that_failed_its_canary() {
    let check = |source| checked(vec![source], &[]).remove(0);
    is_degraded(
        &check(source("ebpf", SourceState::Unproven, None)),
        "it runs, and no canary has shown yet whether it works",
        "ask again in a minute: `pmon doctor`",
    );
    let mut silent = source("ebpf", SourceState::Degraded, Some("silent: no word"));
    silent.last_canary_s = Some(400.0);
    is_degraded(
        &check(silent),
        "silent: no word; 1 event, last canary came through 400.0 s ago",
        "pmon starts it anew by itself, once in `canary_interval`; sooner: `systemctl restart pmon`",
    );
    let unclear = source(
        "ebpf",
        SourceState::Healthy,
        Some("its last canary showed nothing: x"),
    );
    is_ok(
        &check(unclear),
        "1 event; its last canary showed nothing: x",
    );
}

#[test]
fn what_the_connector_lacks_is_in_its_reason() {
    for (reason, fix) in [
        (
            "process events are refused; needs CAP_NET_ADMIN (or root) before Linux 6.6",
            "run pmon as root: `sudo pmon daemon`; in a container: `--cap-add=NET_ADMIN`; \
             in `pmon.service`: `AmbientCapabilities=CAP_NET_ADMIN`",
        ),
        (
            "this network namespace is not the host's; run with the host's network (`--network=host`)",
            "start the container with `--network=host` (Kubernetes: `hostNetwork: true`)",
        ),
        (
            "the kernel did not acknowledge within 1s; run with the host's (`--pid=host`)",
            "start the container with `--pid=host` (Kubernetes: `hostPID: true`), \
             as the host's root: `sudo podman run …` or `--userns=host`",
        ),
        (
            "no netlink connector; the kernel needs CONFIG_PROC_EVENTS=y",
            "boot a kernel built with CONFIG_CONNECTOR=y and CONFIG_PROC_EVENTS=y",
        ),
        (
            "cannot bind to the process events",
            "pmon starts it anew by itself, once in `canary_interval`; sooner: `systemctl restart pmon`",
        ),
    ] {
        let off = source("proc-connector", SourceState::Off, Some(reason));
        is_degraded(&checked(vec![off], &[])[0], &format!("off: {reason}"), fix);
    }
}

#[test]
fn degraded_and_failed_sources() {
    let unpinned = source("ebpf", SourceState::Degraded, Some("not pinned: no bpffs"));
    let bpffs = degraded("bpffs", "no bpffs", "`mount -t bpf bpf /sys/fs/bpf`");
    is_degraded(
        &checked(vec![unpinned], &[bpffs])[0],
        "not pinned: no bpffs; 1 event",
        "see `bpffs`: `mount -t bpf bpf /sys/fs/bpf`; then restart the daemon",
    );
    let pidfd = source("pidfd", SourceState::Off, Some("no pidfd_open"));
    let ebpf = source("ebpf", SourceState::Healthy, None);
    is_failed(
        &checked(vec![ebpf, pidfd], &[])[1],
        "off: no pidfd_open; no death can be verified",
        RESTART,
    );
}

#[test]
fn what_disturbs_the_programs_is_in_their_reason() {
    const PINS: &str = "`/sys/fs/bpf/pmon/v2`";
    for (reason, fix) in [
        (
            "7 ring records of another version were passed over".to_owned(),
            "see whose program it is: `bpftool map show name pmon_events`, then `bpftool prog show` \
             (its `map_ids` has that id); end who has it loaded; pmon goes on by itself",
        ),
        (
            format!("not pinned: {PINS} is in use by another daemon; give each its own"),
            "give each daemon its own `--pin-dir`, or end the other one: this one pins within \
             `audit_interval` then",
        ),
        (
            format!("not pinned: {PINS} holds what another daemon left that was killed; unless"),
            "start that daemon again, or ask once more after an `audit_interval`: `pmon doctor`",
        ),
        (
            format!("not pinned: {PINS} is on a bpffs that is mounted read-only"),
            "see `bpffs`; pmon pins within `audit_interval` then",
        ),
        (
            "silent: its canary was not told".to_owned(),
            "pmon starts it anew by itself, once in `canary_interval`; sooner: `systemctl restart pmon`",
        ),
    ] {
        let disturbed = source("ebpf", SourceState::Degraded, Some(&reason));
        is_degraded(
            &checked(vec![disturbed], &[])[0],
            &format!("{reason}; 1 event"),
            fix,
        );
    }
}

#[test]
fn whether_the_kernels_table_watches() {
    use SourceState::{Degraded, Healthy, Off, Standby, Unproven};
    for (state, watches) in [
        (Healthy, true),
        (Unproven, true),
        (Degraded, true),
        (Standby, false),
        (Off, false),
    ] {
        let mut status = samples::status(Vec::new());
        status.sources = vec![source("pidfd", Healthy, None), source("ebpf", state, None)];
        assert_eq!(kernel_watches(&status), watches, "{state:?}");
    }
}
