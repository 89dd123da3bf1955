//! Stories of those who are told: an alarm that nobody could clear, and a host
//! watchdog that took a planned stop for a failure.

use std::fs;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{self, Lsb, foreground_entity, quoted},
    skip_if,
    starlingx::{self, Host, Hostwd, healthy},
    wait,
};

/// S6: the fault manager could not be reached when pmond started, and the alarm
/// of an earlier life was never cleared; asking again and again blocked the loop.
#[test]
fn s06_an_old_alarm_is_cleared_once_its_receiver_is_back_and_delays_nobody_until_then() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    let (log, hook) = (place.path("fm.log"), place.path("fm"));
    // The fault manager, by way of a hook.
    let manager = |what: &str| script::executable(&hook, &format!("#!/bin/sh\n{what}\n"));
    let works = format!(
        "echo \"$PMON_ALARM_KIND $PMON_ALARM_INSTANCE\" >>'{}'",
        log.display()
    );
    manager(&works);
    let instance = |name: &str| {
        let system = rustix::system::uname();
        let host = system.nodename().to_str().unwrap();
        format!("host={host}.process={name}")
    };
    let told = |kind: &str, name: &str| {
        let (text, line) = (
            fs::read_to_string(&log),
            format!("{kind} {}", instance(name)),
        );
        let text = text.unwrap_or_default();
        text.lines().filter(|it| **it == line).count()
    };
    let failed = Lsb::new(&place, &place.name("ntp"), &[]);
    let other = place.name("web");
    let entities = [
        format!(
            "[alarm]\nhook = [{}]\nhook_timeout = \"2s\"\n\n",
            quoted(&hook)
        ),
        failed.entity(&[("restarts", "0")]),
        foreground_entity(&other, &[]),
    ];
    let daemon = host.served(&place, &entities.concat());
    wait::until("it is raised", LONG, || {
        (told("raise", &failed.name) == 1).then_some(())
    });
    daemon.kill();

    // It is well again, and the one who is to hear of it does not answer.
    failed.by_hand("start");
    manager("exec sleep 1000");
    let hostwd = Hostwd::new();
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&failed.name);
    for _ in 0..3 {
        let pid = daemon.up(&other);
        Process::open(pid).unwrap().kill();
        daemon.entity_when(&other, "a successor", LONG, |entity| {
            entity["state"] == "up" && entity["pid"] != pid
        });
    }
    hostwd.petted(2);
    host.pulses_still();
    wait::until_seen(
        "it is said that the receiver hangs",
        LONG,
        || daemon.status()["degraded"].to_string(),
        |degraded| degraded.contains("alarm hook"),
    );
    assert_eq!(told("clear", &failed.name), 0);
    assert_eq!(
        daemon.entity(&failed.name)["alarm"],
        serde_json::Value::Null
    );

    // Nor does it a whole life of a daemon long.
    daemon.kill();
    manager("exit 1");
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&failed.name);
    manager(&works);
    wait::until("it is cleared", LONG * 2, || {
        (told("clear", &failed.name) == 1).then_some(())
    });
    assert_eq!(told("raise", &failed.name), 1);
    assert_eq!(told("raise", &other), 0);
    assert_eq!(daemon.status()["host_degraded"], serde_json::Value::Null);
}

/// S20: a restore stopped pmon on an unlocked host, and hostwd forced a crash dump.
/// hostwd knows no word for a planned stop; what pmon can do is to give it no reason
/// before its time: the last thing that it hears is that all is well, sent when pmon
/// ends, so that the whole of its allowance is left to whoever starts the next one,
/// and that one's first deed is to be heard.
#[test]
fn s20_a_stop_leaves_hostwd_the_whole_of_its_allowance() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    // After the start, hostwd is due in an hour.
    let conf = host.path("/etc/mtc/pmond.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let hourly = text.replace("hostwd_update_period = 1", "hostwd_update_period = 3600");
    host.write("/etc/mtc/pmond.conf", &hourly);
    let hostwd = Hostwd::new();
    let name = place.name("web");
    let daemon = host.served(&place, &foreground_entity(&name, &[]));
    let pid = daemon.up(&name);
    // At the start, and when the start delay of a second is over.
    hostwd.petted(2);
    host.pulses_still();
    assert_eq!(hostwd.waiting(), [[0; 0]; 0], "nothing is due for an hour");

    assert!(daemon.terminate().success());
    assert_eq!(hostwd.waiting(), [healthy()], "its last word, and no other");
    assert_eq!(process::instances(&name), [pid], "nothing else is stopped");

    // Whoever comes next is heard first of all: before the gates, which are closed,
    // and before the engine; also when the one before had no last word.
    host.lacks(starlingx::INITIAL_CONFIG);
    let daemon = Daemon::start(&place);
    hostwd.petted(2);
    assert_eq!(process::instances(&name), [pid]);
    assert_eq!(hostwd.waiting(), [[0; 0]; 0]);
    daemon.kill();
    assert_eq!(hostwd.waiting(), [[0; 0]; 0], "it was killed");
    let daemon = Daemon::start(&place);
    hostwd.petted(1);
    assert_eq!(daemon.up(&name), pid);
}
