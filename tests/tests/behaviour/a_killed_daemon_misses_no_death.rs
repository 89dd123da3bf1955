//! The daemon is killed; its programs in the kernel go on. The next daemon tells
//! every death of the time between, with the kernel's time and status, and none
//! of them twice, at whatever moment the daemon was killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use pmon_tests::{
    daemon::{self, Daemon, LONG, pid_of},
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if, wait,
};
use serde_json::Value;

/// `flag::DEAD` of the ABI.
const DEAD: u64 = 1;
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

/// The entries of the pinned table, by pid.
fn pinned_table(pins: &str) -> BTreeMap<u64, Value> {
    let output = Command::new("bpftool")
        .args(["--json", "map", "dump", "pinned"])
        .arg(format!("{pins}/pmon_pids"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let dump: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entries = dump.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let entry = &entry["formatted"];
            (entry["key"].as_u64().unwrap(), entry["value"].clone())
        })
        .collect()
}

/// Every death in the history: who, and when by the kernel's clock.
fn deaths(daemon: &Daemon, name: &str) -> Vec<(String, Option<u64>)> {
    let history = daemon.json(&["history", name]);
    let incidents = history["incidents"].as_array().unwrap().iter();
    incidents
        .flat_map(|incident| incident["deaths"].as_array().unwrap().clone())
        .map(|death| {
            let identity = death["identity"].as_str().unwrap().to_owned();
            (identity, death["died_at_boot_ns"].as_u64())
        })
        .collect()
}

fn counter(daemon: &Daemon, name: &str) -> u64 {
    daemon.json(&["bpf", "show"])["stats"][name]
        .as_u64()
        .unwrap()
}

fn pin_dir(daemon: &Daemon) -> String {
    let status = daemon.status();
    status["daemon"]["pin_dir"].as_str().unwrap().to_owned()
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
    let pins = pin_dir(&daemon);
    let counted = counter(&daemon, "deaths");
    assert_eq!(counted, 1);
    daemon.kill();

    for pid in &pids {
        let process = Process::open(*pid).unwrap();
        process.kill();
        assert!(process.ends_within(LONG));
    }
    // The kernel has written them, with nobody there.
    let table = pinned_table(&pins);
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
        let told = deaths(&daemon, name);
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
    assert_eq!(
        counter(&daemon, "deaths"),
        counted + pids.len() as u64,
        "counters survive"
    );
    assert_eq!(pin_dir(&daemon), pins);
    // What has been told is not in the table any more, who lives is, once.
    wait::until("only the living are in the table", LONG, || {
        let table = pinned_table(&pins);
        let alive: BTreeSet<u64> = names
            .iter()
            .map(|name| u64::from(daemon.up(name)))
            .collect();
        (table.keys().copied().collect::<BTreeSet<_>>() == alive).then_some(())
    });

    // And once more nothing is told of them.
    let before: Vec<_> = names.iter().map(|name| deaths(&daemon, name)).collect();
    let generations: Vec<Value> = names
        .iter()
        .map(|name| daemon.entity(name)["generation"].clone())
        .collect();
    daemon.kill();
    let daemon = Daemon::start(&place);
    for ((name, before), generation) in names.iter().zip(before).zip(generations) {
        let _pid = daemon.up(name);
        assert_eq!(deaths(&daemon, name), before);
        assert_eq!(daemon.entity(name)["generation"], generation);
    }
    assert_eq!(counter(&daemon, "repeats"), 0);
}

/// What the tester has killed: each was registered when it was killed.
#[derive(Default)]
struct Killed(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Killed {
    /// Kills the registered process of every entity, as the daemon tells them;
    /// says whether there was a daemon to ask.
    fn all_of(&self, place: &Place) -> bool {
        let answer = daemon::answer(&mut daemon::client(
            &place.socket(),
            &["list", "-o", "json"],
        ));
        if answer.code != Some(0) {
            return false;
        }
        for entity in answer.json()["entities"].as_array().unwrap() {
            if entity["registered"] == true && entity["pid"].is_u64() {
                self.one(entity);
            }
        }
        true
    }

    fn one(&self, entity: &Value) {
        let pid = pid_of(entity);
        let identity = entity["identity"].as_str().unwrap();
        let Ok(process) = Process::open(pid) else {
            return;
        };
        // Still the one that the daemon meant.
        if process::identity(pid).as_deref() != Some(identity)
            || !process.is_alive()
            || process.signal(rustix::process::Signal::KILL).is_err()
        {
            return;
        }
        let name = entity["name"].as_str().unwrap().to_owned();
        let mut killed = self.0.lock().unwrap();
        killed.entry(name).or_default().insert(identity.to_owned());
    }
}

/// Tells the thread that kills, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn at_whatever_moment_it_is_killed() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let names = populate(&place, 3, 2);
    let killed = Killed::default();
    let over = AtomicBool::new(false);
    let mut daemon = Daemon::start(&place);
    let daemon = thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                killed.all_of(&place);
                thread::sleep(Duration::from_millis(15));
            }
        });
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
    let killed = killed.0.into_inner().unwrap();
    let total: usize = killed.values().map(BTreeSet::len).sum();
    for name in &names {
        let pid = daemon.up(name);
        let told = deaths(&daemon, name);
        let mut seen = BTreeSet::new();
        for (identity, _) in &told {
            assert!(seen.insert(identity.clone()), "{identity} twice: {told:#?}");
        }
        let killed = killed.get(name).cloned().unwrap_or_default();
        let missing: Vec<_> = killed.difference(&seen).collect();
        assert!(missing.is_empty(), "{name}: not told: {missing:?}");
        let phantoms: Vec<_> = seen.difference(&killed).collect();
        assert!(phantoms.is_empty(), "{name}: nobody killed: {phantoms:?}");
        let untimed = told.iter().filter(|(_, at)| at.is_none()).count();
        assert_eq!(untimed, 0, "{name}: without the kernel's time: {told:#?}");
        assert_eq!(process::instances(name), [pid], "{name}");
    }
    println!("{total} deaths over {ROUNDS} killed daemons");
    assert!(total > names.len());
}
