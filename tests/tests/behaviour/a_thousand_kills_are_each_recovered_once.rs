//! 1,000 kills of 10 entities of every kind: each is reported exactly once with
//! the right process, signal and source, each is made good exactly once, and no
//! process that gets the pid of a killed one is ever signalled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::pipe,
    os::fd::AsFd as _,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG, source},
    events::{Event, Events, line},
    kernel,
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, entity, foreground, foreground_entity, quoted},
    skip_if, wait,
};
use serde_json::Value;

/// Of the entities with times in milliseconds, and of those from pmon.d files,
/// whose times are whole seconds.
const QUICK_KILLS: usize = 120;
const SLOW_KILLS: usize = 20;
/// Every so many kills comes at once when the successor is registered, before
/// it is stable.
const IMPATIENT: usize = 10;
/// Every so many killed pids of foreground programs is given to a stranger:
/// pmon reaps those at once, while the pids of daemons are free when init has
/// reaped them, which is nobody's duty to do soon.
const REUSED: usize = 2;

/// One kill by the tester.
#[derive(Debug)]
struct Kill {
    entity: String,
    pid: u32,
    start: Option<u64>,
}

/// Strangers under the pids of the killed.
struct Strangers<'a> {
    stdin: &'a std::io::PipeReader,
    report: &'a File,
    pids: Mutex<Vec<u32>>,
}

