//! The daemon is killed; its programs in the kernel go on. The next daemon tells
//! every death of the time between, with the kernel's time and status, and none
//! of them twice, at whatever moment the daemon was killed.

use std::{collections::BTreeSet, process::Stdio, thread, time::Duration};

use pmon_tests::{
    daemon::{self, Daemon, LONG},
    killing::Killed,
    pins::{self, DEAD},
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if, wait,
};
use serde_json::Value;

/// Daemons killed in the stream of deaths.
const ROUNDS: u32 = 30;

/// Entities of every kind, and their names.
fn populate(place: &Place, foreground: usize, scripts: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut configuration = String::new();
    for number in 0..foreground {
        let name = place.name(&format!("fore{number}"));
        configuration += &foreground_entity(&name, &[]);
        names.push(name);
    }
    for number in 0..scripts {
        let lsb = Lsb::new(place, &place.name(&format!("init{number}")), &[]);
        configuration += &lsb.entity(&[]);
        names.push(lsb.name);
    }
    place.configure(&configuration);
    names
}

#[test]
fn of_the_time_when_nobody_was_there() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let names = populate(&place, 3, 3);
    let daemon = Daemon::start(&place);
    let pids: Vec<u32> = names.iter().map(|name| daemon.up(name)).collect();
    // One death that is told and settled before, for the counters.
    Process::open(pids[0]).unwrap().kill();
    daemon.entity_when(&names[0], "it is up again", LONG, |entity| {
        entity["state"] == "up" && entity["registered"] == true && entity["pid"] != pids[0]
    });
    let pids: Vec<u32> = names.iter().map(|name| daemon.up(name)).collect();
    let identities: Vec<String> = pids
        .iter()
        .map(|pid| process::identity(*pid).unwrap())
        .collect();
    let pins = pins::directory(&daemon);
    let counted = pins::counter(&daemon, "deaths");
    // Canaries die, too.
    assert!(counted >= 1);
    daemon.kill();

    for pid in &pids {
        let process = Process::open(*pid).unwrap();
        process.kill();
        assert!(process.ends_within(LONG));
    }
    // The kernel has written them, with nobody there.
    let table = pins::table(&pins);
    for pid in &pids {
        let entry = &table[&u64::from(*pid)];
        assert_eq!(entry["flags"].as_u64().unwrap() & DEAD, DEAD, "{entry:#}");
        assert_ne!(entry["died_at"], 0);
    }

    let daemon = Daemon::start(&place);
    for ((name, pid), identity) in names.iter().zip(&pids).zip(&identities) {
        let successor = daemon.up(name);
        assert_ne!(successor, *pid);
        assert_eq!(process::instances(name), [successor]);
        let entry = &table[&u64::from(*pid)];
        let died_at = entry["died_at"].as_u64();
        let told = pins::deaths(&daemon, name);
        let same: Vec<_> = told.iter().filter(|(who, _)| who == identity).collect();
        assert_eq!(same.len(), 1, "{name}: {told:?}");
        assert_eq!(same[0].1, died_at, "the kernel's time");
        let last = &daemon.entity(name)["last_death"];
        assert_eq!(last["pid"], *pid);
        assert_eq!(last["signal"], 9, "{last:#}");
        assert_eq!(last["detected_by"], "ebpf");
        let latency = last["detect_latency_us"].as_u64().unwrap();
        let uptime = daemon.status()["uptime_s"].as_u64().unwrap();
        assert!(latency > 0 && latency < (uptime + 60) * 1_000_000);
    }
    let history = daemon.json(&["history", &names[1]]);
    let incidents = history["incidents"].as_array().unwrap();
    // Its first start, and its death.
    assert_eq!(incidents.len(), 2, "{history:#}");
    assert_eq!(incidents[0]["result"], "recovered");
    assert_eq!(incidents[0]["attempts"], 1);
    assert!(
        pins::counter(&daemon, "deaths") >= counted + pids.len() as u64,
        "counters survive"
    );
    assert_eq!(pins::directory(&daemon), pins);
    // What has been told is not in the table any more, who lives is, once.
    wait::until("only the living are in the table", LONG, || {
        let table = pins::table(&pins);
        let alive: BTreeSet<u64> = names
            .iter()
            .map(|name| u64::from(daemon.up(name)))
            .collect();
        (table.keys().copied().collect::<BTreeSet<_>>() == alive).then_some(())
    });

    // And once more nothing is told of them.
    let before: Vec<_> = names
        .iter()
        .map(|name| pins::deaths(&daemon, name))
        .collect();
    let generations: Vec<Value> = names
        .iter()
        .map(|name| daemon.entity(name)["generation"].clone())
        .collect();
    daemon.kill();
    let daemon = Daemon::start(&place);
    for ((name, before), generation) in names.iter().zip(before).zip(generations) {
        let _pid = daemon.up(name);
        assert_eq!(pins::deaths(&daemon, name), before);
        assert_eq!(daemon.entity(name)["generation"], generation);
    }
    assert_eq!(pins::counter(&daemon, "repeats"), 0);
}

#[test]
fn at_whatever_moment_it_is_killed() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let names = populate(&place, 3, 2);
    let killed = Killed::default();
    let mut daemon = Daemon::start(&place);
    let daemon = thread::scope(|scope| {
        let _over = killed.until_dropped();
        scope.spawn(|| killed.kill_on(&place, Duration::from_millis(15)));
        for round in 0..ROUNDS {
            // From the midst of a recovery to rest, and never the same.
            let moment = Duration::from_millis(u64::from(round * 37 % ROUNDS) * 13 + 5);
            thread::sleep(moment);
            daemon.kill();
            if round % 3 == 0 {
                // This one does not get far.
                let mut young = daemon::command(&place)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                thread::sleep(moment * 3);
                young.kill().unwrap();
                young.wait().unwrap();
            }
            daemon = Daemon::start(&place);
        }
        daemon
    });
    let total = killed.compare(&daemon, &names);
    println!("{total} deaths over {ROUNDS} killed daemons");
    assert!(total > names.len());
}
