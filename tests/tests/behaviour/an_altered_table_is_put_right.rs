//! Entries of the kernel's pid table that somebody rewrites or deletes with
//! bpftool are found by the sweep, counted, and put right; no death is lost.

use std::{process::Command, thread, time::Duration};

use pmon_tests::{
    daemon::{Daemon, LONG},
    nursery::{self, Nursery},
    place::{self, Place},
    privilege, skip_if, wait,
};
use serde_json::Value;

/// The map, as bpftool shows it.
fn dump(map: &str) -> Vec<Value> {
    let output = Command::new("bpftool")
        .args(["-j", "map", "dump", "pinned", map])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A value's bytes, with the eight from `offset` on replaced.
fn rewritten(entry: &Value, offset: usize, number: u64) -> Vec<String> {
    let mut bytes: Vec<String> = entry["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|byte| byte.as_str().unwrap().to_owned())
        .collect();
    for (place, byte) in bytes[offset..offset + 8]
        .iter_mut()
        .zip(number.to_ne_bytes())
    {
        *place = format!("{byte:#04x}");
    }
    bytes
}

fn bpftool(map: &str, verb: &str, entry: &Value, value: Option<Vec<String>>) {
    let mut command = Command::new("bpftool");
    command.args(["map", verb, "pinned", map, "key"]);
    let key = entry["key"].as_array().unwrap();
    command.args(key.iter().map(|byte| byte.as_str().unwrap()));
    if let Some(value) = value {
        command.arg("value").args(value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn altered(daemon: &Daemon) -> u64 {
    let discrepancies = &daemon.status()["audit"]["discrepancies"];
    discrepancies["altered_registration"].as_u64().unwrap()
}

/// Bytes of the start time and of the generation, from the beginning.
const START_TIME: usize = 0;
const GENERATION: usize = 8;

fn with_budget(budget: u32) {
    let place = Place::new();
    place.configure(&format!(
        "[daemon]\naudit_interval = \"1s\"\npidfd_budget = {budget}\n"
    ));
    let daemon = Daemon::start(&place);
    let events = daemon.events();
    let mut nursery = Nursery::new(4);
    nursery::register(daemon.socket(), nursery.pids(), |pid| {
        place.name(&pid.to_string())
    });
    let pins = daemon.status()["daemon"]["pin_dir"]
        .as_str()
        .unwrap()
        .to_owned();
    let map = format!("{pins}/pmon_pids");
    let entries = wait::until("all are in the table", LONG, || {
        let entries = dump(&map);
        (entries.len() == 4).then_some(entries)
    });
    // Time to be without a pidfd.
    thread::sleep(Duration::from_millis(500));
    bpftool(
        &map,
        "update",
        &entries[0],
        Some(rewritten(&entries[0], GENERATION, 4711)),
    );
    bpftool(
        &map,
        "update",
        &entries[1],
        Some(rewritten(&entries[1], START_TIME, 1)),
    );
    bpftool(&map, "delete", &entries[2], None);
    wait::until("the audit has found them", LONG, || {
        (altered(&daemon) >= 3).then_some(())
    });
    let mut now = dump(&map);
    let mut before = entries;
    for entries in [&mut now, &mut before] {
        entries.sort_by_key(|entry| entry["key"].to_string());
    }
    let identities = |entries: &[Value]| -> Vec<Vec<Value>> {
        let value = |entry: &Value| entry["value"].as_array().unwrap()[..16].to_vec();
        entries.iter().map(value).collect()
    };
    assert_eq!(identities(&now), identities(&before));

    let pids = nursery.pids().to_vec();
    nursery.kill();
    for pid in pids {
        let name = place.name(&pid.to_string());
        let death = events.after(0, "its death", LONG, |event| event.is(&name, "died"));
        assert_eq!(death.pid, Some(pid));
        assert!(death.text.contains("signal 9"), "{}", death.text);
    }
    let sweeps = |daemon: &Daemon| daemon.status()["audit"]["sweeps"].as_u64().unwrap();
    let mark = sweeps(&daemon);
    wait::until("two more sweeps", LONG, || {
        (sweeps(&daemon) > mark + 1).then_some(())
    });
    let deaths = events.matching(|event| event.kind == "died");
    assert_eq!(deaths.len(), 4, "{deaths:?}");
    let status = daemon.status();
    assert_eq!(status["audit"]["discrepancies"]["altered_registration"], 3);
    assert_eq!(status["audit"]["discrepancies"]["missed_exit"], 0);
    assert_eq!(dump(&map), Vec::<Value>::new());
}

#[test]
fn under_registrations_with_pidfds() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!place::is_bpffs()).then(|| "needs a bpffs".to_owned()));
    with_budget(100);
}

#[test]
fn under_registrations_without() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!place::is_bpffs()).then(|| "needs a bpffs".to_owned()));
    with_budget(0);
}
