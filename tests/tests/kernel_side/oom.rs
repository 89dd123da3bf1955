//! The OOM killer's victim.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pmon_common::{flag, oom_argument};
use pmon_tests::{daemon::LONG, skip_if, wait};

use crate::{
    specimen::Specimen,
    world::{World, assert_flags, best},
};

/// A memory cgroup of our own, whichever version is mounted, with 16 MiB.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control")
            .is_ok_and(|controllers| controllers.contains("memory"));
        let (root, limit) = if v2 {
            ("/sys/fs/cgroup", "memory.max")
        } else {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        };
        let path = Path::new(root).join(format!("pmon-oom-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let cgroup = Self(path);
        fs::write(cgroup.0.join(limit), "16777216").ok()?;
        // Swap, where there is any, would only delay it.
        fs::write(cgroup.0.join("memory.swap.max"), "0").ok();
        Some(cgroup)
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait::until("an empty cgroup", LONG, || fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn an_oom_victim_is_known_as_one() {
    let cgroup = Cgroup::new();
    skip_if!(cgroup.is_none().then_some("needs a memory cgroup"));
    let cgroup = cgroup.unwrap();
    let mut by_the_tracepoint = best();
    by_the_tracepoint.layout.signal_oom_mm = 0;
    let mut at_the_exit = best();
    at_the_exit.layout.oom_argument = oom_argument::UNKNOWN;
    for selection in [by_the_tracepoint, at_the_exit] {
        if let Some(world) = World::with(&selection) {
            is_known(world, &cgroup);
        }
    }
}

fn is_known(mut world: World, cgroup: &Cgroup) {
    let mut specimen = Specimen::script("exec dd if=/dev/zero of=/dev/null bs=256M count=1");
    world.register(specimen.pid(), 0);
    cgroup.take_in(specimen.pid());
    specimen.go();
    let death = world.death(specimen.pid());
    assert_eq!(death.exit_code, 9);
    assert_flags(&death, death.flags, flag::OOM_VICTIM | flag::SIGNAL_KNOWN);
    // Nobody sent it.
    assert_eq!((death.signal, death.sender_tgid), (9, 0));
    assert!(death.signal_code > 0, "{death:?}");
    specimen.wait();
}
