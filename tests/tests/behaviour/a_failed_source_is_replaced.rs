//! Every source is tried by a canary; one that fails is told, replaced, and used
//! again when it works again. No death in between is lost or told twice.

use std::process::Command;

use pmon_tests::{
    daemon::{self, Daemon, LONG, source},
    events::Events,
    netlink,
    place::{Place, is_bpffs},
    privilege,
    process::Process,
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::Value;

/// The canary's period in these tests.
const EVERY_SECOND: &str = "[daemon]\ncanary_interval = \"1s\"\n";

fn canary_age(daemon: &Daemon, name: &str) -> f64 {
    let source = source(&daemon.status(), name);
    source["last_canary_s"]
        .as_f64()
        .unwrap_or_else(|| panic!("{source:#}"))
}

/// Has the entity killed; it is recovered, and the death told once, by this source.
fn dies_once(daemon: &Daemon, events: &Events, name: &str, detected_by: &str) {
    let pid = daemon.up(name);
    let before = events.count(name, "died");
    let mark = events.mark();
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| event.is(name, "recovered"));
    let successor = daemon.up(name);
    assert_ne!(successor, pid);
    assert_eq!(events.count(name, "died"), before + 1);
    let death = daemon.entity(name)["last_death"].clone();
    assert_eq!(death["pid"], pid, "{death:#}");
    assert_eq!(death["signal"], 9, "{death:#}");
    assert_eq!(death["detected_by"], detected_by, "{death:#}");
}

fn bpftool(arguments: &[&str]) {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn and_all_of_them_are_tried_again_and_again() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    place.configure(EVERY_SECOND);
    let daemon = Daemon::start(&place);
    for name in ["ebpf", "pidfd"] {
        let source = daemon.source_when(name, "healthy");
        assert_eq!(source["canary"], "passed", "{source:#}");
    }
    // A second one came through: the age went down.
    for name in ["ebpf", "pidfd"] {
        let mut last = canary_age(&daemon, name);
        wait::until("another canary is back", LONG, || {
            let age = canary_age(&daemon, name);
            (std::mem::replace(&mut last, age) > age).then_some(())
        });
    }
    let status = daemon.status();
    assert_eq!(status["degraded"], serde_json::json!([]), "{status:#}");
    // They are not among what is monitored, and leave nothing behind.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid()));
    println!("children: {children:?}");
    assert_eq!(status["entities"], serde_json::json!([]));
    let human = daemon.ask(&["status"]).stdout;
    assert!(human.contains("ebpf healthy (canary "), "{human}");
}

#[test]
fn and_pidfds_alone_are_tried_too() {
    let place = Place::new();
    place.configure(EVERY_SECOND);
    let mut command = daemon::command(&place);
    command.args(["--source", "pidfd"]);
    let daemon = Daemon::launch(&place, command);
    let pidfd = daemon.source_when("pidfd", "healthy");
    assert_eq!(pidfd["canary"], "passed", "{pidfd:#}");
    assert_eq!(source(&daemon.status(), "ebpf")["canary"], Value::Null);
}

/// Nothing can be registered in a frozen map: the canary shows it, the program
/// is loaded anew with fresh maps, and everything is registered there.
#[test]
fn when_its_map_is_frozen() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let (web, other) = (place.name("web"), place.name("other"));
    place.configure(&format!(
        "{EVERY_SECOND}{}{}",
        foreground_entity(&web, &[]),
        foreground_entity(&other, &[])
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    dies_once(&daemon, &events, &web, "ebpf");
    let stays = daemon.up(&other);
    let before = daemon.json(&["bpf", "show", "--seconds", "0"]);
    let pins = daemon.status()["daemon"]["pin_dir"].clone();
    let map = format!("{}/pmon_pids", pins.as_str().unwrap());
    let mark = events.mark();
    bpftool(&["map", "freeze", "pinned", &map]);
    let failed = events.after(mark, "it is told", LONG, |event| {
        event.kind == "source_failed"
    });
    assert_eq!(failed.entity, None);
    assert!(failed.text.contains("ebpf"), "{failed:?}");
    println!("{}", failed.text);
    assert!(failed.text.contains("proc-connector"), "{failed:?}");
    events.after(mark, "the next one takes over", LONG, |event| {
        event.kind == "source_proven" && event.text.contains("proc-connector")
    });
    // Whoever reports it: it is told once and recovered.
    let pid = daemon.up(&web);
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| event.is(&web, "recovered"));
    events.after(mark, "it works again", LONG, |event| {
        event.kind == "source_recovered" && event.text.contains("ebpf")
    });
    let ebpf = daemon.source_when("ebpf", "healthy");
    assert_eq!(ebpf["reason"], Value::Null, "{ebpf:#}");
    let after = daemon.json(&["bpf", "show", "--seconds", "0"]);
    assert_ne!(
        before["maps"][0]["id"], after["maps"][0]["id"],
        "fresh maps"
    );
    assert_eq!(daemon.status()["degraded"], serde_json::json!([]));
    // Also what was registered all the time is in the new table.
    assert_eq!(daemon.up(&other), stays);
    dies_once(&daemon, &events, &other, "ebpf");
    dies_once(&daemon, &events, &web, "ebpf");
    assert_eq!(events.count(&web, "died"), 3);
    assert_eq!(events.count(&other, "died"), 1);
    assert!(daemon.log().contains("ERROR"), "an alarm");
}

