//! An operator takes an entity out of recovery: its death is told, and nothing
//! is done about it, whatever becomes of the daemon, until it is taken back.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use pmon_tests::{
    binary,
    daemon::{self, Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, executable},
    skip_if, wait,
};
use serde_json::Value;

fn service(place: &Place) -> Lsb {
    let lsb = Lsb::new(place, &place.name("web"), &[]);
    place.configure(&lsb.entity(&[("restarts", "3"), ("interval", "\"1s\"")]));
    lsb
}

/// Waits until a daemon that is killed now would leave this word behind.
fn on_record(place: &Place, word: &str) {
    wait::until("it is on record", LONG, || {
        let files = ["registrations.json", "registrations.changes"];
        let mut texts = files.iter().map(|file| place.run().join(file));
        texts
            .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(word)))
            .then_some(())
    });
}

#[test]
fn also_by_the_next_daemon() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = service(&place);
    let name = &lsb.name;
    let daemon = Daemon::start(&place);
    let first = daemon.up(name);
    let held = daemon.json(&["hold", name, "--for", "2h", "--reason", "moving house"]);
    assert_eq!(held["entities"][0]["state"], "held");
    assert_eq!(held["entities"][0]["pid"], first);
    assert_eq!(held["entities"][0]["registered"], true);
    on_record(&place, "moving house");
    daemon.kill();

    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let entity = daemon.entity_when(name, "its process is found", LONG, |entity| {
        entity["registered"] == true
    });
    assert_eq!(entity["state"], "held", "{entity:#}");
    assert_eq!(entity["pid"], first);
    assert_eq!(entity["restarts"]["external"], 0);
    assert_eq!(entity["held"]["reason"], "moving house");
    assert!(entity["held"]["until"].is_string() && entity["next_action_at"].is_string());
    // Killed: told, and nothing else.
    Process::open(first).unwrap().kill();
    let entity = daemon.entity_when(name, "its death is told", LONG, |entity| {
        entity["deaths_1h"] == 1
    });
    assert_eq!(entity["state"], "held");
    assert_eq!(entity["last_death"]["pid"], first);
    assert_eq!(lsb.pid(), Some(first), "even its pidfile is left alone");
    let history = daemon.json(&["history", name]);
    assert_eq!(history["incidents"][0]["result"], "open");
    // Nobody undoes it unawares.
    for verb in ["start", "stop", "restart"] {
        let answer = daemon.ask(&[verb, name]);
        assert_eq!(answer.code, Some(6), "{answer:?}");
        assert!(answer.stderr.contains("is held by uid "), "{answer:?}");
        assert!(answer.stderr.contains("`pmon resume "), "{answer:?}");
    }
    // Also without a daemon in between.
    daemon.kill();
    let daemon = Daemon::start(&place);
    let entity = daemon.entity(name);
    assert_eq!(entity["state"], "held", "{entity:#}");
    assert!(process::instances(name).is_empty());
    assert_eq!(entity["alarm"], Value::Null);
    assert_eq!(events.count(name, "spawned"), 0);

    let resumed = daemon.json(&["resume", name]);
    assert_ne!(resumed["entities"][0]["state"], "held");
    let second = daemon.up(name);
    assert_ne!(second, first);
    assert_eq!(process::instances(name), [second]);
    let entity = daemon.entity(name);
    assert_eq!(entity["restarts"]["auto"], 1);
    assert_eq!(entity["held"], Value::Null);
    // Once more changes nothing.
    daemon.json(&["resume", name]);
    assert_eq!(daemon.up(name), second);
}

#[test]
fn until_its_time_is_over() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = service(&place);
    let name = &lsb.name;
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let first = daemon.up(name);
    daemon.json(&["hold", name, "--for", "3s"]);
    Process::open(first).unwrap().kill();
    let second = wait::until("it is recovered", LONG, || {
        let entity = daemon.entity(name);
        let up = entity["state"] == "up" && entity["pid"] != first;
        up.then(|| daemon::pid_of(&entity))
    });
    assert_eq!(process::instances(name), [second]);
    // Not before that.
    let all = events.all();
    let place_of = |kind| all.iter().position(|event| event.is(name, kind)).unwrap();
    assert!(place_of("died") < place_of("resumed"));
    let spawned = all.iter().rposition(|event| event.is(name, "spawned"));
    assert!(place_of("resumed") < spawned.unwrap());
    for bad in ["0s", "soon", "400d"] {
        let answer = daemon.ask(&["hold", name, "--for", bad]);
        assert_eq!(answer.code, Some(2), "{bad}: {answer:?}");
        assert_eq!(daemon.up(name), second);
    }
}

