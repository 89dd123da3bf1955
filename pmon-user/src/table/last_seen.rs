//! What `/proc` still tells of a process: at its registration, while it dies,
//! and as a zombie. For its death certificate; nothing is decided by it.

use pmon_common::START_TICK_NS;

use crate::core::{
    death::{LastSeen, WaitStatus},
    identity::Identity,
};

/// `comm` and cgroup of a process, for its death certificate.
pub(super) fn at_registration(pid: u32) -> LastSeen {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    LastSeen {
        comm: read("comm").map(|comm| comm.trim_end().to_owned()),
        cgroup: read("cgroup").and_then(|groups| own_cgroup(&groups)),
        rss_bytes: None,
        cpu: None,
    }
}

/// The path in the unified hierarchy, else in the first hierarchy with one.
fn own_cgroup(groups: &str) -> Option<String> {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    let unified = groups.lines().find(|line| line.starts_with("0::"));
    let unified = unified.and_then(path).filter(|path| path != "/");
    unified.or_else(|| groups.lines().filter_map(path).find(|path| path != "/"))
}

/// Reads what a dying process still shows.
pub(super) fn examine(identity: Identity, last_seen: &mut LastSeen) {
    let Some(stat) = stat(identity) else {
        return;
    };
    let ticks = stat.utime.saturating_add(stat.stime);
    last_seen.cpu = Some(std::time::Duration::from_nanos(
        ticks.saturating_mul(START_TICK_NS),
    ));
    if stat.rss > 0 {
        last_seen.rss_bytes = Some(stat.rss.saturating_mul(procfs::page_size()));
    }
}

/// Field 52 of a zombie's stat: its wait status, if nobody reaped it yet.
pub(super) fn zombie_status(identity: Identity) -> Option<WaitStatus> {
    let stat = stat(identity)?;
    if stat.state != 'Z' {
        return None;
    }
    Some(WaitStatus(u32::try_from(stat.exit_code?).ok()?))
}

/// The stat of this process and no other.
fn stat(identity: Identity) -> Option<procfs::process::Stat> {
    let pid = i32::try_from(identity.pid).ok()?;
    let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
    (stat.starttime == identity.start_time).then_some(stat)
}

/// A `comm` of the kernel, NUL padded.
pub(super) fn comm(bytes: &[u8; 16]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
    let text = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    (!text.is_empty()).then_some(text)
}
