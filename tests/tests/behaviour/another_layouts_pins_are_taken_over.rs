//! A daemon whose maps look different has died: its table is taken over, whoever
//! is older, with the deaths and the living in it, and its pins go.

use std::{fs, path::Path};

use pmon_tests::{
    daemon::{Daemon, LONG},
    pins,
    place::{Place, is_bpffs},
    privilege,
    process::{self, Process},
    script::foreground_entity,
    skip_if, wait,
};

/// What all layouts have in common.
const FROZEN: usize = 32;
/// Deaths counted on each CPU by the other daemon.
const COUNTED: u64 = 5;

/// Makes pins of another layout from those of ours, which go.
fn disguise(ours: &Path, other: &Path, value: usize) {
    let entries = pins::bytes(ours);
    fs::create_dir(other).unwrap();
    let table = other.join("pmon_pids");
    pins::create(&table, "hash", value, 1024, "pmon_pids");
    for (key, mut bytes) in entries {
        bytes.truncate(FROZEN);
        // Of what follows nobody but that layout knows the meaning.
        bytes.resize(value, "0xa5".to_owned());
        pins::update(&table, &key, &bytes);
    }
    let counters = other.join("pmon_stats");
    pins::create(&counters, "percpu_array", 32, 1, "pmon_stats");
    let mut value = vec!["0x00".to_owned(); 32];
    value[0] = format!("{COUNTED:#04x}");
    pins::update(&counters, &vec!["0x00".to_owned(); 4], &value);
    for pin in fs::read_dir(ours).unwrap() {
        fs::remove_file(pin.unwrap().path()).unwrap();
    }
    fs::remove_dir(ours).unwrap();
}

fn takes_over(layout: &str, value: usize) {
    let place = Place::new();
    let (dead, living) = (place.name("dead"), place.name("living"));
    place.configure(&(foreground_entity(&dead, &[]) + &foreground_entity(&living, &[])));
    let daemon = Daemon::start(&place);
    let (killed, survivor) = (daemon.up(&dead), daemon.up(&living));
    let identity = process::identity(killed).unwrap();
    let generation = daemon.entity(&living)["generation"].clone();
    let ours = pins::directory(&daemon);
    let other = place.pins().join(layout);
    daemon.kill();
    let process = Process::open(killed).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    let entry = pins::table(&ours)[&u64::from(killed)].clone();
    disguise(&ours, &other, value);

    let daemon = Daemon::start(&place);
    let successor = daemon.up(&dead);
    assert_ne!(successor, killed);
    let told = pins::deaths(&daemon, &dead);
    let told: Vec<_> = told.iter().filter(|(who, _)| *who == identity).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, entry["died_at"].as_u64(), "the kernel's time");
    let death = &daemon.entity(&dead)["last_death"];
    assert_eq!(death["signal"], 9, "{death:#}");
    assert_eq!(daemon.up(&living), survivor);
    assert_eq!(daemon.entity(&living)["generation"], generation);
    assert!(!other.exists(), "its pins go");
    assert_eq!(pins::directory(&daemon), ours);
    assert!(ours.join("pmon_pids").exists());
    assert!(pins::counter(&daemon, "deaths") >= COUNTED);
    wait::until("only the living are in the table", LONG, || {
        let mut alive = vec![u64::from(successor), u64::from(survivor)];
        alive.sort_unstable();
        let table: Vec<u64> = pins::table(&ours).into_keys().collect();
        (table == alive).then_some(())
    });
    assert!(daemon.terminate().success());
    assert!(!place.pins().exists());
}

#[test]
fn of_an_older_one() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    takes_over("v1", 32);
}

#[test]
fn of_a_newer_one() {
    skip_if!(privilege::no_bpf());
    skip_if!(privilege::no_program("bpftool"));
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    takes_over("v3", 200);
}

/// The same layout with another capacity: what `max_pids` says counts.
#[test]
fn of_another_size() {
    skip_if!(privilege::no_bpf());
    skip_if!((!is_bpffs()).then_some("needs a bpffs"));
    let place = Place::new();
    let name = place.name("web");
    let entity = foreground_entity(&name, &[]);
    place.configure(&entity);
    let daemon = Daemon::start(&place);
    let pid = daemon.up(&name);
    let identity = process::identity(pid).unwrap();
    let counted = pins::counter(&daemon, "deaths");
    daemon.kill();
    let process = Process::open(pid).unwrap();
    process.kill();
    assert!(process.ends_within(LONG));
    place.configure(&format!(
        "[daemon]\nmax_pids = 1000\nring_bytes = 8192\n{entity}"
    ));
    let daemon = Daemon::start(&place);
    let _successor = daemon.up(&name);
    let told = pins::deaths(&daemon, &name);
    let count = told.iter().filter(|(who, _)| *who == identity).count();
    assert_eq!(count, 1, "{told:?}");
    let view = daemon.json(&["bpf", "show", "--seconds", "0"]);
    let maps = view["maps"].as_array().unwrap();
    let capacity = |name: &str| {
        let mut maps = maps.iter();
        maps.find(|map| map["name"] == name).unwrap()["max_entries"].clone()
    };
    assert_eq!(capacity("pmon_pids"), 1000);
    assert_eq!(capacity("pmon_events"), 8192);
    let now = pins::counter(&daemon, "deaths");
    assert!(now > counted, "counters survive: {now} after {counted}");
}
