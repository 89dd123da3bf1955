//! What `/proc` tells of a live process, kept for its death certificate.
//!
//! Read with every look, never on the receiver's thread: reading a process's
//! `stat` holds its memory for a moment, and whoever lets go of a dead
//! process's memory last has to release it.

use std::{fs, time::Duration};

use pmon_common::START_TICK_NS;

use crate::core::{death::LastSeen, identity::Identity};

/// What can be seen of a process now; nothing of another one.
#[must_use]
pub fn of(identity: Identity) -> LastSeen {
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", identity.pid)).ok();
    let comm = read("comm").map(|comm| comm.trim_end().to_owned());
    let cgroup = read("cgroup").and_then(|groups| own_cgroup(&groups));
    // Last, so that it vouches for what was read before.
    let stat = i32::try_from(identity.pid)
        .ok()
        .and_then(|pid| procfs::process::Process::new(pid).ok()?.stat().ok())
        .filter(|stat| stat.starttime == identity.start_time);
    let Some(stat) = stat else {
        return LastSeen::default();
    };
    let ticks = stat.utime.saturating_add(stat.stime);
    LastSeen {
        comm,
        cgroup,
        rss_bytes: Some(stat.rss.saturating_mul(procfs::page_size())),
        cpu: Some(Duration::from_nanos(ticks.saturating_mul(START_TICK_NS))),
    }
}

/// The path in the unified hierarchy, else in the first hierarchy with one.
pub(super) fn own_cgroup(groups: &str) -> Option<String> {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    let unified = groups.lines().find(|line| line.starts_with("0::"));
    let unified = unified.and_then(path).filter(|path| path != "/");
    unified.or_else(|| groups.lines().filter_map(path).find(|path| path != "/"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::sys::pidfd::verify;

    #[test]
    fn a_live_process_is_described_and_a_stranger_is_not() {
        let itself = verify(std::process::id()).unwrap().identity();
        let seen = of(itself);
        assert!(seen.comm.is_some());
        assert!(seen.rss_bytes.unwrap() > 1 << 20);
        assert!(seen.cpu.is_some());
        let stranger = Identity {
            start_time: itself.start_time + 1,
            ..itself
        };
        assert_eq!(of(stranger), LastSeen::default());
    }

    #[test]
    fn the_unified_hierarchy_goes_first() {
        assert_eq!(own_cgroup("1:cpu:/a\n0::/b\n"), Some("/b".to_owned()));
        assert_eq!(own_cgroup("1:cpu:/a\n0::/\n"), Some("/a".to_owned()));
        assert_eq!(own_cgroup("0::/\n"), None);
    }
}
