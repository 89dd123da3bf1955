use super::*;
use crate::doctor::{
    namespaces::Namespaces,
    outcome::expect::{is_degraded, is_failed, is_ok},
};

fn with(pid: Option<&str>, boot_offset: Option<(i64, i64)>) -> Namespaces {
    Namespaces {
        pid: pid.map(str::to_owned),
        depth_in_proc: Some(1),
        boot_offset,
    }
}

#[test]
fn pid_namespace() {
    is_ok(
        &with(Some("pid:[4026531836]"), None).check_pid(),
        "the host's",
    );
    is_ok(
        &with(Some("pid:[4026532001]"), None).check_pid(),
        "`pid:[4026532001]`, not the host's: the processes of this container are monitored; \
         for the host's start it with `--pid=host` (Kubernetes: `hostPID: true`)",
    );
    let foreign = Namespaces {
        depth_in_proc: Some(3),
        ..with(Some("pid:[4026532001]"), None)
    };
    is_failed(
        &foreign.check_pid(),
        "`/proc` shows the pids of a namespace 2 levels above pmon's: no process is what it seems",
        "mount procfs: `mount -t proc proc /proc`",
    );
    is_degraded(
        &with(None, None).check_pid(),
        "`/proc/self/ns/pid` cannot be read",
        "mount procfs: `mount -t proc proc /proc`",
    );
}

#[test]
fn time_namespace() {
    const FIX: &str =
        "start pmon in the host's time namespace: `nsenter --time=/proc/1/ns/time pmon daemon`";
    is_ok(
        &with(None, None).check_time(),
        "this kernel has no time namespaces",
    );
    is_ok(
        &with(None, Some((0, 0))).check_time(),
        "boot time as on the host",
    );
    is_degraded(
        &with(None, Some((3600, 0))).check_time(),
        "boot time is 3600 s and 0 ns off the host's: the kernel program cannot compare start times",
        FIX,
    );
    is_degraded(
        &with(None, Some((-1, 7))).check_time(),
        "boot time is -1 s and 7 ns off the host's: the kernel program cannot compare start times",
        FIX,
    );
}

#[test]
fn facts_come_from_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let none = Namespaces::read(root);
    assert_eq!((none.pid, none.boot_offset), (None, None));
    assert_eq!(none.depth_in_proc, None);
    assert_eq!(Namespaces::read(Path::new("/")).depth_in_proc, Some(1));

    link(root, "proc/self/ns/pid", "pid:[4026532001]");
    for (offsets, expected) in [
        (
            "monotonic           0         0\nboottime            0         0\n",
            (0, 0),
        ),
        (
            "monotonic           9         9\nboottime          100         0\n",
            (100, 0),
        ),
        (
            "1           0         0\n7           -5         3\n",
            (-5, 3),
        ),
    ] {
        write(root, "proc/self/timens_offsets", offsets);
        let found = Namespaces::read(root);
        assert_eq!(found.pid.as_deref(), Some("pid:[4026532001]"));
        assert_eq!(found.boot_offset, Some(expected));
    }
}
