//! Ending a process: out of the kernel table, pidfile away, and only then the
//! signal; SIGTERM with patience, then SIGKILL; or SIGKILL at once.

use std::{fs, thread, time::Duration};

use pmon_tests::{
    daemon::{Daemon, LONG, pid_of},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, entity, executable, foreground, foreground_entity},
    skip_if, wait,
};

#[test]
fn unregistered_then_pidfile_then_signal() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("witness");
    let witness = place.path("seen");
    let option = format!("--witness '{}'", witness.display());
    let lsb = Lsb::new(&place, &name, &[&option]);
    place.configure(&lsb.entity(&[]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let old = daemon.up(&name);
    let restarted = daemon.json(&["restart", &name, "--wait", "--reason", "test"]);
    let new = pid_of(&restarted["entities"][0]);
    assert_ne!(new, old);
    assert_eq!(fs::read_to_string(&witness).unwrap(), "removed");
    assert_eq!(process::instances(&name), [new]);

    let kinds: Vec<_> = events
        .matching(|event| event.pid == Some(old))
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let at = |kind: &str| kinds.iter().position(|found| found == kind);
    assert!(
        at("unregistered").unwrap() < at("signalled").unwrap(),
        "{kinds:?}"
    );
    assert_eq!(at("died"), None, "an end that was asked for is no death");
    events.after(0, "restarted", LONG, |event| event.is(&name, "restarted"));
    let entity = daemon.entity(&name);
    assert_eq!(entity["restarts"]["operator"], 1);
    assert_eq!(entity["deaths_1h"], 0);
    assert_eq!(entity["alarm"], serde_json::Value::Null);
}

#[test]
fn sigkill_after_the_timeout() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("stubborn");
    let command = foreground(&name, &["--ignore-term"]);
    place.configure(&entity(
        &name,
        &[
            ("command", &command),
            ("stop", "{ signal = \"TERM\", timeout = \"4s\" }"),
        ],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let old = Process::open(daemon.up(&name)).unwrap();
    daemon.json(&["restart", &name]);
    assert!(!old.ends_within(Duration::from_millis(400)), "no patience");
    assert!(old.ends_within(LONG));
    let new = daemon.up(&name);
    assert_ne!(new, old.pid());
    assert_eq!(process::instances(&name), [new]);
    let signals = events.matching(|event| event.is(&name, "signalled"));
    let texts: Vec<_> = signals.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].ends_with("signal 15") && texts[1].ends_with("signal 9"),
        "{texts:?}"
    );
}

#[test]
fn sigkill_at_once_where_configured() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("abrupt");
    let seen = place.path("seen");
    let command = foreground(&name, &["--witness", &seen.to_string_lossy()]);
    place.configure(&entity(
        &name,
        &[("command", &command), ("stop", "\"kill-first\"")],
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let _pid = daemon.up(&name);
    daemon.json(&["stop", &name, "--wait"]);
    let signals = events.matching(|event| event.is(&name, "signalled"));
    assert_eq!(signals.len(), 1);
    assert!(signals[0].text.ends_with("signal 9"), "{}", signals[0].text);
    assert!(!seen.exists());
    assert!(process::instances(&name).is_empty());
}

#[test]
fn and_waiting_for_it_means_that_it_is_gone() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    for _ in 0..10 {
        let pid = Process::open(daemon.up(&name)).unwrap();
        daemon.json(&["stop", &name, "--wait"]);
        assert!(!pid.is_alive());
        assert_eq!(daemon.entity(&name)["state"], "down");
        daemon.json(&["start", &name, "--wait"]);
        assert_eq!(process::instances(&name).len(), 1);
    }
    // Unknown names are refused before anything is done to the known ones.
    let answer = daemon.ask(&["stop", &name, "no-such"]);
    assert_eq!(answer.code, Some(4), "{answer:?}");
    assert_eq!(daemon.entity(&name)["state"], "up");
}

/// A daemon that is slow to write its pidfile was being started when it was to
/// be stopped: nobody has started it since.
#[test]
fn and_a_start_that_was_under_way_is_not_taken_for_somebody_elses() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("late");
    let lsb = Lsb::new(&place, &name, &[]);
    let late = format!(
        "#!/bin/sh\n[ \"$1\" = start ] && setsid sh -c 'sleep 0.7; exec {} --tag {name} --pidfile {}' &\n",
        pmon_tests::binary::service().display(),
        lsb.pidfile.display(),
    );
    executable(&lsb.script, &late);
    place.configure(&lsb.entity(&[("startuptime", "\"5s\"")]));
    let daemon = Daemon::start(&place);
    daemon.in_stage(&name, "monitor_wait");
    thread::sleep(Duration::from_millis(200));
    let events = daemon.events();
    daemon.json(&["stop", &name, "--wait"]);
    // Whether it comes before the stop or after it.
    events.after(0, "the late one is ended", LONG, |event| {
        event.is(&name, "signalled")
    });
    wait::until("it is gone", LONG, || {
        process::instances(&name).is_empty().then_some(())
    });
    thread::sleep(Duration::from_millis(500));
    let entity = daemon.entity(&name);
    assert_eq!(entity["state"], "down", "the stop was undone: {entity:#}");
    assert_eq!(entity["restarts"]["external"], 0);
    assert!(process::instances(&name).is_empty());
}
