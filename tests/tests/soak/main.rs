//! The soak: restarts by command and kills of 25 processes of every kind, all at
//! once, in the style of pmond's own regression test (spec/pmond.md §10), and
//! every hundred operations somebody restarts a service by hand, the daemon is
//! killed, the configuration is changed, or the kernel's table is spoilt.
//!
//! Nothing may be stuck, lost or doubled, and nobody else may be signalled. The
//! shortened form is part of `cargo xtask test`; `cargo xtask soak` runs all of
//! it (`PMON_SOAK_RESTARTS`, `PMON_SOAK_KILLS`, `PMON_SOAK_SEED`).
#![expect(clippy::unwrap_used, reason = "tests")]

mod board;
mod disturbance;
mod fleet;
mod ledger;
mod tester;

use std::{
    env,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use board::Board;
use disturbance::{Disturbance, Host};
use fleet::Fleet;
use ledger::Ledger;
use pmon_tests::{daemon::Daemon, order, place::Place, privilege, process, skip_if};
use tester::{Counts, Operation, Tester};

/// A tenth of the full run.
const RESTARTS: usize = 1500;
const KILLS: usize = 500;
/// Operations between two disturbances.
const UNDISTURBED: usize = 100;

fn setting(name: &str, otherwise: usize) -> usize {
    env::var(name).map_or(otherwise, |value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is `{value}`, expected a number"))
    })
}

#[test]
fn nothing_is_stuck_lost_or_doubled() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    let restarts = setting("PMON_SOAK_RESTARTS", RESTARTS);
    let kills = setting("PMON_SOAK_KILLS", KILLS);
    let seed = setting("PMON_SOAK_SEED", 1);
    println!("soak: seed {seed}");
    let place = Place::new();
    let fleet = Fleet::new(&place);
    let board = Board::new(place.socket());
    let ledger = Ledger::default();
    let done = AtomicUsize::new(0);
    let (disturb, disturbances) = mpsc::channel::<Disturbance>();
    let began = Instant::now();

    let mut host = Host::new(&place, &fleet, Daemon::start(&place));
    let counts = thread::scope(|scope| {
        let watcher = scope.spawn(|| board.watch(&ledger));
        // However this ends: the scope waits for its threads.
        let _stopped_at_last = board.stop_when_dropped();
        let testers: Vec<_> = fleet
            .services()
            .iter()
            .enumerate()
            .map(|(number, service)| {
                let share = |all: usize| {
                    let all_testers = fleet.services().len();
                    all / all_testers + usize::from(number < all % all_testers)
                };
                let mut tester = Tester::new(service, &board, &ledger, seed + number);
                let operations = tester.shuffle(share(restarts), share(kills));
                let (done, disturb) = (&done, disturb.clone());
                scope.spawn(move || {
                    for operation in operations {
                        tester.carry_out(operation);
                        let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
                        if so_far.is_multiple_of(UNDISTURBED) {
                            match tester.choose_disturbance() {
                                Disturbance::ByHand => tester.carry_out(Operation::ByHand),
                                // Nobody is there when the test has failed.
                                other => disturb.send(other).unwrap_or_default(),
                            }
                        }
                    }
                    tester.counts()
                })
            })
            .collect();
        drop(disturb);
        // Ends when every tester has dropped its end.
        for disturbance in disturbances {
            host.disturb(disturbance);
        }
        let mut total = Counts::default();
        for tester in testers {
            match tester.join() {
                Ok(counts) => total.add(&counts),
                Err(panic) => {
                    board.stop();
                    std::panic::resume_unwind(panic);
                }
            }
        }
        // The last certificates may still be on their way.
        board.settle(&ledger);
        board.stop();
        watcher.join().unwrap();
        total
    });
    let took = began.elapsed();

    let mut doubled = Vec::new();
    for service in fleet.services() {
        let instances = process::instances(&service.name);
        if instances.len() != 1 {
            doubled.push(format!("{}: {instances:?}", service.name));
        }
    }
    let verdict = ledger.verdict();
    let log = host.log();
    let deeds = order::check(&log).unwrap_or_else(|wrong| panic!("{wrong}"));
    let status = host.status();
    println!(
        "soak: {} restarts by command ({} asked for again after the daemon had been killed), {} kills, \
         {} restarts by hand, {} daemons killed, {} reloads, {} source failures \
         in {:.0} s over {} processes: 0 stuck, {} lost, {} told twice, {} doubled; \
         {} signals by pmon, each after its unregistering and its pidfile's removal; discrepancies: {}",
        counts.restarts,
        counts.repeated,
        counts.kills,
        counts.by_hand,
        host.counts().daemons,
        host.counts().reloads,
        host.counts().sources,
        took.as_secs_f64(),
        fleet.services().len(),
        verdict.lost.len(),
        verdict.twice.len(),
        doubled.len(),
        deeds.signals,
        status["audit"]["discrepancies"],
    );
    assert_eq!((counts.restarts, counts.kills), (restarts, kills));
    assert!(verdict.lost.is_empty(), "lost: {:?}", verdict.lost);
    assert!(verdict.twice.is_empty(), "told twice: {:?}", verdict.twice);
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    for entity in status["entities"].as_array().unwrap() {
        assert_eq!(entity["state"], "up", "{entity:#}");
        assert_eq!(entity["alarm"], serde_json::Value::Null, "{entity:#}");
    }
}
