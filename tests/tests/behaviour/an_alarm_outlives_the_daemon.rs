//! Receivers of alarms are told of each once, whatever becomes of the daemon, the
//! configuration or other receivers in between.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::Process,
    script::{self, Lsb, foreground_entity, quoted},
    skip_if, wait,
};

/// A hook that notes what it is told, a line for each event.
struct Hook {
    script: PathBuf,
    log: PathBuf,
}

impl Hook {
    fn new(place: &Place) -> Self {
        let hook = Self {
            script: place.path("hook"),
            log: place.path("hook.log"),
        };
        hook.works();
        hook
    }

    fn works(&self) {
        self.does("echo \"$PMON_ALARM_KIND $PMON_ALARM_INSTANCE $PMON_ALARM_SEVERITY\" >>");
    }

    fn does(&self, what: &str) {
        let text = format!("#!/bin/sh\n{what}'{}'\n", self.log.display());
        script::executable(&self.script, &text);
    }

    fn settings(&self, timeout: &str) -> String {
        format!(
            "[alarm]\nhook = [{}]\nhook_timeout = \"{timeout}\"\n",
            quoted(&self.script)
        )
    }

    /// Severities with which it was told this of this entity, in order.
    fn told(&self, kind: &str, name: &str) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let host = rustix::system::uname()
            .nodename()
            .to_str()
            .unwrap()
            .to_owned();
        let prefix = format!("{kind} host={host}.process={name} ");
        let severities = log.lines().filter_map(|line| line.strip_prefix(&prefix));
        severities.map(str::to_owned).collect()
    }

    fn waits_for(&self, kind: &str, name: &str, times: usize) -> Vec<String> {
        wait::until_seen(
            &format!("the hook is told `{kind}` of `{name}`"),
            // After failures it is tried again after 60 s at the latest.
            LONG * 2,
            || self.told(kind, name),
            |told| told.len() >= times,
        )
    }
}

/// A program that cannot be started while the obstacle is there.
fn obstructed(name: &str, obstacle: &Path, settings: &[(&str, &str)]) -> String {
    let command = format!(
        r#"["/bin/sh", "-c", "test ! -e {} && exec {} --tag {name}"]"#,
        obstacle.display(),
        pmon_tests::binary::service().display(),
    );
    let mut all = vec![("command", command.as_str()), ("restarts", "1")];
    all.extend(settings);
    script::entity(name, &all)
}

fn alarm_raised(daemon: &Daemon, name: &str) {
    daemon.entity_when(name, "its alarm is raised", LONG, |entity| {
        !entity["alarm"].is_null()
    });
}

#[test]
fn it_is_raised_once_and_cleared_once_although_daemons_are_killed() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hook = Hook::new(&place);
    let name = place.name("sm");
    // Its name begins with the other's (the original cleared both).
    let sibling = format!("{name}-api");
    let names = [&name, &sibling];
    let obstacles = names.map(|name| place.path(&format!("{name}.obstacle")));
    place.configure(&format!(
        "{}{}{}",
        hook.settings("10s"),
        obstructed(&name, &obstacles[0], &[]),
        obstructed(&sibling, &obstacles[1], &[]),
    ));
    let daemon = Daemon::start(&place);
    for (name, obstacle) in names.iter().zip(&obstacles) {
        let pid = daemon.up(name);
        fs::write(obstacle, "").unwrap();
        Process::open(pid).unwrap().kill();
        alarm_raised(&daemon, name);
        // Of the very first start, and of this one.
        assert_eq!(hook.waits_for("first_failure", name, 2).len(), 2);
        assert_eq!(hook.waits_for("raise", name, 1), ["major"]);
    }
    daemon.kill();

    // It is found failed, and that is told as what it is.
    let daemon = Daemon::start(&place);
    for name in names {
        alarm_raised(&daemon, name);
        assert!(daemon.entity(name)["alarm_since"].is_string());
        hook.waits_for("refresh", name, 1);
        assert_eq!(hook.told("raise", name), ["major"]);
        assert_eq!(hook.told("first_failure", name).len(), 2);
    }
    assert_eq!(daemon.status()["host_degraded"], "major");
    fs::remove_file(&obstacles[0]).unwrap();
    let _pid = daemon.up(&name);
    assert_eq!(hook.waits_for("clear", &name, 1), ["major"]);
    daemon.kill();

    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&name);
    // Whoever came after it has been told.
    hook.waits_for("refresh", &sibling, 2);
    assert_eq!(hook.told("clear", &name), ["major"], "once");
    assert_eq!(hook.told("raise", &name), ["major"], "once");
    assert_eq!(hook.told("clear", &sibling), [""; 0]);
    assert_eq!(daemon.entity(&sibling)["alarm"], "major");
    fs::remove_file(&obstacles[1]).unwrap();
    assert_eq!(hook.waits_for("clear", &sibling, 1), ["major"]);
    wait::until_seen(
        "the host is sound",
        LONG,
        || daemon.status()["host_degraded"].clone(),
        serde_json::Value::is_null,
    );
}

