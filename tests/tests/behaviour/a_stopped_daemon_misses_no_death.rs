//! The ring at its smallest, most registrations without a pidfd of their own,
//! and the daemon stopped while all of them die: each death is told once, with
//! its true time and status, and what the ring had no room for is counted.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use pmon_tests::{
    daemon::{Daemon, source},
    nursery::{self, Nursery},
    place::Place,
    privilege, process, skip_if, wait,
};
use rustix::process::Signal;
use serde_json::Value;

/// How many die. The pid table alone is tested with 50,000 (`pmon-user`).
const COUNT: usize = 10_000;
/// How many keep a pidfd.
const WITH_PIDFD: usize = 1000;
/// Everything takes long with so many and an unoptimised daemon.
const PATIENCE: Duration = Duration::from_secs(240);

fn entities(status: &Value) -> &Vec<Value> {
    status["entities"].as_array().unwrap()
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn of_ten_thousand() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    place.configure(&format!(
        "[daemon]\nring_bytes = 4096\nmax_pids = 20000\npidfd_budget = {WITH_PIDFD}\n\
         audit_interval = \"1h\"\n"
    ));
    let mut command = pmon_tests::daemon::command(&place);
    command.env("PMON_LOG", "warn");
    let daemon = Daemon::launch(&place, command);
    let idle = memory(daemon.pid(), "VmRSS");
    let mut nursery = Nursery::new(COUNT);
    let began = std::time::Instant::now();
    nursery::register(daemon.socket(), nursery.pids(), |pid| {
        place.name(&pid.to_string())
    });
    let status = wait::until("all are registered", PATIENCE, || {
        let status = nursery::status(daemon.socket());
        let registered = entities(&status)
            .iter()
            .filter(|it| it["registered"] == true);
        (registered.count() == COUNT).then_some(status)
    });
    let took = began.elapsed();
    let each = (memory(daemon.pid(), "VmRSS") - idle) * 1024 / COUNT as u64;
    assert_eq!(status["degraded"], Value::Array(Vec::new()));
    let descriptors = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        open.count()
    };
    wait::until("pidfds beyond the budget are closed", PATIENCE, || {
        (descriptors() < WITH_PIDFD + 200).then_some(())
    });

    let process = process::Process::open(daemon.pid()).unwrap();
    process.signal(Signal::STOP).unwrap();
    wait::until("the daemon is stopped", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        stat.contains(") T ").then_some(())
    });
    let before = Timestamp::now();
    nursery.kill();
    let after = Timestamp::now();
    process.signal(Signal::CONT).unwrap();
    let began = std::time::Instant::now();
    let status = wait::until("all deaths are told", PATIENCE, || {
        let status = nursery::status(daemon.socket());
        let told = entities(&status)
            .iter()
            .filter(|it| it["last_death"].is_object());
        (told.count() == COUNT).then_some(status)
    });
    let told = began.elapsed();

    let mut pids = BTreeMap::new();
    for entity in entities(&status) {
        let death = &entity["last_death"];
        assert_eq!(death["signal"], 9, "{entity:#}");
        assert_eq!(death["detected_by"], "ebpf", "{entity:#}");
        assert_eq!(entity["deaths_24h"], 1, "{entity:#}");
        let died_at: Timestamp = death["died_at"].as_str().unwrap().parse().unwrap();
        // The wall clock may be slewed meanwhile.
        let slack = jiff::SignedDuration::from_millis(50);
        assert!(
            before - slack <= died_at && died_at <= after + slack,
            "{before} {after} {entity:#}"
        );
        *pids.entry(death["pid"].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(pids.len(), COUNT, "each death is of another process");
    let ebpf = source(&status, "ebpf");
    let (events, lost) = (
        ebpf["events"].as_u64().unwrap(),
        ebpf["lost"].as_u64().unwrap(),
    );
    println!(
        "{COUNT} processes: registered in {took:?}, {each} bytes each; all deaths told in {told:?}: \
         {events} from the ring, {lost} dropped by it; {} KiB at most",
        memory(daemon.pid(), "VmHWM")
    );
    assert_eq!(events + lost, COUNT as u64);
    // 4096 bytes hold some 50 records.
    assert!(lost > COUNT as u64 - 200, "{lost}");
    assert_eq!(source(&status, "pidfd")["events"], 0);
    // Nothing is told a second time by the audit.
    for (kind, count) in status["audit"]["discrepancies"].as_object().unwrap() {
        assert_eq!(count, 0, "the audit found {kind}");
    }
}
