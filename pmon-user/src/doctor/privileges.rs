//! What the calling process may do: user, capabilities, seccomp, user namespace.

use std::path::Path;

use procfs::{FromRead as _, process::Status};

use super::{
    kernel::{Kernel, RING_BUFFER},
    outcome::{degraded, ok},
};
use crate::view::diagnosis::CheckView;

/// The initial user namespace's inode, `PROC_USER_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// A capability by its number in `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capability {
    DacOverride = 1,
    DacReadSearch = 2,
    Kill = 5,
    SysPtrace = 19,
    SysAdmin = 21,
    SysNice = 23,
    Perfmon = 38,
    Bpf = 39,
}

/// What pmon uses, in the order it is told.
const NEEDED: [Capability; 6] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::Kill,
    Capability::SysPtrace,
    Capability::SysNice,
    Capability::DacReadSearch,
];

impl Capability {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::Kill => "CAP_KILL",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// A greater one that does as well (capabilities(7)).
    const fn covered_by(self) -> Option<Self> {
        match self {
            Self::Bpf | Self::Perfmon => Some(Self::SysAdmin),
            Self::DacReadSearch => Some(Self::DacOverride),
            Self::DacOverride | Self::Kill | Self::SysPtrace | Self::SysAdmin | Self::SysNice => {
                None
            }
        }
    }

    /// What is lost without it.
    const fn loss(self) -> &'static str {
        match self {
            Self::Bpf | Self::SysAdmin => "deaths are reported by pidfds only",
            Self::Perfmon => "the kernel program cannot be loaded",
            Self::Kill => "processes of other users cannot be stopped",
            Self::SysPtrace => "`/proc/PID/exe` of other users is hidden",
            Self::SysNice => "the receiver has normal priority",
            Self::DacReadSearch | Self::DacOverride => "private pidfiles of other users are hidden",
        }
    }
}

/// What the calling process may do.
#[derive(Clone, Debug)]
pub(super) struct Privileges {
    /// Effective user.
    pub(super) euid: u32,
    /// `CapEff`.
    pub(super) effective: u64,
    /// A seccomp filter is in force.
    pub(super) seccomp: bool,
    /// In the initial user namespace, where capabilities count for bpf().
    pub(super) initial_user_namespace: bool,
}

impl Privileges {
    /// Reads below `root`; without `/proc` nothing is held.
    pub(super) fn read(root: &Path) -> Self {
        let namespace = std::fs::read_link(root.join("proc/self/ns/user"));
        let status = Status::from_file(root.join("proc/self/status")).ok();
        Self {
            euid: status
                .as_ref()
                .map_or_else(|| rustix::process::geteuid().as_raw(), |status| status.euid),
            effective: status.as_ref().map_or(0, |status| status.capeff),
            // 2 is SECCOMP_MODE_FILTER (proc_pid_status(5)).
            seccomp: status.and_then(|status| status.seccomp) == Some(2),
            initial_user_namespace: namespace
                .map_or(true, |link| link.as_os_str() == INITIAL_USER_NAMESPACE),
        }
    }

    /// Whether it is held, itself or by a greater one.
    pub(super) fn has(&self, capability: Capability) -> bool {
        let holds = |capability| self.effective & (1 << (capability as u32)) != 0;
        holds(capability) || capability.covered_by().is_some_and(holds)
    }

    /// How capabilities are given to pmon, for the fix of a check.
    pub(super) fn how_to_get(&self, names: &[&str]) -> String {
        let unit = names.join(" ");
        let flags: Vec<String> = names
            .iter()
            .map(|name| format!("--cap-add={}", name.trim_start_matches("CAP_")))
            .collect();
        let flags = flags.join(" ");
        if self.euid == 0 {
            format!("in a container: `{flags}`; in `pmon.service`: `CapabilityBoundingSet={unit}`")
        } else {
            format!(
                "run pmon as root: `sudo pmon daemon`; or in `pmon.service`: `AmbientCapabilities={unit}`"
            )
        }
    }

    /// `user`.
    pub(super) fn check_user(&self) -> CheckView {
        const NAME: &str = "user";
        match (self.euid, self.initial_user_namespace) {
            (0, true) => ok(NAME, "root"),
            (0, false) => degraded(
                NAME,
                "root of a user namespace only: bpf() and other users' processes are out of reach",
                "start pmon as the host's root: `sudo podman run …` or `--userns=host`",
            ),
            (uid, _) => degraded(
                NAME,
                format!(
                    "uid {uid}: whatever pmon starts runs as this user, and only its processes can be stopped without CAP_KILL"
                ),
                "run pmon as root: `sudo pmon daemon`",
            ),
        }
    }

    /// `capabilities`.
    pub(super) fn check_capabilities(&self, kernel: &Kernel) -> CheckView {
        const NAME: &str = "capabilities";
        // Before Linux 5.8 CAP_SYS_ADMIN stood for both.
        let old = kernel.is_before(RING_BUFFER);
        let mut missing: Vec<Capability> = NEEDED
            .into_iter()
            .filter(|capability| !self.has(*capability))
            .map(|capability| match capability {
                Capability::Bpf | Capability::Perfmon if old => Capability::SysAdmin,
                other => other,
            })
            .collect();
        missing.dedup();
        if missing.is_empty() {
            return ok(NAME, "all that pmon uses are effective");
        }
        let losses: Vec<String> = missing
            .iter()
            .map(|capability| format!("{} ({})", capability.name(), capability.loss()))
            .collect();
        let names: Vec<&str> = missing.iter().map(|capability| capability.name()).collect();
        degraded(
            NAME,
            format!("missing: {}", losses.join(", ")),
            self.how_to_get(&names),
        )
    }
}