#[test]
fn it_is_cleared_when_the_entity_recovered_while_there_was_no_daemon() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hook = Hook::new(&place);
    let lsb = Lsb::new(&place, &place.name("ntp"), &[]);
    let entity = lsb.entity(&[("restarts", "0"), ("severity", "\"minor\"")]);
    place.configure(&format!("{}{entity}", hook.settings("10s")));
    let daemon = Daemon::start(&place);
    // Nothing starts it; that is an alarm.
    assert_eq!(hook.waits_for("raise", &lsb.name, 1), ["minor"]);
    daemon.kill();
    lsb.by_hand("start");
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&lsb.name);
    assert_eq!(hook.waits_for("clear", &lsb.name, 1), ["minor"]);
    assert!(daemon.terminate().success());
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&lsb.name);
    assert_eq!(daemon.entity(&lsb.name)["alarm"], serde_json::Value::Null);
    assert!(daemon.terminate().success());
    assert_eq!(hook.told("raise", &lsb.name).len(), 1);
    assert_eq!(hook.told("clear", &lsb.name).len(), 1);
}

#[test]
fn it_goes_with_the_entity_and_follows_its_configuration() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hook = Hook::new(&place);
    let [gone, later, stays] = ["gone", "later", "stays"].map(|stem| place.name(stem));
    let obstacle = place.path("obstacle");
    fs::write(&obstacle, "").unwrap();
    let settings = hook.settings("10s");
    let [first, second] = [&gone, &later].map(|name| obstructed(name, &obstacle, &[]));
    let third = obstructed(&stays, &obstacle, &[]);
    place.configure(&format!("{settings}{first}{second}{third}"));
    let daemon = Daemon::start(&place);
    for name in [&gone, &later, &stays] {
        assert_eq!(hook.waits_for("raise", name, 1), ["major"]);
    }
    // One is removed by a reload, and one gets another severity.
    let third = obstructed(&stays, &obstacle, &[("severity", "\"critical\"")]);
    place.configure(&format!("{settings}{second}{third}"));
    assert_eq!(daemon.ask(&["reload"]).code, Some(0));
    assert_eq!(hook.waits_for("clear", &gone, 1), ["major"]);
    assert_eq!(hook.waits_for("raise", &stays, 2), ["major", "critical"]);
    // Another one while there is no daemon.
    daemon.kill();
    place.configure(&format!("{settings}{third}"));
    let daemon = Daemon::start(&place);
    assert_eq!(hook.waits_for("clear", &later, 1), ["major"]);
    hook.waits_for("refresh", &stays, 1);
    // An operator's stop is no fault.
    assert_eq!(daemon.ask(&["stop", &stays]).code, Some(0));
    assert_eq!(hook.waits_for("clear", &stays, 1), ["critical"]);
    assert_eq!(hook.told("clear", &gone).len(), 1);
    assert_eq!(hook.told("clear", &later).len(), 1);
}

#[test]
fn a_hook_that_hangs_delays_nothing_and_is_told_everything_when_it_comes_back() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hook = Hook::new(&place);
    hook.does("exec sleep 1000; : ");
    let failed = place.name("failed");
    let other = place.name("other");
    let obstacle = place.path("obstacle");
    fs::write(&obstacle, "").unwrap();
    place.configure(&format!(
        "{}{}{}",
        hook.settings("1s"),
        obstructed(&failed, &obstacle, &[]),
        foreground_entity(&other, &[]),
    ));
    let daemon = Daemon::start(&place);
    alarm_raised(&daemon, &failed);
    for _ in 0..3 {
        let pid = daemon.up(&other);
        Process::open(pid).unwrap().kill();
        daemon.entity_when(&other, "a successor", LONG, |entity| {
            entity["state"] == "up" && entity["pid"] != pid
        });
    }
    let status = wait::until_seen(
        "the hook's hanging is told",
        LONG,
        || daemon.status()["degraded"].to_string(),
        |degraded| degraded.contains("alarm hook"),
    );
    assert!(
        status.contains("did not end within 1s and was killed"),
        "{status}"
    );
    assert_eq!(hook.told("raise", &failed), [""; 0]);
    hook.works();
    // It may have heard of the alarm: it is told that it lasts.
    assert_eq!(hook.waits_for("refresh", &failed, 1)[0], "major");
    wait::until_seen(
        "nothing is wrong with the hook",
        LONG,
        || daemon.status()["degraded"].to_string(),
        |degraded| !degraded.contains("alarm hook"),
    );
    fs::remove_file(&obstacle).unwrap();
    assert_eq!(hook.waits_for("clear", &failed, 1), ["major"]);
}
