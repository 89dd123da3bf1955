//! Whether bpf(2) can be used, and whether something can be pinned.
//!
//! What can be made is tried (a map of one page, a program of two instructions,
//! both gone at once); privileges only serve to explain a refusal.

use std::path::{Path, PathBuf};

use aya::{
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{is_map_supported, is_program_supported},
};
use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};

use super::{
    outcome::{degraded, errno, ok},
    privileges::{Capability, Privileges},
};
use crate::{source::pins::is_bpffs, view::diagnosis::CheckView};

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// It worked.
    Works,
    /// The kernel does not know such a thing.
    Unsupported,
    /// An error number.
    Refused(i32),
}

/// What became of the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BpfProbes {
    /// A ring buffer: CAP_BPF.
    pub(super) ring: Probe,
    /// A raw tracepoint program: CAP_BPF and CAP_PERFMON.
    pub(super) program: Probe,
}

impl BpfProbes {
    /// Tries.
    pub(super) fn run() -> Self {
        let ring = match is_map_supported(MapType::RingBuf) {
            Ok(true) => Probe::Works,
            Ok(false) => Probe::Unsupported,
            Err(error) => refused(&error.io_error),
        };
        let program = match is_program_supported(ProgramType::RawTracePoint) {
            Ok(true) => Probe::Works,
            Ok(false) => Probe::Unsupported,
            Err(ProgramError::SyscallError(error)) => refused(&error.io_error),
            Err(_) => Probe::Unsupported,
        };
        Self { ring, program }
    }

    /// Whether everything worked.
    pub(super) fn work(self) -> bool {
        self.ring == Probe::Works && self.program == Probe::Works
    }
}

fn refused(error: &std::io::Error) -> Probe {
    Probe::Refused(error.raw_os_error().unwrap_or(libc::EIO))
}

/// `bpf-syscall`.
pub(super) fn check_syscall(probes: BpfProbes, privileges: &Privileges) -> CheckView {
    const NAME: &str = "bpf-syscall";
    let (what, probe) = match (probes.ring, probes.program) {
        (Probe::Works, Probe::Works) => {
            return ok(NAME, "ring buffers and programs can be made");
        }
        (Probe::Works, probe) => ("a tracing program", probe),
        (probe, _) => ("a ring buffer", probe),
    };
    let missing: Vec<&str> = [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .filter(|capability| !privileges.has(*capability))
        .map(|capability| capability.name())
        .collect();
    match probe {
        Probe::Works => ok(NAME, "ring buffers and programs can be made"),
        Probe::Unsupported => degraded(
            NAME,
            format!("this kernel cannot make {what}"),
            "boot Linux 5.8 or newer with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
        ),
        Probe::Refused(libc::ENOSYS) if !privileges.seccomp => degraded(
            NAME,
            "this kernel has no bpf()",
            "boot a kernel built with CONFIG_BPF_SYSCALL=y",
        ),
        Probe::Refused(number @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) => {
            let (why, fix) = why_refused(&missing, privileges);
            degraded(
                NAME,
                format!("{what} is refused: {}; {why}", errno(number)),
                fix,
            )
        }
        Probe::Refused(libc::ENOMEM) => degraded(
            NAME,
            format!("{what} cannot be made: {}", errno(libc::ENOMEM)),
            "raise pmon's memory limit: `MemoryMax=` in `pmon.service`, `--memory` of the container",
        ),
        Probe::Refused(number) => degraded(
            NAME,
            format!("{what} cannot be made: {}", errno(number)),
            "see the kernel's reason: `dmesg | tail`",
        ),
    }
}

/// The likeliest reason of a refusal, and what to do about it.
fn why_refused(missing: &[&str], privileges: &Privileges) -> (String, String) {
    const SECCOMP: &str = "`--security-opt seccomp=unconfined`, or a profile that allows `bpf`; \
                           systemd-nspawn: `--system-call-filter=bpf`; \
                           in `pmon.service`: `SystemCallFilter=bpf`";
    if !missing.is_empty() {
        let names = missing.join(" and ");
        let fix = privileges.how_to_get(missing);
        return if privileges.seccomp {
            (
                format!("{names} missing, and a seccomp filter is in force"),
                format!("{fix}; if that is not enough: {SECCOMP}"),
            )
        } else {
            (format!("{names} missing"), fix)
        };
    }
    if !privileges.initial_user_namespace {
        return (
            "capabilities of a user namespace do not count".to_owned(),
            "start pmon as the host's root: `sudo podman run …` or `--userns=host`".to_owned(),
        );
    }
    if privileges.seccomp {
        return (
            "the capabilities are there, a seccomp filter (of the container runtime) blocks bpf()"
                .to_owned(),
            format!("container: {SECCOMP}"),
        );
    }
    (
        "the capabilities are there, a security module must be in the way".to_owned(),
        "see which: `dmesg | grep -iE 'avc|apparmor|lockdown'`; allow `bpf` for pmon there"
            .to_owned(),
    )
}

/// Where pins are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PinPlace {
    /// Directory.
    pub(super) base: PathBuf,
    /// It, or its nearest existing ancestor, is on a bpffs.
    pub(super) bpffs: bool,
    /// And may be written.
    pub(super) writable: bool,
    /// It is mounted read-only.
    pub(super) read_only: bool,
}

impl PinPlace {
    /// Looks at the directory.
    pub(super) fn look(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
            bpffs: is_bpffs(base),
            read_only: nearest(base)
                .and_then(|nearest| statvfs(nearest).ok())
                .is_some_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY)),
            writable: nearest(base).is_some_and(|nearest| {
                accessat(CWD, nearest, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
            }),
        }
    }
}

/// The directory itself, or what there is of the way to it.
fn nearest(base: &Path) -> Option<&Path> {
    base.ancestors().find(|ancestor| ancestor.exists())
}

/// `bpffs`; `None` where nothing is to be pinned.
pub(super) fn check_bpffs(place: Option<&PinPlace>) -> CheckView {
    const NAME: &str = "bpffs";
    /// Where a bpffs is mounted by convention.
    const USUAL: &str = "/sys/fs/bpf";
    let Some(PinPlace {
        base,
        bpffs,
        writable,
        read_only,
    }) = place
    else {
        return ok(NAME, "nothing is to be pinned");
    };
    let shown = base.display();
    match (bpffs, writable) {
        (true, true) => ok(NAME, format!("`{shown}` is on a bpffs")),
        (true, false) if *read_only => degraded(
            NAME,
            format!("`{shown}` is on a bpffs that is mounted read-only: nothing is pinned"),
            format!(
                "`mount -o remount,rw $(findmnt -nT {shown} -o TARGET)`; pmon pins within \
                 `audit_interval` then"
            ),
        ),
        (true, false) => degraded(
            NAME,
            format!("`{shown}` is on a bpffs, but may not be written: nothing is pinned"),
            "run pmon as root: `sudo pmon daemon`; or give it a bpffs of its own: \
             `mount -t bpf -o uid=$(id -u pmon) bpf DIR` and `--pin-dir DIR`",
        ),
        (false, _) if base.starts_with(USUAL) => degraded(
            NAME,
            format!("`{shown}` is not on a bpffs: nothing is pinned"),
            format!(
                "`mount -t bpf bpf {USUAL}`; in a container: `-v {USUAL}:{USUAL}`; or `--pin-dir none`"
            ),
        ),
        (false, _) => degraded(
            NAME,
            format!("`{shown}` is not on a bpffs: nothing is pinned"),
            format!("`mkdir -p {shown} && mount -t bpf bpf {shown}`; or `--pin-dir {USUAL}/pmon`"),
        ),
    }
}
