//! Active monitoring goes on where an earlier daemon left it: whoever had failed to
//! answer has to answer before the alarm goes, attempts count on, and a process
//! gets its full allowance, but not that of one which has just been started.

use pmon_tests::{
    active::{Answering, Language},
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    skip_if,
};
use rustix::process::Signal;
use serde_json::Value;

/// Failed after 5 misses, 2 s; two right answers make a failure good. A process that
/// has never answered is forgiven 180 misses.
const ACTIVE: &str = r#"period = "1s", timeout = "400ms", threshold = 5"#;

fn heartbeat_when(
    daemon: &Daemon,
    name: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    daemon.entity_when(name, what, LONG, |entity| wanted(&entity["heartbeat"]))
}

#[test]
fn and_who_has_answered_before_is_not_taken_for_one_that_comes_up() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let service = Answering::new(&place, Language::Rust);
    let name = service.name.clone();
    place.configure(&service.configuration(ACTIVE, &[("stop", "\"kill-first\"")]));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    heartbeat_when(&daemon, &name, "it has answered", |it| {
        it["last_answer"].is_string()
    });
    daemon.kill();

    // Four misses of five; the next daemon does not know them, and says so.
    let daemon = Daemon::start(&place);
    assert_eq!(daemon.up(&name), pid);
    let process = Process::open(pid).unwrap();
    process.signal(Signal::STOP).unwrap();
    let missing = heartbeat_when(&daemon, &name, "it misses", |it| {
        it["misses"].as_u64() >= Some(2)
    });
    assert_eq!(missing["heartbeat"]["fails_at"], 5, "{missing:#}");
    daemon.kill();
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    // All five of them, and no more than five.
    let failed = events.after(0, "it has failed", LONG, |event| {
        event.is(&name, "unanswered")
    });
    assert!(failed.text.contains("missed 5 requests"), "{}", failed.text);
    assert_eq!(failed.pid, Some(pid));
    assert!(process.ends_within(LONG));
    let successor = daemon.up(&name);
    assert_eq!(process::instances(&name), [successor]);
}

#[test]
fn and_an_alarm_stays_until_there_are_answers() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let service = Answering::new(&place, Language::Rust);
    let name = service.name.clone();
    place.configure(&service.configuration(ACTIVE, &[("restarts", "1")]));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    heartbeat_when(&daemon, &name, "it has answered", |it| {
        it["last_answer"].is_string()
    });
    // From now on it is left alone when it fails.
    place.configure(&service.configuration(ACTIVE, &[("restarts", "0")]));
    assert_eq!(daemon.ask(&["reload"]).code, Some(0));
    let process = Process::open(pid).unwrap();
    process.signal(Signal::STOP).unwrap();
    daemon.entity_when(&name, "its alarm is raised", LONG, |entity| {
        entity["alarm"] == "major"
    });
    daemon.kill();

    // It exists; that is not enough.
    let daemon = Daemon::start(&place);
    let entity = heartbeat_when(&daemon, &name, "it misses again", |it| {
        it["misses"].as_u64() >= Some(3)
    });
    assert_eq!(entity["alarm"], "major", "{entity:#}");
    assert_ne!(entity["state"], "up", "{entity:#}");
    assert!(process.is_alive());
    process.signal(Signal::CONT).unwrap();
    let entity = daemon.entity_when(&name, "healthy", LONG, |entity| {
        entity["state"] == "up" && entity["alarm"].is_null()
    });
    assert_eq!(entity["pid"], pid);
    assert!(
        entity["heartbeat"]["answers"].as_u64() >= Some(2),
        "{entity:#}"
    );
}

#[test]
fn and_attempts_before_and_after_add_up_to_an_alarm() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let service = Answering::new(&place, Language::Rust);
    let name = service.name.clone();
    // Silence after a start is forgiven 9 times here.
    let active = r#"period = "20s", timeout = "250ms", threshold = 9"#;
    place.configure(
        &service.configuration(active, &[("restarts", "2"), ("stop", "\"kill-first\"")]),
    );
    service.fault(Some("silent"));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    events.after(0, "the first failure to answer", LONG, |event| {
        event.is(&name, "unanswered")
    });
    daemon.entity_when(&name, "the second attempt is asked", LONG, |entity| {
        entity["stage"] == "manage" && entity["restarts"]["auto"] == 2
    });
    daemon.kill();
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let raised = events.after(0, "the alarm", LONG, |event| {
        event.is(&name, "alarm_raised")
    });
    let story = events.all();
    let failures = story
        .iter()
        .take_while(|event| event.seq <= raised.seq)
        .filter(|event| event.is(&name, "unanswered"))
        .count();
    assert_eq!(failures, 1, "the third pass raises it");
}
