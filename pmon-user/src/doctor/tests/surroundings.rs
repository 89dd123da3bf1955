use std::path::PathBuf;

use super::*;
use crate::doctor::outcome::expect::{is_degraded, is_ok};

fn with(hierarchy: Hierarchy) -> Surroundings {
    Surroundings {
        hierarchy,
        ..plain_host()
    }
}

fn v2(mount: &str, hybrid: bool, writable: bool) -> Hierarchy {
    Hierarchy::V2 {
        mount: PathBuf::from(mount),
        hybrid,
        writable,
    }
}

#[test]
fn cgroup() {
    is_ok(
        &with(v2("/sys/fs/cgroup", false, true)).check_cgroup(),
        "version 2 at `/sys/fs/cgroup`: what pmon starts gets a cgroup of its own",
    );
    is_ok(
        &with(v2("/sys/fs/cgroup/unified", true, true)).check_cgroup(),
        "version 2 beside version 1 at `/sys/fs/cgroup/unified`: what pmon starts gets a cgroup of its own",
    );
    is_degraded(
        &with(v2("/sys/fs/cgroup", false, false)).check_cgroup(),
        "`/sys/fs/cgroup` may not be written: what pmon starts stays in pmon's own cgroup and ends with it",
        "run pmon as root; in a container: `--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw`; \
         in `pmon.service` at least `KillMode=process`",
    );
    is_degraded(
        &with(Hierarchy::V1).check_cgroup(),
        "version 1 only: what pmon starts stays in pmon's own cgroup and ends with it",
        "`mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`; \
         or boot with `systemd.unified_cgroup_hierarchy=1`",
    );
    is_degraded(
        &with(Hierarchy::None).check_cgroup(),
        "no hierarchy is mounted: what pmon starts stays in pmon's own cgroup and ends with it",
        "`mount -t cgroup2 cgroup2 /sys/fs/cgroup`",
    );
}

#[test]
fn systemd() {
    let with = |systemd, systemctl| Surroundings {
        systemd,
        systemctl,
        ..plain_host()
    };
    is_ok(
        &with(true, true).check_systemd(),
        "runs this host: units are started through `systemctl`",
    );
    is_ok(
        &with(false, true).check_systemd(),
        "does not run this host: init scripts and start commands are used",
    );
    is_degraded(
        &with(true, false).check_systemd(),
        "runs this host, but there is no `systemctl`: units cannot be started",
        "`apt-get install systemd`; in a container: \
         `-v /usr/bin/systemctl:/usr/bin/systemctl:ro -v /run/dbus:/run/dbus`",
    );
}

#[test]
fn how_to_start() {
    let unit = Surroundings {
        systemd: true,
        unit: true,
        ..plain_host()
    };
    let (usual, other) = (Path::new("/run/pmon"), Path::new("/tmp/r"));
    assert_eq!(unit.start_command("start", usual), "`systemctl start pmon`");
    assert_eq!(
        plain_host().start_command("start", usual),
        "`pmon daemon` as root"
    );
    // The unit's daemon uses the usual directory.
    for host in [unit, plain_host()] {
        assert_eq!(
            host.start_command("start", other),
            "`pmon daemon --run-dir /tmp/r` as root"
        );
    }
}

#[test]
fn facts_come_from_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let none = Surroundings::read(root);
    assert_eq!(none.hierarchy, Hierarchy::None);
    assert!(!none.systemd && !none.systemctl && !none.unit);

    let v1 = "33 24 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n";
    let unified = "34 24 0:30 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
    let elsewhere = "35 24 0:31 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n";
    let at = |mountinfo: String| {
        write(root, "proc/self/mountinfo", mountinfo);
        Surroundings::read(root).hierarchy
    };
    assert_eq!(at(v1.to_owned()), Hierarchy::V1);
    // The mount point itself is not there: it cannot be written.
    assert_eq!(at(elsewhere.to_owned()), v2("/mnt/cgroup", false, false));
    fs::create_dir_all(root.join("sys/fs/cgroup/unified")).unwrap();
    assert_eq!(
        at(format!("{elsewhere}{v1}{unified}")),
        v2("/sys/fs/cgroup/unified", true, true)
    );

    fs::create_dir_all(root.join("run/systemd/system")).unwrap();
    write(root, "bin/systemctl", "");
    write(root, "etc/systemd/system/pmon.service", "");
    let found = Surroundings::read(root);
    assert!(found.systemd && found.systemctl && found.unit);
}
