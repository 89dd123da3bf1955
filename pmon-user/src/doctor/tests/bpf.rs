use std::path::PathBuf;

use super::*;
use crate::doctor::{
    bpf::{BpfProbes, PinPlace, Probe, check_bpffs, check_syscall},
    outcome::expect::{is_degraded, is_ok},
};

fn both(probe: Probe) -> BpfProbes {
    BpfProbes {
        ring: probe,
        program: probe,
    }
}

const EPERM: Probe = Probe::Refused(libc::EPERM);

#[test]
fn it_works() {
    is_ok(
        &check_syscall(both(Probe::Works), &root_user()),
        "ring buffers and programs can be made",
    );
}

#[test]
fn without_capabilities() {
    is_degraded(
        &check_syscall(both(EPERM), &nobody()),
        "a ring buffer is refused: Operation not permitted (os error 1); CAP_BPF and CAP_PERFMON missing",
        "run pmon as root: `sudo pmon daemon`; or in `pmon.service`: `AmbientCapabilities=CAP_BPF CAP_PERFMON`",
    );
    // CAP_BPF alone makes maps, but no tracing programs.
    let bpf_only = Privileges {
        effective: 1 << 39,
        ..nobody()
    };
    let probes = BpfProbes {
        ring: Probe::Works,
        program: EPERM,
    };
    is_degraded(
        &check_syscall(probes, &bpf_only),
        "a tracing program is refused: Operation not permitted (os error 1); CAP_PERFMON missing",
        "run pmon as root: `sudo pmon daemon`; or in `pmon.service`: `AmbientCapabilities=CAP_PERFMON`",
    );
    let container = Privileges {
        effective: 0,
        seccomp: true,
        ..root_user()
    };
    is_degraded(
        &check_syscall(both(EPERM), &container),
        "a ring buffer is refused: Operation not permitted (os error 1); \
         CAP_BPF and CAP_PERFMON missing, and a seccomp filter is in force",
        "in a container: `--cap-add=BPF --cap-add=PERFMON`; \
         in `pmon.service`: `CapabilityBoundingSet=CAP_BPF CAP_PERFMON`; \
         if that is not enough: `--security-opt seccomp=unconfined`, or a profile that allows `bpf`; \
         systemd-nspawn: `--system-call-filter=bpf`; in `pmon.service`: `SystemCallFilter=bpf`",
    );
}

#[test]
fn with_capabilities_that_do_not_help() {
    let seccomp = Privileges {
        seccomp: true,
        ..root_user()
    };
    const FIX: &str = "container: `--security-opt seccomp=unconfined`, or a profile that allows `bpf`; \
         systemd-nspawn: `--system-call-filter=bpf`; in `pmon.service`: `SystemCallFilter=bpf`";
    is_degraded(
        &check_syscall(both(EPERM), &seccomp),
        "a ring buffer is refused: Operation not permitted (os error 1); \
         the capabilities are there, a seccomp filter (of the container runtime) blocks bpf()",
        FIX,
    );
    is_degraded(
        &check_syscall(both(Probe::Refused(libc::ENOSYS)), &seccomp),
        "a ring buffer is refused: Function not implemented (os error 38); \
         the capabilities are there, a seccomp filter (of the container runtime) blocks bpf()",
        FIX,
    );
    let user_namespace = Privileges {
        initial_user_namespace: false,
        ..seccomp
    };
    is_degraded(
        &check_syscall(both(EPERM), &user_namespace),
        "a ring buffer is refused: Operation not permitted (os error 1); \
         capabilities of a user namespace do not count",
        "start pmon as the host's root: `sudo podman run …` or `--userns=host`",
    );
    is_degraded(
        &check_syscall(both(Probe::Refused(libc::EACCES)), &root_user()),
        "a ring buffer is refused: Permission denied (os error 13); \
         the capabilities are there, a security module must be in the way",
        "see which: `dmesg | grep -iE 'avc|apparmor|lockdown'`; allow `bpf` for pmon there",
    );
}

#[test]
fn where_the_kernel_cannot() {
    is_degraded(
        &check_syscall(both(Probe::Unsupported), &root_user()),
        "this kernel cannot make a ring buffer",
        "boot Linux 5.8 or newer with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
    );
    is_degraded(
        &check_syscall(both(Probe::Refused(libc::ENOSYS)), &root_user()),
        "this kernel has no bpf()",
        "boot a kernel built with CONFIG_BPF_SYSCALL=y",
    );
    is_degraded(
        &check_syscall(both(Probe::Refused(libc::ENOMEM)), &root_user()),
        "a ring buffer cannot be made: Cannot allocate memory (os error 12)",
        "raise pmon's memory limit: `MemoryMax=` in `pmon.service`, `--memory` of the container",
    );
    is_degraded(
        &check_syscall(both(Probe::Refused(libc::E2BIG)), &root_user()),
        "a ring buffer cannot be made: Argument list too long (os error 7)",
        "see the kernel's reason: `dmesg | tail`",
    );
}

#[test]
fn bpffs() {
    let place = |base: &str, bpffs, writable| PinPlace {
        base: PathBuf::from(base),
        bpffs,
        writable,
        read_only: false,
    };
    is_ok(&check_bpffs(None), "nothing is to be pinned");
    is_ok(
        &check_bpffs(Some(&place("/sys/fs/bpf/pmon", true, true))),
        "`/sys/fs/bpf/pmon` is on a bpffs",
    );
    is_degraded(
        &check_bpffs(Some(&place("/sys/fs/bpf/pmon", true, false))),
        "`/sys/fs/bpf/pmon` is on a bpffs, but may not be written: nothing is pinned",
        "run pmon as root: `sudo pmon daemon`; or give it a bpffs of its own: \
         `mount -t bpf -o uid=$(id -u pmon) bpf DIR` and `--pin-dir DIR`",
    );
    let read_only = PinPlace {
        read_only: true,
        ..place("/sys/fs/bpf/pmon", true, false)
    };
    is_degraded(
        &check_bpffs(Some(&read_only)),
        "`/sys/fs/bpf/pmon` is on a bpffs that is mounted read-only: nothing is pinned",
        "`mount -o remount,rw $(findmnt -nT /sys/fs/bpf/pmon -o TARGET)`; pmon pins within \
         `audit_interval` then",
    );
    is_degraded(
        &check_bpffs(Some(&place("/sys/fs/bpf/pmon", false, true))),
        "`/sys/fs/bpf/pmon` is not on a bpffs: nothing is pinned",
        "`mount -t bpf bpf /sys/fs/bpf`; in a container: `-v /sys/fs/bpf:/sys/fs/bpf`; or `--pin-dir none`",
    );
    is_degraded(
        &check_bpffs(Some(&place("/run/pins", false, true))),
        "`/run/pins` is not on a bpffs: nothing is pinned",
        "`mkdir -p /run/pins && mount -t bpf bpf /run/pins`; or `--pin-dir /sys/fs/bpf/pmon`",
    );
}

#[test]
fn an_ordinary_directory_is_no_bpffs() {
    let directory = tempfile::tempdir().unwrap();
    let place = PinPlace::look(&directory.path().join("not/there"));
    assert!(!place.bpffs && place.writable && !place.read_only);
}
