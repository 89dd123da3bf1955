use super::*;
use crate::doctor::{
    bpf::{BpfProbes, Probe},
    outcome::expect::{is_degraded, is_ok},
    policies::Policies,
};

const WORKS: BpfProbes = BpfProbes {
    ring: Probe::Works,
    program: Probe::Works,
};
const REFUSED: BpfProbes = BpfProbes {
    ring: Probe::Refused(libc::EACCES),
    program: Probe::Refused(libc::EACCES),
};

fn with(modules: &[&str]) -> Policies {
    Policies {
        modules: Some(modules.iter().map(|name| (*name).to_owned()).collect()),
        perf_event_paranoid: None,
    }
}

#[test]
fn security_modules() {
    let debian = with(&["lockdown", "capability", "apparmor"]);
    is_ok(
        &debian.check_modules(WORKS, &root_user()),
        "lockdown, capability, apparmor",
    );
    is_degraded(
        &debian.check_modules(REFUSED, &root_user()),
        "`apparmor` is in force, and bpf() is refused although the capabilities are there",
        "`aa-complain $(command -v pmon)`; in a container: `--security-opt apparmor=unconfined`",
    );
    is_degraded(
        &with(&["capability", "selinux"]).check_modules(REFUSED, &root_user()),
        "`selinux` is in force, and bpf() is refused although the capabilities are there",
        "`ausearch -m avc -c pmon | audit2allow -M pmon && semodule -i pmon.pp`; \
         in a container: `--security-opt label=disable`",
    );
    // Something else explains it.
    let seccomp = Privileges {
        seccomp: true,
        ..root_user()
    };
    let nested = Privileges {
        initial_user_namespace: false,
        ..root_user()
    };
    for privileges in [seccomp, nested, nobody()] {
        is_ok(
            &debian.check_modules(REFUSED, &privileges),
            "lockdown, capability, apparmor",
        );
    }
    is_ok(
        &with(&["capability", "yama"]).check_modules(REFUSED, &root_user()),
        "capability, yama",
    );
    is_ok(
        &Policies::default().check_modules(REFUSED, &root_user()),
        "not known: securityfs is not mounted",
    );
}

#[test]
fn the_paranoid_level_is_a_note() {
    let with = |perf_event_paranoid| Policies {
        modules: None,
        perf_event_paranoid,
    };
    is_ok(
        &with(Some(3)).check_paranoid(),
        "`kernel.perf_event_paranoid = 3`: no obstacle, pmon opens no performance events",
    );
    is_ok(
        &with(None).check_paranoid(),
        "not known: no `kernel.perf_event_paranoid`",
    );
}

#[test]
fn facts_come_from_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    assert_eq!(Policies::read(root), Policies::default());
    write(root, "sys/kernel/security/lsm", "capability,selinux,bpf");
    write(root, "proc/sys/kernel/perf_event_paranoid", "-1\n");
    let found = Policies::read(root);
    assert_eq!(found.modules.unwrap(), ["capability", "selinux", "bpf"]);
    assert_eq!(found.perf_event_paranoid, Some(-1));
}
