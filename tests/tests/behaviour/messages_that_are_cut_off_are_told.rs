//! What the proc connector hears makes no sense: that is told until it makes
//! sense again, and every death is noticed meanwhile, each once.

use std::process::Command;

use pmon_tests::{
    daemon::{self, Daemon, LONG, source},
    netlink, pins,
    place::Place,
    privilege,
    process::Process,
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::{Value, json};

/// Bytes that are left of a message of 76: of its first header, of its second,
/// of the event.
const KEPT: [u32; 4] = [4, 20, 40, 60];

#[test]
fn and_nobody_dies_unseen() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let mut command = daemon::command(&place);
    command.args(["--source", "proc-connector"]);
    let daemon = Daemon::launch(&place, command);
    let events = daemon.events();
    let mut deaths = Vec::new();
    for kept in KEPT {
        daemon.source_when("proc-connector", "healthy");
        assert_eq!(daemon.status()["degraded"], json!([]));
        let pid = daemon.up(&name);
        let mark = events.mark();
        let socket = netlink::connector_of(daemon.pid());
        netlink::truncate(&socket, kept);
        Process::open(pid).unwrap().kill();
        deaths.push(pid);
        events.after(mark, "recovered", LONG, |event| {
            event.is(&name, "recovered")
        });
        let death = daemon.entity(&name)["last_death"].clone();
        assert_eq!(death["pid"], pid);
        assert_eq!(death["detected_by"], "pidfd", "{death:#}");
        let connector = daemon.source_when("proc-connector", "degraded");
        let reason = connector["reason"].as_str().unwrap();
        println!("{kept}: {reason}");
        assert!(reason.starts_with("not understood: "), "{reason}");

        netlink::leave_whole(&socket);
        // Any exit is understood.
        wait::until("it is understood again", LONG, || {
            assert!(Command::new("true").status().unwrap().success());
            let connector = source(&daemon.status(), "proc-connector");
            (connector["state"] == "healthy").then_some(())
        });
        let connector = source(&daemon.status(), "proc-connector");
        assert_eq!(connector["reason"], Value::Null, "{connector:#}");
    }
    assert_eq!(events.count(&name, "died"), deaths.len());
    let told = pins::deaths(&daemon, &name).len();
    assert_eq!(told, deaths.len(), "each once");
}

/// One that is not understood hears no canary either, and is started anew.
#[test]
fn and_the_source_is_replaced_if_it_goes_on() {
    skip_if!(privilege::no_root());
    let place = Place::new();
    place.configure("[daemon]\ncanary_interval = \"1s\"\n");
    let mut command = daemon::command(&place);
    command.args(["--source", "proc-connector"]);
    let daemon = Daemon::launch(&place, command);
    daemon.source_when("proc-connector", "healthy");
    let events = daemon.events();
    let mark = events.mark();
    let socket = netlink::connector_of(daemon.pid());
    netlink::truncate(&socket, KEPT[1]);
    events.after(mark, "it is told", LONG, |event| {
        event.kind == "source_failed" && event.text.contains("proc-connector")
    });
    events.after(mark, "it works again", LONG, |event| {
        event.kind == "source_recovered" && event.text.contains("proc-connector")
    });
    daemon.source_when("proc-connector", "healthy");
    assert_eq!(daemon.status()["degraded"], json!([]));
}
