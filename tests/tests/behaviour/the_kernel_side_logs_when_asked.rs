//! `pmon bpf log on` has the kernel side say what it does, line by line in the
//! daemon's log, `off` ends that, and no death is missed at either.

use std::{thread, time::Duration};

use pmon_tests::{
    daemon::{self, Daemon, LONG, source},
    nursery::{self, Nursery},
    place::{Place, is_bpffs},
    privilege,
    process::Process,
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::{Value, json};

/// Processes that die while the log is switched.
const MANY: usize = 400;

/// What the kernel side said of this process's death.
fn lines(daemon: &Daemon, pid: u32) -> Vec<String> {
    let about = format!("kernel: exit of tgid {pid}: status 9,");
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains(&about));
    lines.map(str::to_owned).collect()
}

/// Whether the daemon says that the log is on.
fn is_on(daemon: &Daemon) -> bool {
    let on = daemon.json(&["bpf", "show", "--seconds", "0"])["log"]
        .as_bool()
        .unwrap();
    let ebpf = daemon.source_when("ebpf", "healthy");
    let reason = ebpf["reason"].as_str().unwrap_or_default();
    assert_eq!(reason.contains("`pmon bpf log off`"), on, "{ebpf:#}");
    on
}

/// Kills the process; its successor.
fn replaced(daemon: &Daemon, name: &str) -> (u32, u32) {
    let pid = daemon.up(name);
    Process::open(pid).unwrap().kill();
    let successor = daemon.entity_when(name, "it is up again", LONG, |entity| {
        entity["state"] == "up" && entity["registered"] == true && entity["pid"] != pid
    });
    assert_eq!(successor["last_death"]["detected_by"], "ebpf");
    (pid, daemon::pid_of(&successor))
}

#[test]
fn line_by_line() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let mut command = daemon::command(&place);
    // Whoever switches it on wants to see it.
    command.env("PMON_LOG", "warn");
    let daemon = Daemon::launch(&place, command);
    assert!(!is_on(&daemon));
    let (before, _) = replaced(&daemon, &name);

    let switched = json!({"on": true, "was_on": false});
    assert_eq!(daemon.json(&["bpf", "log", "on"]), switched);
    assert!(is_on(&daemon));
    let again = json!({"on": true, "was_on": true});
    assert_eq!(daemon.json(&["bpf", "log", "on"]), again);
    let (while_on, _) = replaced(&daemon, &name);
    wait::until("the kernel side says something", LONG, || {
        (!lines(&daemon, while_on).is_empty()).then_some(())
    });
    assert_eq!(lines(&daemon, while_on).len(), 1);

    let switched = json!({"on": false, "was_on": true});
    assert_eq!(daemon.json(&["bpf", "log", "off"]), switched);
    assert!(!is_on(&daemon));
    let (after, _) = replaced(&daemon, &name);

    // A second time, which also shows that the lines before had their time.
    daemon.json(&["bpf", "log", "on"]);
    let (last, _) = replaced(&daemon, &name);
    wait::until("it says something again", LONG, || {
        (!lines(&daemon, last).is_empty()).then_some(())
    });
    assert_eq!(lines(&daemon, before), [""; 0]);
    assert_eq!(lines(&daemon, after), [""; 0]);

    // Whoever restarts it did not ask for it.
    daemon.kill();
    let daemon = Daemon::start(&place);
    assert!(!is_on(&daemon));
    let _pid = daemon.up(&name);
    assert!(daemon.terminate().success());
    assert!(!place.pins().exists(), "nothing is left");
}

#[test]
fn and_no_death_falls_between() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    place.configure("");
    let daemon = Daemon::start(&place);
    let nursery = Nursery::new(MANY);
    let name = |pid: u32| place.name(&pid.to_string());
    nursery::register(daemon.socket(), nursery.pids(), name);
    for pid in nursery.pids() {
        let _pid = daemon.up(&name(*pid));
    }
    let (first, rest) = nursery.pids().split_at(MANY / 4);
    for pid in first {
        Process::open(*pid).unwrap().kill();
    }
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            for pid in rest {
                Process::open(*pid).unwrap().kill();
                thread::sleep(Duration::from_millis(3));
            }
        });
        let mut switches = 0;
        while !killer.is_finished() || switches < 2 {
            for switch in ["on", "off"] {
                daemon.json(&["bpf", "log", switch]);
                switches += 1;
            }
        }
        println!("switched {switches} times");
    });
    let status = wait::until("every death is told", LONG, || {
        let status = nursery::status(daemon.socket());
        let entities = status["entities"].as_array().unwrap();
        let told = |it: &Value| it["last_death"].is_object();
        entities.iter().all(told).then_some(status)
    });
    let entities = status["entities"].as_array().unwrap();
    assert_eq!(entities.len(), MANY);
    for entity in entities {
        assert_eq!(entity["deaths_24h"], 1, "{entity:#}");
        assert_eq!(entity["last_death"]["signal"], 9, "{entity:#}");
        assert_eq!(entity["last_death"]["detected_by"], "ebpf", "{entity:#}");
    }
    assert_eq!(source(&status, "ebpf")["lost"], 0);
    assert_eq!(status["degraded"], json!([]));
}

#[test]
fn but_not_without_pins() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    place.configure("");
    let daemon = Daemon::launch(
        &place,
        daemon::command_with_pins(&place, std::path::Path::new("none")),
    );
    let refused = daemon.ask(&["bpf", "log", "on"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("not pinned"), "{refused:?}");
    assert!(!is_on(&daemon));
}