/// The kernel is told, in the daemon's name, to send it nothing any more.
fn silence_connector(daemon: &Daemon) {
    let socket = netlink::connector_of(daemon.pid());
    netlink::ignore(&socket);
}

#[test]
fn when_the_proc_connector_falls_silent() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&format!("{EVERY_SECOND}{}", foreground_entity(&name, &[])));
    let mut command = daemon::command(&place);
    command.args(["--source", "proc-connector"]);
    let daemon = Daemon::launch(&place, command);
    let events = daemon.events();
    let connector = daemon.source_when("proc-connector", "healthy");
    assert_eq!(connector["canary"], "passed", "{connector:#}");
    assert_eq!(daemon.status()["degraded"], serde_json::json!([]));

    let pid = daemon.up(&name);
    let mark = events.mark();
    silence_connector(&daemon);
    let failed = events.after(mark, "it is told", LONG, |event| {
        event.kind == "source_failed"
    });
    println!("{}", failed.text);
    assert!(failed.text.contains("proc-connector"), "{failed:?}");
    // By whom is a matter of luck; once it is.
    Process::open(pid).unwrap().kill();
    events.after(mark, "recovered", LONG, |event| {
        event.is(&name, "recovered")
    });
    assert_eq!(events.count(&name, "died"), 1);
    events.after(mark, "it works again", LONG, |event| {
        event.kind == "source_recovered" && event.text.contains("proc-connector")
    });
    daemon.source_when("proc-connector", "healthy");
    assert_eq!(daemon.status()["degraded"], serde_json::json!([]));
    assert_eq!(
        events.matching(|event| event.kind == "source_failed").len(),
        1,
        "told once"
    );
    assert_eq!(events.count(&name, "died"), 1);
}

/// Every death of a storm during which the source fails is told once.
#[test]
fn and_no_death_meanwhile_is_lost() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let names: Vec<String> = (0..40)
        .map(|number| place.name(&format!("s{number}")))
        .collect();
    let entities: String = names
        .iter()
        .map(|name| foreground_entity(name, &[]))
        .collect();
    place.configure(&format!("{EVERY_SECOND}{entities}"));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let pids: Vec<u32> = names.iter().map(|name| daemon.up(name)).collect();
    let mark = events.mark();
    let pins = daemon.status()["daemon"]["pin_dir"].clone();
    let map = format!("{}/pmon_pids", pins.as_str().unwrap());
    bpftool(&["map", "freeze", "pinned", &map]);
    // One after the other, from before it is noticed until it works again.
    for pid in &pids {
        Process::open(*pid).unwrap().kill();
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    events.after(mark, "it works again", LONG, |event| {
        event.kind == "source_recovered" && event.text.contains("ebpf")
    });
    for name in &names {
        events.after(mark, "recovered", LONG, |event| event.is(name, "recovered"));
        let _up = daemon.up(name);
    }
    for (name, pid) in names.iter().zip(pids) {
        assert_eq!(events.count(name, "died"), 1, "{name}");
        let death = daemon.entity(name)["last_death"].clone();
        assert_eq!(death["pid"], pid, "{death:#}");
        assert_eq!(death["signal"], 9, "{death:#}");
    }
}
