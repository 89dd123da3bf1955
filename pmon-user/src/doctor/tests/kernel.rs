use super::*;
use crate::doctor::{
    bpf::{BpfProbes, Probe},
    kernel::Version,
    outcome::expect::{is_degraded, is_failed, is_ok},
};

#[test]
fn version_against_the_floor() {
    is_ok(
        &linux("6.1.0-13-amd64").check_version(),
        "Linux 6.1.0-13-amd64, at least 5.8",
    );
    is_ok(
        &linux("5.8-rc1").check_version(),
        "Linux 5.8-rc1, at least 5.8",
    );
    is_degraded(
        &linux("5.4.0").check_version(),
        "Linux 5.4.0 has no BPF ring buffer (5.8): deaths are reported by pidfds only",
        "boot Linux 5.8 or newer",
    );
    is_failed(
        &linux("4.19.0").check_version(),
        "Linux 4.19.0 has no pidfd_open (5.3): no death can be verified",
        "boot Linux 5.8 or newer",
    );
    is_degraded(
        &linux("").check_version(),
        "`` is not a kernel version; what it offers is not known",
        "mount procfs: `mount -t proc proc /proc`; then see `uname -r`",
    );
    assert!(Version(5, 11) > Version(5, 8) && Version(6, 0) > Version(5, 19));
}

#[test]
fn pidfd() {
    let with = |release, pidfd| Kernel {
        pidfd,
        ..linux(release)
    };
    const SECCOMP: &str = "start the container with `--security-opt seccomp=unconfined`, or with a profile that \
         allows `pidfd_open` and `pidfd_send_signal`; in `pmon.service`: \
         `SystemCallFilter=pidfd_open pidfd_send_signal`";
    is_ok(&with("6.1.0", Ok(())).check_pidfd(), "pidfd_open works");
    is_failed(
        &with("5.2.0", Err(libc::ENOSYS)).check_pidfd(),
        "this kernel has no pidfd_open",
        "boot Linux 5.8 or newer",
    );
    is_failed(
        &with("6.1.0", Err(libc::ENOSYS)).check_pidfd(),
        "pidfd_open is refused: Function not implemented (os error 38); a seccomp filter is in the way",
        SECCOMP,
    );
    is_failed(
        &with("6.1.0", Err(libc::EPERM)).check_pidfd(),
        "pidfd_open is refused: Operation not permitted (os error 1); a seccomp filter is in the way",
        SECCOMP,
    );
    is_failed(
        &with("6.1.0", Err(libc::EMFILE)).check_pidfd(),
        "pidfd_open fails: Too many open files (os error 24)",
        "raise the limit of open files: `LimitNOFILE=65536` in `pmon.service`, or `ulimit -n 65536`",
    );
}

#[test]
fn btf() {
    let with = |btf| Kernel {
        btf,
        ..linux("6.1.0")
    };
    is_ok(
        &with(Btf::Present { bytes: 5 << 20 }).check_btf(),
        "`/sys/kernel/btf/vmlinux`, 5120 KiB",
    );
    is_degraded(
        &with(Btf::Absent).check_btf(),
        "no `/sys/kernel/btf/vmlinux`: the kernel program cannot be loaded",
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (`grep BTF /boot/config-$(uname -r)`); \
         in a container: `-v /sys/kernel/btf:/sys/kernel/btf:ro`",
    );
    is_degraded(
        &with(Btf::Broken).check_btf(),
        "`/sys/kernel/btf/vmlinux` is not BTF: the kernel program cannot be loaded",
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y by pahole 1.16 or newer",
    );
    is_degraded(
        &with(Btf::Unreadable {
            errno: libc::EACCES,
        })
        .check_btf(),
        "`/sys/kernel/btf/vmlinux` cannot be read: Permission denied (os error 13)",
        "run pmon as root: `sudo pmon daemon`",
    );
}

#[test]
fn lockdown() {
    let works = BpfProbes {
        ring: Probe::Works,
        program: Probe::Works,
    };
    let refused = BpfProbes {
        program: Probe::Refused(libc::EPERM),
        ..works
    };
    let with = |mode: Option<&str>| Kernel {
        lockdown: mode.map(str::to_owned),
        ..linux("6.1.0")
    };
    is_ok(
        &with(None).check_lockdown(refused),
        "the kernel shows no lockdown state",
    );
    is_ok(&with(Some("none")).check_lockdown(refused), "`none`");
    is_ok(
        &with(Some("integrity")).check_lockdown(refused),
        "`integrity`",
    );
    is_ok(
        &with(Some("confidentiality")).check_lockdown(works),
        "`confidentiality`: no obstacle, the kernel program reads no memory through helpers",
    );
    is_degraded(
        &with(Some("confidentiality")).check_lockdown(refused),
        "`confidentiality`, and bpf() is refused",
        "boot with the kernel parameter `lockdown=integrity`",
    );
}

#[test]
fn unprivileged_bpf_is_a_note() {
    let with = |value| Kernel {
        unprivileged_bpf_disabled: value,
        ..linux("6.1.0")
    };
    is_ok(
        &with(Some(2)).check_unprivileged_bpf(),
        "bpf() needs a capability (`kernel.unprivileged_bpf_disabled = 2`)",
    );
    is_ok(
        &with(Some(0)).check_unprivileged_bpf(),
        "bpf() is open to every user (`kernel.unprivileged_bpf_disabled = 0`); pmon does not need that",
    );
    is_ok(
        &with(None).check_unprivileged_bpf(),
        "not known: no `kernel.unprivileged_bpf_disabled`",
    );
}

#[test]
fn facts_come_from_the_root() {
    let empty = tempfile::tempdir().unwrap();
    let kernel = Kernel::read(empty.path());
    assert_eq!((kernel.release.as_str(), kernel.version()), ("", None));
    assert_eq!(kernel.btf, Btf::Absent);
    assert_eq!(kernel.lockdown, None);
    assert_eq!(kernel.unprivileged_bpf_disabled, None);

    let full = tempfile::tempdir().unwrap();
    let root = full.path();
    write(root, "proc/sys/kernel/osrelease", "5.10.0-28-amd64\n");
    write(root, "sys/kernel/btf/vmlinux", 0xeb9f_u16.to_ne_bytes());
    write(
        root,
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    write(root, "proc/sys/kernel/unprivileged_bpf_disabled", "1\n");
    let kernel = Kernel::read(root);
    assert_eq!(kernel.version(), Some(Version(5, 10)));
    assert_eq!(kernel.btf, Btf::Present { bytes: 2 });
    assert_eq!(kernel.lockdown.as_deref(), Some("integrity"));
    assert_eq!(kernel.unprivileged_bpf_disabled, Some(1));

    for broken in ["", "x", "not BTF"] {
        write(root, "sys/kernel/btf/vmlinux", broken);
        assert_eq!(Kernel::read(root).btf, Btf::Broken, "{broken:?}");
    }
    fs::remove_file(root.join("sys/kernel/btf/vmlinux")).unwrap();
    fs::create_dir(root.join("sys/kernel/btf/vmlinux")).unwrap();
    let errno = libc::EISDIR;
    assert_eq!(Kernel::read(root).btf, Btf::Unreadable { errno });
}
