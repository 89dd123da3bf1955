//! How a process ended, from the exits of its threads. Pure.
//!
//! The proc connector tells of every thread with what that thread ended, which
//! is not always how the process did: `wait(2)` reports the group's exit code
//! where somebody called exit_group(2) or a fatal signal arrived, and otherwise
//! the leader's, which may have left long before the others. Must stay true: a
//! status is given only when it is the process's, whatever else may still be on
//! its way; otherwise it is unknown.
//!
//! * A fatal signal ends the whole group, so whichever thread tells it, tells it
//!   for all. Signals that dump core are an exception as long as the core bit is
//!   not set: who dumped has it and the others may not, and seccomp(2) ends single
//!   threads with SIGSYS.
//! * Anything else is believed of the leader if the whole group was dead when the
//!   leader's exit was heard, and no other thread's exit says otherwise after it;
//!   or if another thread ended with the same non-zero code after it. pthread_exit
//!   ends a thread with 0, so such a 0 says nothing of the group.

use crate::{
    core::{death::WaitStatus, time::Time},
    source::connector::ExitHeard,
};

/// What was heard of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadExits {
    /// What is older belongs to an earlier owner of the pid.
    since: Time,
    last: Option<Time>,
    heard_dead: bool,
    group: Option<WaitStatus>,
    leader: Leader,
}

/// What the leader's exit said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    /// Not heard, or contradicted.
    Unknown,
    /// Perhaps the group's.
    Unconfirmed(WaitStatus),
    /// The group's, as far as was heard.
    Believed(WaitStatus),
}

impl ThreadExits {
    /// Nothing was heard; older exits will not count.
    pub(super) const fn since(since: Time) -> Self {
        Self {
            since,
            last: None,
            heard_dead: false,
            group: None,
            leader: Leader::Unknown,
        }
    }

    /// A thread exited; `all_dead` when the whole process is.
    pub(super) fn heard(&mut self, exit: &ExitHeard, all_dead: bool) {
        if exit.at < self.since {
            return;
        }
        self.last = self.last.max(Some(exit.at));
        self.heard_dead |= all_dead;
        let status = exit.status;
        if is_the_groups(status) {
            if !self.group.is_some_and(WaitStatus::core_dumped) {
                self.group = Some(status);
            }
        } else if exit.pid == exit.tgid {
            // A leader that was heard before went in an exec(2) of another thread.
            self.leader = if all_dead {
                Leader::Believed(status)
            } else {
                Leader::Unconfirmed(status)
            };
        } else {
            self.leader = match self.leader {
                Leader::Unconfirmed(leader) if leader == status && status.0 != 0 => {
                    Leader::Believed(leader)
                }
                Leader::Unconfirmed(leader) if leader == status => Leader::Unconfirmed(leader),
                Leader::Believed(leader) if leader == status => Leader::Believed(leader),
                Leader::Unknown | Leader::Unconfirmed(_) | Leader::Believed(_) => Leader::Unknown,
            };
        }
    }

    /// How the process ended, where that is certain.
    pub(super) const fn status(&self) -> Option<WaitStatus> {
        match (self.group, self.leader) {
            (Some(group), _) => Some(group),
            (None, Leader::Believed(leader)) => Some(leader),
            (None, Leader::Unknown | Leader::Unconfirmed(_)) => None,
        }
    }

    /// When it died, if an exit was heard when it had: at the last thread's exit.
    pub(super) const fn died_at(&self) -> Option<Time> {
        if self.heard_dead { self.last } else { None }
    }
}

/// Whether no single thread can end like this.
fn is_the_groups(status: WaitStatus) -> bool {
    status
        .signal()
        .is_some_and(|signal| status.core_dumped() || !dumps_core(signal))
}

