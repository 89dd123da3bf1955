//! Lines 6 and 7: files as the original reads them, and the gates of a host.

use std::{fs, os::unix::fs::symlink};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege, process,
    script::{Lsb, foreground_entity},
    skip_if,
    starlingx::{self, GOENABLED, Host, INITIAL_CONFIG},
};
use serde_json::Value;

/// A file of pmon.d, with these lines in the middle of it.
fn file(name: &str, lines: &str) -> String {
    format!(
        "; the licence\n[process]\nprocess  = {name}  ; a comment\nscript = /bin/true\n\
         pidfile = /run/{name}.pid\n{lines}\nrestarts = 3\ninterval = 5\ndebounce = 20\n"
    )
}

fn listed_by_name(listed: &[Value]) -> Vec<&Value> {
    let mut sorted: Vec<&Value> = listed.iter().collect();
    sorted.sort_by_key(|entity| entity["name"].as_str());
    sorted
}

#[test]
fn line_06_files_mean_what_they_mean_to_the_original() {
    let place = Place::new();
    let name = |stem: &str| place.name(stem);
    let common = "style = lsb\nseverity = minor\nmode = ignore";
    // No suffix, and a link.
    place.pmon_d_file("logmgmt", file(&name("plain"), common));
    fs::write(place.path("linked.pmon"), file(&name("linked"), common)).unwrap();
    symlink("../linked.pmon", place.pmon_d().join("linked.conf.pmon")).unwrap();
    // An indented line is another value of the key before it; an indented comment
    // is a comment.
    let continued = "style = lsb\nseverity = minor\nmode = passive\n  ignore\n  ; quorum = 1";
    place.pmon_d_file("continued.conf", file(&name("continued"), continued));
    // `style` must be there, though nobody uses it: the original rejects the file
    // in silence, pmon monitors what can be monitored and tells of it.
    let without = "severity = minor\nmode = passive";
    place.pmon_d_file("styleless.conf", file(&name("styleless"), without));
    // A mode that does not exist. The original ignores the process and does not say
    // so; pmon takes it for a passive one, and says so: only `ignore` is a wish to
    // ignore (docs/adr/0005).
    let typo = "style = lsb\nseverity = minor\nmode = Passive";
    place.pmon_d_file("typo.conf", file(&name("typo"), typo));
    // Keys of active mode count after `mode` only; the same again.
    let early = "style = lsb\nseverity = minor\nport = 2201\nperiod = 5\ntimeout = 4\n\
                 threshold = 5\nmode = active";
    place.pmon_d_file("early.conf", file(&name("early"), early));
    let daemon = Daemon::start(&place);
    let listed = daemon.json(&["list"]);
    let listed = listed["entities"].as_array().unwrap();
    let sorted = listed_by_name(listed);
    let names: Vec<&str> = (sorted.iter())
        .map(|entity| entity["name"].as_str().unwrap())
        .collect();
    let all = ["continued", "early", "linked", "plain", "styleless", "typo"];
    assert_eq!(names, all.map(name));
    for (entity, stem) in sorted.iter().zip(all) {
        let monitored = ["early", "styleless", "typo"].contains(&stem);
        assert_eq!(entity["stage"] != "unmonitored", monitored, "{entity:#}");
    }
    let status = daemon.status();
    let findings: Vec<&str> = (status["config_findings"].as_array().unwrap().iter())
        .filter_map(Value::as_str)
        .collect();
    for (file, word) in [
        ("styleless.conf", "the original pmond would not monitor"),
        ("typo.conf", "`Passive` is not a mode"),
        ("early.conf", "`port`"),
        ("continued.conf", "indented"),
    ] {
        let told = |finding: &&&str| finding.contains(file) && finding.contains(word);
        assert!(findings.iter().any(|it| told(&it)), "{file}: {findings:#?}");
    }
    let spec = daemon.json(&["show", &name("plain")])["spec"].clone();
    assert_eq!(spec["restarts"], 3, "{spec:#}");
}

#[test]
fn line_07_the_hosts_gates_are_waited_at() {
    skip_if!(starlingx::no_host());
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let host = Host::new(&place);
    host.lacks(INITIAL_CONFIG);
    host.lacks(GOENABLED);
    host.system_state("starting");
    let (web, deferred) = (place.name("web"), place.name("dockerd"));
    let docker = Lsb::new(&place, &deferred, &[]);
    let entities = [
        foreground_entity(&web, &[]),
        docker.entity(&[("subfunction", "\"last-config\"")]),
    ]
    .concat();
    let daemon = host.served(&place, &entities);
    let waits = |for_what: &str| {
        daemon.entity_when(&web, for_what, LONG, |entity| {
            let why = entity["problem"].as_str();
            entity["stage"] == "gated" && why.is_some_and(|why| why.contains(for_what))
        });
        assert_eq!(process::instances(&web), [0; 0]);
    };
    waits(".initial_config_complete");
    host.has(INITIAL_CONFIG);
    waits(".goenabled");
    host.has(GOENABLED);
    waits("starting");
    // A standard host has no parts that are configured later: only the gates held
    // this one up.
    host.system_state("degraded");
    let _pid = daemon.up(&web);
    let running = daemon.up(&deferred);
    assert!(daemon.terminate().success());

    // An all-in-one host has.
    host.platform("All-in-one", "controller,worker");
    let daemon = Daemon::start(&place);
    let entity = daemon.in_stage(&deferred, "polling");
    assert_eq!(entity["registered"], false);
    let _pid = daemon.up(&web);
    host.has("/var/run/.worker_config_complete");
    assert_eq!(daemon.up(&deferred), running);
}
