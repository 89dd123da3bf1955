//! bpftool and `pmon bpf show` read like a report, and nothing is left in the
//! kernel when the daemon is gone.

use std::{fs, iter, process::Command};

use pmon_tests::{
    daemon::{Daemon, LONG},
    place::{Place, is_bpffs},
    privilege, process,
    script::foreground_entity,
    skip_if, wait,
};
use serde_json::Value;

fn bpftool(arguments: &[&str]) -> Value {
    let output = Command::new("bpftool")
        .arg("--json")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn by_bpftool_with_field_names() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let generation = daemon.entity(&name)["generation"].as_u64().unwrap();
    let pins = daemon.status()["daemon"]["pin_dir"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(pins.starts_with(&*place.pins().to_string_lossy()), "{pins}");
    for pin in ["pmon_pids", "pmon_events", "pmon_stats", "pmon_exit"] {
        assert!(fs::exists(format!("{pins}/{pin}")).unwrap(), "{pin}");
    }

    // Other daemons may run: the map is told by its pin, and has its name.
    let dump = bpftool(&["map", "dump", "pinned", &format!("{pins}/pmon_pids")]);
    let dump = dump.as_array().unwrap();
    assert_eq!(dump.len(), 1, "{dump:#?}");
    let entry = &dump[0]["formatted"];
    assert_eq!(entry["key"], pid, "{entry:#}");
    let value = &entry["value"];
    assert_eq!(value["generation"], generation, "{value:#}");
    assert_eq!(value["died_at"], 0);
    // Text, not bytes.
    assert_eq!(value["comm"], "", "{value:#}");
    for field in ["start_time", "flags", "exit_code"] {
        assert!(value.get(field).is_some(), "no `{field}` in {value:#}");
    }
    // The kernel counts nanoseconds, /proc ticks of 10 ms.
    let ticks = process::start_ticks(pid).unwrap();
    let start = value["start_time"].as_u64().unwrap();
    assert!(
        start == ticks || start / 10_000_000 == ticks,
        "start_time {start}, /proc says {ticks} ticks"
    );
    let map = bpftool(&["map", "show", "pinned", &format!("{pins}/pmon_pids")]);
    assert_eq!(map["name"], "pmon_pids");
    assert_eq!(map["type"], "hash");
    // bpftool gives up when a map of another daemon goes while it is looking.
    let id = format!("\"id\":{}", map["id"]);
    wait::until("it is found by its name", LONG, || {
        let shown = Command::new("bpftool")
            .args(["--json", "map", "show", "name", "pmon_pids"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&shown.stdout)
            .contains(&id)
            .then_some(())
    });

    daemon.json(&["stop", &name, "--wait"]);
    let dump = bpftool(&["map", "dump", "pinned", &format!("{pins}/pmon_pids")]);
    assert_eq!(dump, serde_json::json!([]));
}

#[test]
fn by_pmon_itself() {
    skip_if!(privilege::no_bpf());
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let _pid = daemon.up(&name);
    let view = daemon.json(&["bpf", "show"]);
    assert_eq!(view["off"], Value::Null);
    assert_eq!(view["programs"][0]["name"], "pmon_exit");
    assert!(
        view["programs"][0]["attached_to"]
            .as_str()
            .unwrap()
            .contains("sched_process_exit")
    );
    let map = |name: &str| {
        let maps = view["maps"].as_array().unwrap();
        maps.iter()
            .find(|map| map["name"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(map("pmon_pids")["entries"], 1);
    assert_eq!(map("pmon_events")["kind"], "ringbuf");
    assert_eq!(view["log"], false);
    let (programs, links) = (&view["programs"], &view["links"]);
    for (program, link) in iter::zip(programs.as_array().unwrap(), links.as_array().unwrap()) {
        assert!(program["instructions"].as_u64().unwrap() > 0, "{program:#}");
        assert_eq!(link["program"], program["name"]);
        assert_eq!(link["program_id"], program["id"]);
        assert_eq!(link["attached_to"], program["attached_to"]);
        assert!(link["id"].as_u64().unwrap() > 0, "{link:#}");
        assert_eq!(link["pin"].is_string(), is_bpffs(), "{link:#}");
    }
    assert_eq!(view["stats"]["drops"], 0);
    assert!(view["group_dead"].is_string());
    if is_bpffs() {
        // Every map, and the link of every program that this kernel allows.
        let parts = [&view["maps"], &view["programs"]];
        let parts: usize = parts
            .map(|part| part.as_array().unwrap().len())
            .iter()
            .sum();
        let pins = view["pins"].as_array().unwrap();
        assert_eq!(pins.len(), parts, "{pins:#?}");
    }
    let human = daemon.ask(&["bpf", "show"]);
    assert!(human.stdout.contains("pmon_exit"), "{human:?}");
}

#[test]
fn and_nothing_is_left_of_it() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = place.name("web");
    place.configure(&foreground_entity(&name, &[]));
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let pins = daemon.status()["daemon"]["pin_dir"]
        .as_str()
        .unwrap()
        .to_owned();
    // Killed, it cannot tidy up; the next one does.
    daemon.kill();
    assert!(fs::exists(format!("{pins}/pmon_pids")).unwrap());
    let daemon = Daemon::start(&place);
    assert_eq!(daemon.up(&name), pid);
    assert!(daemon.terminate().success());
    assert!(!place.pins().exists());
    assert!(!place.socket().exists());
    assert_eq!(fs::read_dir(place.run()).unwrap().count(), 0);
    assert_eq!(process::instances(&name), [pid], "left alone");
}
