//! What the running kernel offers: its version, pidfds, its own types (BTF) and
//! its lockdown state.

use std::{
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    process::{PidfdFlags, getpid, pidfd_open},
};

use super::{
    bpf::BpfProbes,
    outcome::{degraded, failed, ok},
};
use crate::view::diagnosis::CheckView;

/// `MAJOR.MINOR` of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

/// pidfd_open(2).
const PIDFD_OPEN: Version = Version(5, 3);
/// BPF ring buffer, CAP_BPF and CAP_PERFMON (capabilities(7)).
pub(super) const RING_BUFFER: Version = Version(5, 8);
/// BPF memory is charged to the memory cgroup, no longer to `RLIMIT_MEMLOCK`.
pub(super) const CGROUP_ACCOUNTING: Version = Version(5, 11);

/// First two bytes of BTF in the byte order of this machine,
/// `BTF_MAGIC` of `include/uapi/linux/btf.h`.
const BTF_MAGIC: u16 = 0xeb9f;
const BTF: &str = "sys/kernel/btf/vmlinux";

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor) = self;
        write!(f, "{major}.{minor}")
    }
}

impl Version {
    /// From a release as uname(2) gives it: `6.1.0-13-amd64`, `6.12-rc1`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self(major, minor))
    }
}

/// What is known of the kernel.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) release: String,
    /// pidfd_open(2) of the calling process: an error number, if it fails.
    pub(super) pidfd: Result<(), i32>,
    pub(super) btf: Btf,
    /// The chosen word of `/sys/kernel/security/lockdown`.
    pub(super) lockdown: Option<String>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub(super) unprivileged_bpf_disabled: Option<u8>,
}

/// The state of `/sys/kernel/btf/vmlinux`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Btf {
    /// Types, so many bytes.
    Present { bytes: u64 },
    /// There is something else.
    Broken,
    /// Not there.
    Absent,
    /// There, but not for us.
    Unreadable { errno: i32 },
}

