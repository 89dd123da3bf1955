//! Who is told that an entity is held, stopped or registered, finds it so whatever
//! happens to daemon and host the next moment: it is on the disk by then. A disk that
//! takes nothing keeps nobody from acting, and that is told.

use std::fs;

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::Place,
    privilege, process,
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::Value;

/// What the files of a state directory say of an entity, the newest last.
fn records(place: &Place, name: &str) -> Vec<Value> {
    let state = place.state();
    let snapshot = fs::read_to_string(state.join("registrations.json")).unwrap_or_default();
    let snapshot: Value = serde_json::from_str(&snapshot).unwrap_or_default();
    let mut records = vec![snapshot["entities"][name].clone()];
    let changes = fs::read_to_string(state.join("registrations.changes")).unwrap_or_default();
    for line in changes.lines().skip(1) {
        let change: Value = serde_json::from_str(line).unwrap();
        if change["put"][0] == name {
            records.push(change["put"][1].clone());
        }
        if change["remove"] == name {
            records.push(Value::Null);
        }
    }
    records
}

fn newest(place: &Place, name: &str) -> Value {
    records(place, name).pop().unwrap()
}

#[test]
fn of_a_hold_a_stop_and_a_registration() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&name);
    for round in 0..5 {
        daemon.json(&["hold", &name, "--reason", &format!("round {round}")]);
        // Read at once, not some time later.
        let record = newest(&place, &name);
        assert_eq!(
            record["held"]["reason"],
            format!("round {round}"),
            "{record:#}"
        );
        daemon.json(&["resume", &name]);
        assert_eq!(newest(&place, &name)["held"], Value::Null);
    }
    daemon.json(&["stop", &name]);
    let record = newest(&place, &name);
    assert!(record["stopped"]["by"].is_string(), "{record:#}");

    let adhoc = place.name("adhoc");
    let mut child = std::process::Command::new(pmon_tests::binary::service())
        .args(["--tag", &adhoc])
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    daemon.json(&["register", &adhoc, "--pid", &pid]);
    let record = newest(&place, &adhoc);
    assert!(record["ad_hoc"]["by"].is_string(), "{record:#}");
    daemon.json(&["unregister", &adhoc]);
    assert_eq!(newest(&place, &adhoc), Value::Null);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn or_with_word_of_a_disk_that_takes_nothing() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    // Nothing can be written where a file is in the place of the directory.
    fs::remove_dir_all(place.state()).ok();
    fs::write(place.state(), "").unwrap();
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    daemon.json(&["hold", &name]);
    assert_eq!(daemon.entity(&name)["stage"], "held");
    let explained = wait::until_seen(
        "it is told",
        LONG,
        || daemon.ask(&["explain", &name]).stdout,
        |text| text.contains("could not be put on record"),
    );
    assert!(explained.contains("held"), "{explained}");
    // The next daemon knows it all the same: the run directory has it.
    daemon.kill();
    let daemon = Daemon::start(&place);
    daemon.in_stage(&name, "held");
    assert_eq!(process::instances(&name), [pid]);
}