/// The original's commands, under their names.
fn original(place: &Place, name: &str) -> PathBuf {
    let path = place.path(name);
    if fs::symlink_metadata(&path).is_err() {
        symlink(binary::pmon(), &path).unwrap();
    }
    path
}

fn ask(program: &Path, socket: &Path, arguments: &[&str]) -> daemon::Answer {
    let mut command = Command::new(program);
    command.env("PMON_SOCKET", socket).args(arguments);
    daemon::answer(&mut command)
}

/// S15: the service is called otherwise than its process, and the original does
/// nothing then and says 0.
#[test]
fn and_s15_the_originals_commands_say_what_has_become_of_them() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = service(&place);
    let name = &lsb.name;
    let program = |verb| original(&place, verb);
    let [start, stop, restart] = ["pmon-start", "pmon-stop", "pmon-restart"].map(program);
    let socket = place.socket();
    assert_eq!(ask(&restart, &socket, &[name]).code, Some(5), "no daemon");
    let daemon = Daemon::start(&place);
    let first = daemon.up(name);
    assert_eq!(ask(&restart, &socket, &[]).code, Some(2));
    let unknown = ask(&restart, &socket, &["nobody"]);
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
    // By the name of its init script, which is not that of its process.
    let service = lsb.script.file_name().unwrap().to_str().unwrap();
    assert_ne!(service, name);
    let restarted = ask(&restart, &socket, &[service, "--wait"]);
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    assert!(restarted.stdout.starts_with(&format!("{name}: ")));
    let second = daemon.up(name);
    assert_ne!(second, first);
    assert_eq!(ask(&stop, &socket, &[service, "--wait"]).code, Some(0));
    assert!(process::instances(name).is_empty());
    assert_eq!(ask(&start, &socket, &[name, "--wait"]).code, Some(0));
    let third = daemon.up(name);
    assert_eq!(process::instances(name), [third]);
    assert_eq!(daemon.entity(name)["restarts"]["operator"], 2);
    // Two of the same service: neither is meant.
    let other = lsb.clone();
    let twin = place.name("twin");
    let both = Lsb {
        name: twin.clone(),
        pidfile: place.path("twin.pid"),
        ..other
    };
    let settings = [("restarts", "0")];
    let text = [lsb.entity(&settings), both.entity(&settings)].concat();
    place.configure(&text);
    daemon.json(&["reload"]);
    let ambiguous = ask(&restart, &socket, &[service]);
    assert_eq!(ambiguous.code, Some(6), "{ambiguous:?}");
    assert!(ambiguous.stderr.contains(name) && ambiguous.stderr.contains(&twin));
    assert_eq!(daemon.up(name), third);
}

/// With pmond's place taken, `hostwd` is a unit of systemd.
#[test]
fn and_the_host_watchdog_is_systemds_where_pmonds_place_is_taken() {
    let place = Place::new();
    let restart = original(&place, "pmon-restart");
    let said = place.path("said");
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >>'{}'\n", said.display());
    executable(&bin.join("systemctl"), &script);
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let ask = |daemon: &Daemon| {
        let mut command = Command::new(&restart);
        command
            .env("PATH", &path)
            .env("PMON_SOCKET", daemon.socket());
        daemon::answer(command.arg("hostwd"))
    };
    let daemon = Daemon::start(&place);
    assert_eq!(ask(&daemon).code, Some(4));
    assert!(!said.exists());
    daemon.terminate();
    place.configure("[compat.starlingx]\nenabled = true\n");
    let daemon = Daemon::start(&place);
    let answer = ask(&daemon);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(fs::read_to_string(&said).unwrap(), "restart hostw\n");
    executable(&bin.join("systemctl"), "#!/bin/sh\nexit 4\n");
    let answer = ask(&daemon);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("exit status: 4"), "{answer:?}");
}
