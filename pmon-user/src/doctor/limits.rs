//! Limits that pmon can run into: open files, locked memory, inotify.

use std::{fs, path::Path};

use pmon_common::Registration;
use rustix::{
    fs::inotify::{CreateFlags, init},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{
    Asked,
    kernel::{CGROUP_ACCOUNTING, Kernel},
    outcome::{count, degraded, errno, ok},
};
use crate::{table::budget::Budget, view::diagnosis::CheckView};

/// Files that pmon has open whatever it monitors: logs, maps, sockets, up to a
/// hundred clients.
const OWN_FILES: u64 = 128;
/// Files for one entity beside its pidfd while it is started: its log, its cgroup
/// and two pipes.
const FILES_OF_A_START: u64 = 4;
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
    /// Files that the daemon may open: hard `RLIMIT_NOFILE`, to which it raises the
    /// soft one; `None` = no limit.
    pub(super) open_files: Option<u64>,
    /// `pidfd_budget`, where it is configured.
    pub(super) pidfd_budget: Option<u32>,
    /// Whether the kernel's table can watch what has no pidfd of its own.
    pub(super) kernel_watches: bool,
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
    pub(super) fn read(root: &Path, asked: &Asked<'_>, kernel_watches: bool) -> Self {
        let Asked { settings, entities } = *asked;
        let number = |name: &str| {
            fs::read_to_string(root.join("proc/sys/fs/inotify").join(name))
                .ok()
                .and_then(|value| value.trim().parse().ok())
        };
        Self {
            entities,
            open_files: getrlimit(Resource::Nofile).maximum,
            pidfd_budget: settings.pidfd_budget,
            kernel_watches,
            locked_memory: getrlimit(Resource::Memlock).current,
            map_bytes: map_bytes(settings.max_pids, settings.ring_bytes),
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

    /// `open-files`: pidfds as the table divides them ([`Budget`]), and what is
    /// open for a while when everything is started at once.
    pub(super) fn check_open_files(&self) -> CheckView {
        const NAME: &str = "open-files";
        let configured = self.pidfd_budget.and_then(|own| usize::try_from(own).ok());
        let budget = Budget::of(self.open_files, configured);
        let own = budget.own;
        let files = match self.open_files {
            None => "no limit".to_owned(),
            Some(files) => files.to_string(),
        };
        let entities = count(self.entities, "entity", "entities");
        let said = format!("{files}, {own} of them for pidfds (`pidfd_budget`); {entities}");
        if self.entities > own {
            let beyond = self.entities - own;
            // What was asked for, and not all that could be had.
            let by_choice = own < Budget::of(self.open_files, None).own;
            return match (by_choice, self.kernel_watches) {
                (true, true) => ok(
                    NAME,
                    format!(
                        "{said}: {beyond} without one, as configured, watched by the kernel's \
                         table and verified on demand"
                    ),
                ),
                (true, false) => degraded(
                    NAME,
                    format!(
                        "{said}: {beyond} without one, and without the source `ebpf` nothing else watches them"
                    ),
                    format!(
                        "`pidfd_budget = {}` in `[daemon]` or none, then restart the daemon; or see `source-ebpf`",
                        self.entities
                    ),
                ),
                (false, true) => degraded(
                    NAME,
                    format!(
                        "{said}: {beyond} without one, watched by the kernel's table and \
                         verified on demand"
                    ),
                    more_files(files_for(self.entities)),
                ),
                (false, false) => degraded(
                    NAME,
                    format!(
                        "{said}: {beyond} without one, and without the source `ebpf` nothing else watches them"
                    ),
                    more_files(files_for(self.entities)),
                ),
            };
        }
        let needed = OWN_FILES + self.times(1 + FILES_OF_A_START);
        match self.open_files {
            Some(files) if files < needed => degraded(
                NAME,
                format!("{said} may take {needed} while all are started: some starts will wait"),
                more_files(needed.next_power_of_two()),
            ),
            Some(_) | None => ok(NAME, format!("{said} may take {needed}")),
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

/// Open files with which so many pidfds can be held, a power of two.
fn files_for(pidfds: usize) -> u64 {
    let fits = |files: &u64| Budget::of(Some(*files), None).own >= pidfds;
    (10..)
        .map_while(|power| 1_u64.checked_shl(power))
        .find(fits)
        .unwrap_or(u64::MAX)
}

/// How the daemon gets more of them.
fn more_files(wanted: u64) -> String {
    format!(
        "in `pmon.service`: `LimitNOFILE={wanted}`; or as root `ulimit -n {wanted}` before \
         `pmon daemon`; then restart the daemon"
    )
}

/// The command that sets a sysctl now and at every boot.
fn persistently(name: &str, value: u64) -> String {
    format!("`sysctl -w {name}={value}`, and `{name} = {value}` in /etc/sysctl.d/60-pmon.conf")
}
