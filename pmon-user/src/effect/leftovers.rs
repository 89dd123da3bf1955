//! Ends what a dead process left behind in its process group.
//!
//! A daemon's workers can outlive their master and keep its port, so that no
//! init script can start it any more. Must stay true: only members of a process
//! group whose leader was the dead process itself are touched, and only those
//! that started in its lifetime. While they live, the kernel gives the group's
//! number to nobody else, and as they are older than the death, they cannot
//! belong to a later group of that number. What has gone into a session of its
//! own (a login, a job of cron) is no leftover. When to do this is the core's
//! decision.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use procfs::process::Process;

use crate::{
    core::{entity::StopPolicy, identity::Identity, time::Time},
    sys::pidfd::{VerifiedPid, verify},
};

/// Longest time leftovers get to go by themselves: a start waits behind them.
const GRACE: Duration = Duration::from_secs(3);
/// Longest time to wait for the effect of SIGKILL.
const KILLED: Duration = Duration::from_secs(1);
/// How often we look whether they are gone. They are no children of ours.
const POLL: Duration = Duration::from_millis(10);
const SIGKILL: i32 = 9;

/// Ends them as the entity's process would be ended, and returns those that
/// were there, with whether they are gone now. Blocks for up to 4 s.
pub(super) fn end(dead: Identity, died: Time, stop: StopPolicy) -> (Vec<Identity>, bool) {
    let found = find(dead, died);
    let identities = found.iter().map(VerifiedPid::identity).collect();
    let (signal, grace) = match stop {
        StopPolicy::Graceful { signal, timeout } => (signal, GRACE.min(timeout)),
        StopPolicy::KillFirst => (SIGKILL, KILLED),
    };
    let gone = send(&found, signal, grace) || send(&found, SIGKILL, KILLED);
    (identities, gone)
}

/// Signals those that are alive; whether all are gone within `limit`.
fn send(processes: &[VerifiedPid], signal: i32, limit: Duration) -> bool {
    for process in processes.iter().filter(|process| !process.is_dead()) {
        // Whoever cannot be signalled does not go either, which is told.
        let _gone_or_refused = process.signal(signal);
    }
    let deadline = Instant::now() + limit;
    loop {
        if processes.iter().all(VerifiedPid::is_dead) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// The members of the group, each with a pidfd.
fn find(dead: Identity, died: Time) -> Vec<VerifiedPid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != dead.pid && is_member(pid, dead, died))
        .filter_map(|pid| verify(pid).ok())
        // Looked at before it was verified, the number may have been another's.
        .filter(|process| is_member(process.identity().pid, dead, died) && !process.is_dead())
        .collect()
}

fn is_member(pid: u32, dead: Identity, died: Time) -> bool {
    let stat = i32::try_from(pid)
        .ok()
        .and_then(|pid| Process::new(pid).ok())
        .and_then(|process| process.stat().ok());
    stat.is_some_and(|stat| {
        u32::try_from(stat.pgrp).is_ok_and(|group| group == dead.pid)
            && stat.starttime >= dead.start_time
            && Time::from_start_ticks(stat.starttime) <= died
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::sys::clock;

    const GRACEFUL: StopPolicy = StopPolicy::Graceful {
        signal: 15,
        timeout: Duration::from_secs(1),
    };

    /// A master in a process group of its own that has started `text` in the
    /// background, told the pid, and was killed.
    struct Dead {
        identity: Identity,
        died: Time,
        worker: VerifiedPid,
    }

    impl Drop for Dead {
        fn drop(&mut self) {
            // Dead already is as good.
            self.worker.signal(SIGKILL).ok();
        }
    }

    fn eventually(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition() {
            assert!(Instant::now() < deadline, "it never came");
            thread::sleep(POLL);
        }
    }

    fn master_that_left(text: &str) -> Dead {
        let mut master = Command::new("sh")
            .args(["-c", &format!("{text} >/dev/null & echo $!; wait")])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = master.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let worker = verify(line.trim().parse().unwrap()).unwrap();
        let identity = verify(master.id()).unwrap().identity();
        master.kill().unwrap();
        master.wait().unwrap();
        Dead {
            identity,
            died: clock::now(),
            worker,
        }
    }

    #[test]
    fn a_worker_that_outlived_its_master_is_ended() {
        let dead = master_that_left("sleep 1000");
        assert!(!dead.worker.is_dead());
        let ended = end(dead.identity, dead.died, GRACEFUL);
        assert_eq!(ended, (vec![dead.worker.identity()], true));
        assert!(dead.worker.is_dead());
        assert_eq!(end(dead.identity, dead.died, GRACEFUL), (Vec::new(), true));
    }

    #[test]
    fn one_that_ignores_the_signal_is_killed() {
        for stop in [GRACEFUL, StopPolicy::KillFirst] {
            let dead = master_that_left("(trap '' TERM; while :; do sleep 0.1; done)");
            let status = format!("/proc/{}/status", dead.worker.identity().pid);
            eventually(|| {
                let status = fs::read_to_string(&status).unwrap();
                let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
                let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
                ignored >> (15 - 1) & 1 == 1
            });
            let (found, gone) = end(dead.identity, dead.died, stop);
            assert!(found.contains(&dead.worker.identity()) && gone, "{stop:?}");
            assert!(dead.worker.is_dead());
        }
    }

    #[test]
    fn strangers_are_spared() {
        // In a session of its own, as a login is.
        let session = master_that_left("exec setsid sleep 1000");
        let pid = i32::try_from(session.worker.identity().pid).unwrap();
        let process = Process::new(pid).unwrap();
        eventually(|| process.stat().unwrap().session == pid);
        assert_eq!(end(session.identity, session.died, GRACEFUL).0, []);
        assert!(!session.worker.is_dead());

        let other = master_that_left("sleep 1000");
        // A group of that number, but of another time.
        for (dead, died) in [
            (
                Identity {
                    start_time: other.worker.identity().start_time + 1,
                    ..other.identity
                },
                other.died,
            ),
            (
                Identity {
                    start_time: 0,
                    ..other.identity
                },
                Time::from_start_ticks(other.identity.start_time - 1),
            ),
        ] {
            assert_eq!(end(dead, died, GRACEFUL).0, []);
        }
        assert!(!other.worker.is_dead());
        end(other.identity, other.died, StopPolicy::KillFirst);
    }
}
