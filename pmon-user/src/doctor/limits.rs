//! Limits that pmon can run into: open files, locked memory, inotify.

use std::{fs, path::Path};

use pmon_common::Registration;
use rustix::{
    fs::inotify::{CreateFlags, init},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{
    kernel::{CGROUP_ACCOUNTING, Kernel},
    outcome::{count, degraded, errno, ok},
};
use crate::view::diagnosis::CheckView;

/// Files that pmon has open whatever it monitors: logs, maps, sockets, up to a
/// hundred clients.
const OWN_FILES: u64 = 128;
/// Files for one entity at most: its pidfd and, while it is started, its log, its
/// cgroup and two pipes.
const FILES_PER_ENTITY: u64 = 5;
/// inotify watches for one entity: the pidfile and its directory.
const WATCHES_PER_ENTITY: u64 = 2;
/// Kernel bytes of a hash map entry beside key and value: `struct htab_elem` and
/// a bucket (`kernel/bpf/hashtab.c`).
const ENTRY_OVERHEAD: u64 = 64;

/// The limits, and what is asked of them.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Number of entities.
    pub(super) entities: usize,
    /// Soft and hard `RLIMIT_NOFILE`; `None` = no limit.
    pub(super) open_files: (Option<u64>, Option<u64>),
    /// Soft `RLIMIT_MEMLOCK` in bytes; `None` = no limit.
    pub(super) locked_memory: Option<u64>,
    /// Bytes of kernel memory for the maps.
    pub(super) map_bytes: u64,
    /// `fs.inotify.max_user_watches`.
    pub(super) inotify_watches: Option<u64>,
    /// `fs.inotify.max_user_instances`.
    pub(super) inotify_instances: Option<u64>,
    /// Whether one more inotify instance can be had: an error number, if not.
    pub(super) inotify: Result<(), i32>,
}

/// Bytes of kernel memory that maps of these sizes take, roughly.
pub(super) fn map_bytes(max_pids: u32, ring_bytes: u32) -> u64 {
    let entry = ENTRY_OVERHEAD + 8 + size_of::<Registration>() as u64;
    u64::from(max_pids) * entry + u64::from(ring_bytes)
}

impl Limits {
    /// Reads below `root`; resource limits are those of the calling process.
    pub(super) fn read(root: &Path, entities: usize, map_bytes: u64) -> Self {
        let number = |name: &str| {
            fs::read_to_string(root.join("proc/sys/fs/inotify").join(name))
                .ok()
                .and_then(|value| value.trim().parse().ok())
        };
        let open_files = getrlimit(Resource::Nofile);
        Self {
            entities,
            open_files: (open_files.current, open_files.maximum),
            locked_memory: getrlimit(Resource::Memlock).current,
            map_bytes,
            inotify_watches: number("max_user_watches"),
            inotify_instances: number("max_user_instances"),
            inotify: init(CreateFlags::CLOEXEC)
                .map(drop)
                .map_err(Errno::raw_os_error),
        }
    }

    fn times(&self, each: u64) -> u64 {
        each.saturating_mul(self.entities as u64)
    }

    /// `open-files`.
    pub(super) fn check_open_files(&self) -> CheckView {
        const NAME: &str = "open-files";
        let needed = OWN_FILES + self.times(FILES_PER_ENTITY);
        let entities = count(self.entities, "entity", "entities");
        match self.open_files {
            (None, _) => ok(NAME, "no limit"),
            (Some(soft), _) if soft >= needed => {
                ok(NAME, format!("{soft}; {entities} may take {needed}"))
            }
            (Some(soft), hard) => {
                let wanted = needed.next_power_of_two();
                let shell = if hard.is_none_or(|hard| hard >= wanted) {
                    format!("`ulimit -n {wanted}` before `pmon daemon`")
                } else {
                    format!("as root `prlimit --pid $(pidof pmon) --nofile={wanted}:{wanted}`")
                };
                degraded(
                    NAME,
                    format!("{soft}; {entities} may take {needed}: some may go unwatched"),
                    format!("in `pmon.service`: `LimitNOFILE={wanted}`; or {shell}"),
                )
            }
        }
    }

    /// `locked-memory`.
    pub(super) fn check_locked_memory(&self, kernel: &Kernel) -> CheckView {
        const NAME: &str = "locked-memory";
        if !kernel.is_before(CGROUP_ACCOUNTING) {
            return ok(
                NAME,
                format!(
                    "maps are charged to the memory cgroup, not to a limit (Linux {CGROUP_ACCOUNTING})"
                ),
            );
        }
        let needed = self.map_bytes;
        match self.locked_memory {
            None => ok(NAME, "no limit"),
            Some(limit) if limit >= needed => {
                ok(NAME, format!("{limit} bytes; the maps take {needed}"))
            }
            Some(limit) => degraded(
                NAME,
                format!(
                    "{limit} bytes; the maps take {needed}: the kernel program cannot be loaded"
                ),
                "in `pmon.service`: `LimitMEMLOCK=infinity`; or `ulimit -l unlimited` before \
                 `pmon daemon`; or a smaller `max_pids` in `[daemon]`",
            ),
        }
    }

    /// `inotify`.
    pub(super) fn check_inotify(&self) -> CheckView {
        const NAME: &str = "inotify";
        let needed = self.times(WATCHES_PER_ENTITY);
        match (self.inotify, self.inotify_watches) {
            (Err(libc::EMFILE), _) => {
                let instances = self.inotify_instances.unwrap_or(128);
                let wanted = instances.saturating_mul(2).max(128);
                degraded(
                    NAME,
                    format!(
                        "this user has all its {instances} instances in use: changed pidfiles are found by the sweep only"
                    ),
                    persistently("fs.inotify.max_user_instances", wanted),
                )
            }
            (Err(libc::ENOSYS), _) => degraded(
                NAME,
                "this kernel has no inotify: changed pidfiles are found by the sweep only",
                "boot a kernel built with CONFIG_INOTIFY_USER=y",
            ),
            (Err(number), _) => degraded(
                NAME,
                format!("no instance can be had: {}", errno(number)),
                if number == libc::ENFILE {
                    persistently("fs.file-max", 1 << 20)
                } else {
                    "raise pmon's memory limit: `MemoryMax=` in `pmon.service`, \
                     `--memory` of the container"
                        .to_owned()
                },
            ),
            (Ok(()), None) => ok(NAME, "works; its limits are not shown"),
            (Ok(()), Some(watches)) if watches < needed => degraded(
                NAME,
                format!(
                    "{watches} watches; {} may take {needed}: changed pidfiles are found by the sweep only",
                    count(self.entities, "entity", "entities")
                ),
                persistently("fs.inotify.max_user_watches", needed.next_power_of_two()),
            ),
            (Ok(()), Some(watches)) => ok(
                NAME,
                format!(
                    "{watches} watches; {} may take {needed}",
                    count(self.entities, "entity", "entities")
                ),
            ),
        }
    }
}

/// The command that sets a sysctl now and at every boot.
fn persistently(name: &str, value: u64) -> String {
    format!("`sysctl -w {name}={value}`, and `{name} = {value}` in /etc/sysctl.d/60-pmon.conf")
}
