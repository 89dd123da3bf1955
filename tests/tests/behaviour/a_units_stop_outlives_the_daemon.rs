//! Somebody has stopped a unit through systemd: that is heeded by every later pmon,
//! until the unit is started again. Against the real systemd.

use std::{thread, time::Duration};

use pmon_tests::{
    place::Place,
    script::entity,
    systemd::{Host, service, starts},
};

const NAME: &str = "web";
const UNIT: &str = "web.service";

/// Long enough for a needless start to show.
const SETTLED: Duration = Duration::from_secs(2);

fn assert_stays_down(host: &Host, place: &Place, expected: usize) {
    let web = host.entity_when(NAME, "it is stopped", |web| web["stage"] == "stopped");
    assert!(web["alarm"].is_null(), "{web:#}");
    thread::sleep(SETTLED);
    let web = host.entity(NAME);
    assert_eq!(web["stage"], "stopped", "{web:#}");
    assert_eq!(web["state"], "down");
    assert_eq!(host.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(starts(place, NAME), expected);
}

#[test]
fn until_the_unit_is_started_again() {
    let place = Place::new();
    let pidfile = format!("{:?}", place.path("web.pid").to_str().unwrap());
    let settings = [("service", "\"web\""), ("pidfile", pidfile.as_str())];
    place.configure(&entity(NAME, &settings));
    let host = Host::boot(&place, &[service(&place, NAME, "")]);
    host.systemctl(&["start", UNIT]);
    host.start_pmon();
    host.up(NAME);
    host.systemctl(&["stop", UNIT]);
    assert_stays_down(&host, &place, 1);

    // Killed, and stopped in order.
    host.systemctl(&["kill", "--signal=KILL", "pmon.service"]);
    host.start_pmon();
    assert_stays_down(&host, &place, 1);
    host.systemctl(&["restart", "pmon.service"]);
    assert_stays_down(&host, &place, 1);

    // Started, and crashed, while there was no pmon: that stop is over.
    host.systemctl(&["stop", "pmon.service"]);
    host.systemctl(&["start", UNIT]);
    let main: u32 = host.property(UNIT, "MainPID").parse().unwrap();
    host.kill(main);
    host.start_pmon();
    assert_ne!(host.up(NAME), main);
    assert_eq!(starts(&place, NAME), 3);

    // And what pmon is asked for overrules a later one.
    host.systemctl(&["stop", UNIT]);
    assert_stays_down(&host, &place, 3);
    host.systemctl(&["restart", "pmon.service"]);
    assert_stays_down(&host, &place, 3);
    let answer = host.ask(&["start", NAME, "--wait"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    host.systemctl(&["restart", "pmon.service"]);
    let pid = host.up(NAME);
    assert_eq!(starts(&place, NAME), 4);
    // From here on a crash is one.
    host.kill(pid);
    host.entity_when(NAME, "another one is up", |web| {
        web["state"] == "up" && web["registered"] == true && web["pid"] != pid
    });
}
