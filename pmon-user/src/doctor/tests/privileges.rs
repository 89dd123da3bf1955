use super::*;
use crate::doctor::{
    outcome::expect::{is_degraded, is_ok},
    privileges::Capability,
};

fn with(capabilities: &[Capability]) -> u64 {
    capabilities
        .iter()
        .fold(0, |set, capability| set | (1 << (*capability as u32)))
}

#[test]
fn user() {
    is_ok(&root_user().check_user(), "root");
    is_degraded(
        &Privileges {
            initial_user_namespace: false,
            ..root_user()
        }
        .check_user(),
        "root of a user namespace only: bpf() and other users' processes are out of reach",
        "start pmon as the host's root: `sudo podman run …` or `--userns=host`",
    );
    is_degraded(
        &nobody().check_user(),
        "uid 65534: whatever pmon starts runs as this user, and only its processes can be stopped without CAP_KILL",
        "run pmon as root: `sudo pmon daemon`",
    );
}

#[test]
fn capabilities() {
    let new = linux("6.1.0");
    is_ok(
        &root_user().check_capabilities(&new),
        "all that pmon uses are effective",
    );
    is_degraded(
        &nobody().check_capabilities(&new),
        "missing: CAP_BPF (deaths are reported by pidfds only), \
         CAP_PERFMON (the kernel program cannot be loaded), \
         CAP_KILL (processes of other users cannot be stopped), \
         CAP_SYS_PTRACE (`/proc/PID/exe` of other users is hidden), \
         CAP_SYS_NICE (the receiver has normal priority), \
         CAP_DAC_READ_SEARCH (private pidfiles of other users are hidden)",
        "run pmon as root: `sudo pmon daemon`; or in `pmon.service`: \
         `AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_KILL CAP_SYS_PTRACE CAP_SYS_NICE CAP_DAC_READ_SEARCH`",
    );
    let stripped = Privileges {
        effective: ALL & !with(&[Capability::SysNice, Capability::Kill]),
        ..root_user()
    };
    is_degraded(
        &stripped.check_capabilities(&new),
        "missing: CAP_KILL (processes of other users cannot be stopped), \
         CAP_SYS_NICE (the receiver has normal priority)",
        "in a container: `--cap-add=KILL --cap-add=SYS_NICE`; \
         in `pmon.service`: `CapabilityBoundingSet=CAP_KILL CAP_SYS_NICE`",
    );
    let old = Privileges {
        effective: ALL & !with(&[Capability::SysAdmin, Capability::Bpf, Capability::Perfmon]),
        ..root_user()
    };
    is_degraded(
        &old.check_capabilities(&linux("5.4.0")),
        "missing: CAP_SYS_ADMIN (deaths are reported by pidfds only)",
        "in a container: `--cap-add=SYS_ADMIN`; in `pmon.service`: `CapabilityBoundingSet=CAP_SYS_ADMIN`",
    );
}

#[test]
fn greater_capabilities_do_as_well() {
    let admin = Privileges {
        effective: with(&[Capability::SysAdmin, Capability::DacOverride]),
        ..nobody()
    };
    for held in [
        Capability::Bpf,
        Capability::Perfmon,
        Capability::DacReadSearch,
    ] {
        assert!(admin.has(held), "{held:?}");
    }
    for missing in [Capability::Kill, Capability::SysPtrace, Capability::SysNice] {
        assert!(!admin.has(missing), "{missing:?}");
    }
}

#[test]
fn facts_come_from_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let none = Privileges::read(root);
    assert_eq!((none.effective, none.seccomp), (0, false));

    // A process in a container: its own status with some lines changed.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let status: String = status
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("Uid", _)) => "Uid:\t5\t65534\t5\t5\n".to_owned(),
            Some(("CapEff", _)) => "CapEff:\t000000c000000000\n".to_owned(),
            Some(("Seccomp", _)) => "Seccomp:\t2\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    write(root, "proc/self/status", status);
    link(root, "proc/self/ns/user", "user:[4026532000]");
    let found = Privileges::read(root);
    assert_eq!(found.euid, 65534);
    assert!(found.has(Capability::Bpf) && found.has(Capability::Perfmon));
    assert!(!found.has(Capability::SysAdmin));
    assert!(found.seccomp && !found.initial_user_namespace);
}
