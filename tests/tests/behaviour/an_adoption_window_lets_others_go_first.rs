//! With an adoption window a successor that somebody else starts after a death
//! is adopted; pmon starts one only when the window has closed without any.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use pmon_tests::{
    binary,
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::{Lsb, foreground_entity},
    skip_if,
};

/// Far longer than whoever is first needs.
const LONG_WINDOW: (&str, &str) = ("adoption_window", "\"10min\"");

#[test]
fn with_a_pidfile() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = &lsb.name;
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1h\"\n{}",
        lsb.entity(&[LONG_WINDOW])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let old = daemon.up(name);
    let mark = events.mark();
    Process::open(old).unwrap().kill();
    events.after(mark, "the window is open", LONG, |event| {
        event.is(name, "awaiting_successor")
    });
    let entity = daemon.in_stage(name, "waiting");
    assert_eq!(entity["state"], "recovering", "{entity:#}");
    thread::sleep(Duration::from_millis(300));
    assert!(process::instances(name).is_empty(), "pmon waits");
    // In a way that no init script shows.
    let mut service = Command::new(binary::service());
    service.args(["--tag", name, "--background", "--pidfile"]);
    let status = service
        .arg(&lsb.pidfile)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let adopted = events.after(mark, "adopted", LONG, |event| event.is(name, "registered"));
    assert_eq!(adopted.pid, lsb.pid());
    let one = events.after(mark, "one instance", LONG, |event| {
        event.is(name, "one_instance")
    });
    assert_eq!(one.pid, lsb.pid());
    assert_eq!(process::instances(name), [daemon.up(name)]);
    let spawned = events.matching(|event| event.is(name, "spawned"));
    assert!(
        spawned
            .iter()
            .all(|event| event.seq <= events.all()[mark - 1].seq)
    );
    assert_eq!(daemon.entity(name)["restarts"]["external"], 1);
}

#[test]
fn and_without_one_by_its_likeness() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1h\"\n{}",
        foreground_entity(&name, &[LONG_WINDOW])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let old = daemon.up(&name);
    // Until it is known what it is like.
    events.after(0, "it is counted", LONG, |event| {
        event.is(&name, "one_instance")
    });
    let mark = events.mark();
    Process::open(old).unwrap().kill();
    daemon.in_stage(&name, "waiting");
    // Start times are told in hundredths of a second.
    thread::sleep(Duration::from_millis(100));
    let mut next = Command::new(binary::service())
        .args(["--tag", &name])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let adopted = events.after(mark, "adopted", LONG, |event| event.is(&name, "registered"));
    assert_eq!(adopted.pid, Some(next.id()));
    assert_eq!(daemon.up(&name), next.id());
    let spawned = events.matching(|event| event.is(&name, "spawned"));
    assert_eq!(spawned.len(), 1, "the first start: {spawned:?}");
    daemon.json(&["stop", &name, "--wait"]);
    next.wait().unwrap();
}

#[test]
fn but_not_for_ever() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let name = &lsb.name;
    place.configure(&lsb.entity(&[("adoption_window", "\"300ms\"")]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let old = daemon.up(name);
    let mark = events.mark();
    Process::open(old).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| event.is(name, "recovered"));
    let kinds: Vec<_> = events.all()[mark..]
        .iter()
        .filter(|event| event.is(name, "awaiting_successor") || event.is(name, "spawned"))
        .map(|event| event.kind.clone())
        .collect();
    assert_eq!(kinds, ["awaiting_successor", "spawned"]);
    assert_eq!(process::instances(name), [daemon.up(name)]);
}
