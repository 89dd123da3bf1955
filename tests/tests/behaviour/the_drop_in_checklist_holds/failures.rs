//! Line 8: what others are told of failures, and when.

use pmon_tests::{
    daemon::LONG,
    place::Place,
    script::{self, Lsb},
    skip_if,
    starlingx::{
        self, AgentEvent, CLEAR, Host, Hostwd, LOG, MAJOR, READY, about, beyond_recovery, healthy,
    },
};

/// `restarts` of the member of the quorum.
const RESTARTS: usize = 2;

#[test]
fn line_08_failures_are_told_at_pmonds_cadence() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    let hostwd = Hostwd::new();
    let lsb = Lsb::new(&place, &place.name("sm"), &[]);
    let name = &lsb.name;
    let restarts = RESTARTS.to_string();
    let entity = lsb.entity(&[
        ("severity", "\"major\""),
        ("restarts", &restarts),
        ("quorum", "true"),
        // The second round comes after everything else was told.
        (
            "backoff",
            "{ initial = \"2s\", factor = 1, max = \"2s\", jitter = 0 }",
        ),
    ]);
    let daemon = host.served(&place, &entity);
    let events = daemon.events();
    let pid = daemon.up(name);
    let clear = (CLEAR, about(None));
    assert_eq!(host.event(), (READY, about(Some("pmond"))));
    assert_eq!(host.event(), clear);
    // Of the very first start.
    let next = || -> AgentEvent {
        loop {
            let event = host.event();
            if event != clear {
                return event;
            }
        }
    };
    let log = (LOG, about(Some(name)));
    assert_eq!(next(), log);
    // A healthy host says so every 10 s.
    assert_eq!(host.event(), clear);

    // LOG at the first failure; nothing at further ones; the alarm on pass
    // `restarts` + 1.
    let mark = events.mark();
    script::executable(&lsb.script, "#!/bin/sh\nexit 1\n");
    pmon_tests::process::Process::open(pid).unwrap().kill();
    assert_eq!(next(), log);
    let major = (MAJOR, about(Some(name)));
    assert_eq!(next(), major, "nothing in between");
    events.after(mark, "the alarm", LONG, |event| {
        event.is(name, "alarm_raised")
    });
    let all = events.all();
    let before_alarm = all
        .iter()
        .skip(mark)
        .take_while(|event| !event.is(name, "alarm_raised"));
    let attempts = before_alarm.filter(|event| event.is(name, "attempt_failed"));
    assert_eq!(attempts.count(), RESTARTS);

    // The first strike; the second after as many attempts again, and then hostwd
    // knows.
    let failed = beyond_recovery(name);
    let told = loop {
        let message = hostwd.next();
        if message != healthy() {
            break message;
        }
    };
    assert_eq!(told, failed);
    for kind in ["quorum_failure", "quorum_unrecoverable"] {
        assert_eq!(events.count(name, kind), 1, "{kind}");
    }
    // As long as it lasts: no CLEAR, and MAJOR again after 40 s.
    assert_eq!(host.event(), major);
    let second = daemon.entity(name);
    assert_eq!(second["alarm"], "major", "{second:#}");

    // The end of it.
    let _works = Lsb::new(&place, name, &[]);
    daemon.json(&["restart", name]);
    let _pid = daemon.up(name);
    while hostwd.next() == failed {}
    loop {
        let event = host.event();
        if event == clear {
            break;
        }
        assert_eq!(event, major);
    }
}
