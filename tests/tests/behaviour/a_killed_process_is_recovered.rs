//! The main job: a death is seen by the kernel program, explained, and made good.

use std::time::Duration;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if,
};

#[test]
fn and_its_death_certificate_tells_how_it_died() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pid = daemon.up(&name);
    let identity = process::identity(pid).unwrap();
    assert_eq!(daemon.entity(&name)["identity"], identity);

    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });

    let successor = daemon.up(&name);
    assert_ne!(successor, pid);
    assert_eq!(process::instances(&name), [successor]);
    let entity = daemon.entity(&name);
    let death = &entity["last_death"];
    assert_eq!(death["pid"], pid);
    assert_eq!(death["cause"], "signal");
    assert_eq!(death["signal"], 9);
    assert_eq!(death["exit_code"], serde_json::Value::Null);
    assert_eq!(death["detected_by"], "ebpf");
    let detected = Duration::from_micros(death["detect_latency_us"].as_u64().unwrap());
    let recovered = Duration::from_micros(death["recovery_latency_us"].as_u64().unwrap());
    println!("detected after {detected:?}, recovered after {recovered:?}");
    assert!(detected < recovered, "{death:#}");
    assert_eq!(events.count(&name, "died"), 1);

    let history = daemon.json(&["history", &name]);
    let incident = &history["incidents"][0];
    assert_eq!(incident["incident"], death["incident"]);
    assert_eq!(incident["result"], "recovered");
    assert_eq!(incident["death"]["pid"], pid);
}