impl Strangers<'_> {
    /// Puts a stranger where the killed process was as soon as that has been
    /// reaped, if nobody else is there.
    fn take(&self, pid: u32) {
        // Whoever has it otherwise may keep it.
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let started = kernel::spawn_with_pid(
                pid,
                &binary::bystander(),
                &["pmon-test-bystander"],
                self.stdin.as_fd(),
                self.report.as_fd(),
            );
            if started.is_ok() {
                self.pids.lock().unwrap().push(pid);
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Kills one entity's process again and again, each time after its recovery.
fn kill_repeatedly(
    daemon: &Daemon,
    events: &Events,
    name: &str,
    times: usize,
    strangers: &Strangers<'_>,
) -> Vec<Kill> {
    let mut pid = daemon.up(name);
    let mut kills = Vec::new();
    for round in 1..=times {
        let process = Process::open(pid).unwrap();
        let start = process::start_ticks(pid);
        let mark = events.mark();
        process.kill();
        kills.push(Kill {
            entity: name.to_owned(),
            pid,
            start,
        });
        if name.starts_with("fore") && round % REUSED == 0 && process.ends_within(LONG) {
            strangers.take(pid);
        }
        // Only the last one must be awaited to its end.
        let sign = if round % IMPATIENT == 0 && round < times {
            "registered"
        } else {
            "recovered"
        };
        // News of the killed process may still be on their way.
        let next = events.after(mark, sign, LONG, |event| {
            event.is(name, sign) && event.pid != Some(pid)
        });
        pid = next.pid.unwrap();
    }
    kills
}

fn every_kind(place: &Place) -> (Vec<String>, Vec<String>) {
    let quick = |stem: &str| place.name(stem);
    let mut toml = "[daemon]\naudit_interval = \"5s\"\n".to_owned();
    let mut quick_names = Vec::new();
    let times = [
        ("startuptime", "\"60ms\""),
        ("debounce", "\"60ms\""),
        ("interval", "\"60ms\""),
        // Impatient kills are failed attempts.
        ("restarts", "1000"),
        ("start_timeout", "\"20s\""),
    ];
    for stem in ["fore-a", "fore-b", "fore-c", "fore-d"] {
        let name = quick(stem);
        toml += &foreground_entity(&name, &times);
        quick_names.push(name);
    }
    for stem in ["back-a", "back-b"] {
        let name = quick(stem);
        let pidfile = place.path(&format!("{name}.pid"));
        let options = ["--background", "--pidfile", &pidfile.to_string_lossy()];
        let command = foreground(&name, &options);
        let pidfile = quoted(&pidfile);
        let mut settings = vec![
            ("command", command.as_str()),
            ("pidfile", pidfile.as_str()),
            ("daemonizes", "true"),
        ];
        settings.extend(times);
        toml += &entity(&name, &settings);
        quick_names.push(name);
    }
    for stem in ["init-a", "init-b"] {
        let name = quick(stem);
        toml += &Lsb::new(place, &name, &[]).entity(&times);
        quick_names.push(name);
    }
    let mut slow_names = Vec::new();
    for stem in ["pmond-a", "pmond-b"] {
        let name = quick(stem);
        let lsb = Lsb::new(place, &name, &[]);
        place.pmon_d_file(&format!("{stem}.conf"), lsb.pmon_d(1, 0, 0));
        slow_names.push(name);
    }
    place.configure(&toml);
    (quick_names, slow_names)
}

/// Every verified death that was told, by entity and pid.
fn told(deaths: &[Event]) -> BTreeMap<(String, u32), usize> {
    let mut told = BTreeMap::new();
    for death in deaths {
        let who = (death.entity.clone().unwrap(), death.pid.unwrap());
        *told.entry(who).or_default() += 1;
    }
    told
}

/// Everything that was told of a process.
fn story(events: &Events, pid: u32) -> String {
    let about = events.matching(|event| event.pid == Some(pid));
    about.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Collects the certificates of all incidents so far; the daemon remembers a
/// thousand.
fn certificates(daemon: &Daemon, into: &mut BTreeMap<u64, Value>) {
    for incident in daemon.json(&["history"])["incidents"].as_array().unwrap() {
        if incident["death"].is_object() {
            let number = incident["incident"].as_u64().unwrap();
            into.insert(number, incident["death"].clone());
        }
    }
}

#[test]
fn and_no_stranger_is_harmed() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let (quick, slow) = every_kind(&place);
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    for name in quick.iter().chain(&slow) {
        let _pid = daemon.up(name);
    }

    let (stdin, hold) = pipe().unwrap();
    let report = File::create(place.path("bystanders")).unwrap();
    let strangers = Strangers {
        stdin: &stdin,
        report: &report,
        pids: Mutex::default(),
    };
    let began = Instant::now();
    let mut known = BTreeMap::new();
    let kills: Vec<Kill> = thread::scope(|scope| {
        let tester = |name, times| {
            let (daemon, events, strangers) = (&daemon, &events, &strangers);
            scope.spawn(move || kill_repeatedly(daemon, events, name, times, strangers))
        };
        let testers: Vec<_> = (quick.iter().map(|name| tester(name, QUICK_KILLS)))
            .chain(slow.iter().map(|name| tester(name, SLOW_KILLS)))
            .collect();
        while testers.iter().any(|tester| !tester.is_finished()) {
            certificates(&daemon, &mut known);
            thread::sleep(Duration::from_secs(1));
        }
        let kills = testers.into_iter().map(|tester| tester.join().unwrap());
        kills.flatten().collect()
    });
    let took = began.elapsed();
    certificates(&daemon, &mut known);
    // A second report of a death would come with the next sweep at the latest.
    let sweeps = |daemon: &Daemon| daemon.status()["audit"]["sweeps"].as_u64().unwrap();
    let before = sweeps(&daemon);
    wait::until("a sweep", LONG, || (sweeps(&daemon) > before).then_some(()));

    let deaths = events.matching(|event| event.kind == "died");
    let mut expected: BTreeMap<(String, u32), usize> = BTreeMap::new();
    for Kill { entity, pid, .. } in &kills {
        *expected.entry((entity.clone(), *pid)).or_default() += 1;
    }
    let told = told(&deaths);
    let missed: Vec<_> = (expected.iter())
        .filter(|&(who, times)| told.get(who).unwrap_or(&0) < times)
        .collect();
    let doubled: Vec<_> = (told.iter())
        .filter(|&(who, times)| *times > *expected.get(who).unwrap_or(&0))
        .collect();
    let wrong: Vec<_> = deaths
        .iter()
        .filter(|death| !death.text.contains("signal 9"))
        .collect();
    let signalled = events.matching(|event| event.kind == "signalled").len();

    // Each certificate names a process that was killed, with its start.
    let mut starts = BTreeSet::new();
    for kill in &kills {
        let new = kill.start.is_some() && starts.insert((kill.pid, kill.start));
        assert!(
            new,
            "{kill:?} is of a process killed before: {}",
            story(&events, kill.pid)
        );
    }
    for death in known.values() {
        assert_eq!(death["signal"], 9, "{death:#}");
        assert_eq!(death["detected_by"], "ebpf", "{death:#}");
    }

    drop(hold);
    let bystanders = strangers.pids.into_inner().unwrap();
    for &pid in &bystanders {
        kernel::reap(pid).unwrap();
    }
    let report = std::fs::read_to_string(place.path("bystanders")).unwrap();
    let mut unharmed = BTreeSet::new();
    let mut harmed = Vec::new();
    for line in report.lines() {
        let (pid, signals) = line.split_once(' ').unwrap();
        match signals {
            "0" => {
                unharmed.insert(pid.parse::<u32>().unwrap());
            }
            signals => harmed.push(format!("{pid}: {signals} signals")),
        }
    }
    let silent = bystanders.iter().filter(|pid| !unharmed.contains(pid));
    harmed.extend(silent.map(|pid| format!("{pid}: did not end in order")));

    let status = daemon.status();
    let ebpf = source(&status, "ebpf");
    println!(
        "{} kills of {} entities in {:.1} s: {} missed, {} doubled, {} with another status; \
         {signalled} signals by pmon; {} strangers under killed pids, {} harmed; \
         {} incidents; ebpf: {} events, {} lost; discrepancies: {}",
        kills.len(),
        quick.len() + slow.len(),
        took.as_secs_f64(),
        missed.len(),
        doubled.len(),
        wrong.len(),
        bystanders.len(),
        harmed.len(),
        known.len(),
        ebpf["events"],
        ebpf["lost"],
        status["audit"]["discrepancies"],
    );
    assert_eq!(kills.len(), 1000);
    assert!(missed.is_empty(), "missed: {missed:?}");
    if let Some(((_, pid), _)) = doubled.first() {
        panic!(
            "doubled: {doubled:?}, for instance: {}",
            story(&events, *pid)
        );
    }
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
    assert_eq!(signalled, 0);
    assert!(
        bystanders.len() >= 150,
        "only {} pids could be reused",
        bystanders.len()
    );
    assert!(harmed.is_empty(), "harmed: {harmed:?}");
    for name in quick.iter().chain(&slow) {
        let pid = daemon.up(name);
        assert_eq!(process::instances(name), [pid]);
        assert_eq!(daemon.entity(name)["restarts"]["external"], 0);
    }
    for (kind, count) in status["audit"]["discrepancies"].as_object().unwrap() {
        assert_eq!(count, 0, "the audit found {kind}");
    }
}
