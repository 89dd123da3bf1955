//! Nothing is signalled before it is unregistered and its pidfile has been dealt
//! with: told by the executor's own trace, which the harness checks in every
//! test; here that it is there, and that the check would notice.

use pmon_tests::{
    daemon::{Daemon, LONG, pid_of},
    order::{self, Checked},
    place::Place,
    privilege, process,
    script::{Lsb, entity, foreground},
    skip_if, wait,
};

#[test]
fn in_the_executors_trace() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let lsb = Lsb::new(&place, &place.name("web"), &[]);
    let bare = place.name("bare");
    let command = foreground(&bare, &["--ignore-term"]);
    let stubborn = entity(
        &bare,
        &[
            ("command", &command),
            ("stop", "{ signal = \"TERM\", timeout = \"500ms\" }"),
        ],
    );
    place.configure(&format!("{}{stubborn}", lsb.entity(&[])));
    let daemon = Daemon::start(&place);
    for name in [&lsb.name, &bare] {
        let old = daemon.up(name);
        let restarted = daemon.json(&["restart", name, "--wait"]);
        let new = pid_of(&restarted["entities"][0]);
        assert_ne!(new, old);
        assert_eq!(process::instances(name), [new]);
    }
    // The log is written by a thread of its own.
    let seen = wait::until("the trace is written", LONG, || {
        let seen = order::check(&daemon.log()).unwrap();
        (seen.signals >= 3).then_some(seen)
    });
    // SIGTERM to each, SIGKILL to the stubborn one; the pidfile before each.
    assert_eq!(seen.signals, 3, "{seen:?}");
    assert!(seen.pidfiles >= 3, "{seen:?}");
    let log = daemon.log();
    let pidfile = |line: &&str| line.contains(" pidfile removed of ");
    assert_eq!(log.lines().filter(pidfile).count(), 1, "{log}");
}

/// Lines as the daemon writes them, of one process.
fn trace(deeds: &[&str]) -> String {
    let line = |deed: &&str| format!("2026-01-01T00:00:00Z DEBUG order: 7@70 {deed} of web\n");
    deeds.iter().map(line).collect()
}

#[test]
fn and_any_other_order_is_noticed() {
    let right = ["registered", "unregistered", "pidfile removed", "signal 15"];
    let expected = Checked {
        registrations: 2,
        pidfiles: 1,
        signals: 1,
    };
    assert_eq!(order::check(&trace(&right)), Ok(expected));
    for wrong in [
        ["registered", "pidfile removed", "signal 15", "unregistered"],
        ["registered", "unregistered", "signal 15", "pidfile removed"],
        ["registered", "signal 15", "unregistered", "pidfile removed"],
        ["unregistered", "pidfile removed", "registered", "signal 15"],
        [
            "unregistered",
            "leftovers ended",
            "pidfile removed",
            "signal 15",
        ],
        ["registered", "unregistered", "pidfile removed", "slain"],
    ] {
        let told = order::check(&trace(&wrong));
        assert!(told.is_err(), "{wrong:?}: {told:?}");
    }
    // Another process's deeds are no excuse.
    let other = trace(&right[..3]).replace("7@70", "8@80") + &trace(&["signal 9"]);
    assert!(order::check(&other).is_err());
}
