//! A place outside pmon's own cgroup for what pmon starts: one cgroup v2
//! directory per entity. Where version 1 is mounted beside it, its CPU controller has
//! another one, for those who are to be taken out of pmon's CPU limits as well (field
//! story S19).
//!
//! Must stay true: nothing here makes a start fail; where there is no cgroup
//! v2 hierarchy, started programs stay where pmon is. Only directories made
//! here are removed again, and only empty ones.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::name::escape;

/// The entities' cgroups below one parent.
#[derive(Debug)]
pub(super) struct Cgroups {
    parent: Option<PathBuf>,
    cpu_parent: Option<PathBuf>,
    made: Mutex<BTreeSet<Arc<str>>>,
}

impl Cgroups {
    /// Below `parent`, a directory of a cgroup v2 file system; `None` for no
    /// cgroups at all.
    pub(super) fn new(parent: Option<PathBuf>) -> Self {
        Self {
            parent,
            cpu_parent: None,
            made: Mutex::default(),
        }
    }

    /// And below `cpu_parent`, a directory of version 1's CPU controller.
    pub(super) fn with_cpu(self, cpu_parent: Option<PathBuf>) -> Self {
        Self { cpu_parent, ..self }
    }

    /// Makes the entity's cgroup of the CPU controller and opens it likewise; `None`
    /// where there is none, or it is not to be had.
    pub(super) fn open_cpu(&self, entity: &Arc<str>) -> Option<OwnedFd> {
        let directory = Self::below(self.cpu_parent.as_deref(), entity)?;
        let open = || {
            fs::create_dir_all(&directory)?;
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.insert(Arc::clone(entity));
            fs::OpenOptions::new()
                .write(true)
                .open(directory.join("cgroup.procs"))
        };
        let opened: io::Result<fs::File> = open();
        opened
            .inspect_err(|error| tracing::debug!(entity = &**entity, %error, "no CPU cgroup"))
            .ok()
            .map(OwnedFd::from)
    }

    /// Makes the entity's cgroup and opens its directory for the child to be made
    /// in; `None` where there are no cgroups.
    ///
    /// # Errors
    ///
    /// What mkdir(2) or open(2) said.
    pub(super) fn open(&self, entity: &Arc<str>) -> io::Result<Option<OwnedFd>> {
        let Some(directory) = self.directory(entity) else {
            return Ok(None);
        };
        fs::create_dir_all(&directory)?;
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(Arc::clone(entity));
        // Not any directory of that name.
        fs::metadata(directory.join("cgroup.procs"))?;
        Ok(Some(fs::File::open(directory)?.into()))
    }

    /// Removes the entity's cgroup if it is empty.
    pub(super) fn remove(&self, entity: &Arc<str>) {
        let made = self
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(entity);
        if !made {
            return;
        }
        let cpu = Self::below(self.cpu_parent.as_deref(), entity);
        for directory in self.directory(entity).into_iter().chain(cpu) {
            // EBUSY: something lives in it, and shall.
            let _ = fs::remove_dir(directory);
        }
    }

    /// Removes all empty cgroups made here and, if that is empty then, their
    /// parent, whoever made it: the next start makes it anew.
    pub(super) fn remove_all(&self) {
        let made: Vec<_> = self
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect();
        for entity in &made {
            self.remove(entity);
        }
        for parent in self.parent.iter().chain(&self.cpu_parent) {
            let _ = fs::remove_dir(parent);
        }
    }

    /// Dots are escaped, so that no entity's name is that of an interface file
    /// (all of which have one).
    fn directory(&self, entity: &str) -> Option<PathBuf> {
        Self::below(self.parent.as_deref(), entity)
    }

    fn below(parent: Option<&Path>, entity: &str) -> Option<PathBuf> {
        Some(parent?.join(escape(entity, |byte| byte == b'.')))
    }
}

/// Where this host's cgroup v2 hierarchy is mounted: `/sys/fs/cgroup`, or
/// `/sys/fs/cgroup/unified` beside the v1 ones.
pub(super) fn mount_point() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    let unified: Vec<PathBuf> = mounts
        .into_iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .map(|mount| mount.mount_point)
        .collect();
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(Path::new)
        .find(|usual| unified.iter().any(|found| found == usual))
        .map(Path::to_owned)
        .or_else(|| unified.into_iter().next())
}

/// Where the CPU controller of version 1 is mounted, if it is.
pub(super) fn cpu_mount_point() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup" && mount.super_options.contains_key("cpu"))
        .map(|mount| mount.mount_point)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn without_a_hierarchy_there_is_nothing_to_join() {
        let cgroups = Cgroups::new(None);
        assert!(cgroups.open(&Arc::from("x")).unwrap().is_none());
    }

    #[test]
    fn an_entity_cannot_be_named_like_an_interface_file_or_climb_out() {
        let cgroups = Cgroups::new(Some(PathBuf::from("/c")));
        for (entity, directory) in [
            ("sshd", "/c/sshd"),
            ("cgroup.procs", r"/c/cgroup\x2eprocs"),
            ("..", r"/c/\x2e\x2e"),
            ("a/b", r"/c/a\x2fb"),
        ] {
            assert_eq!(cgroups.directory(entity), Some(PathBuf::from(directory)));
        }
    }

    #[test]
    fn only_what_was_made_here_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::new(Some(parent.path().to_owned()));
        let foreign = parent.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        // On an ordinary file system there is no `cgroup.procs` to open.
        assert!(cgroups.open(&Arc::from("ours")).is_err());
        assert!(parent.path().join("ours").exists());
        cgroups.remove(&Arc::from("foreign"));
        cgroups.remove_all();
        assert!(!parent.path().join("ours").exists());
        assert!(foreign.exists());
    }
}
