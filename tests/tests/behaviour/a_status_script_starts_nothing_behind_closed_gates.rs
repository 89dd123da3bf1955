//! In status mode nothing is started that would not be started for a process that has
//! died: not before the host is ready, not in a shutdown, not before the part of the
//! host that it belongs to is configured (field stories S4 and S18).

use std::fs;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    script, skip_if,
    starlingx::{self, GOENABLED, Host},
    wait,
};

/// A script that notes its argument and is content once it was told to start.
fn write_script(place: &Place, name: &str) -> std::path::PathBuf {
    let path = place.path(&format!("{name}.script"));
    let directory = place.path(name);
    fs::create_dir_all(&directory).unwrap();
    let text = format!(
        "#!/bin/sh\necho \"$1\" >>{dir}/calls\n\
         case \"$1\" in start) : >{dir}/good ;; *) [ -e {dir}/good ] ;; esac\n",
        dir = directory.display()
    );
    script::executable(&path, &text);
    path
}

fn calls(place: &Place, name: &str, what: &str) -> usize {
    let calls = fs::read_to_string(place.path(name).join("calls")).unwrap_or_default();
    calls.lines().filter(|line| *line == what).count()
}

fn asked_entity(name: &str, path: &std::path::Path, settings: &[(&str, &str)]) -> String {
    let table = format!(
        "{{ script = {}, start_arg = \"start\", status_arg = \"status\", \
         period = \"200ms\", timeout = \"60s\" }}",
        script::quoted(path)
    );
    let mut all = vec![("mode", "\"status\""), ("status", table.as_str())];
    all.extend(settings);
    script::entity(name, &all)
}

fn asked_again(place: &Place, name: &str) {
    let before = calls(place, name, "status");
    wait::until("it was asked three times more", LONG, || {
        (calls(place, name, "status") >= before + 3).then_some(())
    });
}

#[test]
fn v15_not_before_the_host_is_ready_and_not_in_a_shutdown() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    host.lacks(GOENABLED);
    let name = place.name("asked");
    let path = write_script(&place, &name);
    place.configure(&format!(
        "{}{}",
        host.configuration(),
        asked_entity(&name, &path, &[("restarts", "0")])
    ));
    let daemon = Daemon::start(&place);
    let entity = daemon.in_stage(&name, "gated");
    let problem = entity["problem"].as_str().unwrap();
    assert!(problem.contains("goenabled"), "{problem}");
    asked_again(&place, &name);
    assert_eq!(calls(&place, &name, "start"), 0);
    assert_eq!(daemon.entity(&name)["alarm"], serde_json::Value::Null);
    host.has(GOENABLED);
    let up = |daemon: &Daemon| {
        daemon.entity_when(&name, "it is up", LONG, |entity| entity["state"] == "up")
    };
    up(&daemon);
    assert_eq!(calls(&place, &name, "start"), 1);

    host.system_state("stopping");
    drop(daemon);
    // A daemon finds out at its start whether systemd runs the host.
    let daemon = Daemon::start(&place);
    up(&daemon);
    fs::remove_file(place.path(&name).join("good")).unwrap();
    let entity = daemon.in_stage(&name, "gated");
    let problem = entity["problem"].as_str().unwrap();
    assert!(problem.contains("shutting down"), "{problem}");
    asked_again(&place, &name);
    assert_eq!(calls(&place, &name, "start"), 1);
    // The shutdown is called off.
    host.system_state("running");
    up(&daemon);
    assert_eq!(calls(&place, &name, "start"), 2);
}

#[test]
fn s4_not_before_its_part_of_the_host_is_configured() {
    skip_if!(starlingx::no_host());
    let place = Place::new();
    let host = Host::new(&place);
    host.platform("All-in-one", "controller,worker");
    let name = place.name("asked");
    let other = place.name("other");
    let path = write_script(&place, &name);
    let other_path = write_script(&place, &other);
    place.configure(&format!(
        "{}{}{}",
        host.configuration(),
        asked_entity(&name, &path, &[("subfunction", "\"worker\"")]),
        asked_entity(&other, &other_path, &[]),
    ));
    let daemon = Daemon::start(&place);
    let entity = daemon.in_stage(&name, "polling");
    assert_eq!(entity["state"], "unknown");
    // Another one's period has passed several times.
    asked_again(&place, &other);
    assert_eq!(calls(&place, &name, "status"), 0);
    host.has("/var/run/.worker_config_complete");
    daemon.entity_when(&name, "it is up", LONG, |entity| entity["state"] == "up");
    assert_eq!(calls(&place, &name, "start"), 1);
}
