//! What differs from kernel to kernel is recognised as it is, and told: pmon
//! never takes a kernel for more than it offers, nor for less.
//!
//! Each expectation stands with the first version of Linux that has the thing;
//! a distribution's backport would show as a failure here. The lines that begin
//! with `FACT` make the table of `docs/kernel-support.md`.

use pmon_tests::{
    daemon::Daemon,
    kernel::{self, Version, fact},
    place::Place,
    privilege,
    script::foreground_entity,
    skip_if,
};
use serde_json::Value;

/// `sched_process_exit` tells whether the group is dead.
const GROUP_DEAD_ARGUMENT: Version = Version(6, 16);
/// A pidfd is an inode of pidfs, unique to its process.
const PIDFS: Version = Version(6, 9);
/// `PIDFD_GET_INFO` of ioctl_pidfd(2).
const PIDFD_INFO: Version = Version(6, 13);
/// Maps are charged to the memory cgroup and no longer to `RLIMIT_MEMLOCK`.
const MEMORY_CGROUP: Version = Version(5, 11);

fn since(version: Version, there: &'static str, before: &'static str) -> &'static str {
    if kernel::version() >= version {
        there
    } else {
        before
    }
}

/// A daemon with an entity that is up.
fn daemon(place: &Place) -> Daemon {
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(place);
    let _pid = daemon.up(&name);
    daemon
}

#[test]
fn to_tell_the_death_of_a_group() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let view = daemon(&place).json(&["bpf", "show", "--seconds", "0"]);
    let method = view["group_dead"].as_str().unwrap();
    fact("a group's death is known by", method);
    let expected = since(
        GROUP_DEAD_ARGUMENT,
        "argument of the tracepoint",
        "signal_struct.live",
    );
    assert_eq!(method, expected);
    // Without these a record is a mere hint, on any kernel.
    for offset in ["task_start_boottime", "signal_flags", "task_exit_code"] {
        let name = format!("PMON_{}", offset.to_uppercase());
        assert_ne!(view["offsets"][&name], 0, "{name} in {:#}", view["offsets"]);
    }
}

#[test]
fn to_attach_every_program() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = daemon(&place);
    let view = daemon.json(&["bpf", "show", "--seconds", "0"]);
    let mut programs: Vec<&str> = view["programs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|program| program["name"].as_str().unwrap())
        .collect();
    programs.sort_unstable();
    fact("programs", programs.join(", "));
    daemon.source_when("ebpf", "healthy");
    let status = daemon.status();
    if kernel::is_locked_down() {
        // Everything but who sent a signal, and that is said.
        assert_eq!(
            programs,
            ["pmon_exec", "pmon_exit", "pmon_fork", "pmon_oom"]
        );
        let degraded = status["degraded"].to_string();
        assert!(degraded.contains("pmon_signal"), "{degraded}");
        return;
    }
    // A newer verifier takes a signal's information for a number, which the raw variant
    // probes.
    let all = |signal| ["pmon_exec", "pmon_exit", "pmon_fork", "pmon_oom", signal];
    assert!(
        programs == all("pmon_signal") || programs == all("pmon_signal_raw"),
        "{programs:?}, degraded: {:#}",
        status["degraded"]
    );
    assert_eq!(status["degraded"], serde_json::json!([]));
}

#[test]
fn to_identify_a_process() {
    let pidfd = kernel::own_pidfd();
    let pidfs = kernel::is_on_pidfs(&pidfd);
    fact(
        "a pidfd's inode",
        if pidfs {
            "its process's own"
        } else {
            "the same for all"
        },
    );
    assert_eq!(pidfs, kernel::version() >= PIDFS);
    let info = kernel::has_pidfd_info(&pidfd);
    fact("`PIDFD_GET_INFO`", if info { "yes" } else { "no" });
    assert_eq!(info, kernel::version() >= PIDFD_INFO);
}

/// What is not as it should be is not the kernel's doing.
#[test]
fn to_please_the_doctor() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let daemon = daemon(&place);
    let answer = daemon.ask(&["doctor", "-o", "json"]);
    let view = answer.json();
    let of_the_kernel = [
        "kernel",
        "pidfd",
        "btf",
        "bpf-syscall",
        "lockdown",
        "locked-memory",
        "inotify",
        "source-ebpf",
        "source-pidfd",
    ];
    let checks: Vec<&Value> = view["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| of_the_kernel.contains(&check["name"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(checks.len(), of_the_kernel.len(), "{view:#}");
    let complaints: Vec<_> = checks
        .iter()
        .filter(|check| check["result"] != "ok")
        .collect();
    let names: Vec<_> = complaints
        .iter()
        .filter_map(|check| check["name"].as_str())
        .collect();
    fact(
        "`pmon doctor` on the kernel",
        if names.is_empty() {
            "all ok".to_owned()
        } else {
            names.join(", ")
        },
    );
    assert!(complaints.is_empty(), "{complaints:#?}");
    fact(
        "maps are charged to",
        since(
            MEMORY_CGROUP,
            "the memory cgroup",
            "`LimitMEMLOCK`, which pmon raises",
        ),
    );
}
