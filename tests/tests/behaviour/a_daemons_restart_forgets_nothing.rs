//! The daemon ends, in order or not, at any moment of a recovery: the next one
//! brings the entity up with exactly one instance, takes running processes over
//! without starting them again, and leaves stopped what was stopped.

use std::{thread, time::Duration};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if,
};

/// Long enough for a needless start to show.
const SETTLED: Duration = Duration::from_millis(600);

#[derive(Clone, Copy)]
enum End {
    Term,
    Kill,
}

const ENDS: [End; 2] = [End::Term, End::Kill];

impl End {
    fn of(self, daemon: Daemon) {
        match self {
            Self::Term => assert!(daemon.terminate().success()),
            Self::Kill => daemon.kill(),
        }
    }
}

/// Brings an entity into `stage` of its recovery, ends the daemon there, and
/// starts another.
fn during(stage: &str, end: End, place: &Place, name: &str) {
    let daemon = Daemon::start(place);
    let before = daemon.up(name);
    Process::open(before).unwrap().kill();
    // With the successor registered: a daemon that is killed in the milliseconds
    // between fork and the note of it cannot leave word of the child.
    daemon.entity_when(name, stage, LONG, |entity| {
        entity["stage"] == stage && entity["registered"] == true && entity["pid"] != before
    });
    end.of(daemon);
    let daemon = Daemon::start(place);
    let pid = daemon.up(name);
    thread::sleep(SETTLED);
    assert_eq!(daemon.up(name), pid);
    assert_ne!(pid, before);
    assert_eq!(process::instances(name), [pid], "in {stage}");
    // And it is watched as ever.
    let events = daemon.events();
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "died", LONG, |event| {
        event.is(name, "died") && event.pid == Some(pid)
    });
    let successor = daemon.up(name);
    assert_eq!(process::instances(name), [successor]);
}

/// A foreground program and a daemon with a script, each with long `key`.
fn both_kinds(key: &str, value: &str, test: impl Fn(&Place, &str)) {
    let place = Place::new();
    let name = place.name("fore");
    place.configure(&foreground_entity(&name, &[(key, value)]));
    test(&place, &name);
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("init"), &[]);
    place.configure(&lsb.entity(&[(key, value)]));
    test(&place, &lsb.name);
}

#[test]
fn while_the_start_window_is_open() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        both_kinds("startuptime", "\"2s\"", |place, name| {
            during("monitor_wait", end, place, name);
        });
    }
}

#[test]
fn while_the_successor_is_monitored() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        both_kinds("debounce", "\"2s\"", |place, name| {
            during("monitor", end, place, name);
        });
    }
}

#[test]
fn while_it_pauses_between_attempts() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let place = Place::new();
        let name = place.name("web");
        // Fails to start while the obstacle is there.
        let obstacle = place.path("obstacle");
        let command = format!(
            r#"["/bin/sh", "-c", "test ! -e {} && exec {} --tag {name}"]"#,
            obstacle.display(),
            pmon_tests::binary::service().display(),
        );
        place.configure(&pmon_tests::script::entity(
            &name,
            &[("command", &command), ("interval", "\"3s\"")],
        ));
        let daemon = Daemon::start(&place);
        let pid = daemon.up(&name);
        std::fs::write(&obstacle, "").unwrap();
        Process::open(pid).unwrap().kill();
        daemon.in_stage(&name, "restart_wait");
        end.of(daemon);
        std::fs::remove_file(&obstacle).unwrap();
        let daemon = Daemon::start(&place);
        let pid = daemon.up(&name);
        thread::sleep(SETTLED);
        assert_eq!(process::instances(&name), [pid]);
    }
}

#[test]
fn while_the_start_script_is_at_work() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let place = Place::new();
        let lsb = Lsb::new(&place, &place.name("slow"), &[]);
        let script = std::fs::read_to_string(&lsb.script).unwrap();
        let daemon = {
            place.configure(&lsb.entity(&[("startuptime", "\"300ms\"")]));
            Daemon::start(&place)
        };
        let pid = daemon.up(&lsb.name);
        let slow = script.replace("running && exit 0", "running && exit 0; sleep 1.5");
        pmon_tests::script::executable(&lsb.script, &slow);
        Process::open(pid).unwrap().kill();
        daemon.in_stage(&lsb.name, "monitor_wait");
        thread::sleep(Duration::from_millis(200));
        end.of(daemon);
        let daemon = Daemon::start(&place);
        let pid = daemon.up(&lsb.name);
        thread::sleep(2 * SETTLED);
        assert_eq!(daemon.up(&lsb.name), pid);
        assert_eq!(process::instances(&lsb.name), [pid]);
    }
}

#[test]
fn of_a_process_that_lived_on() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        both_kinds("restarts", "3", |place, name| {
            let daemon = Daemon::start(place);
            let pid = daemon.up(name);
            end.of(daemon);
            let daemon = Daemon::start(place);
            assert_eq!(daemon.up(name), pid);
            thread::sleep(SETTLED);
            assert_eq!(process::instances(name), [pid]);
            let entity = daemon.entity(name);
            assert_eq!(entity["restarts"]["auto"], 0, "{entity:#}");
        });
    }
}

#[test]
fn of_a_process_that_died_meanwhile() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        both_kinds("restarts", "3", |place, name| {
            let daemon = Daemon::start(place);
            let pid = daemon.up(name);
            end.of(daemon);
            let process = Process::open(pid).unwrap();
            process.kill();
            assert!(process.ends_within(LONG));
            let daemon = Daemon::start(place);
            let successor = daemon.up(name);
            assert_ne!(successor, pid);
            assert_eq!(process::instances(name), [successor]);
        });
    }
}

#[test]
fn of_an_operators_stop() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        both_kinds("restarts", "3", |place, name| {
            let daemon = Daemon::start(place);
            let _pid = daemon.up(name);
            daemon.json(&["stop", name, "--wait", "--reason", "maintenance"]);
            end.of(daemon);
            let daemon = Daemon::start(place);
            daemon.in_stage(name, "stopped");
            thread::sleep(SETTLED);
            assert!(process::instances(name).is_empty());
            assert_eq!(daemon.entity(name)["state"], "down");
            daemon.json(&["start", name, "--wait"]);
            let pid = daemon.up(name);
            assert_eq!(process::instances(name), [pid]);
        });
    }
}

#[test]
fn of_an_ad_hoc_registration() {
    skip_if!(privilege::no_bpf());
    for end in ENDS {
        let place = Place::new();
        let name = place.name("adhoc");
        let mut child = std::process::Command::new(pmon_tests::binary::service())
            .args(["--tag", &name])
            .spawn()
            .unwrap();
        let daemon = Daemon::start(&place);
        daemon.json(&["register", &name, "--pid", &child.id().to_string()]);
        assert_eq!(daemon.up(&name), child.id());
        end.of(daemon);
        let daemon = Daemon::start(&place);
        assert_eq!(daemon.up(&name), child.id());
        daemon.json(&["unregister", &name]);
        assert_eq!(daemon.ask(&["list", &name]).code, Some(4));
        assert!(Process::open(child.id()).unwrap().is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
