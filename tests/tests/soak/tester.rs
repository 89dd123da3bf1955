//! One tester per service: restarts it by command, kills it, restarts it by
//! hand, and after each operation waits for the one successor.

use pmon_tests::process::{self, Process};
use pmon_user::core::splitmix::SplitMix64;

use crate::{
    board::{Board, Up},
    disturbance::Disturbance,
    fleet::Service,
    ledger::Ledger,
};

/// What a tester does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `pmon restart`.
    Restart,
    /// SIGKILL, without a word to pmon.
    Kill,
    /// The service's own init script; `pmon restart` where it has none.
    ByHand,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) restarts: usize,
    pub(crate) kills: usize,
    pub(crate) by_hand: usize,
    /// Restarts that a killed daemon has forgotten, or never heard of.
    pub(crate) repeated: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            restarts,
            kills,
            by_hand,
            repeated,
        } = other;
        self.restarts += restarts;
        self.kills += kills;
        self.by_hand += by_hand;
        self.repeated += repeated;
    }
}

/// See the module.
pub(crate) struct Tester<'a> {
    service: &'a Service,
    board: &'a Board,
    ledger: &'a Ledger,
    chance: SplitMix64,
    counts: Counts,
}

impl<'a> Tester<'a> {
    pub(crate) fn new(
        service: &'a Service,
        board: &'a Board,
        ledger: &'a Ledger,
        seed: usize,
    ) -> Self {
        Self {
            service,
            board,
            ledger,
            chance: SplitMix64::new(seed as u64),
            counts: Counts::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.next() % bound as u64).unwrap()
    }

    /// So many of each, in random order.
    pub(crate) fn shuffle(&mut self, restarts: usize, kills: usize) -> Vec<Operation> {
        let mut all = vec![Operation::Restart; restarts];
        all.resize(restarts + kills, Operation::Kill);
        for last in (1..all.len()).rev() {
            let other = self.below(last + 1);
            all.swap(last, other);
        }
        all
    }

    pub(crate) fn choose_disturbance(&mut self) -> Disturbance {
        match self.below(4) {
            0 => Disturbance::ByHand,
            1 => Disturbance::DaemonKilled,
            2 => Disturbance::Reload,
            _ => Disturbance::SourceFailure,
        }
    }

    /// Does it and waits until exactly one successor is there.
    pub(crate) fn carry_out(&mut self, operation: Operation) {
        let name = &self.service.name;
        let before = self.board.up(name, "is not up", |_| true);
        match operation {
            Operation::Restart => {
                self.restart(before);
                self.counts.restarts += 1;
            }
            Operation::Kill => {
                self.kill();
                self.counts.kills += 1;
            }
            Operation::ByHand => match &self.service.init_script {
                Some(lsb) => {
                    lsb.by_hand("restart");
                    self.counts.by_hand += 1;
                }
                None => self.restart(before),
            },
        }
        let after = self.board.up(name, "has no successor", |up| {
            process::instances(name) == [up.pid]
        });
        assert_ne!(after.pid, before.pid, "`{name}` after {operation:?}");
    }

    /// Asks until the daemon that has accepted it has done it: one that is killed
    /// in between may forget it.
    fn restart(&mut self, before: Up) {
        let name = &self.service.name;
        let mut asked = 0;
        loop {
            let (code, said) = self.board.ask(&["restart", name, "--reason", "soak"]);
            match code {
                Some(0) => {}
                // Nobody is there, or not any more.
                Some(5) => {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    continue;
                }
                code => panic!("restart of `{name}`: exit code {code:?}: {said}"),
            }
            asked += 1;
            self.counts.repeated += usize::from(asked > 1);
            let asked_of = self.board.up(name, "is not restarted", |up| {
                up.pid != before.pid || up.daemon != before.daemon
            });
            if asked_of.pid != before.pid {
                return;
            }
        }
    }

    /// Kills the process that is there: another one than pmon last said, if that
    /// was restarted in between.
    fn kill(&self) {
        let name = &self.service.name;
        loop {
            let up = self.board.up(name, "is not up", |_| true);
            let Some(identity) = process::identity(up.pid) else {
                continue;
            };
            let Ok(victim) = Process::open(up.pid) else {
                continue;
            };
            // Opened and still the same.
            if process::identity(up.pid).as_ref() != Some(&identity) || !victim.is_alive() {
                continue;
            }
            self.ledger.killed(name, &identity);
            victim.kill();
            return;
        }
    }
}