/// Signals whose default action is to dump core (signal(7)).
const fn dumps_core(signal: u8) -> bool {
    matches!(
        signal as i32,
        libc::SIGQUIT
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGABRT
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGSEGV
            | libc::SIGXCPU
            | libc::SIGXFSZ
            | libc::SIGSYS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: u32 = 100;
    const EXIT_0: u32 = 0;
    const EXIT_3: u32 = 3 << 8;
    const EXIT_5: u32 = 5 << 8;
    const KILLED: u32 = 9;
    const SEGV: u32 = 11;
    const SEGV_CORE: u32 = 0x80 | 11;
    const SYS: u32 = 31;

    const ALIVE: bool = false;
    const DEAD: bool = true;

    /// Exits of threads, one second apart, and whether all was over by then.
    fn after(exits: &[(u32, u32, bool)]) -> Option<u32> {
        let mut heard = ThreadExits::since(Time::from_boot_ns(1));
        for (second, (thread, code, all_dead)) in (1_u64..).zip(exits) {
            let exit = ExitHeard {
                pid: LEADER + thread,
                tgid: LEADER,
                status: WaitStatus(*code),
                at: Time::from_boot_ns(second * 1_000_000_000),
            };
            heard.heard(&exit, *all_dead);
        }
        heard.status().map(|status| status.0)
    }

    #[test]
    fn a_single_threads_exit_is_the_processs() {
        for code in [EXIT_0, EXIT_3, KILLED, SEGV, SEGV_CORE, SYS] {
            assert_eq!(after(&[(0, code, DEAD)]), Some(code));
        }
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn threads_that_ended_before_do_not_matter() {
        let exits = [(1, EXIT_0, ALIVE), (2, EXIT_5, ALIVE), (0, EXIT_3, DEAD)];
        assert_eq!(after(&exits), Some(EXIT_3));
    }

    #[test]
    fn a_fatal_signal_is_everybodys() {
        assert_eq!(after(&[(2, KILLED, ALIVE)]), Some(KILLED));
        let late = [(0, EXIT_3, DEAD), (2, KILLED, DEAD)];
        assert_eq!(after(&late), Some(KILLED));
    }

    #[test]
    fn who_dumped_the_core_knows_it() {
        let exits = [(0, SEGV, ALIVE), (1, SEGV_CORE, ALIVE), (2, SEGV, DEAD)];
        assert_eq!(after(&exits), Some(SEGV_CORE));
        assert_eq!(after(&[(1, SEGV, DEAD)]), None);
    }

    #[test]
    fn a_leader_that_left_early_says_nothing() {
        assert_eq!(after(&[(0, EXIT_3, ALIVE)]), None);
        assert_eq!(after(&[(0, EXIT_3, ALIVE), (1, EXIT_5, DEAD)]), None);
        assert_eq!(after(&[(0, EXIT_0, ALIVE), (1, EXIT_0, DEAD)]), None);
        // Nor one whose early exit was read late.
        assert_eq!(after(&[(0, EXIT_0, DEAD), (1, EXIT_5, DEAD)]), None);
        // Nor one that seccomp ended alone.
        assert_eq!(after(&[(0, SYS, ALIVE), (1, EXIT_0, DEAD)]), None);
    }

    #[test]
    fn an_exit_of_the_whole_group_is_confirmed_by_another_thread() {
        let exits = [(0, EXIT_3, ALIVE), (1, EXIT_3, ALIVE), (2, EXIT_3, DEAD)];
        assert_eq!(after(&exits), Some(EXIT_3));
        assert_eq!(after(&[(0, EXIT_0, DEAD), (1, EXIT_0, DEAD)]), Some(EXIT_0));
    }

    /// exec(2) by another thread ends the leader, and the caller takes its number.
    #[test]
    fn only_the_last_leader_counts() {
        let exits = [(0, EXIT_0, ALIVE), (0, EXIT_3, DEAD)];
        assert_eq!(after(&exits), Some(EXIT_3));
    }

    #[test]
    fn it_died_when_its_last_thread_did() {
        let at = Time::from_boot_ns;
        let exit = |pid, ns| ExitHeard {
            pid,
            tgid: LEADER,
            status: WaitStatus(0),
            at: at(ns),
        };
        let mut heard = ThreadExits::since(at(10));
        heard.heard(&exit(LEADER, 9), DEAD);
        assert_eq!(
            (heard.died_at(), heard.status()),
            (None, None),
            "a stranger's"
        );
        heard.heard(&exit(LEADER + 1, 11), ALIVE);
        assert_eq!(heard.died_at(), None);
        heard.heard(&exit(LEADER, 14), DEAD);
        heard.heard(&exit(LEADER + 2, 13), DEAD);
        assert_eq!(heard.died_at(), Some(at(14)));
    }
}
