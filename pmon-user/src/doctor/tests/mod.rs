//! Every check in every outcome, word for word, and the doctor on this host.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bpf;
mod canary;
mod daemon;
mod directories;
mod host;
mod kernel;
mod limits;
mod namespaces;
mod policies;
mod privileges;
mod scheduling;
mod sources;
mod surroundings;

use std::{fs, path::Path};

use super::{
    kernel::{Btf, Kernel},
    privileges::Privileges,
    surroundings::{Hierarchy, Surroundings},
};

/// All capabilities of Linux 6.x (`CAP_LAST_CAP` is 40).
const ALL: u64 = (1 << 41) - 1;

fn root_user() -> Privileges {
    Privileges {
        euid: 0,
        effective: ALL,
        seccomp: false,
        initial_user_namespace: true,
    }
}

fn nobody() -> Privileges {
    Privileges {
        euid: 65534,
        effective: 0,
        ..root_user()
    }
}

fn linux(release: &str) -> Kernel {
    Kernel {
        release: release.to_owned(),
        pidfd: Ok(()),
        btf: Btf::Present { bytes: 5 << 20 },
        lockdown: Some("none".to_owned()),
        unprivileged_bpf_disabled: Some(2),
    }
}

fn plain_host() -> Surroundings {
    Surroundings {
        hierarchy: Hierarchy::None,
        systemd: false,
        systemctl: false,
        unit: false,
    }
}

/// Writes a file, and its directories, below an invented root.
fn write(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Makes a symbolic link below an invented root.
fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}
