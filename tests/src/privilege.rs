//! Whether this machine and this user allow a test at all. Judged without
//! pmon, so that pmon's own failure is never taken for a lack of privilege.

use std::{fs, path::Path, process::Command};

use crate::kernel::{self, Version};

/// `CAP_SYS_ADMIN`, `CAP_PERFMON` and `CAP_BPF` of capability(7).
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Why eBPF cannot be tested here; `None` when it can.
#[must_use]
pub fn no_bpf() -> Option<String> {
    if let Some(reason) = no_root() {
        return Some(reason);
    }
    let has = |bit: u32| capabilities() >> bit & 1 == 1;
    if !(has(SYS_ADMIN) || has(BPF) && has(PERFMON)) {
        return Some("needs CAP_BPF and CAP_PERFMON".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("needs a kernel with BTF".to_owned());
    }
    None
}

/// Why what needs root cannot be tested here; `None` when it can.
#[must_use]
pub fn no_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned())
}

/// Why the status of somebody else's child cannot be had without privilege;
/// `None` when it can: `PIDFD_INFO_EXIT`, since Linux 6.15.
#[must_use]
pub fn no_exit_info() -> Option<String> {
    let version = kernel::version();
    (version < Version(6, 15)).then(|| format!("needs Linux 6.15, this is {version}"))
}

/// Why a program cannot be used here; `None` when it can.
#[must_use]
pub fn no_program(name: &str) -> Option<String> {
    let found = Command::new(name)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    (!found).then(|| format!("needs `{name}`"))
}

fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Leaves the test, saying why, when a reason is given.
#[macro_export]
macro_rules! skip_if {
    ($reason:expr) => {
        if let Some(reason) = $reason {
            println!("SKIP: {}: {reason}", module_path!());
            return;
        }
    };
}