impl Kernel {
    /// Reads below `root`; pidfd_open(2) is asked of the running kernel.
    pub(super) fn read(root: &Path) -> Self {
        let line = |path: &str| fs::read_to_string(root.join(path)).ok();
        Self {
            release: line("proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            pidfd: pidfd_open(getpid(), PidfdFlags::empty())
                .map(drop)
                .map_err(Errno::raw_os_error),
            btf: btf_at(&root.join(BTF)),
            lockdown: line("sys/kernel/security/lockdown").and_then(|modes| chosen(&modes)),
            unprivileged_bpf_disabled: line("proc/sys/kernel/unprivileged_bpf_disabled")
                .and_then(|value| value.trim().parse().ok()),
        }
    }

    /// Its version, when the release can be read as one.
    pub(super) fn version(&self) -> Option<Version> {
        Version::parse(&self.release)
    }

    /// Whether it is known to be older than `version`.
    pub(super) fn is_before(&self, version: Version) -> bool {
        self.version().is_some_and(|own| own < version)
    }

    /// `kernel`.
    pub(super) fn check_version(&self) -> CheckView {
        const NAME: &str = "kernel";
        const FIX: &str = "boot Linux 5.8 or newer";
        let release = &self.release;
        match self.version() {
            None => degraded(
                NAME,
                format!("`{release}` is not a kernel version; what it offers is not known"),
                "mount procfs: `mount -t proc proc /proc`; then see `uname -r`",
            ),
            Some(version) if version < PIDFD_OPEN => failed(
                NAME,
                format!("Linux {release} has no pidfd_open (5.3): no death can be verified"),
                FIX,
            ),
            Some(version) if version < RING_BUFFER => degraded(
                NAME,
                format!(
                    "Linux {release} has no BPF ring buffer (5.8): deaths are reported by pidfds only"
                ),
                FIX,
            ),
            Some(_) => ok(NAME, format!("Linux {release}, at least {RING_BUFFER}")),
        }
    }

    /// `pidfd`.
    pub(super) fn check_pidfd(&self) -> CheckView {
        const NAME: &str = "pidfd";
        match self.pidfd {
            Ok(()) => ok(NAME, "pidfd_open works"),
            Err(libc::ENOSYS) if self.is_before(PIDFD_OPEN) => failed(
                NAME,
                "this kernel has no pidfd_open",
                "boot Linux 5.8 or newer",
            ),
            Err(number @ (libc::ENOSYS | libc::EPERM)) => failed(
                NAME,
                format!(
                    "pidfd_open is refused: {}; a seccomp filter is in the way",
                    super::outcome::errno(number)
                ),
                "start the container with `--security-opt seccomp=unconfined`, or with a profile that allows \
                 `pidfd_open` and `pidfd_send_signal`; in `pmon.service`: `SystemCallFilter=pidfd_open pidfd_send_signal`",
            ),
            Err(number) => failed(
                NAME,
                format!("pidfd_open fails: {}", super::outcome::errno(number)),
                "raise the limit of open files: `LimitNOFILE=65536` in `pmon.service`, or `ulimit -n 65536`",
            ),
        }
    }

    /// `btf`.
    pub(super) fn check_btf(&self) -> CheckView {
        const NAME: &str = "btf";
        match self.btf {
            Btf::Present { bytes } => ok(NAME, format!("`/{BTF}`, {} KiB", bytes / 1024)),
            Btf::Broken => degraded(
                NAME,
                format!("`/{BTF}` is not BTF: the kernel program cannot be loaded"),
                "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y by pahole 1.16 or newer",
            ),
            Btf::Absent => degraded(
                NAME,
                format!("no `/{BTF}`: the kernel program cannot be loaded"),
                "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (`grep BTF /boot/config-$(uname -r)`); \
                 in a container: `-v /sys/kernel/btf:/sys/kernel/btf:ro`",
            ),
            Btf::Unreadable { errno } => degraded(
                NAME,
                format!("`/{BTF}` cannot be read: {}", super::outcome::errno(errno)),
                "run pmon as root: `sudo pmon daemon`",
            ),
        }
    }

    /// `lockdown`.
    pub(super) fn check_lockdown(&self, probes: BpfProbes) -> CheckView {
        const NAME: &str = "lockdown";
        match self.lockdown.as_deref() {
            None => ok(NAME, "the kernel shows no lockdown state"),
            Some("confidentiality") if !probes.work() => degraded(
                NAME,
                "`confidentiality`, and bpf() is refused",
                "boot with the kernel parameter `lockdown=integrity`",
            ),
            Some("confidentiality") => ok(
                NAME,
                "`confidentiality`: no obstacle, the kernel program reads no memory through helpers",
            ),
            Some(mode) => ok(NAME, format!("`{mode}`")),
        }
    }

    /// `unprivileged-bpf`: a note, never an obstacle.
    pub(super) fn check_unprivileged_bpf(&self) -> CheckView {
        let found = match self.unprivileged_bpf_disabled {
            None => "not known: no `kernel.unprivileged_bpf_disabled`".to_owned(),
            Some(0) => "bpf() is open to every user (`kernel.unprivileged_bpf_disabled = 0`); \
                        pmon does not need that"
                .to_owned(),
            Some(value) => {
                format!("bpf() needs a capability (`kernel.unprivileged_bpf_disabled = {value}`)")
            }
        };
        ok("unprivileged-bpf", found)
    }
}

/// The word in brackets.
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}

fn btf_at(path: &PathBuf) -> Btf {
    let mut magic = [0; 2];
    let read = fs::File::open(path).and_then(|mut file| {
        file.read_exact(&mut magic)?;
        file.metadata()
    });
    match read {
        Ok(found) if u16::from_ne_bytes(magic) == BTF_MAGIC => Btf::Present { bytes: found.len() },
        Ok(_) => Btf::Broken,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Btf::Absent,
        Err(error) => match error.raw_os_error() {
            Some(errno) => Btf::Unreadable { errno },
            // Too short for the magic.
            None => Btf::Broken,
        },
    }
}
