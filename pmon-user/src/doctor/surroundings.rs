//! How the host runs services: its cgroup hierarchy and its service manager.

use std::path::{Path, PathBuf};

use procfs::{FromRead as _, process::MountInfos};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::outcome::{degraded, ok};
use crate::view::diagnosis::CheckView;

/// The mounted cgroup hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// `/proc/self/mountinfo` cannot be read, or shows none.
    None,
    /// Version 1 only.
    V1,
    /// Version 2, also or only.
    V2 {
        /// Where.
        mount: PathBuf,
        /// Version 1 is there as well.
        hybrid: bool,
        /// Directories can be made there.
        writable: bool,
    },
}

/// The host.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) hierarchy: Hierarchy,
    /// systemd runs the host (sd_booted(3)).
    pub(super) systemd: bool,
    /// There is a `systemctl`.
    pub(super) systemctl: bool,
    /// There is a `pmon.service`.
    pub(super) unit: bool,
}

impl Surroundings {
    /// Reads below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let any = |paths: &[&str]| paths.iter().any(|path| root.join(path).exists());
        Self {
            hierarchy: hierarchy(root),
            systemd: root.join("run/systemd/system").is_dir(),
            systemctl: any(&["usr/bin/systemctl", "bin/systemctl"]),
            unit: any(&[
                "etc/systemd/system/pmon.service",
                "usr/lib/systemd/system/pmon.service",
                "lib/systemd/system/pmon.service",
            ]),
        }
    }

    /// How the daemon is started, or started again.
    pub(super) fn start_command(&self, verb: &str, run_dir: &Path) -> String {
        let usual = run_dir == Path::new("/run/pmon");
        match (usual, self.systemd && self.unit) {
            (true, true) => format!("`systemctl {verb} pmon`"),
            (true, false) => "`pmon daemon` as root".to_owned(),
            (false, _) => format!("`pmon daemon --run-dir {}` as root", run_dir.display()),
        }
    }

    /// `cgroup`.
    pub(super) fn check_cgroup(&self) -> CheckView {
        const NAME: &str = "cgroup";
        const LOSS: &str = "what pmon starts stays in pmon's own cgroup and ends with it";
        match &self.hierarchy {
            Hierarchy::V2 {
                mount,
                hybrid,
                writable: true,
            } => ok(
                NAME,
                format!(
                    "version 2{} at `{}`: what pmon starts gets a cgroup of its own",
                    if *hybrid { " beside version 1" } else { "" },
                    mount.display()
                ),
            ),
            Hierarchy::V2 {
                mount,
                hybrid: _,
                writable: false,
            } => degraded(
                NAME,
                format!("`{}` may not be written: {LOSS}", mount.display()),
                format!(
                    "run pmon as root; in a container: `--cgroupns=host -v {0}:{0}:rw`; \
                     in `pmon.service` at least `KillMode=process`",
                    mount.display()
                ),
            ),
            Hierarchy::V1 => degraded(
                NAME,
                format!("version 1 only: {LOSS}"),
                "`mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`; \
                 or boot with `systemd.unified_cgroup_hierarchy=1`",
            ),
            Hierarchy::None => degraded(
                NAME,
                format!("no hierarchy is mounted: {LOSS}"),
                "`mount -t cgroup2 cgroup2 /sys/fs/cgroup`",
            ),
        }
    }

    /// `systemd`.
    pub(super) fn check_systemd(&self) -> CheckView {
        const NAME: &str = "systemd";
        match (self.systemd, self.systemctl) {
            (true, true) => ok(
                NAME,
                "runs this host: units are started through `systemctl`",
            ),
            (true, false) => degraded(
                NAME,
                "runs this host, but there is no `systemctl`: units cannot be started",
                "`apt-get install systemd`; in a container: \
                 `-v /usr/bin/systemctl:/usr/bin/systemctl:ro -v /run/dbus:/run/dbus`",
            ),
            (false, _) => ok(
                NAME,
                "does not run this host: init scripts and start commands are used",
            ),
        }
    }
}

/// The usual mount points go before others, as they do when something is started.
fn hierarchy(root: &Path) -> Hierarchy {
    let mounts = MountInfos::from_file(root.join("proc/self/mountinfo"))
        .map(|mounts| mounts.0)
        .unwrap_or_default();
    let of = |kind: &str| -> Vec<PathBuf> {
        mounts
            .iter()
            .filter(|mount| mount.fs_type == kind)
            .map(|mount| mount.mount_point.clone())
            .collect()
    };
    let (first, second) = (of("cgroup"), of("cgroup2"));
    let usual = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let mount = usual
        .iter()
        .map(PathBuf::from)
        .find(|usual| second.contains(usual))
        .or_else(|| second.first().cloned());
    match mount {
        Some(mount) => {
            let below_root = root.join(mount.strip_prefix("/").unwrap_or(&mount));
            Hierarchy::V2 {
                writable: accessat(CWD, &below_root, Access::WRITE_OK, AtFlags::EACCESS).is_ok(),
                hybrid: !first.is_empty(),
                mount,
            }
        }
        None if first.is_empty() => Hierarchy::None,
        None => Hierarchy::V1,
    }
}
