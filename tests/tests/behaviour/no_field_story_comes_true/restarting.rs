//! Stories of restarts that were judged too early, and of restarts at a time when
//! somebody else was at work.

use std::fs;

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    events::Event,
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, entity, executable, quoted},
    skip_if,
    starlingx::{self, CLEAR, Host, READY},
    wait,
};

/// S5: a manual restart did not wait for `startuptime`, so a late pidfile was a
/// failure; and each manual restart counted, so that a single crash afterwards
/// raised the alarm at once.
#[test]
fn s05_a_manual_restart_waits_for_a_late_pidfile_and_counts_nothing() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("collectd");
    let (pidfile, broken) = (place.path("collectd.pid"), place.path("broken"));
    // The command has ended long before the process and its pidfile are there.
    let script = format!(
        "test -e '{}' && exit 1; (sleep 0.5; exec '{}' --background --tag '{name}' \
         --pidfile '{}') >/dev/null 2>&1 &",
        broken.display(),
        binary::service().display(),
        pidfile.display(),
    );
    let command = format!("[\"/bin/sh\", \"-c\", {script:?}]");
    place.configure(&entity(
        &name,
        &[
            ("command", &command),
            ("daemonizes", "true"),
            ("pidfile", &quoted(&pidfile)),
            ("startuptime", "\"3s\""),
            ("restarts", "1"),
        ],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let mut pid = daemon.up(&name);
    let first = events.mark();
    for _ in 0..2 {
        let answer = daemon.ask(&["restart", &name, "--wait"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let next = daemon.up(&name);
        assert_ne!(next, pid);
        pid = next;
    }
    let kinds = |mark: usize| -> Vec<String> {
        let told = ["first_failure", "spawned", "attempt_failed", "alarm_raised"];
        let all = events.all();
        let since = all.iter().skip(mark);
        let of = since.filter(|event| event.entity.as_ref() == Some(&name));
        of.map(|event| event.kind.clone())
            .filter(|kind| told.contains(&kind.as_str()))
            .collect()
    };
    assert_eq!(kinds(first), ["spawned"; 2]);
    assert_eq!(daemon.entity(&name)["restarts"]["operator"], 2);

    // A crash after that is the first one.
    let crash = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(crash, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });
    assert_eq!(kinds(crash), ["first_failure", "spawned"]);

    // And the alarm comes on pass `restarts` + 1, not before.
    let pid = daemon.up(&name);
    fs::write(&broken, "").unwrap();
    let crash = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(crash, "an alarm", LONG, |event| {
        event.is(&name, "alarm_raised")
    });
    let expected = ["first_failure", "spawned", "attempt_failed", "alarm_raised"];
    assert_eq!(kinds(crash)[..4], expected);
}

/// S10: sm and collectd needed 3 to 6 s for their start where `startuptime` said
/// less; they were killed in the middle of it and that was called a failure.
#[test]
fn s10_a_start_that_takes_longer_than_its_window_is_neither_ended_nor_a_failure() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("sm"), &[]);
    let quick = fs::read_to_string(&lsb.script).unwrap();
    let (inner, starts) = (place.path("inner"), place.path("starts"));
    executable(&inner, &quick);
    place.configure(&lsb.entity(&[("restarts", "1")]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let first = daemon.up(&lsb.name);
    let slow = format!(
        "#!/bin/sh\necho \"$1\" >>'{}'\ntest \"$1\" = stop || sleep 2\nexec '{}' \"$1\"\n",
        starts.display(),
        inner.display(),
    );
    executable(&lsb.script, &slow);
    let mark = events.mark();
    Process::open(first).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&lsb.name, "recovered")
    });
    let second = daemon.up(&lsb.name);
    assert_ne!(second, first);
    let answer = daemon.ask(&["restart", &lsb.name, "--wait"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let third = daemon.up(&lsb.name);
    assert_eq!(process::instances(&lsb.name), [third]);
    let entity = daemon.entity(&lsb.name);
    assert_eq!(
        entity["restarts"]["auto"], 2,
        "the first, and one: {entity:#}"
    );
    assert!(entity["alarm"].is_null(), "{entity:#}");
    let all = events.all();
    let bad = |event: &&Event| matches!(&*event.kind, "attempt_failed" | "start_failed");
    assert_eq!(all.iter().skip(mark).find(bad), None);
    let starts = fs::read_to_string(&starts).unwrap();
    let starts = starts.lines().filter(|verb| *verb != "stop").count();
    assert_eq!(starts, 2, "one command for each");
}

/// S14: docker was restarted while an all-in-one host was still being configured;
/// `subfunction = last-config` was the cure, and the registration audit and each
/// reload undid it.
#[test]
fn s14_nothing_is_done_to_it_before_the_last_configuration() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    host.platform("All-in-one", "controller,worker");
    let lsb = Lsb::new(&place, &place.name("dockerd"), &[]);
    lsb.by_hand("start");
    let text = lsb.pmon_d(1, 1, 1) + "subfunction = last-config\n";
    place.pmon_d_file("docker.conf", &text);
    let settings = "[daemon]\naudit_interval = \"1s\"\nreload_settle = \"200ms\"\n";
    let daemon = host.served(&place, settings);
    daemon.in_stage(&lsb.name, "polling");

    // The configuration's own doings, with a reload in the middle of them.
    Process::open(lsb.pid().unwrap()).unwrap().kill();
    let generation = |daemon: &Daemon| daemon.status()["daemon"]["config_generation"].as_u64();
    let before = generation(&daemon);
    place.pmon_d_file("docker.conf", text.replace("restarts = 3", "restarts = 5"));
    wait::until("the reload", LONG, || {
        (generation(&daemon) > before).then_some(())
    });
    let sweeps = || daemon.status()["audit"]["sweeps"].as_u64().unwrap();
    let before = sweeps();
    wait::until("a sweep", LONG, || (sweeps() > before).then_some(()));
    assert_eq!(process::instances(&lsb.name), [0; 0]);
    lsb.by_hand("start");
    lsb.by_hand("restart");
    let events = daemon.events();
    // Another daemon in between knows no better.
    assert!(daemon.terminate().success());
    lsb.by_hand("restart");
    let daemon = Daemon::start(&place);
    let later = daemon.events();
    let entity = daemon.in_stage(&lsb.name, "polling");
    assert_eq!(entity["registered"], false);
    assert!(entity["alarm"].is_null(), "{entity:#}");
    let configured = lsb.pid().unwrap();

    host.has("/var/run/.worker_config_complete");
    assert_eq!(
        daemon.up(&lsb.name),
        configured,
        "the one of the configuration"
    );
    for events in [&events, &later] {
        for kind in ["spawned", "signalled", "first_failure", "died"] {
            assert_eq!(events.count(&lsb.name, kind), 0, "{kind}");
        }
    }
    host.agent.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2048];
    while let Ok(length) = host.agent.recv(&mut buffer) {
        let command = u32::from_ne_bytes(buffer[72..76].try_into().unwrap());
        let text = String::from_utf8_lossy(&buffer[100..length]).into_owned();
        assert!([READY, CLEAR].contains(&command), "{command:x}: {text}");
    }
    // From now on it is monitored.
    Process::open(configured).unwrap().kill();
    daemon.entity_when(&lsb.name, "a successor", LONG, |entity| {
        entity["state"] == "up" && entity["pid"] != configured
    });
    assert_eq!(later.count(&lsb.name, "spawned"), 1);
}
