use super::*;
use crate::doctor::{
    Asked, DaemonSettings,
    limits::{Limits, map_bytes},
    outcome::expect::{is_degraded, is_ok},
};

fn plenty() -> Limits {
    Limits {
        entities: 3,
        open_files: Some(4096),
        pidfd_budget: None,
        kernel_watches: true,
        locked_memory: Some(8 << 20),
        map_bytes: 1 << 20,
        inotify_watches: Some(8192),
        inotify_instances: Some(128),
        inotify: Ok(()),
    }
}

#[test]
fn open_files() {
    is_ok(
        &plenty().check_open_files(),
        "4096, 3600 of them for pidfds (`pidfd_budget`); 3 entities may take 143",
    );
    let with = |entities, open_files| Limits {
        entities,
        open_files,
        ..plenty()
    };
    is_ok(
        &with(3, None).check_open_files(),
        "no limit, 979200 of them for pidfds (`pidfd_budget`); 3 entities may take 143",
    );
    is_ok(
        &with(1, Some(133)).check_open_files(),
        "133, 63 of them for pidfds (`pidfd_budget`); 1 entity may take 133",
    );
    is_degraded(
        &with(300, Some(1024)).check_open_files(),
        "1024, 720 of them for pidfds (`pidfd_budget`); 300 entities may take 1628 while all are \
         started: some starts will wait",
        "in `pmon.service`: `LimitNOFILE=2048`; or as root `ulimit -n 2048` before `pmon daemon`; \
         then restart the daemon",
    );
}

#[test]
fn more_entities_than_pidfds() {
    let few = Limits {
        entities: 1000,
        open_files: Some(1024),
        ..plenty()
    };
    const FIX: &str = "in `pmon.service`: `LimitNOFILE=2048`; or as root `ulimit -n 2048` before \
                       `pmon daemon`; then restart the daemon";
    is_degraded(
        &few.check_open_files(),
        "1024, 720 of them for pidfds (`pidfd_budget`); 1000 entities: 280 without one, watched \
         by the kernel's table and verified on demand",
        FIX,
    );
    let alone = Limits {
        kernel_watches: false,
        ..few
    };
    is_degraded(
        &alone.check_open_files(),
        "1024, 720 of them for pidfds (`pidfd_budget`); 1000 entities: 280 without one, and \
         without the source `ebpf` nothing else watches them",
        FIX,
    );
    // With the number it names it is enough.
    let enough = Limits {
        open_files: Some(2048),
        ..few
    };
    let found = enough.check_open_files().found;
    assert!(!found.contains("without one"), "{found}");

    let asked_for = Limits {
        pidfd_budget: Some(10),
        ..few
    };
    is_ok(
        &asked_for.check_open_files(),
        "1024, 10 of them for pidfds (`pidfd_budget`); 1000 entities: 990 without one, as \
         configured, watched by the kernel's table and verified on demand",
    );
    let alone = Limits {
        pidfd_budget: Some(10),
        ..alone
    };
    is_degraded(
        &alone.check_open_files(),
        "1024, 10 of them for pidfds (`pidfd_budget`); 1000 entities: 990 without one, and without \
         the source `ebpf` nothing else watches them",
        "`pidfd_budget = 1000` in `[daemon]` or none, then restart the daemon; or see `source-ebpf`",
    );
}

#[test]
fn locked_memory() {
    is_ok(
        &plenty().check_locked_memory(&linux("5.11.0")),
        "maps are charged to the memory cgroup, not to a limit (Linux 5.11)",
    );
    let old = linux("5.10.0");
    is_ok(
        &plenty().check_locked_memory(&old),
        "8388608 bytes; the maps take 1048576",
    );
    let with = |locked_memory| Limits {
        locked_memory,
        ..plenty()
    };
    is_ok(&with(None).check_locked_memory(&old), "no limit");
    is_degraded(
        &with(Some(65_536)).check_locked_memory(&old),
        "65536 bytes; the maps take 1048576: the kernel program cannot be loaded",
        "in `pmon.service`: `LimitMEMLOCK=infinity`; or `ulimit -l unlimited` before `pmon daemon`; \
         or a smaller `max_pids` in `[daemon]`",
    );
    // Key, value, and what the kernel adds, and the ring.
    let value = size_of::<pmon_common::Registration>() as u64;
    assert_eq!(map_bytes(10, 4096), 10 * (64 + 8 + value) + 4096);
}

#[test]
fn inotify() {
    is_ok(
        &plenty().check_inotify(),
        "8192 watches; 3 entities may take 6",
    );
    let hidden = Limits {
        inotify_watches: None,
        ..plenty()
    };
    is_ok(&hidden.check_inotify(), "works; its limits are not shown");
    let crowded = Limits {
        entities: 5000,
        ..plenty()
    };
    is_degraded(
        &crowded.check_inotify(),
        "8192 watches; 5000 entities may take 10000: changed pidfiles are found by the sweep only",
        "`sysctl -w fs.inotify.max_user_watches=16384`, and \
         `fs.inotify.max_user_watches = 16384` in /etc/sysctl.d/60-pmon.conf",
    );
    let with = |errno| Limits {
        inotify: Err(errno),
        ..plenty()
    };
    is_degraded(
        &with(libc::EMFILE).check_inotify(),
        "this user has all its 128 instances in use: changed pidfiles are found by the sweep only",
        "`sysctl -w fs.inotify.max_user_instances=256`, and \
         `fs.inotify.max_user_instances = 256` in /etc/sysctl.d/60-pmon.conf",
    );
    is_degraded(
        &with(libc::ENOSYS).check_inotify(),
        "this kernel has no inotify: changed pidfiles are found by the sweep only",
        "boot a kernel built with CONFIG_INOTIFY_USER=y",
    );
    is_degraded(
        &with(libc::ENFILE).check_inotify(),
        "no instance can be had: Too many open files in system (os error 23)",
        "`sysctl -w fs.file-max=1048576`, and `fs.file-max = 1048576` in /etc/sysctl.d/60-pmon.conf",
    );
    is_degraded(
        &with(libc::ENOMEM).check_inotify(),
        "no instance can be had: Cannot allocate memory (os error 12)",
        "raise pmon's memory limit: `MemoryMax=` in `pmon.service`, `--memory` of the container",
    );
}

#[test]
fn facts_come_from_the_root() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let settings = DaemonSettings {
        pidfd_budget: Some(7),
        ..DaemonSettings::default()
    };
    let asked = Asked {
        settings: &settings,
        entities: 1,
    };
    let none = Limits::read(root, &asked, true);
    assert_eq!((none.entities, none.pidfd_budget), (1, Some(7)));
    assert_eq!((none.inotify_watches, none.inotify_instances), (None, None));
    write(root, "proc/sys/fs/inotify/max_user_watches", "77\n");
    write(root, "proc/sys/fs/inotify/max_user_instances", "7\n");
    let found = Limits::read(root, &asked, true);
    assert_eq!(
        (found.inotify_watches, found.inotify_instances),
        (Some(77), Some(7))
    );
}
