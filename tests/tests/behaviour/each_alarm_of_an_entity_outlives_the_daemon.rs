//! An entity may have several alarms, under names of their own. Each is cleared for
//! whoever heard of it, although the daemon was killed and the receiver out of order
//! in between, and none is raised twice.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::Process,
    script::{self, foreground_entity, quoted},
    skip_if, wait,
};

/// A receiver that notes kind and exact name, a line for each event.
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
        hook.works(true);
        hook
    }

    fn works(&self, works: bool) {
        let log = self.log.display();
        let note = format!("echo \"$PMON_ALARM_KIND $PMON_ALARM_INSTANCE\" >>'{log}'");
        let does = if works { note } else { "exit 1".to_owned() };
        script::executable(&self.script, &format!("#!/bin/sh\n{does}\n"));
    }

    fn settings(&self) -> String {
        format!("[alarm]\nhook = [{}]\n", quoted(&self.script))
    }

    /// How often it was told this of this entity, whose name goes on with `rest`.
    fn told(&self, kind: &str, name: &str, rest: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let end = format!(".process={name}{rest}");
        let of = |line: &&str| line.starts_with(&format!("{kind} ")) && line.ends_with(&end);
        log.lines().filter(of).count()
    }

    fn waits_for(&self, kind: &str, name: &str, rest: &str) {
        wait::until(&format!("`{kind}` of `{name}{rest}`"), LONG * 2, || {
            (self.told(kind, name, rest) > 0).then_some(())
        });
    }
}

#[test]
fn of_a_status_script_under_each_text() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hook = Hook::new(&place);
    let name = place.name("asked");
    let script = place.path("script");
    let good = place.path("good");
    let text = place.path("text");
    script::executable(
        &script,
        &format!("#!/bin/sh\n[ -e '{}' ]\n", good.display()),
    );
    let table = format!(
        "{{ script = {}, start_arg = \"start\", status_arg = \"status\", period = \"1s\", \
         timeout = \"10s\", failure_text = {} }}",
        quoted(&script),
        quoted(&text)
    );
    let settings = [
        ("mode", "\"status\""),
        ("status", table.as_str()),
        ("restarts", "0"),
        ("interval", "\"1s\""),
    ];
    place.configure(&format!(
        "{}{}",
        hook.settings(),
        script::entity(&name, &settings)
    ));
    let alarm = |daemon: &Daemon, raised: bool| {
        daemon.entity_when(&name, "its alarm is as expected", LONG, |entity| {
            entity["alarm"].is_null() != raised
        })
    };
    fs::write(&text, "first\n").unwrap();
    let daemon = Daemon::start(&place);
    hook.waits_for("raise", &name, " (first)");

    // From now on the receiver hears nothing, until after the daemon's death.
    hook.works(false);
    fs::write(&good, "").unwrap();
    alarm(&daemon, false);
    fs::write(&text, "second\n").unwrap();
    fs::remove_file(&good).unwrap();
    alarm(&daemon, true);
    daemon.kill();
    hook.works(true);
    let daemon = Daemon::start(&place);
    hook.waits_for("clear", &name, " (first)");
    // Whether it had heard of the other one is not known.
    hook.waits_for("refresh", &name, " (second)");
    assert_eq!(hook.told("clear", &name, " (second)"), 0);
    fs::write(&good, "").unwrap();
    hook.waits_for("clear", &name, " (second)");
    alarm(&daemon, false);
    assert_eq!(hook.told("raise", &name, " (first)"), 1);
    assert!(daemon.terminate().success());

    // All is settled: the next one has nothing to tell.
    let clears = hook.told("clear", &name, " (first)");
    let daemon = Daemon::start(&place);
    daemon.entity_when(&name, "it is up", LONG, |entity| entity["state"] == "up");
    assert!(daemon.terminate().success());
    assert_eq!(hook.told("clear", &name, " (first)"), clears);
}

#[test]
fn of_one_that_flaps() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let hook = Hook::new(&place);
    let name = place.name("flaps");
    let flapping = "{ deaths = 2, within = \"1h\", quiet = \"1h\" }";
    let entity = foreground_entity(&name, &[("flapping", flapping)]);
    place.configure(&format!("{}{entity}", hook.settings()));
    let daemon = Daemon::start(&place);
    for _ in 0..2 {
        let pid = daemon.up(&name);
        Process::open(pid).unwrap().kill();
        daemon.entity_when(&name, "a successor is up", LONG, |entity| {
            entity["state"] == "up" && entity["pid"] != pid && entity["registered"] == true
        });
    }
    hook.waits_for("flapping", &name, "");
    daemon.kill();
    // It is not over because the daemon was restarted ...
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&name);
    assert!(daemon.entity(&name)["flapping_since"].is_string());
    daemon.kill();
    assert_eq!(hook.told("flapping", &name, ""), 1);
    assert_eq!(hook.told("flapping_clear", &name, ""), 0);
    // ... but if nobody looks after it any more.
    place.configure(&hook.settings());
    let daemon = Daemon::start(&place);
    hook.waits_for("flapping_clear", &name, "");
    assert!(daemon.terminate().success());
    let daemon = Daemon::start(&place);
    assert!(daemon.terminate().success());
    assert_eq!(hook.told("flapping_clear", &name, ""), 1);
}

#[test]
fn of_another_instance() {
    skip_if!(privilege::no_bpf());
    const REST: &str = " (duplicate instance)";
    let place = Place::new();
    let hook = Hook::new(&place);
    let name = place.name("web");
    let sweeps = "[daemon]\naudit_interval = \"1s\"\n";
    let entity = foreground_entity(&name, &[]);
    place.configure(&format!("{sweeps}{}{entity}", hook.settings()));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let mut other = Command::new(binary::service())
        .args(["--tag", &name])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    hook.waits_for("raise", &name, REST);
    daemon.kill();
    // It is found still there: that is no news but a reminder.
    let daemon = Daemon::start(&place);
    assert_eq!(daemon.up(&name), pid);
    hook.waits_for("refresh", &name, REST);
    assert_eq!(hook.told("raise", &name, REST), 1);
    daemon.kill();
    // It goes while nobody watches.
    other.kill().unwrap();
    other.wait().unwrap();
    let daemon = Daemon::start(&place);
    hook.waits_for("clear", &name, REST);
    assert_eq!(daemon.up(&name), pid);
    assert_eq!(daemon.entity(&name)["alarm"], serde_json::Value::Null);
    assert_eq!(hook.told("clear", &name, REST), 1);
    assert_eq!(hook.told("raise", &name, REST), 1);
}
